//! The machines that a process may host, each with what makes it and what its events mean.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_core::broker::{Broker, BrokerCommand, BrokerConfig, BrokerEvent};
use gantry_core::io::Protocol;
use gantry_core::namesrv::{Command as NamesrvCommand, Event as NamesrvEvent, NameServer, NameServerConfig};
use gantry_disk::{MappedDisk, MappedOptions};
use gantry_net::config::Limits;
use gantry_net::driver::{Listen, Service, Waker};

use super::process::{Meaning, Role};

/// A name server on `address`, its files in `directory`.
pub(crate) fn namesrv(
    address: SocketAddr,
    setting: &'static str,
    directory: PathBuf,
    mut config: NameServerConfig,
) -> Role<NameServer> {
    config.shown.insert(String::from("listenPort"), address.port().to_string());
    config.shown.insert(String::from("bindAddress"), address.ip().to_string());
    Role {
        service: Service {
            name: String::from("namesrv"),
            listeners: vec![Listen { address, protocol: Protocol::Remoting, setting }],
            limits: Limits::default(),
        },
        make: Box::new(move |waker| {
            let disk = open(&directory, MappedOptions::default(), waker)?;
            Ok((NameServer::new(config.clone()), disk))
        }),
        read: Box::new(|event| match event {
            NamesrvEvent::Started => Meaning::Ready,
            NamesrvEvent::Stopped => Meaning::Stopped,
        }),
        stop: || NamesrvCommand::Stop,
    }
}

/// A broker on `address`, with replication on the port above, its store in `directory`.
pub(crate) fn broker(
    address: SocketAddr,
    setting: &'static str,
    directory: PathBuf,
    options: MappedOptions,
    config: BrokerConfig,
) -> Role<Broker> {
    let ha_address = SocketAddr::new(address.ip(), address.port().saturating_add(1));
    let mut progress = Progress { begin: Instant::now(), told: None };
    Role {
        service: Service {
            name: String::from("broker"),
            listeners: vec![
                Listen { address, protocol: Protocol::Remoting, setting },
                Listen { address: ha_address, protocol: Protocol::HaMaster, setting },
            ],
            limits: Limits::default(),
        },
        make: Box::new(move |waker| {
            let disk = open(&directory, options.clone(), waker)?;
            Ok((Broker::new(config.clone()), disk))
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
            BrokerEvent::Stopped => Meaning::Stopped,
        }),
        stop: || BrokerCommand::Stop,
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

/// The address that others are told when a server listens on `listen`: that, or the one that this machine has towards
/// the outside when it listens on every address.
pub(crate) fn advertised(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen;
    }
    // Connecting a datagram socket sends nothing: it asks the routing table. The address is one reserved for examples.
    let towards_outside = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards_outside().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
