//! Messages as applications give and get them.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::wire::body::MessageQueue;
use crate::wire::message::{self, PROPERTIES_BYTES_MAX, Record, put_property};

/// Names of properties that have a meaning.
pub mod property {
    /// Search keys, separated by spaces.
    pub const KEYS: &str = "KEYS";
    /// The tag that subscriptions choose by.
    pub const TAGS: &str = "TAGS";
    /// Whether the broker answers only when the message is as safe as its modes say.
    pub const WAIT: &str = "WAIT";
    /// Delay level, 1 to 18.
    pub const DELAY: &str = "DELAY";
    /// Delivery time, ms since the epoch.
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    /// The sender's own id of a message.
    pub const UNIQ_KEY: &str = "UNIQ_KEY";
    /// The topic of a message that comes back for another try.
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    /// The id that a message had before it came back.
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    /// Joins a reply to its request.
    pub const CORRELATION_ID: &str = "CORRELATION_ID";
    /// The client that waits for a reply.
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    /// How long a reply is waited for, ms.
    pub const TTL: &str = "TTL";
    /// `reply`: of a reply.
    pub const MSG_TYPE: &str = "MSG_TYPE";
    /// `true`: of a half message.
    pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
    /// The producer group that knows how a half message ends.
    pub const PRODUCER_GROUP: &str = "PGROUP";
    /// How long a broker waits before it asks about a half message, s (`transactionTimeOut` unless set).
    pub const CHECK_IMMUNITY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// The region of the broker that stored a message.
    pub const MSG_REGION: &str = "MSG_REGION";
    /// `false`: its broker wants no trace of a message.
    pub const TRACE_ON: &str = "TRACE_ON";
    /// The cluster that stored a message.
    pub const CLUSTER: &str = "CLUSTER";
    /// What keeps messages of one thing in one queue.
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
}

/// The largest body that brokers take unless configured otherwise (`maxMessageSize`).
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A message to send.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub body: Bytes,
    /// The application's own number.
    pub flag: i32,
    /// The compression bits of [`message::sys_flag`]; whoever compressed the body sets them.
    pub sys_flag: i32,
    /// Names and values; see [`property`].
    pub properties: Vec<(String, String)>,
}

impl Message {
    /// A message without properties.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Message {
        Message { topic: topic.into(), body: body.into(), ..Message::default() }
    }

    /// The same with a property, in place of one of that name.
    #[must_use]
    pub fn with_property(mut self, name: &str, value: impl Into<String>) -> Message {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_string(), value.into()));
        self
    }

    /// The same with a tag.
    #[must_use]
    pub fn with_tag(self, tag: impl Into<String>) -> Message {
        self.with_property(property::TAGS, tag)
    }

    /// The same with a search key more.
    #[must_use]
    pub fn with_key(self, key: &str) -> Message {
        let keys = match self.property(property::KEYS) {
            Some(keys) => alloc::format!("{keys} {key}"),
            None => key.to_string(),
        };
        self.with_property(property::KEYS, keys)
    }

    /// The same with an id of the application's own: for an idempotent producer all messages of a topic with one such id are one.
    #[must_use]
    pub fn with_unique_key(self, key: impl Into<String>) -> Message {
        self.with_property(property::UNIQ_KEY, key)
    }

    /// The same, to be delivered after one of RocketMQ's 18 delays (1 s … 2 h).
    #[must_use]
    pub fn with_delay_level(self, level: u8) -> Message {
        self.with_property(property::DELAY, level.to_string())
    }

    /// The same, to be delivered at this time, ms since the epoch, if its broker serves timer messages.
    #[must_use]
    pub fn with_delivery_at(self, time_ms: i64) -> Message {
        self.with_property(property::TIMER_DELIVER_MS, time_ms.to_string())
    }

    /// The same as the reply to a request, whatever its topic was.
    ///
    /// # Errors
    /// [`MessageError::NoRequest`].
    pub fn into_reply(mut self, request: &Received) -> Result<Message, MessageError> {
        let Some(cluster) = request.property(property::CLUSTER) else { return Err(MessageError::NoRequest) };
        self.topic = alloc::format!("{cluster}_REPLY_TOPIC");
        for name in [property::CORRELATION_ID, property::REPLY_TO_CLIENT, property::TTL] {
            let Some(value) = request.property(name) else { return Err(MessageError::NoRequest) };
            self = self.with_property(name, value);
        }
        Ok(self.with_property(property::MSG_TYPE, "reply"))
    }

    pub(super) fn is_reply(&self) -> bool {
        self.property(property::MSG_TYPE) == Some("reply")
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it can be sent.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn check(&self) -> Result<(), MessageError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-');
        if self.topic.is_empty() || self.topic.len() > 255 || !self.topic.bytes().all(is_allowed) {
            return Err(MessageError::Topic(self.topic.clone()));
        }
        if self.body.is_empty() {
            return Err(MessageError::EmptyBody);
        }
        if self.body.len() > BODY_BYTES_MAX {
            return Err(MessageError::Body(self.body.len()));
        }
        let is_separator = |character: char| matches!(character, '\0' | '\u{1}' | '\u{2}');
        for (name, value) in &self.properties {
            if name.is_empty()
                || value.is_empty()
                || name.contains(is_separator)
                || value.contains(is_separator)
            {
                return Err(MessageError::Property(name.clone()));
            }
        }
        let bytes: usize = self.properties.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if bytes > PROPERTIES_BYTES_MAX { Err(MessageError::Properties(bytes)) } else { Ok(()) }
    }

    /// Its property string.
    pub(super) fn property_text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.properties {
            put_property(name.as_bytes(), value.as_bytes(), &mut out);
        }
        out
    }
}

