//! A master's tables in its log: what a slave knows, and when.

use std::time::Duration;

use gantry_core::broker::store::FlushMode;
use gantry_core::broker::{BrokerCommand, BrokerConfig, BrokerRole};
use gantry_core::io::Input;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::{Command, Ext};

use super::harness::{World, commit, config, pull, send};
use super::registration::{delete_topic, make_topic};
use super::slaves::{Pair, slave_config};

const TOPIC: &str = "rmq_sys_GANTRY_METADATA";
const SOON: Duration = Duration::from_millis(300);

fn pair() -> Pair {
    Pair::new(config(), slave_config())
}

fn commit_at(world: &mut World, offset: i64) {
    let client = world.connect(2);
    let _ = world.call(client, pull("T", 0, 0));
    let answer = world.call(client, commit("G", "T", 0, offset));
    assert_eq!(answer.code, response_code::SUCCESS, "{answer:?}");
}

fn has_topic(world: &World, name: &str) -> bool {
    world.broker().topics().any(|topic| topic.topic_name == name)
}

/// How many messages carry changes.
fn carried(world: &World) -> i64 {
    let store = world.broker().store();
    store.find_queue(TOPIC, 0).map_or(0, |queue| store.max_offset(queue))
}

#[test]
fn a_commit_is_at_the_slave_as_soon_as_the_log_is() {
    let mut pair = pair();
    for body in ["one", "two"] {
        pair.send("T", body);
    }
    for offset in [1, 2, 1] {
        commit_at(pair.master(), offset);
        pair.pass(SOON);
        assert_eq!(pair.slave.committed("G", "T", 0), Some(offset), "also back");
    }
    assert!(pair.slave.broker().has_carried_tables());
}

#[test]
fn a_master_that_stops_leaves_its_slave_every_commit() {
    let mut pair = pair();
    for body in ["one", "two"] {
        pair.send("T", body);
    }
    // The first goes into the log at once, the second would a tenth of a second later.
    for offset in [1, 2] {
        commit_at(pair.master(), offset);
    }
    pair.master().input(Input::Command(BrokerCommand::Stop));
    pair.pass(Duration::from_secs(10));
    assert!(pair.master().broker().store().is_stopped());
    assert_eq!(pair.slave.committed("G", "T", 0), Some(2));
}

#[test]
fn while_nothing_changes_nothing_is_written_and_many_changes_are_few_messages() {
    let mut pair = pair();
    pair.send("T", "one");
    commit_at(pair.master(), 1);
    pair.pass(Duration::from_secs(5));
    let (end, messages) = (pair.master().broker().store().log_end(), carried(pair.master()));
    pair.pass(Duration::from_secs(120));
    assert_eq!(pair.master().broker().store().log_end(), end);
    for offset in 0..200 {
        commit_at(pair.master(), offset % 2);
    }
    pair.pass(SOON);
    assert!(carried(pair.master()) - messages <= 3, "{}", carried(pair.master()) - messages);
}

#[test]
fn topics_groups_and_deletions_go_with_the_log() {
    let mut pair = pair();
    pair.send("T", "one");
    commit_at(pair.master(), 1);
    let client = pair.master().connect(3);
    pair.master().call(client, make_topic("Made", 3, 6));
    pair.pass(SOON);
    assert!(has_topic(&pair.slave, "Made") && has_topic(&pair.slave, "T"));
    let table = |world: &mut World, code| {
        let conn = world.connect(7);
        world.call(conn, Command::request(code, Ext::None)).body
    };
    for code in [request_code::GET_ALL_TOPIC_CONFIG, request_code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG] {
        assert_eq!(table(&mut pair.slave, code), table(pair.master(), code), "the same, of one version");
    }
    pair.master().call(client, delete_topic("T"));
    pair.pass(SOON);
    assert!(!has_topic(&pair.slave, "T"));
    assert_eq!(pair.slave.committed("G", "T", 0), None, "what was committed in it is forgotten");
    let queue = pair.slave.broker().store().find_queue("T", 0).expect("was there");
    assert_eq!(pair.slave.broker().store().max_offset(queue), 0, "its messages too");
    let code = request_code::GET_ALL_TOPIC_CONFIG;
    assert_eq!(table(&mut pair.slave, code), table(pair.master(), code), "with the list of deletions");
}

#[test]
fn what_is_committed_in_a_topic_that_was_made_again_stays() {
    let mut pair = pair();
    pair.send("T", "old");
    commit_at(pair.master(), 1);
    pair.pass(SOON);
    let client = pair.master().connect(3);
    pair.master().call(client, delete_topic("T"));
    pair.master().call(client, make_topic("T", 1, 6));
    pair.send("T", "new");
    commit_at(pair.master(), 1);
    pair.pass(SOON);
    assert_eq!(pair.slave.committed("G", "T", 0), Some(1));
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.slave.committed("G", "T", 0), Some(1));
}

