//! What the workloads report and the checkers judge: every attempt with its outcome, everything that was delivered.
//!
//! A message that is tried three times is three [`MessageId`]s: retries that are folded into one hide loss and reordering.

use std::fmt;

use gantry_core::time::Instant;
use serde::{Deserialize, Serialize};

pub use crate::workload::client::ClientReport;

/// The topics of a world are numbered; this is what they are called.
pub fn topic_name(topic: u8) -> String {
    format!("topic-{topic}")
}

/// A queue of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Queue {
    /// Number of its topic, see [`topic_name`].
    pub topic: u8,
    /// Its id within the topic.
    pub id: i32,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic-{}/{}", self.topic, self.id)
    }
}

/// One attempt to send one message. It stands in the body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Number of the message.
    pub message: u32,
    /// Number of the attempt, from 0.
    pub attempt: u32,
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}.{}", self.message, self.attempt)
    }
}

impl MessageId {
    /// Bytes of the shortest body.
    pub const BODY_BYTES_MIN: usize = 12;

    /// A body of `len` bytes, from which the id can be read back, and whether it is whole. Nothing in it but the numbers is
    /// zero, so that a page that was lost does not look like a body.
    pub fn body(self, len: usize) -> Vec<u8> {
        let len = len.max(MessageId::BODY_BYTES_MIN);
        let mut body = Vec::with_capacity(len);
        body.extend_from_slice(&self.message.to_be_bytes());
        body.extend_from_slice(&self.attempt.to_be_bytes());
        body.extend_from_slice(&(len as u32).to_be_bytes());
        body.resize(len, self.filler());
        body
    }

    fn filler(self) -> u8 {
        b'a' + (self.message % 26) as u8
    }

    /// Its unique key.
    pub fn unique_key(self) -> String {
        format!("m{:06}.{:05}", self.message, self.attempt)
    }

    /// The property string that goes with it; as long for every id.
    pub fn properties(self) -> String {
        format!("UNIQ_KEY\u{1}{}\u{2}TAGS\u{1}t{}\u{2}", self.unique_key(), self.message % 3)
    }

    /// The id of a body that is whole.
    pub fn from_body(body: &[u8]) -> Option<MessageId> {
        let (message, rest) = body.split_first_chunk::<4>()?;
        let (attempt, rest) = rest.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let id = MessageId { message: u32::from_be_bytes(*message), attempt: u32::from_be_bytes(*attempt) };
        let whole =
            u32::from_be_bytes(*len) as usize == body.len() && rest.iter().all(|byte| *byte == id.filler());
        whole.then_some(id)
    }

    /// The id of a stored message that is whole; brokers add properties and keep those that were sent.
    pub fn from_stored(body: &[u8], properties: &[u8]) -> Option<MessageId> {
        let id = MessageId::from_body(body)?;
        let sent = id.properties();
        let parts: Vec<&[u8]> = properties.split(|byte| *byte == 2).collect();
        sent.split_terminator('\u{2}').all(|part| parts.contains(&part.as_bytes())).then_some(id)
    }
}

/// Names a send request, of one message or a batch, within a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u32);

/// How a send request ended, as its producer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// SEND_OK.
    Ok {
        /// Offset of the first message in its queue.
        offset: i64,
        /// Place of each message in the commit log.
        physical: Vec<u64>,
    },
    /// Stored, but not as safely as asked: FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE.
    Weak {
        /// The response code.
        code: i32,
    },
    /// Refused: the messages of this attempt must never appear.
    Refused {
        /// The response code.
        code: i32,
    },
    /// Nobody knows: no reply came, or one that leaves it open.
    Unknown,
}

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// The consumer group under test.
    Group,
    /// The reader that looks at everything in the end.
    Auditor,
}

impl Reader {
    /// The name of its consumer group.
    pub fn group(self) -> &'static str {
        match self {
            Reader::Group => "consumers",
            Reader::Auditor => "auditors",
        }
    }
}

