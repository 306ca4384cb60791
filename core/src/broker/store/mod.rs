//! The message store: the only user of the disk for messages.
//!
//! One commit log takes every message in the order of arrival; each queue of a topic is a list of 20-byte entries that
//! point into it. Both have RocketMQ's bytes, so that either broker opens the other's store.
//!
//! Three watermarks run along the log: *written*, *synced*, *replicated*. A message is dispatched to its queue, and so becomes
//! visible to anybody, only when the watermark that the flush and replication modes demand has passed it.
//!
//! The log is written once a turn, in [`Store::settle`]. Queue tails live on the heap and are spilled in chunks.
//!
//! Invariants: queue offsets of a queue follow on in the log; `dispatched <= visible`; `storeTimestamp` never decreases; after
//! a failed sync the store says [`Effect::Fail`] and nothing more.

mod bury;
mod checkpoint;
mod commit_log;
mod config;
mod consume_queue;
mod index;
mod keep;
mod key_query;
mod raw;
mod read;
mod recover;
mod retain;
mod space;
mod time;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::io::{Disk, DiskError, Effect, Env, FetchId, Now, SyncId, SyncTarget};
use crate::probe::Probe;
use crate::time::Instant;
use crate::wire::message::{BLANK_BYTES, Draft, Place, Record, sys_flag};
use bury::Burial;
use checkpoint::{Checkpoint, CheckpointJob};
use commit_log::CommitLog;
pub use config::{FlushMode, StoreConfig, parse_hours};
use consume_queue::{ConsumeQueue, CqEntry};
use index::Index;
pub use key_query::{KeyKind, KeyQuery, ONCE_PRODUCER, OnceMark, QueryStep};
pub use read::{QueueEntry, ReadLimits, ReadOutcome};
use recover::Recovery;
use retain::Retention;
use space::Space;
pub use time::Boundary;
use time::TimeSearch;

/// Exists while a broker has the store open; left behind by a crash.
const ABORT_FILE: &str = "abort";
const CHECKPOINT_FILE: &str = "checkpoint";
/// Says where recovery is to cut the log: what lies behind is no longer this broker's (see `ha::cut`).
pub(crate) const CUT_FILE: &str = "cutLogTo";
/// The top byte of this module's sync and fetch ids.
const ID_SPACE: u64 = 1 << 56;
/// A record may be this much longer than the longest body.
const RECORD_OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

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
    /// Its store time, ms.
    pub store_timestamp: i64,
}

/// Why a message was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// Not now: recovery is still running, the store is stopping, a new segment or the deletion of the topic is not durable yet.
    NotReady,
    /// The disk is filled above [`StoreConfig::disk_warning_percent`]; reads are served.
    DiskWarning,
    /// The disk is full, or the next segment could not be made.
    Disk(DiskError),
    /// Larger than a record may be.
    TooLarge,
    /// Bytes of another log that are not the records that belong there.
    NotARecord,
}

/// A record in the log whose queue does not show it yet.
#[derive(Debug)]
struct Undispatched {
    end: u64,
    store_timestamp: i64,
    /// Queue and queue offset; none for half messages and their rollbacks.
    queued: Option<(QueueIx, u64, CqEntry)>,
}

#[derive(Debug)]
enum Phase {
    New,
    Recovering(Recovery),
    Ready,
    Stopping(Stopping),
    Stopped,
}

/// Steps of a clean stop.
#[derive(Debug)]
enum Stopping {
    /// Waiting for everything written to be synced and in a checkpoint.
    Checkpoint,
    /// Waiting for the removal of `abort` to be durable.
    Abort(SyncId),
}

#[derive(Debug, Default)]
struct Ids {
    next: u64,
}

impl Ids {
    fn sync(&mut self) -> SyncId {
        self.next += 1;
        SyncId(ID_SPACE | self.next)
    }

    fn fetch(&mut self) -> FetchId {
        self.next += 1;
        FetchId(ID_SPACE | self.next)
    }
}

