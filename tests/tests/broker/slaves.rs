//! A master and its slave, each a machine over its own disk, with wires between them that the test may cut.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::broker::{BrokerConfig, BrokerRole};
use gantry_core::io::{CloseReason, ConnId, Input, Protocol};
use gantry_core::wire::Packet;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{Header, RegisterBrokerResponse};
use gantry_core::wire::{Command, Ext};

use super::harness::{World, commit, config, poll, pull, send};
use super::registration::{delete_topic, make_topic};

const MASTER: &str = "127.0.0.1:10911";
const MASTER_HA: &str = "127.0.0.1:10912";

/// Both, and what connects them.
pub(crate) struct Pair {
    pub(crate) master: Option<World>,
    pub(crate) slave: World,
    /// The master's name of each connection that the slave made.
    wires: BTreeMap<ConnId, ConnId>,
    conns: u64,
    /// Bodies of the answers that named topics or groups, in bytes.
    tables: Vec<usize>,
    /// Whether the name server that answers the slave knows a master.
    master_is_known: bool,
}

pub(crate) fn slave_config() -> BrokerConfig {
    let mut config = config();
    config.broker_id = 1;
    config.role = BrokerRole::Slave;
    config.namesrv_addrs = vec!["127.0.0.1:9876".into()];
    config.store_host = "127.0.0.1:20911".parse().expect("address");
    config
}

impl Pair {
    pub(crate) fn new(master: BrokerConfig, slave: BrokerConfig) -> Pair {
        let (master, slave) = (World::new(master), World::new(slave));
        let (wires, tables) = (BTreeMap::new(), Vec::new());
        let mut pair = Pair { master: Some(master), slave, wires, conns: 100, tables, master_is_known: true };
        pair.pass(Duration::from_secs(5));
        pair
    }

    /// Time passes for both, a little at a time, and what they send arrives.
    pub(crate) fn pass(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let mut passed = Duration::ZERO;
        while passed < time {
            self.slave.pass(STEP);
            if let Some(master) = &mut self.master {
                master.pass(STEP);
            }
            self.deliver();
            passed += STEP;
        }
    }

    pub(crate) fn deliver(&mut self) {
        for _ in 0..100 {
            if !self.deliver_once() {
                return;
            }
            self.slave.run();
            if let Some(master) = &mut self.master {
                master.run();
            }
        }
        panic!("they never stop talking");
    }

    fn deliver_once(&mut self) -> bool {
        let dialled = std::mem::take(&mut self.slave.wires().dialled);
        let mut moved = !dialled.is_empty();
        for (conn, peer) in dialled {
            let is_known = &*peer.address == "127.0.0.1:9876" || self.master.is_some();
            if !is_known {
                self.slave.input(Input::Closed { conn, why: CloseReason::DialFailed });
                continue;
            }
            let address = peer.address.parse().expect("an address");
            self.slave.input(Input::Opened { conn, peer: address, protocol: peer.protocol });
            if let Some(master) = self.master.as_mut().filter(|_| &*peer.address != "127.0.0.1:9876") {
                self.conns += 1;
                let theirs = ConnId::accepted(self.conns);
                let protocol = match peer.protocol {
                    Protocol::HaSlave => Protocol::HaMaster,
                    Protocol::HaMaster | Protocol::Remoting => peer.protocol,
                };
                let from = "127.0.0.1:50000".parse().expect("an address");
                master.input(Input::Opened { conn: theirs, peer: from, protocol });
                self.wires.insert(conn, theirs);
            }
        }
        moved |= self.deliver_to_master();
        moved |= self.deliver_to_slave();
        moved |= self.deliver_ends();
        moved
    }

    fn deliver_to_master(&mut self) -> bool {
        let commands = std::mem::take(&mut self.slave.wires().sent).into_iter();
        let commands = commands.map(|(conn, command)| (conn, Packet::Command(command)));
        let streamed = std::mem::take(&mut self.slave.wires().streamed);
        let mut moved = false;
        for (conn, packet) in commands.chain(streamed) {
            match (self.wires.get(&conn), &packet) {
                (Some(theirs), _) => {
                    let master = self.master.as_mut().expect("a wire ends there");
                    master.input(Input::Received { conn: *theirs, packet });
                }
                (None, Packet::Command(command)) if command.code == request_code::REGISTER_BROKER => {
                    let told = |address: &str| self.master_is_known.then(|| address.into());
                    let header =
                        RegisterBrokerResponse { ha_server_addr: told(MASTER_HA), master_addr: told(MASTER) };
                    let answer = Command::response(command, response_code::SUCCESS, header.to_ext());
                    self.slave.input(Input::Received { conn, packet: Packet::Command(answer) });
                }
                // An answer to a client of the slave.
                (None, Packet::Command(command)) => {
                    self.slave.wires().sent.push((conn, command.clone()));
                    continue;
                }
                (None, _) => continue,
            }
            moved = true;
        }
        moved
    }

