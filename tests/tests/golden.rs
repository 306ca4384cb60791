//! RocketMQ's own bytes against the codec: each frame, replication block and commit-log record under `tests/golden/`,
//! recorded from RocketMQ 5.5.0 and its clients, reads as an independent reader read it when it was recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, str};

use gantry_core::io::Protocol;
use gantry_core::wire::message::{Entry, java_hash, property};
use gantry_core::wire::request::*;
use gantry_core::wire::{Command, Ext, Link, Packet, SerializeType};
use serde_json::Value;

type Fields = BTreeMap<String, String>;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn decode(protocol: Protocol, bytes: &[u8]) -> Packet {
    let mut link = Link::new(protocol);
    link.incoming().extend_from_slice(bytes);
    let packet = link.decode().expect("decodes").expect("is whole");
    assert!(link.incoming().is_empty(), "bytes are left over");
    packet
}

fn decode_command(bytes: &[u8]) -> Command {
    match decode(Protocol::Remoting, bytes) {
        Packet::Command(command) => command,
        other @ (Packet::HaReport { .. } | Packet::HaBlock { .. }) => panic!("not a command: {other:?}"),
    }
}

fn fields(ext: &Ext) -> Fields {
    let mut all = Fields::new();
    ext.for_each(|name, value| {
        all.insert(name.to_owned(), value.into_owned());
    });
    all
}

/// All recorded frames: capture, row of its index, bytes.
fn frames() -> Vec<(String, Value, Vec<u8>)> {
    let mut all = Vec::new();
    for capture in ["java-5.5.0-json", "java-5.5.0-binary", "java-4.9.8-json"] {
        let folder = golden("frames").join(capture);
        for row in rows(&folder.join("index.json")) {
            let file = row["file"].as_str().expect("a file name");
            let bytes = read(&folder.join(file));
            all.push((format!("{capture}/{file}"), row, bytes));
        }
    }
    assert!(all.len() > 200, "only {} frames", all.len());
    all
}

#[test]
fn every_frame_reads_as_recorded() {
    for (name, row, bytes) in frames() {
        let command = decode_command(&bytes);
        assert_eq!(i64::from(command.code), row["code"], "{name}: code");
        assert_eq!(command.language.name(), row["language"], "{name}: language");
        assert_eq!(i64::from(command.version), row["version"], "{name}: version");
        assert_eq!(i64::from(command.opaque), row["opaque"], "{name}: opaque");
        assert_eq!(i64::from(command.flag), row["flag"], "{name}: flag");
        assert_eq!(command.remark.as_deref(), row["remark"].as_str(), "{name}: remark");
        assert_eq!(command.body.len() as u64, row["body_bytes"], "{name}: body");
        let serialize =
            if row["serialize"] == "JSON" { SerializeType::Json } else { SerializeType::RocketMq };
        assert_eq!(command.serialize, serialize, "{name}: header form");
        let expected: Fields = match row.get("extFields") {
            Some(fields) => serde_json::from_value(fields.clone()).expect("texts"),
            None => Fields::new(),
        };
        assert_eq!(fields(&command.ext), expected, "{name}: header fields");
    }
}

/// Writing a command that was read gives one that reads the same; a binary one, the same bytes.
#[test]
fn every_frame_survives_a_rewrite() {
    for (name, _, bytes) in frames() {
        let command = decode_command(&bytes);
        let mut written = Vec::new();
        Link::encode(&Packet::Command(command.clone()), &mut written);
        let again = decode_command(&written);
        assert_eq!(fields(&again.ext), fields(&command.ext), "{name}: header fields");
        assert_eq!(
            (again.code, again.opaque, again.flag),
            (command.code, command.opaque, command.flag),
            "{name}"
        );
        assert_eq!((&again.remark, &again.body), (&command.remark, &command.body), "{name}");
        if command.serialize == SerializeType::RocketMq {
            assert_eq!(written, bytes, "{name}: bytes");
        }
    }
}

/// What any request may carry beside its own fields (source: `RpcRequestHeader`, `TopicRequestHeader`), and what the
/// broker adds to the answer of a send.
const COMMON: [&str; 8] = ["ns", "nsd", "bname", "oway", "lo", "ReqT", "MSG_REGION", "TRACE_ON"];

