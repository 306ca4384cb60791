//! The message store: the only user of the disk for messages.
//!
//! One commit log takes every message in the order of arrival; each queue of a topic is a list of 20-byte entries that
//! point into it. Both have RocketMQ's bytes, so that either broker opens the other's store.
//!
//! Three watermarks run along the log (see [`watermark`]): *written*, *synced*, *replicated*. A message is dispatched to its queue, and
//! so becomes visible to anybody, only when the watermark that the flush and replication modes demand has passed it.
//!
//! The log is written once a turn, in [`Store::settle`]. Queue tails live on the heap and are spilled in chunks.

use alloc::vec::Vec;

use super::super::io::{Disk, DiskError, Env, Extent, FetchId, SyncId};
use crate::io::Now;
use crate::time::Instant;
use crate::wire::message::Draft;

/// Whether an acknowledgement waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushMode {
    /// `ASYNC_FLUSH`: acknowledged when written; survives the death of the process.
    #[default]
    Async,
    /// `SYNC_FLUSH`: acknowledged when synced; survives power loss.
    Sync,
}

/// A queue of a topic, as the store names it while it runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct QueueIx(pub u32);

/// Where a message was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset in its queue.
    pub queue_offset: i64,
    /// First byte in the commit log.
    pub physical_offset: u64,
    /// One past its last byte: it is as safe as a watermark once the watermark has reached this.
    pub end: u64,
    /// Its store time.
    pub store_timestamp: i64,
}

/// Why a message was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// Recovery is still running, or the store is stopping.
    NotReady,
    /// The disk is full, or the next segment could not be made.
    Disk(DiskError),
    /// Larger than a record may be.
    TooLarge,
}
