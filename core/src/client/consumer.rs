//! Consuming: which queues are this member's, pulling them ahead of the application, and how far the group has come.
//!
//! Each assigned queue is a [`Lane`]. Messages wait in it until they are handed to the host as a [`Delivery`]; the host says
//! what became of each delivery. What the group has consumed of a queue is all below the oldest message that waits, is
//! handed out or is on its way back to the broker: that is what is committed, so nothing is lost with this client.
//!
//! Absent on purpose: POP, which needs a broker that hands messages out by itself.

mod asked;
mod chosen;
mod due;
mod notes;
mod offsets;
mod share;
mod twins;
mod verdict;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::calls::{Calls, Outcome, describe};
use super::error::ConsumeError;
use super::lane::{Doing, Lane};
use super::message::{Received, read_all};
use super::rebalance::Strategy;
use super::route::{MASTER_ID, Routes};
use super::trace::{Consumed, Note, TraceConfig};
use super::{ANSWER, ClientEvent, Tag};
use crate::io::{Disk, Effect, Env, Now};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{
    self, ConsumeFromWhere, ConsumeType, ConsumerData, GetConsumerListByGroupResponseBody,
    LockBatchRequestBody, LockBatchResponseBody, MessageModel, MessageQueue, SubscriptionData,
};
use crate::wire::code::{request_code, response_code};
use crate::wire::message::java_hash;
use crate::wire::request::{
    ConsumerSendMsgBackRequest, GetConsumerListByGroupRequest, GetMaxOffsetRequest, Header,
    PullMessageRequest, PullMessageResponse, QueryConsumerOffsetRequest, QueryConsumerOffsetResponse,
    SearchOffsetRequest, UpdateConsumerOffsetRequest, pull_sys_flag,
};
use crate::wire::{Command, Ext};
use asked::Direct;
use twins::Twins;
pub use verdict::Verdict;

/// Between two looks at who else is there (`rebalanceInterval`).
const REBALANCE: Duration = Duration::from_secs(20);
/// The same while it could not be found out.
const REBALANCE_RETRY: Duration = Duration::from_secs(1);
/// Between two commits (`persistConsumerOffsetInterval`).
const COMMIT: Duration = Duration::from_secs(5);
/// Between two renewals of queue locks.
const LOCK: Duration = Duration::from_secs(20);
/// How long a lock is believed (`REBALANCE_LOCK_MAX_LIVE_TIME`); the broker keeps it for 60 s.
const LOCK_VALID: Duration = Duration::from_secs(30);
/// How long a broker may hold a pull (`brokerSuspendMaxTimeMillis`).
const SUSPEND: Duration = Duration::from_secs(15);
/// How long the answer to a pull may take.
const PULL_ANSWER: Duration = Duration::from_secs(30);
/// After a pull that failed.
const PULL_RETRY: Duration = Duration::from_secs(1);
/// After FLOW_CONTROL.
const FLOW_RETRY: Duration = Duration::from_millis(20);
/// A pull that found nothing and was not held is not repeated at once.
const EMPTY_PAUSE: Duration = Duration::from_millis(100);
/// What a consumer is told at its making. Defaults are RocketMQ's.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Its group.
    pub group: String,
    /// Whether members share the messages or each gets all.
    pub model: MessageModel,
    /// Where a group begins that has no offset yet.
    pub start: Start,
    /// Topics, and what is wanted of each. All members of a group must say the same.
    pub subscriptions: Vec<(String, Filter)>,
    /// How queues are divided.
    pub strategy: Strategy,
    /// One delivery of a queue at a time, in order, under the broker's lock.
    pub orderly: bool,
    /// Messages of a delivery at most (`consumeMessageBatchMaxSize`).
    pub delivery_messages_max: usize,
    /// Deliveries handed out and not settled at most (`consumeThreadMax`).
    pub deliveries_max: usize,
    /// Messages of a pull at most (`pullBatchSize`).
    pub pull_messages_max: i32,
    /// A queue is not pulled while it has so many messages here (`pullThresholdForQueue`).
    pub queue_messages_max: usize,
    /// Or so many bytes (`pullThresholdSizeForQueue`).
    pub queue_bytes_max: usize,
    /// Or its oldest and newest message here are so far apart (`consumeConcurrentlyMaxSpan`); not when orderly.
    pub queue_span_max: i64,
    /// Tries of a message before it goes to the dead-letter queue; `None`: the broker's 16, without end when orderly.
    pub reconsume_max: Option<i32>,
    /// A delivery that takes longer is sent back for another try (`consumeTimeout`); not when orderly.
    pub consume_timeout: Duration,
    /// These queues in place of a share, of topics in [`ConsumerConfig::subscriptions`]; the host may change them.
    pub assigned: Option<BTreeSet<MessageQueue>>,
    /// Whether what is consumed is committed by itself (`autoCommit`), every 5 s and when a queue is given back; else only when the
    /// host says so.
    pub auto_commit: bool,
    /// Where this client had come, of a broadcast: what [`ClientEvent::Progress`] told in its last life.
    pub offsets: BTreeMap<MessageQueue, i64>,
    /// Tell a topic what was consumed.
    pub trace: Option<TraceConfig>,
}

