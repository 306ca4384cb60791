//! What the tools print, where they show the text of the broker as it came: found by comparison with RocketMQ's broker.

use std::time::Duration;

use gantry_core::wire::body::{self, BrokerStatsData, KVTable};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::message::Entry;
use gantry_core::wire::request::{Header, QueryMessageRequest, ViewBrokerStatsDataRequest};
use gantry_core::wire::{Command, Ext};

use crate::harness::{World, config, send};

/// A broker that has five messages with one key, the newest with the body `4`.
fn filled() -> World {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for n in 0..5 {
        let sent = world.call(conn, send("T", n % 2, "KEYS\u{1}k\u{2}", &n.to_string()));
        assert_eq!(sent.code, code::SUCCESS);
    }
    world
}

fn ask(world: &mut World, request: i32, ext: Ext) -> Command {
    let conn = world.connect(77);
    world.call(conn, Command::request(request, ext))
}

#[test]
fn messages_of_a_key_come_oldest_first_and_are_the_newest() {
    let mut world = filled();
    for (max, expect) in [(64, &["0", "1", "2", "3", "4"][..]), (2, &["3", "4"])] {
        let header = QueryMessageRequest {
            topic: "T".into(),
            key: "k".into(),
            max_num: max,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            ..QueryMessageRequest::default()
        };
        let answer = ask(&mut world, request_code::QUERY_MESSAGE, header.to_ext());
        let mut bytes = &answer.body[..];
        let mut bodies = Vec::new();
        while let Ok(Entry::Message(record)) = Entry::decode(bytes) {
            bodies.push(String::from_utf8(record.body.to_vec()).expect("text"));
            bytes = &bytes[record.size as usize..];
        }
        assert_eq!(bodies, expect, "at most {max}");
    }
}

#[test]
fn what_was_sent_before_the_first_reading_counts() {
    let mut world = filled();
    world.pass(Duration::from_secs(11));
    let header = ViewBrokerStatsDataRequest { stats_name: "TOPIC_PUT_NUMS".into(), stats_key: "T".into() };
    let answer = ask(&mut world, request_code::VIEW_BROKER_STATS_DATA, header.to_ext());
    let data: BrokerStatsData = body::decode(&answer.body).expect("figures");
    assert_eq!((data.stats_minute.sum, data.stats_hour.sum, data.stats_day.sum), (5, 5, 5));
}

#[test]
fn a_producer_is_shown_with_its_address_as_java_prints_it() {
    let mut world = filled();
    let conn = world.connect(5);
    let said = r#"{"clientID":"p@1","consumerDataSet":[],"producerDataSet":[{"groupName":"P"}]}"#;
    let heartbeat = Command::request(request_code::HEART_BEAT, Ext::None).with_body(said.as_bytes());
    assert_eq!(world.call(conn, heartbeat).code, code::SUCCESS);
    let answer = ask(&mut world, request_code::GET_ALL_PRODUCER_INFO, Ext::None);
    let text = std::str::from_utf8(&answer.body).expect("text");
    assert!(text.contains(r#""P":[{"clientId":"p@1""#) && text.contains(r#""remoteIP":"/"#), "{text}");
}

#[test]
fn figures_have_rocketmqs_names_and_forms() {
    let mut world = filled();
    let answer = ask(&mut world, request_code::GET_BROKER_RUNTIME_INFO, Ext::None);
    let table = body::decode::<KVTable>(&answer.body).expect("a table").table;
    for (name, expect) in [
        ("brokerVersion", None),
        ("remainHowManyDataToCommit", None),
        ("putMessageDistributeTime", Some("null")),
        ("remainTransientStoreBufferNumbs", Some("2147483647")),
        ("sendThreadPoolQueueCapacity", Some("10000")),
        ("queryThreadPoolQueueCapacity", Some("20000")),
        ("brokerVersionDesc", Some("V5_5_0")),
    ] {
        assert_eq!(table.get(name).map(String::as_str), expect, "{name}");
    }
    assert!(table["remainHowManyDataToFlush"].ends_with('B'), "a size with its unit");
}
