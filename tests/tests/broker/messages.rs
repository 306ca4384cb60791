//! Sending and pulling.

use std::time::Duration;

use gantry_core::broker::BrokerConfig;
use gantry_core::broker::store::FlushMode;
use gantry_core::io::Disk;
use gantry_core::rng::Rng;
use gantry_core::wire::Command;
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::message::{BatchItem, Entry, property, put_batch_item};
use gantry_core::wire::request::{Header, PullMessageResponse, SendMessageReceipt, SendMessageRequest};
use gantry_disk::MemoryDisk;

use crate::harness::{World, config, poll, pull, pull_header, send, send_header};

/// Bodies and properties of the records in a pull's answer.
fn records(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Ok(Entry::Message(record)) = Entry::decode(bytes) else { panic!("not a record") };
        found.push((String::from_utf8_lossy(record.body).into_owned(), record.properties.to_vec()));
        bytes = &bytes[record.size as usize..];
    }
    found
}

fn bodies(answer: &Command) -> Vec<String> {
    records(&answer.body).into_iter().map(|(body, _)| body).collect()
}

fn receipt(answer: &Command) -> SendMessageReceipt {
    assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    SendMessageReceipt::decode(&answer.ext).expect("a receipt")
}

#[test]
fn what_is_sent_is_pulled() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for n in 0..3 {
        let sent =
            receipt(&world.call(conn, send("T", 1, "TAGS\u{1}a\u{2}UNIQ_KEY\u{1}U\u{2}", &format!("m{n}"))));
        assert_eq!((sent.queue_id, sent.queue_offset), (1, n));
        assert_eq!(sent.transaction_id.as_deref(), Some("U"));
        assert!(sent.msg_id.starts_with("7F00000100002A9F"));
    }
    let answer = world.call(conn, pull("T", 1, 1));
    assert_eq!((answer.code, answer.remark.as_deref()), (code::SUCCESS, Some("FOUND")));
    assert_eq!(bodies(&answer), ["m1", "m2"]);
    let header = PullMessageResponse::decode(&answer.ext).expect("header");
    let expect = PullMessageResponse {
        suggest_which_broker_id: 0,
        next_begin_offset: 3,
        min_offset: 0,
        max_offset: 3,
    };
    assert_eq!(header, expect);
    let (_, properties) = &records(&answer.body)[0];
    for (name, value) in
        [("CLUSTER", "DefaultCluster"), ("MSG_REGION", "DefaultRegion"), ("TRACE_ON", "true")]
    {
        assert_eq!(property(properties, name.as_bytes()), Some(value.as_bytes()));
    }
}

