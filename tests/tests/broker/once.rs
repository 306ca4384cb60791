//! Messages that are to be stored once, however often their sends arrive; and everybody else's, which are not touched.

use std::time::Duration;

use gantry_core::broker::store::FlushMode;
use gantry_core::io::ConnId;
use gantry_core::rng::Rng;
use gantry_core::wire::Command;
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::message::{BatchItem, Entry, property, put_batch_item};
use gantry_core::wire::request::{DeleteTopicRequest, Header, SendMessageReceipt, SendMessageRequest};
use gantry_disk::MemoryDisk;

use crate::harness::{World, config, pull, send, send_header};

/// One attempt at one message; `again` says that an earlier one may have been stored.
fn once(producer: &str, key: &str, again: bool) -> Command {
    once_with(producer, &format!("UNIQ_KEY\u{1}{key}\u{2}"), again)
}

fn once_with(producer: &str, properties: &str, again: bool) -> Command {
    let once = Some(producer.to_owned().into());
    // The second attempt may have chosen another queue.
    let header = SendMessageRequest { once, again, ..send_header("T", i32::from(again), properties) };
    Command::request(request_code::SEND_MESSAGE_V2, header.to_ext()).with_body("m")
}

fn batch(keys: &[&str], again: bool) -> Command {
    let mut body = Vec::new();
    for key in keys {
        let properties = format!("UNIQ_KEY\u{1}{key}\u{2}");
        put_batch_item(&BatchItem { flag: 0, body: b"m", properties: properties.as_bytes() }, &mut body);
    }
    let header =
        SendMessageRequest { once: Some("P1".into()), again, batch: true, ..send_header("T", 0, "") };
    Command::request(request_code::SEND_BATCH_MESSAGE, header.to_ext()).with_body(body)
}

fn receipt(answer: &Command) -> SendMessageReceipt {
    assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    SendMessageReceipt::decode(&answer.ext).expect("a receipt")
}

/// The place that an honoured send was told.
fn place(answer: &Command) -> (i32, i64, String) {
    let receipt = receipt(answer);
    assert_eq!(receipt.once, Some(true), "honoured");
    (receipt.queue_id, receipt.queue_offset, receipt.msg_id)
}

/// The unique keys in the first two queues of the topic.
fn keys(world: &mut World, conn: ConnId) -> Vec<String> {
    let mut keys = Vec::new();
    for queue in 0..2 {
        let answer = world.call(conn, pull("T", queue, 0));
        let mut rest = &answer.body[..];
        while !rest.is_empty() {
            let Ok(Entry::Message(record)) = Entry::decode(rest) else { panic!("not a record") };
            let key = property(record.properties, b"UNIQ_KEY").expect("a key");
            keys.push(String::from_utf8_lossy(key).into_owned());
            rest = &rest[record.size as usize..];
        }
    }
    keys
}

#[test]
fn a_plain_client_may_send_the_same_message_twice() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    // Also one that hands on properties of what it has read.
    for properties in ["UNIQ_KEY\u{1}U\u{2}", "UNIQ_KEY\u{1}U\u{2}GANTRY_ONCE\u{1}P1\u{2}"] {
        let sent = receipt(&world.call(conn, send("T", 0, properties, "m")));
        assert_eq!(sent.once, None);
    }
    assert_eq!(place(&world.call(conn, once("P1", "U", true))).1, 0, "none of those was this producer's");
    assert_eq!(keys(&mut world, conn), ["U", "U", "U"]);
}

#[test]
fn a_further_attempt_gets_the_answer_of_the_first() {
    for cold in [0, 1000] {
        let mut world = World::new(config());
        let conn = world.connect(1);
        for n in 0..3 {
            world.call(conn, once("P1", &format!("K{n}"), false));
        }
        let first = place(&world.call(conn, once("P1", "K", false)));
        world.disk().set_cold_ratio(cold);
        assert_eq!(place(&world.call(conn, once("P1", "K", true))), first);
        assert_ne!(place(&world.call(conn, once("P2", "K", true))), first, "another producer's");
        world.disk().set_cold_ratio(0);
        assert_eq!(keys(&mut world, conn), ["K0", "K1", "K2", "K", "K"]);
    }
}

#[test]
fn attempts_that_meet_in_one_turn_are_stored_once() {
    for (again, cold) in [([false, true], 0), ([true, false], 0), ([true, true], 0), ([true, false], 1000)] {
        let mut world = World::new(config());
        let conn = world.connect(1);
        world.call(conn, once("P1", "other", false));
        world.disk().set_cold_ratio(cold);
        let posted = again.map(|again| world.post(conn, once("P1", "K", again)));
        world.run();
        let places = posted.map(|opaque| place(&world.answer(conn, opaque).expect("an answer")));
        assert_eq!(places[0], places[1]);
        world.disk().set_cold_ratio(0);
        assert_eq!(keys(&mut world, conn), ["other", "K"], "{again:?}");
    }
}

#[test]
fn a_first_attempt_may_come_after_a_later_one() {
    let mut config = config();
    config.once_window = Duration::from_secs(60);
    let mut world = World::new(config);
    let conn = world.connect(1);
    let later = place(&world.call(conn, once("P1", "K", true)));
    world.pass(Duration::from_secs(50));
    assert_eq!(place(&world.call(conn, once("P1", "K", false))), later);
    world.pass(Duration::from_secs(71));
    world.call(conn, once("P1", "other", true));
    assert_ne!(place(&world.call(conn, once("P1", "K", false))), later, "the window is over");
}

