//! What administrators ask.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::io::{ConnId, Input};
use gantry_core::wire::body::{
    self, ConsumeStats, ConsumerConnection, ConsumerOffsetSerializeWrapper, GetConsumerStatusBody, GroupList,
    KVTable, MessageQueue, MqMap, QueryConsumeQueueResponseBody, ResetOffsetBody, SubscriptionGroupConfig,
    SubscriptionGroupWrapper, TopicConfig, TopicConfigSerializeWrapper, TopicStatsTable,
};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::message::Entry;
use gantry_core::wire::request::{
    CreateTopicRequest, DeleteSubscriptionGroupRequest, DeleteTopicRequest, GetAllTopicConfigRequest,
    GetConsumeStatsRequest, GetConsumerConnectionListRequest, GetConsumerRunningInfoRequest,
    GetConsumerStatusRequest, GetSubscriptionGroupConfigRequest, GetTopicConfigRequest,
    GetTopicStatsInfoRequest, Header, PullMessageResponse, QueryConsumeQueueRequest, QueryMessageRequest,
    QueryTopicConsumeByWhoRequest, ReplyMessageRequest, ResetOffsetRequest, SendMessageReceipt,
    SendMessageRequest, ViewBrokerStatsDataRequest,
};
use gantry_core::wire::{Command, Ext, Packet};

use crate::harness::{START_WALL_MS, World, commit, config, heartbeat, poll, pull, send, send_header};

fn ask(world: &mut World, request: i32, ext: Ext) -> Command {
    let conn = world.connect(77);
    world.call(conn, Command::request(request, ext))
}

