//! Brokers of one group, each a machine over its own disk, with wires between all of them that the test may cut: what becomes
//! of the log when masters crash, come back, and change places.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::broker::{BrokerConfig, BrokerEvent, BrokerRole};
use gantry_core::io::{CloseReason, ConnId, Disk, Input, Protocol};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{Header, RegisterBrokerResponse};
use gantry_core::wire::{Command, Ext, Packet};

use super::harness::{World, config, pull, send};

const NAME_SERVER: &str = "127.0.0.1:9876";
const STEP: Duration = Duration::from_millis(50);

/// The port of the clients of a node; its replication port is the next one.
fn port(node: usize) -> u16 {
    10_911 + node as u16 * 100
}

fn node_config(node: usize, role: BrokerRole) -> BrokerConfig {
    let mut config = config();
    config.store_host = format!("127.0.0.1:{}", port(node)).parse().expect("address");
    config.ha_addr = format!("127.0.0.1:{}", port(node) + 1);
    config.namesrv_addrs = vec![NAME_SERVER.into()];
    config.role = role;
    // The log holds what is sent here and nothing else.
    config.metadata_in_log = false;
    config.broker_id = if role == BrokerRole::Slave { node as i64 + 1 } else { 0 };
    config
}

type End = (usize, ConnId);

struct Net {
    nodes: Vec<Option<World>>,
    wires: BTreeMap<End, End>,
    /// Pairs of nodes with no way between them.
    cuts: Vec<(usize, usize)>,
    /// Whom the name server takes for the master.
    master: usize,
    conns: u64,
}

impl Net {
    /// Node 0 is the master.
    fn new(configs: Vec<BrokerConfig>) -> Net {
        let nodes = configs.into_iter().map(|config| Some(World::new(config))).collect();
        let mut net = Net { nodes, wires: BTreeMap::new(), cuts: Vec::new(), master: 0, conns: 100 };
        net.pass(Duration::from_secs(12));
        net
    }

    fn sync_pair() -> Net {
        Net::new(vec![node_config(0, BrokerRole::SyncMaster), node_config(1, BrokerRole::Slave)])
    }

    fn node(&mut self, node: usize) -> &mut World {
        self.nodes[node].as_mut().expect("it lives")
    }

    fn log_end(&mut self, node: usize) -> u64 {
        self.node(node).broker().store().log_end()
    }

    fn pass(&mut self, time: Duration) {
        let mut passed = Duration::ZERO;
        while passed < time {
            for node in self.nodes.iter_mut().flatten() {
                node.pass(STEP);
            }
            for _ in 0..200 {
                if !self.deliver() {
                    break;
                }
                self.nodes.iter_mut().flatten().for_each(World::run);
            }
            passed += STEP;
        }
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.iter().any(|cut| *cut == (a, b) || *cut == (b, a))
    }

    fn deliver(&mut self) -> bool {
        let mut moved = false;
        for from in 0..self.nodes.len() {
            if self.nodes[from].is_some() {
                moved |= self.connect_from(from);
                moved |= self.carry_from(from);
                moved |= self.close_from(from);
            }
        }
        moved
    }

    fn connect_from(&mut self, from: usize) -> bool {
        let dialled = std::mem::take(&mut self.node(from).wires().dialled);
        let moved = !dialled.is_empty();
        for (conn, peer) in dialled {
            let address: std::net::SocketAddr = peer.address.parse().expect("an address");
            let target = (0..self.nodes.len())
                .find(|node| address.port() == port(*node) || address.port() == port(*node) + 1);
            let is_name_server = &*peer.address == NAME_SERVER;
            let target = target.filter(|target| self.nodes[*target].is_some() && !self.is_cut(from, *target));
            if target.is_none() && !is_name_server {
                self.node(from).input(Input::Closed { conn, why: CloseReason::DialFailed });
                continue;
            }
            self.node(from).input(Input::Opened { conn, peer: address, protocol: peer.protocol });
            let Some(target) = target else { continue };
            self.conns += 1;
            let theirs = ConnId::accepted(self.conns);
            let protocol = match peer.protocol {
                Protocol::HaSlave => Protocol::HaMaster,
                Protocol::HaMaster | Protocol::Remoting => peer.protocol,
            };
            let peer = "127.0.0.1:50000".parse().expect("an address");
            self.node(target).input(Input::Opened { conn: theirs, peer, protocol });
            self.wires.insert((from, conn), (target, theirs));
            self.wires.insert((target, theirs), (from, conn));
        }
        moved
    }

