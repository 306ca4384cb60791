//! Sending: which queue, how often, until when.
//!
//! A send lives in a [`Job`] from its command to its one result. It may try several brokers within its budget; each try
//! but the last may take its share of the budget only when there is another broker to turn to, so that a broker that is
//! stuck costs a part of it and not all.
//!
//! Absent on purpose: compression (the shell compresses; the flags are in [`Message::sys_flag`]).

mod notes;
mod once;
mod receipt;
mod reply;
mod transaction;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use once::{Bound, Once};
use receipt::{read_receipt, receipts};
use reply::Replies;
pub use reply::Request;
pub use transaction::{Half, Resolution, SendHalf};

use super::calls::{Calls, Outcome, describe};
use super::error::SendError;
use super::id::MessageIds;
use super::latency::LatencyTable;
use super::message::{Message, MessageError, property};
use super::route::{AUTO_CREATE_TOPIC, MASTER_ID, NEW_TOPIC_QUEUES, Route, Routes};
use super::trace::{Note, TraceConfig};
use super::{ClientEvent, RequestId, Tag};
use crate::io::{Disk, Env, Now};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::Command;
use crate::wire::body::MessageQueue;
use crate::wire::code::{request_code, response_code};
use crate::wire::message::{BatchItem, java_hash, put_batch_item};
use crate::wire::request::{Header, SendMessageRequest};

/// What a producer is told at its making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerConfig {
    /// Its group.
    pub group: String,
    /// For all tries together (`sendMsgTimeout`).
    pub timeout: Duration,
    /// Further tries (`retryTimesWhenSendFailed`).
    pub retries: u32,
    /// Leave brokers alone that were slow or failed (`sendLatencyFaultEnable`).
    pub avoid_slow_brokers: bool,
    /// Gather messages into batches.
    pub batching: Option<Batching>,
    /// Have Gantry brokers store each message once, however often it is tried; RocketMQ's are not concerned. Off unless set: an
    /// unknown outcome then waits for the same broker, where otherwise another one takes the message at once, and each message
    /// is stored with the name of its producer. A UNIQ_KEY that the application chose is its own promise that all messages with that
    /// key and topic are one: it is looked for each time.
    pub idempotent: bool,
    /// Brokers of these topics are told of the group before anything is sent: they may have questions ([`ClientEvent::Checking`]).
    pub topics: Vec<String>,
    /// Tell a topic what was sent.
    pub trace: Option<TraceConfig>,
}

/// How messages are gathered into batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batching {
    /// The first of a batch waits for others so long at most (`batchMaxDelayMs`).
    pub delay: Duration,
    /// A batch with this many bytes of bodies leaves at once (`batchMaxBytes`).
    pub bytes: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Batching { delay: Duration::from_millis(10), bytes: 32 * 1024 }
    }
}

impl ProducerConfig {
    /// RocketMQ's defaults.
    pub fn new(group: impl Into<String>) -> ProducerConfig {
        let timeout = Duration::from_secs(3);
        ProducerConfig {
            group: group.into(),
            timeout,
            retries: 2,
            avoid_slow_brokers: false,
            batching: None,
            idempotent: false,
            topics: Vec::new(),
            trace: None,
        }
    }
}

/// Which queue a message goes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// One after the other; a retry goes to another broker.
    #[default]
    RoundRobin,
    /// Any; a retry goes to another broker.
    Random,
    /// The one that this key's hash chooses, and no other: `|hashCode % queues|` as in RocketMQ.
    Hash(String),
    /// This one and no other: order is kept, and a broker that is down fails the send.
    Queue(MessageQueue),
}

impl Target {
    fn is_fixed(&self) -> bool {
        matches!(self, Target::Hash(_) | Target::Queue(_))
    }
}

/// A send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    /// Comes back with the result.
    pub id: RequestId,
    /// One message, or several that are stored one behind the other in one queue.
    pub messages: Vec<Message>,
    /// Where to.
    pub target: Target,
    /// Wants no answer of the broker: the result only says that it left.
    pub oneway: bool,
    /// In place of [`ProducerConfig::timeout`].
    pub timeout: Option<Duration>,
}

/// How safe a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendStatus {
    /// As the broker's modes promise.
    Ok,
    /// Stored; the sync to disk did not end in time.
    FlushDiskTimeout,
    /// Stored; the slave did not confirm it in time.
    FlushSlaveTimeout,
    /// Stored; there is no slave.
    SlaveNotAvailable,
    /// Sent oneway: nobody knows.
    Unacknowledged,
}

