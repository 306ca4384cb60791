//! Looks for messages: sends some with keys, and asks the master for them again and again, by key, by unique key, by their place
//! in the log, and for offsets by time; in the end for all of them, one after another.

use std::collections::VecDeque;
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;

use super::delayer::DelayedSend;
use super::desk::{Desk, RETRY_DELAY};
use super::requests::{self, Outgoing, reply, reply_number};
use super::rpc::{ClientEnv, Event};
use super::script::Script;
use super::{ClientOptions, REQUEST_TIMEOUT, producer, record};
use crate::history::{AskReport, Found, MessageId, Outcome, Question, Report};

/// The topic.
pub const TOPIC: &str = "asked";
const GROUP: &str = "askers";
/// Attempts for each message.
const ATTEMPTS_MAX: u32 = 40;
/// Times that are remembered.
const TIMES_MAX: usize = 64;
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
struct Job {
    send: DelayedSend,
    attempt: u32,
    not_before: Instant,
}

#[derive(Debug)]
enum Tag {
    Send(Job),
    Ask { question: Question, asked: Instant },
    Search { queue: i32, at_ms: i64, asked: Instant },
}

/// What may be asked for.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: MessageId,
    physical: u64,
}

/// See the [module](self).
pub struct Asker {
    desk: Desk<Tag>,
    script: Script<DelayedSend>,
    waiting: VecDeque<Job>,
    known: Vec<Known>,
    /// A queue, and when a message was stored there.
    times: Vec<(i32, i64)>,
    /// Questions so far: which one is next follows.
    asked: usize,
    asking: bool,
    ask_at: Instant,
}

