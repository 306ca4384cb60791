//! `gantry namesrv`: a name server, started as RocketMQ's `mqnamesrv` is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_core::namesrv::{NameServerConfig, SettingError};
use gantry_core::settings::is_known;
use gantry_net::config::Limits;
use gantry_net::system::raise_file_limit;

use super::settings::{Given, Setting, Source, Unused};
use super::{home, process, roles};

/// What a name server's file of key-value configuration is called.
pub(super) const KV_FILE: &str = "kvConfig.json";

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    given: Given,
    /// Directory of its files [default: that of kvConfigPath, which is ~/namesrv]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on (bindAddress) [default: 0.0.0.0 with a file of settings, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Port to listen on (listenPort) [default: 9876]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// What a name server is started with.
struct Plan {
    address: SocketAddr,
    directory: PathBuf,
    limits: Limits,
    config: NameServerConfig,
    unused: Unused,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let plan = Plan::new(options)?;
    let given = &options.given;
    if given.print {
        for (name, value) in plan.config.properties() {
            println!("{name}={value}");
        }
        return Ok(());
    }
    plan.unused.tell();
    if let Some(file) = &given.file {
        println!("load config properties file OK, {}", file.display());
    }
    raise_file_limit();
    let Plan { address, directory, limits, config, unused: _ } = plan;
    roles::tell_where(address, given.file.as_deref());
    let role = roles::namesrv(address, "listenPort", directory, limits, config, given.file.clone());
    process::host(async |mut process| {
        if !process.start(role).await? {
            return Ok(());
        }
        println!("The Name Server boot success. serializeType=JSON, address {address}");
        process.run().await
    })
}

impl Plan {
    fn new(options: &Options) -> Result<Plan, String> {
        let is_configured = options.given.file.is_some();
        let any = if is_configured { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let mut plan = Plan {
            address: SocketAddr::new(IpAddr::V4(any), 9876),
            directory: PathBuf::new(),
            limits: Limits::default(),
            config: NameServerConfig { host_keeps_changes: is_configured, ..NameServerConfig::default() },
            unused: Unused::default(),
        };
        let mut kv_path = None;
        for setting in options.given.settings()? {
            if setting.name == "kvConfigPath" {
                kv_path = Some(kv_directory(&setting)?);
            } else {
                plan.take(&setting)?;
            }
        }
        plan.address = SocketAddr::new(
            options.listen.unwrap_or(plan.address.ip()),
            options.port.unwrap_or(plan.address.port()),
        );
        plan.directory = match options.data.clone().or(kv_path) {
            Some(directory) => directory,
            None => home()?.join("namesrv"),
        };
        let mut show = |name: &str, value: String| plan.config.shown.insert(name.into(), value);
        show("listenPort", plan.address.port().to_string());
        show("bindAddress", plan.address.ip().to_string());
        show("kvConfigPath", plan.directory.join(KV_FILE).display().to_string());
        if let Some(file) = &options.given.file {
            show("configStorePath", file.display().to_string());
        }
        Ok(plan)
    }

    fn take(&mut self, setting: &Setting) -> Result<(), String> {
        let Setting { source, name, value } = setting;
        if take_socket(setting, &mut self.address, &mut self.limits)? {
            self.config.shown.insert(name.clone(), value.clone());
            return Ok(());
        }
        match self.config.set(name, value) {
            Ok(()) => {}
            Err(SettingError::Invalid(why)) => return Err(setting.error(why)),
            Err(SettingError::Unknown) if is_known(name) => {
                self.config.shown.insert(name.clone(), value.clone());
                if matches!(source, Source::File(..)) {
                    self.unused.ignore(name);
                }
            }
            Err(SettingError::Unknown) => self.unused.unknown(setting),
        }
        Ok(())
    }
}

/// Takes the settings of RocketMQ's `NettyServerConfig` that both kinds of server have; false when it is another.
pub(crate) fn take_socket(
    setting: &Setting,
    address: &mut SocketAddr,
    limits: &mut Limits,
) -> Result<bool, String> {
    match setting.name.as_str() {
        "listenPort" => {
            let port: u16 = setting.parse("a port from 1 to 65535")?;
            if port == 0 {
                return Err(setting.expected("a port from 1 to 65535"));
            }
            address.set_port(port);
        }
        "bindAddress" => address.set_ip(setting.parse("an IP address")?),
        "serverChannelMaxIdleTimeSeconds" => {
            let expected = "a whole number of seconds from 1 to 86400";
            let secs: u64 = setting.parse(expected)?;
            if !(1..=86_400).contains(&secs) {
                return Err(setting.expected(expected));
            }
            limits.idle = Duration::from_secs(secs);
        }
        "connectTimeoutMillis" => {
            let expected = "a whole number of milliseconds from 1 to 3600000";
            let ms: u64 = setting.parse(expected)?;
            if !(1..=3_600_000).contains(&ms) {
                return Err(setting.expected(expected));
            }
            limits.dial = Duration::from_millis(ms);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn kv_directory(setting: &Setting) -> Result<PathBuf, String> {
    let path = Path::new(&setting.value);
    match path.parent() {
        Some(directory) if path.ends_with(KV_FILE) => Ok(directory.to_owned()),
        Some(_) | None => Err(setting.expected("a path that ends in kvConfig.json")),
    }
}
