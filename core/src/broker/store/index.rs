//! The key index: which records of the log carry a key, in RocketMQ's index files.
//!
//! A file is a header, a table of slots and a list of entries; a slot names the newest entry whose key hashes to it, an entry
//! the one before it. New entries stay on the heap and are merged into the newest file in batches, because a slot and an
//! entry written for every key would cost more than the message itself.
//!
//! A merge is a job over several turns: *link* (read the slots that the batch touches), *entries* (write them, and the header
//! that counts them), sync, *slots* (write them), sync. A checkpoint waits until what it covers is merged.
//!
//! Invariants: whatever a slot on disk names is on disk before it, and so is a header that counts it; an entry is never
//! written twice. So every power loss leaves chains that lead through all entries of older checkpoints, and what a file says
//! beyond them is repeated from the log. Entries may point to records that were lost: who looks up checks the record.
//!
//! Absent on purpose: the keys themselves (only hashes are stored), and any effect of a damaged index on messages: when its
//! files fail it is switched off, loudly.

mod merge;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Ids;
use crate::io::{
    Disk, DiskError, Effect, Env, Extent, FetchId, FileId, FileKind, Now, Residency, SyncId, SyncTarget,
};
use crate::wire::message::{property, sys_flag};
use merge::{Merge, Stage};

/// The directory of the index files, below the store's root.
pub(crate) const INDEX_DIR: &str = "index";
const HEADER_BYTES: u64 = 40;
const SLOT_BYTES: u64 = 4;
const ENTRY_BYTES: u64 = 20;
/// Bytes that a merge reads or writes in one turn.
const SLICE_BYTES: u64 = 1 << 20;
/// A merge that lags so many batches behind does so many slices a turn.
const HURRY_BATCHES: usize = 2;
const HURRY_SLICES: u64 = 8;
/// So many batches on the heap, and nothing more is appended until the disk has caught up.
const BACKLOG_BATCHES_MAX: usize = 8;
/// What RocketMQ puts between the words of the KEYS property.
const KEY_SEPARATOR: u8 = b' ';
pub(super) const UNIQ_KEY: &[u8] = b"UNIQ_KEY";
pub(super) const KEYS: &[u8] = b"KEYS";
pub(super) const TAGS: &[u8] = b"TAGS";
/// What lies between topic and tags in the text that is hashed, behind the first `#`.
pub(super) const TAG_PREFIX: &[u8] = b"T#";

/// An entry as it waits on the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyEntry {
    pub(crate) physical: u64,
    pub(crate) timestamp: i64,
    pub(crate) hash: u32,
}

/// An entry as it lies in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileEntry {
    pub(super) hash: u32,
    pub(super) physical: u64,
    /// Seconds since the begin timestamp of the file.
    pub(super) seconds: i32,
    pub(super) previous: u32,
}

/// Slots and entries of each file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    slots: u32,
    entries: u32,
}

impl Shape {
    pub(super) fn slot_of(self, hash: u32) -> u32 {
        hash % self.slots
    }

    fn slot_at(slot: u32) -> u64 {
        HEADER_BYTES + u64::from(slot) * SLOT_BYTES
    }

    fn entry_at(self, number: u32) -> u64 {
        Shape::slot_at(self.slots) + u64::from(number) * ENTRY_BYTES
    }

    fn file_bytes(self) -> u64 {
        self.entry_at(self.entries)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) begin_timestamp: i64,
    pub(super) end_timestamp: i64,
    begin_physical: u64,
    end_physical: u64,
    used_slots: u32,
    /// Number of the next entry; the first is 1.
    pub(super) count: u32,
}

impl Header {
    const EMPTY: Header = Header {
        begin_timestamp: 0,
        end_timestamp: 0,
        begin_physical: 0,
        end_physical: 0,
        used_slots: 0,
        count: 1,
    };

    /// Whether it counts no entry yet, and so no time either.
    pub(super) fn is_empty(&self) -> bool {
        self.count <= 1
    }

