//! The hosts of a world: the machines of production, configured as the plan says, and the workloads beside them.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use gantry_core::broker::store::{FlushMode, StoreConfig};
use gantry_core::broker::{Broker, BrokerCommand, BrokerConfig, BrokerEvent, BrokerRole};
use gantry_core::io::Protocol;
use gantry_core::namesrv::{self, NameServer, NameServerConfig};
use gantry_core::time::{Duration, Instant};

use crate::check::{ClientKind, Flush, Replication};
use crate::history::{Halt, Report, Tell};
use crate::plan::{CAST, JANITOR, NAME_SERVERS, NAMES, OPERATOR, Plan, SECOND, place};
use crate::process::Process;
use crate::workload::administrator::Administrator;
use crate::workload::asker::Asker;
use crate::workload::babbler::Babbler;
use crate::workload::consumer::Consumer;
use crate::workload::delayer::Delayer;
use crate::workload::insister::Insister;
use crate::workload::janitor::{Errand, Janitor};
use crate::workload::manager::Manager;
use crate::workload::operator::{Operator, Orders};
use crate::workload::ordered::Member;
use crate::workload::producer::Producer;
use crate::workload::retrier::Retrier;
use crate::workload::watcher::Watcher;
use crate::workload::{ClientOptions, Names};
use crate::world::{HostId, HostPlan, Life};

pub(crate) const NAME_SERVER_PORT: u16 = 9876;
pub(crate) const BROKER_PORT: u16 = 10911;
/// Replication is on the port after the broker's.
pub(crate) const HA_PORT: u16 = BROKER_PORT + 1;

impl Halt for namesrv::Command {
    fn halt() -> Self {
        namesrv::Command::Stop
    }
}

impl Halt for BrokerCommand {
    fn halt() -> Self {
        BrokerCommand::Stop
    }
}

impl Tell for namesrv::Event {
    fn report(self) -> Option<Report> {
        None
    }
}

impl Tell for BrokerEvent {
    fn report(self) -> Option<Report> {
        None
    }
}

fn ip(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host as u8 + 1)
}

fn name_server_addresses(plan: &Plan) -> Vec<Arc<str>> {
    let address = |host: &HostId| SocketAddr::new(ip(host.0).into(), NAME_SERVER_PORT).to_string().into();
    NAME_SERVERS[..usize::from(plan.name_servers)].iter().map(address).collect()
}

/// The hosts, in the order of [`crate::plan::NAMES`].
pub fn hosts(plan: &Plan) -> Vec<HostPlan> {
    let start = Instant::ZERO;
    let (sends, consumes, audits) = (plan.producer.clone(), plan.consumer.clone(), plan.auditor.clone());
    let (producer, consumer, auditor, watcher) =
        (client(plan, 3), client(plan, 4), client(plan, 5), client(plan, 6));
    let (topics, interval) = (plan.topics, plan.watch_interval);
    let listens = vec![(BROKER_PORT, Protocol::Remoting), (HA_PORT, Protocol::HaMaster)];
    // A host without a process is as good as none.
    let follower_start = if plan.follower { start } else { plan.ends_at + Duration::from_secs(1) };
    let mut hosts = vec![
        host(0, vec![(NAME_SERVER_PORT, Protocol::Remoting)], plan.names_start, 0, name_server(plan)),
        host(1, listens.clone(), start, plan.sizes.cold_per_mille, broker(plan, 0)),
        host(2, listens, follower_start, plan.sizes.cold_per_mille, broker(plan, 1)),
        host(3, Vec::new(), start, 0, move |life| {
            let at = life.at - Instant::ZERO;
            let machine = Producer::new(producer.clone(), Rc::clone(&sends), life.number, at, life.now);
            life.run(machine)
        }),
        host(4, Vec::new(), start, 0, move |life| {
            let machine = Consumer::new(consumer.clone(), consumes.clone(), life.now);
            life.run(machine)
        }),
        host(5, Vec::new(), plan.audit_at, 0, move |life| {
            let machine = Consumer::new(auditor.clone(), audits.clone(), life.now);
            life.run(machine)
        }),
        host(6, Vec::new(), start, 0, move |life| {
            let machine = Watcher::new(watcher.clone(), topics, interval, life.now);
            life.run(machine)
        }),
    ];
    hosts.extend(more_clients(plan));
    hosts.extend(more_hosts(plan));
    hosts.extend(last_hosts(plan));
    hosts.push(janitor(plan));
    hosts.push(babbler(plan));
    for broker in [CAST.master, CAST.follower, SECOND] {
        hosts[broker.0].disk_bytes = plan.retention.as_ref().and_then(|retention| retention.disk_bytes);
    }
    hosts
}

