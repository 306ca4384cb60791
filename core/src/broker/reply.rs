//! Answers: at once, later, or a refusal.

use alloc::format;
use alloc::string::{String, ToString};

use crate::io::{ConnId, Extent};
use crate::wire::body::BodyError;
use crate::wire::code::response_code;
use crate::wire::request::HeaderError;
use crate::wire::{Command, Ext};

/// What RocketMQ adds to such texts.
pub(super) const SEE: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// What a handler did with a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// This is the answer.
    Now(Command),
    /// The answer is parked with whatever it waits for.
    Later,
    /// This must be in memory first; then the request is served from its beginning, so nothing may have been changed.
    Cold(Extent),
}

/// Why a request is not served: the code and text of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) remark: String,
}

impl Refusal {
    pub(super) fn new(code: i32, remark: impl Into<String>) -> Refusal {
        Refusal { code, remark: remark.into() }
    }

    pub(super) fn topic_not_exist(topic: &str) -> Refusal {
        Refusal::new(
            response_code::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please!{SEE}"),
        )
    }

    /// In the words of a send.
    pub(super) fn group_missing(group: &str) -> Refusal {
        Refusal::new(
            response_code::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {SEE}"),
        )
    }

    /// In the words of a pull.
    pub(super) fn group_not_exist(group: &str) -> Refusal {
        Refusal::new(
            response_code::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group}] does not exist, {SEE}"),
        )
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Refusal {
        Refusal::new(response_code::SYSTEM_ERROR, error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        Refusal::new(response_code::SYSTEM_ERROR, error.to_string())
    }
}

/// To whom an answer goes that cannot be given at once.
#[derive(Clone, Debug)]
pub(super) struct ReplyTo {
    pub(super) conn: ConnId,
    /// The request without its fields and body, so that a frame is not kept for it.
    request: Command,
}

impl ReplyTo {
    pub(super) fn new(conn: ConnId, request: &Command) -> ReplyTo {
        let request = Command {
            opaque: request.opaque,
            flag: request.flag,
            serialize: request.serialize,
            ..Command::request(request.code, Ext::None)
        };
        ReplyTo { conn, request }
    }

    pub(super) fn is_oneway(&self) -> bool {
        self.request.is_oneway()
    }

    pub(super) fn response(&self, code: i32, ext: Ext) -> Command {
        Command::response(&self.request, code, ext)
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Command {
        Command::error(&self.request, refusal.code, refusal.remark)
    }
}
