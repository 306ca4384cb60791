//! Recovery: from what a crash left to a log that ends after its last whole record and queues that agree with it.
//!
//! The checkpoint says where to begin: below it log and queues are complete. So each queue keeps the entries that point
//! below the beginning, and everything from there on is read from the log again. What follows the last valid record is cut
//! off, zeroed and synced before the first append; so is what follows the kept entries of a queue. Where records follow the place of
//! the cut, they are kept aside first: see [`super::keep`].
//!
//! What is read above the beginning is written again, so that the sync before the first append makes it durable whatever
//! became of earlier syncs.
//!
//! After a clean stop (no `abort` file) nothing is zeroed: there is nothing stale.
//!
//! It is a job in slices: a bounded number of bytes and queues a turn, cold parts by fetch. Times are never trusted, except
//! to find the beginning in a store whose checkpoint has no offset (RocketMQ before 5.5).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::checkpoint::Checkpoint;
use super::commit_log::{COMMIT_LOG_DIR, file_name};
use super::consume_queue::{CONSUME_QUEUE_DIR, ConsumeQueue, CqEntry, ENTRY_BYTES, MinSearch};
use super::keep::{Keep, KeepProgress};
use super::{ABORT_FILE, CHECKPOINT_FILE, CUT_FILE, Phase, QueueIx, Store};
use crate::io::{
    Disk, DiskError, Effect, Env, Extent, FetchId, FileId, FileKind, Now, Residency, SyncId, SyncTarget,
};
use crate::probe::Probe;
use crate::wire::message::{BLANK_BYTES, Entry, RECORD_BYTES_MIN, peek};

/// Bytes of the log read at once.
const READ_BYTES: u64 = 1024 * 1024;
/// Bytes of a queue file looked at at once.
const BLOCK_BYTES: u64 = 4096;
/// Queues settled in one turn at most.
const QUEUES_PER_TURN_MAX: usize = 256;
/// Stores written before RocketMQ 5.5 have times only; it steps back this far, ms.
const TIMESTAMP_MARGIN_MS: i64 = 3000;

#[derive(Debug)]
pub(crate) struct Recovery {
    stage: Stage,
    begin: u64,
    position: u64,
    unclean: bool,
    /// What is read is written again. A sync that failed leaves pages which the kernel takes for clean: they are read as if
    /// they were there, the next sync passes over them, and a power loss takes them from the midst of the log.
    rewrites: bool,
    /// The log ends here, whatever follows.
    cut: Option<u64>,
    blocks: BTreeMap<(FileId, u64), Vec<u8>>,
    fetching: Option<(FetchId, Extent)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// Looking for the newest segment that is surely dispatched; segments from this one down are left to look at.
    FindBegin { segment: usize },
    /// A queue's files are broken, so that the checkpoint says nothing: it must be gone before a file is changed.
    Forget { waiting: Option<SyncId> },
    /// Settling what the queues' files hold, from this queue on.
    Queues { at: usize },
    /// Reading the log.
    Walk,
    /// Looking for records behind its end, and keeping them aside.
    Keep(Keep),
    /// Moving the minimum of queues to where the log begins, from this one on.
    Minimums { at: usize, search: Option<MinSearch> },
    /// Waiting for what was changed to be durable.
    Sync { waiting: BTreeSet<SyncId> },
}

impl Stage {
    /// Whether it is this sync that the checkpoint is gone with.
    fn waits_for(&self, id: SyncId) -> bool {
        matches!(self, Stage::Forget { waiting: Some(own) } if *own == id)
    }
}

/// How a slice ended.
enum Progress {
    /// More to do now.
    More,
    /// This must be fetched first.
    Cold(Extent),
    /// Waits for a sync.
    Waiting,
    /// All done.
    Done,
}

/// What a queue's files hold, as far as it could be read.
enum Kept {
    /// So many, and where the last of them points, if there is one that says so.
    Entries(u64, Option<u64>),
    Cold(Extent),
    /// Some, but files before them are missing or short.
    Gap,
}

