//! Limits and modes of a store, with RocketMQ's property names.

use alloc::vec::Vec;
use core::time::Duration;

use crate::broker::names::SCHEDULE_TOPIC;
use crate::time::WallMs;
use crate::wire::message::{java_hash_bytes, property};

const HOUR_MS: i64 = 3_600_000;

/// Whether an acknowledgement waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushMode {
    /// `ASYNC_FLUSH`: acknowledged when written; survives the death of the process.
    #[default]
    Async,
    /// `SYNC_FLUSH`: acknowledged when synced; survives power loss.
    Sync,
}

/// Limits and modes of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `mappedFileSizeCommitLog`: bytes of a commit-log segment.
    pub segment_bytes: u64,
    /// `mappedFileSizeConsumeQueue / 20`: entries of a consume-queue file.
    pub queue_file_entries: u64,
    /// `flushDiskType`.
    pub flush: FlushMode,
    /// `flushIntervalCommitLog`: how long written bytes stay unsynced under asynchronous flush.
    pub flush_interval: Duration,
    /// `flushConsumeQueueThoroughInterval`: how long a queue tail stays dirty, and so how much a crash makes to recover.
    pub checkpoint_interval: Duration,
    /// Entries of a queue tail at which it is spilled.
    pub spill_entries: usize,
    /// `maxMessageSize`: bytes of a body.
    pub body_bytes_max: u64,
    /// Bytes of log recovered in one turn.
    pub recover_slice_bytes: u64,
    /// `messageIndexEnable`: whether messages can be found by key.
    pub index: bool,
    /// `maxHashSlotNum`: slots of an index file.
    pub index_slots: u32,
    /// `maxIndexNum`: entries of an index file.
    pub index_entries: u32,
    /// Entries that wait on the heap, 24 bytes each, before they are merged into the index file.
    pub index_batch_entries: usize,
    /// Local time minus UTC, ms: the names of index files are local times.
    pub time_zone_offset_ms: i64,
    /// `fileReservedTime` (hours): how long a segment is kept after it was last written.
    pub file_reserved: Duration,
    /// `deleteWhen`: the hours of the day, local time, in which what is past its time is removed.
    pub delete_hours: Vec<u8>,
    /// `diskMaxUsedSpaceRatio`: above so many per cent of the disk used, what is past its time is removed at any hour.
    pub disk_max_used_percent: u64,
    /// `diskSpaceCleanForciblyRatio`: above so many per cent of the disk used, the oldest is removed whatever its age.
    pub disk_clean_percent: u64,
    /// `cleanFileForciblyEnable`: whether that is done.
    pub cleans_forcibly: bool,
    /// `deleteFileBatchMax`: segments removed in one round at most.
    pub delete_batch_max: usize,
    /// `diskSpaceWarningLevelRatio`: above so many per cent of the disk used, nothing is appended.
    pub disk_warning_percent: u64,
    /// `gantryReserveBytes`: room that is kept for what must be written before anything can be removed; 0 for none. The default holds the
    /// queue entries and keys of a million messages, and a new file for each of ten thousand queues.
    pub reserve_bytes: u64,
    /// `cleanResourceInterval`: how often the disk's room is looked at.
    pub clean_interval: Duration,
    /// `messageDelayLevel`: the delay of level 1, 2, …
    pub delay_levels: Vec<Duration>,
}

impl StoreConfig {
    /// What the queue entry of a message says beside its place: the hash of its tag, or, in the topic of delayed messages, when
    /// it is to be delivered (ms).
    pub(super) fn tags_code(&self, topic: &str, properties: &[u8], store_timestamp: i64) -> i64 {
        if topic == SCHEDULE_TOPIC
            && let Some(level) = property(properties, b"DELAY").and_then(parse_level)
        {
            return store_timestamp + self.delay_of(level);
        }
        property(properties, b"TAGS").map_or(0, |tags| i64::from(java_hash_bytes(tags)))
    }

    /// Whether it is one of the hours in which what is past its time is removed.
    pub(super) fn is_delete_hour(&self, now: WallMs) -> bool {
        let hour = (now.0 + self.time_zone_offset_ms).div_euclid(HOUR_MS).rem_euclid(24);
        self.delete_hours.iter().any(|known| i64::from(*known) == hour)
    }

    /// The delay of a level, which counts from 1, in ms; levels beyond the last one are the last one.
    pub fn delay_of(&self, level: usize) -> i64 {
        let at = level.clamp(1, self.delay_levels.len().max(1)) - 1;
        self.delay_levels.get(at).map_or(1000, |delay| delay.as_millis() as i64)
    }
}

/// Reads `deleteWhen`: hours with `;` between them, as in `04` or `4;16`. None when one is no hour of a day.
pub fn parse_hours(text: &str) -> Option<Vec<u8>> {
    let hours = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    hours.map(|part| part.parse().ok().filter(|hour| *hour < 24)).collect()
}

/// A delay level above 0.
fn parse_level(text: &[u8]) -> Option<usize> {
    core::str::from_utf8(text).ok()?.parse().ok().filter(|level| *level > 0)
}

/// RocketMQ's `1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h`, in seconds.
const DELAY_LEVEL_SECS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            segment_bytes: 1 << 30,
            queue_file_entries: 300_000,
            flush: FlushMode::Async,
            flush_interval: Duration::from_millis(500),
            checkpoint_interval: Duration::from_secs(10),
            spill_entries: 204,
            body_bytes_max: 4 << 20,
            recover_slice_bytes: 4 << 20,
            index: true,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            index_batch_entries: 1 << 18,
            time_zone_offset_ms: 0,
            file_reserved: Duration::from_secs(72 * 3600),
            delete_hours: Vec::from([4]),
            disk_max_used_percent: 75,
            disk_clean_percent: 85,
            cleans_forcibly: true,
            delete_batch_max: 10,
            disk_warning_percent: 90,
            reserve_bytes: 64 << 20,
            clean_interval: Duration::from_secs(10),
            delay_levels: DELAY_LEVEL_SECS.into_iter().map(Duration::from_secs).collect(),
        }
    }
}
