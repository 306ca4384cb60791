//! Well-formed nonsense: any request code with any fields and any body is answered, and nobody else notices.
//!
//! The fields bear names that requests have, with values that some of them have, so that most requests get past their header.

use std::borrow::Cow;
use std::time::Duration;

use gantry_core::io::{Input, Protocol};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::{Command, Ext, Link, Packet, SerializeType};
use proptest::prelude::*;

use crate::harness::{World, config, heartbeat, poll, pull, send};

/// Names of header fields, the short ones of a send among them.
const NAMES: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "attributes",
    "bornTimestamp",
    "boundaryType",
    "clientID",
    "commitOffset",
    "consumerGroup",
    "count",
    "defaultTopic",
    "defaultTopicQueueNums",
    "delayLevel",
    "destGroup",
    "expressionType",
    "group",
    "groupName",
    "index",
    "isForce",
    "key",
    "maxMsgNums",
    "maxNum",
    "maxOffset",
    "maxReconsumeTimes",
    "offset",
    "order",
    "originMsgId",
    "perm",
    "producerGroup",
    "properties",
    "queueId",
    "queueOffset",
    "readQueueNums",
    "readable",
    "reconsumeTimes",
    "srcGroup",
    "statsKey",
    "statsName",
    "subVersion",
    "subscription",
    "suspendTimeoutMillis",
    "sysFlag",
    "timestamp",
    "topic",
    "topicFilterType",
    "topicList",
    "unitMode",
    "writeQueueNums",
    "beginTimestamp",
    "endTimestamp",
    "lastKey",
    "msgId",
    "value",
];

const VALUES: &[&str] = &[
    "",
    " ",
    "0",
    "1",
    "-1",
    "4",
    "7",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1e9",
    "0x10",
    "null",
    "true",
    "FALSE",
    "T",
    "T;T",
    "G",
    "TBW102",
    "%RETRY%G",
    "%DLQ%G",
    "SCHEDULE_TOPIC_XXXX",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "*",
    "a || b",
    "SQL92",
    "a > 3",
    "../../etc",
    "a/b",
    "\u{0}",
    "\u{1}\u{2}",
    "DELAY\u{1}3\u{2}",
    "DELAY\u{1}99\u{2}",
    "KEYS\u{1}k\u{2}",
    "TRAN_MSG\u{1}true\u{2}",
    "INNER_NUM\u{1}5\u{2}",
    "+message.type=FIFO",
    "-a,+b=c",
    "é\u{1F980}",
    "{\"a\":[1]}",
    "[[[[[[[[",
    "7F00000100002A9F0000000000000000",
    "7F00000100002A9F7FFFFFFFFFFFFFFF",
];

const BODIES: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "0",
    "{",
    "m",
    "{\"clientID\":\"c\"}",
    "{\"clientID\":\"c\",\"consumerDataSet\":[{}]}",
    "{\"clientID\":\"\",\"consumerDataSet\":[{\"groupName\":\"G\",\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"a||\"}]}]}",
    "{\"clientId\":\"c\",\"consumerGroup\":\"G\",\"mqSet\":[{\"topic\":\"T\",\"brokerName\":\"b\",\"queueId\":-7}]}",
    "{\"mqSet\":[{}],\"clientId\":null}",
    "{\"topicConfigList\":[{\"topicName\":\"a b\",\"readQueueNums\":-1}]}",
    "{\"groupName\":\"x\",\"retryMaxTimes\":-9}",
    "{\"offsetTable\":{{\"topic\":\"T\",\"queueId\":0}:5}}",
    "a=b\nc\n=\n",
];

/// More brackets than any parser should follow.
const DEEP: usize = 100_000;

fn field() -> impl Strategy<Value = (&'static str, Cow<'static, str>)> {
    let value = prop_oneof![
        12 => prop::sample::select(VALUES).prop_map(Cow::Borrowed),
        1 => (0usize..70_000).prop_map(|len| Cow::Owned("x".repeat(len))),
        1 => any::<i64>().prop_map(|number| Cow::Owned(number.to_string())),
    ];
    (prop::sample::select(NAMES), value)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(BODIES).prop_map(|text| text.as_bytes().to_vec()),
        3 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just(vec![b'['; DEEP]),
        1 => Just("{\"a\":".repeat(DEEP).into_bytes()),
        1 => Just(vec![b'b'; (4 << 20) + 1]),
    ]
}