impl Store {
    /// Opens everything and begins the job.
    pub(super) fn begin_recovery<D: Disk>(&mut self, disk: &mut D) -> Result<(), String> {
        let say = |path: &str, error: DiskError| format!("{path}: {error}");
        let cut = read_cut(disk)?;
        let unclean = disk.stat(ABORT_FILE).map_err(|error| say(ABORT_FILE, error))?.is_some();
        self.checkpoint = match disk.read_small(CHECKPOINT_FILE, 1 << 20) {
            Ok(bytes) => Checkpoint::decode(&bytes),
            Err(DiskError::NotFound) => Checkpoint::default(),
            Err(error) => return Err(say(CHECKPOINT_FILE, error)),
        };
        if !unclean {
            let file =
                disk.create(ABORT_FILE, 0, FileKind::Journal).map_err(|error| say(ABORT_FILE, error))?;
            disk.close(file);
        }
        if let Some(cut) = cut.filter(|cut| *cut < self.checkpoint.logics_physical) {
            // Another broker told the place, so it need not be one where a record begins. A segment begins with one.
            self.checkpoint.logics_physical = cut - cut % self.config.segment_bytes;
        }
        let unclean = unclean || cut.is_some();
        self.unclean = unclean;
        self.log.load(cut.map_or(self.complete_below(), |cut| cut.min(self.complete_below())), disk)?;
        if cut.is_some_and(|cut| cut < self.log.min()) {
            return Err(format!("{CUT_FILE}: the log begins behind that place; remove the file"));
        }
        // Where the log has lost its end, the checkpoint and entries of queues say things of what lies behind it, which must not come
        // true when it grows again.
        let is_short = self.checkpoint.logics_physical > self.log.capacity_end();
        if is_short {
            Probe::LogBelowCheckpoint.reached();
            let (checkpoint, log_end) = (self.checkpoint.logics_physical, self.log.capacity_end());
            tracing::warn!(checkpoint, log_end, "the commit log ends before the checkpoint");
        }
        let unclean = unclean || is_short;
        let is_whole = self.load_queues(unclean, disk)? && !is_short;
        let unclean = unclean || !is_whole;
        self.index.load(unclean, self.checkpoint.index_timestamp, disk)?;
        let (begin, stage) = match cut {
            Some(_) if self.checkpoint.logics_physical == 0 => (self.log.min(), Stage::Queues { at: 0 }),
            Some(_) | None if !is_whole => (self.log.min(), Stage::Forget { waiting: None }),
            Some(_) | None => self.recovery_begin(),
        };
        self.last_store_timestamp = self.checkpoint.physic_timestamp;
        self.phase = Phase::Recovering(Recovery {
            stage,
            begin,
            position: begin,
            unclean,
            // Not a log of RocketMQ before 5.5: without an offset in its checkpoint, that is read from far back.
            rewrites: unclean && self.complete_below() < u64::MAX,
            cut,
            blocks: BTreeMap::new(),
            fetching: None,
            buffer: Vec::new(),
        });
        Ok(())
    }

    /// Below this the files were durable. A checkpoint without an offset is RocketMQ's before 5.5, whose files are all of full
    /// length; no checkpoint at all is a store that never came so far.
    fn complete_below(&self) -> u64 {
        let checkpoint = &self.checkpoint;
        let from_times = checkpoint.logics_physical == 0 && checkpoint.logics_timestamp > 0;
        if from_times { u64::MAX } else { checkpoint.logics_physical }
    }

    fn recovery_begin(&self) -> (u64, Stage) {
        let segments = self.log.segments().count();
        let known = self.checkpoint.logics_physical;
        if known >= self.log.min() && known <= self.log.capacity_end() && known > 0 {
            return (known, Stage::Queues { at: 0 });
        }
        if known == 0 && self.checkpoint.logics_timestamp > 0 && segments > 0 {
            return (self.log.min(), Stage::FindBegin { segment: segments - 1 });
        }
        (self.log.min(), Stage::Queues { at: 0 })
    }