/// Who wants old messages gone, or a group elsewhere, in worlds that have such a one.
fn janitor(plan: &Plan) -> HostPlan {
    let never = plan.ends_at + Duration::from_secs(1);
    let resets = plan.clients.contains(&ClientKind::Resetter).then_some(&plan.resets);
    let wishes = plan.retention.as_ref().map(|retention| &retention.wishes);
    let starts = if resets.is_some() || wishes.is_some() { Instant::ZERO } else { never };
    let wishes = wishes.into_iter().flatten().map(Errand::from);
    let mut errands: Vec<Errand> = resets.into_iter().flatten().map(Errand::from).chain(wishes).collect();
    errands.sort_by_key(Errand::at_ns);
    let (errands, options) = (Rc::new(errands), client(plan, JANITOR.0));
    host(JANITOR.0, Vec::new(), starts, 0, move |life| {
        let machine = Janitor::new(options.clone(), Rc::clone(&errands), life.at - Instant::ZERO, life.now);
        life.run(machine)
    })
}

fn babbler(plan: &Plan) -> HostPlan {
    let never = plan.ends_at + Duration::from_secs(1);
    let at = place(ClientKind::Babbler);
    let starts = if plan.clients.contains(&ClientKind::Babbler) { Instant::ZERO } else { never };
    let (options, words) = (client(plan, at), plan.babbler.clone());
    let master: Arc<str> = SocketAddr::new(ip(CAST.master.0).into(), BROKER_PORT).to_string().into();
    host(at, Vec::new(), starts, 0, move |life| {
        let (words, since) = (Rc::clone(&words), life.at - Instant::ZERO);
        let machine = Babbler::new(options.clone(), master.clone(), words, since, life.now);
        life.run(machine)
    })
}

/// The second follower and the operator, in worlds that have them.
fn more_hosts(plan: &Plan) -> [HostPlan; 2] {
    let never = plan.ends_at + Duration::from_secs(1);
    let second_start = if plan.second { Instant::ZERO } else { never };
    let listens = vec![(BROKER_PORT, Protocol::Remoting), (HA_PORT, Protocol::HaMaster)];
    let second = host(SECOND.0, listens, second_start, plan.sizes.cold_per_mille, broker(plan, 2));
    let takeover = plan.takeover;
    let address = |host: HostId| SocketAddr::new(ip(host.0).into(), BROKER_PORT).to_string().into();
    let slaves: Vec<Arc<str>> = plan.brokers().into_iter().skip(1).map(address).collect();
    let options = client(plan, OPERATOR.0);
    let starts = takeover.map_or(never, |takeover| takeover.at);
    let operator = host(OPERATOR.0, Vec::new(), starts, 0, move |life| {
        let promote_after = takeover.map_or(Duration::ZERO, |takeover| takeover.promoted_at - takeover.at);
        let orders = Orders { slaves: slaves.clone(), promote_after };
        let machine = Operator::new(options.clone(), orders, life.now);
        life.run(machine)
    });
    [second, operator]
}

fn name_server(plan: &Plan) -> impl Fn(Life) -> Box<dyn Process> + 'static {
    // A deletion has to arrive too, where there are some.
    let deletes = plan.clients.contains(&ClientKind::Administrator);
    move |life| {
        let config = NameServerConfig {
            delete_topic_with_broker_registration: deletes,
            ..NameServerConfig::default()
        };
        life.run(NameServer::new(config))
    }
}