    /// A header that never reached the disk is all zeros.
    fn decode(bytes: &[u8], shape: Shape) -> Header {
        let (long, int) = (|at| long_at(bytes, at), |at| int_at(bytes, at));
        Header {
            begin_timestamp: long(0) as i64,
            end_timestamp: long(8) as i64,
            begin_physical: long(16),
            end_physical: long(24),
            used_slots: int(32),
            count: int(36).clamp(1, shape.entries),
        }
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(&self.begin_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.end_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.begin_physical.to_be_bytes());
        bytes.extend_from_slice(&self.end_physical.to_be_bytes());
        bytes.extend_from_slice(&self.used_slots.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes
    }
}

#[derive(Debug)]
pub(super) struct IndexFile {
    /// Its name: the local time of its creation as a decimal number, `yyyyMMddHHmmssSSS`.
    pub(super) name: u64,
    file: FileId,
    entry_synced: bool,
    pub(super) header: Header,
}

fn path(name: u64) -> String {
    format!("{INDEX_DIR}/{name:017}")
}

/// The reading of the headers at start.
#[derive(Clone, Copy, Debug)]
struct Opening {
    at: usize,
    unclean: bool,
}

/// How a slice of a merge ended.
enum Progress {
    More,
    Cold(Extent),
    Done,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Index {
    shape: Shape,
    batch_entries: usize,
    time_zone_offset_ms: i64,
    is_on: bool,
    /// Oldest first.
    files: Vec<IndexFile>,
    /// Not in a merge yet, in the order of the log.
    active: Vec<KeyEntry>,
    merge: Option<Merge>,
    /// What lies below this in the log is to be merged without waiting for a full batch.
    wanted: u64,
    /// Recovery after a clean stop: what lies up to here is in the files.
    known: Option<u64>,
    /// Store time of the newest entry that is durable, ms.
    merged_timestamp: i64,
    opening: Option<Opening>,
    fetching: Option<FetchId>,
    /// There was no room; nothing is tried again before the next turn.
    failed: Option<DiskError>,
}

impl Index {
    pub(crate) fn new(config: &super::StoreConfig) -> Index {
        Index {
            shape: Shape { slots: config.index_slots.max(1), entries: config.index_entries.max(2) },
            batch_entries: config.index_batch_entries.max(1),
            time_zone_offset_ms: config.time_zone_offset_ms,
            is_on: config.index,
            files: Vec::new(),
            active: Vec::new(),
            merge: None,
            wanted: 0,
            known: None,
            merged_timestamp: 0,
            opening: None,
            fetching: None,
            failed: None,
        }
    }

    /// Opens the files that are there.
    pub(crate) fn load<D: Disk>(
        &mut self,
        unclean: bool,
        merged_timestamp: i64,
        disk: &mut D,
    ) -> Result<(), String> {
        self.merged_timestamp = merged_timestamp;
        if !self.is_on {
            return Ok(());
        }
        for entry in disk.list(INDEX_DIR).map_err(|error| format!("{INDEX_DIR}: {error}"))? {
            let path = format!("{INDEX_DIR}/{}", entry.name);
            let say = |error: DiskError| format!("{path}: {error}");
            let Some(name) = entry.name.parse().ok().filter(|_| entry.name.len() == 17) else {
                tracing::warn!(path, "not the name of an index file; passed over");
                continue;
            };
            let bytes = self.shape.file_bytes();
            if entry.len > bytes {
                return Err(format!(
                    "{path}: does not fit index files of {bytes} bytes; set maxHashSlotNum and maxIndexNum to what \
                     it was written with"
                ));
            }
            let file = disk.open(&path, FileKind::Table).map_err(say)?;
            if entry.len < bytes {
                disk.truncate(file, bytes).map_err(say)?;
            }
            self.files.push(IndexFile { name, file, entry_synced: !unclean, header: Header::EMPTY });
        }
        self.opening = Some(Opening { at: 0, unclean });
        Ok(())
    }

    /// Whether keys are taken and found.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether recovery must wait: for the headers of all files, or for merges that it is too far ahead of.
    pub(crate) fn holds_recovery(&self) -> bool {
        self.is_on && (self.opening.is_some() || (self.is_backlogged() && self.failed.is_none()))
    }