    /// Learns which queues there are. False when files of one are missing or short in the middle.
    fn load_queues<D: Disk>(&mut self, unclean: bool, disk: &mut D) -> Result<bool, String> {
        let mut is_whole = true;
        for topic in disk.list(CONSUME_QUEUE_DIR).map_err(|error| format!("{CONSUME_QUEUE_DIR}: {error}"))? {
            let dir = format!("{CONSUME_QUEUE_DIR}/{}", topic.name);
            for queue in disk.list(&dir).map_err(|error| format!("{dir}: {error}"))? {
                let Ok(queue_id) = queue.name.parse::<i32>() else {
                    return Err(format!(
                        "{dir}/{}: not the number of a queue; move it elsewhere",
                        queue.name
                    ));
                };
                let ix = self.queue(&topic.name, queue_id);
                is_whole &= self.queues[ix.0 as usize].load(unclean, disk)?;
            }
        }
        Ok(is_whole)
    }

    /// Does a slice of the job, and the last one makes the store ready.
    pub(super) fn advance_recovery<D: Disk, E>(
        &mut self,
        now: Now,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), String> {
        let Phase::Recovering(recovery) = &mut self.phase else { return Ok(()) };
        if recovery.fetching.is_some() {
            return Ok(());
        }
        // Keys of recovered records must not pile up: their merges come first. On a full disk they wait on the heap.
        let _ = self.index.advance(now, u64::MAX, &mut self.ids, env);
        if self.index.holds_recovery() {
            return Ok(());
        }
        let mut recovery = core::mem::replace(recovery, Recovery::idle());
        let progress = self.recover_slice(now, &mut recovery, env);
        match progress? {
            Progress::More | Progress::Waiting => {
                Probe::RecoveryInSlices.reached();
                self.phase = Phase::Recovering(recovery);
            }
            Progress::Cold(extent) => {
                Probe::RecoveryCold.reached();
                let id = self.ids.fetch();
                env.out.push(Effect::Fetch { id, at: extent });
                recovery.fetching = Some((id, extent));
                self.phase = Phase::Recovering(recovery);
            }
            Progress::Done => {
                tracing::info!(from = recovery.begin, to = recovery.position, "commit log recovered");
                if recovery.unclean {
                    Probe::RecoveredUnclean.reached();
                } else {
                    Probe::RecoveredClean.reached();
                }
                self.phase = Phase::Ready;
                self.index.recovered();
                self.flush_due = now.mono + self.config.flush_interval;
                self.checkpoint_due = now.mono + self.config.checkpoint_interval;
            }
        }
        Ok(())
    }

