//! A janitor: an administrator who now and then wants old messages and queue files gone, or a group put elsewhere.

use std::rc::Rc;

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::desk::{Desk, RETRY_DELAY};
use super::requests::{self, code, reply};
use super::rpc::{ClientEnv, Event};
use super::{ClientOptions, REQUEST_TIMEOUT};
use crate::clock::WALL_AT_START_MS;
use crate::history::{Reader, Report, topic_name};
use crate::retention::Wish;

/// Resets in a world, at most.
const RESETS_MAX: u64 = 10;

/// A group is put where it was at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reset {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// In which topic.
    pub topic: u8,
    /// To what was stored from then on, in ms from the beginning of the world; to the end when negative.
    pub to_ms: i64,
}

/// Draws resets between two times, in so many topics.
pub fn draw_resets(rng: &mut Rng, topics: u8, from: Duration, until: Duration) -> Vec<Reset> {
    let (from, until) = (from.as_nanos() as u64, until.as_nanos() as u64);
    let mut resets: Vec<Reset> = (0..1 + rng.below(RESETS_MAX))
        .map(|_| {
            let at_ns = from + rng.below(until - from);
            // To the end, to the beginning, or a while back.
            let to_ms = match rng.below(4) {
                0 => -1,
                1 => 0,
                _ => rng.below(at_ns) as i64 / 1_000_000,
            };
            Reset { at_ns, topic: rng.below(topics.into()) as u8, to_ms }
        })
        .collect();
    resets.sort_by_key(|reset| reset.at_ns);
    resets
}

/// Something to be asked of the master.
#[derive(Clone, Debug)]
pub struct Errand {
    at_ns: u64,
    command: Command,
}

impl Errand {
    /// When, in ns from the beginning of the world.
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }
}

impl From<&Wish> for Errand {
    fn from(wish: &Wish) -> Errand {
        Errand { at_ns: wish.at_ns, command: requests::plain(wish.code, &[]) }
    }
}

impl From<&Reset> for Errand {
    fn from(reset: &Reset) -> Errand {
        let topic = topic_name(reset.topic);
        let at = if reset.to_ms < 0 { reset.to_ms } else { WALL_AT_START_MS + reset.to_ms };
        let at = at.to_string();
        let fields = [
            ("topic", topic.as_str()),
            ("group", Reader::Group.group()),
            ("timestamp", at.as_str()),
            ("isForce", "true"),
        ];
        let command = requests::plain(code::INVOKE_BROKER_TO_RESET_OFFSET, &fields);
        Errand { at_ns: reset.at_ns, command }
    }
}

/// See the [module](self).
pub struct Janitor {
    desk: Desk<()>,
    errands: Rc<Vec<Errand>>,
    origin: Instant,
    next: usize,
    busy: bool,
    not_before: Instant,
}

impl Janitor {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(options: ClientOptions, errands: Rc<Vec<Errand>>, at: Duration, now: Now) -> Janitor {
        let at_ns = at.as_nanos() as u64;
        Janitor {
            desk: Desk::new(options, None, now),
            next: errands.partition_point(|errand| errand.at_ns < at_ns),
            errands,
            origin: Instant::from_nanos(now.mono.as_nanos() - at_ns),
            busy: false,
            not_before: now.mono,
        }
    }

    fn due(&self) -> Option<Instant> {
        let errand = self.errands.get(self.next).filter(|_| !self.busy && self.desk.is_ready())?;
        Some((self.origin + Duration::from_nanos(errand.at_ns)).max(self.not_before))
    }

    fn take(&mut self, now: Now, events: Vec<Event<()>>) {
        for event in events {
            match event {
                Event::Reply((), command) => {
                    self.busy = false;
                    if command.code == reply::SUCCESS {
                        self.next += 1;
                    } else {
                        self.not_before = now.mono + RETRY_DELAY;
                    }
                }
                // It may have been heard; it is said again.
                Event::Lost(()) | Event::NotSent(()) => {
                    self.busy = false;
                    self.not_before = now.mono + RETRY_DELAY;
                }
                Event::Request(_) => {}
            }
        }
    }

    fn work(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.due().is_some_and(|due| due <= now.mono) {
            self.busy = true;
            let command = self.errands[self.next].command.clone();
            self.desk.call(now, env, command, REQUEST_TIMEOUT, ());
        }
    }
}

impl Machine<MemoryDisk> for Janitor {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        let events = self.desk.step(now, input, env);
        self.take(now, events);
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        let events = self.desk.settle(now, env);
        self.take(now, events);
        self.work(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        [self.due(), self.desk.deadline()].into_iter().flatten().min().map(|at| (at, "work"))
    }
}
