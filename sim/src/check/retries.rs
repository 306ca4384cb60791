//! Verifies: a message whose way back was acknowledged comes again, no sooner than the delay of that many tries, or is in the
//! dead-letter queue, which it enters after the greatest number of tries and not before; tries are counted one by one; every
//! message that was acknowledged ends consumed or dead.
//!
//! A power loss under asynchronous flush excuses this and no more: a copy that no completed sync covers is gone; a way back
//! that names the place of such a copy sends back whatever lies there now; and a consumer that has read such a copy passes over
//! what is put at its offset, up to where it had come. The last is judged by what lies on the master's disk in the end.
//!
//! Does not verify: what the consumer had not come to when the world ended; what a master that promises a slave's copy did not
//! write, where it has no slave in the end; how often one try is repeated: a way back that got no answer is tried again.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};

use super::loss::Stops;
use super::told::Told;
use super::{Checker, Cx, Replication, Verdict, secs, unsafe_because};
use crate::history::{MessageId, Report, RetryPlace, RetryReport};
use crate::workload::retrier::{DEAD_TOPIC, RETRY_TOPIC, TOPIC};
use crate::world::Fact;

const NAME: &str = "retries";
/// Stored times are whole milliseconds.
const EARLY_MAX: Duration = Duration::from_millis(2);
/// What is due so shortly before the end may be under way.
const END: Duration = Duration::from_secs(30);
/// An answer is under way for so long at most, however slow its link.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// The delay level of a first retry.
const FIRST_LEVEL: i32 = 3;

/// A message, and how often it had come back.
type Try = (MessageId, i32);

/// What the consumer has read at an offset.
#[derive(Debug)]
struct Read {
    physical: u64,
    at: Instant,
    /// A power loss may have taken it, and it was not read since.
    lost: bool,
    /// It was read again after such a loss.
    durable: bool,
}

