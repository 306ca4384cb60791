//! Verifies: once everything is mended it all works again. What is sent from a while after that on is acknowledged, nothing
//! is given up, the consumer group and the auditor reach the end of every queue.
//!
//! Does not verify: how long any of it takes beyond the world's end; the held pulls have a checker of their own.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

use super::{Checker, Cx, Replication, Verdict, secs, stuck_because};
use crate::history::{Queue, Reader, Report};
use crate::world::Fact;

const NAME: &str = "liveness";
/// From the last repair to the time when sends must succeed: brokers register again (30 s at the latest), clients ask for
/// routes again (30 s at the latest), connections that lost their other end are given up.
const RECOVERY: Duration = Duration::from_secs(75);
/// What was stored this long before the end has been read by then.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// Whether a master that waits for a slave may have none that follows it.
fn is_alone(cx: &Cx<'_>) -> bool {
    cx.ledger.betrayed().is_some() && cx.setup.replication == Replication::Sync
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Liveness {
    read_to: BTreeMap<(Reader, Queue), i64>,
    all_sent: Option<Instant>,
    gave_up: u64,
    looked: u64,
}

impl Checker for Liveness {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Report(report) = fact else { return Ok(()) };
        match report {
            Report::AllSent => self.all_sent = Some(cx.at),
            // Its slave may keep what it has lost, and follow it no more.
            Report::GaveUp { .. } if is_alone(cx) => {}
            Report::GaveUp { message } => {
                self.gave_up += 1;
                let begun = cx.ledger.attempt(*message).map_or(Instant::ZERO, |attempt| attempt.begun);
                if begun > cx.setup.healed_at + RECOVERY {
                    let what = format!(
                        "{message:?} was given up: it was sent at {}, all was mended by {}",
                        secs(begun),
                        secs(cx.setup.healed_at)
                    );
                    return stuck_because(NAME, what);
                }
            }
            Report::Pulled { reader, queue, next, .. } | Report::Moved { reader, queue, to: next, .. } => {
                self.read_to.insert((*reader, *queue), *next);
            }
            Report::ReadFrom { reader, queue, committed } => {
                self.read_to.insert((*reader, *queue), committed.unwrap_or(0));
            }
            Report::SendBegun { .. }
            | Report::SendEnded { .. }
            | Report::Delivered { .. }
            | Report::Began { .. }
            | Report::Route { .. }
            | Report::Broken { .. }
            | Report::Delay(_)
            | Report::Retry(_)
            | Report::SlaveServed
            | Report::Ordered(_)
            | Report::Ask(_)
            | Report::Admin(_)
            | Report::Client(_)
            | Report::Insist(_) => {}
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        if self.all_sent.is_none() && !is_alone(cx) {
            return stuck_because(NAME, "the producer is not done".to_owned());
        }
        let mut ends: BTreeMap<Queue, i64> = BTreeMap::new();
        for (queue, offset, promise) in cx.ledger.promises() {
            if promise.excused.is_none() && promise.at + READ_WITHIN < cx.setup.ends_at {
                ends.insert(queue, offset + 1);
            }
        }
        for (queue, end) in ends {
            for reader in [Reader::Group, Reader::Auditor] {
                self.looked += 1;
                let read = self.read_to.get(&(reader, queue)).copied();
                if read.is_none_or(|read| read < end) {
                    let what =
                        format!("{reader:?} has read {queue:?} up to {read:?}, which reaches to {end}");
                    return stuck_because(NAME, what);
                }
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