    fn recover_slice<D: Disk, E>(
        &mut self,
        now: Now,
        recovery: &mut Recovery,
        env: &mut Env<'_, D, E>,
    ) -> Result<Progress, String> {
        let failed = |error: DiskError| format!("recovery: {error}");
        match &mut recovery.stage {
            Stage::Forget { waiting: None } => {
                self.checkpoint = Checkpoint::default();
                let id = self.ids.sync();
                let bytes = self.checkpoint.encode().into();
                env.out.push(Effect::Replace { id, path: CHECKPOINT_FILE.into(), bytes });
                recovery.stage = Stage::Forget { waiting: Some(id) };
                Ok(Progress::Waiting)
            }
            Stage::Forget { waiting: Some(_) } => Ok(Progress::Waiting),
            Stage::FindBegin { .. } => self.find_begin(recovery, env.disk).map_err(failed),
            Stage::Queues { .. } => self.settle_queues(recovery, env.disk).map_err(failed),
            Stage::Walk => match self.walk(recovery, env.disk).map_err(failed)? {
                Progress::Done => {
                    let upto = recovery.cut.unwrap_or(u64::MAX).min(self.log.capacity_end());
                    // After a clean stop nothing lies behind the end.
                    let is_sure = !recovery.unclean && recovery.position == recovery.begin;
                    let upto = if is_sure { recovery.position } else { upto };
                    recovery.stage = Stage::Keep(Keep::new(recovery.position, upto));
                    Ok(Progress::More)
                }
                more @ (Progress::More | Progress::Cold(_) | Progress::Waiting) => Ok(more),
            },
            Stage::Keep(keep) => match self.keep_aside(keep, now.wall, env)? {
                KeepProgress::Done => {
                    recovery.stage = Stage::Minimums { at: 0, search: None };
                    Ok(Progress::More)
                }
                KeepProgress::More => Ok(Progress::More),
                KeepProgress::Cold(extent) => Ok(Progress::Cold(extent)),
                KeepProgress::Waiting => Ok(Progress::Waiting),
            },
            Stage::Minimums { at, search } => {
                // The log was never cut at its beginning, and neither were the queues.
                let is_whole = self.log.min() == 0;
                let corrected = if is_whole {
                    (true, None)
                } else {
                    self.correct_minimums(at, search, env.disk).map_err(failed)?
                };
                match corrected {
                    (_, Some(extent)) => Ok(Progress::Cold(extent)),
                    (false, None) => Ok(Progress::More),
                    (true, None) => {
                        self.finish(recovery, env).map_err(failed)?;
                        Ok(Progress::Waiting)
                    }
                }
            }
            Stage::Sync { waiting } if !waiting.is_empty() => Ok(Progress::Waiting),
            Stage::Sync { waiting } => {
                if recovery.cut.take().is_none() {
                    return Ok(Progress::Done);
                }
                // The cut is durable, so it must not be made again once the log has grown.
                env.disk.delete(CUT_FILE).map_err(failed)?;
                let id = self.ids.sync();
                env.out.push(Effect::Sync { id, target: SyncTarget::Dir(String::new()) });
                waiting.insert(id);
                Ok(Progress::Waiting)
            }
        }
    }

    /// Looks, from the newest segment down, for one whose first record was dispatched for sure.
    fn find_begin<D: Disk>(&mut self, recovery: &mut Recovery, disk: &mut D) -> Result<Progress, DiskError> {
        let Stage::FindBegin { segment } = recovery.stage else { return Ok(Progress::More) };
        let times = (self.checkpoint.physic_timestamp, self.checkpoint.logics_timestamp);
        let upto = times.0.min(times.1) - TIMESTAMP_MARGIN_MS;
        let start = self.log.segments().nth(segment).map_or(0, |segment| segment.start);
        let head = RECORD_BYTES_MIN as u64 + 64;
        let Some(extent) = self.log.extent(start, head) else { return Ok(Progress::More) };
        recovery.buffer.clear();
        if disk.read(extent, &mut recovery.buffer)? == Residency::NotResident {
            return Ok(Progress::Cold(extent));
        }
        let stored = store_timestamp_at_head(&recovery.buffer);
        if segment == 0 || stored.is_some_and(|stored| stored > 0 && stored <= upto) {
            (recovery.begin, recovery.position) = (start, start);
            recovery.stage = Stage::Queues { at: 0 };
        } else {
            recovery.stage = Stage::FindBegin { segment: segment - 1 };
        }
        Ok(Progress::More)
    }