#[test]
fn a_pull_is_answered_by_the_table_of_rocketmq() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for _ in 0..2 {
        world.call(conn, send("T", 0, "TAGS\u{1}a\u{2}", "m"));
    }
    for (queue, offset, tags, expect, remark, next) in [
        (0, 0, "*", code::SUCCESS, "FOUND", 2),
        (0, 0, "b", code::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE", 2),
        (0, 2, "*", code::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE", 2),
        (0, 3, "*", code::PULL_OFFSET_MOVED, "OFFSET_OVERFLOW_BADLY", 2),
        (0, -1, "*", code::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL", 0),
        (1, 0, "*", code::PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE", 0),
        (1, 9, "*", code::PULL_OFFSET_MOVED, "NO_MESSAGE_IN_QUEUE", 0),
    ] {
        let header = gantry_core::wire::request::PullMessageRequest {
            subscription: Some(tags.into()),
            ..pull_header("T", queue, offset)
        };
        let answer = world.call(conn, Command::request(request_code::PULL_MESSAGE, header.to_ext()));
        let got = PullMessageResponse::decode(&answer.ext).expect("all of it must be there");
        assert_eq!(
            (answer.code, answer.remark.as_deref(), got.next_begin_offset),
            (expect, Some(remark), next),
            "{queue} {offset} {tags}"
        );
    }
    for (topic, queue, expect) in [("U", 0, code::TOPIC_NOT_EXIST), ("T", 4, code::INVALID_PARAMETER)] {
        assert_eq!(world.call(conn, pull(topic, queue, 0)).code, expect);
    }
    let by_heartbeat = gantry_core::wire::request::PullMessageRequest {
        sys_flag: 0,
        subscription: None,
        ..pull_header("T", 0, 0)
    };
    let answer = world.call(conn, Command::request(request_code::PULL_MESSAGE, by_heartbeat.to_ext()));
    assert_eq!(answer.code, code::SUBSCRIPTION_NOT_EXIST);
}

#[test]
fn a_held_pull_is_answered_in_the_turn_of_the_message_it_wants() {
    let mut world = World::new(config());
    let (producer, consumer) = (world.connect(1), world.connect(2));
    world.call(producer, send("T", 0, "", "first"));
    let held = world.post(consumer, poll("T", 0, 1, "b", 15_000));
    world.run();
    assert_eq!(world.answer(consumer, held), None, "held");
    world.call(producer, send("T", 0, "TAGS\u{1}a\u{2}", "other"));
    assert_eq!(world.answer(consumer, held), None, "not what it wants");
    world.post(producer, send("T", 0, "TAGS\u{1}b\u{2}", "wanted"));
    world.turn();
    let answer = world.answer(consumer, held).expect("in the same turn");
    assert_eq!(bodies(&answer), ["wanted"]);
    assert_eq!(PullMessageResponse::decode(&answer.ext).expect("header").next_begin_offset, 3);
}

#[test]
fn a_held_pull_ends_with_its_time_or_its_connection() {
    let mut world = World::new(config());
    let (producer, consumer) = (world.connect(1), world.connect(2));
    world.call(producer, send("T", 0, "", "first"));
    let held = world.post(consumer, poll("T", 0, 1, "*", 15_000));
    let moved = world.post(consumer, poll("T", 0, 1, "b", 15_000));
    world.run();
    world.pass(Duration::from_millis(14_999));
    world.call(producer, send("T", 1, "", "elsewhere"));
    assert_eq!(world.answer(consumer, held), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.answer(consumer, held).map(|answer| answer.code), Some(code::PULL_NOT_FOUND));
    assert_eq!(world.answer(consumer, moved).map(|answer| answer.code), Some(code::PULL_NOT_FOUND));
    world.post(consumer, poll("T", 0, 1, "*", 15_000));
    world.run();
    world.close(consumer);
    world.call(producer, send("T", 0, "", "nobody is there"));
    world.wires().sent.clear();
    world.pass(Duration::from_secs(20));
    assert!(world.wires().sent.is_empty());
}

#[test]
fn cold_messages_are_fetched() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for n in 0..20 {
        world.call(conn, send("T", 0, "", &format!("m{n}")));
    }
    world.disk().set_cold_ratio(1000);
    let mut next = 0;
    let mut found = Vec::new();
    while next < 20 {
        let answer = world.call(conn, pull("T", 0, next));
        assert_eq!(answer.code, code::SUCCESS);
        found.extend(bodies(&answer));
        next = PullMessageResponse::decode(&answer.ext).expect("header").next_begin_offset;
    }
    assert_eq!(found, (0..20).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

#[test]
fn the_first_acknowledgement_in_a_topic_waits_for_its_file() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, send("A", 0, "", "m"));
    world.disk().set_automatic(false);
    let new = world.post(conn, send("B", 0, "", "m"));
    let old = world.post(conn, send("A", 0, "", "m"));
    world.turn();
    assert!(world.answer(conn, old).is_some(), "a topic that is there does not wait");
    assert_eq!(world.answer(conn, new), None);
    world.disk().complete_all();
    world.turn();
    assert_eq!(world.answer(conn, new).map(|answer| answer.code), Some(code::SUCCESS));
    let mut topics = world.disk().read_small("config/topics.json", 1 << 20).expect("there");
    assert!(topics.windows(3).any(|window| window == b"\"B\""));
    topics.clear();
}

/// On a broker's first day there is no topics.json yet; what its log holds of a topic that was being made is no reason to take that
/// file for lost, and the topic for one with as many queues as were written to.
#[test]
fn a_topic_whose_making_was_cut_off_is_made_anew() {
    // The death decides whether the replacement of topics.json happened: a seed of the disk names one of both.
    for seed in 0..16 {
        let config = BrokerConfig { metadata_in_log: false, ..config() };
        let mut world = World::over(config, MemoryDisk::new(Rng::from_seed(seed)));
        world.run();
        let conn = world.connect(1);
        world.disk().set_automatic(false);
        let first = world.post(conn, send("T", 0, "", "m"));
        world.turn();
        assert_eq!(world.answer(conn, first), None, "the topic is not durable");
        let mut world = world.kill();
        world.run();
        let conn = world.connect(1);
        for queue in [0, 3] {
            assert_eq!(
                world.call(conn, send("T", queue, "", "m")).code,
                code::SUCCESS,
                "{seed}: queue {queue}"
            );
        }
    }
}

#[test]
fn synchronous_flush_answers_after_the_sync() {
    let mut config = config();
    config.store.flush = FlushMode::Sync;
    let mut world = World::new(config);
    let conn = world.connect(1);
    world.call(conn, send("T", 0, "", "m"));
    world.disk().set_automatic(false);
    let waits = world.post(conn, send("T", 0, "", "m"));
    let careless = world.post(conn, send("T", 0, "WAIT\u{1}false\u{2}", "m"));
    world.turn();
    assert_eq!(world.answer(conn, waits), None);
    assert!(world.answer(conn, careless).is_some());
    assert_eq!(bodies(&world.call_now(conn, pull("T", 0, 0))), ["m"], "nobody sees what is not safe");
    // A slave may have shown them already: they are on their way, and nobody is sent back for having seen them.
    for (offset, expect) in
        [(1, code::PULL_NOT_FOUND), (3, code::PULL_NOT_FOUND), (4, code::PULL_OFFSET_MOVED)]
    {
        assert_eq!(world.call_now(conn, pull("T", 0, offset)).code, expect, "{offset}");
    }
    world.disk().complete_all();
    world.turn();
    assert_eq!(world.answer(conn, waits).map(|answer| answer.code), Some(code::SUCCESS));
    let late = world.post(conn, send("T", 0, "", "late"));
    world.turn();
    world.advance(Duration::from_millis(4_999));
    assert_eq!(world.answer(conn, late), None);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.answer(conn, late).map(|answer| answer.code), Some(code::FLUSH_DISK_TIMEOUT));
}

#[test]
fn batches_are_stored_together() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    let mut body = Vec::new();
    for n in 0..3 {
        let text = format!("m{n}");
        put_batch_item(
            &BatchItem { flag: 0, body: text.as_bytes(), properties: b"TAGS\x01a\x02" },
            &mut body,
        );
    }
    // Java sends 320; the C++ client sends 310 with a mark.
    for (request, mark, first) in
        [(request_code::SEND_BATCH_MESSAGE, false, 0), (request_code::SEND_MESSAGE_V2, true, 3)]
    {
        let header = SendMessageRequest { batch: mark, ..send_header("T", 2, "WAIT\u{1}true\u{2}") };
        let sent =
            receipt(&world.call(conn, Command::request(request, header.to_ext()).with_body(body.clone())));
        assert_eq!(sent.queue_offset, first);
        assert_eq!(sent.msg_id.split(',').count(), 3);
    }
    assert_eq!(bodies(&world.call(conn, pull("T", 2, 1))), ["m1", "m2", "m0", "m1", "m2"]);
    let header = send_header("T", 2, "");
    let cut =
        Command::request(request_code::SEND_BATCH_MESSAGE, header.to_ext()).with_body(body[..40].to_vec());
    assert_eq!(world.call(conn, cut).code, code::MESSAGE_ILLEGAL);
}

