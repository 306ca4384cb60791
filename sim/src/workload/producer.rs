//! A producer: sends what its plan says, in order within each queue, and tries again what did not get through.
//!
//! Every attempt bears an id of its own and is reported with its own outcome. A broker that says it cannot serve *now* (it
//! recovers, it makes a new segment) does not use up an attempt, until it has said so for a minute: clients try such a send
//! again by their own rule, whatever number of attempts the application set.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::requests::{self, Outgoing, reply};
use super::route::{self, Route, RouteReply};
use super::rpc::{ClientEnv, Event, Rpc};
use super::{ClientOptions, HEARTBEAT_INTERVAL, REQUEST_TIMEOUT, ROUTE_INTERVAL};
use crate::history::{MessageId, Outcome, Queue, Report, RequestId, topic_name};

/// A send request to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// When, counted from the beginning of the world.
    pub at: Duration,
    /// Where to; the id is taken modulo the topic's queues.
    pub queue: Queue,
    /// Number of its first message.
    pub first: u32,
    /// How many messages: more than one is a batch.
    pub count: u32,
    /// Bytes of each body.
    pub body_bytes: usize,
}

/// What a producer is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProducerPlan {
    /// In the order of time.
    pub sends: Vec<Planned>,
    /// Requests under way to one queue at most; 1 keeps the order of sending.
    pub window: usize,
    /// Attempts for each request.
    pub attempts_max: u32,
}

/// Most messages of a batch.
const BATCH_MAX: u64 = 5;
/// One request in this many is a batch.
const BATCH_OF: u64 = 5;
/// Bodies are mostly shorter than this.
const BODY_BYTES_USUAL: u64 = 200;
/// One body in so many is longer.
const LONG_IN: u64 = 8;
/// In one world of so many all messages are of one size: records of one history then begin where those of another did.
const ALIKE_IN: u64 = 3;
/// Bursts that aim at a fault begin at most this long before or after it.
const AIM_BEFORE: Duration = Duration::from_millis(500);
/// Long ones are at most so long: several sectors of a disk.
const BODY_BYTES_MAX: u64 = 3_000;
/// Queues that are sent to.
pub const QUEUES: u64 = 4;

/// When and how much is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many messages.
    pub messages: u32,
    /// To how many topics.
    pub topics: u8,
    /// None is sent before.
    pub from: Duration,
    /// Nor after.
    pub until: Duration,
    /// Times at which something is about to go wrong: half of the bursts come there.
    pub aims: Vec<Duration>,
}

impl Load {
    fn burst(&self, rng: &mut Rng) -> Duration {
        let aim = self.aims.get(rng.below(2 * self.aims.len() as u64) as usize);
        let at = match aim {
            Some(aim) => {
                aim.saturating_sub(AIM_BEFORE)
                    + Duration::from_nanos(rng.below(2 * AIM_BEFORE.as_nanos() as u64))
            }
            None => self.from + Duration::from_nanos(rng.below((self.until - self.from).as_nanos() as u64)),
        };
        at.clamp(self.from, self.until)
    }
}

/// Draws sends: some evenly spread, some in bursts.
pub fn draw(rng: &mut Rng, load: &Load) -> ProducerPlan {
    let span = (load.until - load.from).as_nanos() as u64;
    let bursts = 1 + rng.below(20);
    let alike = rng.one_in(ALIKE_IN).then(|| body_bytes(rng));
    let mut sends = Vec::new();
    let mut first = 0;
    let mut at = load.from;
    while first < load.messages {
        // A burst: several requests at nearly one time.
        if first == 0 || rng.below(u64::from(load.messages)) < bursts * 4 {
            at = load.burst(rng);
        } else if rng.one_in(2) {
            at = (at + Duration::from_nanos(rng.below(span / 50))).min(load.until);
        } else {
            at = (at + Duration::from_nanos(rng.below(3_000_000))).min(load.until);
        }
        let count = if rng.one_in(BATCH_OF) { 2 + rng.below(BATCH_MAX - 1) as u32 } else { 1 };
        let count = count.min(load.messages - first);
        let queue = Queue { topic: rng.below(load.topics.into()) as u8, id: rng.below(QUEUES) as i32 };
        let body_bytes = alike.unwrap_or_else(|| body_bytes(rng));
        sends.push(Planned { at, queue, first, count, body_bytes });
        first += count;
    }
    sends.sort_by_key(|send| send.at);
    let window = if rng.one_in(3) { 1 + rng.below(8) as usize } else { 1 };
    ProducerPlan { sends, window, attempts_max: 1 + rng.below(30) as u32 }
}