/// Which messages of a topic are wanted. The broker chooses; of tags, whose hashes it compares, the client looks again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Tags, `a || b`; `*` for all.
    Tags(String),
    /// An SQL92 expression over properties; the broker may not serve it.
    Sql(String),
}

impl Filter {
    /// Every message.
    pub fn all() -> Filter {
        Filter::Tags("*".to_string())
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Filter::Tags(text) | Filter::Sql(text) => text,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Filter::Tags(_) => "TAG",
            Filter::Sql(_) => "SQL92",
        }
    }

    /// The tags to look at again; none for all.
    pub(super) fn tags(&self) -> BTreeSet<String> {
        match self {
            Filter::Tags(text) => tags_of(text),
            Filter::Sql(_) => BTreeSet::new(),
        }
    }
}

/// Where a new group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Behind what is there. (Brokers begin a queue at 0 that still has its first message in memory: a new queue loses nothing.)
    #[default]
    Last,
    /// At the beginning.
    First,
    /// At the first message stored at this time or later, ms since the epoch; also in young queues.
    Time(i64),
}

impl ConsumerConfig {
    /// RocketMQ's defaults.
    pub fn new(group: impl Into<String>) -> ConsumerConfig {
        ConsumerConfig {
            group: group.into(),
            model: MessageModel::Clustering,
            start: Start::Last,
            subscriptions: Vec::new(),
            strategy: Strategy::Averagely,
            orderly: false,
            delivery_messages_max: 1,
            deliveries_max: 20,
            pull_messages_max: 32,
            queue_messages_max: 1000,
            queue_bytes_max: 100 * 1024 * 1024,
            queue_span_max: 2000,
            reconsume_max: None,
            consume_timeout: Duration::from_secs(15 * 60),
            assigned: None,
            auto_commit: true,
            offsets: BTreeMap::new(),
            trace: None,
        }
    }
}

/// Names a delivery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct DeliveryId(pub u64);

/// Messages of one queue for the application.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// To be settled by.
    pub id: DeliveryId,
    /// In order of the queue. Shared with the machine, which needs them until they are settled.
    pub messages: Vec<Arc<Received>>,
}

#[derive(Debug)]
struct Out {
    queue: MessageQueue,
    offsets: Vec<i64>,
    since: Instant,
}

/// What a consumer's call is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    Members(Arc<str>),
    Twins(Arc<str>),
    Committed(MessageQueue, u64),
    Begin(MessageQueue, u64),
    Pull(MessageQueue, u64),
    Back(MessageQueue, i64, u64),
    Lock(Vec<MessageQueue>),
}