    fn deliver_to_slave(&mut self) -> bool {
        let Some(master) = &mut self.master else { return false };
        let commands = std::mem::take(&mut master.wires().sent).into_iter();
        let commands = commands.map(|(conn, command)| (conn, Packet::Command(command)));
        let streamed = std::mem::take(&mut master.wires().streamed);
        let mut moved = false;
        for (theirs, packet) in commands.chain(streamed) {
            let Some((conn, _)) = self.wires.iter().find(|(_, known)| **known == theirs) else {
                if let Packet::Command(command) = packet {
                    master.wires().sent.push((theirs, command));
                }
                continue;
            };
            if let Packet::Command(answer) = &packet
                && [&b"topicConfigTable"[..], b"subscriptionGroupTable"]
                    .iter()
                    .any(|name| answer.body.windows(name.len()).any(|part| part == *name))
            {
                self.tables.push(answer.body.len());
            }
            self.slave.input(Input::Received { conn: *conn, packet });
            master.input(Input::Drained { conn: theirs });
            moved = true;
        }
        moved
    }

    fn deliver_ends(&mut self) -> bool {
        let by_slave = std::mem::take(&mut self.slave.wires().closed);
        let by_master = self.master.as_mut().map(|master| std::mem::take(&mut master.wires().closed));
        let mut ended: Vec<ConnId> = by_slave;
        for theirs in by_master.unwrap_or_default() {
            ended.extend(self.wires.iter().find(|(_, known)| **known == theirs).map(|(conn, _)| *conn));
        }
        let moved = !ended.is_empty();
        for conn in ended {
            self.slave.input(Input::Closed { conn, why: CloseReason::Local });
            if let (Some(theirs), Some(master)) = (self.wires.remove(&conn), &mut self.master) {
                master.input(Input::Closed { conn: theirs, why: CloseReason::Peer });
            }
        }
        moved
    }

    /// The master is gone; what it leaves.
    pub(crate) fn lose_master(&mut self) -> World {
        for (conn, _) in std::mem::take(&mut self.wires) {
            self.slave.input(Input::Closed { conn, why: CloseReason::Peer });
        }
        self.slave.run();
        self.master.take().expect("there is one")
    }

    /// `kill -9` of the slave.
    pub(crate) fn restart_slave(&mut self) {
        for (_, theirs) in std::mem::take(&mut self.wires) {
            self.master().input(Input::Closed { conn: theirs, why: CloseReason::Peer });
        }
        let slave = std::mem::replace(&mut self.slave, World::new(config()));
        self.slave = slave.kill();
        self.slave.run();
    }

    pub(crate) fn master(&mut self) -> &mut World {
        self.master.as_mut().expect("there is one")
    }

    /// Sends to the master, whose answer comes once the slave has it.
    pub(crate) fn send(&mut self, topic: &str, body: &str) -> i32 {
        let conn = self.master().connect(1);
        let opaque = self.master().post(conn, send(topic, 0, "", body));
        for _ in 0..200 {
            self.master().run();
            if let Some(answer) = self.master().answer(conn, opaque) {
                return answer.code;
            }
            self.pass(Duration::from_millis(50));
        }
        panic!("no answer to a send");
    }
}

#[test]
fn a_slave_takes_its_masters_tables() {
    let mut pair = Pair::new(config(), slave_config());
    assert_eq!(pair.send("T", "one"), response_code::SUCCESS);
    let client = pair.master().connect(2);
    let _ = pair.master().call(client, pull("T", 0, 0));
    let committed = pair.master().call(client, commit("G", "T", 0, 1));
    assert_eq!(committed.code, response_code::SUCCESS, "{committed:?}");
    pair.pass(Duration::from_secs(12));
    assert_eq!(pair.slave.broker().store().log_end(), pair.master().broker().store().log_end());
    assert_eq!(pair.slave.committed("G", "T", 0), Some(1));
    let conn = pair.slave.connect(2);
    let found = pair.slave.call(conn, pull("T", 0, 0));
    assert_eq!(found.code, response_code::SUCCESS, "{found:?}");
    let topic = Command::request(request_code::GET_ALL_TOPIC_CONFIG, Ext::None);
    let (ours, theirs) = (pair.slave.call(conn, topic.clone()), pair.master().call(client, topic));
    assert_eq!(ours.body, theirs.body, "the same table, of the same version");
}