/// The clients that only some scenarios have; the others have hosts without processes in their places.
fn more_clients(plan: &Plan) -> Vec<HostPlan> {
    let never = plan.ends_at + Duration::from_secs(1);
    let starts = |kind| if plan.clients.contains(&kind) { Instant::ZERO } else { never };
    let since_start = |life: &Life| life.at - Instant::ZERO;
    let at = place(ClientKind::Delayer);
    let (options, sends) = (client(plan, at), plan.delayer.clone());
    let delayer = host(at, Vec::new(), starts(ClientKind::Delayer), 0, move |life| {
        let machine = Delayer::new(options.clone(), Rc::clone(&sends), since_start(&life), life.now);
        life.run(machine)
    });
    let at = place(ClientKind::Retrier);
    let (options, retrier) = (client(plan, at), plan.retrier.clone());
    let retrier = host(at, Vec::new(), starts(ClientKind::Retrier), 0, move |life| {
        let machine = Retrier::new(options.clone(), Rc::clone(&retrier), since_start(&life), life.now);
        life.run(machine)
    });
    let hosts = vec![delayer, retrier];
    members(plan, hosts, starts)
}

fn members(plan: &Plan, mut hosts: Vec<HostPlan>, starts: impl Fn(ClientKind) -> Instant) -> Vec<HostPlan> {
    let since_start = |life: &Life| life.at - Instant::ZERO;
    for (at, member) in (place(ClientKind::Ordered)..).zip(&plan.ordered) {
        let (options, member) = (client(plan, at), Rc::new(member.clone()));
        hosts.push(host(at, Vec::new(), starts(ClientKind::Ordered), 0, move |life| {
            let machine = Member::new(options.clone(), Rc::clone(&member), since_start(&life), life.now);
            life.run(machine)
        }));
    }
    let at = place(ClientKind::Administrator);
    let (options, edits) = (client(plan, at), plan.administrator.clone());
    let master: Arc<str> = SocketAddr::new(ip(1).into(), BROKER_PORT).to_string().into();
    hosts.push(host(at, Vec::new(), starts(ClientKind::Administrator), 0, move |life| {
        let (options, edits) = (options.clone(), Rc::clone(&edits));
        let machine = Administrator::new(options, master.clone(), edits, since_start(&life), life.now);
        life.run(machine)
    }));
    hosts
}

/// Clients that look for messages and manage, and the other name servers.
fn last_hosts(plan: &Plan) -> Vec<HostPlan> {
    let never = plan.ends_at + Duration::from_secs(1);
    let starts = |kind| if plan.clients.contains(&kind) { Instant::ZERO } else { never };
    let since_start = |life: &Life| life.at - Instant::ZERO;
    let mut hosts = Vec::new();
    let at = place(ClientKind::Asker);
    let (options, sends) = (client(plan, at), plan.asker.clone());
    hosts.push(host(at, Vec::new(), starts(ClientKind::Asker), 0, move |life| {
        let machine = Asker::new(options.clone(), Rc::clone(&sends), since_start(&life), life.now);
        life.run(machine)
    }));
    let at = place(ClientKind::Manager);
    let (options, orders) = (client(plan, at), plan.manager.clone());
    let manages = starts(ClientKind::Manager).min(starts(ClientKind::Recreator));
    hosts.push(host(at, Vec::new(), manages, 0, move |life| {
        let machine = Manager::new(options.clone(), Rc::clone(&orders), since_start(&life), life.now);
        life.run(machine)
    }));
    for (index, at) in NAME_SERVERS.iter().enumerate().skip(1) {
        let starts = if index < usize::from(plan.name_servers) { plan.names_start } else { never };
        hosts.push(host(at.0, vec![(NAME_SERVER_PORT, Protocol::Remoting)], starts, 0, name_server(plan)));
    }
    let at = place(ClientKind::Insister);
    let (options, sends) = (client(plan, at), plan.insister.clone());
    let audit_at = plan.audit_at - Instant::ZERO;
    hosts.push(host(at, Vec::new(), starts(ClientKind::Insister), 0, move |life| {
        let (options, sends) = (options.clone(), Rc::clone(&sends));
        let machine = Insister::new(options, sends, since_start(&life), audit_at, life.now);
        life.run(machine)
    }));
    hosts
}

fn client(plan: &Plan, host: usize) -> ClientOptions {
    let names = Names::new(name_server_addresses(plan), host);
    ClientOptions { names, client_id: format!("{}@{}", ip(host), NAMES[host]) }
}

fn host(
    index: usize,
    listens: Vec<(u16, Protocol)>,
    starts: Instant,
    cold_per_mille: u32,
    spawn: impl Fn(Life) -> Box<dyn Process> + 'static,
) -> HostPlan {
    // Of clients, what they report is enough.
    let tapped = !listens.is_empty();
    let spawn = Box::new(spawn);
    let (name, ip) = (NAMES[index].to_owned(), ip(index));
    HostPlan { name, ip, listens, starts, tapped, cold_per_mille, disk_bytes: None, spawn }
}

