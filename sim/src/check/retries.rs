//! Verifies: a message whose way back was acknowledged comes again, no sooner than the delay of that many tries, or is in the
//! dead-letter queue, which it enters after the greatest number of tries and not before; tries are counted one by one; every
//! message that was acknowledged ends consumed or dead.
//!
//! Does not verify: how often one try is repeated: a way back that got no answer is tried again; nor, once the master's power
//! failed under asynchronous flush, what becomes of ways back: they name a place that may hold another record, and their
//! consumer an offset that may be another message's.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};

use super::loss::{Stops, may_be_misplaced};
use super::{Checker, Cx, Verdict, secs, unsafe_because};
use crate::history::{MessageId, Report, RetryReport};
use crate::world::Fact;

const NAME: &str = "retries";
/// Stored times are whole milliseconds.
const EARLY_MAX: Duration = Duration::from_millis(2);
/// What is due so shortly before the end may be under way.
const END: Duration = Duration::from_secs(30);
/// The delay level of a first retry.
const FIRST_LEVEL: i32 = 3;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Retries {
    begun: BTreeMap<MessageId, Instant>,
    stored: BTreeMap<MessageId, Instant>,
    came: BTreeSet<(MessageId, i32)>,
    dead: BTreeSet<(MessageId, i32)>,
    consumed: BTreeSet<MessageId>,
    back_begun: BTreeMap<(MessageId, i32), Instant>,
    /// When the latest of these requests left; it was written after that, and before its answer came.
    back_latest: BTreeMap<(MessageId, i32), Instant>,
    back: BTreeMap<(MessageId, i32), Instant>,
    stops: Stops,
    looked: u64,
}

impl Retries {
    /// When a message that was sent back is due again.
    fn due(cx: &Cx<'_>, times: i32, back: Instant) -> Instant {
        if times >= cx.setup.times_max { back } else { back + cx.setup.delay(FIRST_LEVEL + times) }
    }

    fn is_kept(&self, cx: &Cx<'_>, id: MessageId, stored: Instant) -> bool {
        self.stops.is_kept(cx, self.begun.get(&id).copied().unwrap_or(stored))
    }

    fn on_came(&mut self, cx: &Cx<'_>, id: MessageId, times: i32, dead: bool) -> Verdict {
        self.looked += 1;
        if !self.begun.contains_key(&id) {
            return unsafe_because(NAME, format!("{id:?} was never sent"));
        }
        if dead != (times > cx.setup.times_max) {
            let place = if dead { "dead" } else { "not dead" };
            return unsafe_because(NAME, format!("{id:?} is {place} after {times} tries"));
        }
        // A way back names a place in the log; after a loss that place may hold another record, whose tries are other ones.
        if times == 0 || may_be_misplaced(cx) {
            return Ok(());
        }
        let Some(back) = self.back_begun.get(&(id, times - 1)) else {
            let what = format!("{id:?} came back {times} times, and was sent back less often");
            return unsafe_because(NAME, what);
        };
        if cx.at + EARLY_MAX < Retries::due(cx, times - 1, *back) {
            let what = format!(
                "{id:?} was sent back at {} and came for try {times} at {}",
                secs(*back),
                secs(cx.at)
            );
            return unsafe_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Retries {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        self.stops.on_fact(cx, fact);
        let Fact::Report(Report::Retry(report)) = fact else { return Ok(()) };
        match *report {
            RetryReport::Begun { id } => {
                self.begun.insert(id, cx.at);
            }
            RetryReport::Stored { id } => {
                self.stored.insert(id, cx.at);
            }
            RetryReport::Came { id, times } => {
                self.came.insert((id, times));
                return self.on_came(cx, id, times, false);
            }
            RetryReport::Dead { id, times } => {
                self.dead.insert((id, times));
                return self.on_came(cx, id, times, true);
            }
            RetryReport::Consumed { id } => {
                self.consumed.insert(id);
            }
            RetryReport::BackBegun { id, times } => {
                self.back_begun.entry((id, times)).or_insert(cx.at);
                self.back_latest.insert((id, times), cx.at);
            }
            RetryReport::Back { id, times } => {
                self.back.insert((id, times), cx.at);
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        if may_be_misplaced(cx) {
            return Ok(());
        }
        let mut under_way = BTreeSet::new();
        for (&(id, times), &back) in &self.back {
            let due = Retries::due(cx, times, back);
            let begun = self.back_latest.get(&(id, times)).copied().unwrap_or(back);
            let copied = Retries::due(cx, times, begun);
            let kept = self.stops.is_kept(cx, begun) && self.stops.is_kept(cx, copied);
            if due + END > cx.setup.ends_at || !kept {
                under_way.insert(id);
                continue;
            }
            self.looked += 1;
            let again = (id, times + 1);
            if !self.came.contains(&again) && !self.dead.contains(&again) {
                let what = format!("{id:?} was sent back after {times} tries at {} and is gone", secs(back));
                return unsafe_because(NAME, what);
            }
        }
        for (id, stored) in &self.stored {
            let late = *stored + END > cx.setup.ends_at;
            let tried = self.back_begun.range((*id, 0)..=(*id, i32::MAX)).next_back();
            let trying = tried.is_some_and(|(_, begun)| *begun + END > cx.setup.ends_at);
            if late || trying || under_way.contains(id) || !self.is_kept(cx, *id, *stored) {
                continue;
            }
            self.looked += 1;
            let dead = self.dead.range((*id, 0)..=(*id, i32::MAX)).next().is_some();
            if !dead && !self.consumed.contains(id) {
                let what =
                    format!("{id:?}, acknowledged at {}, was neither consumed nor is it dead", secs(*stored));
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
