//! Deleting a topic with messages in it: they are gone for good, a topic made again begins at 0, and every crash leaves the one or
//! the other.

use std::time::Duration;

use gantry_core::broker::BrokerRole;
use gantry_core::io::{Disk, FileKind};
use gantry_core::rng::Rng;
use gantry_core::wire::body::{self, HARuntimeInfo};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::request::{DeleteTopicRequest, GetMaxOffsetRequest, Header, QueryMessageRequest};
use gantry_core::wire::{Command, Ext};
use gantry_disk::MemoryDisk;

use crate::harness::{World, commit, config, heartbeat, pull, send};
use crate::slaves::{Pair, slave_config};

fn delete(topic: &str) -> Command {
    let header = DeleteTopicRequest { topic: topic.into() };
    Command::request(request_code::DELETE_TOPIC_IN_BROKER, header.to_ext())
}

fn max_offset(world: &mut World, queue_id: i32) -> i64 {
    let conn = world.connect(78);
    let header = GetMaxOffsetRequest { topic: "T".into(), queue_id, ..GetMaxOffsetRequest::default() };
    let answer = world.call(conn, Command::request(request_code::GET_MAX_OFFSET, header.to_ext()));
    answer.ext.get("offset").expect("an offset").parse().expect("a number")
}

/// How many messages with a key are found in the topic.
fn by_key(world: &mut World, key: &str) -> usize {
    let conn = world.connect(79);
    let header = QueryMessageRequest {
        topic: "T".into(),
        key: key.into(),
        max_num: 32,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        ..QueryMessageRequest::default()
    };
    let answer = world.call(conn, Command::request(request_code::QUERY_MESSAGE, header.to_ext()));
    answer.body.windows(key.len()).filter(|bytes| *bytes == key.as_bytes()).count()
}

fn is_on_disk(world: &mut World) -> bool {
    world.disk().files().any(|(path, _)| path.starts_with("consumequeue/T/"))
}

/// Messages in two queues of a topic, one of them committed, all of it on the disk.
fn full(seed: u64) -> World {
    let mut config = config();
    config.store.spill_entries = 2;
    config.store.queue_file_entries = 4;
    let mut world = World::over(config, MemoryDisk::new(Rng::from_seed(seed)));
    world.run();
    let conn = world.connect(1);
    for n in 0..10 {
        assert_eq!(world.call(conn, send("T", n % 2, "KEYS\x01old\x02", "m")).code, code::SUCCESS);
    }
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    assert_eq!(world.call(conn, commit("G", "T", 0, 3)).code, code::SUCCESS);
    world.pass(Duration::from_secs(30));
    assert!(is_on_disk(&mut world));
    world
}

/// Whether the topic is as [`full`] left it; else nothing of it may be left, and one made again begins at 0.
fn is_whole(world: &mut World) -> bool {
    let conn = world.connect(2);
    let maxima = [max_offset(world, 0), max_offset(world, 1)];
    if world.call(conn, pull("T", 0, 0)).code == code::SUCCESS {
        assert_eq!((maxima, world.committed("G", "T", 0)), ([5, 5], Some(3)), "the topic is as it was");
        assert_eq!(by_key(world, "old"), 10);
        return true;
    }
    assert_eq!(world.committed("G", "T", 0), None, "nothing is committed in it");
    world.pass(Duration::from_secs(30));
    assert!(!is_on_disk(world), "its queues are gone");
    for queue_id in 0..2 {
        assert_eq!(world.call(conn, send("T", queue_id, "KEYS\x01new\x02", "n")).code, code::SUCCESS);
        assert_eq!(max_offset(world, queue_id), 1, "it begins at 0");
        let found = world.call(conn, pull("T", queue_id, 0));
        assert_eq!(found.code, code::SUCCESS);
        assert!(found.body.windows(4).any(|bytes| bytes == b"\x01new"), "with the new message");
    }
    assert_eq!((by_key(world, "old"), by_key(world, "new")), (0, 2));
    false
}