/// A message that no broker would take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// Not a topic's name: `%|a-zA-Z0-9_-`, at most 127 characters (255 for retry and dead-letter topics).
    Topic(String),
    /// RocketMQ refuses messages without a body.
    EmptyBody,
    /// Larger than [`BODY_BYTES_MAX`], in bytes: compress or split it.
    Body(usize),
    /// A property whose name or value is empty or holds a byte that separates properties (0, 1 or 2).
    Property(String),
    /// Property text of so many bytes; 32767 at most.
    Properties(usize),
    /// A batch whose messages differ in topic, are delayed, or are none.
    Batch(&'static str),
    /// A reply to a message that nobody waits for a reply to.
    NoRequest,
    /// A half message with a delay: what is delayed is delivered without its transaction.
    DelayedHalf,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Topic(topic) => {
                write!(f, "{topic:?} is no topic's name: use letters, digits, _, - and %")
            }
            MessageError::EmptyBody => f.write_str("the body is empty, which brokers refuse"),
            MessageError::Body(bytes) => {
                write!(f, "the body has {bytes} bytes, brokers take {BODY_BYTES_MAX}: compress or split it")
            }
            MessageError::Property(name) => {
                write!(f, "property {name:?} is empty or holds one of the bytes 0, 1 and 2")
            }
            MessageError::Properties(bytes) => {
                write!(f, "the properties take {bytes} bytes, brokers take {PROPERTIES_BYTES_MAX}")
            }
            MessageError::Batch(why) => f.write_str(why),
            MessageError::DelayedHalf => {
                f.write_str("a transaction's message cannot be delayed: take the delay away")
            }
            MessageError::NoRequest => f.write_str("the message is no request: nobody waits for a reply"),
        }
    }
}

impl core::error::Error for MessageError {}

/// Names and values of a message that came, as its record has them: taken apart when somebody asks.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties {
    text: Box<str>,
}

impl Properties {
    /// Of a property string. Bytes that are no UTF-8 become U+FFFD, as Java reads them.
    pub(super) fn of(text: &[u8]) -> Properties {
        Properties { text: String::from_utf8_lossy(text).into() }
    }

