//! The room on the disk: above a ratio, messages are refused while there is still room to serve, to spill and to recover.
//!
//! It is looked at every so often when a turn ends, so no deadline belongs to it: who is refused makes the turn that looks again.
//!
//! Absent on purpose: making room, and refusing what a replica takes from its master, which RocketMQ takes as well.

use super::StoreConfig;
use crate::io::{Disk, Now};
use crate::time::Instant;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Space {
    due: Instant,
    is_short: bool,
}

impl Space {
    /// Whether the disk was filled above the warning ratio when it was last looked at.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Looks at the disk if it is time to.
    pub(super) fn watch<D: Disk>(&mut self, now: Now, config: &StoreConfig, disk: &mut D) {
        if now.mono < self.due {
            return;
        }
        self.due = now.mono + config.clean_interval;
        let space = match disk.space() {
            Ok(space) => space,
            Err(error) => return tracing::warn!(%error, "the room on the disk is not known"),
        };
        let used = u128::from(space.total.saturating_sub(space.free));
        let is_short = used * 100 > u128::from(space.total) * u128::from(config.disk_warning_percent);
        if is_short != self.is_short {
            let (total, free) = (space.total, space.free);
            if is_short {
                tracing::warn!(total, free, "the disk is nearly full: messages are refused");
            } else {
                tracing::info!(total, free, "the disk has room again: messages are taken");
            }
        }
        self.is_short = is_short;
    }
}
