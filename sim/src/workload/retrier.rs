//! A consumer that fails: it sends messages, consumes them one after another in each queue, and sends back those that the plan
//! lets fail; it reads its group's retry topic in the same way, and its dead-letter queue from the beginning.
//!
//! The offset of a queue moves past a message only when that is consumed or its way back was acknowledged.

use std::collections::VecDeque;
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::delayer::DelayedSend;
use super::desk::{Desk, Doing, Membership, PULL_GRACE, Pulled, RETRY_DELAY, read_pull};
use super::requests::{self, Back, Outgoing, Pull, reply, reply_number};
use super::rpc::{ClientEnv, Event};
use super::{ClientOptions, REQUEST_TIMEOUT, producer};
use crate::history::{MessageId, Outcome, Report, RetryPlace, RetryReport};

/// Where its messages are sent.
pub const TOPIC: &str = "retried";
/// Where they come back.
pub const RETRY_TOPIC: &str = "%RETRY%retriers";
/// Where they end.
pub const DEAD_TOPIC: &str = "%DLQ%retriers";
const GROUP: &str = "retriers";
const QUEUES: i32 = 4;
/// Attempts to send each message.
const ATTEMPTS_MAX: u32 = 40;
const SUSPEND: Duration = Duration::from_secs(15);
/// What could not be sent back is consumed again after this, as in RocketMQ's push consumer.
const AGAIN_DELAY: Duration = Duration::from_secs(5);

/// What it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetrierPlan {
    /// What is sent; levels do not count.
    pub sends: Vec<DelayedSend>,
    /// Of a thousand tries to consume so many fail.
    pub fail_per_mille: u32,
    /// A message that came back so often is dead.
    pub times_max: i32,
}

impl RetrierPlan {
    /// Whether a message fails this time: the same answer whenever it is asked.
    fn fails(&self, id: MessageId, times: i32) -> bool {
        let mut hash = u64::from(id.message) << 32 | u64::from(id.attempt) << 8 | times as u64;
        hash = (hash ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (hash >> 40) % 1000 < u64::from(self.fail_per_mille)
    }
}

#[derive(Clone, Debug)]
struct Job {
    send: DelayedSend,
    attempt: u32,
    not_before: Instant,
}

/// A message at hand.
#[derive(Clone, Copy, Debug)]
struct Item {
    id: MessageId,
    times: i32,
    physical: u64,
    offset: i64,
}

#[derive(Debug)]
enum Tag {
    Send(Job),
    Offset(usize),
    Pull(usize),
    Back(usize),
}

struct Lane {
    topic: &'static str,
    queue: i32,
    next: Option<i64>,
    committed: i64,
    doing: Doing,
    items: VecDeque<Item>,
}

/// See the [module](self).
pub struct Retrier {
    desk: Desk<Tag>,
    plan: Rc<RetrierPlan>,
    origin: Instant,
    next: usize,
    waiting: VecDeque<Job>,
    lanes: Vec<Lane>,
}

impl Retrier {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(options: ClientOptions, plan: Rc<RetrierPlan>, at: Duration, now: Now) -> Retrier {
        let at_ns = at.as_nanos() as u64;
        let lane = |topic, queue| Lane {
            topic,
            queue,
            next: (topic == DEAD_TOPIC).then_some(0),
            committed: -1,
            doing: Doing::Nothing(now.mono),
            items: VecDeque::new(),
        };
        let mut lanes: Vec<Lane> = (0..QUEUES).map(|queue| lane(TOPIC, queue)).collect();
        lanes.extend([lane(RETRY_TOPIC, 0), lane(DEAD_TOPIC, 0)]);
        let member = Membership { group: GROUP, topics: vec![TOPIC.to_owned(), RETRY_TOPIC.to_owned()] };
        Retrier {
            desk: Desk::new(options, Some(member), now),
            next: plan.sends.partition_point(|send| send.at_ns < at_ns),
            plan,
            origin: Instant::from_nanos(now.mono.as_nanos() - at_ns),
            waiting: VecDeque::new(),
            lanes,
        }
    }