#[test]
fn a_topic_made_again_begins_at_0_in_every_life() {
    let mut world = full(1);
    let conn = world.connect(1);
    assert_eq!(world.call(conn, delete("T")).code, code::SUCCESS);
    assert_eq!(world.call(conn, pull("T", 0, 0)).code, code::TOPIC_NOT_EXIST);
    assert!(!is_whole(&mut world));
    assert_eq!(world.call(conn, heartbeat("c", "G", "T", "*", 1)).code, code::SUCCESS);
    assert_eq!(world.call(conn, commit("G", "T", 0, 1)).code, code::SUCCESS);
    for n in 0..3 {
        world = if n == 1 { world.lose_power(n) } else { world.kill() };
        world.run();
        assert_eq!([max_offset(&mut world, 0), max_offset(&mut world, 1)], [1, 1]);
        assert_eq!((by_key(&mut world, "old"), by_key(&mut world, "new")), (0, 2));
        assert_eq!(world.committed("G", "T", 0), Some(1), "what was committed since is kept");
        world.pass(Duration::from_secs(30));
    }
    // And once more, the topic of a topic.
    let conn = world.connect(1);
    assert_eq!(world.call(conn, delete("T")).code, code::SUCCESS);
    assert_eq!(world.call(conn, send("T", 0, "", "m")).code, code::SUCCESS);
    assert_eq!(max_offset(&mut world, 0), 1);
    assert_eq!(world.call(conn, delete("nowhere")).code, code::SUCCESS, "as RocketMQ says");
    assert_eq!(world.call(conn, delete("TBW102")).code, code::INVALID_PARAMETER);
}

#[test]
fn a_crash_at_any_point_leaves_the_topic_or_its_deletion() {
    let (mut whole, mut gone) = (0, 0);
    for operation in 1..80 {
        let mut world = full(operation);
        world.disk().kill_at_operation(operation % 20 + 1);
        let conn = world.connect(1);
        let opaque = world.post(conn, delete("T"));
        for _ in 0..100 {
            if world.disk().is_dead() || !world.turn() {
                break;
            }
        }
        let answered = world.answer(conn, opaque).is_some_and(|answer| answer.code == code::SUCCESS);
        let mut world = world.kill();
        world.run();
        let is_there = is_whole(&mut world);
        assert!(!(is_there && answered), "what was answered is kept: operation {operation}");
        whole += u32::from(is_there);
        gone += u32::from(!is_there);
    }
    assert!(whole > 0 && gone > 0, "{whole} {gone}");
}

#[test]
fn power_lost_at_any_point_leaves_the_topic_or_its_deletion() {
    let (mut whole, mut gone) = (0, 0);
    for seed in 0..60 {
        let mut world = full(seed);
        world.disk().set_automatic(false);
        let conn = world.connect(1);
        let opaque = world.post(conn, delete("T"));
        for _ in 0..seed % 12 {
            world.turn();
            let first = world.disk().pending().next().map(|pending| pending.ticket);
            if let Some(first) = first {
                world.disk().complete(first, Ok(()));
            }
        }
        world.turn();
        let answered = world.answer(conn, opaque).is_some();
        let mut world = world.lose_power(seed);
        world.run();
        let is_there = is_whole(&mut world);
        assert!(!(is_there && answered), "what was answered is kept: seed {seed}");
        whole += u32::from(is_there);
        gone += u32::from(!is_there);
    }
    assert!(whole > 0 && gone > 0, "{whole} {gone}");
}

#[test]
fn what_the_log_keeps_of_a_deleted_topic_is_forgotten_with_it() {
    let mut config = config();
    config.store.segment_bytes = 4096;
    config.store.file_reserved = Duration::from_secs(60);
    config.store.delete_hours = (0..24).collect();
    let mut world = World::new(config);
    let conn = world.connect(1);
    for _ in 0..10 {
        assert_eq!(world.call(conn, send("T", 0, "", "m")).code, code::SUCCESS);
    }
    assert_eq!(world.call(conn, delete("T")).code, code::SUCCESS);
    let list = |world: &mut World| {
        let topics = world.disk().peek("config/topics.json").expect("a file");
        String::from_utf8(topics).expect("text").contains("gantryDeletedTopics")
    };
    assert!(list(&mut world));
    for _ in 0..100 {
        assert_eq!(world.call(conn, send("other", 0, "", "m")).code, code::SUCCESS);
        world.pass(Duration::from_secs(3));
    }
    world.pass(Duration::from_secs(100));
    assert!(world.broker().store().log_min() > 0, "retention went on");
    assert!(!list(&mut world), "the list is empty again");
}

