//! A steward: makes topics at the brokers of a fleet and gives them more queues as time goes by.
//!
//! It works down a list for each broker, in order, and tries each entry until the broker has confirmed it. A request that was held up
//! by a cut cable may arrive long after a later one and shrink a topic: so it says again from time to time what it has said last.
//! No fault happens to it, because a second life would begin with the smallest numbers again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::requests::{self, reply};
use super::rpc::{Event, Rpc};
use super::{REQUEST_TIMEOUT, client::topic_of};
use crate::history::Report;

/// Between two times that what was said is said again.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// Before another try.
const AGAIN: Duration = Duration::from_secs(1);

/// A topic gets so many queues on a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Growth {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// On which broker, by its place in the plan.
    pub broker: usize,
    /// Which topic, by its number.
    pub topic: u8,
    /// How many then.
    pub queues: i32,
}

#[derive(Debug, Default)]
struct Todo {
    next: usize,
    /// What is asked is in the list; else it was confirmed before.
    is_new: bool,
    /// Entries that were said again.
    repeated: usize,
    is_asking: bool,
    not_before: Option<Instant>,
}

/// See the [module](self).
pub struct Steward {
    /// The brokers' addresses.
    brokers: Vec<Arc<str>>,
    plan: Rc<Vec<Growth>>,
    origin: Instant,
    todo: BTreeMap<usize, Todo>,
    rpc: Rpc<usize>,
}

impl Steward {
    /// A life that begins `at` after the world did.
    pub fn new(brokers: Vec<Arc<str>>, plan: Rc<Vec<Growth>>, at: Duration, now: Now) -> Steward {
        let origin = Instant::from_nanos(now.mono.as_nanos() - at.as_nanos() as u64);
        let todo = (0..brokers.len()).map(|broker| (broker, Todo::default())).collect();
        Steward { brokers, plan, origin, todo, rpc: Rpc::default() }
    }

    fn list(&self, broker: usize) -> impl Iterator<Item = Growth> {
        self.plan.iter().filter(move |growth| growth.broker == broker).copied()
    }

    /// What a broker is to be told next, when, and whether that is new.
    fn next(&self, broker: usize) -> Option<(Instant, Growth, bool)> {
        let todo = self.todo.get(&broker).filter(|todo| !todo.is_asking)?;
        let not_before = todo.not_before.unwrap_or(self.origin);
        let new = self.list(broker).nth(todo.next);
        let new_at = new.map(|growth| self.origin + Duration::from_nanos(growth.at_ns));
        // The last word on each topic.
        let mut said: BTreeMap<u8, Growth> = BTreeMap::new();
        said.extend(self.list(broker).take(todo.next).map(|growth| (growth.topic, growth)));
        let again = said.values().nth(todo.repeated.checked_rem(said.len()).unwrap_or(0)).copied();
        let again_at = not_before + SAID_AGAIN;
        match (new, new_at, again) {
            (Some(new), Some(at), again) if again.is_none() || at <= again_at => {
                Some((at.max(not_before), new, true))
            }
            (_, _, Some(again)) => Some((again_at, again, false)),
            (_, _, None) => None,
        }
    }

    fn take_events(&mut self, now: Now) {
        for event in self.rpc.take_events() {
            let (broker, done) = match event {
                Event::Reply(broker, command) => (broker, command.code == reply::SUCCESS),
                Event::Lost(broker) | Event::NotSent(broker) => (broker, false),
                Event::Request(_) => continue,
            };
            let Some(todo) = self.todo.get_mut(&broker) else { continue };
            todo.is_asking = false;
            todo.not_before = Some(if done { now.mono } else { now.mono + AGAIN });
            match todo.is_new {
                true => todo.next += usize::from(done),
                false => todo.repeated += 1,
            }
        }
    }
}

impl Machine<MemoryDisk> for Steward {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        self.take_events(now);
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        self.take_events(now);
        for broker in 0..self.brokers.len() {
            if let Some((at, growth, is_new)) = self.next(broker)
                && at <= now.mono
            {
                let command = requests::make_topic(&topic_of(growth.topic), growth.queues);
                self.rpc.call(now, env, &self.brokers[broker], command, REQUEST_TIMEOUT, broker);
                if let Some(todo) = self.todo.get_mut(&broker) {
                    todo.is_asking = true;
                    todo.is_new = is_new;
                }
            }
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let due = (0..self.brokers.len()).filter_map(|broker| Some(self.next(broker)?.0));
        self.rpc.deadline().into_iter().chain(due).min().map(|at| (at, "make topics"))
    }
}
