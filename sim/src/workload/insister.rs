//! Two producers that want each message stored once. They insist: what has an unknown outcome is sent again to the master, and what
//! was acknowledged is sent again all the same now and then, also when the broker has died meanwhile. Some first attempts come
//! behind the second one. The two choose the same unique keys. In the end everything is read.
//!
//! Messages `2n` and `2n + 1` are the two producers' with one key; a send of several messages is a batch.

use std::collections::VecDeque;
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Ext};
use gantry_disk::MemoryDisk;

use super::delayer::DelayedSend;
use super::desk::{Desk, Doing, PULL_GRACE, Pulled, RETRY_DELAY, read_pull};
use super::requests::{self, Outgoing, Pull, reply_number};
use super::rpc::{ClientEnv, Event};
use super::script::Script;
use super::{ClientOptions, REQUEST_TIMEOUT, producer};
use crate::history::{InsistReport, MessageId, OncePlace, Outcome, Report};

/// The topic.
pub const TOPIC: &str = "once";
const GROUP: &str = "insisters";
const QUEUES: i32 = 4;
/// Attempts until the outcome is known.
const ATTEMPTS_MAX: u32 = 200;
/// Numbers of a send's messages: so many times the number of the send, and on.
const NUMBERS: u32 = 8;
/// What has an unknown outcome is sent again within this, and what was acknowledged within that.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);
const ECHO_WITHIN: Duration = Duration::from_secs(60);
const SUSPEND: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Job {
    send: DelayedSend,
    attempt: u32,
    /// An earlier attempt may have been stored.
    again: bool,
    /// How often it is sent again although it was acknowledged.
    echoes: u32,
    not_before: Instant,
}

#[derive(Debug)]
enum Tag {
    Send(Job),
    /// A first attempt that comes behind the second one.
    Late(Job),
    Pull(usize),
}

struct Lane {
    next: i64,
    doing: Doing,
}

/// See the [module](self).
pub struct Insister {
    desk: Desk<Tag>,
    script: Script<DelayedSend>,
    audit_at: Instant,
    waiting: VecDeque<Job>,
    lanes: Vec<Lane>,
}

/// The numbers of a send's messages: of the two producers' sends with one key as many.
fn numbers(send: &DelayedSend) -> Vec<u32> {
    let count = if (send.message / 2).is_multiple_of(3) { 4 } else { 1 };
    (0..count).map(|item| send.message * NUMBERS + item).collect()
}

impl Insister {
    /// A life that begins `at` after the world did, leaves out what was due before, and reads everything from `audit_at` on.
    pub fn new(
        options: ClientOptions,
        plan: Rc<Vec<DelayedSend>>,
        at: Duration,
        audit_at: Duration,
        now: Now,
    ) -> Insister {
        let script = Script::new(plan, at, now);
        let audit_at = script.origin() + audit_at;
        let lane = |_| Lane { next: 0, doing: Doing::Nothing(audit_at) };
        Insister {
            desk: Desk::new(options, None, now),
            script,
            audit_at,
            waiting: VecDeque::new(),
            lanes: (0..QUEUES).map(lane).collect(),
        }
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::Send(job), command) => {
                let outcome = read(&job, &command, env);
                self.on_sent(now, job, &outcome, env);
            }
            Event::Reply(Tag::Late(job), command) => {
                read(&job, &command, env);
            }
            Event::Lost(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Unknown, env),
            Event::NotSent(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Refused { code: -1 }, env),
            Event::Reply(Tag::Pull(lane), command) => self.on_pull(now, lane, &command, env),
            Event::Lost(Tag::Pull(lane)) | Event::NotSent(Tag::Pull(lane)) => {
                self.lanes[lane].doing = Doing::Nothing(now.mono + RETRY_DELAY);
            }
            Event::Lost(Tag::Late(_)) | Event::NotSent(Tag::Late(_)) | Event::Request(_) => {}
        }
    }

    fn on_sent(&mut self, now: Now, job: Job, outcome: &Outcome, env: &mut ClientEnv<'_>) {
        let (again, within, echoes) = match outcome {
            Outcome::Ok { .. } | Outcome::Weak { .. } if job.echoes == 0 => return,
            Outcome::Ok { .. } | Outcome::Weak { .. } => (true, ECHO_WITHIN, job.echoes - 1),
            Outcome::Refused { .. } => (job.again, AGAIN_WITHIN, job.echoes),
            Outcome::Unknown => (true, AGAIN_WITHIN, job.echoes),
        };
        let not_before = now.mono + Duration::from_nanos(env.rng.below(within.as_nanos() as u64));
        if job.attempt + 1 < ATTEMPTS_MAX && not_before < self.audit_at {
            self.waiting.push_back(Job { attempt: job.attempt + 1, again, echoes, not_before, ..job });
        }
    }

    fn on_pull(&mut self, now: Now, index: usize, command: &Command, env: &mut ClientEnv<'_>) {
        let queue = index as i32;
        let lane = &mut self.lanes[index];
        lane.doing = Doing::Nothing(now.mono);
        match read_pull(command) {
            Pulled::Messages { records, next } => {
                for record in records {
                    let id = MessageId::from_body(record.body);
                    let (offset, physical) = (record.queue_offset, record.physical_offset);
                    tell(env, InsistReport::Came { place: OncePlace { queue, offset, physical }, id });
                }
                lane.next = next;
            }
            Pulled::Nothing { next, wait } => {
                lane.next = next;
                tell(env, InsistReport::Drained { queue });
                if wait {
                    lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                }
            }
            Pulled::Refused => lane.doing = Doing::Nothing(now.mono + RETRY_DELAY),
        }
    }

    fn send(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        while let Some(send) = self.script.take(now) {
            let send = send.clone();
            let echoes = env.rng.below(3) as u32;
            self.waiting.push_back(Job { send, attempt: 0, again: false, echoes, not_before: now.mono });
        }
        for _ in 0..self.waiting.len() {
            let Some(mut job) = self.waiting.pop_front() else { break };
            if job.not_before > now.mono {
                self.waiting.push_back(job);
                continue;
            }
            let swap = job.attempt == 0 && env.rng.one_in(5);
            let late = swap.then(|| Job { attempt: 1, ..job.clone() });
            job.again |= swap;
            let command = request(&job, now, env);
            self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Send(job.clone()));
            if let Some(late) = late {
                let command = request(&late, now, env);
                self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Late(late));
            }
        }
    }

    fn pull(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !matches!(lane.doing, Doing::Nothing(at) if at <= now.mono) {
                continue;
            }
            lane.doing = Doing::Waiting;
            let pull = Pull {
                group: GROUP,
                topic: TOPIC,
                queue: index as i32,
                offset: lane.next,
                messages_max: 32,
                commit: None,
                suspend_ms: SUSPEND.as_millis() as i64,
            };
            self.desk.call(now, env, requests::pull(&pull), SUSPEND + PULL_GRACE, Tag::Pull(index));
        }
    }
}