/// What became of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// How safe it is.
    pub status: SendStatus,
    /// Its UNIQ_KEY.
    pub message_id: String,
    /// The id of its place; empty when oneway.
    pub offset_id: String,
    /// Its queue.
    pub queue: MessageQueue,
    /// Its place in the queue; -1 when oneway.
    pub queue_offset: i64,
}

/// Codes after which another broker may do better (`DefaultMQProducer.retryResponseCodes`).
const RETRY_CODES: [i32; 8] = [
    response_code::TOPIC_NOT_EXIST,
    response_code::SERVICE_NOT_AVAILABLE,
    response_code::SYSTEM_ERROR,
    response_code::SYSTEM_BUSY,
    response_code::NO_PERMISSION,
    response_code::NO_BUYER_ID,
    response_code::NOT_IN_CURRENT_UNIT,
    response_code::GO_AWAY,
];

/// Between two tries at the same broker.
const PAUSE: Duration = Duration::from_millis(20);

/// Names a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct JobId(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for the route.
    Route,
    /// Tries again at this time.
    Pause(Instant),
    /// Waits for the broker.
    Broker,
}

#[derive(Debug)]
struct Job {
    /// Whose, and how many messages each has.
    owners: Vec<(RequestId, usize)>,
    topic: String,
    messages: Vec<Message>,
    target: Target,
    is_oneway: bool,
    deadline: Instant,
    begun: Instant,
    timeout: Duration,
    tries_left: u32,
    state: State,
    queue: Option<MessageQueue>,
    /// Of the last try.
    address: Option<Arc<str>>,
    /// Whether other brokers have queues that it may go to.
    has_other: bool,
    /// Its messages are to be stored once; whether one has a key of the application's.
    is_once: bool,
    has_own_key: bool,
    bound: Option<Bound>,
    tried_at: Instant,
    may_be_stored: bool,
    reason: String,
}

#[derive(Debug)]
struct Gathering {
    job: Job,
    bytes: usize,
    leaves: Instant,
}

/// The producer of a client.
#[derive(Debug)]
pub(super) struct Producer {
    config: ProducerConfig,
    ids: MessageIds,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    gathering: BTreeMap<String, Gathering>,
    turn: u64,
    latency: LatencyTable,
    replies: Replies,
    notes: Vec<Note>,
    /// What its calls are for.
    tag: fn(JobId) -> Tag,
    /// Nobody is told what becomes of its sends.
    is_unheard: bool,
    once: Once,
    is_stopped: bool,
}

/// What a producer works with.
pub(super) struct Tools<'a, 'b, D, E> {
    pub(super) now: Now,
    pub(super) routes: &'a mut Routes,
    pub(super) calls: &'a mut Calls<Tag>,
    pub(super) env: &'a mut Env<'b, D, E>,
}

impl Producer {
    pub(super) fn new(config: ProducerConfig, ids: MessageIds) -> Producer {
        Producer {
            config,
            ids,
            jobs: BTreeMap::new(),
            next_job: 0,
            gathering: BTreeMap::new(),
            turn: 0,
            latency: LatencyTable::default(),
            replies: Replies::default(),
            notes: Vec::new(),
            tag: Tag::Send,
            is_unheard: false,
            once: Once::default(),
            is_stopped: false,
        }
    }

    /// One whose host does not ask what becomes of its sends.
    pub(super) fn unheard(config: ProducerConfig, ids: MessageIds, tag: fn(JobId) -> Tag) -> Producer {
        Producer { tag, is_unheard: true, ..Producer::new(config, ids) }
    }