    fn carry_from(&mut self, from: usize) -> bool {
        let sent = std::mem::take(&mut self.node(from).wires().sent);
        let streamed = std::mem::take(&mut self.node(from).wires().streamed);
        let packets = sent.into_iter().map(|(conn, command)| (conn, Packet::Command(command)));
        let packets: Vec<(ConnId, Packet)> = packets.chain(streamed).collect();
        let mut moved = false;
        for (conn, packet) in packets {
            match (self.wires.get(&(from, conn)).copied(), packet) {
                // What is on a cut wire is lost with it.
                (Some((to, _)), _) if self.is_cut(from, to) => {}
                (Some((to, theirs)), packet) => {
                    self.node(to).input(Input::Received { conn: theirs, packet });
                    self.node(from).input(Input::Drained { conn });
                    moved = true;
                }
                (None, Packet::Command(command)) if command.code == request_code::REGISTER_BROKER => {
                    let master = self.master;
                    let header = RegisterBrokerResponse {
                        ha_server_addr: Some(format!("127.0.0.1:{}", port(master) + 1)),
                        master_addr: Some(format!("127.0.0.1:{}", port(master))),
                    };
                    let answer = Command::response(&command, response_code::SUCCESS, header.to_ext());
                    self.node(from).input(Input::Received { conn, packet: Packet::Command(answer) });
                    moved = true;
                }
                (None, Packet::Command(command)) if command.code == request_code::QUERY_DATA_VERSION => {
                    let code = response_code::REQUEST_CODE_NOT_SUPPORTED;
                    let answer = Command::error(&command, code, "a name server of long ago");
                    self.node(from).input(Input::Received { conn, packet: Packet::Command(answer) });
                    moved = true;
                }
                (None, Packet::Command(command)) => self.node(from).wires().sent.push((conn, command)),
                (None, Packet::HaReport { .. } | Packet::HaBlock { .. }) => {}
            }
        }
        moved
    }

    fn close_from(&mut self, from: usize) -> bool {
        let closed = std::mem::take(&mut self.node(from).wires().closed);
        for conn in &closed {
            self.node(from).input(Input::Closed { conn: *conn, why: CloseReason::Local });
            self.end_wire((from, *conn));
        }
        !closed.is_empty()
    }

    fn end_wire(&mut self, end: End) {
        let Some(other) = self.wires.remove(&end) else { return };
        self.wires.remove(&other);
        if let Some(node) = &mut self.nodes[other.0] {
            node.input(Input::Closed { conn: other.1, why: CloseReason::Peer });
        }
    }

    /// It dies; what it leaves.
    fn lose(&mut self, node: usize) -> World {
        let gone = self.nodes[node].take().expect("it lives");
        let ends: Vec<End> = self.wires.keys().filter(|(of, _)| *of == node).copied().collect();
        ends.into_iter().for_each(|end| self.end_wire(end));
        gone
    }

    /// It lives again.
    fn back(&mut self, node: usize, mut world: World) {
        world.run();
        self.nodes[node] = Some(world);
    }

    /// Sends, and waits for the answer.
    fn send(&mut self, node: usize, body: &str) -> i32 {
        let conn = self.node(node).connect(1);
        let opaque = self.node(node).post(conn, send("T", 0, "", body));
        for _ in 0..200 {
            self.node(node).run();
            if let Some(answer) = self.node(node).answer(conn, opaque) {
                return answer.code;
            }
            self.pass(STEP);
        }
        panic!("no answer to a send");
    }

    /// The bodies of the messages that a node serves.
    fn read(&mut self, node: usize) -> Vec<String> {
        let conn = self.node(node).connect(2);
        let answer = self.node(node).call(conn, pull("T", 0, 0));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let words = text.split(|c: char| !c.is_ascii_alphabetic());
        words.filter(|word| word.starts_with("body")).map(String::from).collect()
    }