/// What a workload tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// A slave answered a pull while its master was gone.
    SlaveServed,
    /// A request is about to leave.
    SendBegun {
        /// Its name.
        request: RequestId,
        /// Where to.
        queue: Queue,
        /// Its messages, in order.
        messages: Vec<MessageId>,
    },
    /// It ended.
    SendEnded {
        /// Its name.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// A message was given up after all its attempts.
    GaveUp {
        /// The last attempt.
        message: MessageId,
    },
    /// Everything that was to be sent has been, or was given up.
    AllSent,
    /// A reader began to read a queue, at its committed offset.
    ReadFrom {
        /// Who.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// The broker's answer; `None` when it knew no offset.
        committed: Option<i64>,
    },
    /// A pull was answered with no message and a place to go on.
    Moved {
        /// Who.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// The offset pulled.
        from: i64,
        /// The next one.
        to: i64,
        /// One past the last message.
        max: i64,
    },
    /// A message came.
    Delivered {
        /// Who.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// At which offset.
        offset: i64,
        /// Where in the commit log.
        physical: u64,
        /// Which; `None` when its body is none of ours.
        message: Option<MessageId>,
    },
    /// A pull was answered; everything up to `next` has been delivered.
    Pulled {
        /// Who.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// The next offset to pull.
        next: i64,
        /// One past the last message.
        max: i64,
    },
    /// A reader's own process began anew.
    Began {
        /// Who.
        reader: Reader,
    },
    /// A route was asked for.
    Route {
        /// Of which topic.
        topic: u8,
        /// The master's address, when the name server knew one.
        master: Option<String>,
    },
    /// Something that no server may do: a reply that breaks the protocol.
    Broken {
        /// What.
        what: String,
    },
    /// Of delayed messages.
    Delay(DelayReport),
    /// Of messages that come back.
    Retry(RetryReport),
    /// Of consumption in order.
    Ordered(OrderedReport),
    /// Of messages that are looked for.
    Ask(AskReport),
    /// Of administration.
    Admin(AdminReport),
    /// Of an application over the client machine.
    Client(ClientReport),
    /// Of messages that are to be stored once.
    Insist(InsistReport),
}

/// What the producers that insist tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsistReport {
    /// An attempt is about to leave.
    Begun {
        /// Which.
        id: MessageId,
    },
    /// It got SEND_OK.
    Stored {
        /// Which.
        id: MessageId,
        /// Where the message is said to lie.
        place: OncePlace,
        /// The broker says that it stored it once.
        honoured: bool,
    },
    /// A message was read.
    Came {
        /// Where.
        place: OncePlace,
        /// Which; `None` when it is none of ours.
        id: Option<MessageId>,
    },
    /// A queue was read up to its end.
    Drained {
        /// Which.
        queue: i32,
    },
}

/// Where a message lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OncePlace {
    /// Its queue.
    pub queue: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its place in the commit log.
    pub physical: u64,
}

/// What the client that looks for messages tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskReport {
    /// An attempt to send is about to leave.
    Begun {
        /// Which.
        id: MessageId,
    },
    /// It got SEND_OK.
    Stored {
        /// Which.
        id: MessageId,
        /// Where.
        copy: Found,
    },
    /// A question was answered.
    Answered {
        /// What was asked.
        question: Question,
        /// When it left, in the world's time as its client counts it.
        asked: Instant,
        /// What was found.
        found: Vec<(MessageId, Found)>,
    },
    /// An offset was asked for by time.
    Searched {
        /// In which queue.
        queue: i32,
        /// Which time, in ms.
        at_ms: i64,
        /// When it left.
        asked: Instant,
        /// The answer.
        offset: i64,
    },
}

/// A message at its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its queue.
    pub queue: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its place in the commit log.
    pub physical: u64,
    /// When it was stored, in ms; 0 when that is not known.
    pub store_ms: i64,
}

/// How a message is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// By a key of its sender's.
    Key {
        /// The message of that key.
        message: u32,
    },
    /// By its unique key.
    Unique {
        /// Whose it is.
        id: MessageId,
    },
    /// By its place in the commit log.
    Place {
        /// Where.
        physical: u64,
    },
}