    /// Sends that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn group(&self) -> &str {
        &self.config.group
    }

    /// Begins, at another queue than everybody else.
    pub(super) fn start(&mut self, now: Now, draw: u64, routes: &mut Routes) {
        self.turn = draw;
        self.once.begin(draw);
        for topic in &self.config.topics {
            routes.want(now.mono, topic, false);
        }
    }

    /// Takes a send.
    pub(super) fn on_send<D: Disk>(&mut self, send: Send, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        let checked = if self.is_stopped { Err(SendError::Stopped) } else { check(&send.messages) };
        if let Err(error) = checked {
            return self.tell(send.id, Err(error), tools.env);
        }
        let Send { id, mut messages, target, oneway, timeout } = send;
        let timeout = timeout.unwrap_or(self.config.timeout);
        let is_once = self.config.idempotent && !oneway && messages.iter().all(once::is_fit);
        let has_own_key = messages.iter().any(|message| message.property(property::UNIQ_KEY).is_some());
        for message in &mut messages {
            if message.property(property::UNIQ_KEY).is_none() {
                let unique = self.ids.next(tools.now.wall);
                message.properties.push((property::UNIQ_KEY.to_string(), unique));
            }
            if message.property(property::WAIT).is_none() {
                message.properties.push((property::WAIT.to_string(), "true".to_string()));
            }
        }
        let topic = messages[0].topic.clone();
        let may_retry = !oneway && !target.is_fixed();
        let job = Job {
            owners: Vec::from([(id, messages.len())]),
            topic: topic.clone(),
            is_oneway: oneway,
            deadline: tools.now.mono + timeout,
            begun: tools.now.mono,
            timeout,
            tries_left: if may_retry { self.config.retries + 1 } else { 1 },
            state: State::Route,
            queue: None,
            address: None,
            has_other: false,
            is_once,
            has_own_key,
            bound: None,
            tried_at: tools.now.mono,
            may_be_stored: false,
            reason: String::new(),
            messages,
            target,
        };
        tools.routes.want(tools.now.mono, &topic, true);
        match self.config.batching {
            Some(batching) if can_gather(&job) => self.gather(batching, job, tools),
            Some(_) | None => self.begin(job, tools),
        }
    }

    fn gather<D: Disk>(&mut self, batching: Batching, job: Job, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        let bytes: usize = job.messages.iter().map(|message| message.body.len()).sum();
        let topic = job.topic.clone();
        let is_full = self.gathering.get(&topic).is_some_and(|known| known.bytes + bytes > batching.bytes);
        if is_full && let Some(full) = self.gathering.remove(&topic) {
            self.begin(full.job, tools);
        }
        match self.gathering.get_mut(&topic) {
            Some(known) => {
                known.bytes += bytes;
                known.job.owners.extend(job.owners);
                known.job.messages.extend(job.messages);
                known.job.is_once &= job.is_once;
                known.job.has_own_key |= job.has_own_key;
            }
            None => {
                let leaves = tools.now.mono + batching.delay;
                self.gathering.insert(topic.clone(), Gathering { job, bytes, leaves });
            }
        }
        let is_full = self.gathering.get(&topic).is_some_and(|known| known.bytes >= batching.bytes);
        if is_full && let Some(full) = self.gathering.remove(&topic) {
            self.begin(full.job, tools);
        }
    }

    fn begin<D: Disk>(&mut self, job: Job, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(id, job);
        self.attempt(id, tools);
    }

    /// Tries a job, if its route is known.
    fn attempt<D: Disk>(&mut self, id: JobId, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        if self.attempt_there(id, tools) {
            return;
        }
        let now = tools.now.mono;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(route) = tools.routes.route(&job.topic) else {
            job.state = State::Route;
            return;
        };
        let last = job.queue.as_ref().map(|queue| queue.broker_name.as_str());
        let latency = self.config.avoid_slow_brokers.then_some(&self.latency);
        let draw = match job.target {
            Target::Random => tools.env.rng.next_u64(),
            Target::RoundRobin | Target::Hash(_) | Target::Queue(_) => {
                self.turn = self.turn.wrapping_add(1);
                self.turn
            }
        };
        let queue = choose(&job.target, route, last, latency, now, draw);
        let address =
            queue.as_ref().and_then(|queue| tools.routes.address(&queue.broker_name, MASTER_ID)).cloned();
        let (Some(queue), Some(address)) = (queue, address) else {
            let what = match &job.target {
                Target::Queue(queue) => format!(
                    "queue {} of topic {} on broker {}",
                    queue.queue_id, queue.topic, queue.broker_name
                ),
                Target::RoundRobin | Target::Random | Target::Hash(_) => format!("topic {}", job.topic),
            };
            return self.finish(id, Err(SendError::NoQueue(what)), tools.env);
        };
        job.has_other = !job.target.is_fixed()
            && route.writable.iter().any(|other| other.broker_name != queue.broker_name);
        job.address = Some(address.clone());
        let command = request(&self.config.group, &self.once, job, &queue, tools.now);
        job.tries_left = job.tries_left.saturating_sub(1);
        job.tried_at = now;
        job.queue = Some(queue);
        if job.is_oneway {
            tools.calls.tell(tools.now, &address, command, tools.env);
            return self.finish(id, Ok(None), tools.env);
        }
        job.state = State::Broker;
        let budget = job.deadline.since(now);
        let share = if job.has_other { budget / (job.tries_left + 1) } else { budget };
        tools.calls.call(tools.now, &address, command, share, (self.tag)(id), tools.env);
    }

    /// The broker answered, or did not.
    pub(super) fn on_outcome<D: Disk>(
        &mut self,
        id: JobId,
        outcome: Outcome,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) {
        let now = tools.now.mono;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let broker = job.queue.as_ref().map(|queue| queue.broker_name.clone()).unwrap_or_default();
        let refused = match outcome {
            Outcome::Reply(reply) => match status(reply.code) {
                Some(status) => {
                    self.latency.note(now, &broker, Some(now.since(job.tried_at)));
                    if job.is_once {
                        self.once.on_stored(&broker, read_receipt(&reply.ext).as_ref());
                    }
                    self.note_sent(id, &reply, tools);
                    return self.finish(id, Ok(Some((status, reply))), tools.env);
                }
                None => {
                    job.reason = format!("broker {broker}: {}", describe(&reply));
                    Some(reply)
                }
            },
            Outcome::Lost => {
                job.may_be_stored = true;
                job.reason = format!("broker {broker} did not answer");
                self.once.on_lost(job, &broker);
                None
            }
            Outcome::NotSent => {
                job.reason = format!("broker {broker} cannot be reached");
                None
            }
        };
        self.latency.note(now, &broker, None);
        let may_retry = refused.as_ref().is_none_or(|reply| RETRY_CODES.contains(&reply.code));
        let there = job.next_try_there(now).filter(|_| may_retry);
        let elsewhere = may_retry && job.tries_left > 0 && job.deadline > now + PAUSE;
        if let Some(at) = there.or(elsewhere.then_some(now + PAUSE)) {
            // The route may have changed; the next try takes what is known by then.
            tools.routes.refresh(now, &job.topic);
            Probe::SentAgain.reached();
            job.state = State::Pause(at);
            return;
        }
        let error = match refused {
            Some(reply) if !job.may_be_stored => {
                SendError::Refused { code: reply.code, reason: describe(&reply), broker }
            }
            Some(_) | None => {
                SendError::Failed { may_be_stored: job.may_be_stored, reason: job.reason.clone() }
            }
        };
        self.finish(id, Err(error), tools.env);
    }

    fn finish<D>(
        &mut self,
        id: JobId,
        result: Result<Option<(SendStatus, Command)>, SendError>,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let receipts = match result {
            Ok(reply) => receipts(&job, reply),
            Err(error) => Err(error),
        };
        match receipts {
            Ok(receipts) => {
                let mut receipts = receipts.into_iter();
                for (owner, count) in job.owners {
                    self.tell(owner, Ok(receipts.by_ref().take(count).collect()), env);
                }
            }
            Err(error) => {
                for (owner, _) in job.owners {
                    self.tell(owner, Err(error.clone()), env);
                }
            }
        }
    }

    /// What is due: batches that are to leave, tries after a pause, jobs whose route came, jobs that are too late.
    pub(super) fn settle<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        let now = tools.now.mono;
        self.expire_replies(now, tools.env);
        let due: Vec<String> = self
            .gathering
            .iter()
            .filter(|(_, known)| known.leaves <= now)
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in due {
            if let Some(known) = self.gathering.remove(&topic) {
                self.begin(known.job, tools);
            }
        }
        let waiting: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.state != State::Broker).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(job) = self.jobs.get(&id) else { continue };
            if job.deadline <= now {
                let error = SendError::Failed {
                    may_be_stored: job.may_be_stored,
                    reason: job.late_reason(tools.routes),
                };
                self.finish(id, Err(error), tools.env);
                continue;
            }
            let is_due = match job.state {
                State::Route => tools.routes.route(&job.topic).is_some(),
                State::Pause(at) => at <= now,
                State::Broker => false,
            };
            if is_due {
                self.attempt(id, tools);
            }
        }
    }

    /// Nothing more can be learnt about a topic now: who waits for its route has failed.
    pub(super) fn on_no_route<D: Disk>(
        &mut self,
        topic: &str,
        error: &SendError,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let waiting: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.state == State::Route && job.topic == topic)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.finish(id, Err(error.clone()), env);
        }
    }

    /// No more sends. What is under way ends as it would have.
    pub(super) fn stop<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        self.is_stopped = true;
        self.stop_replies(tools.env);
        for (_, known) in core::mem::take(&mut self.gathering) {
            self.begin(known.job, tools);
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.gathering.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.values().filter_map(|job| match job.state {
            State::Route => Some(job.deadline),
            State::Pause(at) => Some(at.min(job.deadline)),
            State::Broker => None,
        });
        let gathering = self.gathering.values().map(|known| known.leaves);
        jobs.chain(gathering).chain(self.replies.deadline()).min()
    }
}