fn body_bytes(rng: &mut Rng) -> usize {
    let bytes_max = if rng.one_in(LONG_IN) { BODY_BYTES_MAX } else { BODY_BYTES_USUAL };
    MessageId::BODY_BYTES_MIN + rng.below(bytes_max) as usize
}

#[derive(Debug)]
enum Tag {
    Route { topic: u8, fallback: bool },
    Heartbeat,
    Send { queue: Queue, request: RequestId, job: Job },
}

#[derive(Clone, Debug)]
struct Job {
    first: u32,
    count: u32,
    attempt: u32,
    /// Attempts that failed otherwise than by a broker that could not serve just then.
    failures: u32,
    /// When patience ends with a broker that keeps saying it cannot serve now.
    refused_until: Option<Instant>,
    body_bytes: usize,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    under_way: usize,
    /// After a failure, not before this.
    not_before: Instant,
}

#[derive(Default)]
struct Topic {
    route: Option<Route>,
    asking: bool,
    ask_at: Instant,
}

/// See the [module](self).
pub struct Producer {
    options: ClientOptions,
    plan: Rc<ProducerPlan>,
    /// What the monotonic clock showed when the world began.
    origin: Instant,
    next: usize,
    lanes: BTreeMap<Queue, Lane>,
    topics: BTreeMap<u8, Topic>,
    heartbeat_at: Instant,
    requests: u32,
    finished: bool,
    rpc: Rpc<Tag>,
}

const GROUP: &str = "producers";
/// Requests of a life are numbered from its number times this.
const REQUESTS_OF_A_LIFE: u32 = 1_000_000;
/// A broker may say for so long that it cannot serve now.
const PATIENCE: Duration = Duration::from_secs(60);
/// Retries wait at most this.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

impl Producer {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(
        options: ClientOptions,
        plan: Rc<ProducerPlan>,
        life: u32,
        at: Duration,
        now: Now,
    ) -> Producer {
        let next = plan.sends.partition_point(|send| send.at < at);
        Producer {
            options,
            plan,
            origin: Instant::from_nanos(now.mono.as_nanos() - at.as_nanos() as u64),
            next,
            lanes: BTreeMap::new(),
            topics: BTreeMap::new(),
            heartbeat_at: now.mono + Duration::from_secs(1),
            requests: life * REQUESTS_OF_A_LIFE,
            finished: false,
            rpc: Rpc::default(),
        }
    }

    fn take_due(&mut self, now: Now) {
        while let Some(send) = self.plan.sends.get(self.next) {
            if self.origin + send.at > now.mono {
                break;
            }
            let job = Job {
                first: send.first,
                count: send.count,
                attempt: 0,
                failures: 0,
                refused_until: None,
                body_bytes: send.body_bytes,
            };
            self.lanes.entry(send.queue).or_default().waiting.push_back(job);
            self.topics.entry(send.queue.topic).or_default();
            self.next += 1;
        }
    }

    fn ask_routes(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        for (&topic, state) in &mut self.topics {
            if state.asking || state.ask_at > now.mono {
                continue;
            }
            state.asking = true;
            state.ask_at = now.mono + ROUTE_INTERVAL;
            let tag = Tag::Route { topic, fallback: false };
            let command = requests::route(&topic_name(topic));
            self.rpc.call(now, env, self.options.names.asked(), command, REQUEST_TIMEOUT, tag);
        }
    }

    fn send_waiting(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        for (&planned, lane) in &mut self.lanes {
            let Some(route) = self.topics.get(&planned.topic).and_then(|topic| topic.route.as_ref()) else {
                continue;
            };
            while lane.under_way < self.plan.window && lane.not_before <= now.mono {
                let Some(job) = lane.waiting.pop_front() else { break };
                lane.under_way += 1;
                self.requests += 1;
                let request = RequestId(self.requests);
                let queue = Queue { topic: planned.topic, id: planned.id % route.queues.max(1) };
                let messages = job.messages();
                let outgoing: Vec<Outgoing> =
                    messages.iter().map(|id| outgoing(*id, job.body_bytes)).collect();
                env.out.push(report(Report::SendBegun { request, queue, messages }));
                let command =
                    requests::send(GROUP, &topic_name(queue.topic), queue.id, now.wall.0, &outgoing);
                let tag = Tag::Send { queue: planned, request, job };
                self.rpc.call(now, env, &route.master, command, REQUEST_TIMEOUT, tag);
            }
        }
    }

