//! `gantry broker`: a broker, master or slave, started as RocketMQ's `mqbroker` is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use gantry_core::broker::store::FlushMode;
use gantry_core::broker::{BrokerConfig, BrokerRole, SettingError, Taken};
use gantry_disk::MappedOptions;
use gantry_net::config::Limits;
use gantry_net::system::{host_name, local_offset_ms, memory_bytes, raise_file_limit};

use super::address::advertised;
use super::namesrv::take_socket;
use super::roles::BrokerPorts;
use super::settings::{Given, Setting, Source, Unused};
use super::{home, process, roles};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    given: Given,
    /// Print the important ones of the settings in effect and end
    #[arg(short = 'm', long = "printImportantConfig", visible_alias = "print-important-config")]
    print_important: bool,
    /// Directory of the store (storePathRootDir) [default: ~/store]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on (bindAddress) [default: 0.0.0.0 with a file of settings, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Port to listen on (listenPort); 2 below it is a second one for the same, 1 above it replication [default: 10911]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(3..65535))]
    port: Option<u16>,
}

/// What `-m` prints: RocketMQ's `@ImportantField`s, as far as they are settings here.
const IMPORTANT: [&str; 26] = [
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerClusterName",
    "brokerIP1",
    "brokerId",
    "brokerName",
    "brokerRole",
    "deleteWhen",
    "fileReservedTime",
    "flushDiskType",
    "flushIntervalCommitLog",
    "haMasterAddress",
    "inSyncReplicas",
    "listenPort",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInMemory",
    "messageIndexEnable",
    "msgTraceTopicName",
    "namesrvAddr",
    "rejectTransactionMessage",
    "storePathCommitLog",
    "storePathRootDir",
    "traceTopicEnable",
    "transactionCheckInterval",
    "transactionCheckMax",
    "transactionTimeOut",
];

/// What changes whom a broker trusts or what it promises, and is not there: better no start than another meaning.
const REFUSED: [(&str, &str); 6] = [
    ("aclEnable", "access control is not there yet, and serving everybody is not what this file asks for"),
    (
        "authenticationEnabled",
        "access control is not there yet, and serving everybody is not what this file asks for",
    ),
    (
        "authorizationEnabled",
        "access control is not there yet, and serving everybody is not what this file asks for",
    ),
    ("enableControllerMode", "controllers are not there yet: give brokerRole and brokerId instead"),
    ("enableDLegerCommitLog", "DLedger's log is not there: give brokerRole and brokerId instead"),
    ("storeType", "only defaultMessageStore's files can be read and written"),
];

/// What a broker is started with.
struct Plan {
    bind: SocketAddr,
    /// Where replication is listened to; none is the port above.
    ha_port: Option<u16>,
    /// `brokerIP1`
    told: Option<IpAddr>,
    /// `brokerIP2`
    told_to_slaves: Option<String>,
    root: PathBuf,
    /// `storePathCommitLog`, where it is not `commitlog` below the root.
    log: Option<PathBuf>,
    limits: Limits,
    config: BrokerConfig,
    unused: Unused,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let plan = Plan::new(options)?;
    let given = &options.given;
    if given.print || options.print_important {
        print(&plan.config, options.print_important);
        return Ok(());
    }
    plan.unused.tell();
    raise_file_limit();
    tell(&plan, given.file.as_deref());
    if let Some(log) = &plan.log {
        place_log(&plan.root, log)?;
    }
    let Plan { bind, ha_port, root, limits, config, .. } = plan;
    let host = config.store_host;
    let mut line = format!("The broker[{}, {host}] boot success. serializeType=JSON", config.broker_name);
    if !config.namesrv_addrs.is_empty() {
        line.push_str(&format!(" and name server is {}", config.namesrv_addrs.join(";")));
    }
    let ha_port = ha_port.unwrap_or(bind.port() + 1);
    let ports = BrokerPorts { address: bind, ha_port, setting: "listenPort" };
    let role = roles::broker(ports, root, MappedOptions::default(), limits, config, given.file.clone());
    process::host(async |mut process| {
        if !process.start(role).await? {
            return Ok(());
        }
        println!("{line}");
        process.run().await
    })
}

