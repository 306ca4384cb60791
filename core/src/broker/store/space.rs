//! The room on the disk: above a ratio, messages are refused while there is still room to serve, to spill and to recover.
//!
//! It is looked at every so often when a turn ends, and when the log has got a new segment: between two looks a burst could fill
//! what is left, and then nothing could be written that lets old segments go. A deadline belongs to it only while there is something to remove (see
//! [`super::retain`]): who is refused makes the turn that looks again.
//!
//! What a slave takes from its master is refused as well, by `ha::replica`: catching up may be the largest burst of all.
//!
//! On a disk that is full to the last byte nothing could be removed either, for the checkpoint has to move on first, and with it
//! queues, keys and tables have to be written. So a file keeps room for them ([`RESERVE_FILE`]): it is given up when one of them
//! finds no room, or when there is hardly any left for those that are written elsewhere, and made again when there is room. As long as
//! it is missing nothing is taken, so that what it gave is left to what it is for.
//!
//! Absent on purpose: refusing what a master takes home from its slaves, of which it may have promised every byte.

use core::time::Duration;

use super::StoreConfig;
use crate::io::{self, Disk, DiskError, FileKind, Now};
use crate::probe::Probe;
use crate::time::Instant;

/// Keeps room on the disk.
pub(super) const RESERVE_FILE: &str = "gantryReserve";
/// It is given up when less than this part of it is free beside it.
const RESERVE_PARTS: u64 = 16;
/// How long the room of a file takes to come back that is removed: a disk may do that in the background.
const COMES_BACK_AFTER: Duration = Duration::from_millis(100);

/// What is known of the file that keeps room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Reserve {
    #[default]
    Unknown,
    /// It is there and has so many bytes.
    Held(u64),
    /// It is not there, for want of room, and is to have so many bytes.
    Missing(u64),
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Space {
    due: Instant,
    seen: io::Space,
    reserve: Reserve,
    is_short: bool,
    /// Where the log's segments ended when it was last looked at.
    segments_end: u64,
}

impl Space {
    /// Whether the disk was filled above the warning ratio when it was last looked at, or no room is kept in reserve.
    pub(super) fn is_short(&self) -> bool {
        self.is_short || self.is_spent()
    }

    /// Whether the reserve was given up.
    fn is_spent(&self) -> bool {
        matches!(self.reserve, Reserve::Missing(_))
    }

    /// When there may be room for the reserve again.
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.is_spent().then_some((self.due, "room on the disk"))
    }

    /// Whether more than so many per cent were used. What is missing in reserve counts, or nothing might be removed to make room for it.
    pub(super) fn is_above(&self, percent: u64) -> bool {
        let missing = if let Reserve::Missing(bytes) = self.reserve { bytes } else { 0 };
        let used = u128::from(self.seen.total.saturating_sub(self.seen.free)) + u128::from(missing);
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
        self.look(disk);
        self.keep_reserve(now, config.reserve_bytes, config.disk_warning_percent, disk);
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

    fn look<D: Disk>(&mut self, disk: &mut D) {
        match disk.space() {
            Ok(space) => self.seen = space,
            Err(error) => tracing::warn!(%error, "the room on the disk is not known"),
        }
    }

    /// Makes the reserve when there is room, and gives it up when there is hardly any beside it.
    fn keep_reserve<D: Disk>(&mut self, now: Now, wanted: u64, warning_percent: u64, disk: &mut D) {
        if self.reserve == Reserve::Unknown {
            match disk.stat(RESERVE_FILE) {
                Ok(Some(entry)) => self.reserve = Reserve::Held(entry.len),
                Ok(None) => {}
                Err(error) => return tracing::warn!(%error, "{RESERVE_FILE}: not known"),
            }
        }
        match self.reserve {
            Reserve::Held(bytes) if bytes == wanted => {
                if self.seen.free < bytes / RESERVE_PARTS {
                    self.give_up_reserve(now, disk);
                }
                return;
            }
            Reserve::Held(_) => {
                // Another length was wanted when it was made, or a crash came between.
                if self.remove_reserve(disk).is_err() {
                    return;
                }
                self.look(disk);
            }
            Reserve::Missing(_) | Reserve::Unknown => {}
        }
        if wanted == 0 {
            self.reserve = Reserve::Unknown;
            return;
        }
        let was_missing = self.is_spent();
        self.reserve = Reserve::Missing(wanted);
        if self.seen.free < wanted || self.is_above(warning_percent) {
            if !was_missing {
                tracing::warn!(
                    wanted,
                    free = self.seen.free,
                    "{RESERVE_FILE}: there is no room to keep in reserve, and messages are refused until there is; on a small \
                     disk, set gantryReserveBytes lower"
                );
            }
            return;
        }
        match disk.create(RESERVE_FILE, wanted, FileKind::Log) {
            Ok(file) => {
                disk.close(file);
                self.reserve = Reserve::Held(wanted);
            }
            Err(error) => {
                tracing::warn!(%error, "{RESERVE_FILE}: no room is kept in reserve");
                if error != DiskError::Full {
                    self.reserve = Reserve::Unknown;
                }
            }
        }
        self.look(disk);
    }

    /// Gives up the reserve, if it is there, for what cannot wait; true when it was.
    pub(super) fn give_up_reserve<D: Disk>(&mut self, now: Now, disk: &mut D) -> bool {
        let Reserve::Held(bytes) = self.reserve else { return false };
        if self.remove_reserve(disk).is_err() {
            return false;
        }
        Probe::ReserveGivenUp.reached();
        tracing::warn!(
            "the disk is full: the room that was kept in reserve is used, and messages are refused"
        );
        self.reserve = Reserve::Missing(bytes);
        self.due = self.due.min(now.mono + COMES_BACK_AFTER);
        true
    }

    fn remove_reserve<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        self.reserve = Reserve::Unknown;
        disk.delete(RESERVE_FILE).inspect_err(|error| tracing::warn!(%error, "{RESERVE_FILE}: not removed"))
    }
}