    fn heartbeat(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.heartbeat_at > now.mono {
            return;
        }
        self.heartbeat_at = now.mono + HEARTBEAT_INTERVAL;
        let masters: std::collections::BTreeSet<Arc<str>> =
            self.topics.values().filter_map(|topic| Some(topic.route.as_ref()?.master.clone())).collect();
        for master in masters {
            let command = requests::producer_heartbeat(&self.options.client_id, GROUP);
            self.rpc.call(now, env, &master, command, REQUEST_TIMEOUT, Tag::Heartbeat);
        }
    }

    fn on_reply(&mut self, now: Now, tag: Tag, command: &Command, env: &mut ClientEnv<'_>) {
        match tag {
            Tag::Heartbeat => {}
            Tag::Route { topic, fallback } => self.on_route(now, topic, fallback, command, env),
            Tag::Send { queue, request, job } => {
                let outcome = read_outcome(command, job.count as usize);
                self.on_outcome(now, queue, request, job, outcome, env);
            }
        }
    }

    fn on_route(&mut self, now: Now, topic: u8, fallback: bool, command: &Command, env: &mut ClientEnv<'_>) {
        let answer = route::read(command);
        if let RouteReply::Broken(what) = &answer {
            env.out.push(report(Report::Broken { what: what.clone() }));
        }
        let known = match answer {
            RouteReply::Known(route) => Some(route),
            RouteReply::Unknown | RouteReply::Broken(_) => None,
        };
        let Some(state) = self.topics.get_mut(&topic) else { return };
        state.asking = false;
        if !fallback {
            let master = known.as_ref().map(|route| route.master.to_string());
            env.out.push(report(Report::Route { topic, master }));
            if known.is_none() {
                state.asking = true;
                let tag = Tag::Route { topic, fallback: true };
                let command = requests::route(requests::AUTO_CREATE_TOPIC);
                self.rpc.call(now, env, self.options.names.asked(), command, REQUEST_TIMEOUT, tag);
                return;
            }
        }
        // What is known is kept while the name server knows nothing.
        match known {
            Some(route) => state.route = Some(Route { queues: route.queues.min(QUEUES as i32), ..route }),
            None => state.ask_at = now.mono + Duration::from_secs(1),
        }
    }

    fn on_no_reply(&mut self, now: Now, tag: Tag, sent: bool, env: &mut ClientEnv<'_>) {
        match tag {
            Tag::Heartbeat => {}
            Tag::Route { topic, .. } => {
                self.options.names.ask_next();
                if let Some(state) = self.topics.get_mut(&topic) {
                    state.asking = false;
                    state.ask_at = now.mono + Duration::from_secs(1);
                }
            }
            Tag::Send { queue, request, job } => {
                let outcome = if sent { Outcome::Unknown } else { Outcome::Refused { code: -1 } };
                self.on_outcome(now, queue, request, job, outcome, env);
            }
        }
    }

    fn on_outcome(
        &mut self,
        now: Now,
        queue: Queue,
        request: RequestId,
        job: Job,
        outcome: Outcome,
        env: &mut ClientEnv<'_>,
    ) {
        let again = match outcome {
            Outcome::Ok { .. } | Outcome::Weak { .. } => false,
            Outcome::Refused { .. } | Outcome::Unknown => true,
        };
        let not_now = outcome == Outcome::Refused { code: reply::SERVICE_NOT_AVAILABLE };
        let refused_until = not_now.then(|| job.refused_until.unwrap_or(now.mono + PATIENCE));
        env.out.push(report(Report::SendEnded { request, outcome }));
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.under_way -= 1;
        if !again {
            return;
        }
        lane.not_before = now.mono + Duration::from_nanos(env.rng.below(RETRY_DELAY_MAX.as_nanos() as u64));
        if let Some(topic) = self.topics.get_mut(&queue.topic) {
            topic.ask_at = topic.ask_at.min(now.mono + Duration::from_secs(1));
        }
        let patient = refused_until.is_some_and(|until| now.mono < until);
        let failures = job.failures + u32::from(!patient);
        if failures < self.plan.attempts_max {
            lane.waiting.push_front(Job { attempt: job.attempt + 1, failures, refused_until, ..job });
        } else {
            for message in job.messages() {
                env.out.push(report(Report::GaveUp { message }));
            }
        }
    }

    fn finish(&mut self, env: &mut ClientEnv<'_>) {
        let idle = self.lanes.values().all(|lane| lane.waiting.is_empty() && lane.under_way == 0);
        if !self.finished && self.next == self.plan.sends.len() && idle {
            self.finished = true;
            env.out.push(report(Report::AllSent));
        }
    }
}

