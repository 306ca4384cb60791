//! Delayed messages: sends them, and reads their topic from its beginning in each life, and whenever its broker was gone.
//!
//! Each attempt is reported with its outcome, each message that is read with its place; the checker knows the times.

use std::collections::VecDeque;
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::desk::{Desk, Doing, PULL_GRACE, Pulled, RETRY_DELAY, read_pull};
use super::requests::{self, Outgoing, Pull};
use super::rpc::{ClientEnv, Event};
use super::script::{Script, Timed};
use super::{ClientOptions, REQUEST_TIMEOUT, producer};
use crate::history::{DelayReport, MessageId, Outcome, Report};

/// The topic.
pub const TOPIC: &str = "delayed";
const GROUP: &str = "delayers";
const QUEUES: i32 = 4;
/// Attempts for each message.
const ATTEMPTS_MAX: u32 = 40;
const SUSPEND: Duration = Duration::from_secs(15);

/// A message to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DelayedSend {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// Which message.
    pub message: u32,
    /// Its delay level.
    pub level: u8,
    /// Where to.
    pub queue: i32,
}

impl Timed for DelayedSend {
    fn at_ns(&self) -> u64 {
        self.at_ns
    }
}

/// Draws what is sent between two times.
pub fn draw(rng: &mut Rng, messages: u32, levels: u8, from: Duration, until: Duration) -> Vec<DelayedSend> {
    let span = (until - from).as_nanos() as u64;
    let mut at_ns = 0;
    let mut sends: Vec<DelayedSend> = (0..messages)
        .map(|message| {
            // Some come in bursts, which are due together.
            if message == 0 || rng.one_in(2) {
                at_ns = from.as_nanos() as u64 + rng.below(span);
            }
            let level = 1 + rng.below(u64::from(levels)) as u8;
            DelayedSend { at_ns, message, level, queue: rng.below(QUEUES as u64) as i32 }
        })
        .collect();
    sends.sort_by_key(|send| send.at_ns);
    sends
}

#[derive(Clone, Debug)]
struct Job {
    send: DelayedSend,
    attempt: u32,
    not_before: Instant,
}

#[derive(Debug)]
enum Tag {
    Send(Job),
    /// Of a queue, from the master that was there after so many moves.
    Pull(usize, u32),
}

struct Lane {
    next: i64,
    doing: Doing,
}

/// See the [module](self).
pub struct Delayer {
    desk: Desk<Tag>,
    script: Script<DelayedSend>,
    waiting: VecDeque<Job>,
    lanes: Vec<Lane>,
    /// Masters that were left.
    moves: u32,
}

impl Delayer {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(options: ClientOptions, plan: Rc<Vec<DelayedSend>>, at: Duration, now: Now) -> Delayer {
        let lane = |_| Lane { next: 0, doing: Doing::Nothing(now.mono) };
        Delayer {
            desk: Desk::new(options, None, now),
            script: Script::new(plan, at, now),
            waiting: VecDeque::new(),
            lanes: (0..QUEUES).map(lane).collect(),
            moves: 0,
        }
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::Send(job), command) => {
                let outcome = producer::read_outcome(&command, 1);
                self.on_sent(now, job, outcome, env);
            }
            Event::Lost(Tag::Send(job)) => self.on_sent(now, job, Outcome::Unknown, env),
            Event::NotSent(Tag::Send(job)) => {
                self.on_sent(now, job, Outcome::Refused { code: -1 }, env);
            }
            Event::Reply(Tag::Pull(lane, moves), command) if moves == self.desk.moves() => {
                self.on_pull(now, lane, &command, env);
            }
            Event::Reply(Tag::Pull(lane, _), _)
            | Event::Lost(Tag::Pull(lane, _))
            | Event::NotSent(Tag::Pull(lane, _)) => {
                // A broker that has lost its power, or another one that took its place, may have other messages at the offsets that were
                // read: who goes on there misses them. That goes for the lanes that ask nothing just now, too.
                self.lanes[lane] = Lane { next: 0, doing: Doing::Nothing(now.mono + RETRY_DELAY) };
                for idle in &mut self.lanes {
                    if idle.doing != Doing::Waiting {
                        idle.next = 0;
                    }
                }
            }
            Event::Request(_) => {}
        }
    }

    fn on_sent(&mut self, now: Now, job: Job, outcome: Outcome, env: &mut ClientEnv<'_>) {
        let id = MessageId { message: job.send.message, attempt: job.attempt };
        let stored = matches!(outcome, Outcome::Ok { .. });
        tell(env, DelayReport::Ended { id, stored });
        if !matches!(outcome, Outcome::Ok { .. } | Outcome::Weak { .. }) && job.attempt + 1 < ATTEMPTS_MAX {
            let not_before = now.mono + RETRY_DELAY;
            self.waiting.push_back(Job { attempt: job.attempt + 1, not_before, ..job });
        }
    }

    fn on_pull(&mut self, now: Now, lane: usize, command: &Command, env: &mut ClientEnv<'_>) {
        let queue = lane as i32;
        let lane = &mut self.lanes[lane];
        lane.doing = Doing::Nothing(now.mono);
        match read_pull(command) {
            Pulled::Messages { records, next } => {
                for record in records {
                    let (offset, id) = (record.queue_offset, record.message());
                    tell(env, DelayReport::Came { queue, offset, id });
                }
                lane.next = next;
            }
            Pulled::Nothing { next, wait } => {
                lane.next = next;
                if wait {
                    lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                }
            }
            // It may be a broker that has just begun.
            Pulled::Refused => *lane = Lane { next: 0, doing: Doing::Nothing(now.mono + RETRY_DELAY) },
        }
    }

    fn send(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        while let Some(send) = self.script.take(now) {
            let job = Job { send: send.clone(), attempt: 0, not_before: now.mono };
            self.waiting.push_back(job);
        }
        for _ in 0..self.waiting.len() {
            let Some(job) = self.waiting.pop_front() else { break };
            if job.not_before > now.mono {
                self.waiting.push_back(job);
                continue;
            }
            let id = MessageId { message: job.send.message, attempt: job.attempt };
            let level = job.send.level;
            tell(env, DelayReport::Begun { id, level });
            let properties = format!("{}DELAY\u{1}{level}\u{2}", id.properties());
            let outgoing = [Outgoing { body: id.body(40), properties }];
            let command = requests::send(GROUP, TOPIC, job.send.queue, now.wall.0, &outgoing);
            self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Send(job));
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
            let tag = Tag::Pull(index, self.moves);
            self.desk.call(now, env, requests::pull(&pull), SUSPEND + PULL_GRACE, tag);
        }
    }
}

fn tell(env: &mut ClientEnv<'_>, report: DelayReport) {
    env.out.push(Effect::Emit(Report::Delay(report)));
}

impl Machine<MemoryDisk> for Delayer {
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
        if self.moves != self.desk.moves() {
            self.moves = self.desk.moves();
            self.lanes.iter_mut().for_each(|lane| lane.next = 0);
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
