//! Questions about queues, and pulls, each on its own: what an application asks that divides its queues itself.
//!
//! A question lives from its command to its one answer. It waits for the topic's route if that is not known yet, and is
//! asked once: whether to ask again is the application's to say.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::calls::{Calls, Outcome, describe};
use super::consumer::Filter;
use super::error::AskError;
use super::message::{Received, read_all};
use super::route::{MASTER_ID, Route, Routes};
use super::{ANSWER, ClientEvent, RequestId, Tag};
use crate::io::{Disk, Effect, Env, Now};
use crate::time::{Duration, Instant};
use crate::wire::Command;
use crate::wire::body::MessageQueue;
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{
    GetMaxOffsetRequest, GetMinOffsetRequest, Header, PullMessageRequest, PullMessageResponse,
    QueryConsumerOffsetRequest, QueryConsumerOffsetResponse, SearchOffsetRequest,
    UpdateConsumerOffsetRequest, pull_sys_flag,
};

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// The queues of a topic that may be read.
    ReadableQueues(String),
    /// The oldest offset of a queue.
    MinOffset(MessageQueue),
    /// One past the newest offset of a queue.
    MaxOffset(MessageQueue),
    /// The first offset stored at this time or later, ms since the epoch.
    OffsetAt(MessageQueue, i64),
    /// What a group has committed of a queue.
    Committed(String, MessageQueue),
    /// Commit this offset for a group. The client becomes a member of it, so its other members should not share queues.
    Commit(String, MessageQueue, i64),
    /// Messages from an offset on.
    Pull(Pull),
}

/// A pull.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// In whose name; nothing is committed.
    pub group: String,
    /// From where.
    pub queue: MessageQueue,
    /// From which offset on.
    pub offset: i64,
    /// Messages at most; brokers have bounds of their own.
    pub messages_max: i32,
    /// Which messages are wanted.
    pub filter: Filter,
    /// How long the broker may wait for a message when there is none.
    pub wait: Duration,
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Found {
    /// To [`Question::ReadableQueues`], sorted.
    Queues(Vec<MessageQueue>),
    /// An offset; `None`: the group has committed none.
    Offset(Option<i64>),
    /// It was committed.
    Committed,
    /// To [`Question::Pull`].
    Pulled(Pulled),
}

/// What a pull brought.
#[derive(Clone, PartialEq, Debug)]
pub struct Pulled {
    /// In order; may be none, also when there are messages that the tags do not choose.
    pub messages: Vec<Received>,
    /// Where to go on.
    pub next_offset: i64,
    /// The oldest offset of the queue.
    pub min_offset: i64,
    /// One past the newest.
    pub max_offset: i64,
    /// The offset was outside of what the queue has; [`Pulled::next_offset`] is inside.
    pub moved: bool,
}

impl Question {
    fn topic(&self) -> &str {
        match self {
            Question::ReadableQueues(topic) => topic,
            Question::MinOffset(queue)
            | Question::MaxOffset(queue)
            | Question::OffsetAt(queue, _)
            | Question::Committed(_, queue)
            | Question::Commit(_, queue, _) => &queue.topic,
            Question::Pull(pull) => &pull.queue.topic,
        }
    }

    fn broker(&self) -> &str {
        match self {
            Question::ReadableQueues(_) => "",
            Question::MinOffset(queue)
            | Question::MaxOffset(queue)
            | Question::OffsetAt(queue, _)
            | Question::Committed(_, queue)
            | Question::Commit(_, queue, _) => &queue.broker_name,
            Question::Pull(pull) => &pull.queue.broker_name,
        }
    }

    fn limit(&self) -> Duration {
        match self {
            Question::Pull(pull) => ANSWER + pull.wait,
            Question::ReadableQueues(_)
            | Question::MinOffset(_)
            | Question::MaxOffset(_)
            | Question::OffsetAt(..)
            | Question::Committed(..)
            | Question::Commit(..) => ANSWER,
        }
    }