/// Offsets of a queue that the consumer had read, and that were given out a second time.
#[derive(Debug)]
struct PassedOver {
    topic: &'static str,
    queue: i32,
    from: i64,
    to: i64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Retries {
    begun: BTreeMap<MessageId, Instant>,
    stored: BTreeMap<MessageId, Instant>,
    came: BTreeSet<Try>,
    dead: BTreeSet<Try>,
    consumed: BTreeSet<MessageId>,
    back_begun: BTreeMap<Try, Instant>,
    /// When the latest of these requests left; it was written after that, and before its answer came.
    back_latest: BTreeMap<Try, Instant>,
    back: BTreeMap<Try, Instant>,
    /// By topic, queue and offset.
    read: BTreeMap<(&'static str, i32, i64), Read>,
    /// Where each try was read last: an unanswered way back may be stored more than once.
    places: BTreeMap<Try, RetryPlace>,
    /// One past the highest offset read in each queue.
    read_to: BTreeMap<(&'static str, i32), i64>,
    passed_over: Vec<PassedOver>,
    /// When the consumer last had a message of each queue in hand.
    at_work: BTreeMap<(&'static str, i32), Instant>,
    /// When a slave last told the master how far it is.
    slave_heard: Option<Instant>,
    /// Ways back that may have sent back another record.
    misplaced: BTreeMap<Try, Instant>,
    stops: Stops,
    looked: u64,
}

impl Retries {
    /// When a message that was sent back is due again.
    fn due(cx: &Cx<'_>, times: i32, back: Instant) -> Instant {
        if times >= cx.setup.times_max { back } else { back + cx.setup.delay(FIRST_LEVEL + times) }
    }

    fn on_read(&mut self, cx: &Cx<'_>, it: Try, place: RetryPlace) {
        let key = (place.topic, place.queue, place.offset);
        let before = self.read.get(&key).filter(|read| read.physical == place.physical);
        let durable = before.is_some_and(|read| read.durable || read.lost);
        self.read.insert(key, Read { physical: place.physical, at: cx.at, lost: false, durable });
        self.places.insert(it, place);
        let read_to = self.read_to.entry((place.topic, place.queue)).or_default();
        *read_to = (*read_to).max(place.offset + 1);
        let to = *read_to;
        // What was under way when the power failed tells of what may be gone, and nobody tells the reader.
        let is_late = cx
            .ledger
            .power_losses()
            .iter()
            .any(|(host, at)| *host == cx.setup.cast.master && *at <= cx.at && cx.at < *at + UNDER_WAY);
        if is_late && !cx.ledger.has_survived(cx.setup, place.physical, cx.at) {
            let (topic, queue, from) = (place.topic, place.queue, place.offset);
            self.passed_over.push(PassedOver { topic, queue, from, to });
        }
        self.at_work.insert((place.topic, place.queue), cx.at);
    }

    fn on_power_lost(&mut self, cx: &Cx<'_>) {
        for read in self.read.values_mut().filter(|read| !read.durable) {
            read.lost |= !cx.ledger.has_survived(cx.setup, read.physical, read.at);
        }
        for (&(topic, queue), &to) in &self.read_to {
            let mut here = self.read.range((topic, queue, i64::MIN)..=(topic, queue, i64::MAX));
            if let Some((&(_, _, from), _)) = here.find(|(_, read)| read.lost) {
                self.passed_over.push(PassedOver { topic, queue, from, to });
            }
        }
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
        if times == 0 {
            return Ok(());
        }
        let is_due = |back: Instant| cx.at + EARLY_MAX >= Retries::due(cx, times - 1, back);
        // What was sent back in another's place.
        if self.misplaced.values().any(|back| is_due(*back)) {
            return Ok(());
        }
        let Some(back) = self.back_begun.get(&(id, times - 1)) else {
            let what = format!("{id:?} came back {times} times, and was sent back less often");
            return unsafe_because(NAME, what);
        };
        if !is_due(*back) {
            let what = format!(
                "{id:?} was sent back at {} and came for try {times} at {}",
                secs(*back),
                secs(cx.at)
            );
            return unsafe_because(NAME, what);
        }
        Ok(())
    }

    fn on_report(&mut self, cx: &Cx<'_>, report: RetryReport) -> Verdict {
        match report {
            RetryReport::Begun { id } => {
                self.begun.insert(id, cx.at);
            }
            RetryReport::Stored { id } => {
                self.stored.insert(id, cx.at);
            }
            RetryReport::Came { id, times, place } => {
                self.came.insert((id, times));
                self.on_read(cx, (id, times), place);
                return self.on_came(cx, id, times, false);
            }
            RetryReport::Dead { id, times, place } => {
                self.dead.insert((id, times));
                self.on_read(cx, (id, times), place);
                return self.on_came(cx, id, times, true);
            }
            RetryReport::Consumed { id } => {
                self.consumed.insert(id);
            }
            RetryReport::BackBegun { id, times, physical } => {
                self.back_begun.entry((id, times)).or_insert(cx.at);
                self.back_latest.insert((id, times), cx.at);
                if let Some(place) = self.places.get(&(id, times)).filter(|at| at.physical == physical) {
                    self.at_work.insert((place.topic, place.queue), cx.at);
                    if self.is_lost((id, times)) {
                        self.misplaced.entry((id, times)).or_insert(cx.at);
                    }
                }
            }
            RetryReport::Back { id, times } => {
                self.back.insert((id, times), cx.at);
            }
        }
        Ok(())
    }

    /// What was read where a try was read last.
    fn last_read(&self, it: Try) -> Option<&Read> {
        let place = self.places.get(&it)?;
        let read = self.read.get(&(place.topic, place.queue, place.offset))?;
        (read.physical == place.physical).then_some(read)
    }

    /// Whether a power loss may have taken the copy that was read last; another may lie there now.
    fn is_lost(&self, it: Try) -> bool {
        self.places.contains_key(&it) && self.last_read(it).is_none_or(|read| read.lost)
    }

    /// Whether the consumer was busy with a queue when the world ended, and had not come to an offset yet: one try of a message
    /// may be stored many times, and a master that promises a slave's copy refuses a way back as long as it has no slave.
    fn is_yet_to_come(&self, cx: &Cx<'_>, topic: &str, queue: i32, offset: i64) -> bool {
        let here = |(name, id): &(&str, i32)| *name == topic && *id == queue;
        let read_to = self.read_to.iter().find(|(key, _)| here(key)).map_or(0, |(_, to)| *to);
        offset >= read_to && self.is_busy(cx, topic, queue)
    }

    fn is_busy(&self, cx: &Cx<'_>, topic: &str, queue: i32) -> bool {
        let at = self.at_work.iter().find(|((name, id), _)| *name == topic && *id == queue);
        at.is_some_and(|(_, at)| *at + END > cx.setup.ends_at)
    }

    /// Whether the master promises a slave's copy and has no slave: what is not seen as safe is not delivered.
    fn is_alone(&self, cx: &Cx<'_>) -> bool {
        cx.setup.replication == Replication::Sync
            && self.slave_heard.is_none_or(|heard| heard + END < cx.setup.ends_at)
    }

    /// Whether the consumer has yet to come to a copy, or a power loss explains that it never came.
    fn is_excused(&self, cx: &Cx<'_>, it: Try, is_kept: bool) -> bool {
        let topics = [TOPIC, RETRY_TOPIC, DEAD_TOPIC];
        let mut copies = cx.ending.iter().flat_map(|ending| ending.copies(&topics, it.0, it.1)).peekable();
        if copies.peek().is_none() {
            return !is_kept || self.is_alone(cx) || self.is_lost(it);
        }
        copies.all(|copy| {
            self.passed_over.iter().any(|over| {
                let here = copy.topic == over.topic && copy.queue == over.queue;
                here && (over.from..over.to).contains(&copy.offset)
            }) || self.is_yet_to_come(cx, &copy.topic, copy.queue, copy.offset)
        })
    }

    /// The ways back that led nowhere, and may have.
    fn check_backs(&mut self, cx: &Cx<'_>) -> Result<BTreeSet<MessageId>, super::Violation> {
        let mut excused = BTreeSet::new();
        for (&(id, times), &back) in &self.back {
            let again = (id, times + 1);
            let due = Retries::due(cx, times, back);
            if self.came.contains(&again) || self.dead.contains(&again) {
                self.looked += 1;
                continue;
            }
            let begun = self.back_latest.get(&(id, times)).copied().unwrap_or(back);
            let copied = Retries::due(cx, times, begun);
            let kept = self.stops.is_kept(cx, begun) && self.stops.is_copy_kept(cx, copied);
            let late = due + END > cx.setup.ends_at;
            if late || self.misplaced.contains_key(&(id, times)) || self.is_excused(cx, again, kept) {
                excused.insert(id);
                continue;
            }
            let what = format!("{id:?} was sent back after {times} tries at {} and is gone", secs(back));
            unsafe_because(NAME, what)?;
        }
        Ok(excused)
    }
}

impl Checker for Retries {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        self.stops.on_fact(cx, fact);
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::PowerLost) {
            self.on_power_lost(cx);
        }
        let Fact::Report(Report::Retry(report)) = fact else { return Ok(()) };
        self.on_report(cx, *report)
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        if let Told::SlaveReported { .. } = told {
            self.slave_heard = Some(cx.at);
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        let excused = self.check_backs(cx)?;
        for (id, stored) in &self.stored {
            let late = *stored + END > cx.setup.ends_at;
            let tried = self.back_latest.range((*id, 0)..=(*id, i32::MAX)).map(|(_, begun)| *begun).max();
            let trying = tried.is_some_and(|begun| begun + END > cx.setup.ends_at);
            if late || trying || excused.contains(id) {
                continue;
            }
            self.looked += 1;
            let dead = self.dead.range((*id, 0)..=(*id, i32::MAX)).next().is_some();
            if dead || self.consumed.contains(id) {
                continue;
            }
            // The last that was seen of it: the copy that came and was not sent back, or none.
            let last = self.came.range((*id, 0)..=(*id, i32::MAX)).next_back().copied().unwrap_or((*id, 0));
            let begun = self.begun.get(id).copied().unwrap_or(*stored);
            let kept = last.1 > 0 || self.stops.is_kept(cx, begun);
            // It may stand behind another that does not get away.
            let waits = self.places.get(&last).is_some_and(|at| self.is_busy(cx, at.topic, at.queue));
            if !waits && !self.is_excused(cx, last, kept) {
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
