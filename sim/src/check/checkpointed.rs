//! Verifies, on the disks in the end, when all has long been healed: each broker's checkpoint covers what its queues held a minute before,
//! so that a recovery has at most that to read, and old messages can go.
//!
//! Does not verify: that what the checkpoint covers is there; the auditor reads it.

use gantry_core::broker::Broker;
use gantry_core::time::{Duration, Instant};
use gantry_disk::MemoryDisk;

use super::stuck_because;
use crate::plan::Plan;
use crate::world::{HostId, Violation};

const NAME: &str = "checkpointed";
/// A checkpoint is made every ten seconds, and takes as long as its slowest sync.
const WITHIN: Duration = Duration::from_secs(60);
/// From the end of the last fault until everything is as if there had been none.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// When to look at what is to be covered; `None` in a world that is too short for it.
pub fn looks_at(plan: &Plan) -> Option<Instant> {
    let at = Instant::from_nanos(plan.ends_at.as_nanos().saturating_sub(WITHIN.as_nanos() as u64));
    (plan.healed_at + SETTLED_AFTER <= at).then_some(at)
}

/// Up to where a broker's checkpoint is to come.
pub fn owed(host: HostId, broker: &Broker) -> Option<(HostId, u64)> {
    let store = broker.store();
    (broker.is_ready() && !store.is_short_of_room()).then(|| (host, store.dispatched()))
}

/// How many bytes it covers.
///
/// # Errors
/// It is not there yet.
pub fn compare((host, owed): (HostId, u64), disk: &MemoryDisk) -> Result<u64, Violation> {
    let bytes = disk.peek_range("checkpoint", 40, 8);
    let covered =
        bytes.as_deref().and_then(|bytes| bytes.first_chunk()).map_or(0, |at| u64::from_be_bytes(*at));
    if covered < owed {
        let what = format!(
            "host {} has a checkpoint at {covered}; a minute ago its queues had everything up to {owed}",
            host.0
        );
        stuck_because(NAME, what)?;
    }
    Ok(covered)
}
