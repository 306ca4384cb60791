//! `gantry standalone`: a name server and a broker in one process, for development and for single machines.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use gantry_core::broker::BrokerConfig;
use gantry_core::broker::store::FlushMode;
use gantry_core::namesrv::NameServerConfig;
use gantry_disk::MappedOptions;
use gantry_net::config::Limits;
use gantry_net::system::{local_offset_ms, memory_bytes, raise_file_limit};

use super::address::advertised;
use super::namesrv::KV_FILE;
use super::{home, process, roles};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Directory of the store, a RocketMQ storePathRootDir [default: ~/.local/share/gantry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on; with 0.0.0.0, clients are told the address of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Port of the name server
    #[arg(long, value_name = "PORT", default_value_t = 9876, value_parser = clap::value_parser!(u16).range(1..))]
    namesrv_port: u16,
    /// Port of the broker; 2 below it is a second one for the same, 1 above it replication
    #[arg(long, value_name = "PORT", default_value_t = 10911, value_parser = clap::value_parser!(u16).range(3..65535))]
    broker_port: u16,
    /// When a send is acknowledged: written, which survives the death of the process, or synced, which survives power loss
    #[arg(long, value_name = "MODE", default_value = "async")]
    flush: Flush,
    /// How the commit log is written (to measure with; core/README.md says why pwrite)
    #[arg(long, value_name = "WAY", default_value = "pwrite", hide = true)]
    log_write: LogWrite,
}

#[derive(Clone, Copy, ValueEnum)]
enum Flush {
    /// Acknowledged when written.
    Async,
    /// Acknowledged when synced.
    Sync,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogWrite {
    Mapped,
    Pwrite,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let data = match &options.data {
        Some(data) => data.clone(),
        None => home()?.join(".local/share/gantry"),
    };
    raise_file_limit();
    let namesrv_address = SocketAddr::new(options.listen, options.namesrv_port);
    let broker_address = SocketAddr::new(options.listen, options.broker_port);
    let advertised = advertised(options.listen);
    let known_namesrv = SocketAddr::new(advertised, options.namesrv_port).to_string();
    let mut namesrv_config = NameServerConfig::default();
    let kv_path = data.join("namesrv").join(KV_FILE);
    namesrv_config.shown.insert("kvConfigPath".into(), kv_path.display().to_string());
    let namesrv = roles::namesrv(
        namesrv_address,
        "--namesrv-port",
        data.join("namesrv"),
        Limits::default(),
        namesrv_config,
        None,
    );
    let mut config = broker_config(options, advertised, &known_namesrv);
    let told = format!("{}, {}", config.broker_name, config.store_host);
    let ports = roles::BrokerPorts {
        address: broker_address,
        ha_port: options.broker_port + 1,
        setting: "--broker-port",
    };
    roles::show(&mut config, &ports, &data, &data.join("commitlog"), &Limits::default());
    let broker = roles::broker(ports, data, options.disk(), Limits::default(), config, None);
    process::host(async |mut process| {
        if !process.start(namesrv).await? {
            return Ok(());
        }
        println!("The Name Server boot success. serializeType=JSON, address {namesrv_address}");
        if !process.start(broker).await? {
            return Ok(());
        }
        println!("The broker[{told}] boot success. serializeType=JSON and name server is {known_namesrv}");
        process.run().await
    })
}

fn broker_config(options: &Options, advertised: IpAddr, namesrv: &str) -> BrokerConfig {
    let host = |port| SocketAddr::new(advertised, port);
    let mut config = BrokerConfig::new("broker-a", host(options.broker_port));
    config.ha_addr = host(options.broker_port + 1).to_string();
    config.namesrv_addrs = vec![Arc::from(namesrv)];
    config.store.time_zone_offset_ms = local_offset_ms();
    config.memory_bytes = memory_bytes();
    config.store.flush = match options.flush {
        Flush::Async => FlushMode::Async,
        Flush::Sync => FlushMode::Sync,
    };
    config
}

impl Options {
    fn disk(&self) -> MappedOptions {
        let log_write = match self.log_write {
            LogWrite::Mapped => gantry_disk::LogWrite::Mapped,
            LogWrite::Pwrite => gantry_disk::LogWrite::Pwrite,
        };
        MappedOptions { log_write, ..MappedOptions::default() }
    }
}
