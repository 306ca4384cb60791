//! Delayed messages, messages sent back, dead letters.

use std::time::Duration;

use gantry_core::wire::Command;
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::message::{Entry, property};
use gantry_core::wire::request::{
    ConsumerSendMsgBackRequest, Header, PullMessageResponse, ViewMessageRequest,
};

use crate::harness::{World, config, heartbeat, pull, send};

/// Bodies in a queue, from an offset on.
fn bodies(world: &mut World, topic: &str, queue: i32, offset: i64) -> Vec<String> {
    records(world, topic, queue, offset).into_iter().map(|(body, _, _)| body).collect()
}

/// Body, reconsume times and properties.
fn records(world: &mut World, topic: &str, queue: i32, offset: i64) -> Vec<(String, i32, Vec<u8>)> {
    let conn = world.connect(99);
    let mut found = Vec::new();
    let mut next = offset;
    // A reply ends where something is not in memory.
    loop {
        let answer = world.call(conn, pull(topic, queue, next));
        if answer.code != code::SUCCESS {
            return found;
        }
        next = PullMessageResponse::decode(&answer.ext).expect("header").next_begin_offset;
        let mut bytes = &answer.body[..];
        while !bytes.is_empty() {
            let Ok(Entry::Message(record)) = Entry::decode(bytes) else { panic!("not a record") };
            let body = String::from_utf8_lossy(record.body).into_owned();
            found.push((body, record.reconsume_times, record.properties.to_vec()));
            bytes = &bytes[record.size as usize..];
        }
    }
}

#[test]
fn a_delayed_message_comes_at_its_time() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for (level, secs) in [(1, 1), (3, 10), (18, 7200), (99, 7200)] {
        let sent = world.call(conn, send("T", 2, &format!("DELAY\u{1}{level}\u{2}"), &format!("{level}")));
        assert_eq!(sent.code, code::SUCCESS, "{:?}", sent.remark);
        world.pass(Duration::from_millis(secs * 1000 - 1));
        assert!(!bodies(&mut world, "T", 2, 0).contains(&level.to_string()), "{level}");
        world.pass(Duration::from_millis(1));
        assert!(bodies(&mut world, "T", 2, 0).contains(&level.to_string()), "{level}");
    }
    let last = records(&mut world, "T", 2, 3).pop().expect("there").2;
    for (name, value) in [("DELAY", "18"), ("REAL_TOPIC", "T"), ("REAL_QID", "2")] {
        assert_eq!(property(&last, name.as_bytes()), Some(value.as_bytes()));
    }
}

#[test]
fn delayed_messages_survive_a_death_and_come_once() {
    let mut world = World::new(config());
    for n in 0..10 {
        let conn = world.connect(1);
        world.call(conn, send("T", 0, "DELAY\u{1}2\u{2}", &format!("m{n}")));
        world.pass(Duration::from_secs(1));
        world = world.kill();
        world.run();
    }
    world.pass(Duration::from_secs(10));
    assert_eq!(bodies(&mut world, "T", 0, 0), (0..10).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

#[test]
fn cold_delayed_messages_are_fetched() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for n in 0..10 {
        world.call(conn, send("T", 0, "DELAY\u{1}1\u{2}", &format!("m{n}")));
    }
    world.disk().set_cold_ratio(1000);
    world.pass(Duration::from_secs(2));
    world.disk().set_cold_ratio(0);
    assert_eq!(bodies(&mut world, "T", 0, 0).len(), 10);
}

fn back(offset: i64, level: i32, max: Option<i32>) -> Command {
    let header = ConsumerSendMsgBackRequest {
        offset,
        group: "G".into(),
        delay_level: level,
        origin_topic: Some("T".into()),
        max_reconsume_times: max,
        ..ConsumerSendMsgBackRequest::default()
    };
    Command::request(request_code::CONSUMER_SEND_MSG_BACK, header.to_ext())
}

/// The commit-log offset of the last message of a queue.
fn place(world: &mut World, topic: &str, queue: i32, offset: i64) -> i64 {
    let conn = world.connect(98);
    let answer = world.call(conn, pull(topic, queue, offset));
    let Ok(Entry::Message(record)) = Entry::decode(&answer.body) else { panic!("not a record") };
    record.physical_offset
}

#[test]
fn a_message_sent_back_is_retried_with_growing_delays_and_then_dead() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    world.call(conn, send("T", 0, "TAGS\u{1}a\u{2}", "m"));
    let mut at = place(&mut world, "T", 0, 0);
    for (times, secs) in [(1, 10), (2, 30), (3, 60)] {
        assert_eq!(world.call(conn, back(at, 0, Some(3))).code, code::SUCCESS);
        world.pass(Duration::from_millis(secs * 1000 - 1));
        assert!(records(&mut world, "%RETRY%G", 0, times - 1).is_empty(), "{times}");
        world.pass(Duration::from_millis(1));
        let (body, reconsume_times, properties) =
            records(&mut world, "%RETRY%G", 0, times - 1).pop().expect("retried");
        assert_eq!((body.as_str(), i64::from(reconsume_times)), ("m", times));
        assert_eq!(property(&properties, b"RETRY_TOPIC"), Some(&b"T"[..]));
        assert_eq!(property(&properties, b"TAGS"), Some(&b"a"[..]));
        assert!(property(&properties, b"ORIGIN_MESSAGE_ID").is_some());
        at = place(&mut world, "%RETRY%G", 0, times - 1);
    }
    assert_eq!(world.call(conn, back(at, 0, Some(3))).code, code::SUCCESS);
    assert_eq!(bodies(&mut world, "%DLQ%G", 0, 0), ["m"]);
    // The client may say so at once.
    assert_eq!(world.call(conn, back(at, -1, None)).code, code::SUCCESS);
    assert_eq!(bodies(&mut world, "%DLQ%G", 0, 0), ["m", "m"]);
}