/// Reads header `H` and writes it again: nothing a peer sent is lost, and nothing is added but defaults.
fn typed<'a, H: Header<'a>>(name: &str, command: &'a Command) {
    let header: H = command.header().unwrap_or_else(|error| panic!("{name}: {error}"));
    let (sent, kept) = (fields(&command.ext), fields(&header.to_ext()));
    for (field, value) in &sent {
        let known = kept.get(field).or_else(|| kept.get(letter(field)));
        match known {
            Some(kept) => assert_eq!(kept, value, "{name}: {field}"),
            None => assert!(
                COMMON.contains(&field.as_str()),
                "{name}: {field} = {value} is not in the header's type"
            ),
        }
    }
    for (field, value) in &kept {
        let was_sent = sent.contains_key(field) || sent.keys().any(|long| letter(long) == field);
        assert!(was_sent || value == "false" || value == "0", "{name}: {field} = {value} was not sent");
    }
}

/// Reads header `H`, which leaves out on purpose some of what a peer sends: what it has, is right.
fn partly_typed<'a, H: Header<'a>>(name: &str, command: &'a Command) {
    let header: H = command.header().unwrap_or_else(|error| panic!("{name}: {error}"));
    let sent = fields(&command.ext);
    for (field, value) in &fields(&header.to_ext()) {
        assert_eq!(sent.get(field), Some(value), "{name}: {field}");
    }
}

/// A send's long names and its letters are one header.
fn letter(name: &str) -> &str {
    match name {
        "producerGroup" => "a",
        "topic" => "b",
        "defaultTopic" => "c",
        "defaultTopicQueueNums" => "d",
        "queueId" => "e",
        "sysFlag" => "f",
        "bornTimestamp" => "g",
        "flag" => "h",
        "properties" => "i",
        "reconsumeTimes" => "j",
        "unitMode" => "k",
        "maxReconsumeTimes" => "l",
        "batch" => "m",
        "bname" => "n",
        other => other,
    }
}

/// Checks the request header of a code; false for one that has none of its own.
fn typed_request(name: &str, code: i64, command: &Command) -> bool {
    match code {
        10 | 310 | 320 | 325 => typed::<SendMessageRequest<'_>>(name, command),
        11 | 361 => typed::<PullMessageRequest<'_>>(name, command),
        // A search by unique id is marked outside the header's type.
        12 => partly_typed::<QueryMessageRequest>(name, command),
        14 => typed::<QueryConsumerOffsetRequest<'_>>(name, command),
        15 => typed::<UpdateConsumerOffsetRequest<'_>>(name, command),
        17 => typed::<CreateTopicRequest>(name, command),
        29 => typed::<SearchOffsetRequest<'_>>(name, command),
        30 => typed::<GetMaxOffsetRequest<'_>>(name, command),
        31 => typed::<GetMinOffsetRequest<'_>>(name, command),
        32 => typed::<GetEarliestMsgStoretimeRequest<'_>>(name, command),
        33 => typed::<ViewMessageRequest>(name, command),
        35 => typed::<UnregisterClientRequest>(name, command),
        36 => typed::<ConsumerSendMsgBackRequest>(name, command),
        37 => typed::<EndTransactionRequest>(name, command),
        38 => typed::<GetConsumerListByGroupRequest>(name, command),
        39 => typed::<CheckTransactionStateRequest>(name, command),
        40 => typed::<NotifyConsumerIdsChangedRequest>(name, command),
        100 => typed::<PutKVConfigRequest>(name, command),
        102 => typed::<DeleteKVConfigRequest>(name, command),
        103 => typed::<RegisterBrokerRequest>(name, command),
        104 => typed::<UnRegisterBrokerRequest>(name, command),
        105 => typed::<GetRouteInfoRequest>(name, command),
        201 => typed::<GetAllSubscriptionGroupRequest>(name, command),
        202 => typed::<GetTopicStatsInfoRequest>(name, command),
        203 => typed::<GetConsumerConnectionListRequest>(name, command),
        204 => typed::<GetProducerConnectionListRequest>(name, command),
        205 => typed::<WipeWritePermOfBrokerRequest>(name, command),
        207 => typed::<DeleteSubscriptionGroupRequest>(name, command),
        208 => typed::<GetConsumeStatsRequest>(name, command),
        215 => typed::<DeleteTopicRequest>(name, command),
        216 => typed::<DeleteTopicFromNamesrvRequest>(name, command),
        222 => typed::<ResetOffsetRequest<'_>>(name, command),
        300 => typed::<QueryTopicConsumeByWhoRequest>(name, command),
        314 => typed::<CloneGroupOffsetRequest<'_>>(name, command),
        315 => typed::<ViewBrokerStatsDataRequest>(name, command),
        317 => typed::<GetConsumeStatsInBroker>(name, command),
        321 => typed::<QueryConsumeQueueRequest>(name, command),
        326 => typed::<ReplyMessageRequest>(name, command),
        327 => typed::<AddWritePermOfBrokerRequest>(name, command),
        351 => typed::<GetTopicConfigRequest>(name, command),
        352 => typed::<GetSubscriptionGroupConfigRequest>(name, command),
        200050 => typed::<PopMessageRequest>(name, command),
        200051 => typed::<AckMessageRequest>(name, command),
        200053 => typed::<ChangeInvisibleTimeRequest>(name, command),
        _ => return false,
    }
    true
}