    fn read_headers<D: Disk>(&mut self, mut opening: Opening, disk: &mut D) -> Result<Progress, DiskError> {
        while let Some(file) = self.files.get_mut(opening.at) {
            let head = Extent { file: file.file, offset: 0, len: HEADER_BYTES as u32 };
            let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
            if disk.read(head, &mut bytes)? == Residency::NotResident {
                self.opening = Some(opening);
                return Ok(Progress::Cold(head));
            }
            file.header = Header::decode(&bytes, self.shape);
            opening.at += 1;
        }
        if !opening.unclean {
            let newest = self.files.last().filter(|file| file.header.count > 1);
            self.known = newest.map(|file| file.header.end_physical);
        }
        self.opening = None;
        Ok(Progress::More)
    }

    /// Ends what only recovery needs: from now on every record is a new one.
    pub(crate) fn recovered(&mut self) {
        self.known = None;
    }

    /// Takes the keys of a record that was put at the end of the log: the unique key, each word of KEYS, and the tags, which
    /// RocketMQ 5.5 looks up as `topic#T#tags`. Rolled-back messages have none.
    pub(crate) fn add(&mut self, topic: &str, flags: i32, properties: &[u8], physical: u64, timestamp: i64) {
        let is_rollback = flags & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_ROLLBACK;
        if !self.is_on || is_rollback || self.known.is_some_and(|known| physical <= known) {
            return;
        }
        let active = &mut self.active;
        let mut add = |hash| active.push(KeyEntry { physical, timestamp, hash });
        let plain = hash_onto(hash_onto(0, topic.as_bytes()), b"#");
        if let Some(key) = property(properties, UNIQ_KEY) {
            add(key_hash(plain, key));
        }
        for key in words(property(properties, KEYS).unwrap_or_default()) {
            add(key_hash(plain, key));
        }
        if let Some(tags) = property(properties, TAGS) {
            add(key_hash(hash_onto(plain, TAG_PREFIX), tags));
        }
    }

    /// How many entries wait, for [`Index::forget_from`].
    pub(crate) fn waiting(&self) -> usize {
        self.active.len()
    }

    /// Drops entries whose records did not get into the log after all.
    pub(crate) fn forget_from(&mut self, waiting: usize) {
        self.active.truncate(waiting);
    }

    /// Wants everything below `physical` in the log to be merged soon.
    pub(crate) fn want(&mut self, physical: u64) {
        self.wanted = self.wanted.max(physical);
    }

    /// Removes the oldest file if all its records lie below `log_min`; true when it did. The newest one stays.
    pub(crate) fn remove_oldest_file<D: Disk>(
        &mut self,
        log_min: u64,
        disk: &mut D,
    ) -> Result<bool, DiskError> {
        let Some(oldest) = self.files.first().filter(|_| self.is_on && self.files.len() > 1) else {
            return Ok(false);
        };
        if oldest.header.end_physical >= log_min {
            return Ok(false);
        }
        disk.delete(&path(oldest.name))?;
        self.files.remove(0);
        Ok(true)
    }

    /// Whether everything below `physical` in the log is durable in the files.
    pub(crate) fn covers(&self, physical: u64) -> bool {
        let is_above = |entries: &[KeyEntry]| entries.first().is_none_or(|first| first.physical >= physical);
        !self.is_on
            || (is_above(&self.active) && self.merge.as_ref().is_none_or(|merge| is_above(&merge.batch)))
    }

    /// Whether so much waits that nothing more should come.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.active.len() >= self.batch_entries.saturating_mul(BACKLOG_BATCHES_MAX)
    }

    /// Whether so little waits that who was kept waiting for it may go on for a while.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.active.len() < self.batch_entries.saturating_mul(BACKLOG_BATCHES_MAX / 2)
    }

    /// Whether there is anything to do at once. `bound`: up to there records may be looked up.
    pub(crate) fn is_runnable(&self, bound: u64) -> bool {
        let is_waiting =
            self.fetching.is_some() || self.merge.as_ref().is_some_and(|merge| !merge.syncs.is_empty());
        self.is_on
            && !is_waiting
            && self.failed.is_none()
            && (self.opening.is_some() || self.merge.is_some() || self.batch_due(bound) > 0)
    }

