//! What the workloads report and the checkers judge: every attempt with its outcome, everything that was delivered.
//!
//! A message that is tried three times is three [`MessageId`]s: retries that are folded into one hide loss and reordering.

use std::fmt;

/// The topics of a world are numbered; this is what they are called.
pub fn topic_name(topic: u8) -> String {
    format!("topic-{topic}")
}

/// A queue of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// One attempt to send one message. It stands at the start of the body.
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
    /// Bytes of an id in a body.
    pub const BYTES: usize = 8;

    /// How it stands in a body.
    pub fn to_bytes(self) -> [u8; MessageId::BYTES] {
        let mut bytes = [0; MessageId::BYTES];
        bytes[..4].copy_from_slice(&self.message.to_be_bytes());
        bytes[4..].copy_from_slice(&self.attempt.to_be_bytes());
        bytes
    }

    /// The id at the start of a body.
    pub fn from_body(body: &[u8]) -> Option<MessageId> {
        let (message, rest) = body.split_first_chunk::<4>()?;
        let attempt = rest.first_chunk::<4>()?;
        Some(MessageId { message: u32::from_be_bytes(*message), attempt: u32::from_be_bytes(*attempt) })
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Reader {
    /// The consumer group under test.
    Group,
    /// The reader that looks at everything in the end.
    Auditor,
}

/// What a workload tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
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
    fn an_id_survives_its_body() {
        let id = MessageId { message: 7, attempt: 70_000 };
        let mut body = id.to_bytes().to_vec();
        body.extend_from_slice(b"padding");
        assert_eq!(MessageId::from_body(&body), Some(id));
        assert_eq!(MessageId::from_body(b"short"), None);
    }
}