fn create(topic: &str, queues: i32, attributes: &str) -> Ext {
    CreateTopicRequest {
        topic: topic.into(),
        default_topic: "TBW102".into(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        attributes: Some(attributes.into()),
        ..CreateTopicRequest::default()
    }
    .to_ext()
}

fn topic(world: &mut World, name: &str) -> Result<TopicConfig, i32> {
    let header = GetTopicConfigRequest { topic: name.into() };
    let answer = ask(world, request_code::GET_TOPIC_CONFIG, header.to_ext());
    if answer.code == code::SUCCESS {
        Ok(body::decode(&answer.body).expect("a topic"))
    } else {
        Err(answer.code)
    }
}

#[test]
fn topics_are_made_changed_and_deleted() {
    let mut world = World::new(config());
    for (name, queues, attributes, expect) in [
        ("T", 3, "", code::SUCCESS),
        ("T", 5, "+message.type=FIFO", code::SUCCESS),
        ("T", 5, "+message.type=NONE", code::SYSTEM_ERROR),
        ("T", -1, "", code::INVALID_PARAMETER),
        ("T", 1 << 20, "", code::INVALID_PARAMETER),
        ("bad name", 3, "", code::INVALID_PARAMETER),
        ("TBW102", 3, "", code::INVALID_PARAMETER),
        ("rmq_sys_x", 3, "", code::INVALID_PARAMETER),
    ] {
        let answer = ask(&mut world, request_code::UPDATE_AND_CREATE_TOPIC, create(name, queues, attributes));
        assert_eq!(answer.code, expect, "{name} {queues} {attributes} {:?}", answer.remark);
    }
    let made = topic(&mut world, "T").expect("made");
    assert_eq!(
        (made.read_queue_nums, made.attributes.get("message.type").map(String::as_str)),
        (5, Some("FIFO"))
    );
    let conn = world.connect(1);
    world.call(conn, send("T", 0, "", "m"));
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    world.call(conn, commit("G", "T", 0, 1));
    let who = QueryTopicConsumeByWhoRequest { topic: "T".into() };
    let answer = ask(&mut world, request_code::QUERY_TOPIC_CONSUME_BY_WHO, who.to_ext());
    assert_eq!(body::decode::<GroupList>(&answer.body).expect("a list").group_list, ["G"]);
    let stats = GetTopicStatsInfoRequest { topic: "T".into() };
    let answer = ask(&mut world, request_code::GET_TOPIC_STATS_INFO, stats.to_ext());
    let stats: TopicStatsTable = body::decode(&answer.body).expect("a table");
    let ends = stats.offset_table.0[&MessageQueue::new("T", "b", 0)];
    assert_eq!((stats.offset_table.0.len(), ends.min_offset, ends.max_offset), (5, 0, 1));
    assert!(ends.last_update_timestamp >= START_WALL_MS);
    // Deleted is deleted, after a restart too.
    let delete = DeleteTopicRequest { topic: "T".into() };
    assert_eq!(ask(&mut world, request_code::DELETE_TOPIC_IN_BROKER, delete.to_ext()).code, code::SUCCESS);
    assert_eq!(topic(&mut world, "T"), Err(code::TOPIC_NOT_EXIST));
    let mut world = world.kill();
    world.run();
    assert_eq!(topic(&mut world, "T"), Err(code::TOPIC_NOT_EXIST));
    let conn = world.connect(1);
    assert_eq!(world.call(conn, pull("T", 0, 0)).code, code::TOPIC_NOT_EXIST);
}

#[test]
fn all_topics_come_in_pages() {
    let mut world = World::new(config());
    for n in 0..5 {
        ask(&mut world, request_code::UPDATE_AND_CREATE_TOPIC, create(&format!("T{n}"), 1, ""));
    }
    let all = |world: &mut World, header: GetAllTopicConfigRequest| {
        let answer = ask(world, request_code::GET_ALL_TOPIC_CONFIG, header.to_ext());
        body::decode::<TopicConfigSerializeWrapper>(&answer.body).expect("a table")
    };
    let whole = all(&mut world, GetAllTopicConfigRequest::default());
    let version = String::from_utf8(body::encode(&whole.data_version)).expect("text");
    let mut joined = BTreeMap::new();
    for begin in (0..whole.topic_config_table.len()).step_by(4) {
        let header = GetAllTopicConfigRequest {
            topic_seq: Some(begin as i32),
            data_version: Some(version.clone()),
            max_topic_num: Some(4),
        };
        let page = all(&mut world, header);
        assert!(page.topic_config_table.len() <= 4);
        joined.extend(page.topic_config_table);
    }
    assert_eq!(joined, whole.topic_config_table);
}

#[test]
fn groups_are_made_and_deleted() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for (name, expect) in [("G", code::SUCCESS), ("bad name", code::INVALID_PARAMETER)] {
        let group = SubscriptionGroupConfig {
            group_name: name.into(),
            retry_max_times: 3,
            ..SubscriptionGroupConfig::default()
        };
        let request = Command::request(request_code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, Ext::None);
        assert_eq!(world.call(conn, request.with_body(body::encode(&group))).code, expect);
    }
    let get = GetSubscriptionGroupConfigRequest { group: "G".into() };
    let answer = ask(&mut world, request_code::GET_SUBSCRIPTIONGROUP_CONFIG, get.to_ext());
    let group: SubscriptionGroupConfig = body::decode(&answer.body).expect("a group");
    assert_eq!(group.retry_max_times, 3);
    world.call(conn, send("T", 0, "", "m"));
    world.call(conn, commit("G", "T", 0, 1));
    let delete = DeleteSubscriptionGroupRequest { group_name: "G".into(), clean_offset: Some(true) };
    assert_eq!(ask(&mut world, request_code::DELETE_SUBSCRIPTIONGROUP, delete.to_ext()).code, code::SUCCESS);
    let answer = ask(&mut world, request_code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, Ext::None);
    let all: SubscriptionGroupWrapper = body::decode(&answer.body).expect("a table");
    assert!(!all.subscription_group_table.contains_key("G"));
    let answer = ask(&mut world, request_code::GET_ALL_CONSUMER_OFFSET, Ext::None);
    let offsets: ConsumerOffsetSerializeWrapper = body::decode(&answer.body).expect("a table");
    assert!(offsets.offset_table.is_empty());
    // The journal remembers that they are gone.
    let mut world = world.kill();
    world.run();
    let answer = ask(&mut world, request_code::GET_ALL_CONSUMER_OFFSET, Ext::None);
    let offsets: ConsumerOffsetSerializeWrapper = body::decode(&answer.body).expect("a table");
    assert!(offsets.offset_table.is_empty());
}

