//! Delayed messages: RocketMQ's delay levels.
//!
//! A message with a level lies in the queue `level − 1` of SCHEDULE_TOPIC_XXXX, whose entries say when it is to be delivered;
//! then it is stored again where it belongs, and the level's offset moves on. Within a level the times rise, so only the
//! head of each queue is looked at, at its time.
//!
//! An offset counts as *safe*, and goes to `delayOffset.json` and the journal of offsets, once what was delivered up to it is as
//! safe as the modes of the store demand. The journal says with each offset where the log ends that holds those copies, so that after a
//! power loss that took them the offset does not count; the file, which says nothing of the log, is written up to what is synced. So
//! no death takes a delayed message away. Copies that were written and not yet safe when the
//! process died come once more; under asynchronous flush and replication those are the copies of the very turn it died in.
//!
//! Absent on purpose: the exact times of RocketMQ 5 (`TIMER_DELIVER_MS` and its kin), which have a store of their own.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::persist::ConfigFile;
use super::store::{QueueIx, ReadLimits, ReadOutcome, Store};
use super::{Broker, BrokerEvent, names};
use crate::io::{Disk, DiskError, Effect, Env, FetchId, Now};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, BodyError, DataVersion, ObjectWriter};
use crate::wire::message::{Draft, Entry, Record, property};

/// Why a broker wakes when delayed messages are due. Simulations know the turn by it.
pub const DELIVERY: &str = "delivery of delayed messages";
/// `flushDelayOffsetInterval`
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// After a failed delivery the level waits this long, as in RocketMQ.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The wall clock may jump: a waiting head is looked at again after this.
const RECHECK_AFTER: Duration = Duration::from_secs(5);
/// Delivered a level and turn.
const DELIVER_LIMITS: ReadLimits = ReadLimits { messages_max: 64, bytes_max: 256 * 1024 };

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// Nothing is in the queue.
    Never,
    At(Instant),
    Fetching(FetchId),
}

#[derive(Debug)]
struct Level {
    queue: Option<QueueIx>,
    /// The head.
    next: i64,
    /// Everything below it is delivered for good.
    safe: i64,
    /// Ends of delivered records that are not safe yet, with the offset that is safe with them.
    delivered: VecDeque<(u64, i64)>,
    /// Everything below it is delivered, and synced: power loss does not take it back.
    durable: i64,
    /// The same as `delivered` for what is safe and not synced.
    unsynced: VecDeque<(u64, i64)>,
    /// What the journal was told last.
    told: i64,
    /// What the journal says: offsets, and where the log must end for each to count, oldest first.
    claims: Vec<(i64, u64)>,
    due: Due,
}

impl Level {
    fn new() -> Level {
        Level {
            queue: None,
            next: 0,
            safe: 0,
            delivered: VecDeque::new(),
            durable: 0,
            unsynced: VecDeque::new(),
            told: 0,
            claims: Vec::new(),
            due: Due::Never,
        }
    }

    /// Begins at an offset that is known for good.
    fn set(&mut self, offset: i64) {
        (self.next, self.safe, self.durable, self.told) = (offset, offset, offset, offset);
        self.delivered.clear();
        self.unsynced.clear();
    }
}

/// `delayOffset.json`
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct DelayOffsets {
    data_version: DataVersion,
    offset_table: BTreeMap<i32, i64>,
}

/// What was found as the store was recovered.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The levels that the journal had told of, with what is true of them.
    pub(super) told: Vec<(i32, i64)>,
    /// Whether some level is less far than the files say.
    pub(super) is_taken_back: bool,
}

/// All levels.
#[derive(Debug)]
pub(super) struct Delays {
    levels: Vec<Level>,
    version: DataVersion,
    pub(super) file: ConfigFile,
    flush_due: Instant,
    buffer: Vec<u8>,
}

impl Delays {
    pub(super) fn new(levels: usize) -> Delays {
        let level = |_| Level::new();
        Delays {
            levels: (0..levels).map(level).collect(),
            version: DataVersion::default(),
            file: ConfigFile::new("config/delayOffset.json"),
            flush_due: Instant::ZERO,
            buffer: Vec::new(),
        }
    }