#[test]
fn a_slave_is_sent_tables_only_when_it_has_others() {
    let mut polled = config();
    polled.metadata_in_log = false;
    let mut pair = Pair::new(polled, slave_config());
    pair.pass(Duration::from_secs(30));
    pair.tables.clear();
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.tables, [0; 0], "nothing has changed");
    let client = {
        let master = pair.master.as_mut().expect("there is one");
        let client = master.connect(1);
        master.call(client, make_topic("T", 3, 6));
        client
    };
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.tables.len(), 1, "the topics once, the groups not");
    let has = |pair: &Pair| pair.slave.broker().topics().any(|topic| topic.topic_name == "T");
    assert!(has(&pair));
    // A deletion is told when it is durable, and only then the same table counts as the same.
    pair.master.as_mut().expect("there is one").call(client, delete_topic("T"));
    pair.pass(Duration::from_secs(30));
    assert!(!has(&pair));
    pair.tables.clear();
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.tables, [0; 0]);
}

#[test]
fn what_slaves_of_rocketmq_ask_besides_is_answered() {
    let mut world = World::new(config());
    world.run();
    let conn = world.connect(1);
    let mut ask = |code| {
        let answer = world.call(conn, Command::request(code, Ext::None));
        assert_eq!(answer.code, response_code::SUCCESS, "{code}");
        answer.body
    };
    let checkpoint = ask(request_code::GET_TIMER_CHECK_POINT);
    let numbers: Vec<i64> = checkpoint
        .chunks(8)
        .map(|bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")))
        .collect();
    assert_eq!(numbers[1..], [0; 6], "no place in a log of timers, and no version");
    assert!(numbers[0] > 1_000_000_000_000, "read up to this moment");
    for (code, field) in [
        (request_code::GET_TIMER_METRICS, "timingCount"),
        (request_code::GET_ALL_MESSAGE_REQUEST_MODE, "messageRequestModeMap"),
    ] {
        let table: serde_json::Value = serde_json::from_slice(&ask(code)).expect("JSON");
        assert_eq!(table[field], serde_json::json!({}));
    }
}

#[test]
fn a_new_topic_is_served_as_soon_as_its_messages_are_here() {
    let mut pair = Pair::new(config(), slave_config());
    pair.send("T", "one");
    pair.pass(Duration::from_millis(1500));
    let conn = pair.slave.connect(2);
    let found = pair.slave.call(conn, pull("T", 0, 0));
    assert_eq!(found.code, response_code::SUCCESS, "{found:?}");
}

#[test]
fn a_slave_holds_a_pull_until_the_log_brings_a_message() {
    let mut pair = Pair::new(config(), slave_config());
    pair.send("T", "one");
    pair.pass(Duration::from_secs(2));
    let conn = pair.slave.connect(2);
    // One past the end, and far past it: the slave may be behind what the client has seen elsewhere.
    for offset in [1, 4] {
        let held = pair.slave.post(conn, poll("T", 0, offset, "*", 15_000));
        pair.slave.run();
        assert!(pair.slave.answer(conn, held).is_none(), "held");
        pair.send("T", "next");
        pair.send("T", "next");
        pair.slave.run();
        pair.deliver();
        let answer = pair.slave.answer(conn, held).expect("woken by the log");
        assert_eq!(answer.code, response_code::SUCCESS);
    }
}

#[test]
fn with_its_master_gone_a_slave_serves_and_its_commits_come_home_later() {
    let mut pair = Pair::new(config(), slave_config());
    for body in ["one", "two", "three"] {
        pair.send("T", body);
    }
    let client = pair.master().connect(2);
    let _ = pair.master().call(client, pull("T", 0, 0));
    let _ = pair.master().call(client, commit("G", "T", 0, 1));
    pair.pass(Duration::from_secs(12));
    let gone = pair.lose_master();
    let conn = pair.slave.connect(2);
    assert_eq!(pair.slave.call(conn, pull("T", 0, 1)).code, response_code::SUCCESS);
    assert_eq!(pair.slave.call(conn, commit("G", "T", 0, 3)).code, response_code::SUCCESS);
    let refused = pair.slave.call(conn, send("T", 0, "", "four"));
    assert_ne!(refused.code, response_code::SUCCESS, "a slave is not written");
    pair.pass(Duration::from_secs(15));

    let mut master = gone.kill();
    master.run();
    assert_eq!(master.committed("G", "T", 0), Some(1));
    pair.master = Some(master);
    pair.pass(Duration::from_secs(15));
    assert_eq!(pair.master().committed("G", "T", 0), Some(3), "the commit came home");
    assert_eq!(pair.slave.committed("G", "T", 0), Some(3));

    // From then on the slave follows again, back too.
    let client = pair.master().connect(3);
    let _ = pair.master().call(client, commit("G", "T", 0, 2));
    pair.pass(Duration::from_secs(12));
    assert_eq!(pair.slave.committed("G", "T", 0), Some(2));
}

#[test]
fn a_slave_keeps_its_master_where_name_servers_know_none_and_asks_for_one_that_it_does_not_know() {
    let mut pair = Pair::new(config(), slave_config());
    assert!(pair.slave.broker().is_following());
    pair.master_is_known = false;
    pair.pass(Duration::from_secs(31));
    assert!(pair.slave.broker().is_following(), "a stream that works goes on");
    let mut master = pair.lose_master().kill();
    master.run();
    pair.master = Some(master);
    pair.pass(Duration::from_secs(6));
    assert!(pair.slave.broker().is_following(), "it dials the one that it knew");

    pair.restart_slave();
    pair.pass(Duration::from_secs(8));
    assert!(!pair.slave.broker().is_following(), "nobody has told it of a master");
    pair.master_is_known = true;
    pair.pass(Duration::from_secs(6));
    assert!(pair.slave.broker().is_following(), "it asks again before the next beat");
}

/// A master that loses power before it has synced the second message, which its slave has.
fn part(mut master: BrokerConfig) -> Pair {
    // Nothing is to follow the lost message in the log.
    master.metadata_in_log = false;
    let mut pair = Pair::new(master, slave_config());
    assert_eq!(pair.send("T", "one"), response_code::SUCCESS);
    pair.pass(Duration::from_secs(12));
    pair.master().disk().set_automatic(false);
    let conn = pair.master().connect(1);
    pair.master().post(conn, send("T", 0, "", "lost"));
    for _ in 0..4 {
        pair.master().turn();
        pair.deliver_once();
        pair.slave.run();
    }
    assert_eq!(pair.slave.broker().store().log_end(), pair.master().broker().store().log_end());
    let gone = pair.lose_master();
    let mut master = gone.lose_power(2);
    master.run();
    assert!(master.broker().store().log_end() < pair.slave.broker().store().log_end(), "it was lost");
    pair.master = Some(master);
    pair
}

#[test]
fn a_slave_with_more_than_its_master_kept_goes_back_and_keeps_it_aside() {
    let mut pair = part(config());
    assert_eq!(pair.send("T", "another"), response_code::SUCCESS);
    pair.pass(Duration::from_secs(15));
    let reason = pair.slave.failed.clone().expect("starts again to cut its log");
    assert!(reason.contains("diverged/"), "{reason}");
    pair.restart_slave();
    pair.pass(Duration::from_secs(15));
    assert_eq!(pair.slave.failed, None);
    assert_eq!(pair.slave.broker().store().log_end(), pair.master().broker().store().log_end());
    let conn = pair.slave.connect(2);
    let found = pair.slave.call(conn, pull("T", 0, 1));
    assert_eq!(found.code, response_code::SUCCESS);
    assert!(found.body.windows(7).any(|bytes| bytes == b"another"), "the master's message, not the lost one");
    assert!(pair.slave.disk().peek("cutLogTo").is_none());
    // It follows on after both started again.
    assert_eq!(pair.send("T", "third"), response_code::SUCCESS);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.slave.broker().store().log_end(), pair.master().broker().store().log_end());
}