    /// The request to the queue's broker; `None` for what the route answers.
    fn request(&self) -> Option<Command> {
        let (code, ext) = match self {
            Question::ReadableQueues(_) => return None,
            Question::MinOffset(queue) => {
                let (topic, queue_id) = (queue.topic.as_str().into(), queue.queue_id);
                (request_code::GET_MIN_OFFSET, GetMinOffsetRequest { topic, queue_id }.to_ext())
            }
            Question::MaxOffset(queue) => {
                let (topic, queue_id) = (queue.topic.as_str().into(), queue.queue_id);
                let header = GetMaxOffsetRequest { topic, queue_id, committed: None };
                (request_code::GET_MAX_OFFSET, header.to_ext())
            }
            Question::OffsetAt(queue, timestamp) => {
                let header = SearchOffsetRequest {
                    topic: queue.topic.as_str().into(),
                    lite_topic: None,
                    queue_id: queue.queue_id,
                    timestamp: *timestamp,
                    boundary_type: None,
                };
                (request_code::SEARCH_OFFSET_BY_TIMESTAMP, header.to_ext())
            }
            Question::Committed(group, queue) => {
                let header = QueryConsumerOffsetRequest {
                    consumer_group: group.as_str().into(),
                    topic: queue.topic.as_str().into(),
                    queue_id: queue.queue_id,
                    // Else a broker may answer 0 for a young queue of which nothing is committed.
                    set_zero_if_not_found: Some(false),
                };
                (request_code::QUERY_CONSUMER_OFFSET, header.to_ext())
            }
            Question::Commit(group, queue, offset) => {
                let header = UpdateConsumerOffsetRequest {
                    consumer_group: group.as_str().into(),
                    topic: queue.topic.as_str().into(),
                    queue_id: queue.queue_id,
                    commit_offset: *offset,
                };
                (request_code::UPDATE_CONSUMER_OFFSET, header.to_ext())
            }
            Question::Pull(pull) => (request_code::PULL_MESSAGE, pull.header().to_ext()),
        };
        Some(Command::request(code, ext))
    }

    fn read(&self, reply: &Command) -> Result<Found, AskError> {
        let refused = || AskError::Refused { code: reply.code, reason: describe(reply) };
        match self {
            Question::ReadableQueues(_) => Err(refused()),
            Question::Commit(..) if reply.code == response_code::SUCCESS => Ok(Found::Committed),
            Question::Committed(..) if reply.code == response_code::QUERY_NOT_FOUND => {
                Ok(Found::Offset(None))
            }
            Question::Pull(pull) => pull.read(reply),
            Question::Commit(..)
            | Question::Committed(..)
            | Question::MinOffset(_)
            | Question::MaxOffset(_)
            | Question::OffsetAt(..) => {
                let header = reply.header::<QueryConsumerOffsetResponse>().ok();
                let found = header.filter(|_| reply.code == response_code::SUCCESS);
                found.map(|header| Found::Offset(Some(header.offset))).ok_or_else(refused)
            }
        }
    }
}

impl Pull {
    fn header(&self) -> PullMessageRequest<'_> {
        let suspend = if self.wait > Duration::ZERO { pull_sys_flag::SUSPEND } else { 0 };
        PullMessageRequest {
            consumer_group: self.group.as_str().into(),
            topic: self.queue.topic.as_str().into(),
            queue_id: self.queue.queue_id,
            queue_offset: self.offset,
            max_msg_nums: self.messages_max,
            sys_flag: suspend | pull_sys_flag::SUBSCRIPTION,
            suspend_timeout_millis: i64::try_from(self.wait.as_millis()).unwrap_or(i64::MAX),
            subscription: Some(self.filter.text().into()),
            expression_type: Some(self.filter.kind().into()),
            ..PullMessageRequest::default()
        }
    }

    fn read(&self, reply: &Command) -> Result<Found, AskError> {
        let refused = |reason| AskError::Refused { code: reply.code, reason };
        let Ok(header) = reply.header::<PullMessageResponse>() else {
            return Err(refused(describe(reply)));
        };
        let moved = match reply.code {
            response_code::SUCCESS
            | response_code::PULL_NOT_FOUND
            | response_code::PULL_RETRY_IMMEDIATELY => false,
            response_code::PULL_OFFSET_MOVED => true,
            _ => return Err(refused(describe(reply))),
        };
        let mut messages = Vec::new();
        if reply.code == response_code::SUCCESS {
            messages = read_all(&reply.body, &self.queue)
                .map_err(|error| refused(format!("it answers with what is no message: {error}")))?;
            let wanted = self.filter.tags();
            messages
                .retain(|message| wanted.is_empty() || message.tag().is_some_and(|tag| wanted.contains(tag)));
        }
        Ok(Found::Pulled(Pulled {
            messages,
            next_offset: header.next_begin_offset,
            min_offset: header.min_offset,
            max_offset: header.max_offset,
            moved,
        }))
    }
}