/// The consumer of a client.
#[derive(Debug)]
pub(super) struct Consumer {
    config: ConsumerConfig,
    client_id: String,
    retry_topic: String,
    sub_version: i64,
    lanes: BTreeMap<MessageQueue, Lane>,
    out: BTreeMap<DeliveryId, Out>,
    /// Messages that administrators let the application consume.
    direct: BTreeMap<DeliveryId, Direct>,
    /// Deliveries of ordered queues that the application still has although the queue was given back or begun anew. Until
    /// they are settled nothing more of the queue is handed out, and its lock does not go back.
    leaving: BTreeMap<DeliveryId, MessageQueue>,
    /// Queues that the host wants nothing of for now.
    paused: BTreeSet<MessageQueue>,
    next_delivery: u64,
    next_life: u64,
    served: Option<MessageQueue>,
    rebalance_at: Instant,
    is_asking_members: bool,
    /// The members changed while their list was under way: it may be older than that.
    is_list_stale: bool,
    commit_at: Instant,
    lock_at: Instant,
    is_stopped: bool,
    /// How far a broadcast has come, as the host is told it.
    progress: BTreeMap<MessageQueue, i64>,
    has_progressed: bool,
    /// Topics about which the host knows that they cannot be found.
    missing: BTreeSet<String>,
    /// Brokers about which the host knows that they refuse.
    refused: BTreeSet<String>,
    twins: Twins,
    notes: Vec<Note>,
}

/// What a consumer works with.
pub(super) struct Tools<'a, 'b, D> {
    pub(super) now: Now,
    pub(super) routes: &'a mut Routes,
    pub(super) calls: &'a mut Calls<Tag>,
    pub(super) env: &'a mut Env<'b, D, ClientEvent>,
}

impl<D: Disk> Tools<'_, '_, D> {
    fn call(&mut self, address: &Arc<str>, command: Command, timeout: Duration, errand: Errand) {
        self.calls.call(self.now, address, command, timeout, Tag::Consumer(errand), self.env);
    }

    /// Where a group's offsets are kept: the master, or a slave while there is none.
    fn keeper(&self, queue: &MessageQueue) -> Option<Arc<str>> {
        self.routes.address_to_read(&queue.broker_name, MASTER_ID).cloned()
    }
}