/// Checks the header of a code's successful answer; false for one that has none of its own.
fn typed_response(name: &str, code: i64, command: &Command) -> bool {
    match code {
        10 | 310 | 320 | 325 => typed::<SendMessageReceipt>(name, command),
        // Java's broker adds sys flags and an offset delta, which only its proxy reads.
        11 | 361 => partly_typed::<PullMessageResponse>(name, command),
        12 => typed::<QueryMessageResponse>(name, command),
        14 => typed::<QueryConsumerOffsetResponse>(name, command),
        29 => typed::<SearchOffsetResponse>(name, command),
        30 => typed::<GetMaxOffsetResponse>(name, command),
        31 => typed::<GetMinOffsetResponse>(name, command),
        32 => typed::<GetEarliestMsgStoretimeResponse>(name, command),
        103 => typed::<RegisterBrokerResponse>(name, command),
        201 => typed::<GetAllSubscriptionGroupResponse>(name, command),
        205 => typed::<WipeWritePermOfBrokerResponse>(name, command),
        327 => typed::<AddWritePermOfBrokerResponse>(name, command),
        200050 => typed::<PopMessageResponse>(name, command),
        200053 => typed::<ChangeInvisibleTimeResponse>(name, command),
        _ => return false,
    }
    true
}

#[test]
fn typed_headers_know_every_field() {
    let (mut requests, mut responses) = (0, 0);
    for (name, row, bytes) in frames() {
        let code = row["request_code"].as_i64().expect("a code");
        let command = decode_command(&bytes);
        if row["kind"] != "response" {
            requests += i32::from(typed_request(&name, code, &command));
            let bare = [34, 41, 42, 46, 106, 200, 206, 400, 401, 907].contains(&code);
            assert!(bare || typed_request(&name, code, &command), "{name}: no header type stands for {code}");
        } else if row["code"] == 0 {
            responses += i32::from(typed_response(&name, code, &command));
        }
    }
    assert!(requests > 100 && responses > 40, "{requests} requests, {responses} responses");
}

#[test]
fn replication_reads_as_recorded() {
    let folder = golden("replication/java-5.5.0-json");
    let file = |name: &str| read(&folder.join(name));
    let (fresh, caught_up) = (
        decode(Protocol::HaSlave, &file("fresh-frame.bin")),
        decode(Protocol::HaSlave, &file("caught-up-frame.bin")),
    );
    assert_eq!(decode(Protocol::HaMaster, &file("fresh-report.bin")), Packet::HaReport { offset: 0 });
    let Packet::HaReport { offset: end } = decode(Protocol::HaMaster, &file("caught-up-report.bin")) else {
        panic!("not a report");
    };
    assert!(matches!(caught_up, Packet::HaBlock { offset, body } if offset == end && body.is_empty()));
    let Packet::HaBlock { offset: 0, body } = fresh else { panic!("{fresh:?}") };
    assert_eq!(body.len(), 32 * 1024, "a master fills its blocks without regard to records");
    let Ok(Entry::Message(first)) = Entry::decode(&body) else { panic!("no record at the beginning") };
    assert_eq!(first.verify(0), Ok(()));
}