    fn promote(&mut self, node: usize, role: &str) -> Command {
        let conn = self.node(node).connect(3);
        let change = Command::request(request_code::UPDATE_BROKER_CONFIG, Ext::None);
        let change = change.with_body(format!("brokerRole={role}\n").into_bytes());
        let opaque = self.node(node).post(conn, change);
        for _ in 0..200 {
            self.node(node).run();
            if let Some(answer) = self.node(node).answer(conn, opaque) {
                return answer;
            }
            self.pass(STEP);
        }
        panic!("no answer to a promotion: {:?}", self.node(node).failed);
    }
}

/// A SYNC_MASTER with ASYNC_FLUSH acknowledges a second message and then loses power before it has synced it.
fn lose_power_after_an_acknowledgement(net: &mut Net) -> World {
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    net.pass(Duration::from_secs(12));
    net.node(0).disk().set_automatic(false);
    let conn = net.node(0).connect(1);
    let opaque = net.node(0).post(conn, send("T", 0, "", "bodytwo"));
    for _ in 0..8 {
        net.nodes.iter_mut().flatten().for_each(|node| {
            node.turn();
        });
        net.deliver();
    }
    let answer = net.node(0).answer(conn, opaque).expect("its slave has it");
    assert_eq!(answer.code, response_code::SUCCESS);
    let end = net.log_end(0);
    let lost = net.lose(0).lose_power(2);
    assert_eq!(net.log_end(1), end);
    lost
}

#[test]
fn a_master_that_lost_power_takes_home_what_its_slave_has_before_it_writes() {
    let mut net = Net::sync_pair();
    let end = net.log_end(0);
    let master = lose_power_after_an_acknowledgement(&mut net);
    net.back(0, master);
    assert!(net.log_end(0) < net.log_end(1) && net.log_end(0) >= end, "it came back shorter");
    assert!(!net.node(0).broker().is_ready(), "it does not write yet");
    net.pass(Duration::from_secs(3));
    assert!(net.node(0).broker().is_ready());
    assert_eq!(net.log_end(0), net.log_end(1));
    assert_eq!(net.read(0), ["bodyone", "bodytwo"]);
    // And they go on together.
    net.pass(Duration::from_secs(12));
    assert_eq!(net.send(0, "bodythree"), response_code::SUCCESS);
    assert_eq!(net.read(1), ["bodyone", "bodytwo", "bodythree"]);
}

#[test]
fn a_slave_that_is_not_heard_is_waited_for_so_long_and_no_longer() {
    let mut net = Net::sync_pair();
    let master = lose_power_after_an_acknowledgement(&mut net);
    let slave = net.lose(1);
    net.back(0, master);
    net.pass(Duration::from_secs(55));
    assert!(!net.node(0).broker().is_ready(), "what its slave has may be what it acknowledged");
    net.pass(Duration::from_secs(6));
    assert!(net.node(0).broker().is_ready(), "haMaxTimeSlaveNotCatchup is over");
    assert_eq!(net.send(0, "bodyother"), response_code::SLAVE_NOT_AVAILABLE);
    // It is not waited for again.
    let master = net.lose(0).kill();
    net.back(0, master);
    net.pass(Duration::from_secs(1));
    assert!(net.node(0).broker().is_ready());
    // The slave keeps what it alone has.
    net.back(1, slave.kill());
    net.pass(Duration::from_secs(15));
    assert_eq!(net.read(1), ["bodyone", "bodytwo"]);
}

