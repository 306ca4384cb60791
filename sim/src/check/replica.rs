//! Verifies, on the disks in the end: the logs of master and follower are the same bytes as far as both reach, and the
//! follower has everything that the master has. Whatever was lost in between, they have come together again.
//!
//! Does not verify: which of two histories was right (durability does).

use gantry_disk::MemoryDisk;

use super::{Setup, Verdict, stuck_because, unsafe_because};

const NAME: &str = "replica";
const BLANK_MAGIC: u32 = 0xCBD4_3194;
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
    master: &MemoryDisk,
    follower: &MemoryDisk,
) -> Result<u64, crate::world::Violation> {
    let master = Log { disk: master, segment_bytes: setup.segment_bytes };
    let follower = Log { disk: follower, segment_bytes: setup.segment_bytes };
    let mut at = 0;
    let mut same = 0;
    while let Some((bytes, next)) = master.record(at) {
        match follower.record(at) {
            Some((copy, _)) if copy == bytes => same += 1,
            Some(_) => differ(at)?,
            None => behind(at)?,
        }
        at = next;
    }
    Ok(same)
}

fn differ(at: u64) -> Verdict {
    unsafe_because(NAME, format!("the logs of master and follower differ at {at}"))
}

fn behind(at: u64) -> Verdict {
    stuck_because(NAME, format!("the follower's log ends at {at}, the master's goes on"))
}