/// Ten messages in T-0, a member of G that has committed three.
fn consuming() -> (World, ConnId) {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for _ in 0..10 {
        world.call(conn, send("T", 0, "KEYS\u{1}k\u{2}", "m"));
        world.pass(Duration::from_secs(1));
    }
    let beat = Command { version: 513, ..heartbeat("c", "G", "T", "*", 1) };
    world.call(conn, beat);
    world.call(conn, commit("G", "T", 0, 3));
    world.pushed(conn);
    (world, conn)
}

#[test]
fn who_consumes_and_how_far() {
    let (mut world, _) = consuming();
    let header = GetConsumerConnectionListRequest { consumer_group: "G".into() };
    let answer = ask(&mut world, request_code::GET_CONSUMER_CONNECTION_LIST, header.to_ext());
    let connection: ConsumerConnection = body::decode(&answer.body).expect("connections");
    assert_eq!(connection.connection_set[0].client_id, "c");
    assert_eq!(connection.connection_set[0].client_addr, "127.0.0.1:40001");
    assert!(connection.subscription_table.contains_key("T"));
    let header = GetConsumeStatsRequest { consumer_group: "G".into(), topic: None, topic_list: None };
    for cold in [0, 500] {
        world.disk().set_cold_ratio(cold);
        let answer = ask(&mut world, request_code::GET_CONSUME_STATS, header.to_ext());
        let stats: ConsumeStats = body::decode(&answer.body).expect("stats");
        let of = stats.offset_table.0[&MessageQueue::new("T", "b", 0)];
        assert_eq!((of.broker_offset, of.consumer_offset), (10, 3));
        // Stored at 1 s (the clock's start), 2 s, 3 s: the third is the last one consumed.
        assert_eq!(of.last_timestamp, START_WALL_MS + 3_000);
    }
    let none = GetConsumerConnectionListRequest { consumer_group: "H".into() };
    let answer = ask(&mut world, request_code::GET_CONSUMER_CONNECTION_LIST, none.to_ext());
    assert_eq!(answer.code, code::CONSUMER_NOT_ONLINE);
}

#[test]
fn a_reset_reaches_a_held_pull_and_late_commits_do_not_count() {
    let (mut world, conn) = consuming();
    let held = world.post(conn, poll("T", 0, 10, "*", 15_000));
    world.run();
    let reset = |timestamp: i64, queue_id: Option<i32>, offset: Option<i64>| {
        let header = ResetOffsetRequest {
            group: "G".into(),
            topic: "T".into(),
            queue_id,
            offset,
            timestamp,
            is_force: true,
        };
        header.to_ext()
    };
    // To the message stored at 5 s.
    let answer = ask(
        &mut world,
        request_code::INVOKE_BROKER_TO_RESET_OFFSET,
        reset(START_WALL_MS + 5_000, None, None),
    );
    let table: ResetOffsetBody = body::decode(&answer.body).expect("a table");
    assert_eq!(table.offset_table.0[&MessageQueue::new("T", "b", 0)], 4);
    assert_eq!(table.offset_table.0.len(), 4);
    let moved = world.answer(conn, held).expect("at once");
    assert_eq!((moved.code, moved.remark.as_deref()), (code::PULL_OFFSET_MOVED, Some("OFFSET_RESET")));
    assert_eq!(PullMessageResponse::decode(&moved.ext).expect("header").next_begin_offset, 4);
    // Nobody pulls now: the next reset waits, and a commit meanwhile is of the past.
    for (ext, expect) in [
        (reset(0, Some(0), Some(2)), code::SUCCESS),
        (reset(0, Some(0), Some(99)), code::SYSTEM_ERROR),
        (reset(-1, Some(0), None), code::SUCCESS),
        (reset(0, Some(0), Some(2)), code::SUCCESS),
    ] {
        assert_eq!(ask(&mut world, request_code::INVOKE_BROKER_TO_RESET_OFFSET, ext).code, expect);
    }
    assert_eq!(world.call(conn, commit("G", "T", 0, 10)).code, code::SUCCESS);
    assert_eq!(world.committed("G", "T", 0), Some(2));
    let answer = world.call(conn, pull("T", 0, 10));
    assert_eq!(PullMessageResponse::decode(&answer.ext).expect("header").next_begin_offset, 2);
    world.call(conn, commit("G", "T", 0, 3));
    assert_eq!(world.committed("G", "T", 0), Some(3));
}