impl Consumer {
    pub(super) fn new(config: ConsumerConfig, client_id: String) -> Consumer {
        Consumer {
            retry_topic: format!("%RETRY%{}", config.group),
            progress: config.offsets.clone(),
            has_progressed: false,
            missing: BTreeSet::new(),
            refused: BTreeSet::new(),
            twins: Twins::default(),
            notes: Vec::new(),
            config,
            client_id,
            sub_version: 0,
            lanes: BTreeMap::new(),
            out: BTreeMap::new(),
            direct: BTreeMap::new(),
            leaving: BTreeMap::new(),
            paused: BTreeSet::new(),
            next_delivery: 1,
            next_life: 1,
            served: None,
            rebalance_at: Instant::ZERO,
            is_asking_members: false,
            is_list_stale: false,
            commit_at: Instant::ZERO,
            lock_at: Instant::ZERO,
            is_stopped: false,
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.config.group
    }

    fn is_clustering(&self) -> bool {
        self.config.model != MessageModel::Broadcasting
    }

    /// The topics that it reads, its retry topic among them.
    fn topic_names(&self) -> impl Iterator<Item = &str> {
        let retry = (self.is_clustering() && !self.is_chosen()).then_some(self.retry_topic.as_str());
        self.config.subscriptions.iter().map(|(topic, _)| topic.as_str()).chain(retry)
    }

    /// The same, and what is wanted.
    fn topics(&self) -> Vec<(String, Filter)> {
        let mut topics = self.config.subscriptions.clone();
        if self.is_clustering() && !self.is_chosen() {
            topics.push((self.retry_topic.clone(), Filter::all()));
        }
        topics
    }

    pub(super) fn start(&mut self, now: Now) {
        self.sub_version = now.wall.0;
        self.rebalance_at = now.mono;
        self.commit_at = now.mono + COMMIT;
        self.lock_at = now.mono;
    }

    /// What a heartbeat says of it.
    pub(super) fn heartbeat(&self) -> ConsumerData {
        let subscription = |(topic, filter): (String, Filter)| {
            let tags_set: BTreeSet<String> = filter.tags();
            SubscriptionData {
                code_set: tags_set.iter().map(|tag| java_hash(tag)).collect(),
                sub_string: filter.text().to_string(),
                expression_type: filter.kind().to_string(),
                sub_version: self.sub_version,
                tags_set,
                topic,
                ..SubscriptionData::default()
            }
        };
        ConsumerData {
            consume_from_where: match self.config.start {
                Start::Last => ConsumeFromWhere::LastOffset,
                Start::First => ConsumeFromWhere::FirstOffset,
                Start::Time(_) => ConsumeFromWhere::Timestamp,
            },
            consume_type: if self.is_chosen() { ConsumeType::Actively } else { ConsumeType::Passively },
            group_name: self.config.group.clone(),
            message_model: self.config.model,
            subscription_data_set: self.topics().into_iter().map(subscription).collect(),
            unit_mode: false,
        }
    }

    /// Nothing more can be learnt about a topic now. The retry topic is made when it is first needed.
    pub(super) fn on_no_route<D: Disk>(
        &mut self,
        topic: &str,
        error: &ConsumeError,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let is_wanted = self.config.subscriptions.iter().any(|(wanted, _)| wanted == topic);
        if is_wanted && tools.routes.existing(topic).is_none() && self.missing.insert(topic.to_string()) {
            tools.env.out.push(Effect::Emit(ClientEvent::Failing(error.clone())));
        }
    }

    /// An answer, or none.
    pub(super) fn on_outcome<D: Disk>(
        &mut self,
        errand: Errand,
        outcome: Outcome,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let now = tools.now.mono;
        match errand {
            Errand::Members(broker) => self.on_members(&broker, &outcome, tools),
            Errand::Twins(broker) => self.on_twins(&broker, &outcome, tools),
            Errand::Lock(queues) => self.on_locked(now, &queues, &outcome),
            Errand::Committed(queue, life) => self.on_committed(&queue, life, &outcome, tools),
            Errand::Begin(queue, life) => self.on_begin(&queue, life, &outcome, now),
            Errand::Pull(queue, life) => self.on_pulled(&queue, life, outcome, tools),
            Errand::Back(queue, offset, life) => self.on_back(&queue, offset, life, &outcome, now),
        }
    }

    fn on_pulled<D: Disk>(
        &mut self,
        queue: &MessageQueue,
        life: u64,
        outcome: Outcome,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let now = tools.now.mono;
        let wanted = self.config.subscriptions.iter().find(|(topic, _)| *topic == queue.topic);
        let wanted = wanted.map(|(_, filter)| filter.tags()).unwrap_or_default();
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.life == life) else { return };
        let asked_at = lane.asked_at;
        lane.doing = Doing::Nothing(now + PULL_RETRY);
        let Outcome::Reply(reply) = outcome else {
            lane.source = MASTER_ID;
            return;
        };
        let Ok(header) = reply.header::<PullMessageResponse>() else {
            lane.doing = Doing::Nothing(
                now + if reply.code == response_code::FLOW_CONTROL { FLOW_RETRY } else { PULL_RETRY },
            );
            let what = format!(
                "queue {} of {} at {}: {}",
                queue.queue_id,
                queue.topic,
                queue.broker_name,
                describe(&reply)
            );
            lane.source = MASTER_ID;
            let event = match self.refusal(queue, &reply) {
                Some(error) if self.refused.insert(queue.broker_name.clone()) => ClientEvent::Failing(error),
                Some(_) => return,
                None => ClientEvent::Problem(what),
            };
            tools.env.out.push(Effect::Emit(event));
            return;
        };
        self.refused.remove(&queue.broker_name);
        lane.source = header.suggest_which_broker_id;
        match reply.code {
            response_code::SUCCESS => match read_all(&reply.body, queue) {
                Ok(messages) => {
                    let is_wanted = |message: &Received| {
                        wanted.is_empty() || message.tag().is_some_and(|tag| wanted.contains(tag))
                    };
                    lane.take(messages.into_iter().filter(is_wanted), header.next_begin_offset);
                    lane.doing = Doing::Nothing(now);
                }
                Err(error) => {
                    let what =
                        format!("broker {} answers with what is no message: {error}", queue.broker_name);
                    tools.env.out.push(Effect::Emit(ClientEvent::Problem(what)));
                }
            },
            response_code::PULL_NOT_FOUND | response_code::PULL_RETRY_IMMEDIATELY => {
                let is_held =
                    now.since(asked_at) >= EMPTY_PAUSE || lane.next != Some(header.next_begin_offset);
                lane.next = Some(header.next_begin_offset);
                lane.doing = Doing::Nothing(if is_held { now } else { now + EMPTY_PAUSE });
            }
            response_code::PULL_OFFSET_MOVED => {
                Probe::PulledOutside.reached();
                // What was pulled before lies outside of what there is, or the broker's log was another one; late verdicts about it
                // must not count. Whatever of it nobody has settled comes again, if it is there.
                let next = header.next_begin_offset;
                let begin = lane
                    .oldest()
                    .filter(|_| is_beyond(lane.next, next))
                    .map_or(next, |oldest| oldest.min(next));
                self.next_life += 1;
                let locked_until = lane.locked_until;
                *lane = Lane::new(self.next_life, now);
                lane.locked_until = locked_until;
                lane.begin(begin);
                self.forget_deliveries(queue);
                self.commit_by_itself(queue, tools);
            }
            _ => {}
        }
    }