/// A power loss took what was consumed, and something else lies there now.
#[test]
fn another_message_at_the_place_is_not_sent_back() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    world.call(conn, send("U", 0, "UNIQ_KEY\u{1}u1\u{2}", "m"));
    let offset = place(&mut world, "U", 0, 0);
    let mut send_back = |topic: &str, id: Option<&str>| {
        let header = ConsumerSendMsgBackRequest {
            offset,
            group: "G".into(),
            origin_topic: Some(topic.into()),
            origin_msg_id: id.map(Into::into),
            ..ConsumerSendMsgBackRequest::default()
        };
        world.call(conn, Command::request(request_code::CONSUMER_SEND_MSG_BACK, header.to_ext())).code
    };
    assert_eq!(send_back("T", None), code::SYSTEM_ERROR);
    assert_eq!(send_back("T", Some("u2")), code::SYSTEM_ERROR);
    assert_eq!(send_back("U", Some("u2")), code::SYSTEM_ERROR);
    // Clients leave the namespace of a topic out.
    assert_eq!(send_back("T", Some("u1")), code::SUCCESS);
    // Some know a message by its place alone.
    let place = format!("7F00000100002A9F{offset:016X}");
    assert_eq!(send_back("T", Some(&place)), code::SYSTEM_ERROR);
    assert_eq!(send_back("U", Some(&place)), code::SUCCESS);
    assert_eq!(send_back("U", None), code::SUCCESS);
}

#[test]
fn what_is_no_message_cannot_be_sent_back_or_seen() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    world.call(conn, send("T", 0, "", &"x".repeat(10_000)));
    let at = place(&mut world, "T", 0, 0);
    for (offset, expect) in [
        (at, code::SUCCESS),
        (at + 1, code::SYSTEM_ERROR),
        (at + 1_000_000, code::SYSTEM_ERROR),
        (-1, code::SYSTEM_ERROR),
        (i64::MAX, code::SYSTEM_ERROR),
    ] {
        assert_eq!(world.call(conn, back(offset, 1, None)).code, expect, "{offset}");
        let header = ViewMessageRequest { topic: None, offset };
        for cold in [0, 1000] {
            world.disk().set_cold_ratio(cold);
            let seen = world.call(conn, Command::request(request_code::VIEW_MESSAGE_BY_ID, header.to_ext()));
            assert_eq!(seen.code, expect, "{offset}");
            assert_eq!(seen.body.len() > 10_000, expect == code::SUCCESS);
        }
        world.disk().set_cold_ratio(0);
    }
}

#[test]
fn an_ordered_group_that_gives_up_goes_to_the_dead_letters() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    let retry = |times: i32, max: i32| {
        let header = gantry_core::wire::request::SendMessageRequest {
            reconsume_times: times,
            max_reconsume_times: Some(max),
            ..crate::harness::send_header("%RETRY%G", 0, "DELAY\u{1}1\u{2}")
        };
        Command::request(request_code::SEND_MESSAGE_V2, header.to_ext()).with_body(&b"m"[..])
    };
    assert_eq!(world.call(conn, retry(2, 2)).code, code::SUCCESS);
    assert!(bodies(&mut world, "%RETRY%G", 0, 0).is_empty(), "delayed");
    assert_eq!(world.call(conn, retry(3, 2)).code, code::SUCCESS);
    assert_eq!(bodies(&mut world, "%DLQ%G", 0, 0), ["m"]);
    world.pass(Duration::from_secs(2));
    assert_eq!(bodies(&mut world, "%RETRY%G", 0, 0), ["m"]);
}
