//! Verifies, on the disks in the end: the logs of master and follower are the same bytes as far as both reach, and the
//! follower has everything that the master had [`BEHIND_MAX`] before, from where both begin. Whatever was lost in between, they have come together again.
//!
//! A master that has lost what its disk had said was synced, under synchronous flush, is followed no more by a slave that has more; one whose bodies were damaged
//! gives its slave what they are now. Then: the logs are the
//! same up to the last message that the master must have kept, and the slave has all that it had acknowledged to its master.
//!
//! Does not verify: which of two histories was right (durability does).

use std::collections::BTreeMap;

use gantry_core::time::Duration;
use gantry_disk::MemoryDisk;

use super::{Setup, Verdict, stuck_because, unsafe_because};
use crate::commit_log::Log;
use crate::history::MessageId;
use crate::workload::record;

const NAME: &str = "replica";
/// What the master wrote within this may still be on its way: a sync takes a second, and a frame now and then a fifth of one.
pub const BEHIND_MAX: Duration = Duration::from_secs(5);

/// The same where the master has kept everything only below `kept`, and `entrusted` is what its slave must have.
pub fn compare_betrayed(
    setup: &Setup,
    master: &MemoryDisk,
    follower: &MemoryDisk,
    (kept, entrusted): (u64, &BTreeMap<u64, MessageId>),
) -> Result<u64, crate::world::Violation> {
    let master = Log { disk: master, segment_bytes: setup.segment_bytes };
    let follower = Log { disk: follower, segment_bytes: setup.segment_bytes };
    let (mut at, mut same) = (master.start().max(follower.start()), 0);
    while at < kept
        && let Some((bytes, next)) = master.record(at)
        && let Some(copy) = copy_of(&follower, at, (&bytes, next))
    {
        if copy != bytes {
            differ(at)?;
        }
        (at, same) = (next, same + 1);
    }
    for (at, message) in entrusted {
        let found = follower.record(*at).and_then(|(bytes, _)| record::split(&bytes)?.first()?.message());
        if found != Some(*message) {
            let what = format!(
                "{message:?} was at {at} of a slave's log when the master lost it; found there is {found:?}"
            );
            unsafe_because(NAME, what)?;
        }
    }
    Ok(same)
}

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
        match copy_of(&follower, at, (&bytes, next)) {
            Some(copy) if copy == bytes => same += 1,
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

/// What a follower has of a record of its master, and nothing while it has but the head of it: a block ends where it ends.
fn copy_of(follower: &Log<'_>, at: u64, (whole, next): (&[u8], u64)) -> Option<Vec<u8>> {
    let (copy, _) = follower.record(at)?;
    let same = copy.iter().zip(whole).take_while(|(ours, theirs)| ours == theirs).count();
    let is_head = copy[same..].iter().all(|byte| *byte == 0) && follower.record(next).is_none();
    (copy == whole || !is_head).then_some(copy)
}

fn differ(at: u64) -> Verdict {
    unsafe_because(NAME, format!("the logs of master and follower differ at {at}"))
}

fn behind(at: u64) -> Verdict {
    stuck_because(NAME, format!("the follower's log ends at {at}, the master's goes on"))
}