impl Job {
    fn late_reason(&self, routes: &Routes) -> String {
        if self.reason.is_empty() {
            format!("the route of topic {} did not come in time from {}", self.topic, routes.servers())
        } else {
            self.reason.clone()
        }
    }
}

fn check(messages: &[Message]) -> Result<(), SendError> {
    let batch = |why| Err(SendError::Message(MessageError::Batch(why)));
    let Some(first) = messages.first() else { return batch("a batch without messages") };
    for message in messages {
        message.check().map_err(SendError::Message)?;
        if messages.len() > 1 {
            if message.topic != first.topic {
                return batch("the messages of a batch must have one topic");
            }
            if is_delayed(message) {
                return batch("a batch cannot be delayed: send its messages one by one");
            }
            if message.is_reply() {
                return batch("a reply cannot be in a batch: send it by itself");
            }
            if message.sys_flag != 0 {
                return batch("the messages of a batch cannot be compressed");
            }
        }
    }
    Ok(())
}

pub(super) fn is_delayed(message: &Message) -> bool {
    message.properties.iter().any(|(name, _)| name == property::DELAY || name.starts_with("TIMER_"))
}

/// Whether a job may share a batch with others.
fn can_gather(job: &Job) -> bool {
    let is_plain = |message: &Message| !is_delayed(message) && message.sys_flag == 0 && !message.is_reply();
    job.target == Target::RoundRobin
        && !job.is_oneway
        && !job.topic.starts_with("%RETRY%")
        && job.messages.iter().all(is_plain)
}

