//! The room on the disk: above a ratio, messages are refused while there is still room to serve, to spill and to recover.
//!
//! It is looked at every so often when a turn ends, and when the log has got a new segment: between two looks a burst could fill
//! what is left, and then nothing could be written that lets old segments go. A deadline belongs to it only while there is something to remove (see
//! [`super::retain`]): who is refused makes the turn that looks again.
//!
//! What a slave takes from its master is refused as well, by `ha::replica`: catching up may be the largest burst of all.
//!
//! Absent on purpose: refusing what a master takes home from its slaves, of which it may have promised every byte.

use super::StoreConfig;
use crate::io::{self, Disk, Now};
use crate::time::Instant;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Space {
    due: Instant,
    seen: io::Space,
    is_short: bool,
    /// Where the log's segments ended when it was last looked at.
    segments_end: u64,
}

impl Space {
    /// Whether the disk was filled above the warning ratio when it was last looked at.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether more than so many per cent were used.
    pub(super) fn is_above(&self, percent: u64) -> bool {
        let used = u128::from(self.seen.total.saturating_sub(self.seen.free));
        used * 100 > u128::from(self.seen.total) * u128::from(percent)
    }

    /// When it is to be looked at again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Has the next turn look.
    pub(super) fn look_again(&mut self) {
        self.due = Instant::ZERO;
    }

    /// Has this turn look if the log has got a new segment.
    pub(super) fn note_segments(&mut self, end: u64) {
        if core::mem::replace(&mut self.segments_end, end) < end {
            self.look_again();
        }
    }

    /// Looks at the disk if it is time to; true when it was.
    pub(super) fn watch<D: Disk>(&mut self, now: Now, config: &StoreConfig, disk: &mut D) -> bool {
        if now.mono < self.due {
            return false;
        }
        self.due = now.mono + config.clean_interval;
        match disk.space() {
            Ok(space) => self.seen = space,
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                return true;
            }
        }
        let is_short = self.is_above(config.disk_warning_percent);
        if is_short != self.is_short {
            let (total, free) = (self.seen.total, self.seen.free);
            if is_short {
                tracing::warn!(total, free, "the disk is nearly full: messages are refused");
            } else {
                tracing::info!(total, free, "the disk has room again: messages are taken");
            }
        }
        self.is_short = is_short;
        true
    }
}