fn print(config: &BrokerConfig, only_important: bool) {
    for line in config.to_properties().lines() {
        let name = line.split('=').next().unwrap_or_default();
        if !only_important || IMPORTANT.contains(&name) {
            println!("{line}");
        }
    }
}

/// Says what was made of the settings where RocketMQ's users might expect another thing.
fn tell(plan: &Plan, file: Option<&Path>) {
    let config = &plan.config;
    roles::tell_where(plan.bind, file);
    tracing::info!(address = %config.store_host, replication = config.ha_addr, "clients and slaves are told");
    if config.namesrv_addrs.is_empty() {
        tracing::warn!(
            "no name server is given (-n, namesrvAddr or NAMESRV_ADDR): nobody will find this broker"
        );
    }
    match config.role {
        BrokerRole::AsyncMaster => {}
        BrokerRole::SyncMaster => {
            let slaves = config.ha.replicas_min;
            if slaves == 0 {
                tracing::warn!("inSyncReplicas=1: this SYNC_MASTER waits for no slave");
            } else {
                tracing::info!(
                    slaves,
                    "a send is acknowledged when so many slaves have it (inSyncReplicas less one)"
                );
            }
        }
        BrokerRole::Slave => {
            let master = config.ha_master_addr.as_deref().unwrap_or("the one that the name servers tell");
            tracing::info!(master, "this is a slave");
        }
    }
    let flush = match config.store.flush {
        FlushMode::Async => "written, which survives the death of the process",
        FlushMode::Sync => "synced, which survives power loss",
    };
    tracing::info!(store = %plan.root.display(), "a send is acknowledged when it is {flush}");
}

impl Plan {
    fn new(options: &Options) -> Result<Plan, String> {
        let any = if options.given.file.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let bind = SocketAddr::new(IpAddr::V4(any), 10_911);
        let mut plan = Plan {
            bind,
            ha_port: None,
            told: None,
            told_to_slaves: None,
            root: PathBuf::new(),
            log: None,
            limits: Limits::default(),
            config: BrokerConfig::new(host_name(), bind),
            unused: Unused::default(),
        };
        let settings = options.given.settings()?;
        for setting in &settings {
            plan.take(setting)?;
        }
        plan.bind = SocketAddr::new(
            options.listen.unwrap_or(plan.bind.ip()),
            options.port.unwrap_or(plan.bind.port()),
        );
        if let Some(data) = &options.data {
            plan.root = data.clone();
        } else if plan.root.as_os_str().is_empty() {
            plan.root = home()?.join("store");
        }
        plan.finish(&settings)?;
        Ok(plan)
    }

