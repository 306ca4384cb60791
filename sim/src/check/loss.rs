//! What a power loss may have taken of what the clients of a scenario were told: by times, where [`super::ledger`] knows the
//! places. What was acknowledged [`SYNCED_WITHIN`] before the master's power failed is on the medium, if its disk was not slow
//! and nothing stopped it in between.

use gantry_core::time::{Duration, Instant};

use super::{Cx, Flush};
use crate::world::{Fact, HostId};

/// Log and files are synced every second, offsets every five (`flushConsumerOffsetInterval`); a sync takes up to a second.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(7);
/// What is due is written within this while the master runs: cold reads, and others that are due with it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);

/// When the master ran.
#[derive(Debug, Default)]
pub struct Stops {
    /// From the start of a life or the end of a pause, to its death or the next pause.
    stretches: Vec<(Instant, Option<Instant>)>,
}

impl Stops {
    /// Takes a fact.
    pub fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) {
        if cx.host != cx.setup.cast.master {
            return;
        }
        match fact {
            Fact::Started { .. } | Fact::Resumed => self.stretches.push((cx.at, None)),
            Fact::Died(_) | Fact::Paused => {
                if let Some((_, end @ None)) = self.stretches.last_mut() {
                    *end = Some(cx.at);
                }
            }
            Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::Seen(_)
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Log(_) => {}
        }
    }

    /// By when the master has run for so long without a stop or a slow disk, from a time on.
    fn has_run(&self, cx: &Cx<'_>, at: Instant, span: Duration) -> Option<Instant> {
        for (from, until) in &self.stretches {
            let mut from = at.max(*from);
            while let Some(again) = cx.setup.disk_slow_until(cx.setup.cast.master, from, from + span) {
                from = again;
            }
            if until.is_none_or(|until| from + span < until) {
                return Some(from + span);
            }
        }
        None
    }

    /// Whether what was written at a time, or as soon after as the master could, has been synced before the next power loss.
    fn is_lasting(&self, cx: &Cx<'_>, at: Instant, span: Duration) -> bool {
        let master = cx.setup.cast.master;
        let mut losses =
            cx.ledger.power_losses().iter().filter(|(host, lost)| *host == master && *lost >= at);
        let Some((_, loss)) = losses.next() else { return true };
        self.has_run(cx, at, span).is_some_and(|synced| synced < *loss)
    }

    /// Whether a message acknowledged at a time must still be there.
    pub fn is_kept(&self, cx: &Cx<'_>, at: Instant) -> bool {
        cx.setup.flush == Flush::Sync || self.is_lasting(cx, at, SYNCED_WITHIN)
    }

    /// Whether a message that the master itself was to write from a time on must still be there.
    pub fn is_copy_kept(&self, cx: &Cx<'_>, due: Instant) -> bool {
        cx.setup.flush == Flush::Sync || self.is_lasting(cx, due, DELIVERED_WITHIN + SYNCED_WITHIN)
    }
}

/// When the master's power failed last, if it ever did.
pub fn last_power_loss(cx: &Cx<'_>) -> Option<Instant> {
    let of_master = |(host, at): &(HostId, Instant)| (*host == cx.setup.cast.master).then_some(*at);
    cx.ledger.power_losses().iter().rev().find_map(of_master)
}
