//! What a power loss may have taken of what the clients of a scenario were told: by times, where [`super::ledger`] knows the
//! places. What was acknowledged [`SYNCED_WITHIN`] before the master's power failed is on the medium, if its disk was not slow
//! and nothing stopped it in between.

use gantry_core::time::{Duration, Instant};

use super::{Cx, Flush};
use crate::world::Fact;

/// Log and files are synced every second, offsets every five (`flushConsumerOffsetInterval`); a sync takes up to a second.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(7);

/// When the master died or stood still.
#[derive(Debug, Default)]
pub struct Stops(Vec<Instant>);

impl Stops {
    /// Takes a fact.
    pub fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) {
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::Died(_) | Fact::Paused) {
            self.0.push(cx.at);
        }
    }

    /// Whether what was written at a time has been synced before the next power loss of the master.
    pub fn is_lasting(&self, cx: &Cx<'_>, at: Instant) -> bool {
        let master = cx.setup.cast.master;
        let mut losses =
            cx.ledger.power_losses().iter().filter(|(host, lost)| *host == master && *lost >= at);
        let Some((_, loss)) = losses.next() else { return true };
        let synced_by = at + SYNCED_WITHIN;
        let slow = cx.setup.is_disk_slow(master, at, *loss);
        !slow && synced_by < *loss && !self.0.iter().any(|stop| *stop >= at && *stop <= synced_by)
    }

    /// Whether a message acknowledged at a time must still be there.
    pub fn is_kept(&self, cx: &Cx<'_>, at: Instant) -> bool {
        cx.setup.flush == Flush::Sync || self.is_lasting(cx, at)
    }
}

/// Whether the master's power ever failed.
pub fn has_lost_power(cx: &Cx<'_>) -> bool {
    cx.ledger.power_losses().iter().any(|(host, _)| *host == cx.setup.cast.master)
}

/// Whether the master's power ever failed under asynchronous flush: places in its log, and queue offsets that clients hold, may
/// name other records since.
pub fn may_be_misplaced(cx: &Cx<'_>) -> bool {
    cx.setup.flush == Flush::Async && has_lost_power(cx)
}
