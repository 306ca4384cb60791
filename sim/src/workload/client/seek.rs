//! An application that goes back in one of its queues, to read again what it had: to the beginning, or to an offset before it,
//! where a broker says that this lies outside of the queue.

use std::collections::{BTreeMap, VecDeque};

use gantry_core::io::Now;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{AppEnv, AppPlan, ClientReport, FleetSeek, tell};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Seeks {
    origin: Instant,
    todo: VecDeque<FleetSeek>,
    assigned: BTreeMap<String, Vec<MessageQueue>>,
}

impl Seeks {
    /// Of a life that begins `at` after the world did, which began at `origin`.
    pub(super) fn new(plan: &AppPlan, at: Duration, origin: Instant) -> Seeks {
        let is_to_come = |seek: &&FleetSeek| u128::from(seek.at_ns) >= at.as_nanos();
        let todo = plan.seeks.iter().filter(is_to_come).copied().collect();
        Seeks { origin, todo, assigned: BTreeMap::new() }
    }

    /// Nobody goes back in what the group has given back: each copy would be given back once more.
    pub(super) fn on_assigned(&mut self, topic: &str, queues: &[MessageQueue]) {
        if !topic.starts_with("%RETRY%") {
            self.assigned.insert(topic.to_owned(), queues.to_vec());
        }
    }

    /// Where the application wants to go on by now.
    pub(super) fn due(&mut self, now: Now, env: &mut AppEnv<'_>) -> Option<(MessageQueue, i64)> {
        while self.deadline().is_some_and(|at| at <= now.mono) {
            let seek = self.todo.pop_front()?;
            let queues: Vec<&MessageQueue> = self.assigned.values().flatten().collect();
            if queues.is_empty() {
                continue;
            }
            let queue = queues[(seek.choice % queues.len() as u64) as usize].clone();
            tell(env, ClientReport::Sought { queue: queue.clone(), offset: seek.offset });
            return Some((queue, seek.offset));
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.todo.front().map(|seek| self.origin + Duration::from_nanos(seek.at_ns))
    }
}
