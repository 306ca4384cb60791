//! RocketMQ's own JSON bodies, under `tests/golden/frames`, against the codec's: each is read into its type and written again,
//! and nothing is lost or added on the way.

use std::fs;
use std::path::Path;

use gantry_core::io::Protocol;
use gantry_core::wire::body::*;
use gantry_core::wire::request::RegisterBrokerRequest;
use gantry_core::wire::{Command, Link, Packet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const CAPTURES: [&str; 3] = ["java-5.5.0-json", "java-5.5.0-binary", "java-4.9.8-json"];

fn command(path: &Path) -> Command {
    let mut link = Link::new(Protocol::Remoting);
    link.incoming().extend_from_slice(&fs::read(path).expect("a frame"));
    match link.decode() {
        Ok(Some(Packet::Command(command))) => command,
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// RocketMQ writes sets in the order of its hash tables.
fn sort_arrays(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort_arrays);
            items.sort_by_key(Value::to_string);
        }
        Value::Object(members) => members.values_mut().for_each(sort_arrays),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn sorted(name: &str, text: &[u8]) -> Value {
    let mut value: Value = decode(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    sort_arrays(&mut value);
    value
}

/// Members that only RocketMQ 5.5 or only 4.9 knows have the values of a new object on the other side.
fn check(name: &str, theirs: &[u8], ours: &[u8]) {
    let (theirs, ours) = (sorted(name, theirs), sorted(name, ours));
    compare(name, &theirs, &ours, name.starts_with("java-4"));
}

fn compare(at: &str, theirs: &Value, ours: &Value, old: bool) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let own = ours.get(key).unwrap_or_else(|| panic!("{at}: {key} = {value} was lost"));
                compare(&format!("{at}.{key}"), value, own, old);
            }
            for key in ours.keys() {
                assert!(old || theirs.contains_key(key), "{at}: {key} was added");
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            assert_eq!(theirs.len(), ours.len(), "{at}");
            theirs.iter().zip(ours).for_each(|(theirs, ours)| compare(at, theirs, ours, old));
        }
        _ => assert_eq!(theirs, ours, "{at}"),
    }
}

fn plain<T: DeserializeOwned + Serialize>(name: &str, body: &[u8]) {
    written(name, body, |value: &T| encode(value));
}

fn written<T: DeserializeOwned>(name: &str, body: &[u8], write: impl Fn(&T) -> Vec<u8>) {
    let value: T = decode(body).unwrap_or_else(|error| panic!("{name}: {error}"));
    check(name, body, &write(&value));
}

/// Checks the body of a request; false for one that has none in JSON.
fn request(name: &str, code: i64, command: &Command) -> bool {
    let body = &command.body[..];
    match code {
        34 => plain::<HeartbeatData>(name, body),
        41 | 42 => plain::<LockBatchRequestBody>(name, body),
        46 => plain::<CheckClientRequestBody>(name, body),
        103 => {
            let header: RegisterBrokerRequest = command.header().expect("a header");
            let compressed = header.compressed.unwrap_or_default();
            let read = RegisterBrokerBody::decode(body, compressed)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                RegisterBrokerBody::decode(&read.encode_compressed(), true)
                    .map(|body| { body.topic_config_serialize_wrapper.topic_config_table.len() }),
                Ok(read.topic_config_serialize_wrapper.topic_config_table.len())
            );
            if !compressed {
                check(name, body, &encode(&read));
            }
        }
        200 => plain::<SubscriptionGroupConfig>(name, body),
        400 => plain::<QueryAssignmentRequestBody>(name, body),
        401 => plain::<SetMessageRequestModeRequestBody>(name, body),
        _ => return false,
    }
    true
}

/// Checks the body of a successful answer; false for one that has none in JSON.
fn response(name: &str, code: i64, body: &[u8]) -> bool {
    match code {
        38 => plain::<GetConsumerListByGroupResponseBody>(name, body),
        41 => plain::<LockBatchResponseBody>(name, body),
        105 => plain::<TopicRouteData>(name, body),
        103 => plain::<KVTable>(name, body),
        106 => plain::<ClusterInfo>(name, body),
        201 => plain::<SubscriptionGroupWrapper>(name, body),
        202 => written(name, body, TopicStatsTable::encode),
        203 => plain::<ConsumerConnection>(name, body),
        204 => plain::<ProducerConnection>(name, body),
        206 => plain::<TopicList>(name, body),
        208 => written(name, body, ConsumeStats::encode),
        222 => written(name, body, ResetOffsetBody::encode),
        300 => plain::<GroupList>(name, body),
        315 => plain::<BrokerStatsData>(name, body),
        317 => written(name, body, ConsumeStatsList::encode),
        321 => plain::<QueryConsumeQueueResponseBody>(name, body),
        351 => plain::<TopicConfig>(name, body),
        400 => plain::<QueryAssignmentResponseBody>(name, body),
        907 => plain::<HARuntimeInfo>(name, body),
        _ => return false,
    }
    true
}

#[test]
fn every_json_body_is_read_and_written_again() {
    let (mut requests, mut responses) = (0, 0);
    for capture in CAPTURES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/frames").join(capture);
        let index = fs::read(folder.join("index.json")).expect("an index");
        for row in serde_json::from_slice::<Vec<Value>>(&index).expect("rows") {
            let file = row["file"].as_str().expect("a file");
            let name = format!("{capture}/{file}");
            let command = command(&folder.join(file));
            let code = row["request_code"].as_i64().expect("a code");
            if command.body.is_empty() {
                continue;
            }
            let json = command.body.starts_with(b"{");
            if row["kind"] != "response" {
                let known = request(&name, code, &command);
                requests += usize::from(known);
                assert!(known || !json, "{name}: no body type stands for {code}");
            } else if row["code"] == 0 {
                let known = response(&name, code, &command.body);
                responses += usize::from(known);
                assert!(known || !json, "{name}: no body type stands for the answer to {code}");
            }
        }
    }
    assert!(requests >= 20 && responses >= 25, "{requests} requests, {responses} responses");
}