/// The store. See the module's head.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    phase: Phase,
    log: CommitLog,
    queues: Vec<ConsumeQueue>,
    /// Never iterated; the order of queues is that of `queues`.
    names: HashMap<String, Vec<(i32, QueueIx)>, foldhash::fast::FixedState>,
    undispatched: VecDeque<Undispatched>,
    dispatched: u64,
    dispatched_timestamp: i64,
    /// The watermark of replication; none while no replica is demanded.
    replicated: Option<u64>,
    arrivals: Vec<QueueIx>,
    /// Queues with a tail or with unsynced files.
    dirty: BTreeSet<QueueIx>,
    checkpoint: Checkpoint,
    checkpointing: Option<CheckpointJob>,
    checkpoint_due: Instant,
    flush_due: Instant,
    last_store_timestamp: i64,
    /// Replica only: where the next record to be parsed begins, and its bytes so far.
    raw_parsed: u64,
    raw_carry: Vec<u8>,
    /// Whether no clean stop came before this start.
    unclean: bool,
    scratch: Vec<CqEntry>,
    /// Queues whose tails grew long while the log is recovered.
    long: Vec<QueueIx>,
    index: Index,
    /// Searches by time that wait for a fetch, oldest first.
    searches: Vec<TimeSearch>,
    ids: Ids,
    spill_failed: Option<DiskError>,
    space: Space,
    retention: Retention,
    burial: Burial,
}

impl Store {
    /// A store that has not looked at its disk yet.
    pub fn new(config: StoreConfig) -> Store {
        Store {
            log: CommitLog::new(config.segment_bytes),
            index: Index::new(&config),
            config,
            phase: Phase::New,
            queues: Vec::new(),
            names: HashMap::default(),
            undispatched: VecDeque::new(),
            dispatched: 0,
            dispatched_timestamp: 0,
            replicated: None,
            arrivals: Vec::new(),
            dirty: BTreeSet::new(),
            checkpoint: Checkpoint::default(),
            checkpointing: None,
            checkpoint_due: Instant::ZERO,
            flush_due: Instant::ZERO,
            last_store_timestamp: 0,
            raw_parsed: 0,
            raw_carry: Vec::new(),
            unclean: false,
            scratch: Vec::new(),
            long: Vec::new(),
            searches: Vec::new(),
            ids: Ids::default(),
            spill_failed: None,
            space: Space::default(),
            retention: Retention::default(),
            burial: Burial::default(),
        }
    }

    /// Takes settings that a request has changed: only such as are looked at anew each time.
    pub(in crate::broker) fn reconfigure(&mut self, config: StoreConfig) {
        self.config = config;
    }

