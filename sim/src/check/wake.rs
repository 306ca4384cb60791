//! Verifies: a pull that is held is answered soon after a message that it waits for was acknowledged, and is never held longer than it
//! asked for. A message whose body is damaged is passed over, and wakes nobody. Time counts while the broker runs.
//!
//! Does not verify: how soon while the broker's disk is slowed down by a fault.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

use super::ledger::Ledger;
use super::told::{RequestKey, Told};
use super::{Checker, Cx, Verdict, secs, stuck_because};
use crate::history::Queue;
use crate::world::Fact;

const NAME: &str = "held pulls";
/// From the acknowledgement of a message to the answer of a pull that waits for it: a few turns, and reads of cold pages.
const WAKE_LIMIT: Duration = Duration::from_secs(3);
/// Beyond the time that a pull may be held: RocketMQ looks every five seconds.
const HOLD_SLACK: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct Held {
    queue: Queue,
    offset: i64,
    /// Answered by then, whether a message came or not.
    longest: Instant,
    /// What was acknowledged since and is waited for: where it lies, and by when it has woken the pull.
    messages: Vec<(u64, Instant)>,
}

impl Held {
    /// By when it is answered, and why.
    fn due(&self, ledger: &Ledger) -> (Instant, &'static str) {
        // The first that is whole is the first that was acknowledged, so that it is due before the others.
        match self.messages.iter().find(|(physical, _)| !ledger.is_damaged(*physical)) {
            Some(&(_, due)) if due < self.longest => {
                (due, "a message that it waits for has been acknowledged")
            }
            _ => (self.longest, "it asked to be held no longer"),
        }
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Wake {
    held: BTreeMap<RequestKey, Held>,
    looked: u64,
}

impl Wake {
    fn check(&self, cx: &Cx<'_>) -> Verdict {
        let Some(running) = cx.ledger.running_since(cx.setup.cast.master) else { return Ok(()) };
        for (key, held) in &self.held {
            let (due, why) = held.due(cx.ledger);
            if cx.at <= due.max(running + WAKE_LIMIT)
                || cx.setup.is_disk_slow(cx.setup.cast.master, running.max(due), cx.at)
            {
                continue;
            }
            let what = format!(
                "the pull {key:?} of {:?} from offset {} should have been answered by {}: {why}",
                held.queue,
                held.offset,
                secs(due.max(running + WAKE_LIMIT))
            );
            return stuck_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Wake {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        match told {
            Told::PullTaken { key, queue, offset, suspend } => {
                let longest = cx.at + *suspend + HOLD_SLACK;
                self.held
                    .insert(*key, Held { queue: *queue, offset: *offset, longest, messages: Vec::new() });
            }
            Told::PullAnswered { key, .. } => {
                if self.held.remove(key).is_some_and(|held| !held.messages.is_empty()) {
                    self.looked += 1;
                }
            }
            Told::PullGone { key } => {
                self.held.remove(key);
            }
            Told::Forgotten => self.held.clear(),
            Told::Stored { queue, offset, physical, .. } => {
                let due = cx.at + WAKE_LIMIT;
                for held in self.held.values_mut().filter(|held| held.queue == *queue) {
                    let before = usize::try_from(held.offset - offset).unwrap_or(0);
                    held.messages.extend(physical.iter().skip(before).map(|physical| (*physical, due)));
                }
            }
            Told::NotStored { .. }
            | Told::OffsetTaken { .. }
            | Told::OffsetTold { .. }
            | Told::SlaveReported { .. }
            | Told::SlaveGone { .. } => {}
        }
        Ok(())
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::TurnEnded { .. }) {
            return self.check(cx);
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        self.check(cx)
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
