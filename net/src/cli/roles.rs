//! The machines that a process may host, each with what makes it and what its events mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_core::broker::{Broker, BrokerCommand, BrokerConfig, BrokerEvent};
use gantry_core::io::Protocol;
use gantry_core::namesrv::{Command as NamesrvCommand, Event as NamesrvEvent, NameServer, NameServerConfig};
use gantry_disk::{MappedDisk, MappedOptions};
use gantry_net::config::Limits;
use gantry_net::driver::{Listen, Service, Waker};

use super::process::{Meaning, Role};
use super::settings;

/// A name server on `address`, its files in `directory`. `file` is where its settings came from, and where changes of them go.
pub(crate) fn namesrv(
    address: SocketAddr,
    setting: &'static str,
    directory: PathBuf,
    limits: Limits,
    mut config: NameServerConfig,
    file: Option<PathBuf>,
) -> Role<NameServer> {
    config.shown.insert(String::from("listenPort"), address.port().to_string());
    config.shown.insert(String::from("bindAddress"), address.ip().to_string());
    Role {
        service: Service {
            name: String::from("namesrv"),
            listeners: vec![Listen { address, protocol: Protocol::Remoting, setting }],
            limits,
        },
        make: Box::new(move |waker| {
            let disk = open(&directory, MappedOptions::default(), waker)?;
            Ok((NameServer::new(config.clone()), disk))
        }),
        read: Box::new(move |event| match event {
            NamesrvEvent::Started => Meaning::Ready,
            NamesrvEvent::SettingsChanged { settings } => {
                keep(file.as_deref(), &settings);
                Meaning::Other
            }
            NamesrvEvent::Stopped => Meaning::Stopped,
        }),
        stop: || NamesrvCommand::Stop,
    }
}

/// Where a broker listens.
pub(crate) struct BrokerPorts {
    /// For clients. Two ports below is RocketMQ's second port for the same, of clients with `vipChannelEnabled`.
    pub(crate) address: SocketAddr,
    /// For slaves.
    pub(crate) ha_port: u16,
    /// The setting that moves them.
    pub(crate) setting: &'static str,
}

impl BrokerPorts {
    fn listeners(&self) -> Vec<Listen> {
        let BrokerPorts { address, ha_port, setting } = *self;
        let at = |port| SocketAddr::new(address.ip(), port);
        let clients = |address| Listen { address, protocol: Protocol::Remoting, setting };
        vec![
            clients(address),
            clients(at(address.port().saturating_sub(2))),
            Listen { address: at(ha_port), protocol: Protocol::HaMaster, setting },
        ]
    }
}

/// Lets the broker show the settings of its host, as RocketMQ's tools read them: where it listens, where its files are.
pub(crate) fn show(config: &mut BrokerConfig, ports: &BrokerPorts, root: &Path, log: &Path, limits: &Limits) {
    let told_to_slaves = config.ha_addr.rsplit_once(':').map_or("", |(host, _)| host);
    let shown = [
        ("bindAddress", ports.address.ip().to_string()),
        ("brokerIP2", String::from(told_to_slaves)),
        ("haListenPort", ports.ha_port.to_string()),
        ("serverChannelMaxIdleTimeSeconds", limits.idle.as_secs().to_string()),
        ("connectTimeoutMillis", limits.dial.as_millis().to_string()),
        ("storePathRootDir", root.display().to_string()),
        ("storePathCommitLog", log.display().to_string()),
    ];
    config.shown.extend(shown.map(|(name, value)| (String::from(name), value)));
}

/// A broker with its store in `directory`. `file` is where its settings came from, and where changes of them go.
pub(crate) fn broker(
    ports: BrokerPorts,
    directory: PathBuf,
    options: MappedOptions,
    limits: Limits,
    config: BrokerConfig,
    file: Option<PathBuf>,
) -> Role<Broker> {
    let mut progress = Progress { begin: Instant::now(), told: None };
    // What was changed online counts in the next life too.
    let config = Arc::new(Mutex::new(config));
    let changed = Arc::clone(&config);
    Role {
        service: Service { name: String::from("broker"), listeners: ports.listeners(), limits },
        make: Box::new(move |waker| {
            let disk = open(&directory, options.clone(), waker)?;
            let config = config.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Ok((Broker::new(config), disk))
        }),
        read: Box::new(move |event| match event {
            BrokerEvent::Progress { done, total } => {
                progress.tell(done, total);
                Meaning::Other
            }
            BrokerEvent::Ready => Meaning::Ready,
            BrokerEvent::Registered { namesrv } => {
                tracing::info!(%namesrv, "registered");
                Meaning::Other
            }
            BrokerEvent::SettingsChanged { settings } => {
                let mut config = changed.lock().unwrap_or_else(PoisonError::into_inner);
                for (name, value) in &settings {
                    // The broker has taken them, so they are good.
                    let _ = config.set(name, value);
                }
                keep(file.as_deref(), &settings);
                Meaning::Other
            }
            BrokerEvent::Stopped => Meaning::Stopped,
        }),
        stop: || BrokerCommand::Stop,
    }
}

/// Keeps changed settings in the file that they came from. A failure does not undo the change: as with RocketMQ, it is for
/// the log.
fn keep(file: Option<&Path>, settings: &[(String, String)]) {
    match file {
        None => tracing::warn!(
            "settings changed online last until this process ends: it was started without a file"
        ),
        Some(path) => match settings::save(path, settings) {
            Ok(()) => tracing::info!(file = %path.display(), "changed settings saved"),
            Err(error) => tracing::error!(file = %path.display(), %error, "changed settings not saved"),
        },
    }
}

/// Says at start where is listened to, and why.
pub(crate) fn tell_where(address: SocketAddr, file: Option<&Path>) {
    match file {
        Some(file) => {
            tracing::info!(file = %file.display(), %address, "settings read; listening as RocketMQ does")
        }
        None if address.ip().is_loopback() => {
            tracing::info!(%address, "listening to this machine only; --listen 0.0.0.0 or a file of settings (-c) opens it");
        }
        None => tracing::info!(%address, "listening"),
    }
}

/// Tells how far a recovery is, once it takes long.
struct Progress {
    begin: Instant,
    told: Option<Instant>,
}

impl Progress {
    fn tell(&mut self, done: u64, total: u64) {
        const INTERVAL: Duration = Duration::from_secs(1);
        if self.told.unwrap_or(self.begin).elapsed() >= INTERVAL {
            self.told = Some(Instant::now());
            let percent = done.saturating_mul(100) / total.max(1);
            tracing::info!("recovering the store: {percent} % of {} MiB", total >> 20);
        }
    }
}

fn open(directory: &Path, options: MappedOptions, waker: Waker) -> Result<MappedDisk, String> {
    MappedDisk::open(directory, options, waker)
        .map_err(|error| format!("{error}\n(stop what uses it, or choose another directory with --data)"))
}