fn choose(
    target: &Target,
    route: &Route,
    last_broker: Option<&str>,
    latency: Option<&LatencyTable>,
    now: Instant,
    draw: u64,
) -> Option<MessageQueue> {
    let queues = &route.writable;
    match target {
        Target::Queue(queue) => Some(queue.clone()),
        Target::Hash(key) => {
            let count = i32::try_from(queues.len()).ok()?;
            let rest = java_hash(key).checked_rem(count)?;
            queues.get(usize::try_from(rest.unsigned_abs()).ok()?).cloned()
        }
        Target::RoundRobin | Target::Random => {
            let start =
                usize::try_from(draw % u64::try_from(queues.len()).ok().filter(|count| *count > 0)?).ok()?;
            let in_turn = || queues.iter().cycle().skip(start).take(queues.len());
            let is_other = |queue: &&MessageQueue| last_broker != Some(queue.broker_name.as_str());
            let is_well = |queue: &&MessageQueue| {
                latency.is_none_or(|latency| latency.is_available(now, &queue.broker_name))
            };
            let well = in_turn().filter(is_other).find(is_well);
            well.or_else(|| in_turn().find(is_other)).or_else(|| queues.get(start)).cloned()
        }
    }
}

fn status(code: i32) -> Option<SendStatus> {
    match code {
        response_code::SUCCESS => Some(SendStatus::Ok),
        response_code::FLUSH_DISK_TIMEOUT => Some(SendStatus::FlushDiskTimeout),
        response_code::FLUSH_SLAVE_TIMEOUT => Some(SendStatus::FlushSlaveTimeout),
        response_code::SLAVE_NOT_AVAILABLE => Some(SendStatus::SlaveNotAvailable),
        _ => None,
    }
}

fn request(group: &str, once: &Once, job: &Job, queue: &MessageQueue, now: Now) -> Command {
    let is_batch = job.messages.len() > 1;
    let (first, sys_flag) = (&job.messages[0], job.messages[0].sys_flag);
    let text = first.property_text();
    let properties = if is_batch { Cow::Borrowed("") } else { String::from_utf8_lossy(&text) };
    let header = SendMessageRequest {
        producer_group: group.into(),
        topic: job.topic.as_str().into(),
        default_topic: AUTO_CREATE_TOPIC.into(),
        default_topic_queue_nums: NEW_TOPIC_QUEUES,
        queue_id: queue.queue_id,
        sys_flag,
        born_timestamp: now.wall.0,
        flag: first.flag,
        properties,
        batch: is_batch,
        broker_name: Some(queue.broker_name.as_str().into()),
        once: job.is_once.then(|| once.name().into()),
        again: job.is_once && (job.may_be_stored || job.has_own_key),
        ..SendMessageRequest::default()
    };
    if !is_batch {
        let code = if first.is_reply() {
            request_code::SEND_REPLY_MESSAGE_V2
        } else {
            request_code::SEND_MESSAGE_V2
        };
        return Command::request(code, header.to_ext()).with_body(first.body.clone());
    }
    let mut body = Vec::new();
    for message in &job.messages {
        let properties = message.property_text();
        put_batch_item(
            &BatchItem { flag: message.flag, body: &message.body, properties: &properties },
            &mut body,
        );
    }
    Command::request(request_code::SEND_BATCH_MESSAGE, header.to_ext()).with_body(body)
}
