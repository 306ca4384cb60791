//! Verifies: the committed offset that the master tells is the one that it last took. The death of a process takes none back;
//! a power loss takes back at most what was committed in the last [`LOSS_MAX`]; and what lies beyond the end of a queue that a
//! power loss made shorter is brought back to that end.
//!
//! Does not verify: commits that got no answer (they may or may not count), where a reset without one has put a group, how much a power loss takes while the master's disk
//! is slow, nor what becomes of commits just before a death while the disk refuses to write.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Packet;

use super::told::Told;
use super::{Checker, Cx, Flush, Verdict, secs, unsafe_because};
use crate::history::{Queue, Reader};
use crate::process::Seen;
use crate::workload::requests::code;
use crate::world::{Fact, HostId};

const NAME: &str = "offsets";
/// Offsets are synced every five seconds (`flushConsumerOffsetInterval`); a sync takes up to a second.
const LOSS_MAX: Duration = Duration::from_secs(7);

#[derive(Clone, Copy, Debug)]
struct Commit {
    at: Instant,
    value: i64,
    certain: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Offsets {
    /// In the order taken.
    commits: BTreeMap<(Reader, Queue), Vec<Commit>>,
    /// When the master died or stood still: no sync of what came just before.
    stops: Vec<Instant>,
    /// Resets under way, and when one's connection closed, or the master died, before its answer: it is carried out, and nobody has heard to where.
    resets: BTreeSet<(ConnId, i32)>,
    unheard: Vec<Instant>,
    looked: u64,
}

impl Offsets {
    fn on_taken(&mut self, at: Instant, key: (Reader, Queue), value: i64, certain: bool) {
        let commits = self.commits.entry(key).or_default();
        // A request and its answer are two reports of one commit.
        if certain && let Some(same) = commits.iter_mut().rev().find(|commit| commit.value == value) {
            same.certain = true;
            return;
        }
        commits.push(Commit { at, value, certain });
    }

    /// What the master may tell now, and whether it may also know nothing.
    fn allowed(&self, cx: &Cx<'_>, key: (Reader, Queue)) -> (Vec<i64>, bool) {
        let commits = self.commits.get(&key).map_or(&[][..], Vec::as_slice);
        let mut allowed = Vec::new();
        let mut nothing = true;
        for commit in commits {
            // What was surely taken replaces all before it, unless a power loss could take it back.
            if commit.certain && self.is_lasting(cx, commit.at) {
                allowed.clear();
                nothing = false;
            }
            allowed.push(commit.value);
        }
        (allowed, nothing)
    }

    /// Whether a reset that nobody heard of may have put the group anywhere since its last commit that counts.
    fn may_be_anywhere(&self, key: (Reader, Queue)) -> bool {
        let commits = self.commits.get(&key).map_or(&[][..], Vec::as_slice);
        let last =
            commits.iter().rev().find(|commit| commit.certain).map_or(Instant::ZERO, |commit| commit.at);
        key.0 == Reader::Group && self.unheard.iter().any(|at| *at >= last)
    }

    fn on_seen(&mut self, at: Instant, seen: &Seen) {
        if let Seen::Received { conn, packet: Packet::Command(command) } = seen
            && command.code == code::INVOKE_BROKER_TO_RESET_OFFSET
            && !command.is_response()
        {
            self.resets.insert((*conn, command.opaque));
        }
        if let Seen::Send { conn, packet: Packet::Command(command) } = seen {
            self.resets.remove(&(*conn, command.opaque));
        }
        if let Seen::Closed { conn, .. } = seen {
            let before = self.resets.len();
            self.resets.retain(|(of, _)| of != conn);
            self.unheard.extend((self.resets.len() < before).then_some(at));
        }
    }

    /// Whether what was committed at a time has been synced before the next power loss.
    fn is_lasting(&self, cx: &Cx<'_>, at: Instant) -> bool {
        let master = cx.setup.cast.master;
        let mut losses =
            cx.ledger.power_losses().iter().filter(|(host, lost)| *host == master && *lost >= at);
        let synced_by = at + LOSS_MAX;
        let Some((_, loss)) = losses.next() else {
            // A disk that refuses to take the journal leaves the file that is written every five seconds.
            let stopped = self.stops.iter().any(|stop| *stop >= at && *stop <= synced_by);
            return !(stopped && cx.setup.is_disk_broken(master, at));
        };
        let slow = cx.setup.is_disk_slow(master, at, *loss);
        !slow && synced_by < *loss && !self.stops.iter().any(|stop| *stop >= at && *stop <= synced_by)
    }
}

fn has_lost_power(cx: &Cx<'_>, host: HostId) -> bool {
    cx.ledger.power_losses().iter().any(|(lost, _)| *lost == host)
}

impl Checker for Offsets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        match told {
            Told::OffsetTaken { reader, queue, value, certain } => {
                self.on_taken(cx.at, (*reader, *queue), *value, *certain);
            }
            Told::OffsetTold { reader, queue, value } => {
                self.looked += 1;
                let (allowed, nothing) = self.allowed(cx, (*reader, *queue));
                // Under asynchronous flush, and after syncs that were none, a power loss may have left a queue that ends below the
                // offset; so may a start that found a damaged message.
                let is_async = cx.setup.flush == Flush::Async || cx.ledger.betrayed().is_some();
                let has_lost = is_async && has_lost_power(cx, cx.setup.cast.master);
                let shorter = has_lost || cx.ledger.may_be_cut();
                let clamped = |value: i64| shorter && allowed.iter().any(|other| *other > value);
                let right = match value {
                    None => nothing,
                    // A young group is sent to the beginning of a queue that still has it.
                    Some(0) => nothing || allowed.contains(&0) || clamped(0),
                    Some(value) => allowed.contains(value) || clamped(*value),
                };
                if !right && !self.may_be_anywhere((*reader, *queue)) {
                    let what = format!(
                        "{reader:?} of {queue:?} was told the offset {value:?}; committed were {:?}",
                        self.commits.get(&(*reader, *queue)).map(|commits| describe(commits))
                    );
                    return unsafe_because(NAME, what);
                }
            }
            Told::Stored { .. }
            | Told::NotStored { .. }
            | Told::PullTaken { .. }
            | Told::PullAnswered { .. }
            | Told::PullGone { .. }
            | Told::SlaveReported { .. }
            | Told::SlaveGone { .. }
            | Told::Forgotten => {}
        }
        Ok(())
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::Died(_) | Fact::Paused) {
            self.stops.push(cx.at);
        }
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::Died(_)) {
            // Its connections close with it, and what a reset wrote may be there.
            self.unheard.extend((!self.resets.is_empty()).then_some(cx.at));
            self.resets.clear();
        }
        if cx.host == cx.setup.cast.master
            && let Fact::Seen(seen) = fact
        {
            self.on_seen(cx.at, seen);
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

fn describe(commits: &[Commit]) -> Vec<String> {
    let last = commits.iter().rev().take(5).rev();
    last.map(|commit| {
        format!(
            "{} at {}{}",
            commit.value,
            secs(commit.at),
            if commit.certain { "" } else { " (unanswered)" }
        )
    })
    .collect()
}
