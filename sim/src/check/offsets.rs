//! Verifies: the committed offset that the master tells is the one that it last took. The death of a process takes none back;
//! a power loss takes back at most what was committed in the last [`LOSS_MAX`]; and what lies beyond the end of a queue that a
//! power loss made shorter is brought back to that end.
//!
//! Does not verify: commits that got no answer (they may or may not count), nor the age of what a power loss leaves while the
//! master's disk is slow.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

use super::told::Told;
use super::{Checker, Cx, Verdict, secs, unsafe_because};
use crate::history::{Queue, Reader};
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
        let loss = last_loss(cx, cx.setup.cast.master);
        for commit in commits {
            // What was surely taken replaces all before it, unless a power loss could take it back.
            let lasting = match loss {
                Some(loss) => commit.at > loss || commit.at + LOSS_MAX < loss,
                None => true,
            };
            if commit.certain && lasting {
                allowed.clear();
                nothing = false;
            }
            allowed.push(commit.value);
        }
        (allowed, nothing)
    }
}

/// The last power loss, or the first of several that came so close to each other that no sync need lie between them.
fn last_loss(cx: &Cx<'_>, host: HostId) -> Option<Instant> {
    let losses = cx.ledger.power_losses().iter().filter(|(lost, _)| *lost == host).map(|(_, at)| *at);
    losses.reduce(|earlier, later| if later - earlier < LOSS_MAX { earlier } else { later })
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
                let shorter = !cx.ledger.power_losses().is_empty();
                let right = match value {
                    // A young group is sent to the beginning of a queue that still has it.
                    None | Some(0) => nothing || allowed.contains(&0),
                    Some(value) => {
                        allowed.contains(value) || (shorter && allowed.iter().any(|other| other > value))
                    }
                };
                let slow = cx.setup.is_disk_slow(cx.setup.cast.master, Instant::ZERO, cx.at) && shorter;
                if !right && !slow {
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

    fn on_fact(&mut self, _cx: &Cx<'_>, _fact: &Fact<'_>) -> Verdict {
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