    /// How many entries the next batch takes now.
    fn batch_due(&self, bound: u64) -> usize {
        let visible = self.active.partition_point(|entry| entry.physical < bound);
        let is_wanted = self.active.first().is_some_and(|first| first.physical < self.wanted);
        if is_wanted || visible >= self.batch_entries { visible.min(self.batch_entries) } else { 0 }
    }

    /// Does a slice of work.
    ///
    /// # Errors
    /// A shortage: entries stay on the heap, and it goes on when it is over. Other errors switch the index off.
    pub(crate) fn advance<D: Disk, E>(
        &mut self,
        now: Now,
        bound: u64,
        ids: &mut Ids,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), DiskError> {
        if !self.is_on || self.fetching.is_some() {
            return Ok(());
        }
        self.failed = None;
        match self.do_advance(now, bound, ids, env) {
            Ok(Progress::More | Progress::Done) => Ok(()),
            Ok(Progress::Cold(extent)) => {
                let id = ids.fetch();
                env.out.push(Effect::Fetch { id, at: extent });
                self.fetching = Some(id);
                Ok(())
            }
            Err(error) if error.is_shortage() => {
                self.failed = Some(error);
                Err(error)
            }
            Err(error) => {
                self.switch_off(error);
                Ok(())
            }
        }
    }

    /// A damaged index must not stop messages.
    fn switch_off(&mut self, error: DiskError) {
        tracing::error!(%error, "{INDEX_DIR}: the key index failed and is off; messages are not concerned");
        self.is_on = false;
        (self.active, self.merge, self.fetching, self.opening) = (Vec::new(), None, None, None);
    }

    fn do_advance<D: Disk, E>(
        &mut self,
        now: Now,
        bound: u64,
        ids: &mut Ids,
        env: &mut Env<'_, D, E>,
    ) -> Result<Progress, DiskError> {
        if let Some(opening) = self.opening {
            return self.read_headers(opening, env.disk);
        }
        if self.merge.is_none() {
            let count = self.batch_due(bound);
            if count == 0 {
                return Ok(Progress::Done);
            }
            self.begin_merge(now, count, env.disk)?;
        }
        let is_behind = self.active.len() >= self.batch_entries.saturating_mul(HURRY_BATCHES);
        let budget = if is_behind { SLICE_BYTES * HURRY_SLICES } else { SLICE_BYTES };
        let Some(mut merge) = self.merge.take() else { return Ok(Progress::Done) };
        let result = self.step(&mut merge, budget, ids, env);
        if matches!(result, Ok(Progress::Done)) {
            self.merged_timestamp = merge.batch.last().map_or(self.merged_timestamp, |last| last.timestamp);
        } else {
            self.merge = Some(merge);
        }
        result
    }

    fn begin_merge<D: Disk>(&mut self, now: Now, count: usize, disk: &mut D) -> Result<(), DiskError> {
        if self.files.last().is_none_or(|file| file.header.count >= self.shape.entries) {
            let newest = self.files.last().map_or(0, |file| file.name);
            // The clock may have gone back; names are in the order of the files.
            let name = local_name(now.wall.0 + self.time_zone_offset_ms).max(newest + 1);
            let file = disk.create(&path(name), self.shape.file_bytes(), FileKind::Table)?;
            self.files.push(IndexFile { name, file, entry_synced: false, header: Header::EMPTY });
        }
        let header = self.files.last().expect("there is one now").header;
        let count = count.min((self.shape.entries - header.count) as usize);
        let batch = if count == self.active.len() {
            core::mem::take(&mut self.active)
        } else {
            self.active.drain(..count).collect()
        };
        self.merge = Some(Merge::new(batch, header, self.shape));
        Ok(())
    }

