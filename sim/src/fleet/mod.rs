//! Fleets: worlds of applications over the client machine, with several broker groups and name servers.
//!
//! The plan is drawn like everything else of a world ([`draw`]); [`hosts`] makes the processes. Hosts stand in the order name
//! servers, brokers (each master and the place of its slave), the steward who makes topics, applications. One that is left out
//! keeps its place, so that faults find their victims in a world made smaller.

mod draw;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use gantry_core::broker::{Broker, BrokerConfig, BrokerRole};
use gantry_core::io::Protocol;
use gantry_core::namesrv::{NameServer, NameServerConfig};
use gantry_core::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

pub use draw::{draw, faults};

use crate::check::Replication;
use crate::cluster::{BROKER_PORT, HA_PORT, NAME_SERVER_PORT, store_config};
use crate::plan::Plan;
use crate::workload::client::{App, AppOptions, AppPlan, GroupPlan};
use crate::workload::steward::{Growth, Steward};
use crate::world::{HostId, HostPlan, Life};

/// A fleet to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FleetPlan {
    /// How many topics there are.
    pub topics: u8,
    /// Brokers make topics when a message to them comes; else the steward makes them first.
    pub auto_topics: bool,
    /// The broker groups.
    pub brokers: Vec<BrokerPlan>,
    /// What the steward does, in the order of time.
    pub growth: Vec<Growth>,
    /// The consumer groups.
    pub groups: Vec<GroupPlan>,
    /// The applications.
    pub apps: Vec<AppPlan>,
    /// What brokers take for the memory of their machine, if it is little.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// A broker group.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BrokerPlan {
    /// Its master has a slave.
    pub slave: bool,
    /// When it starts, in ns from the beginning of the world.
    pub starts_ns: u64,
}

/// How large a fleet is, in a scenario.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetShape {
    /// Applications at least.
    pub clients_min: u16,
    /// Applications at most.
    pub clients_max: u16,
    /// Broker groups at most.
    pub broker_groups: u8,
    /// Consumer groups at most.
    pub consumer_groups: u8,
    /// What brokers take for the memory of their machine: where it is little, whoever lags is sent to a slave. Each has one then.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// Where everybody is.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    name_servers: usize,
    brokers: usize,
}

impl Layout {
    /// Of a plan.
    pub fn new(name_servers: u8, fleet: &FleetPlan) -> Layout {
        Layout { name_servers: name_servers.into(), brokers: fleet.brokers.len() }
    }

    /// The name servers.
    pub fn name_servers(self) -> impl Iterator<Item = HostId> {
        (0..self.name_servers).map(HostId)
    }

    /// The master of a broker group.
    pub fn master(self, broker: usize) -> HostId {
        HostId(self.name_servers + 2 * broker)
    }

    /// The place of its slave.
    pub fn slave(self, broker: usize) -> HostId {
        HostId(self.name_servers + 2 * broker + 1)
    }

    /// The broker group of a host, of its master or its slave.
    pub fn broker_at(self, host: HostId) -> Option<usize> {
        let at = host.0.checked_sub(self.name_servers)? / 2;
        (at < self.brokers).then_some(at)
    }

    /// The steward.
    pub fn steward(self) -> HostId {
        HostId(self.name_servers + 2 * self.brokers)
    }

    /// An application.
    pub fn app(self, app: usize) -> HostId {
        HostId(self.steward().0 + 1 + app)
    }

    /// The application that lives on a host.
    pub fn app_at(self, host: HostId) -> Option<usize> {
        host.0.checked_sub(self.steward().0 + 1)
    }
}

/// What a broker group is called; the first part is its machine room.
pub fn broker_name(broker: usize) -> String {
    format!("r{}-broker-{broker}", broker % 2)
}

fn ip(host: HostId) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, (host.0 / 250) as u8, (host.0 % 250) as u8 + 1)
}

fn address(host: HostId, port: u16) -> Arc<str> {
    SocketAddr::new(ip(host).into(), port).to_string().into()
}

impl FleetPlan {
    /// What the hosts are called, by their ids.
    pub fn names(&self, name_servers: u8) -> Vec<String> {
        let mut names: Vec<String> = (1..=name_servers).map(|at| format!("namesrv-{at}")).collect();
        for broker in 0..self.brokers.len() {
            names.extend([format!("master-{broker}"), format!("slave-{broker}")]);
        }
        names.push("steward".to_owned());
        names.extend((0..self.apps.len()).map(|app| format!("app-{app}")));
        names
    }

    /// The members of a group, by their places.
    pub fn members(&self, group: usize) -> impl Iterator<Item = usize> {
        let is_member = move |app: &AppPlan| app.group == Some(group) && !app.left_out;
        self.apps.iter().enumerate().filter(move |(_, app)| is_member(app)).map(|(at, _)| at)
    }
}