    fn due(&self) -> Option<Instant> {
        self.plan.sends.get(self.next).map(|send| self.origin + Duration::from_nanos(send.at_ns))
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::Send(job), command) => {
                let outcome = producer::read_outcome(&command, 1);
                self.on_sent(now, job, &outcome, env);
            }
            Event::Lost(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Unknown, env),
            Event::NotSent(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Refused { code: -1 }, env),
            Event::Reply(Tag::Offset(lane), command) => self.on_offset(now, lane, &command),
            Event::Reply(Tag::Pull(lane), command) => self.on_pull(now, lane, &command, env),
            Event::Reply(Tag::Back(lane), command) => {
                if command.code == reply::SUCCESS {
                    self.on_back(now, lane, env);
                } else {
                    self.read_again(now, lane);
                }
            }
            Event::Lost(Tag::Offset(lane) | Tag::Pull(lane) | Tag::Back(lane))
            | Event::NotSent(Tag::Offset(lane) | Tag::Pull(lane) | Tag::Back(lane)) => {
                self.lanes[lane].doing = Doing::Nothing(now.mono + RETRY_DELAY);
            }
            Event::Request(_) => {}
        }
    }

    fn on_sent(&mut self, now: Now, job: Job, outcome: &Outcome, env: &mut ClientEnv<'_>) {
        let id = MessageId { message: job.send.message, attempt: job.attempt };
        match outcome {
            Outcome::Ok { .. } => tell(env, RetryReport::Stored { id }),
            Outcome::Weak { .. } => {}
            Outcome::Refused { .. } | Outcome::Unknown if job.attempt + 1 < ATTEMPTS_MAX => {
                let not_before = now.mono + RETRY_DELAY;
                self.waiting.push_back(Job { attempt: job.attempt + 1, not_before, ..job });
            }
            Outcome::Refused { .. } | Outcome::Unknown => {}
        }
    }

    fn on_offset(&mut self, now: Now, lane: usize, command: &Command) {
        let lane = &mut self.lanes[lane];
        lane.doing = Doing::Nothing(now.mono);
        match command.code {
            reply::SUCCESS => lane.next = Some(reply_number(command, "offset").unwrap_or(0)),
            reply::QUERY_NOT_FOUND => lane.next = Some(0),
            _ => lane.doing = Doing::Nothing(now.mono + RETRY_DELAY),
        }
        lane.committed = lane.next.unwrap_or(-1);
    }

    fn on_pull(&mut self, now: Now, index: usize, command: &Command, env: &mut ClientEnv<'_>) {
        let lane = &mut self.lanes[index];
        lane.doing = Doing::Nothing(now.mono);
        match read_pull(command) {
            Pulled::Messages { records, next } => {
                for record in records {
                    let Some(id) = record.message() else {
                        let what = format!("{}/{} holds a strange message", lane.topic, lane.queue);
                        env.out.push(Effect::Emit(Report::Broken { what }));
                        continue;
                    };
                    let times = record.reconsume_times;
                    let (physical, offset) = (record.physical_offset, record.queue_offset);
                    let place = RetryPlace { topic: lane.topic, queue: lane.queue, offset, physical };
                    if lane.topic == DEAD_TOPIC {
                        tell(env, RetryReport::Dead { id, times, place });
                        continue;
                    }
                    tell(env, RetryReport::Came { id, times, place });
                    lane.items.push_back(Item { id, times, physical, offset });
                }
                lane.next = Some(next);
                self.consume(now, index, env);
            }
            Pulled::Nothing { next, wait } => {
                lane.next = Some(next);
                if wait {
                    lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                }
            }
            Pulled::Refused => lane.doing = Doing::Nothing(now.mono + RETRY_DELAY),
        }
    }

    /// Consumes what does not fail, up to the first that does.
    fn consume(&mut self, now: Now, index: usize, env: &mut ClientEnv<'_>) {
        let lane = &mut self.lanes[index];
        while let Some(item) = lane.items.front() {
            if self.plan.fails(item.id, item.times) {
                lane.doing = Doing::Nothing(now.mono);
                break;
            }
            tell(env, RetryReport::Consumed { id: item.id });
            lane.items.pop_front();
        }
        self.commit(index, env);
    }

    /// Begins again at the committed offset: after a power loss nothing may lie where a message lay.
    fn read_again(&mut self, now: Now, index: usize) {
        let lane = &mut self.lanes[index];
        lane.items.clear();
        lane.next = None;
        lane.doing = Doing::Nothing(now.mono + AGAIN_DELAY);
    }

    fn on_back(&mut self, now: Now, index: usize, env: &mut ClientEnv<'_>) {
        if let Some(item) = self.lanes[index].items.pop_front() {
            tell(env, RetryReport::Back { id: item.id, times: item.times });
        }
        self.lanes[index].doing = Doing::Nothing(now.mono);
        self.consume(now, index, env);
    }

    fn commit(&mut self, index: usize, env: &mut ClientEnv<'_>) {
        let lane = &mut self.lanes[index];
        let done = lane.items.front().map_or(lane.next, |item| Some(item.offset));
        if let Some(done) = done.filter(|done| *done > lane.committed) {
            lane.committed = done;
            let command = requests::update_offset(GROUP, lane.topic, lane.queue, done);
            self.desk.tell(env, command);
        }
    }

    fn send(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        while self.due().is_some_and(|due| due <= now.mono) {
            let send = self.plan.sends[self.next].clone();
            self.waiting.push_back(Job { send, attempt: 0, not_before: now.mono });
            self.next += 1;
        }
        for _ in 0..self.waiting.len() {
            let Some(job) = self.waiting.pop_front() else { break };
            if job.not_before > now.mono {
                self.waiting.push_back(job);
                continue;
            }
            let id = MessageId { message: job.send.message, attempt: job.attempt };
            tell(env, RetryReport::Begun { id });
            let outgoing = [Outgoing { body: id.body(40), properties: id.properties() }];
            let command = requests::send(GROUP, TOPIC, job.send.queue, now.wall.0, &outgoing);
            self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Send(job));
        }
    }

    fn work(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !matches!(lane.doing, Doing::Nothing(at) if at <= now.mono) {
                continue;
            }
            lane.doing = Doing::Waiting;
            if let Some(item) = lane.items.front() {
                let Item { id, times, physical, .. } = *item;
                tell(env, RetryReport::BackBegun { id, times, physical });
                let times_max = self.plan.times_max;
                let back = Back { group: GROUP, topic: TOPIC, physical, unique: id.unique_key(), times_max };
                self.desk.call(now, env, requests::send_back(&back), REQUEST_TIMEOUT, Tag::Back(index));
                continue;
            }
            let Some(offset) = lane.next else {
                let command = requests::query_offset(GROUP, lane.topic, lane.queue);
                self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Offset(index));
                continue;
            };
            let pull = Pull {
                group: GROUP,
                topic: lane.topic,
                queue: lane.queue,
                offset,
                messages_max: 8,
                commit: None,
                suspend_ms: SUSPEND.as_millis() as i64,
            };
            self.desk.call(now, env, requests::pull(&pull), SUSPEND + PULL_GRACE, Tag::Pull(index));
        }
    }
}

fn tell(env: &mut ClientEnv<'_>, report: RetryReport) {
    env.out.push(Effect::Emit(Report::Retry(report)));
}

impl Machine<MemoryDisk> for Retrier {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        for event in self.desk.step(now, input, env) {
            self.on_event(now, event, env);
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        for event in self.desk.settle(now, env) {
            self.on_event(now, event, env);
        }
        if self.desk.is_ready() {
            self.send(now, env);
            self.work(now, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.doing.may_go_on());
        let jobs = self.waiting.iter().map(|job| job.not_before);
        self.desk.work_deadline(lanes.chain(jobs).chain(self.due()))
    }
}
