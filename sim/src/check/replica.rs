//! Verifies, on the disks in the end: the logs of master and follower are the same bytes as far as both reach, and the
//! follower has everything that the master had [`BEHIND_MAX`] before, from where both begin. Whatever was lost in between, they have come together again.
//!
//! Does not verify: which of two histories was right (durability does).

use gantry_core::time::Duration;
use gantry_disk::MemoryDisk;

use super::ending::Log;
use super::{Setup, Verdict, stuck_because, unsafe_because};

const NAME: &str = "replica";
/// What the master wrote within this may still be on its way: a sync takes a second, and a frame now and then a fifth of one.
pub const BEHIND_MAX: Duration = Duration::from_secs(5);

/// How many records both have; the master's log reached to `owed` when the follower had time to copy it.
pub fn compare(
    setup: &Setup,
    master: &MemoryDisk,
    follower: &MemoryDisk,
    owed: u64,
) -> Result<u64, crate::world::Violation> {
    let master = Log { disk: master, segment_bytes: setup.segment_bytes };
    let follower = Log { disk: follower, segment_bytes: setup.segment_bytes };
    let (begins, begins_there) = (master.start(), follower.start());
    if setup.retention.is_some() && follower.end() <= begins {
        // The master has removed what this one had not copied yet: whether it was to blame is judged by [`super::removal`]. Where both
        // meet, it had but the head of the filler before.
        return Ok(0);
    }
    let mut at = begins.max(begins_there);
    let mut same = 0;
    while let Some((bytes, next)) = master.record(at) {
        match follower.record(at) {
            Some((copy, _)) if copy == bytes => same += 1,
            // The old master had removed all that it shared with the one that took its place. It keeps its log and follows nobody.
            Some(_) if setup.retention.is_some() && setup.takeover && at == begins_there => return Ok(0),
            Some(_) => differ(at)?,
            None if at < owed => behind(at)?,
            None => break,
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
