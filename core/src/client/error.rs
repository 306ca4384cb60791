//! What can go wrong, in words that say what to do.

use alloc::string::String;
use core::fmt;

use super::message::MessageError;
use crate::time::Duration;
use crate::wire::code::response_code;

/// What to do about a refusal with this code. The broker's words say why, and seldom that.
fn advice(code: i32) -> &'static str {
    match code {
        response_code::NO_PERMISSION => "give the topic or the group that permission, or use another one",
        response_code::TOPIC_NOT_EXIST => "create the topic",
        response_code::SUBSCRIPTION_GROUP_NOT_EXIST => "create the group",
        response_code::SYSTEM_BUSY | response_code::FLOW_CONTROL => {
            "it is too busy: try again later, or send less at once"
        }
        response_code::SERVICE_NOT_AVAILABLE => {
            "see whether it has room on its disk and is a master that may write"
        }
        response_code::MESSAGE_ILLEGAL => {
            "change the message, or send it to a broker that serves what it asks for"
        }
        response_code::SUBSCRIPTION_PARSE_FAILED => "mend the filter",
        response_code::REQUEST_CODE_NOT_SUPPORTED => "ask a broker that serves it",
        response_code::QUERY_NOT_FOUND => "there is none: ask for another one",
        _ => "its log says more; without a cause there, report it",
    }
}

/// Why a consumer cannot do its work. It goes on trying, and works again once the cause is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumeError {
    /// Another client has this one's id in the group, so both take the same share of the queues and leave the others' out:
    /// give each an instance name of its own.
    DuplicateId {
        /// The id that both have.
        client_id: String,
        /// Their group.
        group: String,
        /// From where they are connected, as the broker sees it.
        addresses: String,
    },
    /// Name servers do not know the topic: create it, or wait for the first message if brokers create topics.
    UnknownTopic(String),
    /// No name server answered, and the topic is not known from before: see whether they run at these addresses.
    NoNameServer(String),
    /// A broker does not let this group read the topic, or not with this filter: code and reason are the broker's.
    Refused {
        /// See [`crate::wire::code::response_code`].
        code: i32,
        /// The broker's words.
        reason: String,
        /// The broker.
        broker: String,
    },
    /// The client was stopped.
    Stopped,
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsumeError::DuplicateId { client_id, group, addresses } => write!(
                f,
                "two members of group {group} have the client id {client_id}, at {addresses}: \
                 give each an instance name of its own"
            ),
            ConsumeError::UnknownTopic(topic) => {
                write!(f, "topic {topic} does not exist: create it, or send to it first")
            }
            ConsumeError::NoNameServer(servers) => {
                write!(f, "no name server answers at {servers}: see whether one runs there")
            }
            ConsumeError::Refused { code, reason, broker } => {
                // With this code brokers refuse for good what they do not serve: to filter by expressions.
                let is_unserved = *code == response_code::SYSTEM_ERROR;
                let instead = "filter by tags, or consume from a broker that serves expressions";
                let advice = if is_unserved { instead } else { advice(*code) };
                write!(f, "broker {broker} refuses: {reason}: {advice}")
            }
            ConsumeError::Stopped => f.write_str("the consumer was stopped: make another one"),
        }
    }
}

impl core::error::Error for ConsumeError {}

/// Why a request has no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// It could not be sent, or may not have been.
    Send(SendError),
    /// It was stored, and no reply came in this time: it may still be answered, to nobody.
    NoReply(Duration),
    /// The client was stopped.
    Stopped,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Send(error) => error.fmt(f),
            RequestError::NoReply(time) => {
                write!(f, "no reply within {time:?}: does a consumer of the topic answer?")
            }
            RequestError::Stopped => f.write_str("the client was stopped: make another one"),
        }
    }
}

impl core::error::Error for RequestError {}

/// Why a question has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskError {
    /// No name server answered, and the topic is not known from before: see whether they run at these addresses.
    NoNameServer(String),
    /// Name servers do not know the topic: create it.
    UnknownTopic(String),
    /// The broker of the queue is not in the topic's route: is it up?
    NoBroker(String),
    /// The broker refused: code and reason are the broker's.
    Refused {
        /// See [`crate::wire::code::response_code`].
        code: i32,
        /// The broker's words.
        reason: String,
    },
    /// The broker did not answer in time: ask again.
    NoAnswer(String),
    /// The client was stopped.
    Stopped,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::NoNameServer(servers) => {
                write!(f, "no name server answers at {servers}: see whether one runs there")
            }
            AskError::UnknownTopic(topic) => write!(f, "topic {topic} does not exist: create it first"),
            AskError::NoBroker(broker) => {
                write!(f, "broker {broker} is not in the topic's route: is it up, does it have the topic?")
            }
            AskError::Refused { code, reason } => {
                write!(f, "the broker refused: {reason}: {}", advice(*code))
            }
            AskError::NoAnswer(broker) => write!(f, "broker {broker} does not answer: ask again"),
            AskError::Stopped => f.write_str("the client was stopped: make another one"),
        }
    }
}

impl core::error::Error for AskError {}

/// Why a message was not sent, or may not have been.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// It can never be sent as it is.
    Message(MessageError),
    /// No name server answered, and the topic is not known from before: see whether they run at these addresses.
    NoNameServer(String),
    /// Name servers do not know the topic and no broker makes topics by itself: create it.
    UnknownTopic(String),
    /// The topic has no queue that may be written (on that broker): give it the write permission, or start its master.
    NoQueue(String),
    /// The broker refused it and it is not stored: code and reason are the broker's.
    Refused {
        /// See [`response_code`].
        code: i32,
        /// The broker's words.
        reason: String,
        /// The broker.
        broker: String,
    },
    /// No try succeeded within the time. When `may_be_stored`, an answer is missing: sending again may store it twice, unless the
    /// producer is idempotent and both sends have the same [`Message::with_unique_key`].
    Failed {
        /// Whether a try ended without an answer.
        may_be_stored: bool,
        /// What happened at the last try.
        reason: String,
    },
    /// The client was stopped.
    Stopped,
}

impl SendError {
    /// Whether the message may be stored all the same.
    pub fn may_be_stored(&self) -> bool {
        matches!(self, SendError::Failed { may_be_stored: true, .. })
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Message(error) => error.fmt(f),
            SendError::NoNameServer(servers) => {
                write!(f, "no name server answers at {servers}: see whether one runs there")
            }
            SendError::UnknownTopic(topic) => {
                write!(
                    f,
                    "topic {topic} does not exist, and no broker creates topics by itself: create it first"
                )
            }
            SendError::NoQueue(what) => {
                write!(
                    f,
                    "{what} has no queue to write to: is its broker's master up, has it write permission?"
                )
            }
            SendError::Refused { code, reason, broker } => {
                write!(f, "broker {broker} refused it: {reason}: {}", advice(*code))
            }
            SendError::Failed { may_be_stored: true, reason } => {
                write!(
                    f,
                    "no answer, it may be stored or not: {reason}: look whether it is there, or send it again if twice is no harm"
                )
            }
            SendError::Failed { may_be_stored: false, reason } => {
                write!(f, "not sent: {reason}: send it again once the broker is up")
            }
            SendError::Stopped => f.write_str("the producer was stopped: make another one"),
        }
    }
}

impl core::error::Error for SendError {}