/// One packed file, its zeros put back up to the last run's end.
fn unpacked(folder: &Path, row: &Value) -> Vec<u8> {
    let packed = read(&folder.join(row["path"].as_str().expect("a path")));
    let (mut bytes, mut at) = (Vec::new(), 0);
    for run in row["runs"].as_array().expect("runs") {
        let [offset, length] = [0, 1].map(|i| run[i].as_u64().expect("a number") as usize);
        bytes.resize(offset, 0);
        bytes.extend_from_slice(&packed[at..at + length]);
        at += length;
    }
    bytes
}

#[test]
fn the_commit_log_reads_as_recorded() {
    let folder = golden("store/java-5.5.0-json");
    let index = rows(&folder.join("index.json"));
    let log = index.iter().find(|row| row["path"] == "commitlog/00000000000000000000").expect("a log");
    let mut log = unpacked(&folder, log);
    log.extend_from_slice(&[0; 8]);
    let mut at = 0;
    let records = rows(&folder.join("records.json"));
    for expected in &records {
        let entry = Entry::decode(&log[at..]).unwrap_or_else(|error| panic!("at {at}: {error}"));
        let Entry::Message(record) = entry else { panic!("at {at}: {entry:?}") };
        assert_eq!(record.verify(at as i64), Ok(()), "at {at}");
        let properties = str::from_utf8(record.properties).expect("UTF-8");
        let read = serde_json::json!({
            "physical_offset": record.physical_offset, "size": record.size, "body_crc": record.body_crc,
            "topic": record.topic, "queue_id": record.queue_id, "queue_offset": record.queue_offset,
            "flag": record.flag, "sys_flag": record.sys_flag, "born_timestamp": record.born_timestamp,
            "store_timestamp": record.store_timestamp, "reconsume_times": record.reconsume_times,
            "prepared_transaction_offset": record.prepared_transaction_offset, "body_bytes": record.body.len(),
            "properties": properties,
        });
        assert_eq!(&read, expected, "at {at}");
        at += record.size as usize;
    }
    assert!(records.len() > 50, "only {} records", records.len());
    assert_eq!(Entry::decode(&log[at..]).ok(), None, "nothing lies behind the last record");
}

/// Each consume-queue entry points at the record that says it belongs there, with its size and tag code.
#[test]
fn the_consume_queues_point_at_their_records() {
    let folder = golden("store/java-5.5.0-json");
    let mut places = BTreeMap::new();
    for record in rows(&folder.join("records.json")) {
        places.insert(record["physical_offset"].as_u64(), record);
    }
    let mut entries = 0;
    for row in rows(&folder.join("index.json")) {
        let path = row["path"].as_str().expect("a path");
        let Some(queue) = path.strip_prefix("consumequeue/") else { continue };
        let topic = queue.split('/').next().expect("a topic");
        let mut bytes = unpacked(&folder, &row);
        bytes.resize(bytes.len().next_multiple_of(20), 0);
        for (number, entry) in bytes.chunks_exact(20).enumerate() {
            let offset = u64::from_be_bytes(entry[..8].try_into().expect("8 bytes"));
            let record = &places[&Some(offset)];
            assert_eq!(record["topic"], topic, "{path} entry {number}");
            assert_eq!(record["queue_offset"], number as u64, "{path} entry {number}");
            assert_eq!(
                record["size"],
                u64::from(u32::from_be_bytes(entry[8..12].try_into().expect("4 bytes")))
            );
            // A delayed message's field holds its delivery time instead.
            if topic != "SCHEDULE_TOPIC_XXXX" {
                let properties = record["properties"].as_str().expect("text");
                let tags =
                    property(properties.as_bytes(), b"TAGS").map(|tags| str::from_utf8(tags).expect("UTF-8"));
                let code = i64::from_be_bytes(entry[12..].try_into().expect("8 bytes"));
                assert_eq!(code, tags.map_or(0, |tags| i64::from(java_hash(tags))), "{path} entry {number}");
            }
            entries += 1;
        }
    }
    assert!(entries > 50, "only {entries} entries");
}