#[test]
fn a_slave_that_died_goes_on_where_it_was() {
    let mut pair = pair();
    for body in ["one", "two", "three"] {
        pair.send("T", body);
    }
    commit_at(pair.master(), 1);
    pair.pass(SOON);
    let client = pair.master().connect(3);
    pair.master().call(client, make_topic("Made", 3, 6));
    pair.deliver();
    pair.restart_slave();
    assert!(pair.slave.broker().has_carried_tables(), "from its files, before its master is heard");
    assert_eq!(pair.slave.committed("G", "T", 0), Some(1));
    commit_at(pair.master(), 3);
    pair.pass(Duration::from_secs(8));
    assert_eq!(pair.slave.committed("G", "T", 0), Some(3));
    assert!(has_topic(&pair.slave, "Made"));
}

/// A slave's store, opened as a master's.
fn promoted(pair: Pair, lose_power: bool) -> World {
    let as_master =
        |config: BrokerConfig| BrokerConfig { role: BrokerRole::AsyncMaster, broker_id: 0, ..config };
    let mut world = pair.slave.kill_with(as_master);
    if lose_power {
        world = world.lose_power(3);
    }
    world.run();
    assert!(world.broker().is_ready() && world.broker().is_master(), "{:?}", world.failed);
    world
}

#[test]
fn a_slave_that_becomes_the_master_has_the_commits_that_its_log_holds() {
    for lose_power in [false, true] {
        let sync = |mut config: BrokerConfig| {
            config.store.flush = FlushMode::Sync;
            config
        };
        let mut pair = Pair::new(sync(config()), sync(slave_config()));
        for body in ["one", "two", "three"] {
            pair.send("T", body);
        }
        commit_at(pair.master(), 2);
        pair.pass(SOON);
        // Nobody reads its log for it any more.
        let mut world = promoted(pair, lose_power);
        assert_eq!(world.committed("G", "T", 0), Some(2), "power lost: {lose_power}");
        let conn = world.connect(1);
        assert_eq!(world.call(conn, send("T", 0, "", "four")).code, response_code::SUCCESS);
    }
}

#[test]
fn a_master_that_lost_power_knows_of_offsets_what_its_log_holds_and_of_topics_what_its_file_holds() {
    let mut with_sync = config();
    with_sync.store.flush = FlushMode::Sync;
    let mut pair = Pair::new(with_sync, slave_config());
    for body in ["one", "two", "three"] {
        pair.send("T", body);
    }
    pair.pass(Duration::from_secs(12));
    let client = pair.master().connect(3);
    pair.master().call(client, make_topic("Gone", 1, 6));
    commit_at(pair.master(), 3);
    pair.pass(SOON);
    pair.master().call(client, delete_topic("Gone"));
    let mut master = pair.lose_master().lose_power(5);
    master.run();
    assert!(master.broker().is_ready(), "{:?}", master.failed);
    assert_eq!(master.committed("G", "T", 0), Some(3), "its journal was not synced, its log was");
    assert!(!has_topic(&master, "Gone"));
}

#[test]
fn a_master_without_gantry_slaves_carries_nothing() {
    let mut alone = World::new(config());
    alone.run();
    let conn = alone.connect(1);
    assert_eq!(alone.call(conn, send("T", 0, "", "one")).code, response_code::SUCCESS);
    commit_at(&mut alone, 1);
    alone.pass(Duration::from_secs(60));
    assert_eq!(carried(&alone), 0);
    assert!(!has_topic(&alone, TOPIC));
}

#[test]
fn a_master_that_is_told_not_to_is_polled() {
    let mut plain = config();
    plain.metadata_in_log = false;
    let mut pair = Pair::new(plain, slave_config());
    pair.send("T", "one");
    commit_at(pair.master(), 1);
    pair.pass(Duration::from_secs(12));
    assert_eq!(pair.slave.committed("G", "T", 0), Some(1));
    assert_eq!(carried(pair.master()), 0);
    assert!(!pair.slave.broker().has_carried_tables());
}

#[test]
fn clients_do_not_write_what_is_carried() {
    let mut pair = pair();
    pair.send("T", "one");
    let conn = pair.master().connect(1);
    let answer = pair.master().call(conn, send(TOPIC, 0, "", "{}"));
    assert_eq!(answer.code, response_code::NO_PERMISSION, "{answer:?}");
    let answer = pair.master().call(conn, delete_topic(TOPIC));
    assert_ne!(answer.code, response_code::SUCCESS);
}