    fn settle_queues<D: Disk>(
        &mut self,
        recovery: &mut Recovery,
        disk: &mut D,
    ) -> Result<Progress, DiskError> {
        let Stage::Queues { at } = &mut recovery.stage else { return Ok(Progress::More) };
        for _ in 0..QUEUES_PER_TURN_MAX {
            let Some(queue) = self.queues.get_mut(*at) else {
                recovery.stage = Stage::Walk;
                return Ok(Progress::More);
            };
            queue.remove_lost(disk)?;
            match kept_entries(queue, recovery.begin, recovery.unclean, &mut recovery.blocks, disk)? {
                Kept::Cold(extent) => return Ok(Progress::Cold(extent)),
                Kept::Gap => {
                    (recovery.begin, recovery.position) = (self.log.min(), self.log.min());
                    recovery.stage = Stage::Forget { waiting: None };
                    return Ok(Progress::More);
                }
                Kept::Entries(_, newest) if self.burial.is_stale(&queue.topic, newest) => {
                    self.bury_queue(QueueIx(*at as u32), 0);
                    self.dirty.insert(QueueIx(*at as u32));
                }
                Kept::Entries(count, newest) => {
                    queue.set_spilled(count, recovery.unclean, disk)?;
                    queue.newest = newest;
                    if recovery.unclean {
                        self.dirty.insert(QueueIx(*at as u32));
                    }
                }
            }
            recovery.blocks.clear();
            *at += 1;
        }
        Ok(Progress::More)
    }