    fn step<D: Disk, E>(
        &mut self,
        merge: &mut Merge,
        budget: u64,
        ids: &mut Ids,
        env: &mut Env<'_, D, E>,
    ) -> Result<Progress, DiskError> {
        if !merge.syncs.is_empty() {
            return Ok(Progress::More);
        }
        let shape = self.shape;
        let file = self.files.last_mut().expect("a merge has its file");
        match merge.stage {
            Stage::Link | Stage::Slots => {
                if let Some(extent) = merge.visit_slots(shape, file.file, budget, env.disk)? {
                    return Ok(Progress::Cold(extent));
                }
                if merge.cursor < merge.batch.len() {
                    return Ok(Progress::More);
                }
                merge.cursor = 0;
                if merge.stage == Stage::Link {
                    merge.stage = Stage::Entries;
                } else {
                    merge.stage = Stage::SyncSlots;
                    merge.sync(SyncTarget::File(file.file), ids, env);
                }
            }
            Stage::Entries => {
                merge.write_entries(shape, file.file, budget, env.disk)?;
                if merge.cursor < merge.batch.len() {
                    return Ok(Progress::More);
                }
                let header = merge.header(file.header);
                env.disk.write(file.file, 0, &header.encode())?;
                file.header = header;
                merge.cursor = 0;
                merge.stage = Stage::SyncEntries;
                merge.sync(SyncTarget::File(file.file), ids, env);
                if !file.entry_synced {
                    merge.sync(SyncTarget::Dir(INDEX_DIR.into()), ids, env);
                }
            }
            Stage::SyncEntries => {
                file.entry_synced = true;
                merge.stage = Stage::Slots;
            }
            Stage::SyncSlots => return Ok(Progress::Done),
        }
        Ok(Progress::More)
    }

    /// Counts a completed sync; true when it was one of the index's.
    pub(crate) fn on_synced(&mut self, id: SyncId) -> bool {
        self.merge.as_mut().is_some_and(|merge| merge.syncs.remove(&id))
    }

    /// Takes the answer to a fetch, whose bytes are resident in this turn; true when it was one of the index's.
    pub(crate) fn on_fetched(&mut self, id: FetchId, result: Result<(), DiskError>) -> bool {
        if self.fetching.take_if(|waited| *waited == id).is_none() {
            return false;
        }
        if let Err(error) = result {
            self.switch_off(error);
        }
        true
    }

    /// Store time of the newest entry that is durable, ms.
    pub(crate) fn merged_timestamp(&self) -> i64 {
        self.merged_timestamp
    }

    /// Store time and log offset of the newest record with keys.
    pub(super) fn newest(&self) -> (i64, u64) {
        let merging = self.merge.as_ref().and_then(|merge| merge.batch.last());
        let in_files = || {
            let file = self.files.iter().rev().find(|file| file.header.count > 1);
            file.map_or((0, 0), |file| (file.header.end_timestamp, file.header.end_physical))
        };
        self.active.last().or(merging).map_or_else(in_files, |last| (last.timestamp, last.physical))
    }

    /// The newest entry on the heap below `below` in the log that has this hash and was stored at `begin_ms` or later.
    pub(super) fn newest_on_heap(&self, hash: u32, below: u64, begin_ms: i64) -> Option<KeyEntry> {
        let find = |entries: &[KeyEntry]| {
            let upto = entries.partition_point(|entry| entry.physical < below);
            let newest_first = entries[..upto].iter().rev();
            newest_first
                .take_while(|entry| entry.timestamp >= begin_ms)
                .find(|entry| entry.hash == hash)
                .copied()
        };
        find(&self.active).or_else(|| self.merge.as_ref().and_then(|merge| find(&merge.batch)))
    }

    /// The newest file whose name is below `name`.
    pub(super) fn file_below(&self, name: u64) -> Option<&IndexFile> {
        self.files.iter().rev().find(|file| file.name < name)
    }

    /// The file of a name, unless it was deleted.
    pub(super) fn file(&self, name: u64) -> Option<&IndexFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Number of the newest entry in the slot of a hash, 0 for none.
    pub(super) fn read_slot<D: Disk>(
        &self,
        file: &IndexFile,
        hash: u32,
        disk: &mut D,
    ) -> Result<Result<u32, Extent>, DiskError> {
        let offset = Shape::slot_at(self.shape.slot_of(hash));
        let extent = Extent { file: file.file, offset, len: SLOT_BYTES as u32 };
        let mut bytes = Vec::with_capacity(SLOT_BYTES as usize);
        Ok(match disk.read(extent, &mut bytes)? {
            Residency::Resident => {
                let number = int_at(&bytes, 0);
                Ok(if number < file.header.count { number } else { 0 })
            }
            Residency::NotResident => Err(extent),
        })
    }