#[test]
fn messages_are_found_by_key() {
    let (mut world, _) = consuming();
    let search = |key: &str, max_num: i32| QueryMessageRequest {
        topic: "T".into(),
        key: key.into(),
        max_num,
        begin_timestamp: START_WALL_MS,
        end_timestamp: START_WALL_MS + 60_000,
        ..QueryMessageRequest::default()
    };
    for cold in [0, 500] {
        world.disk().set_cold_ratio(cold);
        for (key, max, expect) in [("k", 100, 10), ("k", 3, 3), ("other", 100, 0)] {
            let answer = ask(&mut world, request_code::QUERY_MESSAGE, search(key, max).to_ext());
            let mut bytes = &answer.body[..];
            let mut found = 0;
            while let Ok(Entry::Message(record)) = Entry::decode(bytes) {
                found += 1;
                bytes = &bytes[record.size as usize..];
            }
            assert_eq!((found, answer.code == code::SUCCESS), (expect, expect > 0), "{key} {max}");
        }
    }
}

#[test]
fn what_is_asked_of_a_client_ends_by_answer_by_close_or_by_time() {
    let (mut world, conn) = consuming();
    let header = |client: &str| GetConsumerRunningInfoRequest {
        consumer_group: "G".into(),
        client_id: client.into(),
        jstack_enable: Some(true),
    };
    let admin = world.connect(50);
    let post = |world: &mut World, client: &str| {
        world.post(admin, Command::request(request_code::GET_CONSUMER_RUNNING_INFO, header(client).to_ext()))
    };
    let asked = post(&mut world, "c");
    world.run();
    let forwarded = world.pushed(conn).pop().expect("asked");
    assert_eq!(forwarded.code, request_code::GET_CONSUMER_RUNNING_INFO);
    assert_eq!(forwarded.ext.get("jstackEnable").as_deref(), Some("true"));
    let said = Command::response(&forwarded, code::SUCCESS, Ext::None).with_body(&b"{}"[..]);
    world.input(Input::Received { conn, packet: Packet::Command(said) });
    world.run();
    assert_eq!(world.answer(admin, asked).map(|answer| answer.body), Some(b"{}"[..].into()));

    let nobody = post(&mut world, "d");
    let late = post(&mut world, "c");
    world.run();
    assert_eq!(world.answer(admin, nobody).map(|answer| answer.code), Some(code::SYSTEM_ERROR));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.answer(admin, late).map(|answer| answer.code), Some(code::CONSUME_MSG_TIMEOUT));

    let gone = post(&mut world, "c");
    world.run();
    world.close(conn);
    world.run();
    assert_eq!(world.answer(admin, gone).map(|answer| answer.code), Some(code::SYSTEM_ERROR));
}

#[test]
fn the_members_of_a_group_say_where_they_are() {
    let (mut world, conn) = consuming();
    let other = world.connect(2);
    world.call(other, Command { version: 513, ..heartbeat("d", "G", "T", "*", 1) });
    world.pushed(conn);
    world.pushed(other);
    let header = GetConsumerStatusRequest { topic: "T".into(), group: "G".into(), client_addr: None };
    let admin = world.connect(50);
    let asked = world
        .post(admin, Command::request(request_code::INVOKE_BROKER_TO_GET_CONSUMER_STATUS, header.to_ext()));
    world.run();
    let request = world.pushed(conn).pop().expect("asked");
    assert_eq!(request.code, request_code::GET_CONSUMER_STATUS_FROM_CLIENT);
    let status = GetConsumerStatusBody {
        message_queue_table: MqMap(BTreeMap::from([(MessageQueue::new("T", "b", 0), 3)])),
        ..GetConsumerStatusBody::default()
    };
    let said = Command::response(&request, code::SUCCESS, Ext::None).with_body(status.encode());
    world.input(Input::Received { conn, packet: Packet::Command(said) });
    world.run();
    assert_eq!(world.answer(admin, asked), None, "the other one is missing");
    world.pass(Duration::from_secs(5));
    let answer = world.answer(admin, asked).expect("whole");
    let found: GetConsumerStatusBody = body::decode(&answer.body).expect("a body");
    assert_eq!(found.consumer_table, BTreeMap::from([("c".into(), status.message_queue_table)]));
}

