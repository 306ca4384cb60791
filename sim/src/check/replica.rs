//! Verifies, on the disks in the end: the logs of master and follower are the same bytes as far as both reach, and the
//! follower has everything that the master has.
//!
//! Under asynchronous flush and synchronous replication a power loss may take from the master what was acknowledged for the
//! follower's sake: beyond the first such place a follower that had more may keep it and refuse to go on; but it never continues another history with the master's.
//!
//! Does not verify: that a follower which parted comes together with its master again.

use gantry_disk::MemoryDisk;

use super::ledger::Ledger;
use super::{Flush, Replication, Setup, Verdict, stuck_because, unsafe_because};

const NAME: &str = "replica";
const BLANK_MAGIC: u32 = 0xCBD4_3194;
const BLANK_BYTES: usize = 8;
/// Longest record that is looked at.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// A commit log as it lies on a disk.
struct Log<'a> {
    disk: &'a MemoryDisk,
    segment_bytes: u64,
}

impl Log<'_> {
    /// The record at a place: its bytes, and where the next one begins.
    fn record(&self, at: u64) -> Option<(Vec<u8>, u64)> {
        let segment = at - at % self.segment_bytes;
        let path = format!("commitlog/{segment:020}");
        let head = self.disk.peek_range(&path, at % self.segment_bytes, 8)?;
        let size = u32::from_be_bytes(*head.first_chunk::<4>()?) as usize;
        let magic = u32::from_be_bytes(*head.get(4..)?.first_chunk::<4>()?);
        if magic == BLANK_MAGIC {
            return Some((head, segment + self.segment_bytes));
        }
        if size == 0 || size > RECORD_BYTES_MAX {
            return None;
        }
        let bytes = self.disk.peek_range(&path, at % self.segment_bytes, size)?;
        Some((bytes, at + size as u64))
    }
}

/// How many records both have.
pub fn compare(
    setup: &Setup,
    ledger: &Ledger,
    master: &MemoryDisk,
    follower: &MemoryDisk,
) -> Result<u64, crate::world::Violation> {
    let master = Log { disk: master, segment_bytes: setup.segment_bytes };
    let follower = Log { disk: follower, segment_bytes: setup.segment_bytes };
    let same_up_to = common_prefix(setup, ledger);
    let mut at = 0;
    let mut same = 0;
    while let Some((bytes, next)) = master.record(at) {
        match follower.record(at) {
            Some((copy, _)) if copy == bytes => same += 1,
            Some(_) | None if at >= same_up_to => return not_spliced(&master, &follower, at).map(|()| same),
            Some(_) => differ(at)?,
            None => behind(at)?,
        }
        at = next;
    }
    Ok(same)
}

/// Behind the place where the histories part, nothing of the master's may follow in the slave's.
fn not_spliced(master: &Log<'_>, follower: &Log<'_>, parted: u64) -> Verdict {
    let mut at = parted;
    while let Some((bytes, next)) = follower.record(at) {
        if at > parted
            && bytes.len() > BLANK_BYTES
            && master.record(at).is_some_and(|(same, _)| same == bytes)
        {
            let what =
                format!("the histories part at {parted}; at {at} the follower goes on with the master's");
            return unsafe_because(NAME, what);
        }
        at = next;
    }
    Ok(())
}

/// Up to where both must be the same: everything, unless a power loss may have taken from the master what the follower
/// has. What the master vouched for before the first one and still has was not taken, nor anything before it.
fn common_prefix(setup: &Setup, ledger: &Ledger) -> u64 {
    let mut losses = ledger.power_losses().iter().filter(|(host, _)| *host == setup.cast.master);
    let Some((_, first)) = losses.next().filter(|_| may_refuse(setup)) else { return u64::MAX };
    let kept = ledger.promises().filter(|(_, _, promise)| promise.excused.is_none() && promise.at < *first);
    kept.map(|(_, _, promise)| promise.physical).max().unwrap_or(0)
}

/// Whether a follower may hold the only copy of what was acknowledged.
fn may_refuse(setup: &Setup) -> bool {
    setup.flush == Flush::Async && setup.replication == Replication::Sync
}

fn differ(at: u64) -> Verdict {
    unsafe_because(NAME, format!("the logs of master and follower differ at {at}"))
}

fn behind(at: u64) -> Verdict {
    stuck_because(NAME, format!("the follower's log ends at {at}, the master's goes on"))
}
