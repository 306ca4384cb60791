//! An administrator: makes, changes and deletes topics at the master, and deletes some at the name server alone.
//!
//! Nothing is tried again: what counts in the end is that the name server has what the master has, whatever that is.

use std::rc::Rc;
use std::sync::Arc;

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::rpc::{ClientEnv, Rpc};
use super::script::{Script, Timed};
use super::{ClientOptions, REQUEST_TIMEOUT, requests};
use crate::history::Report;

/// What is done to a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// It is made, or gets so many queues.
    Put(i32),
    /// It is deleted at the master.
    Delete,
    /// It is deleted at the name server, whatever the master has.
    DeleteThere,
}

/// One act.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicEdit {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// Which topic.
    pub topic: u32,
    /// What.
    pub edit: Edit,
}

impl Timed for TopicEdit {
    fn at_ns(&self) -> u64 {
        self.at_ns
    }
}

/// Draws what is done between two times, to so many topics.
pub fn draw(rng: &mut Rng, edits: u32, topics: u32, from: Duration, until: Duration) -> Vec<TopicEdit> {
    let span = (until - from).as_nanos() as u64;
    let mut at_ns = 0;
    let mut drawn: Vec<TopicEdit> = (0..edits)
        .map(|n| {
            // Some come in bursts: while one is told, others are made.
            if n == 0 || rng.one_in(3) {
                at_ns = from.as_nanos() as u64 + rng.below(span);
            }
            let edit = match rng.below(10) {
                0..=5 => Edit::Put(1 + rng.below(8) as i32),
                6..=8 => Edit::Delete,
                _ => Edit::DeleteThere,
            };
            TopicEdit { at_ns, topic: rng.below(u64::from(topics)) as u32, edit }
        })
        .collect();
    drawn.sort_by_key(|edit| edit.at_ns);
    drawn
}

/// See the [module](self).
pub struct Administrator {
    options: ClientOptions,
    master: Arc<str>,
    script: Script<TopicEdit>,
    rpc: Rpc<()>,
}

impl Administrator {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(
        options: ClientOptions,
        master: Arc<str>,
        plan: Rc<Vec<TopicEdit>>,
        at: Duration,
        now: Now,
    ) -> Administrator {
        Administrator { options, master, script: Script::new(plan, at, now), rpc: Rpc::default() }
    }

    fn perform(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        while let Some(TopicEdit { topic, edit, .. }) = self.script.take(now) {
            let topic = format!("edited-{topic}");
            let (address, command) = match edit {
                Edit::Put(queues) => (&self.master, requests::make_topic(&topic, *queues)),
                Edit::Delete => (&self.master, requests::delete_topic(&topic)),
                Edit::DeleteThere => (self.options.names.asked(), requests::delete_topic_there(&topic)),
            };
            self.rpc.call(now, env, address, command, REQUEST_TIMEOUT, ());
        }
    }
}

impl Machine<MemoryDisk> for Administrator {
    type Command = ();
    type Event = Report;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        self.rpc.take_events();
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        self.rpc.take_events();
        self.perform(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let at = self.rpc.deadline().into_iter().chain(self.script.due()).min();
        at.map(|at| (at, "administrate"))
    }
}