#[test]
fn a_reply_reaches_its_requester() {
    let mut world = World::new(config());
    let (requester, replier) = (world.connect(1), world.connect(2));
    world.call(requester, heartbeat("me", "G", "T", "*", 1));
    world.pushed(requester);
    let reply = |client: &str| {
        let properties =
            format!("MSG_TYPE\u{1}reply\u{2}CORRELATION_ID\u{1}1\u{2}REPLY_TO_CLIENT\u{1}{client}\u{2}");
        let header = SendMessageRequest { ..send_header("DefaultCluster_REPLY_TOPIC", 0, &properties) };
        Command::request(request_code::SEND_REPLY_MESSAGE_V2, header.to_ext()).with_body(&b"pong"[..])
    };
    let sent = world.post(replier, reply("me"));
    world.run();
    assert_eq!(world.answer(replier, sent), None, "the requester has not said yes yet");
    let pushed = world.pushed(requester).pop().expect("pushed");
    assert_eq!((pushed.code, &pushed.body[..]), (request_code::PUSH_REPLY_MESSAGE_TO_CLIENT, &b"pong"[..]));
    let header = ReplyMessageRequest::decode(&pushed.ext).expect("header");
    assert_eq!(header.born_host, "127.0.0.1:40002");
    assert!(header.properties.is_some_and(|text| text.contains("CORRELATION_ID\u{1}1")));
    let said = Command::response(&pushed, code::SUCCESS, Ext::None);
    world.input(Input::Received { conn: requester, packet: Packet::Command(said) });
    world.run();
    let answer = world.answer(replier, sent).expect("answered");
    assert_eq!(answer.code, code::SUCCESS);
    assert_eq!(SendMessageReceipt::decode(&answer.ext).expect("receipt").queue_offset, 0);
    assert_eq!(world.call(replier, reply("nobody")).code, code::SYSTEM_ERROR);
}

#[test]
fn the_broker_tells_its_figures() {
    let (mut world, conn) = consuming();
    world.call(conn, pull("T", 0, 0));
    world.pass(Duration::from_secs(20));
    let answer = ask(&mut world, request_code::GET_BROKER_RUNTIME_INFO, Ext::None);
    let table: KVTable = body::decode(&answer.body).expect("a table");
    for (name, expect) in
        [("putMessageTimesTotal", "10"), ("brokerActive", "true"), ("msgPutTotalTodayNow", "10")]
    {
        assert_eq!(table.table.get(name).map(String::as_str), Some(expect), "{name}");
    }
    let answer = ask(&mut world, request_code::GET_BROKER_CONFIG, Ext::None);
    let text = std::str::from_utf8(&answer.body).expect("text");
    assert!(text.contains("brokerName=b\n"));
    assert!(text.contains("messageDelayLevel=1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h\n"));
    for (name, key, expect) in [
        ("TOPIC_PUT_NUMS", "T", code::SUCCESS),
        ("GROUP_GET_NUMS", "T@G", code::SUCCESS),
        ("GROUP_GET_NUMS", "T@H", code::SYSTEM_ERROR),
        ("NOTHING", "T", code::SYSTEM_ERROR),
    ] {
        let header = ViewBrokerStatsDataRequest { stats_name: name.into(), stats_key: key.into() };
        let answer = ask(&mut world, request_code::VIEW_BROKER_STATS_DATA, header.to_ext());
        assert_eq!(answer.code, expect, "{name} {key}");
    }
}