/// Names a question under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct AskId(u64);

#[derive(Debug)]
struct Ask {
    owner: RequestId,
    question: Question,
    /// While it waits for the route.
    route_until: Option<Instant>,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Asks {
    asks: BTreeMap<AskId, Ask>,
    next: u64,
}

impl Asks {
    /// Takes a question.
    pub(super) fn on_ask(&mut self, now: Now, owner: RequestId, question: Question, routes: &mut Routes) {
        routes.want(now.mono, question.topic(), false);
        let route_until = Some(now.mono + ANSWER);
        self.asks.insert(AskId(self.next), Ask { owner, question, route_until });
        self.next += 1;
    }

    /// Asks what waited for its route.
    pub(super) fn settle<D: Disk>(
        &mut self,
        now: Now,
        routes: &Routes,
        calls: &mut Calls<Tag>,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let waiting: Vec<AskId> =
            self.asks.iter().filter(|(_, ask)| ask.route_until.is_some()).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(ask) = self.asks.get_mut(&id) else { continue };
            let result = match routes.existing(ask.question.topic()) {
                Some(route) => match begin(&ask.question, route, routes) {
                    Ok(Begun::Call(address, command)) => {
                        ask.route_until = None;
                        calls.call(now, &address, command, ask.question.limit(), Tag::Ask(id), env);
                        continue;
                    }
                    Ok(Begun::Found(found)) => Ok(found),
                    Err(error) => Err(error),
                },
                None if ask.route_until.is_some_and(|until| until <= now.mono) => {
                    Err(AskError::NoNameServer(routes.servers()))
                }
                None => continue,
            };
            self.finish(id, result, env);
        }
    }

    /// A broker answered, or did not.
    pub(super) fn on_outcome<D>(&mut self, id: AskId, outcome: &Outcome, env: &mut Env<'_, D, ClientEvent>) {
        let Some(ask) = self.asks.get(&id) else { return };
        let result = match outcome {
            Outcome::Reply(reply) => ask.question.read(reply),
            Outcome::Lost | Outcome::NotSent => Err(AskError::NoAnswer(ask.question.broker().to_string())),
        };
        self.finish(id, result, env);
    }

    /// Nothing more can be learnt about a topic now.
    pub(super) fn on_no_route<D>(
        &mut self,
        topic: &str,
        error: &AskError,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let is_about = |ask: &Ask| ask.route_until.is_some() && ask.question.topic() == topic;
        let about: Vec<AskId> =
            self.asks.iter().filter(|(_, ask)| is_about(ask)).map(|(id, _)| *id).collect();
        for id in about {
            self.finish(id, Err(error.clone()), env);
        }
    }

    /// Answers all that are under way.
    pub(super) fn stop<D>(&mut self, env: &mut Env<'_, D, ClientEvent>) {
        let all: Vec<AskId> = self.asks.keys().copied().collect();
        for id in all {
            self.finish(id, Err(AskError::Stopped), env);
        }
    }

    fn finish<D>(&mut self, id: AskId, result: Result<Found, AskError>, env: &mut Env<'_, D, ClientEvent>) {
        if let Some(ask) = self.asks.remove(&id) {
            env.out.push(Effect::Emit(ClientEvent::Answered { id: ask.owner, result }));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asks.values().filter_map(|ask| ask.route_until).min()
    }
}

enum Begun {
    Call(Arc<str>, Command),
    Found(Found),
}

fn begin(question: &Question, route: &Route, routes: &Routes) -> Result<Begun, AskError> {
    let Some(command) = question.request() else {
        return Ok(Begun::Found(Found::Queues(route.readable.clone())));
    };
    let broker = question.broker();
    match routes.address_to_read(broker, MASTER_ID) {
        Some(address) => Ok(Begun::Call(address.clone(), command)),
        None => Err(AskError::NoBroker(broker.to_string())),
    }
}