    /// Takes what the file holds.
    ///
    /// # Errors
    /// [`BodyError`]: it is not such a file.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let file: DelayOffsets = body::decode(bytes)?;
        self.version = file.data_version;
        for (level, offset) in file.offset_table {
            self.advance_to(level, offset);
        }
        Ok(())
    }

    /// A slave takes what its master says.
    ///
    /// # Errors
    /// [`BodyError`]: it is no such table.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let before: Vec<i64> = self.levels.iter().map(|level| level.safe).collect();
        self.load(bytes)?;
        if self.levels.iter().map(|level| level.safe).ne(before) {
            self.file.touch();
        }
        Ok(())
    }

    /// A slave's master is so far with a level, says the log. True when that is less than was known here: what was delivered beyond
    /// lies in another history.
    pub(super) fn follow_one(&mut self, level: i32, offset: i64) -> bool {
        let at = usize::try_from(level).ok().and_then(|level| level.checked_sub(1));
        let Some(level) = at.and_then(|at| self.levels.get_mut(at)) else { return false };
        let goes_back = offset < level.safe;
        if level.safe != offset {
            level.set(offset);
            self.file.touch();
        }
        if goes_back {
            // The file keeps the larger of what it holds and what the journal says.
            self.flush_now();
        }
        goes_back
    }

    /// Every level with its safe offset.
    pub(super) fn safe(&self) -> BTreeMap<i32, i64> {
        self.levels.iter().enumerate().map(|(at, level)| (at as i32 + 1, level.safe)).collect()
    }

    /// A level is at least so far, says the file.
    fn advance_to(&mut self, level: i32, offset: i64) {
        if let Some(level) = self.level_mut(level) {
            level.set(level.next.max(offset));
        }
    }

    /// A level is so far, says the journal, if the log ends at `end` or behind it.
    pub(super) fn claim(&mut self, level: i32, offset: i64, end: u64) {
        if let Some(level) = self.level_mut(level) {
            level.claims.push((offset, end));
        }
    }

    fn level_mut(&mut self, level: i32) -> Option<&mut Level> {
        let at = usize::try_from(level).ok()?.checked_sub(1)?;
        self.levels.get_mut(at)
    }

    /// The store is recovered: finds the queues, and looks at their heads.
    pub(super) fn begin(&mut self, store: &Store) -> Begun {
        let mut begun = Begun::default();
        for (at, level) in self.levels.iter_mut().enumerate() {
            let claims = core::mem::take(&mut level.claims);
            let holds = claims.iter().rfind(|(_, end)| *end <= store.log_end());
            if let Some((offset, _)) = holds {
                level.set(level.next.max(*offset));
            }
            if claims.last() != holds {
                Probe::DelayProgressTakenBack.reached();
                begun.is_taken_back = true;
                tracing::warn!(
                    level = at + 1,
                    offset = level.next,
                    "delayed messages whose delivery was lost are delivered again"
                );
            }
            if !claims.is_empty() {
                begun.told.push((at as i32 + 1, level.next));
            }
            level.queue = store.find_queue(names::SCHEDULE_TOPIC, at as i32);
            if let Some(queue) = level.queue {
                let end = store.max_offset(queue);
                if level.next > end {
                    tracing::warn!(
                        level = at + 1,
                        offset = level.next,
                        end,
                        "delay offset lies beyond its queue"
                    );
                    level.set(end);
                    begun.is_taken_back = true;
                }
                level.due = Due::At(Instant::ZERO);
            }
        }
        begun
    }

    /// A queue gained entries. The head of an empty one is due no sooner than after the whole delay.
    pub(super) fn arrived(&mut self, now: Instant, queue: QueueIx, delay_of: impl Fn(usize) -> i64) {
        for (at, level) in self.levels.iter_mut().enumerate() {
            if level.queue == Some(queue) && level.due == Due::Never {
                let delay = Duration::from_millis(u64::try_from(delay_of(at + 1)).unwrap_or(0));
                level.due = Due::At(now + delay.min(RECHECK_AFTER));
            }
        }
    }

    /// The queue of a level, once a message was put into it.
    pub(super) fn set_queue(&mut self, level: usize, queue: QueueIx) {
        if let Some(level) = self.levels.get_mut(level - 1) {
            level.queue = Some(queue);
        }
    }

    /// Offsets that became safe: `f` gets level, offset, and where the log ends that holds what was delivered.
    pub(super) fn settle_safe(&mut self, visible: u64, synced: u64, mut f: impl FnMut(i32, i64, u64)) {
        for (at, level) in self.levels.iter_mut().enumerate() {
            // As most are, in most turns.
            if level.delivered.is_empty() && level.unsynced.is_empty() {
                continue;
            }
            while let Some(delivered) = level.delivered.pop_front_if(|(end, _)| *end <= visible) {
                level.safe = delivered.1;
                level.unsynced.push_back(delivered);
            }
            if let Some((end, offset)) = level.unsynced.back().filter(|(_, offset)| *offset != level.told) {
                level.told = *offset;
                f(at as i32 + 1, *offset, *end);
            }
            while let Some((_, offset)) = level.unsynced.pop_front_if(|(end, _)| *end <= synced) {
                level.durable = offset;
                self.file.touch();
            }
        }
    }

    /// Whether all that is safe is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.levels.iter().all(|level| level.unsynced.is_empty()) && self.file.is_clean()
    }

    /// Whether the file should be written.
    pub(super) fn is_flush_due(&self, now: Instant) -> bool {
        now >= self.flush_due && self.file.is_due(now)
    }

    /// Its content; the next one is due an interval later.
    pub(super) fn take_json(&mut self, now: Instant) -> Vec<u8> {
        self.flush_due = now + FLUSH_INTERVAL;
        self.version.counter += 1;
        self.table(|level| level.durable)
    }

    /// How far each level is that was ever used, and where its queue ends.
    pub(super) fn progress(&self, store: &Store) -> BTreeMap<i32, (i64, i64)> {
        let used = self.levels.iter().enumerate().filter_map(|(at, level)| Some((at, level, level.queue?)));
        used.map(|(at, level, queue)| (at as i32 + 1, (level.safe, store.max_offset(queue)))).collect()
    }

    /// The table as RocketMQ writes it.
    pub(super) fn to_json(&self) -> Vec<u8> {
        self.table(|level| level.safe)
    }

    fn table(&self, offset_of: impl Fn(&Level) -> i64) -> Vec<u8> {
        let offsets = self.levels.iter().enumerate().map(|(at, level)| (at as i32 + 1, offset_of(level)));
        let table: BTreeMap<i32, i64> = offsets.filter(|(_, offset)| *offset > 0).collect();
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |object| {
            object.member("dataVersion", &self.version);
            object.member("offsetTable", &table);
        });
        out
    }

    pub(super) fn flush_now(&mut self) {
        self.flush_due = Instant::ZERO;
    }

    /// When the next head is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = |level: &Level| match level.due {
            Due::At(at) => Some(at),
            Due::Never | Due::Fetching(_) => None,
        };
        self.levels.iter().filter_map(due).min()
    }

    /// When the file is due.
    pub(super) fn file_deadline(&self) -> Option<Instant> {
        self.file.deadline().map(|retry| retry.max(self.flush_due))
    }

    pub(super) fn on_fetched(&mut self, id: FetchId, result: Result<(), DiskError>) -> bool {
        let Some(level) = self.levels.iter_mut().find(|level| level.due == Due::Fetching(id)) else {
            return false;
        };
        if let Err(error) = result {
            tracing::error!(%error, "a delayed message was not read");
        }
        // The bytes are there in this turn only.
        level.due = Due::At(Instant::ZERO);
        true
    }

    pub(super) fn check_invariants(&self) {
        for level in &self.levels {
            assert!(level.safe <= level.next, "nothing is safe that was not delivered");
            assert!(level.durable <= level.safe, "nothing is durable that is not safe");
        }
    }
}