#[test]
fn bad_sends_get_the_codes_that_users_know() {
    let mut config = config();
    config.store.body_bytes_max = 1000;
    let mut world = World::new(config);
    let conn = world.connect(1);
    let long = "x".repeat(300);
    for (request, expect) in [
        (send("bad topic", 0, "", "m"), code::INVALID_PARAMETER),
        (send(&long, 0, "", "m"), code::INVALID_PARAMETER),
        (send("SCHEDULE_TOPIC_XXXX", 0, "", "m"), code::NO_PERMISSION),
        (send("T", 4, "", "m"), code::INVALID_PARAMETER),
        (send("T", 0, "", &"x".repeat(1001)), code::MESSAGE_ILLEGAL),
        (send("T", 0, &format!("a\u{1}{}\u{2}", "x".repeat(32_767)), "m"), code::MESSAGE_ILLEGAL),
        (send("T", 0, "a\u{1}b\u{0}\u{2}", "m"), code::MESSAGE_ILLEGAL),
        (
            Command::request(
                request_code::SEND_MESSAGE_V2,
                SendMessageRequest { default_topic: "nowhere".into(), ..send_header("U", 0, "") }.to_ext(),
            ),
            code::TOPIC_NOT_EXIST,
        ),
        (Command::request(9999, gantry_core::wire::Ext::None), code::REQUEST_CODE_NOT_SUPPORTED),
    ] {
        let answer = world.call(conn, request.clone());
        assert_eq!(answer.code, expect, "{request:?} {:?}", answer.remark);
        assert!(answer.remark.is_some());
    }
    let unknown = world.call(conn, Command::request(9999, gantry_core::wire::Ext::None));
    assert_eq!(unknown.remark.as_deref(), Some(" request type 9999 not supported"));
    let bare = Command::request(request_code::SEND_MESSAGE_V2, gantry_core::wire::Ext::None);
    let answer = world.call(conn, bare.clone());
    assert_eq!(answer.code, code::SYSTEM_ERROR);
    assert_eq!(answer.remark.as_deref(), Some("the custom field <producerGroup> is null"));
    world.post(conn, bare.oneway());
    world.run();
    assert!(world.wires().sent.is_empty(), "no answer to what wants none");
}

#[test]
fn a_full_disk_refuses_sends_and_serves_pulls() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    world.call(conn, send("T", 0, "", "m"));
    world.disk().set_capacity(0);
    let refused = (0..100).any(|_| {
        let answer = world.call(conn, send("T", 0, "", &"x".repeat(2000)));
        answer.code == code::SERVICE_NOT_AVAILABLE
    });
    assert!(refused);
    assert_eq!(world.failed, None);
    assert_eq!(world.call(conn, pull("T", 0, 0)).code, code::SUCCESS);
}
