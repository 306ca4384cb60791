//! Verifies, at the moment an acknowledgement leaves the master: under synchronous flush, a sync of the message's
//! commit-log segment that was asked for after the request was taken has completed; under synchronous replication, a slave
//! has reported that its log reaches past the message. And, under synchronous flush, the same sync for what is handed out.
//!
//! Does not verify: that the sync really covered the message (durability does, by power losses), nor that what is handed
//! out under synchronous replication has been replicated: a slave that no longer counts does not hold it back.

use super::told::Told;
use super::{Checker, Cx, Flush, Replication, Verdict, secs, unsafe_because};

const NAME: &str = "acknowledge";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Acknowledge {
    /// The farthest that a slave has got in this life of the master. It need not be connected any more: it has the bytes.
    reported: u64,
    looked: u64,
}

impl Checker for Acknowledge {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        match told {
            Told::SlaveReported { offset, .. } => self.reported = self.reported.max(*offset),
            // A new life may begin with a shorter log, whose places are given out again.
            Told::Forgotten => self.reported = 0,
            Told::Stored { queue, offset, physical, taken_at, .. } => {
                for place in physical {
                    self.looked += 1;
                    if cx.setup.flush == Flush::Sync && !cx.ledger.is_synced(cx.setup, *place, *taken_at) {
                        let what = format!(
                            "{queue:?} offset {offset} at log {place} was acknowledged before any sync asked for since {}",
                            secs(*taken_at)
                        );
                        return unsafe_because(NAME, what);
                    }
                    if cx.setup.replication == Replication::Sync && self.reported <= *place {
                        let what = format!(
                            "{queue:?} offset {offset} at log {place} was acknowledged before any slave got past {}",
                            self.reported
                        );
                        return unsafe_because(NAME, what);
                    }
                }
            }
            Told::PullAnswered { queue, messages, .. } => {
                for handed in messages {
                    self.looked += 1;
                    // It was written after its producer began to send it.
                    let attempt = handed.message.and_then(|message| cx.ledger.attempt(message));
                    let Some(begun) = attempt.map(|attempt| attempt.begun) else { continue };
                    if cx.setup.flush == Flush::Sync && !cx.ledger.is_synced(cx.setup, handed.physical, begun)
                    {
                        let what = format!(
                            "{queue:?} offset {} at log {} was handed out before any sync since it was sent at {}",
                            handed.offset,
                            handed.physical,
                            secs(begun)
                        );
                        return unsafe_because(NAME, what);
                    }
                }
            }
            Told::NotStored { .. }
            | Told::PullTaken { .. }
            | Told::PullGone { .. }
            | Told::OffsetTaken { .. }
            | Told::OffsetTold { .. }
            | Told::SlaveGone { .. } => {}
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
