//! Verifies: a pull that is held is answered soon after a message that it waits for was acknowledged, unless its body is damaged, and
//! is never held longer than it asked for. Time counts while the broker runs.
//!
//! Does not verify: how soon while the broker's disk is slowed down by a fault.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

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
    /// Answered by then, for this reason.
    due: Instant,
    why: Why,
    /// Where the message lies that it waits for.
    message: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    HeldLongEnough,
    MessageThere,
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
            let due = held.due.max(running + WAKE_LIMIT);
            // What is damaged is passed over, and the pull waits for what comes behind it.
            let is_passed = held.message.is_some_and(|physical| cx.ledger.is_damaged(physical));
            if cx.at <= due
                || is_passed
                || cx.setup.is_disk_slow(cx.setup.cast.master, running.max(held.due), cx.at)
            {
                continue;
            }
            let why = match held.why {
                Why::HeldLongEnough => "it asked to be held no longer",
                Why::MessageThere => "a message that it waits for has been acknowledged",
            };
            let what = format!(
                "the pull {key:?} of {:?} from offset {} should have been answered by {}: {why}",
                held.queue,
                held.offset,
                secs(due)
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
                let due = cx.at + *suspend + HOLD_SLACK;
                let why = Why::HeldLongEnough;
                self.held.insert(*key, Held { queue: *queue, offset: *offset, due, why, message: None });
            }
            Told::PullAnswered { key, .. } => {
                if self.held.remove(key).is_some_and(|held| held.why == Why::MessageThere) {
                    self.looked += 1;
                }
            }
            Told::PullGone { key } => {
                self.held.remove(key);
            }
            Told::Forgotten => self.held.clear(),
            Told::Stored { queue, offset, physical, .. } => {
                let whole = |physical: &&u64| !cx.ledger.is_damaged(**physical);
                for held in self.held.values_mut() {
                    let before = usize::try_from(held.offset - offset).unwrap_or(0);
                    let message = physical.iter().skip(before).find(whole).copied();
                    if held.queue == *queue && message.is_some() && held.why == Why::HeldLongEnough {
                        held.why = Why::MessageThere;
                        held.message = message;
                        held.due = held.due.min(cx.at + WAKE_LIMIT);
                    }
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