#[test]
fn no_attempt_is_answered_before_the_record_is_safe() {
    let mut config = config();
    config.store.flush = FlushMode::Sync;
    let mut world = World::new(config);
    let conn = world.connect(1);
    world.call(conn, once("P1", "other", false));
    world.disk().set_automatic(false);
    let posted = [false, true, true].map(|again| world.post(conn, once("P1", "K", again)));
    for _ in 0..5 {
        world.turn();
    }
    assert!(posted.iter().all(|opaque| world.answer(conn, *opaque).is_none()), "nothing is synced");
    world.disk().set_automatic(true);
    world.run();
    let answers = posted.map(|opaque| world.answer(conn, opaque));
    let places = answers.map(|answer| place(&answer.expect("synced")));
    assert!(places[0] == places[1] && places[1] == places[2]);
}

#[test]
fn restarts_know_what_is_stored_and_what_was_lost() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    let first = place(&world.call(conn, once("P1", "K", false)));
    let mut world = world.kill();
    world.run();
    let conn = world.connect(1);
    assert_eq!(place(&world.call(conn, once("P1", "K", true))), first);
    world.pass(Duration::from_secs(60));
    world.call(conn, once("P1", "lost", false));
    // Before anything is synced.
    let mut world = world.lose_power(3);
    world.run();
    let conn = world.connect(1);
    assert_eq!(place(&world.call(conn, once("P1", "K", true))), first);
    let lost = keys(&mut world, conn).iter().all(|key| key != "lost");
    assert!(lost, "the seed takes it");
    world.call(conn, once("P1", "lost", true));
    world.call(conn, once("P1", "lost", true));
    assert_eq!(keys(&mut world, conn).iter().filter(|key| *key == "lost").count(), 1);
}

#[test]
fn of_a_batch_the_missing_rest_is_stored() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    let first = place(&world.call(conn, batch(&["a", "b"], false)));
    assert_eq!(place(&world.call(conn, batch(&["a", "b"], true))), first);
    world.call(conn, once("P1", "between", false));
    let told = receipt(&world.call(conn, batch(&["a", "b", "c"], true)));
    assert_eq!((told.queue_offset, told.queue_offsets.as_deref()), (0, Some("0,1,3")));
    assert_eq!(told.msg_id.split(',').count(), 3);
    let again = receipt(&world.call(conn, batch(&["a", "b", "c"], true)));
    assert_eq!(again, told);
    assert_eq!(keys(&mut world, conn), ["a", "b", "between", "c"]);
}

#[test]
fn a_delayed_message_is_delivered_once() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    let properties = "UNIQ_KEY\u{1}K\u{2}DELAY\u{1}1\u{2}";
    let first = place(&world.call(conn, once_with("P1", properties, false)));
    assert_eq!(place(&world.call(conn, once_with("P1", properties, true))), first);
    world.pass(Duration::from_secs(3));
    assert_eq!(place(&world.call(conn, once_with("P1", properties, true))), first);
    world.pass(Duration::from_secs(3));
    assert_eq!(keys(&mut world, conn), ["K"]);
}

#[test]
fn after_the_deletion_of_its_topic_a_message_is_stored_anew() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, once("P1", "K", false));
    let header = DeleteTopicRequest { topic: "T".into() };
    world.call(conn, Command::request(request_code::DELETE_TOPIC_IN_BROKER, header.to_ext()));
    world.call(conn, once("P1", "K", true));
    assert_eq!(keys(&mut world, conn), ["K"]);
}

#[test]
fn what_cannot_be_done_is_not_promised() {
    let mut config = config();
    config.store.index = false;
    let mut without_index = World::new(config);
    let conn = without_index.connect(1);
    assert_eq!(receipt(&without_index.call(conn, once("P1", "K", false))).once, None);
    let mut world = World::new(crate::harness::config());
    let conn = world.connect(1);
    let long = "x".repeat(256);
    for request in [once_with("P1", "", false), once("", "K", false), once(&long, "K", false)] {
        assert_eq!(receipt(&world.call(conn, request)).once, None);
    }
}

#[test]
fn a_storm_of_attempts_stores_each_message_once() {
    for seed in 0..20 {
        let mut config = config();
        config.store.index_slots = 50;
        config.store.index_entries = 120;
        config.store.index_batch_entries = 16;
        let mut world = World::over(config, MemoryDisk::new(Rng::from_seed(seed)));
        world.run();
        let conn = world.connect(1);
        let key = |n: u64| format!("k{n}");
        for n in 0..60 {
            let producer = if n % 2 == 0 { "P1" } else { "P2" };
            world.call(conn, once(producer, &key(n / 2), false));
        }
        world.disk().set_cold_ratio(700);
        for round in 0..400 {
            let n = (round * 7) % 60;
            let producer = if n % 2 == 0 { "P1" } else { "P2" };
            world.post(conn, once(producer, &key(n / 2), true));
            if round % 50 == 0 {
                world.post(conn, send("U", 0, "KEYS\u{1}a b c d e f\u{2}", "m"));
            }
        }
        world.run();
        world.disk().set_cold_ratio(0);
        let mut stored = 0;
        let store = world.broker().store();
        store.for_each_queue(|name, _, queue| {
            if name == "T" {
                stored += store.max_offset(queue);
            }
        });
        assert_eq!(stored, 60, "seed {seed}");
    }
}
