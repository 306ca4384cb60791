//! Which life of which master wrote which part of a log (RocketMQ's `EpochEntry`, `EpochEntryCache`).

use alloc::string::String;
use alloc::vec::Vec;

use super::bodies;

bodies! {
    /// One epoch.
    #[derive(Copy, Eq)]
    EpochEntry {
        end_offset: u64,
        /// A 32-bit number in RocketMQ.
        epoch: i64,
        start_offset: u64,
    }
    /// The answer to GET_BROKER_EPOCH_CACHE.
    #[derive(Eq)]
    EpochEntryCache {
        broker_id: i64,
        broker_name: String,
        cluster_name: String,
        epoch_list: Vec<EpochEntry>,
        /// End of the log.
        max_offset: u64,
    }
}