#[test]
fn what_a_slave_has_and_cannot_give_is_not_waited_for() {
    let mut net = Net::sync_pair();
    let long = format!("body{}", "x".repeat(4000));
    for _ in 0..40 {
        assert_eq!(net.send(0, &long), response_code::SUCCESS);
    }
    net.pass(Duration::from_secs(12));
    let end = net.log_end(1);
    // The power takes all but the master's first segment, and the slave's retention that one and the next.
    let (mut slave, mut master) = (net.lose(1).kill(), net.lose(0).kill());
    let segments = slave.disk().list("commitlog").expect("it is there");
    assert!(segments.len() > 2, "there is more");
    for (at, segment) in segments.iter().enumerate() {
        let owner = if at < 2 { &mut slave } else { &mut master };
        owner.disk().delete(&format!("commitlog/{}", segment.name)).expect("it is there");
    }
    master.disk().delete(&format!("commitlog/{}", segments[1].name)).expect("it is there");
    net.back(1, slave);
    net.back(0, master);
    assert!(net.log_end(0) < net.node(1).broker().store().log_min(), "something lies between");
    net.pass(Duration::from_secs(3));
    assert!(net.node(0).broker().is_ready(), "nothing comes of waiting");
    net.pass(Duration::from_secs(12));
    assert_eq!(net.log_end(1), end, "the slave keeps what it alone has");
}

#[test]
fn a_slave_keeps_what_is_old_while_its_master_is_away() {
    let configs = [node_config(0, BrokerRole::SyncMaster), node_config(1, BrokerRole::Slave)];
    let configs = configs.map(|mut config| {
        config.store.file_reserved = Duration::from_secs(100);
        config.store.delete_hours = (0..24).collect();
        config
    });
    let mut net = Net::new(configs.into());
    let long = format!("body{}", "x".repeat(4000));
    for _ in 0..40 {
        assert_eq!(net.send(0, &long), response_code::SUCCESS);
    }
    let master = net.lose(0).kill();
    net.pass(Duration::from_secs(200));
    assert_eq!(net.node(1).broker().store().log_min(), 0, "the master may come back shorter");
    net.back(0, master);
    net.pass(Duration::from_secs(60));
    assert!(net.node(1).broker().store().log_min() > 0, "the master is back, and the time is past");
}

#[test]
fn a_clean_stop_or_synchronous_flush_waits_for_nobody() {
    let mut config = node_config(0, BrokerRole::SyncMaster);
    config.set("flushDiskType", "SYNC_FLUSH").expect("a mode");
    let mut net = Net::new(vec![config, node_config(1, BrokerRole::Slave)]);
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    let master = net.lose(0).kill();
    net.lose(1);
    net.back(0, master);
    net.pass(Duration::from_secs(1));
    assert!(net.node(0).broker().is_ready());
}

#[test]
fn a_slave_is_made_the_master_and_the_old_one_follows_it() {
    let mut net = Net::sync_pair();
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    // Cut off and alive: it acknowledges nothing alone.
    net.cuts.push((0, 1));
    net.pass(Duration::from_secs(25));
    assert_eq!(net.send(0, "bodyalone"), response_code::SLAVE_NOT_AVAILABLE);
    let answer = net.promote(1, "SYNC_MASTER");
    assert_eq!(answer.code, response_code::SUCCESS, "{answer:?}");
    let events = std::mem::take(&mut net.node(1).wires().events);
    let role = |(name, value): &(String, String)| name == "brokerRole" && value == "SYNC_MASTER";
    assert!(
        events.iter().any(|event| {
            matches!(event, BrokerEvent::SettingsChanged { settings } if settings.iter().any(role))
        }),
        "the role stays: {events:?}"
    );
    net.master = 1;
    assert_eq!(net.send(1, "bodynew"), response_code::SLAVE_NOT_AVAILABLE, "it has no slave yet");
    assert_eq!(net.read(1), ["bodyone", "bodynew"]);
    // The old master is started as a slave; its own tail is kept aside.
    let old = net.lose(0).kill_with(|_| node_config(0, BrokerRole::Slave));
    net.cuts.clear();
    net.back(0, old);
    net.pass(Duration::from_secs(15));
    let reason = net.node(0).failed.clone().expect("starts again to cut its log");
    assert!(reason.contains("diverged/"), "{reason}");
    let old = net.lose(0).kill();
    net.back(0, old);
    net.pass(Duration::from_secs(15));
    assert_eq!(net.node(0).failed, None);
    assert_eq!(net.read(0), ["bodyone", "bodynew"]);
    assert_eq!(net.send(1, "bodylast"), response_code::SUCCESS, "the old master is its slave now");
    assert_eq!(net.read(0), ["bodyone", "bodynew", "bodylast"]);
    let kept = net.node(0).disk().files().find(|(path, _)| path.starts_with("diverged/"));
    let (path, _) = kept.expect("its tail is kept");
    let kept = net.node(0).disk().peek(&path).expect("a file");
    assert!(kept.windows(9).any(|bytes| bytes == b"bodyalone"));
}

