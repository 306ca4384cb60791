//! Verifies: a delayed message comes no sooner than its level says; soon after that while nothing goes wrong, and in the end in
//! any case; none that was acknowledged is forgotten; and, where a message is safe as soon as it is written, it comes once,
//! whatever processes die afterwards.
//!
//! That somebody had the copy before the power took it is no delivery: whoever reads later would never have the message, which itself
//! is on the medium. So each that was kept comes again after the master's last power loss: its reader begins anew then.
//!
//! In worlds in which a slave takes the master's place only that none comes early and that none is forgotten: nothing that was
//! acknowledged is lost there, and a copy that the old master alone delivered comes once more (#7923: an acting master sends its
//! timers to the dead one).
//!
//! Does not verify: that it comes once when the master lost power, or died between writing the delivered copy and knowing it
//! safe (in the turn of the delivery; until the sync or the slave's report where those are asked for): the copy is there after the
//! restart, and the level's offset is before it.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

use super::loss::{Stops, last_power_loss};
use super::{Checker, Cx, Flush, Replication, Verdict, secs, stuck_because, unsafe_because};
use crate::history::{DelayReport, MessageId, Report};
use crate::world::Fact;

const NAME: &str = "delays";
/// Stored times are whole milliseconds.
const EARLY_MAX: Duration = Duration::from_millis(2);
/// Two brokers' wall clocks differ by so much at most.
const SKEW_MAX: Duration = Duration::from_secs(4);
/// From the time when it is due to the time when its reader has it: cold reads, and a sync or two.
const LATE_MAX: Duration = Duration::from_secs(6);
/// Before that nothing has gone wrong for so long: routes, sessions and stores are back.
const CALM: Duration = Duration::from_secs(120);
/// What is due so shortly before the end may be under way.
const END: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Sent {
    begun: Instant,
    level: u8,
    stored: Option<Instant>,
    /// First, and last.
    came: Option<(Instant, Instant)>,
    place: Option<(i32, i64)>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Delays {
    sent: BTreeMap<MessageId, Sent>,
    places: BTreeMap<(i32, i64), MessageId>,
    stops: Stops,
    deaths: Vec<Instant>,
    looked: u64,
}

impl Delays {
    fn on_came(&mut self, cx: &Cx<'_>, place: (i32, i64), id: Option<MessageId>) -> Verdict {
        let Some((id, sent)) = id.and_then(|id| Some((id, self.sent.get_mut(&id)?))) else {
            return unsafe_because(NAME, format!("{id:?} at {place:?} was never sent"));
        };
        self.looked += 1;
        let due = sent.begun + cx.setup.delay(sent.level.into());
        let early = if cx.setup.takeover { EARLY_MAX + SKEW_MAX } else { EARLY_MAX };
        if cx.at + early < due {
            let what = format!(
                "{id:?} of level {} was sent at {}, and came at {}",
                sent.level,
                secs(sent.begun),
                secs(cx.at)
            );
            return unsafe_because(NAME, what);
        }
        let (other, before) = (self.places.insert(place, id), sent.place.replace(place));
        let first = sent.came.map_or(cx.at, |(first, _)| first);
        sent.came = Some((first, cx.at));
        if last_power_loss(cx).is_some() || cx.setup.takeover {
            return Ok(());
        }
        let safe_when_written = cx.setup.flush == Flush::Async && cx.setup.replication == Replication::Async;
        if let Some(other) = other.filter(|other| *other != id) {
            return unsafe_because(NAME, format!("{other:?} was at {place:?}, where {id:?} is now"));
        }
        // A death inside the turn of the delivery leaves the copy and not the level's offset; nobody saw the copy before.
        let died_delivering = self.deaths.iter().any(|death| *death >= due && *death <= first);
        let is_once = safe_when_written && !died_delivering;
        if let Some(before) = before.filter(|before| *before != place && is_once) {
            let what = format!("{id:?} was delivered twice: at {before:?} and at {place:?}");
            return unsafe_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Delays {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        self.stops.on_fact(cx, fact);
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::Died(_)) {
            self.deaths.push(cx.at);
        }
        let Fact::Report(Report::Delay(report)) = fact else { return Ok(()) };
        match *report {
            DelayReport::Begun { id, level } => {
                let sent = Sent { begun: cx.at, level, stored: None, came: None, place: None };
                self.sent.insert(id, sent);
            }
            DelayReport::Ended { id, stored } => {
                if let Some(sent) = self.sent.get_mut(&id).filter(|_| stored) {
                    sent.stored = Some(cx.at);
                }
            }
            DelayReport::Came { queue, offset, id } => return self.on_came(cx, (queue, offset), id),
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        let lost = last_power_loss(cx).filter(|_| !cx.setup.takeover);
        for (id, sent) in &self.sent {
            let Some(stored) = sent.stored else { continue };
            let due = stored + cx.setup.delay(sent.level.into());
            // The message is on the medium: it was written before its answer came. A copy that the power took is delivered again.
            let kept = self.stops.is_kept(cx, sent.begun);
            if !(kept || cx.setup.takeover) || due + END > cx.setup.ends_at {
                continue;
            }
            self.looked += 1;
            let Some((came, again)) = sent.came else {
                let what = format!(
                    "{id:?} of level {} was acknowledged at {} and never came",
                    sent.level,
                    secs(stored)
                );
                return unsafe_because(NAME, what);
            };
            if let Some(lost) = lost.filter(|lost| again < *lost) {
                let what = format!(
                    "{id:?} of level {} was acknowledged at {} and came at {}, and not again since the power failed at {}",
                    sent.level,
                    secs(stored),
                    secs(came),
                    secs(lost)
                );
                return unsafe_because(NAME, what);
            }
            let calm_from = Instant::from_nanos(due.as_nanos().saturating_sub(CALM.as_nanos() as u64));
            let calm = !cx.setup.takeover && cx.setup.is_calm(calm_from, due + LATE_MAX);
            if calm && came > due + LATE_MAX {
                let what = format!("{id:?} was due at {} and came at {}", secs(due), secs(came));
                return stuck_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