fn request() -> impl Strategy<Value = Command> {
    let known = prop::sample::select(request_code::ALL).prop_map(|(code, _)| code);
    let code = prop_oneof![20 => known, 1 => any::<i32>()];
    let binary = any::<bool>();
    (code, prop::collection::vec(field(), 0..25), body(), binary, prop::bool::weighted(0.1)).prop_map(
        |(code, fields, body, binary, oneway)| {
            let fields = fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
            let mut command = Command::request(code, Ext::Fields(fields)).with_body(body);
            if binary {
                command.serialize = SerializeType::RocketMq;
            }
            if oneway { command.oneway() } else { command }
        },
    )
}

/// Through the bytes of a frame, as it arrives from a socket; none when the frame is not the protocol's.
fn over_the_wire(command: &Command) -> Option<Command> {
    let mut bytes = Vec::new();
    Link::encode(&Packet::Command(command.clone()), &mut bytes);
    let mut link = Link::new(Protocol::Remoting);
    link.incoming().extend_from_slice(&bytes);
    match link.decode() {
        Ok(Some(Packet::Command(command))) => Some(command),
        Ok(_) => panic!("a whole frame"),
        Err(_) => None,
    }
}

fn check(requests: Vec<Command>) -> Result<(), TestCaseError> {
    let mut world = World::new(config());
    let (good, bad) = (world.connect(1), world.connect(2));
    prop_assert_eq!(world.call(good, send("T", 0, "TAGS\u{1}a\u{2}", "first")).code, code::SUCCESS);
    prop_assert_eq!(world.call(good, send("Other", 0, "", "m0")).code, code::SUCCESS);
    world.call(good, heartbeat("c@1", "Mine", "Other", "*", 1));
    let held = world.post(good, poll("Other", 0, 1, "*", 3_600_000));
    world.run();
    let mut asked = Vec::new();
    for request in requests {
        let Some(request) = over_the_wire(&request) else { continue };
        let oneway = request.is_oneway();
        let name = request.code;
        let opaque = world.post(bad, request);
        world.run();
        prop_assert!(world.failed.is_none(), "{:?}", world.failed);
        if !oneway && name >= 0 {
            asked.push((name, opaque));
        }
    }
    // What waits for a message, a client or a slave has had its time.
    world.pass(Duration::from_secs(60));
    for (name, opaque) in asked {
        let waits = [request_code::PULL_MESSAGE, request_code::LITE_PULL_MESSAGE].contains(&name);
        prop_assert!(waits || world.answer(bad, opaque).is_some(), "{name} was not answered");
    }
    prop_assert_eq!(world.call(good, send("Other", 0, "", "m1")).code, code::SUCCESS);
    prop_assert_eq!(world.answer(good, held).map(|answer| answer.code), Some(code::SUCCESS));
    // And all of it is still there after a death of the process.
    world.input(Input::Closed { conn: bad, why: gantry_core::io::CloseReason::Peer });
    world.run();
    let mut world = world.kill();
    world.run();
    let good = world.connect(3);
    let found = world.call(good, pull("Other", 0, 0));
    prop_assert_eq!(found.code, code::SUCCESS);
    let text = String::from_utf8_lossy(&found.body);
    prop_assert!(text.contains("m0") && text.contains("m1"), "{text:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_answered_and_harms_nobody(requests in prop::collection::vec(request(), 1..20)) {
        check(requests)?;
    }
}

/// Every code that there is, with no field and no body: a missing field is a refusal, never a crash.
#[test]
fn every_request_survives_being_empty() {
    let empty = |(code, _): &(i32, &str)| Command::request(*code, Ext::None);
    check(request_code::ALL.iter().map(empty).collect()).expect("answered");
}