/// What the administrator tells: a register is written and read, by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminReport {
    /// A change is about to leave.
    Begun {
        /// Of what.
        register: String,
        /// What it will be; `None` when it is deleted.
        value: Option<String>,
    },
    /// The change was acknowledged.
    Done {
        /// Of what.
        register: String,
        /// What it is.
        value: Option<String>,
    },
    /// The change was not made.
    NotDone {
        /// Of what.
        register: String,
        /// What it would be.
        value: Option<String>,
    },
    /// It was read.
    Read {
        /// What.
        register: String,
        /// What it is.
        value: Option<String>,
    },
    /// A message to a queue is about to leave.
    SendBegun {
        /// Which.
        id: MessageId,
        /// Its topic.
        topic: String,
        /// Its queue.
        queue: i32,
    },
    /// It ended.
    SendEnded {
        /// Which.
        id: MessageId,
        /// Its topic.
        topic: String,
        /// Its queue.
        queue: i32,
        /// How.
        outcome: Outcome,
    },
    /// A message was read.
    Came {
        /// From which topic.
        topic: String,
        /// From which queue.
        queue: i32,
        /// At which offset.
        offset: i64,
        /// Which; `None` when it is none of ours.
        id: Option<MessageId>,
    },
    /// A queue was read up to its end.
    Drained {
        /// Of which topic.
        topic: String,
        /// Which.
        queue: i32,
    },
}

/// What the client of delayed messages tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DelayReport {
    /// An attempt is about to leave.
    Begun {
        /// Which.
        id: MessageId,
        /// Its delay level.
        level: u8,
    },
    /// It ended.
    Ended {
        /// Which.
        id: MessageId,
        /// With SEND_OK.
        stored: bool,
    },
    /// A message was read; those of a queue are read anew in each life.
    Came {
        /// Where.
        queue: i32,
        /// At which offset.
        offset: i64,
        /// Which; `None` when it is none of ours.
        id: Option<MessageId>,
    },
}

/// What the consumer that fails tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryReport {
    /// An attempt to send is about to leave.
    Begun {
        /// Which.
        id: MessageId,
    },
    /// It got SEND_OK.
    Stored {
        /// Which.
        id: MessageId,
    },
    /// A message came, from the topic or the group's retry topic.
    Came {
        /// Which.
        id: MessageId,
        /// How often it had come back.
        times: i32,
        /// Where it lay.
        place: RetryPlace,
    },
    /// It was consumed.
    Consumed {
        /// Which.
        id: MessageId,
    },
    /// It is about to be sent back.
    BackBegun {
        /// Which.
        id: MessageId,
        /// How often it had come back.
        times: i32,
        /// Where in the commit log the request says that it lies.
        physical: u64,
    },
    /// Its way back was acknowledged.
    Back {
        /// Which.
        id: MessageId,
        /// How often it had come back before.
        times: i32,
    },
    /// It is in the dead-letter queue.
    Dead {
        /// Which.
        id: MessageId,
        /// How often it had come back.
        times: i32,
        /// Where it lay.
        place: RetryPlace,
    },
}

/// Where a copy of a message lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPlace {
    /// Its topic.
    pub topic: &'static str,
    /// Its queue there.
    pub queue: i32,
    /// Its offset in the queue.
    pub offset: i64,
    /// Its place in the commit log.
    pub physical: u64,
}

/// What a member of the group that consumes in order tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderedReport {
    /// It consumed a message.
    Took {
        /// Where.
        queue: Queue,
        /// At which offset.
        offset: i64,
    },
}

/// What a machine is told by a host that wants to end it cleanly.
pub trait Halt {
    /// The command.
    fn halt() -> Self;
}

/// The simulated clients have no other command.
impl Halt for () {
    fn halt() -> Self {}
}

/// What a machine tells its host, as far as the checkers care.
pub trait Tell {
    /// The report, if it is one.
    fn report(self) -> Option<Report>;
}

impl Tell for Report {
    fn report(self) -> Option<Report> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_a_whole_message_only() {
        let id = MessageId { message: 7, attempt: 70_000 };
        let (body, properties) = (id.body(40), format!("{}CLUSTER\u{1}c\u{2}", id.properties()));
        assert_eq!(MessageId::from_stored(&body, properties.as_bytes()), Some(id));
        assert_eq!(id.body(0).len(), MessageId::BODY_BYTES_MIN);
        let torn = |at: usize| {
            let mut torn = body.clone();
            torn[at] = 0;
            MessageId::from_stored(&torn, properties.as_bytes())
        };
        assert_eq!([torn(11), torn(12), torn(39)], [None; 3]);
        assert_eq!(MessageId::from_body(&body[..39]), None);
        assert_eq!(MessageId::from_stored(&body, &[0; 30]), None);
    }
}