/// An attempt, which is told of.
fn request(job: &Job, now: Now, env: &mut ClientEnv<'_>) -> Command {
    let send = &job.send;
    let mut outgoing = Vec::new();
    for (item, message) in numbers(send).into_iter().enumerate() {
        let id = MessageId { message, attempt: job.attempt };
        tell(env, InsistReport::Begun { id });
        let properties = format!("UNIQ_KEY\u{1}k{}.{item}\u{2}", send.message / 2);
        outgoing.push(Outgoing { body: id.body(40), properties });
    }
    // A further attempt may choose another queue, and is told the first one's.
    let queue = (send.queue + job.attempt as i32) % QUEUES;
    let command = requests::send(GROUP, TOPIC, queue, now.wall.0, &outgoing);
    let Ext::Fields(mut fields) = command.ext else { return command };
    fields.push(("gantryOnce".into(), format!("producer-{}", send.message % 2).into()));
    if job.again {
        fields.push(("gantryAgain".into(), "true".into()));
    }
    Command { ext: Ext::Fields(fields), ..command }
}

/// How an attempt ended; where its messages lie is told of.
fn read(job: &Job, command: &Command, env: &mut ClientEnv<'_>) -> Outcome {
    let numbers = numbers(&job.send);
    let outcome = producer::read_outcome(command, numbers.len());
    let Outcome::Ok { offset, physical } = &outcome else { return outcome };
    let honoured = command.ext.get("gantryOnce").as_deref() == Some("true");
    let Some(queue) = reply_number(command, "queueId").and_then(|id| i32::try_from(id).ok()) else {
        return Outcome::Unknown;
    };
    let offsets: Vec<i64> = match command.ext.get("gantryOffsets") {
        Some(text) => text.split(',').filter_map(|offset| offset.parse().ok()).collect(),
        None => (*offset..).take(numbers.len()).collect(),
    };
    for ((message, offset), physical) in numbers.into_iter().zip(offsets).zip(physical) {
        let id = MessageId { message, attempt: job.attempt };
        let place = OncePlace { queue, offset, physical: *physical };
        tell(env, InsistReport::Stored { id, place, honoured });
    }
    outcome
}

fn tell(env: &mut ClientEnv<'_>, report: InsistReport) {
    env.out.push(Effect::Emit(Report::Insist(report)));
}

impl Machine<MemoryDisk> for Insister {
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
            self.pull(now, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.doing.may_go_on());
        let jobs = self.waiting.iter().map(|job| job.not_before);
        self.desk.work_deadline(lanes.chain(jobs).chain(self.script.due()))
    }
}
