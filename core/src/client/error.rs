//! What can go wrong with consuming and asking, in words that say what to do.

use alloc::string::String;
use core::fmt;

use super::producer::SendError;
use crate::time::Duration;

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
            ConsumeError::Refused { code: _, reason, broker } => {
                write!(f, "broker {broker} refuses: {reason}")
            }
            ConsumeError::Stopped => f.write_str("the consumer was stopped"),
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
            RequestError::Stopped => f.write_str("the client was stopped"),
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
            AskError::Refused { code: _, reason } => write!(f, "the broker refused: {reason}"),
            AskError::NoAnswer(broker) => write!(f, "broker {broker} does not answer: ask again"),
            AskError::Stopped => f.write_str("the client was stopped"),
        }
    }
}

impl core::error::Error for AskError {}
