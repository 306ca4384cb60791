//! When old messages go in a world: by age at any hour, at an hour that comes or not, at an administrator's word, and for want of
//! room. Everything is so short and so small that whole segments go while clients work.

use gantry_core::broker::store::StoreConfig;
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, WallMs};
use serde::{Deserialize, Serialize};

use crate::clock::WALL_AT_START_MS;
use crate::workload::producer::QUEUES;
use crate::workload::requests::code;

const HOUR_MS: i64 = 3_600_000;
/// The hour in which what is past its time goes, where not every hour is one.
const DELETE_HOUR: u8 = 4;
/// A disk that has to be made room on: so small that now and then it is full before room was made, and the reserve is used; large
/// enough for what always stays, which is three segments, a page for each queue and the reserve, to fill nine tenths of it at most:
/// above that nothing is taken.
const SEGMENTS_LEAST: u64 = 7;
const DISK_BYTES_LEAST: u64 = 350_000;
const DISK_BYTES_MORE: u64 = 60_000;
/// A file takes a page at least: on a small disk those of queues are not smaller than this.
pub const QUEUE_FILE_ENTRIES_LEAST: u64 = 40;
/// Pages that a small store writes beside those of the queues of its topics: of its own topics, of keys, and of tables.
const OTHER_PAGES: u64 = 16;
/// Wishes of an administrator's at most.
const WISHES_MAX: u64 = 8;

/// When old messages go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// A segment is kept so long after it was last written.
    pub reserved: Duration,
    /// The hours, local time, in which what is past its time goes.
    pub delete_hours: Vec<u8>,
    /// Local time minus UTC.
    pub time_zone_offset_ms: i64,
    /// How often brokers look.
    pub clean_interval: Duration,
    /// The size of a broker's disk, where it has to be made room on.
    pub disk_bytes: Option<u64>,
    /// Room kept in reserve on it.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// Above so many per cent of it, what is past its time goes at any hour.
    pub used_percent: u64,
    /// Above so many, the oldest goes whatever its age.
    pub clean_percent: u64,
    /// What an administrator asks for.
    pub wishes: Vec<Wish>,
}

/// A request of an administrator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// DELETE_EXPIRED_COMMITLOG or CLEAN_EXPIRED_CONSUMEQUEUE.
    pub code: i32,
}

impl Retention {
    /// Draws it for a world with segments of this size and so many topics, in which messages are sent up to `until`.
    pub fn draw(rng: &mut Rng, segment_bytes: u64, topics: u8, until: Duration) -> Retention {
        let until_ns = until.as_nanos() as u64;
        // Local time is such that the hour begins somewhen in the world, or is hours away, or every hour is one.
        let begins_ms = rng.below(until_ns) as i64 / 1_000_000;
        let (delete_hours, begins_ms) = match rng.below(4) {
            0 => (vec![DELETE_HOUR], begins_ms),
            1 => (vec![DELETE_HOUR], begins_ms + 5 * HOUR_MS),
            _ => ((0..24).collect(), 0),
        };
        let hour_ms = i64::from(DELETE_HOUR) * HOUR_MS;
        let reserve_bytes = (u64::from(topics) * QUEUES + OTHER_PAGES) * 4096;
        // The reserve is a page for each queue too.
        let stays = 3 * segment_bytes + 2 * reserve_bytes;
        let disk_bytes = rng.one_in(2).then(|| {
            let least = DISK_BYTES_LEAST.max(segment_bytes * SEGMENTS_LEAST) + reserve_bytes;
            least.max(stays * 10 / 9 + segment_bytes) + rng.below(DISK_BYTES_MORE)
        });
        let wishes = (0..rng.below(WISHES_MAX + 1)).map(|_| {
            let is_log = rng.below(4) > 0;
            let code = if is_log { code::DELETE_EXPIRED_COMMITLOG } else { code::CLEAN_EXPIRED_CONSUMEQUEUE };
            Wish { at_ns: rng.below(until_ns), code }
        });
        let mut wishes: Vec<Wish> = wishes.collect();
        wishes.sort_by_key(|wish| wish.at_ns);
        Retention {
            reserved: Duration::from_millis(20_000 + rng.below(180_000)),
            delete_hours,
            time_zone_offset_ms: hour_ms - begins_ms - WALL_AT_START_MS,
            clean_interval: Duration::from_millis(
                500 + rng.below(if disk_bytes.is_some() { 1_500 } else { 10_000 }),
            ),
            disk_bytes,
            reserve_bytes: if disk_bytes.is_some() { reserve_bytes } else { 0 },
            used_percent: 40 + rng.below(20),
            clean_percent: 60 + rng.below(15),
            wishes,
        }
    }

    /// Puts it into a broker's settings.
    pub fn configure(&self, store: &mut StoreConfig) {
        store.file_reserved = self.reserved;
        store.delete_hours.clone_from(&self.delete_hours);
        store.time_zone_offset_ms = self.time_zone_offset_ms;
        store.clean_interval = self.clean_interval;
        store.reserve_bytes = self.reserve_bytes;
        store.cleans_forcibly = self.disk_bytes.is_some();
        store.disk_max_used_percent = self.used_percent;
        store.disk_clean_percent = self.clean_percent;
    }

    /// Whether what is past its time may go at this hour.
    pub fn is_hour(&self, wall: WallMs) -> bool {
        let hour = (wall.0 + self.time_zone_offset_ms).div_euclid(HOUR_MS).rem_euclid(24);
        self.delete_hours.iter().any(|known| i64::from(*known) == hour)
    }

    /// Whether what was written last at a time is past its time.
    pub fn is_past(&self, written: WallMs, wall: WallMs) -> bool {
        written.0 + self.reserved.as_millis() as i64 <= wall.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_comes_in_the_world_or_not_at_all_or_is_always() {
        let until = Duration::from_secs(400);
        let at = |secs: i64| WallMs(WALL_AT_START_MS + secs * 1000);
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let retention = Retention::draw(&mut Rng::from_seed(seed), 4096, 1, until);
            kinds.insert((retention.is_hour(at(-3)), retention.is_hour(at(403))));
            assert!(retention.clean_percent > retention.used_percent);
        }
        let expect = [(false, false), (false, true), (true, true)];
        assert!(kinds.iter().eq(&expect), "{kinds:?}");
    }
}