impl Asker {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(options: ClientOptions, plan: Rc<Vec<DelayedSend>>, at: Duration, now: Now) -> Asker {
        Asker {
            desk: Desk::new(options, None, now),
            script: Script::new(plan, at, now),
            waiting: VecDeque::new(),
            known: Vec::new(),
            times: Vec::new(),
            asked: 0,
            asking: false,
            ask_at: now.mono,
        }
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::Send(job), command) => {
                let outcome = producer::read_outcome(&command, 1);
                self.on_sent(now, job, &outcome, env);
            }
            Event::Lost(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Unknown, env),
            Event::NotSent(Tag::Send(job)) => self.on_sent(now, job, &Outcome::Refused { code: -1 }, env),
            Event::Reply(Tag::Ask { question, asked }, command) => {
                self.asking = false;
                self.on_answer(question, asked, &command, env);
            }
            Event::Reply(Tag::Search { queue, at_ms, asked }, command) => {
                self.asking = false;
                let offset = reply_number(&command, "offset");
                if let Some(offset) = offset.filter(|_| command.code == reply::SUCCESS) {
                    tell(env, AskReport::Searched { queue, at_ms, asked, offset });
                }
            }
            Event::Lost(Tag::Ask { .. } | Tag::Search { .. })
            | Event::NotSent(Tag::Ask { .. } | Tag::Search { .. }) => self.asking = false,
            Event::Request(_) => {}
        }
    }

    fn on_sent(&mut self, now: Now, job: Job, outcome: &Outcome, env: &mut ClientEnv<'_>) {
        let id = MessageId { message: job.send.message, attempt: job.attempt };
        match outcome {
            Outcome::Ok { offset, physical } => {
                let Some(&physical) = physical.first() else { return };
                let copy = Found { queue: job.send.queue, offset: *offset, physical, store_ms: 0 };
                tell(env, AskReport::Stored { id, copy });
                self.known.push(Known { id, physical });
            }
            Outcome::Weak { .. } => {}
            Outcome::Refused { .. } | Outcome::Unknown if job.attempt + 1 < ATTEMPTS_MAX => {
                let not_before = now.mono + RETRY_DELAY;
                self.waiting.push_back(Job { attempt: job.attempt + 1, not_before, ..job });
            }
            Outcome::Refused { .. } | Outcome::Unknown => {}
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
            tell(env, AskReport::Begun { id });
            let properties = format!("{}KEYS\u{1}all {}\u{2}", id.properties(), key(id.message));
            let outgoing = [Outgoing { body: id.body(40), properties }];
            let command = requests::send(GROUP, TOPIC, job.send.queue, now.wall.0, &outgoing);
            self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Send(job));
        }
    }

    fn ask(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.asking || self.ask_at > now.mono || self.known.is_empty() {
            return;
        }
        self.asking = true;
        self.ask_at = now.mono + PAUSE;
        // The newest one every other time, and all of them in turn between.
        let turn = self.asked / 4;
        let at = if turn.is_multiple_of(2) { self.known.len() - 1 } else { (turn / 2) % self.known.len() };
        let known = self.known[at];
        let asked = Instant::from_nanos((now.mono - self.script.origin()).as_nanos() as u64);
        let (command, question) = match self.asked % 4 {
            0 => {
                let question = Question::Key { message: known.id.message };
                (requests::query_key(TOPIC, &key(known.id.message), false), question)
            }
            1 => {
                (requests::query_key(TOPIC, &known.id.unique_key(), true), Question::Unique { id: known.id })
            }
            2 => (requests::view(known.physical), Question::Place { physical: known.physical }),
            _ => {
                let (queue, at_ms) = self.times.get(at % self.times.len().max(1)).copied().unwrap_or((0, 0));
                // Just then, or just after.
                let at_ms = at_ms + i64::from(turn.is_multiple_of(3));
                let command = requests::search_offset(TOPIC, queue, at_ms);
                let tag = Tag::Search { queue, at_ms, asked };
                self.asked += 1;
                return self.desk.call(now, env, command, REQUEST_TIMEOUT, tag);
            }
        };
        self.asked += 1;
        self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Ask { question, asked });
    }

    fn on_answer(&mut self, question: Question, asked: Instant, command: &Command, env: &mut ClientEnv<'_>) {
        let is_none = match question {
            Question::Key { .. } | Question::Unique { .. } => command.code == reply::QUERY_NOT_FOUND,
            Question::Place { .. } => command.code == reply::SYSTEM_ERROR,
        };
        if is_none {
            return tell(env, AskReport::Answered { question, asked, found: Vec::new() });
        }
        if command.code != reply::SUCCESS {
            return;
        }
        let Some(records) = record::split(&command.body) else {
            let what = format!("the answer to {question:?} holds no records");
            return env.out.push(Effect::Emit(Report::Broken { what }));
        };
        let mut found = Vec::new();
        for record in records {
            let Some(id) = record.message().filter(|_| record.topic == TOPIC.as_bytes()) else {
                // Another client's may lie where one of ours lay before a power loss.
                if !matches!(question, Question::Place { .. }) {
                    let what = format!("{question:?} found a strange message");
                    env.out.push(Effect::Emit(Report::Broken { what }));
                }
                continue;
            };
            let place = Found {
                queue: record.queue_id,
                offset: record.queue_offset,
                physical: record.physical_offset,
                store_ms: record.store_ms,
            };
            found.push((id, place));
            if self.times.len() < TIMES_MAX {
                self.times.push((place.queue, place.store_ms));
            }
        }
        tell(env, AskReport::Answered { question, asked, found });
    }
}

/// The key that all attempts of a message share.
fn key(message: u32) -> String {
    format!("key-{message}")
}

fn tell(env: &mut ClientEnv<'_>, report: AskReport) {
    env.out.push(Effect::Emit(Report::Ask(report)));
}

impl Machine<MemoryDisk> for Asker {
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
            self.ask(now, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let ask = (!self.asking && !self.known.is_empty()).then_some(self.ask_at);
        let jobs = self.waiting.iter().map(|job| job.not_before);
        self.desk.work_deadline(jobs.chain(ask).chain(self.script.due()))
    }
}