    /// All of them, in the order that they have. Broken entries are passed over, as in RocketMQ.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        // Separators are ASCII, so that whatever lies between two of them is UTF-8 like the whole.
        message::properties(self.text.as_bytes())
            .filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?)))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = message::property(self.text.as_bytes(), name.as_bytes())?;
        str::from_utf8(value).ok()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A message as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct Received {
    /// The topic that it was sent to, also when it came back for another try.
    pub topic: String,
    /// The queue that it was read from.
    pub queue: MessageQueue,
    /// Its place in that queue.
    pub queue_offset: i64,
    /// Its place in the broker's commit log.
    pub physical_offset: i64,
    /// Its body, as stored (see [`Received::sys_flag`]).
    pub body: Bytes,
    /// The application's own number.
    pub flag: i32,
    /// See [`message::sys_flag`].
    pub sys_flag: i32,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// When its producer made it, ms since the epoch.
    pub born_timestamp: i64,
    /// Who sent it.
    pub born_host: SocketAddr,
    /// When the broker stored it, ms since the epoch.
    pub store_timestamp: i64,
    /// The broker that stored it.
    pub store_host: SocketAddr,
    /// Names and values.
    pub properties: Properties,
}

impl Received {
    /// Of a record that lies in `body`, read from `queue`.
    pub(super) fn from_record(record: &Record<'_>, body: &Bytes, queue: &MessageQueue) -> Received {
        let properties = Properties::of(record.properties);
        Received {
            topic: properties.get(property::RETRY_TOPIC).unwrap_or(record.topic).to_string(),
            queue: queue.clone(),
            queue_offset: record.queue_offset,
            physical_offset: record.physical_offset,
            body: body.slice_ref(record.body),
            flag: record.flag,
            sys_flag: record.sys_flag,
            reconsume_times: record.reconsume_times,
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_timestamp: record.store_timestamp,
            store_host: record.store_host,
            properties,
        }
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)
    }

    /// Its tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(property::TAGS)
    }

    /// Its search keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.property(property::KEYS).unwrap_or_default().split(' ').filter(|key| !key.is_empty())
    }

    /// The id that its sender gave it, or the one of its place in the broker's log.
    pub fn id(&self) -> String {
        self.property(property::UNIQ_KEY).map_or_else(|| self.offset_id(), ToString::to_string)
    }

    /// The id of its place: host and commit-log offset.
    pub fn offset_id(&self) -> String {
        let mut id = String::new();
        message::offset_message_id(&self.store_host, self.physical_offset, &mut id);
        id
    }
}

/// The only message of a request's body, with the queue of its record.
pub(super) fn read_one(body: &Bytes, queue: &MessageQueue) -> Result<Received, message::RecordError> {
    match message::Entry::decode(body)? {
        message::Entry::Message(record) => {
            let queue = MessageQueue { queue_id: record.queue_id, ..queue.clone() };
            Ok(Received::from_record(&record, body, &queue))
        }
        message::Entry::Blank(_) => Err(message::RecordError::Length),
    }
}

/// The messages of a pull's answer.
pub(super) fn read_all(body: &Bytes, queue: &MessageQueue) -> Result<Vec<Received>, message::RecordError> {
    let mut messages = Vec::new();
    let mut rest: &[u8] = body;
    while !rest.is_empty() {
        match message::Entry::decode(rest)? {
            message::Entry::Message(record) => {
                rest = &rest[record.size as usize..];
                messages.push(Received::from_record(&record, body, queue));
            }
            message::Entry::Blank(_) => return Err(message::RecordError::Length),
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_broker_would_take_is_refused_here() {
        let message = || Message::new("T", "b");
        for (message, expect) in [
            (message().with_tag("t").with_key("k").with_key("l"), Ok(())),
            (Message::new("a b", "b"), Err(MessageError::Topic("a b".into()))),
            (Message::new("T", ""), Err(MessageError::EmptyBody)),
            (
                Message::new("T", alloc::vec![0; BODY_BYTES_MAX + 1]),
                Err(MessageError::Body(BODY_BYTES_MAX + 1)),
            ),
            (message().with_tag(""), Err(MessageError::Property("TAGS".into()))),
            (message().with_property("a\u{1}", "b"), Err(MessageError::Property("a\u{1}".into()))),
            (message().with_property("a", "b".repeat(32_765)), Err(MessageError::Properties(32_768))),
        ] {
            assert_eq!(message.check(), expect);
        }
        let both = message().with_key("k").with_key("l");
        assert_eq!(both.property(property::KEYS), Some("k l"));
        assert_eq!(both.property_text(), b"KEYS\x01k l\x02");
    }
}