    /// Opens the files and begins recovery, which goes on in slices.
    pub fn start<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        assert!(matches!(self.phase, Phase::New), "a store starts once");
        // Recovery writes too.
        self.space.watch(now, &self.config, env.disk);
        self.space.look_again();
        if let Err(reason) = self.begin_recovery(env.disk) {
            // The same files will say the same again.
            env.out.push(Effect::Fail { reason, restart: false });
        }
    }

    /// Whether recovery is done and the store is not stopping.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Bytes of log recovered so far, and at most to come in all, while recovery runs.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.recovery_progress()
    }

    /// The queue of a topic, made if it is not known. Nothing is on disk until its first message.
    pub fn queue(&mut self, topic: &str, queue_id: i32) -> QueueIx {
        if let Some(ix) = self.find_queue(topic, queue_id) {
            return ix;
        }
        let ix = QueueIx(u32::try_from(self.queues.len()).expect("fewer than 2^32 queues"));
        let mut queue = ConsumeQueue::new(topic, queue_id, self.config.queue_file_entries);
        queue.begins_at = self.burial.begin_of(topic);
        queue.is_closed = self.burial.is_closing(topic);
        self.queues.push(queue);
        self.names.entry_ref(topic).or_default().push((queue_id, ix));
        ix
    }

    /// The queue of a topic, if it is known.
    pub fn find_queue(&self, topic: &str, queue_id: i32) -> Option<QueueIx> {
        self.names.get(topic)?.iter().find(|(id, _)| *id == queue_id).map(|(_, ix)| *ix)
    }

    /// Known queues.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Every known queue, in the order they became known.
    pub fn for_each_queue(&self, mut f: impl FnMut(&str, i32, QueueIx)) {
        for (at, queue) in self.queues.iter().enumerate() {
            f(&queue.topic, queue.queue_id, QueueIx(at as u32));
        }
    }

    /// Puts a message at the end of the log. It is written by the next [`Store::settle`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing was changed then.
    pub fn append<D: Disk>(
        &mut self,
        now: Now,
        queue: QueueIx,
        draft: &Draft<'_>,
        disk: &mut D,
    ) -> Result<Appended, AppendError> {
        let bytes = draft.record_bytes() as u64;
        self.check_appendable(queue, draft, bytes)?;
        self.log.reserve(bytes, disk)?;
        Ok(self.put(now, queue, draft))
    }

    /// Puts messages of one queue at the end of the log, next to each other: all of them or none.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was changed then.
    pub fn append_batch<D: Disk>(
        &mut self,
        now: Now,
        queue: QueueIx,
        drafts: &[Draft<'_>],
        disk: &mut D,
        out: &mut Vec<Appended>,
    ) -> Result<(), AppendError> {
        let mut total = 0;
        for draft in drafts {
            let bytes = draft.record_bytes() as u64;
            self.check_appendable(queue, draft, bytes)?;
            total += bytes;
        }
        if total + BLANK_BYTES as u64 > self.config.segment_bytes {
            return Err(AppendError::TooLarge);
        }
        self.log.reserve(total, disk)?;
        for draft in drafts {
            out.push(self.put(now, queue, draft));
        }
        Ok(())
    }

    fn check_appendable(
        &self,
        queue: QueueIx,
        draft: &Draft<'_>,
        record_bytes: u64,
    ) -> Result<(), AppendError> {
        if !self.is_ready() || self.queues[queue.0 as usize].is_closed {
            return Err(AppendError::NotReady);
        }
        if let Some(error) = self.spill_failed {
            return Err(AppendError::Disk(error));
        }
        if self.index.is_backlogged() {
            return Err(AppendError::NotReady);
        }
        if self.space.is_short() {
            return Err(AppendError::DiskWarning);
        }
        let record_bytes_max = (self.config.body_bytes_max + RECORD_OVERHEAD_BYTES_MAX)
            .min(self.config.segment_bytes - BLANK_BYTES as u64);
        if draft.body.len() as u64 > self.config.body_bytes_max || record_bytes > record_bytes_max {
            return Err(AppendError::TooLarge);
        }
        Ok(())
    }

    /// Encodes a message at the end, where room was reserved.
    fn put(&mut self, now: Now, ix: QueueIx, draft: &Draft<'_>) -> Appended {
        let physical = self.log.end();
        let queue = &mut self.queues[ix.0 as usize];
        let queued = is_queued(draft.sys_flag);
        let queue_offset = if queued { queue.next } else { 0 };
        self.last_store_timestamp = self.last_store_timestamp.max(now.wall.0);
        let place = Place {
            queue_offset: queue_offset as i64,
            physical_offset: physical as i64,
            store_timestamp: self.last_store_timestamp,
        };
        let pending = self.log.pending_mut();
        let before = pending.len();
        draft.encode(place, pending);
        let bytes = (pending.len() - before) as u64;
        self.log.appended(bytes);
        let tags_code = self.config.tags_code(draft.topic, draft.properties, place.store_timestamp);
        let entry = CqEntry { physical, size: bytes as u32, tags_code };
        if queued {
            queue.next += 1;
        }
        self.index.add(draft.topic, draft.sys_flag, draft.properties, physical, place.store_timestamp);
        let end = physical + bytes;
        self.undispatched.push_back(Undispatched {
            end,
            store_timestamp: place.store_timestamp,
            queued: queued.then_some((ix, queue_offset, entry)),
        });
        Appended {
            queue_offset: place.queue_offset,
            physical_offset: physical,
            end,
            store_timestamp: place.store_timestamp,
        }
    }

    /// Whether no clean stop came before this start. Known once recovery has begun.
    pub fn was_unclean(&self) -> bool {
        self.unclean
    }

    fn queued_of(&mut self, record: &Record<'_>, physical: u64) -> Option<(QueueIx, u64, CqEntry)> {
        let queue_offset = u64::try_from(record.queue_offset).ok()?;
        if !is_queued(record.sys_flag) || self.burial.covers(record.topic, physical) {
            return None;
        }
        let ix = self.queue(record.topic, record.queue_id);
        let tags_code = self.config.tags_code(record.topic, record.properties, record.store_timestamp);
        Some((ix, queue_offset, CqEntry { physical, size: record.size, tags_code }))
    }

    fn add_keys(&mut self, record: &Record<'_>) {
        let physical = record.physical_offset as u64;
        self.index.add(record.topic, record.sys_flag, record.properties, physical, record.store_timestamp);
    }

    /// Puts a recovered record into its queue, unless it is there; false when its queue offset cannot be right.
    fn redispatch(&mut self, record: &Record<'_>) -> bool {
        let physical = record.physical_offset as u64;
        let queued = self.queued_of(record, physical);
        if let Some((ix, queue_offset, entry)) = queued {
            if !self.queues[ix.0 as usize].can_take(queue_offset) {
                let at = recover::place(physical, self.config.segment_bytes);
                tracing::error!(%at, topic = record.topic, queue_offset, "a record's queue offset is not one of its queue's");
                return false;
            }
            self.push(ix, queue_offset, entry);
            self.dirty.insert(ix);
            if self.queues[ix.0 as usize].is_long() && self.long.last() != Some(&ix) {
                self.long.push(ix);
            }
        }
        self.add_keys(record);
        true
    }

    /// Ends a turn: writes what was appended, asks for syncs, makes visible what may be seen.
    pub fn settle<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        if let Err(reason) = self.advance_recovery(now, env) {
            env.out.push(Effect::Fail { reason, restart: false });
            return;
        }
        if !matches!(self.phase, Phase::Ready | Phase::Stopping(_)) {
            return;
        }
        if let Err(error) = self.log.write(env.disk) {
            let at = recover::place(self.log.written(), self.config.segment_bytes);
            env.out.push(Effect::Fail { reason: format!("{at}: write failed: {error}"), restart: true });
            return;
        }
        // Before anything asks for a sync: what is removed in this turn must not be synced in it.
        self.advance_retention(now, env);
        self.advance_burial(now, env);
        self.log.prepare_next(&mut self.ids, env);
        self.dispatch();
        self.flush_if_due(now, env);
        self.spill_long_tails(env);
        if now.mono >= self.checkpoint_due || matches!(self.phase, Phase::Stopping(Stopping::Checkpoint)) {
            self.begin_checkpoint(now);
        }
        let indexed = self.index.advance(now, self.dispatched, &mut self.ids, env);
        self.spill_failed = self.advance_checkpoint(env).and(indexed).err();
        if self.spill_failed == Some(DiskError::Full) {
            // What waits on the heap is written in the turn that finds the room.
            self.space.give_up_reserve(now, env.disk);
        }
        self.advance_stop(env);
    }

    fn flush_if_due<D, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        let due = match self.config.flush {
            FlushMode::Sync => true,
            FlushMode::Async => now.mono >= self.flush_due,
        };
        if due || matches!(self.phase, Phase::Stopping(_)) {
            self.log.request_sync(&mut self.ids, env);
            self.flush_due = now.mono + self.config.flush_interval;
        }
    }

    /// Moves what the watermark has passed into its queues.
    fn dispatch(&mut self) {
        let visible = self.visible();
        while let Some(next) = self.undispatched.front()
            && next.end <= visible
        {
            let next = self.undispatched.pop_front().expect("just seen");
            if let Some((ix, queue_offset, entry)) = next.queued {
                self.push(ix, queue_offset, entry);
                self.dirty.insert(ix);
                if self.arrivals.last() != Some(&ix) {
                    self.arrivals.push(ix);
                }
            }
            self.dispatched = next.end;
            self.dispatched_timestamp = next.store_timestamp;
        }
    }

    /// Spills the tails that grew long in this turn. A full disk, and want of descriptors, keep them on the heap and refuse appends
    /// until it is over.
    fn spill_long_tails<D: Disk, E>(&mut self, env: &mut Env<'_, D, E>) {
        for at in 0..self.arrivals.len() {
            let queue = &mut self.queues[self.arrivals[at].0 as usize];
            if queue.tail_len() < self.config.spill_entries {
                continue;
            }
            Probe::TailSpilled.reached();
            if let Err(error) = queue.spill(env.disk) {
                tracing::warn!(queue = queue.dir(), %error, "consume queue not written");
            }
        }
    }

    /// Calls `f` for each queue that gained visible entries since the last call.
    pub fn take_arrivals(&mut self, mut f: impl FnMut(QueueIx)) {
        for ix in self.arrivals.drain(..) {
            f(ix);
        }
    }

    /// Whether there are arrivals to take.
    pub fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Takes a completed sync; false when it is somebody else's.
    pub fn on_synced<D: Disk, E>(
        &mut self,
        now: Now,
        id: SyncId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, E>,
    ) -> bool {
        if id.0 & (0xFF << 56) != ID_SPACE {
            return false;
        }
        if let Err(error) = result {
            self.on_sync_failed(now, id, error, env);
            return true;
        }
        if !self.log.on_synced(id)
            && !self.on_checkpoint_synced(id)
            && !self.on_recovery_synced(id)
            && !self.index.on_synced(id)
            && !self.on_retention_synced(id)
            && !self.on_burial_synced(id)
        {
            self.on_abort_removed(id);
        }
        true
    }

    /// Takes a completed fetch; false when it is somebody else's.
    pub fn on_fetched<D: Disk, E>(
        &mut self,
        _now: Now,
        id: FetchId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, E>,
    ) -> bool {
        if id.0 & (0xFF << 56) != ID_SPACE {
            return false;
        }
        if self.index.on_fetched(id, result) || self.on_retention_fetched(id, result) {
            return true;
        }
        let taken = result.and_then(|()| self.on_recovery_fetched(id, env.disk));
        if let Err(error) = taken {
            let reason = format!("recovery: reading the store failed: {error}");
            env.out.push(Effect::Fail { reason, restart: false });
        }
        true
    }

    /// When the store must be woken.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.phase {
            Phase::New | Phase::Stopped => None,
            Phase::Recovering(_) => self.recovery_is_runnable().then_some((Instant::ZERO, "recovery")),
            Phase::Ready | Phase::Stopping(_) => {
                let flush = (self.log.synced() < self.log.written() && !self.log.is_flushing())
                    .then_some((self.flush_due, "flush of the commit log"));
                let checkpoint = (self.checkpointing.is_none()
                    && self.dispatched != self.checkpoint.logics_physical)
                    .then_some((self.checkpoint_due, "checkpoint"));
                let index = self.index.is_runnable(self.dispatched).then_some((Instant::ZERO, "key index"));
                let retention = self.retention_deadline().filter(|_| self.is_ready());
                let burial = self.burial_deadline();
                let space = self.space.deadline();
                [flush, checkpoint, index, retention, burial, space].into_iter().flatten().min()
            }
        }
    }

    /// End of what is in the page cache.
    pub fn written(&self) -> u64 {
        self.log.written()
    }

    /// End of what is on the disk.
    pub fn synced(&self) -> u64 {
        self.log.synced()
    }

    /// End of what enough replicas hold; everything while none is demanded.
    pub fn replicated(&self) -> u64 {
        self.replicated.unwrap_or(u64::MAX)
    }

    /// Demands that replicas hold a message before it is seen, and says how far they do; none ends the demand.
    pub fn set_replicated(&mut self, upto: Option<u64>) {
        self.replicated = upto;
    }

    /// End of the newest message that is in its queue. A filler behind it counts with the next one.
    pub fn dispatched(&self) -> u64 {
        self.dispatched
    }

    /// End of what may be seen and acknowledged.
    pub fn visible(&self) -> u64 {
        let safe = match self.config.flush {
            FlushMode::Async => self.log.written(),
            FlushMode::Sync => self.log.synced(),
        };
        safe.min(self.replicated())
    }

    /// First byte the log still has.
    pub fn log_min(&self) -> u64 {
        self.log.min()
    }

    /// One past the last byte appended, written or not.
    pub fn log_end(&self) -> u64 {
        self.log.end()
    }

    /// Bytes of a commit-log segment.
    pub fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes
    }

    /// Lowest queue offset that can be read.
    pub fn min_offset(&self, queue: QueueIx) -> i64 {
        self.queues[queue.0 as usize].min() as i64
    }

    /// One past the highest visible queue offset.
    pub fn max_offset(&self, queue: QueueIx) -> i64 {
        self.queues[queue.0 as usize].max() as i64
    }

    /// Begins a clean stop: nothing is appended any more, everything becomes durable, `abort` goes away.
    pub fn stop<D: Disk, E>(&mut self, _now: Now, _env: &mut Env<'_, D, E>) {
        match self.phase {
            Phase::Ready => self.phase = Phase::Stopping(Stopping::Checkpoint),
            // Before the end of recovery there is nothing to save, and `abort` rightly stays.
            Phase::New | Phase::Recovering(_) => self.phase = Phase::Stopped,
            Phase::Stopping(_) | Phase::Stopped => {}
        }
    }

    fn advance_stop<D: Disk, E>(&mut self, env: &mut Env<'_, D, E>) {
        if !matches!(self.phase, Phase::Stopping(Stopping::Checkpoint)) {
            return;
        }
        // What no replica confirmed is not dispatched, and is dispatched again at the next start.
        let complete =
            self.log.synced() == self.log.end() && self.checkpointing.is_none() && !self.has_graves();
        if !complete || self.needs_checkpoint() {
            return;
        }
        if let Err(error) = env.disk.delete(ABORT_FILE) {
            tracing::warn!(%error, "{ABORT_FILE} not removed");
        }
        let id = self.ids.sync();
        env.out.push(Effect::Sync { id, target: SyncTarget::Dir(String::new()) });
        self.phase = Phase::Stopping(Stopping::Abort(id));
    }

    fn on_abort_removed(&mut self, id: SyncId) {
        if matches!(self.phase, Phase::Stopping(Stopping::Abort(waited)) if waited == id) {
            self.phase = Phase::Stopped;
        }
    }

    /// Whether a clean stop is complete.
    pub fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// Asserts what must always hold.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.index.check_invariants();
        for queue in &self.queues {
            queue.check_invariants();
        }
        if self.is_ready() {
            assert!(self.dispatched <= self.log.written(), "only written messages are seen");
            assert!(self.checkpoint.logics_physical <= self.log.synced(), "a checkpoint is behind the sync");
        }
    }
}

/// Whether a message of this system flag has a place in its queue: half messages and rollbacks have none.
fn is_queued(flags: i32) -> bool {
    let transaction = flags & sys_flag::TRANSACTION_MASK;
    transaction != sys_flag::TRANSACTION_PREPARED && transaction != sys_flag::TRANSACTION_ROLLBACK
}