/// A broker's lives: after a takeover the two have changed places.
fn broker(plan: &Plan, id: i64) -> impl Fn(Life) -> Box<dyn Process> + 'static {
    let before = broker_config(plan, id);
    let (changes_at, after) = match (plan.takeover, id) {
        // Which of two slaves took its place the name servers say.
        (Some(takeover), 0) if plan.second => {
            let after = BrokerConfig { role: BrokerRole::Slave, broker_id: 3, ..before.clone() };
            (takeover.back_at, after)
        }
        (Some(_), _) if plan.second => (plan.ends_at, before.clone()),
        (Some(takeover), 0) => (takeover.back_at, slave_of(before.clone(), 1, CAST.follower.0)),
        (Some(takeover), _) => {
            let after = BrokerConfig { role: BrokerRole::SyncMaster, broker_id: 0, ..before.clone() };
            (takeover.promoted_at, after)
        }
        (None, _) => (plan.ends_at, before.clone()),
    };
    let sizes = plan.sizes;
    move |mut life| {
        let mut config = if life.at >= changes_at { after.clone() } else { before.clone() };
        sizes.change(&mut config.store, &mut life);
        life.run(Broker::new(config))
    }
}

fn slave_of(mut config: BrokerConfig, id: i64, master: usize) -> BrokerConfig {
    config.role = BrokerRole::Slave;
    config.broker_id = id;
    config.ha_master_addr = Some(SocketAddr::new(ip(master).into(), HA_PORT).to_string().into());
    config
}

fn broker_config(plan: &Plan, id: i64) -> BrokerConfig {
    let host = if id == 2 { SECOND.0 } else { CAST.master.0 + id as usize };
    let mut config = BrokerConfig::new("broker-a", SocketAddr::new(ip(host).into(), BROKER_PORT));
    config.broker_id = id;
    config.ha_addr = SocketAddr::new(ip(host).into(), HA_PORT).to_string();
    config.namesrv_addrs = name_server_addresses(plan);
    config.role = match plan.replication {
        Replication::Async => BrokerRole::AsyncMaster,
        Replication::Sync => BrokerRole::SyncMaster,
    };
    if id > 0 {
        config = slave_of(config, id, CAST.master.0);
        let asks = if plan.takeover.is_some() { plan.second } else { plan.asks_for_master };
        if asks {
            config.ha_master_addr = None;
        }
    }
    config.metadata_in_log = !plan.polls_tables;
    // Longer than any fault: what a slave has is always heard of.
    config.ha.tail_wait = Duration::from_secs(600);
    plan.sizes.replicate(&mut config.ha);
    config.store = store_config(plan, config.store);
    config
}

/// The store of a broker, as the plan says.
pub(crate) fn store_config(plan: &Plan, usual: StoreConfig) -> StoreConfig {
    let tiny = plan.sizes.segment_bytes < 1 << 20;
    let mut store = StoreConfig {
        segment_bytes: plan.sizes.segment_bytes,
        queue_file_entries: plan.sizes.queue_file_entries,
        flush: match plan.flush {
            Flush::Async => FlushMode::Async,
            Flush::Sync => FlushMode::Sync,
        },
        flush_interval: plan.sizes.flush_interval,
        checkpoint_interval: Duration::from_secs(10),
        spill_entries: plan.sizes.spill_entries,
        // But for worlds in which old messages go, checkers do not know of any that were removed to make room.
        cleans_forcibly: false,
        recover_slice_bytes: plan.sizes.recover_slice_bytes,
        reserve_bytes: plan.sizes.reserve_bytes,
        // Small enough to be full now and then, where segments are small too.
        index_slots: if tiny { 50 } else { usual.index_slots },
        index_entries: if tiny { 120 } else { usual.index_entries },
        index_batch_entries: if tiny { 16 } else { usual.index_batch_entries },
        delay_levels: plan.delays_s.iter().map(|secs| Duration::from_secs(*secs)).collect(),
        ..usual
    };
    if let Some(retention) = &plan.retention {
        retention.configure(&mut store);
    }
    store
}
