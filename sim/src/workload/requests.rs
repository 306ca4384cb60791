//! The requests that the drivers send, field by field as RocketMQ's header classes name them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use gantry_core::wire::{Command, Ext};

/// Request codes.
pub mod code {
    /// SEND_MESSAGE_V2.
    pub const SEND_MESSAGE_V2: i32 = 310;
    /// SEND_BATCH_MESSAGE.
    pub const SEND_BATCH_MESSAGE: i32 = 320;
    /// PULL_MESSAGE.
    pub const PULL_MESSAGE: i32 = 11;
    /// QUERY_MESSAGE.
    pub const QUERY_MESSAGE: i32 = 12;
    /// UPDATE_AND_CREATE_TOPIC.
    pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
    /// SEARCH_OFFSET_BY_TIMESTAMP.
    pub const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
    /// VIEW_MESSAGE_BY_ID.
    pub const VIEW_MESSAGE_BY_ID: i32 = 33;
    /// PUT_KV_CONFIG.
    pub const PUT_KV_CONFIG: i32 = 100;
    /// GET_KV_CONFIG.
    pub const GET_KV_CONFIG: i32 = 101;
    /// DELETE_KV_CONFIG.
    pub const DELETE_KV_CONFIG: i32 = 102;
    /// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
    pub const UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: i32 = 200;
    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
    pub const GET_ALL_SUBSCRIPTIONGROUP_CONFIG: i32 = 201;
    /// WIPE_WRITE_PERM_OF_BROKER.
    pub const WIPE_WRITE_PERM_OF_BROKER: i32 = 205;
    /// ADD_WRITE_PERM_OF_BROKER.
    pub const ADD_WRITE_PERM_OF_BROKER: i32 = 327;
    /// DELETE_SUBSCRIPTIONGROUP.
    pub const DELETE_SUBSCRIPTIONGROUP: i32 = 207;
    /// DELETE_TOPIC_IN_BROKER.
    pub const DELETE_TOPIC_IN_BROKER: i32 = 215;
    /// DELETE_TOPIC_IN_NAMESRV.
    pub const DELETE_TOPIC_IN_NAMESRV: i32 = 216;
    /// GET_TOPIC_CONFIG.
    pub const GET_TOPIC_CONFIG: i32 = 351;
    /// INVOKE_BROKER_TO_RESET_OFFSET.
    pub const INVOKE_BROKER_TO_RESET_OFFSET: i32 = 222;
    /// CLEAN_EXPIRED_CONSUMEQUEUE.
    pub const CLEAN_EXPIRED_CONSUMEQUEUE: i32 = 306;
    /// DELETE_EXPIRED_COMMITLOG.
    pub const DELETE_EXPIRED_COMMITLOG: i32 = 329;
    /// QUERY_CONSUMER_OFFSET.
    pub const QUERY_CONSUMER_OFFSET: i32 = 14;
    /// UPDATE_CONSUMER_OFFSET.
    pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
    /// GET_BROKER_EPOCH_CACHE.
    pub const GET_BROKER_EPOCH_CACHE: i32 = 1007;
    /// UPDATE_BROKER_CONFIG.
    pub const UPDATE_BROKER_CONFIG: i32 = 25;
    /// HEART_BEAT.
    pub const HEART_BEAT: i32 = 34;
    /// UNREGISTER_CLIENT.
    pub const UNREGISTER_CLIENT: i32 = 35;
    /// CONSUMER_SEND_MSG_BACK.
    pub const CONSUMER_SEND_MSG_BACK: i32 = 36;
    /// LOCK_BATCH_MQ.
    pub const LOCK_BATCH_MQ: i32 = 41;
    /// UNLOCK_BATCH_MQ.
    pub const UNLOCK_BATCH_MQ: i32 = 42;
    /// GET_CONSUMER_LIST_BY_GROUP.
    pub const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
    /// NOTIFY_CONSUMER_IDS_CHANGED.
    pub const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
    /// REGISTER_BROKER.
    pub const REGISTER_BROKER: i32 = 103;
    /// UNREGISTER_BROKER.
    pub const UNREGISTER_BROKER: i32 = 104;
    /// GET_ROUTEINFO_BY_TOPIC.
    pub const GET_ROUTEINFO_BY_TOPIC: i32 = 105;
    /// QUERY_DATA_VERSION, which also counts as a sign of life.
    pub const QUERY_DATA_VERSION: i32 = 322;
    /// BROKER_HEARTBEAT.
    pub const BROKER_HEARTBEAT: i32 = 904;
}