    /// Whether a broker refused what it will not grant the next time either.
    fn refusal(&self, queue: &MessageQueue, reply: &Command) -> Option<ConsumeError> {
        let filter = self.config.subscriptions.iter().find(|(topic, _)| *topic == queue.topic);
        let is_sql = matches!(filter, Some((_, Filter::Sql(_))));
        let is_final = match reply.code {
            response_code::NO_PERMISSION
            | response_code::SUBSCRIPTION_GROUP_NOT_EXIST
            | response_code::SUBSCRIPTION_PARSE_FAILED => true,
            // What a broker says that does not serve expressions.
            response_code::SYSTEM_ERROR => is_sql,
            _ => false,
        };
        let (code, reason, broker) = (reply.code, describe(reply), queue.broker_name.clone());
        is_final.then_some(ConsumeError::Refused { code, reason, broker })
    }

    /// Gives all queues back at once.
    pub(super) fn stop<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        self.is_stopped = true;
        let queues: Vec<MessageQueue> = self.lanes.keys().cloned().collect();
        for queue in queues {
            self.give_back(&queue, tools);
        }
        let left: BTreeSet<MessageQueue> = core::mem::take(&mut self.leaving).into_values().collect();
        for queue in left.iter().filter(|_| self.needs_lock()) {
            self.unlock(queue, tools);
        }
        self.tell_progress(tools);
        self.out.clear();
        self.direct.clear();
    }

    /// What is due.
    pub(super) fn settle<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if self.is_stopped {
            return;
        }
        let now = tools.now.mono;
        for topic in self.topic_names() {
            tools.routes.want(now, topic, false);
        }
        self.missing.retain(|topic| tools.routes.existing(topic).is_none());
        self.rebalance(tools);
        self.lock(tools);
        self.time_out(tools);
        self.work(tools);
        self.hand_out(tools);
        if self.commit_at <= now {
            self.commit_at = now + COMMIT;
            if self.config.auto_commit {
                self.commit(tools);
            }
            self.tell_progress(tools);
        }
    }

    /// Asks and pulls for the queues that have nothing under way.
    fn work<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        let needs_lock = self.needs_lock();
        let mut idle = Vec::new();
        for (queue, lane) in &mut self.lanes {
            lane.unpark(now);
            lane.locked_until = lane.locked_until.filter(|until| *until > now);
            let is_due = matches!(lane.doing, Doing::Nothing(at) if at <= now);
            // Most wait for an answer, and are asked no more than that.
            if is_due
                && (!needs_lock || lane.is_locked(now))
                && !lane.is_full(&self.config)
                && !self.paused.contains(queue)
            {
                idle.push((queue.clone(), lane.next));
            }
        }
        for (queue, next) in idle {
            match next {
                None => self.ask_committed(&queue, tools),
                Some(next) => self.pull(queue, next, tools),
            }
        }
    }

    fn pull<D: Disk>(&mut self, queue: MessageQueue, next: i64, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        let is_clustering = self.is_clustering();
        let subscribed = self.config.subscriptions.iter().find(|(topic, _)| *topic == queue.topic);
        let (text, kind) = subscribed.map_or(("*", "TAG"), |(_, filter)| (filter.text(), filter.kind()));
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        let Some(address) = tools.routes.address_to_read(&queue.broker_name, lane.source).cloned() else {
            lane.doing = Doing::Nothing(now + PULL_RETRY);
            return;
        };
        lane.doing = Doing::Asking;
        lane.asked_at = now;
        let may_commit = self.config.auto_commit && is_clustering && lane.source == MASTER_ID;
        let commit = lane.consumed().filter(|offset| *offset > 0 && may_commit);
        let commit_flag = if commit.is_some() { pull_sys_flag::COMMIT_OFFSET } else { 0 };
        let header = PullMessageRequest {
            consumer_group: self.config.group.as_str().into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            queue_offset: next,
            max_msg_nums: self.config.pull_messages_max,
            sys_flag: pull_sys_flag::SUSPEND | pull_sys_flag::SUBSCRIPTION | commit_flag,
            commit_offset: commit.unwrap_or(0),
            suspend_timeout_millis: i64::try_from(SUSPEND.as_millis()).unwrap_or(i64::MAX),
            subscription: Some(text.into()),
            sub_version: self.sub_version,
            expression_type: Some(kind.into()),
            ..PullMessageRequest::default()
        };
        let life = lane.life;
        let command = Command::request(request_code::PULL_MESSAGE, header.to_ext());
        tools.call(&address, command, PULL_ANSWER, Errand::Pull(queue, life));
    }

    /// Hands messages to the host, queue after queue, as many as it may have.
    fn hand_out<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        let is_orderly = self.config.orderly;
        let needs_lock = self.needs_lock();
        while self.out.len() < self.config.deliveries_max && self.lanes.values().any(Lane::has_waiting) {
            let is_ready = |(queue, lane): &(&MessageQueue, &Lane)| {
                // What no broker took as a dead letter is still the oldest.
                let is_whole = |lane: &Lane| lane.is_all_here() && lane.parked_until().is_none();
                lane.has_waiting()
                    && !self.paused.contains(*queue)
                    && (!is_orderly || (is_whole(lane) && lane.paused_until <= now && !self.is_held(queue)))
                    && (!needs_lock || lane.is_locked(now))
            };
            let after = self.served.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let behind = self.lanes.range::<MessageQueue, _>((after, Bound::Unbounded)).find(is_ready);
            let Some((queue, _)) = behind.or_else(|| self.lanes.iter().find(is_ready)) else { return };
            let queue = queue.clone();
            let Some(lane) = self.lanes.get_mut(&queue) else { return };
            let messages = lane.hand_out(self.config.delivery_messages_max.max(1));
            let id = DeliveryId(self.next_delivery);
            self.next_delivery += 1;
            let offsets = messages.iter().map(|message| message.queue_offset).collect();
            self.out.insert(id, Out { queue: queue.clone(), offsets, since: now });
            self.served = Some(queue);
            self.note_out(id, &messages, tools.now);
            tools.env.out.push(Effect::Emit(ClientEvent::Delivered(Delivery { id, messages })));
        }
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.out.len() <= self.config.deliveries_max, "no more is handed out than may be");
        for out in self.out.values() {
            assert!(self.lanes.contains_key(&out.queue), "what is handed out is of a queue of this member");
        }
        for queue in self.leaving.values() {
            assert!(
                self.config.orderly,
                "only ordered queues wait for what was handed out of them: {queue:?}"
            );
        }
        self.lanes.values().for_each(|lane| lane.check_invariants(&self.config));
    }
}

/// The tags of an expression; none wants all.
fn tags_of(expression: &str) -> BTreeSet<String> {
    let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty() && *tag != "*");
    tags.map(ToString::to_string).collect()
}

fn pick(names: &BTreeSet<String>, draw: u64) -> Option<&String> {
    let count = u64::try_from(names.len()).ok().filter(|count| *count > 0)?;
    names.iter().nth(usize::try_from(draw % count).ok()?)
}

/// Whether a pull went beyond the end of its queue, rather than before its beginning.
fn is_beyond(asked: Option<i64>, next: i64) -> bool {
    asked.is_some_and(|asked| asked > next)
}

fn offset_of(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Reply(reply) if reply.code == response_code::SUCCESS => {
            reply.header::<QueryConsumerOffsetResponse>().ok().map(|header| header.offset)
        }
        Outcome::Reply(_) | Outcome::Lost | Outcome::NotSent => None,
    }
}