#[test]
fn a_slave_keeps_what_may_have_been_acknowledged_for_its_sake() {
    let mut master = config();
    master.role = BrokerRole::SyncMaster;
    let mut pair = part(master);
    let end = pair.slave.broker().store().log_end();
    pair.pass(Duration::from_secs(20));
    assert_eq!(pair.slave.failed, None);
    assert_eq!(pair.slave.broker().store().log_end(), end, "it keeps what it has");
    let conn = pair.slave.connect(2);
    assert_eq!(pair.slave.call(conn, pull("T", 0, 1)).code, response_code::SUCCESS, "and serves it");
}

fn sync_master() -> BrokerConfig {
    let mut master = config();
    master.role = BrokerRole::SyncMaster;
    master
}

#[test]
fn what_a_sync_master_answers_says_who_has_the_message() {
    let mut pair = Pair::new(sync_master(), slave_config());
    assert_eq!(pair.send("T", "one"), response_code::SUCCESS);
    // Its slave hears, and does not answer: the send waits for it, and then says so.
    let conn = pair.master().connect(1);
    let opaque = pair.master().post(conn, send("T", 0, "", "two"));
    pair.master().run();
    pair.master().pass(Duration::from_millis(2900));
    assert!(pair.master().answer(conn, opaque).is_none(), "a slave that counts is waited for");
    pair.master().pass(Duration::from_millis(200));
    let answer = pair.master().answer(conn, opaque).expect("slaveTimeout is over");
    assert_eq!(answer.code, response_code::FLUSH_SLAVE_TIMEOUT);
    // It is gone: nobody is waited for, and whoever sends is told.
    let mut master = pair.lose_master();
    master.pass(Duration::from_secs(25));
    let conn = master.connect(1);
    let alone = master.call(conn, send("T", 0, "", "three"));
    assert_eq!(alone.code, response_code::SLAVE_NOT_AVAILABLE);
    let found = master.call(conn, pull("T", 0, 2));
    assert_eq!(found.code, response_code::SUCCESS, "it is seen all the same");
}