    /// Reads a slice of the log and dispatches its records again.
    fn walk<D: Disk>(&mut self, recovery: &mut Recovery, disk: &mut D) -> Result<Progress, DiskError> {
        let mut want = READ_BYTES;
        let begin = recovery.position;
        while recovery.position - begin < self.config.recover_slice_bytes {
            let room = recovery.cut.map_or(u64::MAX, |cut| cut.saturating_sub(recovery.position));
            if room == 0 {
                return Ok(Progress::Done);
            }
            let Some(extent) = self.log.extent(recovery.position, want.min(room)) else {
                return Ok(Progress::Done);
            };
            recovery.buffer.clear();
            if disk.read(extent, &mut recovery.buffer)? == Residency::NotResident {
                return Ok(Progress::Cold(extent));
            }
            let buffer = core::mem::take(&mut recovery.buffer);
            let taken = self.take_records(recovery.position, &buffer);
            if recovery.rewrites {
                let blank = if matches!(taken.stop, Stop::Blank) { BLANK_BYTES } else { 0 };
                let whole = (taken.bytes as usize + blank).min(buffer.len());
                disk.write(extent.file, extent.offset, &buffer[..whole])?;
            }
            recovery.position += taken.bytes;
            for ix in core::mem::take(&mut self.long) {
                self.queues[ix.0 as usize].spill(disk)?;
            }
            recovery.buffer = buffer;
            want = READ_BYTES;
            match taken.stop {
                Stop::Blank => recovery.position = self.end_of_segment(recovery.position),
                Stop::Needs(bytes) if u64::from(extent.len) < bytes && taken.bytes == 0 => {
                    let rest = self.end_of_segment(recovery.position) - recovery.position;
                    let room = room.min(rest);
                    if bytes > room || u64::from(extent.len) >= room {
                        return Ok(Progress::Done);
                    }
                    want = bytes;
                }
                Stop::Needs(_) if taken.bytes > 0 => {}
                Stop::Needs(_) | Stop::Invalid => {
                    let rest = &recovery.buffer[taken.bytes as usize..];
                    if rest.iter().take(size_of::<u32>()).any(|byte| *byte != 0) {
                        Probe::TornTail.reached();
                    }
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }

    fn end_of_segment(&self, position: u64) -> u64 {
        position - position % self.log.segment_bytes() + self.log.segment_bytes()
    }

    /// Takes the whole valid records at the head of `bytes`, which lie at `position`.
    fn take_records(&mut self, position: u64, bytes: &[u8]) -> Taken {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let here = position + at as u64;
            let stop = match peek(rest) {
                None => Some(Stop::Needs(BLANK_BYTES as u64)),
                Some((size, _)) if size as usize > rest.len() && plausible(rest) => {
                    Some(Stop::Needs(u64::from(size)))
                }
                Some(_) => None,
            };
            if let Some(stop) = stop {
                return Taken { bytes: at as u64, stop };
            }
            match Entry::decode(rest) {
                Ok(Entry::Blank(size)) if here + u64::from(size) == self.end_of_segment(here) => {
                    return Taken { bytes: at as u64, stop: Stop::Blank };
                }
                Ok(Entry::Message(record)) if record.verify(here as i64).is_ok() => {
                    let (size, stored) = (record.size, record.store_timestamp);
                    if !self.redispatch(&record) {
                        return Taken { bytes: at as u64, stop: Stop::Invalid };
                    }
                    self.last_store_timestamp = self.last_store_timestamp.max(stored);
                    at += size as usize;
                }
                Ok(_) | Err(_) => return Taken { bytes: at as u64, stop: Stop::Invalid },
            }
        }
    }

    /// Fixes log and queues where the walk ended, and asks for it to become durable.
    fn finish<D: Disk, E>(
        &mut self,
        recovery: &mut Recovery,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), DiskError> {
        self.log.set_end(recovery.position, recovery.unclean, env.disk)?;
        self.dispatched = recovery.position;
        self.dispatched_timestamp = self.last_store_timestamp;
        self.raw_parsed = recovery.position;
        let mut waiting = self.log.sync_all(recovery.begin, &mut self.ids, env);
        let id = self.ids.sync();
        env.out.push(Effect::Sync { id, target: SyncTarget::Dir(String::new()) });
        waiting.insert(id);
        if recovery.cut.is_some() {
            // The old one reaches behind the end.
            self.checkpoint.confirm_physical = self.checkpoint.logics_physical.min(recovery.position);
            self.checkpoint.logics_physical = self.checkpoint.confirm_physical;
            if self.checkpoint.logics_physical == 0 {
                // Times without an offset would be RocketMQ's before 5.5.
                self.checkpoint = Checkpoint::default();
            }
            let id = self.ids.sync();
            let bytes = self.checkpoint.encode().into();
            env.out.push(Effect::Replace { id, path: CHECKPOINT_FILE.into(), bytes });
            waiting.insert(id);
        }
        recovery.stage = Stage::Sync { waiting };
        Ok(())
    }

    /// Counts a completed sync of recovery; true when it was one.
    pub(super) fn on_recovery_synced(&mut self, id: SyncId) -> bool {
        match &mut self.phase {
            Phase::Recovering(Recovery { stage: Stage::Sync { waiting }, .. }) => waiting.remove(&id),
            Phase::Recovering(Recovery { stage: Stage::Keep(keep), .. }) => keep.on_synced(id),
            Phase::Recovering(recovery) if recovery.stage.waits_for(id) => {
                recovery.stage = Stage::Queues { at: 0 };
                true
            }
            Phase::Recovering(_) | Phase::New | Phase::Ready | Phase::Stopping(_) | Phase::Stopped => false,
        }
    }

    /// Takes the answer to a fetch of recovery, whose bytes are resident in this turn; true when it was one.
    pub(super) fn on_recovery_fetched<D: Disk>(
        &mut self,
        id: FetchId,
        disk: &mut D,
    ) -> Result<bool, DiskError> {
        let Phase::Recovering(recovery) = &mut self.phase else { return Ok(false) };
        let Some((_, extent)) = recovery.fetching.take_if(|(waited, _)| *waited == id) else {
            return Ok(false);
        };
        if matches!(recovery.stage, Stage::Queues { .. }) {
            // Looking through a queue needs several blocks at once; this one may be gone again after the turn.
            let mut bytes = Vec::new();
            if disk.read(extent, &mut bytes)? == Residency::Resident {
                recovery.blocks.insert((extent.file, extent.offset), bytes);
            }
        }
        Ok(true)
    }

    pub(super) fn recovery_progress(&self) -> Option<(u64, u64)> {
        match &self.phase {
            Phase::Recovering(recovery) => Some((
                recovery.position - recovery.begin,
                self.log.capacity_end().saturating_sub(recovery.begin),
            )),
            Phase::New | Phase::Ready | Phase::Stopping(_) | Phase::Stopped => None,
        }
    }

    /// Whether recovery could go on at once.
    pub(super) fn recovery_is_runnable(&self) -> bool {
        match &self.phase {
            // Its slice may have made the index hold it: what is being fetched comes first all the same.
            Phase::Recovering(recovery) if recovery.fetching.is_some() => false,
            Phase::Recovering(_) if self.index.holds_recovery() => self.index.is_runnable(u64::MAX),
            Phase::Recovering(recovery) => {
                !matches!(&recovery.stage, Stage::Sync { waiting } if !waiting.is_empty())
                    && !matches!(&recovery.stage, Stage::Keep(keep) if keep.is_waiting())
                    && !matches!(&recovery.stage, Stage::Forget { waiting: Some(_) })
            }
            Phase::New | Phase::Ready | Phase::Stopping(_) | Phase::Stopped => false,
        }
    }
}

struct Taken {
    bytes: u64,
    stop: Stop,
}

enum Stop {
    /// The filler that ends a segment.
    Blank,
    /// The entry at the head has so many bytes, more than were read.
    Needs(u64),
    /// No valid record.
    Invalid,
}

/// Whether the head may be that of a record or filler, so that reading on makes sense.
fn plausible(head: &[u8]) -> bool {
    matches!(Entry::decode(head), Ok(_) | Err(crate::wire::message::RecordError::Short))
}

/// The store time of the record at the head of `bytes`.
pub(super) fn store_timestamp_at_head(bytes: &[u8]) -> Option<i64> {
    use crate::wire::message::{MAGIC_V1, MAGIC_V2, sys_flag};
    let (_, magic) = peek(bytes)?;
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return None;
    }
    let flags = i32::from_be_bytes(*bytes.get(36..40)?.first_chunk()?);
    let at = if flags & sys_flag::BORN_HOST_V6 != 0 { 68 } else { 56 };
    Some(i64::from_be_bytes(*bytes.get(at..at + 8)?.first_chunk()?))
}

/// One past the last entry of a queue that points below `begin`: up to there it is complete on disk. Files without any such
/// entry say nothing after an unclean end, not even where the queue begins: the one before them may be lost.
fn kept_entries<D: Disk>(
    queue: &mut ConsumeQueue,
    begin: u64,
    unclean: bool,
    blocks: &mut BTreeMap<(FileId, u64), Vec<u8>>,
    disk: &mut D,
) -> Result<Kept, DiskError> {
    let firsts: Vec<u64> = queue.file_firsts().collect();
    for first in firsts {
        let mut scan = Scan { queue, blocks, disk, begin };
        match scan.file(first)? {
            Kept::Entries(0, _) => {}
            Kept::Entries(..) if queue.lose_before_gap(first + 1) => return Ok(Kept::Gap),
            Kept::Entries(count, _) => {
                let mut scan = Scan { queue, blocks, disk, begin };
                return Ok(match scan.entry(first, count - 1)? {
                    Ok(last) => Kept::Entries(first + count, (!last.is_filler()).then_some(last.physical)),
                    Err(cold) => Kept::Cold(cold),
                });
            }
            other @ (Kept::Cold(_) | Kept::Gap) => return Ok(other),
        }
    }
    Ok(Kept::Entries(if unclean { 0 } else { queue.min() }, None))
}

struct Scan<'a, D> {
    queue: &'a mut ConsumeQueue,
    blocks: &'a mut BTreeMap<(FileId, u64), Vec<u8>>,
    disk: &'a mut D,
    begin: u64,
}