#[test]
fn half_a_record_is_cleared_away_before_a_slave_writes() {
    let mut master = node_config(0, BrokerRole::AsyncMaster);
    master.ha.block_bytes_max = 1024;
    let mut net = Net::new(vec![master, node_config(1, BrokerRole::Slave)]);
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    net.pass(Duration::from_secs(1));
    let whole = net.log_end(1);
    // One block of a long record arrives, then the master is gone.
    let conn = net.node(0).connect(1);
    net.node(0).post(conn, send("T", 0, "", &"x".repeat(5000)));
    net.node(0).turn();
    net.node(0).turn();
    let streamed = std::mem::take(&mut net.node(0).wires().streamed);
    let first = streamed
        .into_iter()
        .find(|(_, packet)| matches!(packet, Packet::HaBlock { body, .. } if !body.is_empty()));
    let (theirs, packet) = first.expect("a block");
    let (_, conn) = *net.wires.get(&(0, theirs)).expect("a wire");
    net.node(1).input(Input::Received { conn, packet });
    net.node(1).run();
    assert_eq!(net.log_end(1), whole, "a record is written as a whole");
    net.lose(0);
    let answer = net.promote(1, "ASYNC_MASTER");
    assert_eq!(answer.code, response_code::SUCCESS, "{answer:?}");
    assert_eq!(net.log_end(1), whole);
    assert_eq!(net.send(1, "bodytwo"), response_code::SUCCESS);
    assert_eq!(net.read(1), ["bodyone", "bodytwo"]);
    // Nothing of the half is found again.
    let again = net.lose(1).kill_with(|_| node_config(1, BrokerRole::AsyncMaster));
    net.back(1, again);
    assert_eq!(net.read(1), ["bodyone", "bodytwo"]);
}

/// The first block of a long record goes to all slaves, and the rest nowhere.
fn send_half_a_record(net: &mut Net) {
    let conn = net.node(0).connect(1);
    net.node(0).post(conn, send("T", 0, "", &"x".repeat(5000)));
    net.node(0).turn();
    net.node(0).turn();
    let mut heads: BTreeMap<ConnId, Packet> = BTreeMap::new();
    for (conn, packet) in std::mem::take(&mut net.node(0).wires().streamed) {
        if matches!(&packet, Packet::HaBlock { body, .. } if !body.is_empty()) {
            heads.entry(conn).or_insert(packet);
        }
    }
    for (theirs, packet) in heads {
        let (slave, conn) = *net.wires.get(&(0, theirs)).expect("a wire");
        net.node(slave).input(Input::Received { conn, packet });
        net.node(slave).run();
    }
}

#[test]
fn half_a_record_that_the_new_master_cleared_away_keeps_no_slave_from_it() {
    let mut master = node_config(0, BrokerRole::SyncMaster);
    master.ha.block_bytes_max = 1024;
    let slaves = [1, 2].map(|node| node_config(node, BrokerRole::Slave));
    let mut net = Net::new([vec![master], slaves.into()].concat());
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    net.pass(Duration::from_secs(1));
    let whole = net.log_end(2);
    send_half_a_record(&mut net);
    assert_eq!((net.log_end(1), net.log_end(2)), (whole, whole), "half a record is at neither");
    net.lose(0);
    assert_eq!(net.promote(1, "SYNC_MASTER").code, response_code::SUCCESS);
    net.master = 1;
    net.pass(Duration::from_secs(45));
    assert_eq!(net.send(1, "bodytwo"), response_code::SUCCESS, "the other slave follows");
    assert_eq!(net.read(2), ["bodyone", "bodytwo"]);
    assert_eq!(net.node(2).failed, None);
    let again = net.lose(2).kill();
    net.back(2, again);
    assert_eq!(net.read(2), ["bodyone", "bodytwo"]);
}