#[test]
fn the_entries_of_a_queue_are_shown() {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for n in 0..5 {
        let sent = world.call(conn, send("T", 1, "TAGS\u{1}a\u{2}", &format!("m{n}")));
        assert_eq!(sent.code, code::SUCCESS);
    }
    world.call(conn, heartbeat("c@1", "G", "T", "a", 1));
    let mut show = |topic: &str, queue_id, index, count, group: Option<&str>| {
        let header = QueryConsumeQueueRequest {
            topic: Some(topic.into()),
            queue_id: Some(queue_id),
            index: Some(index),
            count: Some(count),
            consumer_group: group.map(Into::into),
        };
        ask(&mut world, request_code::QUERY_CONSUME_QUEUE, header.to_ext())
    };
    let offsets = |answer: &Command| {
        let body: QueryConsumeQueueResponseBody = body::decode(&answer.body).expect("a body");
        assert_eq!((body.min_queue_index, body.max_queue_index), (0, 5));
        body.queue_data.iter().map(|entry| (entry.physic_offset, entry.tags_code)).collect::<Vec<_>>()
    };
    let all = offsets(&show("T", 1, 0, 100, None));
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|(_, tags_code)| *tags_code == i64::from(b'a')));
    assert!(all.windows(2).all(|two| two[0].0 < two[1].0));
    for (index, count, expect) in
        [(1, 2, 1..3), (4, 9, 4..5), (2, 0, 2..2), (2, -1, 2..2), (0, i32::MAX, 0..5)]
    {
        assert_eq!(offsets(&show("T", 1, index, count, None)), all[expect], "{index} {count}");
    }
    for index in [5, -1, i64::MAX, i64::MIN] {
        let answer = show("T", 1, index, 10, None);
        assert_eq!((answer.code, answer.body.len()), (code::SUCCESS, 0));
        assert_eq!(answer.remark, Some(format!("Index {index} of 1@T is not exist!")));
    }
    assert_eq!(show("T", 9, 0, 10, None).code, code::SYSTEM_ERROR);
    for (group, filter, is_there) in [("G", "null", true), ("H", "H@T is not online!", false)] {
        let answer = show("T", 1, 0, 1, Some(group));
        let body: QueryConsumeQueueResponseBody = body::decode(&answer.body).expect("a body");
        assert_eq!((body.filter_data.as_deref(), body.subscription_data.is_some()), (Some(filter), is_there));
    }
}

#[test]
fn old_messages_go_at_an_administrators_word_and_readers_are_told() {
    let mut config = config();
    config.store.segment_bytes = 8192;
    config.store.file_reserved = Duration::from_secs(3600);
    config.store.delete_hours = Vec::new();
    let mut world = World::new(config);
    let producer = world.connect(1);
    let mut ids = Vec::new();
    for at in 0..60 {
        let answer = world.call(producer, send("T", 0, &format!("KEYS\x01k{at}\x02"), &"x".repeat(600)));
        assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
        ids.push(answer.header::<SendMessageReceipt>().expect("a receipt").msg_id.to_string());
    }
    for (pass_secs, request, is_removed) in [
        (20, request_code::DELETE_EXPIRED_COMMITLOG, false),
        (4000, request_code::CLEAN_EXPIRED_CONSUMEQUEUE, false),
        (20, request_code::DELETE_EXPIRED_COMMITLOG, true),
    ] {
        world.pass(Duration::from_secs(pass_secs));
        assert_eq!(ask(&mut world, request, Ext::None).code, code::SUCCESS);
        world.pass(Duration::from_secs(20));
        assert_eq!(world.broker().store().log_min() > 0, is_removed, "after {request}");
    }
    let min: i64 = {
        let answer = world.call(producer, pull("T", 0, 0));
        assert_eq!(answer.code, code::PULL_OFFSET_MOVED);
        let header: PullMessageResponse = answer.header().expect("a header");
        assert_eq!((header.next_begin_offset, header.max_offset), (header.min_offset, 60));
        header.min_offset
    };
    assert!(min > 0);
    assert_eq!(world.call(producer, pull("T", 0, min)).code, code::SUCCESS);
    // After a restart all is as before, and offsets go on.
    let mut world = world.kill();
    world.run();
    let producer = world.connect(2);
    let answer = world.call(producer, pull("T", 0, min - 1));
    assert_eq!(answer.header::<PullMessageResponse>().expect("a header").min_offset, min);
    let answer = world.call(producer, send("T", 0, "", "next"));
    assert_eq!(answer.header::<SendMessageReceipt>().expect("a receipt").queue_offset, 60);
    for (at, expect) in [(0, code::SYSTEM_ERROR), (59, code::SUCCESS)] {
        let physical = i64::from_str_radix(&ids[at][16..], 16).expect("an offset id");
        let header =
            gantry_core::wire::request::ViewMessageRequest { offset: physical, ..Default::default() };
        let answer =
            world.call(producer, Command::request(request_code::VIEW_MESSAGE_BY_ID, header.to_ext()));
        assert_eq!(answer.code, expect, "message {at}: {:?}", answer.remark);
    }
}