/// Response codes.
pub mod reply {
    /// SUCCESS.
    pub const SUCCESS: i32 = 0;
    /// SYSTEM_ERROR.
    pub const SYSTEM_ERROR: i32 = 1;
    /// SYSTEM_BUSY.
    pub const SYSTEM_BUSY: i32 = 2;
    /// FLUSH_DISK_TIMEOUT.
    pub const FLUSH_DISK_TIMEOUT: i32 = 10;
    /// SLAVE_NOT_AVAILABLE.
    pub const SLAVE_NOT_AVAILABLE: i32 = 11;
    /// FLUSH_SLAVE_TIMEOUT.
    pub const FLUSH_SLAVE_TIMEOUT: i32 = 12;
    /// MESSAGE_ILLEGAL.
    pub const MESSAGE_ILLEGAL: i32 = 13;
    /// SERVICE_NOT_AVAILABLE.
    pub const SERVICE_NOT_AVAILABLE: i32 = 14;
    /// NO_PERMISSION.
    pub const NO_PERMISSION: i32 = 16;
    /// TOPIC_NOT_EXIST.
    pub const TOPIC_NOT_EXIST: i32 = 17;
    /// PULL_NOT_FOUND.
    pub const PULL_NOT_FOUND: i32 = 19;
    /// PULL_RETRY_IMMEDIATELY.
    pub const PULL_RETRY_IMMEDIATELY: i32 = 20;
    /// PULL_OFFSET_MOVED.
    pub const PULL_OFFSET_MOVED: i32 = 21;
    /// QUERY_NOT_FOUND.
    pub const QUERY_NOT_FOUND: i32 = 22;
    /// INVALID_PARAMETER.
    pub const INVALID_PARAMETER: i32 = 29;
}

/// The topic whose queues a new topic copies.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";

type Field = (Cow<'static, str>, Cow<'static, str>);

fn field(name: &'static str, value: impl Into<Cow<'static, str>>) -> Field {
    (Cow::Borrowed(name), value.into())
}

fn number(name: &'static str, value: i64) -> Field {
    field(name, value.to_string())
}

/// Asks a name server for a topic's route.
pub fn route(topic: &str) -> Command {
    Command::request(code::GET_ROUTEINFO_BY_TOPIC, Ext::Fields(vec![field("topic", topic.to_owned())]))
}

/// Makes a topic at a broker, or changes it.
pub fn make_topic(topic: &str, queues: i32) -> Command {
    let fields = vec![
        field("topic", topic.to_owned()),
        field("defaultTopic", AUTO_CREATE_TOPIC),
        number("readQueueNums", queues.into()),
        number("writeQueueNums", queues.into()),
        number("perm", 6),
        field("topicFilterType", "SINGLE_TAG"),
        number("topicSysFlag", 0),
        field("order", "false"),
    ];
    Command::request(code::UPDATE_AND_CREATE_TOPIC, Ext::Fields(fields))
}

/// Deletes a topic at a broker.
pub fn delete_topic(topic: &str) -> Command {
    Command::request(code::DELETE_TOPIC_IN_BROKER, Ext::Fields(vec![field("topic", topic.to_owned())]))
}

/// Deletes a topic at a name server.
pub fn delete_topic_there(topic: &str) -> Command {
    Command::request(code::DELETE_TOPIC_IN_NAMESRV, Ext::Fields(vec![field("topic", topic.to_owned())]))
}

/// A message to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// Its body.
    pub body: Vec<u8>,
    /// Its property string.
    pub properties: String,
}

/// Sends one message (310), or several as a batch (320).
pub fn send(group: &str, topic: &str, queue: i32, born_ms: i64, messages: &[Outgoing]) -> Command {
    send_from(group, topic, AUTO_CREATE_TOPIC, queue, born_ms, messages)
}