impl<D: Disk> Scan<'_, D> {
    /// How many entries at the beginning of a file are to be kept.
    fn file(&mut self, first: u64) -> Result<Kept, DiskError> {
        let (mut low, mut high) = (0, self.queue.room_at(first));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.is_kept(first, middle)? {
                Ok(true) => low = middle + 1,
                Ok(false) => high = middle,
                Err(cold) => return Ok(Kept::Cold(cold)),
            }
        }
        // Behind the kept entries anything may lie, so the search may have been led astray by an entry torn in two: then
        // the one before it does not lead up to it, and the file is read from its beginning.
        if low >= 2 && !matches!(self.leads_up(first, low - 1)?, Ok(true)) {
            return self.linear(first);
        }
        Ok(Kept::Entries(low, None))
    }

    fn linear(&mut self, first: u64) -> Result<Kept, DiskError> {
        let room = self.queue.room_at(first);
        for at in 0..room {
            let kept = match self.is_kept(first, at)? {
                Ok(kept) => kept && (at == 0 || matches!(self.leads_up(first, at)?, Ok(true))),
                Err(cold) => return Ok(Kept::Cold(cold)),
            };
            if !kept {
                return Ok(Kept::Entries(at, None));
            }
        }
        Ok(Kept::Entries(room, None))
    }

    fn is_kept(&mut self, first: u64, at: u64) -> Result<Result<bool, Extent>, DiskError> {
        let begin = self.begin;
        Ok(self.entry(first, at)?.map(|entry| {
            entry.is_filler() || (entry.is_valid() && entry.physical + u64::from(entry.size) <= begin)
        }))
    }

    /// Whether entry `at` follows on the one before it.
    fn leads_up(&mut self, first: u64, at: u64) -> Result<Result<bool, Extent>, DiskError> {
        let before = match self.entry(first, at - 1)? {
            Ok(entry) => entry,
            Err(cold) => return Ok(Err(cold)),
        };
        Ok(self.entry(first, at)?.map(|entry| {
            before.is_filler()
                || entry.is_filler()
                || (before.is_valid() && before.physical + u64::from(before.size) <= entry.physical)
        }))
    }

    fn entry(&mut self, first: u64, at: u64) -> Result<Result<CqEntry, Extent>, DiskError> {
        let per_block = BLOCK_BYTES / ENTRY_BYTES;
        let block = first + at - at % per_block;
        let Some(extent) = self.queue.extent(block, per_block, self.disk)? else {
            return Err(DiskError::NotFound);
        };
        let key = (extent.file, extent.offset);
        if !self.blocks.contains_key(&key) {
            let mut bytes = Vec::new();
            if self.disk.read(extent, &mut bytes)? == Residency::NotResident {
                return Ok(Err(extent));
            }
            self.blocks.insert(key, bytes);
        }
        let offset = ((at % per_block) * ENTRY_BYTES) as usize;
        let entry = self.blocks.get(&key).and_then(|bytes| CqEntry::decode(bytes.get(offset..)?));
        entry.map(Ok).ok_or(DiskError::OutOfRange)
    }
}

/// Where the log is to be cut, if it is.
fn read_cut<D: Disk>(disk: &mut D) -> Result<Option<u64>, String> {
    match disk.read_small(CUT_FILE, 64) {
        Ok(bytes) => match core::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()) {
            Some(at) => Ok(Some(at)),
            None => Err(format!("{CUT_FILE}: is no place in the log; remove the file")),
        },
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(format!("{CUT_FILE}: {error}")),
    }
}

impl Recovery {
    fn idle() -> Recovery {
        Recovery {
            stage: Stage::Walk,
            begin: 0,
            position: 0,
            unclean: false,
            rewrites: false,
            cut: None,
            blocks: BTreeMap::new(),
            fetching: None,
            buffer: Vec::new(),
        }
    }
}

/// Names a place in the log for a message to people.
pub(super) fn place(position: u64, segment_bytes: u64) -> String {
    let start = position - position % segment_bytes;
    format!("{COMMIT_LOG_DIR}/{} at byte {}", file_name(start), position - start)
}