#[test]
fn in_sync_replicas_says_how_many_copies_there_are() {
    let mut alone = sync_master();
    alone.set("inSyncReplicas", "1").expect("a number");
    let mut master = World::new(alone);
    let conn = master.connect(1);
    assert_eq!(master.call(conn, send("T", 0, "", "one")).code, response_code::SUCCESS, "as in RocketMQ 5");

    let mut pair = Pair::new(sync_master(), slave_config());
    assert_eq!(pair.send("T", "one"), response_code::SUCCESS, "the master and one slave");
    let conn = pair.master().connect(2);
    let change = Command::request(request_code::UPDATE_BROKER_CONFIG, Ext::None);
    let changed = pair.master().call(conn, change.with_body(b"inSyncReplicas=3".to_vec()));
    assert_eq!(changed.code, response_code::SUCCESS, "{changed:?}");
    assert_eq!(pair.send("T", "two"), response_code::SLAVE_NOT_AVAILABLE, "there is one slave only");
}

#[test]
fn a_slave_counts_from_when_it_has_caught_up() {
    let mut config = sync_master();
    config.ha.block_bytes_max = 1024;
    config.metadata_in_log = false;
    let mut pair = Pair::new(config, slave_config());
    let gone = pair.slave.broker().store().log_end();
    assert_eq!(gone, 0);
    // The slave is cut off while the log grows, and comes back: until it has all of it, senders wait for nobody.
    pair.restart_slave();
    let client = pair.master().connect(1);
    let body = "x".repeat(4000);
    for _ in 0..20 {
        let answer = pair.master().call(client, send("T", 0, "", &body));
        assert_eq!(answer.code, response_code::SLAVE_NOT_AVAILABLE);
    }
    let slave = ConnId::accepted(900);
    let from = "127.0.0.1:50001".parse().expect("an address");
    pair.master().input(Input::Opened { conn: slave, peer: from, protocol: Protocol::HaMaster });
    pair.master().input(Input::Received { conn: slave, packet: Packet::HaReport { offset: 0 } });
    pair.master().run();
    let behind = pair.master().call(client, send("T", 0, "", &body));
    assert_eq!(behind.code, response_code::SLAVE_NOT_AVAILABLE, "it joined, and has nothing yet");
    let end = pair.master().broker().store().log_end();
    pair.master().input(Input::Received { conn: slave, packet: Packet::HaReport { offset: end } });
    pair.master().run();
    let opaque = pair.master().post(client, send("T", 0, "", &body));
    pair.master().run();
    assert!(pair.master().answer(client, opaque).is_none(), "now it is waited for");
}