/// The same to a topic that is made after another one, if need be.
pub fn send_from(
    group: &str,
    topic: &str,
    default_topic: &'static str,
    queue: i32,
    born_ms: i64,
    messages: &[Outgoing],
) -> Command {
    let batch = messages.len() != 1;
    let mut fields = vec![
        field("a", group.to_owned()),
        field("b", topic.to_owned()),
        field("c", default_topic),
        number("d", 4),
        number("e", queue.into()),
        number("f", 0),
        number("g", born_ms),
        number("h", 0),
        number("j", 0),
        field("k", "false"),
        field("m", if batch { "true" } else { "false" }),
    ];
    let body = if let [message] = messages {
        fields.push(field("i", message.properties.clone()));
        Bytes::copy_from_slice(&message.body)
    } else {
        batch_body(messages)
    };
    let code = if batch { code::SEND_BATCH_MESSAGE } else { code::SEND_MESSAGE_V2 };
    Command::request(code, Ext::Fields(fields)).with_body(body)
}

fn batch_body(messages: &[Outgoing]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        let size = 4 + 4 + 4 + 4 + 4 + message.body.len() + 2 + message.properties.len();
        out.put_u32(size as u32);
        out.put_u32(0);
        out.put_u32(0);
        out.put_u32(0);
        out.put_u32(message.body.len() as u32);
        out.put_slice(&message.body);
        out.put_u16(message.properties.len() as u16);
        out.put_slice(message.properties.as_bytes());
    }
    out.freeze()
}

/// Where and how to pull.
#[derive(Debug)]
pub struct Pull<'a> {
    /// Consumer group.
    pub group: &'a str,
    /// Topic.
    pub topic: &'a str,
    /// Queue id.
    pub queue: i32,
    /// First offset wanted.
    pub offset: i64,
    /// Messages at most.
    pub messages_max: i64,
    /// An offset to commit on the way.
    pub commit: Option<i64>,
    /// How long the broker may hold the request, in ms.
    pub suspend_ms: i64,
}

/// Pulls, or waits for messages.
pub fn pull(pull: &Pull<'_>) -> Command {
    const COMMIT: i64 = 1;
    const SUSPEND: i64 = 2;
    const SUBSCRIPTION: i64 = 4;
    let flag = SUSPEND | SUBSCRIPTION | if pull.commit.is_some() { COMMIT } else { 0 };
    let fields = vec![
        field("consumerGroup", pull.group.to_owned()),
        field("topic", pull.topic.to_owned()),
        number("queueId", pull.queue.into()),
        number("queueOffset", pull.offset),
        number("maxMsgNums", pull.messages_max),
        number("sysFlag", flag),
        number("commitOffset", pull.commit.unwrap_or(0)),
        number("suspendTimeoutMillis", pull.suspend_ms),
        field("subscription", "*"),
        number("subVersion", 1),
        field("expressionType", "TAG"),
    ];
    Command::request(code::PULL_MESSAGE, Ext::Fields(fields))
}

/// Asks for a group's committed offset.
pub fn query_offset(group: &str, topic: &str, queue: i32) -> Command {
    let fields = vec![
        field("consumerGroup", group.to_owned()),
        field("topic", topic.to_owned()),
        number("queueId", queue.into()),
        field("setZeroIfNotFound", "false"),
    ];
    Command::request(code::QUERY_CONSUMER_OFFSET, Ext::Fields(fields))
}

/// Commits a group's offset.
pub fn update_offset(group: &str, topic: &str, queue: i32, offset: i64) -> Command {
    let fields = vec![
        field("consumerGroup", group.to_owned()),
        field("topic", topic.to_owned()),
        number("queueId", queue.into()),
        number("commitOffset", offset),
    ];
    Command::request(code::UPDATE_CONSUMER_OFFSET, Ext::Fields(fields))
}

/// A message that comes back, because it could not be consumed.
#[derive(Debug)]
pub struct Back<'a> {
    /// Consumer group.
    pub group: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// Its place in the commit log.
    pub physical: u64,
    /// Its unique key, as the clients of RocketMQ give it.
    pub unique: String,
    /// It has been consumed often enough after so many times.
    pub times_max: i32,
}

/// Sends a message back.
pub fn send_back(back: &Back<'_>) -> Command {
    let fields = vec![
        field("group", back.group.to_owned()),
        field("originTopic", back.topic.to_owned()),
        field("originMsgId", back.unique.clone()),
        number("offset", back.physical as i64),
        number("delayLevel", 0),
        number("maxReconsumeTimes", back.times_max.into()),
        field("unitMode", "false"),
    ];
    Command::request(code::CONSUMER_SEND_MSG_BACK, Ext::Fields(fields))
}