impl Job {
    fn messages(&self) -> Vec<MessageId> {
        let number = self.first..self.first + self.count;
        number.map(|message| MessageId { message, attempt: self.attempt }).collect()
    }
}

fn report(report: Report) -> gantry_core::io::Effect<Report> {
    gantry_core::io::Effect::Emit(report)
}

fn outgoing(id: MessageId, body_bytes: usize) -> Outgoing {
    Outgoing { body: id.body(body_bytes), properties: id.properties() }
}

pub(super) fn read_outcome(command: &Command, count: usize) -> Outcome {
    match command.code {
        reply::SUCCESS => {
            let ids = command.ext.get("msgId").unwrap_or_default();
            let physical: Option<Vec<u64>> = ids.split(',').map(physical_offset).collect();
            let offset = requests::reply_number(command, "queueOffset");
            match (offset, physical) {
                (Some(offset), Some(physical)) if physical.len() == count => Outcome::Ok { offset, physical },
                // A success that does not say where is none.
                _ => Outcome::Unknown,
            }
        }
        code @ (reply::FLUSH_DISK_TIMEOUT | reply::FLUSH_SLAVE_TIMEOUT | reply::SLAVE_NOT_AVAILABLE) => {
            Outcome::Weak { code }
        }
        code @ (reply::SYSTEM_BUSY
        | reply::MESSAGE_ILLEGAL
        | reply::SERVICE_NOT_AVAILABLE
        | reply::NO_PERMISSION
        | reply::TOPIC_NOT_EXIST
        | reply::INVALID_PARAMETER) => Outcome::Refused { code },
        _ => Outcome::Unknown,
    }
}

/// An offset message id: host 4 bytes, port 4, commit-log offset 8, as hex.
fn physical_offset(id: &str) -> Option<u64> {
    (id.len() == 32).then(|| u64::from_str_radix(id.get(16..)?, 16).ok())?
}

impl Machine<MemoryDisk> for Producer {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        for event in self.rpc.take_events() {
            match event {
                Event::Reply(tag, command) => self.on_reply(now, tag, &command, env),
                Event::Lost(tag) => self.on_no_reply(now, tag, true, env),
                Event::NotSent(tag) => self.on_no_reply(now, tag, false, env),
                Event::Request(_) => {}
            }
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        for event in self.rpc.take_events() {
            match event {
                Event::Lost(tag) => self.on_no_reply(now, tag, true, env),
                Event::NotSent(tag) => self.on_no_reply(now, tag, false, env),
                Event::Reply(..) | Event::Request(_) => {}
            }
        }
        self.take_due(now);
        self.ask_routes(now, env);
        self.send_waiting(now, env);
        self.heartbeat(now, env);
        self.finish(env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let planned = self.plan.sends.get(self.next).map(|send| self.origin + send.at);
        let retries = self
            .lanes
            .iter()
            .filter(|(queue, lane)| {
                let routed = self.topics.get(&queue.topic).is_some_and(|topic| topic.route.is_some());
                routed && !lane.waiting.is_empty() && lane.under_way < self.plan.window
            })
            .map(|(_, lane)| lane.not_before)
            .min();
        let routes = self.topics.values().filter(|topic| !topic.asking).map(|topic| topic.ask_at).min();
        let all = [planned, retries, routes, self.rpc.deadline(), Some(self.heartbeat_at)];
        all.into_iter().flatten().min().map(|at| (at, "work"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_sends_each_message_once_and_in_time() {
        let (from, until) = (Duration::from_secs(2), Duration::from_secs(400));
        let aims = vec![Duration::from_secs(1), Duration::from_secs(50)];
        let load = Load { messages: 200, topics: 2, from, until, aims };
        for seed in 0..50 {
            let plan = draw(&mut Rng::from_seed(seed), &load);
            let mut sent: Vec<u32> =
                plan.sends.iter().flat_map(|send| send.first..send.first + send.count).collect();
            sent.sort_unstable();
            assert_eq!(sent, (0..200).collect::<Vec<_>>());
            assert!(plan.sends.iter().all(|send| send.at >= from && send.at <= until));
        }
    }

    #[test]
    fn the_place_in_the_log_stands_in_the_message_id() {
        assert_eq!(physical_offset("0A00000200002A9F00000000000001F4"), Some(500));
        assert_eq!(physical_offset("0A0000020000"), None);
    }
}