    fn take(&mut self, setting: &Setting) -> Result<(), String> {
        let Setting { source, name, value } = setting;
        if take_socket(setting, &mut self.bind, &mut self.limits)? {
            if name == "listenPort" && !(3..65_535).contains(&self.bind.port()) {
                return Err(
                    setting.expected("a port from 3 to 65534, for two below it and one above are used too")
                );
            }
            return Ok(());
        }
        let is_wanted =
            !value.is_empty() && value != "false" && value != "defaultMessageStore" && value != "default";
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == name)
            && is_wanted
        {
            return Err(setting.error(format_args!("{name}={value}: {why}")));
        }
        match name.as_str() {
            "brokerIP1" => self.told = Some(resolve(setting)?),
            "brokerIP2" => self.told_to_slaves = Some(value.clone()),
            "haListenPort" => {
                let port: u16 = setting.parse("a port, or 0 for the one above listenPort")?;
                self.ha_port = (port > 0).then_some(port);
            }
            "storePathRootDir" => self.root = PathBuf::from(value),
            "storePathCommitLog" => self.log = Some(log_path(setting)?),
            _ => match self.config.set(name, value) {
                Ok(Taken::Used) => {}
                Ok(Taken::Ignored) if matches!(source, Source::File(..)) => self.unused.ignore(name),
                Ok(Taken::Ignored) => {}
                Err(SettingError::Unknown { .. }) => self.unused.unknown(setting),
                Err(error @ (SettingError::Invalid { .. } | SettingError::Forbidden)) => {
                    return Err(setting.error(error));
                }
            },
        }
        Ok(())
    }

    /// What follows from several settings together.
    fn finish(&mut self, settings: &[Setting]) -> Result<(), String> {
        let (port, config) = (self.bind.port(), &mut self.config);
        let ha_port = self.ha_port.unwrap_or(port + 1);
        let told = self.told.unwrap_or_else(|| advertised(self.bind.ip()));
        config.store_host = SocketAddr::new(told, port);
        let told_to_slaves = self.told_to_slaves.clone().unwrap_or_else(|| told.to_string());
        config.ha_addr = format!("{told_to_slaves}:{ha_port}");
        config.store.time_zone_offset_ms = local_offset_ms();
        config.memory_bytes = memory_bytes();
        match config.role {
            // As RocketMQ, whatever the file says.
            BrokerRole::AsyncMaster | BrokerRole::SyncMaster => config.broker_id = 0,
            BrokerRole::Slave if config.broker_id <= 0 => {
                let named = settings.iter().rfind(|setting| setting.name == "brokerRole");
                let why = "a slave's brokerId must be above 0";
                return Err(named.map_or_else(|| why.into(), |role| role.error(why)));
            }
            BrokerRole::Slave => {}
        }
        if self.log.as_ref() == Some(&self.root.join("commitlog")) {
            self.log = None;
        }
        let log = self.log.clone().unwrap_or_else(|| self.root.join("commitlog"));
        let ports = BrokerPorts { address: self.bind, ha_port, setting: "listenPort" };
        roles::show(config, &ports, &self.root, &log, &self.limits);
        Ok(())
    }
}

fn resolve(setting: &Setting) -> Result<IpAddr, String> {
    let text = setting.value.trim_start_matches('[').trim_end_matches(']');
    let found = (text, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    found
        .map(|address| address.ip())
        .ok_or_else(|| setting.expected("an IP address or the name of this host"))
}

fn log_path(setting: &Setting) -> Result<PathBuf, String> {
    // RocketMQ's separator of several paths.
    if setting.value.is_empty() || setting.value.contains(',') {
        return Err(setting.expected("one directory"));
    }
    Ok(PathBuf::from(&setting.value))
}

/// Puts the commit log where `storePathCommitLog` wants it: the store's own `commitlog` becomes a link to there.
fn place_log(root: &Path, log: &Path) -> Result<(), String> {
    use std::io::ErrorKind;
    let own = root.join("commitlog");
    let fail = |error: std::io::Error| format!("storePathCommitLog={}: {error}", log.display());
    std::fs::create_dir_all(root).map_err(fail)?;
    std::fs::create_dir_all(log).map_err(fail)?;
    match std::fs::canonicalize(&own).and_then(|own| Ok(own == std::fs::canonicalize(log)?)) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
    }
    // An empty directory or a link to elsewhere makes way; a log does not.
    let is_link = std::fs::symlink_metadata(&own).is_ok_and(|own| own.is_symlink());
    let has_log = std::fs::read_dir(&own).is_ok_and(|mut own| own.next().is_some());
    if has_log {
        return Err(format!(
            "storePathCommitLog={}: but {} holds a log: move it there, or take the setting away",
            log.display(),
            own.display()
        ));
    }
    let removed = if is_link { std::fs::remove_file(&own) } else { std::fs::remove_dir(&own) };
    match removed {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
    }
    let log = std::fs::canonicalize(log).map_err(fail)?;
    std::os::unix::fs::symlink(&log, &own).map_err(fail)
}