/// Locks (or unlocks) queues for one client of a group.
pub fn lock(code: i32, group: &str, client_id: &str, broker: &str, queues: &[(String, i32)]) -> Command {
    let queues: Vec<String> = queues
        .iter()
        .map(|(topic, id)| format!(r#"{{"brokerName":"{broker}","queueId":{id},"topic":"{topic}"}}"#))
        .collect();
    let body = format!(
        r#"{{"clientId":"{client_id}","consumerGroup":"{group}","mqSet":[{}],"onlyThisBroker":false}}"#,
        queues.join(",")
    );
    Command::request(code, Ext::None).with_body(body)
}

/// Leaves a consumer group.
pub fn leave(client_id: &str, group: &str) -> Command {
    let fields = vec![field("clientID", client_id.to_owned()), field("consumerGroup", group.to_owned())];
    Command::request(code::UNREGISTER_CLIENT, Ext::Fields(fields))
}

/// Asks who consumes in a group.
pub fn consumer_list(group: &str) -> Command {
    let fields = vec![field("consumerGroup", group.to_owned())];
    Command::request(code::GET_CONSUMER_LIST_BY_GROUP, Ext::Fields(fields))
}

/// A producer's heartbeat.
pub fn producer_heartbeat(client_id: &str, group: &str) -> Command {
    let body = format!(
        r#"{{"clientID":"{client_id}","consumerDataSet":[],"heartbeatFingerprint":0,"producerDataSet":[{{"groupName":"{group}"}}],"withoutSub":false}}"#
    );
    Command::request(code::HEART_BEAT, Ext::None).with_body(body)
}

/// How a group's consumers share its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Each message goes to one of them.
    Clustering,
    /// To all of them, and each keeps its own offsets.
    Broadcasting,
}

/// A consumer's heartbeat.
pub fn consumer_heartbeat(client_id: &str, group: &str, model: Model, topics: &[String]) -> Command {
    let model = match model {
        Model::Clustering => "CLUSTERING",
        Model::Broadcasting => "BROADCASTING",
    };
    let subscriptions: Vec<String> = topics
        .iter()
        .map(|topic| {
            format!(
                r#"{{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*","subVersion":1,"tagsSet":[],"topic":"{topic}"}}"#
            )
        })
        .collect();
    let body = format!(
        r#"{{"clientID":"{client_id}","consumerDataSet":[{{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"{group}","messageModel":"{model}","subscriptionDataSet":[{}],"unitMode":false}}],"heartbeatFingerprint":0,"producerDataSet":[],"withoutSub":false}}"#,
        subscriptions.join(",")
    );
    Command::request(code::HEART_BEAT, Ext::None).with_body(body)
}

/// Looks for the messages that have a key, of all times.
pub fn query_key(topic: &str, key: &str, is_unique: bool) -> Command {
    let mut fields = vec![
        field("topic", topic.to_owned()),
        field("key", key.to_owned()),
        number("maxNum", 64),
        number("beginTimestamp", 0),
        number("endTimestamp", i64::MAX),
    ];
    if is_unique {
        fields.push(field("_UNIQUE_KEY_QUERY", "true"));
    }
    Command::request(code::QUERY_MESSAGE, Ext::Fields(fields))
}

/// Looks at the message at a place of the commit log.
pub fn view(physical: u64) -> Command {
    Command::request(code::VIEW_MESSAGE_BY_ID, Ext::Fields(vec![number("offset", physical as i64)]))
}

/// Asks for the offset in a queue at which a time begins.
pub fn search_offset(topic: &str, queue: i32, at_ms: i64) -> Command {
    let fields =
        vec![field("topic", topic.to_owned()), number("queueId", queue.into()), number("timestamp", at_ms)];
    Command::request(code::SEARCH_OFFSET_BY_TIMESTAMP, Ext::Fields(fields))
}

/// Any request of which all fields are text.
pub fn plain(code: i32, fields: &[(&'static str, &str)]) -> Command {
    let fields = fields.iter().map(|(name, value)| field(name, (*value).to_owned())).collect();
    Command::request(code, Ext::Fields(fields))
}

/// A number in a reply's header.
pub fn reply_number(reply: &Command, name: &str) -> Option<i64> {
    reply.ext.get(name)?.parse().ok()
}