impl Broker {
    /// Delivers what is due. Before the store settles, so that it is written in this turn.
    pub(super) fn settle_delays<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if !self.delivers() {
            return;
        }
        for at in 0..self.delays.levels.len() {
            if matches!(self.delays.levels[at].due, Due::At(due) if due <= now.mono) {
                let mut buffer = core::mem::take(&mut self.delays.buffer);
                buffer.clear();
                self.delays.levels[at].due = self.deliver_level(now, at, &mut buffer, env);
                self.delays.buffer = buffer;
            }
        }
    }

    /// Delivers the head of a level; when to look at it again.
    fn deliver_level<D: Disk>(
        &mut self,
        now: Now,
        at: usize,
        buffer: &mut Vec<u8>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Due {
        let Some(queue) = self.delays.levels[at].queue else { return Due::Never };
        let from = self.delays.levels[at].next;
        let latest = now.wall.0 + self.config.store.delay_of(at + 1);
        let (mut waits_for, mut due_count): (Option<i64>, u32) = (None, 0);
        let is_due = |deliver_at: i64| {
            // A time beyond the whole delay comes from a clock that has jumped back: due at once, as in RocketMQ.
            let due = waits_for.is_none() && (deliver_at <= now.wall.0 || deliver_at > latest);
            if due {
                due_count += 1;
            } else {
                waits_for.get_or_insert(deliver_at);
            }
            due
        };
        let read = self.store.read_messages(queue, from, DELIVER_LIMITS, is_due, env.disk, buffer);
        let soon = Due::At(now.mono);
        let outcome = match read {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(level = at + 1, offset = from, %error, "delayed messages not read");
                return Due::At(now.mono + RECHECK_AFTER);
            }
        };
        match outcome {
            ReadOutcome::Empty => return Due::Never,
            ReadOutcome::Cold(extent) => {
                let id = FetchId(self.ids.next());
                env.out.push(Effect::Fetch { id, at: extent });
                Probe::DelayedCold.reached();
                return Due::Fetching(id);
            }
            ReadOutcome::Beyond => {
                self.delays.levels[at].next = self.store.max_offset(queue);
                return Due::Never;
            }
            ReadOutcome::TooSmall => {
                self.delays.levels[at].next = self.store.min_offset(queue);
                return soon;
            }
            ReadOutcome::NoMatch { next } if waits_for.is_none() || due_count > 0 => {
                // Fillers only, or what was due is damaged and passed over.
                self.delays.levels[at].next = next;
                return soon;
            }
            ReadOutcome::NoMatch { .. } => {}
            ReadOutcome::Found { messages, .. } => {
                if !self.deliver_records(now, at, buffer, env) {
                    return Due::At(now.mono + RETRY_AFTER);
                }
                // What else is due was not in memory, or too much for once: it does not wait for what comes behind it.
                if messages < due_count {
                    return soon;
                }
            }
        }
        let Some(deliver_at) = waits_for else { return soon };
        let wait = Duration::from_millis(u64::try_from(deliver_at - now.wall.0).unwrap_or(0));
        Due::At(now.mono + wait.min(RECHECK_AFTER))
    }

    /// Stores due messages where they belong; false when one could not be.
    fn deliver_records<D: Disk>(
        &mut self,
        now: Now,
        at: usize,
        mut records: &[u8],
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        while !records.is_empty() {
            let Ok(Entry::Message(record)) = Entry::decode(records) else {
                tracing::error!(level = at + 1, "what a delay queue points at is not a message");
                return false;
            };
            records = &records[record.size as usize..];
            let next = record.queue_offset + 1;
            match self.deliver(now, &record, env.disk) {
                Ok(end) => {
                    let level = &mut self.delays.levels[at];
                    level.next = next;
                    level.delivered.push_back((end, next));
                }
                Err(error) => {
                    tracing::warn!(level = at + 1, error, "a delayed message is not delivered yet");
                    return false;
                }
            }
        }
        true
    }

    /// Stores one message where it belongs; the end of the record that must be safe. One that belongs nowhere is passed over.
    fn deliver<D: Disk>(&mut self, now: Now, record: &Record<'_>, disk: &mut D) -> Result<u64, String> {
        let text = |name: &[u8]| {
            property(record.properties, name).and_then(|value| core::str::from_utf8(value).ok())
        };
        let queue_id = text(b"REAL_QID").and_then(|id| id.parse::<i32>().ok()).filter(|id| *id >= 0);
        let (Some(topic), Some(queue_id)) = (text(b"REAL_TOPIC"), queue_id) else {
            tracing::error!(
                offset = record.physical_offset,
                "a delayed message without REAL_TOPIC and REAL_QID"
            );
            return Ok(0);
        };
        if topic == names::HALF_TOPIC {
            tracing::error!(
                offset = record.physical_offset,
                "a delayed message of the half topic is passed over"
            );
            return Ok(0);
        }
        let draft = Draft {
            topic,
            queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_host: self.config.store_host,
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            body: record.body,
            // RocketMQ keeps DELAY, REAL_TOPIC and REAL_QID in the delivered copy.
            properties: record.properties,
        };
        Probe::Delayed.reached();
        let stored = self.store_plain(now, &draft, disk);
        stored.map(|stored| stored.appended.end).map_err(|refusal| refusal.remark)
    }
}