#[test]
fn a_slave_does_not_go_back_for_the_sake_of_another_slave() {
    let slaves = [1, 2].map(|node| node_config(node, BrokerRole::Slave));
    let mut net = Net::new([vec![node_config(0, BrokerRole::SyncMaster)], slaves.into()].concat());
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    net.pass(Duration::from_secs(1));
    net.cuts.push((0, 1));
    assert_eq!(net.send(0, "bodytwo"), response_code::SUCCESS);
    net.pass(Duration::from_secs(1));
    let end = net.log_end(2);
    assert!(net.log_end(1) < end, "one has it alone");
    net.lose(0);
    // Sent to the other one, which is not the master: what that one lacks says nothing.
    net.master = 1;
    net.pass(Duration::from_secs(45));
    assert_eq!(net.node(2).failed, None, "nothing is cut off");
    assert_eq!(net.log_end(2), end);
    assert_eq!(net.promote(2, "SYNC_MASTER").code, response_code::SUCCESS);
    net.master = 2;
    net.pass(Duration::from_secs(45));
    assert_eq!(net.send(2, "bodylast"), response_code::SUCCESS);
    assert_eq!(net.read(1), ["bodyone", "bodytwo", "bodylast"]);
}

#[test]
fn a_slave_without_the_masters_beginning_does_not_count() {
    let mut net = Net::sync_pair();
    // More than one segment.
    let long = format!("body{}", "x".repeat(4000));
    for _ in 0..20 {
        assert_eq!(net.send(0, &long), response_code::SUCCESS);
    }
    net.pass(Duration::from_secs(12));
    let slave = net.lose(1);
    let mut slave = slave.kill();
    slave.disk().delete("commitlog/00000000000000000000").expect("it is there");
    net.back(1, slave);
    net.pass(Duration::from_secs(15));
    assert_eq!(net.log_end(1), net.log_end(0), "it follows");
    assert_eq!(
        net.send(0, "bodymore"),
        response_code::SLAVE_NOT_AVAILABLE,
        "and could not take the master's place"
    );
    net.pass(Duration::from_secs(1));
    assert_eq!(net.log_end(1), net.log_end(0));
}

#[test]
fn a_fresh_slave_begins_where_its_masters_log_begins_and_counts() {
    let mut net = Net::new(vec![node_config(0, BrokerRole::SyncMaster)]);
    let long = format!("body{}", "x".repeat(4000));
    for _ in 0..20 {
        assert_eq!(net.send(0, &long), response_code::SLAVE_NOT_AVAILABLE);
    }
    net.pass(Duration::from_secs(12));
    // Retention has taken the oldest segment.
    let mut master = net.lose(0).kill();
    master.disk().delete("commitlog/00000000000000000000").expect("it is there");
    net.back(0, master);
    net.nodes.push(Some(World::new(node_config(1, BrokerRole::Slave))));
    net.pass(Duration::from_secs(15));
    let begins = net.node(0).broker().store().log_min();
    assert!(begins > 0 && net.node(1).broker().store().log_min() == begins);
    assert_eq!(net.log_end(1), net.log_end(0));
    assert_eq!(net.send(0, "bodylast"), response_code::SUCCESS, "it could take the master's place");
}