/// The hosts of a fleet's world.
pub fn hosts(plan: &Plan, fleet: &FleetPlan) -> Vec<HostPlan> {
    let layout = Layout::new(plan.name_servers, fleet);
    let names = fleet.names(plan.name_servers);
    let servers: Vec<Arc<str>> = layout.name_servers().map(|host| address(host, NAME_SERVER_PORT)).collect();
    let maker = Maker { plan, names: &names };
    let mut hosts: Vec<HostPlan> = layout
        .name_servers()
        .map(|host| {
            maker.host(host, vec![(NAME_SERVER_PORT, Protocol::Remoting)], plan.names_start, |life: Life| {
                life.run(NameServer::new(NameServerConfig::default()))
            })
        })
        .collect();
    for (at, broker) in fleet.brokers.iter().enumerate() {
        let start = Instant::from_nanos(broker.starts_ns);
        let slave_start = if broker.slave { start } else { maker.never() };
        for (host, starts) in [(layout.master(at), start), (layout.slave(at), slave_start)] {
            let config = broker_config(plan, fleet, layout, at, host, &servers);
            let listens = vec![(BROKER_PORT, Protocol::Remoting), (HA_PORT, Protocol::HaMaster)];
            let sizes = plan.sizes;
            hosts.push(maker.host(host, listens, starts, move |mut life| {
                let mut config = config.clone();
                sizes.change(&mut config.store, &mut life);
                life.run(Broker::new(config))
            }));
        }
    }
    let masters: Vec<Arc<str>> =
        (0..fleet.brokers.len()).map(|at| address(layout.master(at), BROKER_PORT)).collect();
    let growth = Rc::new(fleet.growth.clone());
    hosts.push(maker.host(layout.steward(), Vec::new(), Instant::ZERO, move |life| {
        let steward = Steward::new(masters.clone(), Rc::clone(&growth), life.at - Instant::ZERO, life.now);
        life.run(steward)
    }));
    let brokers: BTreeMap<String, String> = (0..fleet.brokers.len())
        .flat_map(|at| [(layout.master(at), at), (layout.slave(at), at)])
        .map(|(host, at)| (address(host, BROKER_PORT).to_string(), broker_name(at)))
        .collect();
    let brokers = Rc::new(brokers);
    let groups: Vec<Rc<GroupPlan>> = fleet.groups.iter().cloned().map(Rc::new).collect();
    for (at, app) in fleet.apps.iter().enumerate() {
        let host = layout.app(at);
        let starts = if app.left_out { maker.never() } else { Instant::from_nanos(app.starts_ns) };
        let options = AppOptions {
            address: ip(host).to_string(),
            names: servers.clone(),
            brokers: Rc::clone(&brokers),
            number: at as u32,
        };
        let (app, group) = (Rc::new(app.clone()), app.group.and_then(|group| groups.get(group).cloned()));
        hosts.push(maker.host(host, Vec::new(), starts, move |life| {
            let (app, group, at) = (Rc::clone(&app), group.clone(), life.at - Instant::ZERO);
            let machine = App::new(options.clone(), app, group, life.number, at, life.now);
            life.run(machine)
        }));
    }
    hosts
}

struct Maker<'a> {
    plan: &'a Plan,
    names: &'a [String],
}

impl Maker<'_> {
    fn never(&self) -> Instant {
        self.plan.ends_at + Duration::from_secs(1)
    }

    fn host(
        &self,
        host: HostId,
        listens: Vec<(u16, Protocol)>,
        starts: Instant,
        spawn: impl Fn(Life) -> Box<dyn crate::process::Process> + 'static,
    ) -> HostPlan {
        HostPlan {
            name: self.names[host.0].clone(),
            ip: ip(host),
            listens,
            starts,
            // Applications report; what enters and leaves brokers is judged in worlds with one of them.
            tapped: false,
            cold_per_mille: self.plan.sizes.cold_per_mille,
            disk_bytes: None,
            spawn: Box::new(spawn),
        }
    }
}

fn broker_config(
    plan: &Plan,
    fleet: &FleetPlan,
    layout: Layout,
    at: usize,
    host: HostId,
    servers: &[Arc<str>],
) -> BrokerConfig {
    let mut config = BrokerConfig::new(broker_name(at), SocketAddr::new(ip(host).into(), BROKER_PORT));
    config.ha_addr = address(host, HA_PORT).to_string();
    config.namesrv_addrs = servers.to_vec();
    config.auto_create_topic = fleet.auto_topics;
    config.memory_bytes = fleet.memory_bytes.unwrap_or(config.memory_bytes);
    config.role = match plan.replication {
        Replication::Async => BrokerRole::AsyncMaster,
        Replication::Sync => BrokerRole::SyncMaster,
    };
    if host == layout.slave(at) {
        config.role = BrokerRole::Slave;
        config.broker_id = 1;
        config.ha_master_addr = (!plan.asks_for_master).then(|| address(layout.master(at), HA_PORT));
    }
    plan.sizes.replicate(&mut config.ha);
    config.store = store_config(plan, config.store);
    config
}