#[test]
fn a_slave_deletes_what_its_master_deleted() {
    let mut pair = Pair::new(config(), slave_config());
    for _ in 0..3 {
        pair.send("T", "old");
    }
    pair.pass(Duration::from_secs(12));
    assert_eq!(max_offset(&mut pair.slave, 0), 3);
    let conn = pair.master().connect(3);
    assert_eq!(pair.master().call(conn, delete("T")).code, code::SUCCESS);
    // The log tells first, then the list.
    pair.send("T", "new");
    pair.pass(Duration::from_millis(500));
    assert_eq!(max_offset(&mut pair.slave, 0), 1, "a record with offset 0 begins the queue anew");
    pair.pass(Duration::from_secs(12));
    pair.send("T", "new");
    pair.pass(Duration::from_secs(1));
    pair.restart_slave();
    pair.pass(Duration::from_secs(5));
    assert_eq!(max_offset(&mut pair.slave, 0), 2);
    // Without anything new in it, the list alone tells.
    let conn = pair.master().connect(4);
    assert_eq!(pair.master().call(conn, delete("T")).code, code::SUCCESS);
    pair.pass(Duration::from_secs(12));
    assert_eq!(max_offset(&mut pair.slave, 0), 0);
    pair.lose_master();
    let slave = std::mem::replace(&mut pair.slave, World::new(config()));
    let mut promoted = slave.kill_with(|mut config| {
        (config.role, config.broker_id) = (BrokerRole::AsyncMaster, 0);
        config
    });
    promoted.run();
    let conn = promoted.connect(5);
    assert_eq!(promoted.call(conn, send("T", 0, "", "newest")).code, code::SUCCESS);
    assert_eq!(max_offset(&mut promoted, 0), 1, "the promoted one goes on where the deletion left it");
}

#[test]
fn unused_topics_are_cleaned() {
    let mut world = full(1);
    let mut topics = world.disk().peek("config/topics.json").expect("a file");
    // An older broker forgot the topic and left its queues.
    let at = topics.windows(4).position(|bytes| bytes == b"\"T\":").expect("the topic");
    topics[at + 1] = b'U';
    let name = topics.windows(15).position(|bytes| bytes == b"\"topicName\":\"T\"").expect("its name");
    topics[name + 13] = b'U';
    overwrite(world.disk(), "config/topics.json", &topics);
    let mut world = world.kill();
    world.run();
    assert!(is_on_disk(&mut world));
    let conn = world.connect(1);
    let clean = Command::request(request_code::CLEAN_UNUSED_TOPIC, Ext::None);
    assert_eq!(world.call(conn, clean).code, code::SUCCESS);
    assert!(!is_whole(&mut world));
}

fn overwrite(disk: &mut MemoryDisk, path: &str, bytes: &[u8]) {
    disk.delete(path).expect("it is there");
    let file = disk.create(path, 0, FileKind::Journal).expect("room");
    disk.write(file, 0, bytes).expect("room");
}

#[test]
fn a_master_and_its_slave_tell_how_replication_goes() {
    let mut pair = Pair::new(config(), slave_config());
    pair.send("T", "m");
    pair.pass(Duration::from_secs(6));
    let end = pair.master().broker().store().log_end() as i64;
    let ask = Command::request(request_code::GET_BROKER_HA_STATUS, Ext::None);
    let conn = pair.master().connect(3);
    let answer = pair.master().call(conn, ask.clone());
    let told: HARuntimeInfo = body::decode(&answer.body).expect("a status");
    assert!(told.master);
    assert_eq!((told.master_commit_log_max_offset, told.in_sync_slave_nums), (end, 1));
    let slave = told.ha_connection_info.first().expect("a slave");
    assert_eq!((slave.addr.as_str(), slave.slave_ack_offset, slave.diff), ("127.0.0.1:50000", end, 0));
    assert_eq!((slave.transfer_from_where, slave.in_sync), (end, true));
    let conn = pair.slave.connect(3);
    let answer = pair.slave.call(conn, ask);
    let told: HARuntimeInfo = body::decode(&answer.body).expect("a status");
    let client = told.ha_client_runtime_info;
    assert!(!told.master && told.ha_connection_info.is_empty());
    assert_eq!((client.master_addr.as_deref(), client.max_offset), (Some("127.0.0.1:10912"), end));
    assert!(client.last_read_timestamp > 0 && client.last_write_timestamp > 0);
}