#[test]
fn a_fresh_slave_learns_how_far_queues_went_that_hold_nothing() {
    let carrying = |node, role| BrokerConfig { metadata_in_log: true, ..node_config(node, role) };
    let mut net = Net::new(vec![carrying(0, BrokerRole::SyncMaster)]);
    for body in ["bodyone", "bodytwo"] {
        assert_eq!(net.send(0, body), response_code::SLAVE_NOT_AVAILABLE);
    }
    let conn = net.node(0).connect(4);
    for _ in 0..20 {
        let answer = net.node(0).call(conn, send("T", 1, "", &"x".repeat(4000)));
        assert_eq!(answer.code, response_code::SLAVE_NOT_AVAILABLE, "{answer:?}");
    }
    net.pass(Duration::from_secs(12));
    // Retention takes the oldest segment, and with it all that the first queue had.
    let mut master = net.lose(0).kill();
    master.disk().delete("commitlog/00000000000000000000").expect("it is there");
    net.back(0, master);
    let mut slave = World::new(carrying(1, BrokerRole::Slave));
    slave.run();
    net.nodes.push(Some(slave));
    net.pass(Duration::from_secs(20));
    let ends = |net: &mut Net, node: usize| {
        let store = net.node(node).broker().store();
        let queue = store.find_queue("T", 0).expect("known");
        (store.min_offset(queue), store.max_offset(queue))
    };
    assert_eq!((ends(&mut net, 0), ends(&mut net, 1)), ((2, 2), (2, 2)));
    // It has no file of that queue, and knows it after a crash.
    let slave = net.lose(1).lose_power(3);
    net.back(1, slave);
    assert_eq!(ends(&mut net, 1), (2, 2));
    net.lose(0);
    assert_eq!(net.promote(1, "SYNC_MASTER").code, response_code::SUCCESS);
    net.master = 1;
    assert_eq!(net.send(1, "bodythree"), response_code::SLAVE_NOT_AVAILABLE);
    assert_eq!(ends(&mut net, 1), (2, 3), "no offset is given twice");
    let again = net.lose(1).kill_with(|_| carrying(1, BrokerRole::AsyncMaster));
    net.back(1, again);
    assert_eq!(ends(&mut net, 1), (2, 3));
}

#[test]
fn a_slave_whose_disk_is_nearly_full_waits_for_room() {
    let mut net = Net::sync_pair();
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    let used = net.node(1).disk().used();
    net.node(1).disk().set_capacity(used * 100 / 92);
    net.pass(Duration::from_secs(12));
    let end = net.log_end(1);
    assert_eq!(net.send(0, "bodytwo"), response_code::SLAVE_NOT_AVAILABLE, "nobody waits for it");
    net.pass(Duration::from_secs(20));
    assert_eq!((net.log_end(1), net.node(1).failed.clone()), (end, None));
    net.node(1).disk().set_capacity(1 << 30);
    net.pass(Duration::from_secs(25));
    assert_eq!(net.log_end(1), net.log_end(0), "it goes on by itself");
    assert_eq!(net.send(0, "bodythree"), response_code::SUCCESS);
}

#[test]
fn a_slave_that_ends_where_its_masters_log_begins_follows() {
    let mut net = Net::sync_pair();
    let long = format!("body{}", "x".repeat(4000));
    for _ in 0..20 {
        assert_eq!(net.send(0, &long), response_code::SUCCESS);
    }
    net.pass(Duration::from_secs(12));
    // The slave has the first segment and nothing else, and the master's retention has taken that one.
    let (mut slave, mut master) = (net.lose(1).kill(), net.lose(0).kill());
    let segments = slave.disk().list("commitlog").expect("it is there");
    assert!(segments.len() > 1, "there is more");
    for segment in &segments[1..] {
        slave.disk().delete(&format!("commitlog/{}", segment.name)).expect("it is there");
    }
    master.disk().delete("commitlog/00000000000000000000").expect("it is there");
    net.back(0, master);
    net.back(1, slave);
    net.pass(Duration::from_secs(20));
    assert!(net.node(0).broker().store().log_min() > 0);
    assert_eq!(net.log_end(1), net.log_end(0));
    assert_eq!(net.node(1).broker().store().log_min(), 0, "it keeps what it has");
}

#[test]
fn the_other_slave_follows_the_one_that_was_promoted() {
    let slaves = [1, 2].map(|node| node_config(node, BrokerRole::Slave));
    let mut net = Net::new([vec![node_config(0, BrokerRole::SyncMaster)], slaves.into()].concat());
    assert_eq!(net.send(0, "bodyone"), response_code::SUCCESS);
    net.pass(Duration::from_secs(1));
    net.lose(0);
    assert_eq!(net.promote(1, "SYNC_MASTER").code, response_code::SUCCESS);
    // Name servers tell it with the next registration.
    net.master = 1;
    net.pass(Duration::from_secs(45));
    assert_eq!(net.send(1, "bodytwo"), response_code::SUCCESS, "on the other slave too");
    assert_eq!(net.read(2), ["bodyone", "bodytwo"]);
}