    /// An entry of a file; its `previous` is 0 where a chain ends.
    pub(super) fn read_entry<D: Disk>(
        &self,
        file: &IndexFile,
        number: u32,
        disk: &mut D,
    ) -> Result<Result<FileEntry, Extent>, DiskError> {
        let extent = Extent { file: file.file, offset: self.shape.entry_at(number), len: ENTRY_BYTES as u32 };
        let mut bytes = Vec::with_capacity(ENTRY_BYTES as usize);
        if disk.read(extent, &mut bytes)? == Residency::NotResident {
            return Ok(Err(extent));
        }
        // A chain leads down: in a damaged file it must still come to an end.
        let previous = Some(int_at(&bytes, 16)).filter(|previous| *previous < number).unwrap_or(0);
        Ok(Ok(FileEntry {
            hash: int_at(&bytes, 0),
            physical: long_at(&bytes, 4),
            seconds: int_at(&bytes, 12) as i32,
            previous,
        }))
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.active.is_sorted_by_key(|entry| entry.physical), "keys are in the order of the log");
        if let Some(merge) = &self.merge
            && let (Some(last), Some(first)) = (merge.batch.last(), self.active.first())
        {
            assert!(last.physical <= first.physical, "a batch is older than what waits");
        }
        assert!(self.files.is_sorted_by_key(|file| file.name), "files are in the order of their names");
    }
}

fn int_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn long_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The Java hash of a text that goes on with `more`.
pub(super) fn hash_onto(hash: i32, more: &[u8]) -> i32 {
    let fold = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    if more.is_ascii() {
        return more.iter().fold(hash, |hash, byte| fold(hash, u16::from(*byte)));
    }
    String::from_utf8_lossy(more).encode_utf16().fold(hash, fold)
}

/// The hash of a key behind what was hashed already, as index files have it.
pub(super) fn key_hash(prefix: i32, key: &[u8]) -> u32 {
    // Java's absolute value of the least int is negative, and RocketMQ takes 0 then.
    let hash = hash_onto(prefix, key);
    if hash == i32::MIN { 0 } else { hash.unsigned_abs() }
}

/// The words of a KEYS property.
pub(super) fn words(keys: &[u8]) -> impl Iterator<Item = &[u8]> {
    keys.split(|byte| *byte == KEY_SEPARATOR).filter(|word| !word.is_empty())
}

/// The name of a file made at this local time, ms since 1970: `yyyyMMddHHmmssSSS` as a number.
fn local_name(local_ms: i64) -> u64 {
    let (days, ms) = (local_ms.div_euclid(86_400_000), local_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let date = year * 10_000 + month * 100 + day;
    let time = ms / 3_600_000 * 10_000_000 + ms / 60_000 % 60 * 100_000 + ms % 60_000;
    u64::try_from(date * 1_000_000_000 + time).unwrap_or(0)
}

/// Year, month and day of the days since 1970, by the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of year 0, so that the leap day is the last of a year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + i64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_local_times() {
        let check = |ms, expected| assert_eq!(local_name(ms), expected, "{ms}");
        check(0, 19_700_101_000_000_000);
        check(951_782_399_999, 20_000_228_235_959_999);
        check(951_782_400_000, 20_000_229_000_000_000);
        check(1_735_689_599_001, 20_241_231_235_959_001);
        check(1_735_689_600_000 + 8 * 3_600_000, 20_250_101_080_000_000);
    }

    #[test]
    fn hashes_are_javas() {
        let check = |text: &[u8], expected| assert_eq!(key_hash(0, text), expected);
        // 84 * 961 + 35 * 31 + 107.
        check(b"T#k", 81_916);
        // The least int.
        check(b"polygenelubricants", 0);
        let whole = crate::wire::message::java_hash("\u{fc}#a");
        assert_eq!(hash_onto(hash_onto(0, "\u{fc}#".as_bytes()), b"a"), whole);
    }
}
