//! What each group has committed: `consumerOffset.json` in memory, with its journal.
//!
//! The broker itself never moves a committed offset back, except at the start: an offset beyond the end of its queue is set
//! to that end, because the messages it stood for are gone.
//!
//! See [`super::journal`] for what survives which death.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::journal::{self, Journal};
use super::persist::ConfigFile;
use super::store::Store;
use super::upstream::Commit;
use super::{NameMap, names};
use crate::io::{Disk, DiskError, Effect, SyncId};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, BodyError, ConsumerOffsetSerializeWrapper, DataVersion};

/// A topic and a group that have met here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Pair(usize);

/// The offsets of one group in one topic.
#[derive(Debug)]
struct Entry {
    /// `topic@group`
    key: String,
    /// By queue id; few, and mostly asked for in turn.
    queues: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    queue_id: i32,
    offset: i64,
    /// Committed in this turn, so listed in `pending`.
    pending: bool,
    /// Not carried in the log yet, so listed in `uncarried`.
    uncarried: bool,
    /// Committed at this slave, and its master has not taken it yet.
    away: bool,
}

/// The file, with what it holds beyond RocketMQ's.
#[derive(serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct OwnMembers {
    gantry_carried_up_to: Option<i64>,
    gantry_deleted_topics: BTreeMap<String, u64>,
    gantry_generation: u64,
}

/// All committed offsets.
#[derive(Debug)]
pub(super) struct Offsets {
    /// Never iterated.
    by_key: NameMap<String, usize>,
    entries: Vec<Entry>,
    /// Where an operator put a group, until its next pull hears of it. In memory only, as in RocketMQ: the offset itself is
    /// committed too.
    resets: BTreeMap<(Pair, i32), i64>,
    /// Committed in this turn: entry and slot.
    pending: Vec<(usize, usize)>,
    /// How far each delay level is, kept in the journal only: their own file is written too seldom.
    delays: BTreeMap<i32, (i64, u64)>,
    /// What the journal told of them: level, offset, and where the log must end for it to count.
    delays_told: Vec<(i32, i64, u64)>,
    /// Of the level whose record comes next in the journal.
    delay_end: (i32, u64),
    delays_pending: BTreeSet<i32>,
    /// Deletions of topics that are taken into account: up to where in the log each reached.
    deleted: BTreeMap<String, u64>,
    deleted_pending: BTreeSet<String>,
    /// What the log carries of changes is taken into account up to here in its queue (see [`super::carry`]).
    carried: Option<i64>,
    carried_pending: bool,
    /// Whether what is not in the log yet is listed: entry and slot, and delay levels.
    is_carrying: bool,
    uncarried: Vec<(usize, usize)>,
    delays_uncarried: BTreeSet<i32>,
    /// How often an offset has changed in this life.
    changes: u64,
    version: DataVersion,
    pub(super) file: ConfigFile,
    flush_interval: Duration,
    flush_due: Instant,
    /// Generation of the JSON file on the disk.
    generation: u64,
    journal: Option<Journal>,
    /// Of the file that is on its way.
    next_journal: Option<Journal>,
    /// The first file of this life was written, or could not be.
    is_begun: bool,
    records: Vec<u8>,
    key: String,
}

impl Offsets {
    pub(super) fn new(flush_interval: Duration) -> Offsets {
        Offsets {
            by_key: NameMap::default(),
            entries: Vec::new(),
            resets: BTreeMap::new(),
            pending: Vec::new(),
            delays: BTreeMap::new(),
            delays_told: Vec::new(),
            delay_end: (0, 0),
            delays_pending: BTreeSet::new(),
            deleted: BTreeMap::new(),
            deleted_pending: BTreeSet::new(),
            carried: None,
            carried_pending: false,
            is_carrying: false,
            uncarried: Vec::new(),
            delays_uncarried: BTreeSet::new(),
            changes: 0,
            version: DataVersion::default(),
            file: ConfigFile::new("config/consumerOffset.json"),
            flush_interval,
            flush_due: Instant::ZERO,
            generation: 0,
            journal: None,
            next_journal: None,
            is_begun: false,
            records: Vec::new(),
            key: String::new(),
        }
    }

    /// Takes what the file holds.
    ///
    /// # Errors
    /// [`BodyError`]: it is not such a file.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let wrapper: ConsumerOffsetSerializeWrapper = body::decode(bytes)?;
        let OwnMembers { gantry_generation, gantry_deleted_topics, gantry_carried_up_to } =
            body::decode(bytes)?;
        self.carried = gantry_carried_up_to;
        self.version = wrapper.data_version.unwrap_or_default();
        self.generation = gantry_generation;
        self.deleted = gantry_deleted_topics;
        for (key, queues) in wrapper.offset_table {
            for (queue_id, offset) in queues {
                self.set(&key, queue_id, offset);
            }
        }
        self.pending_done();
        Ok(())
    }

    /// Takes what was committed after the file was written, and begins a new generation, so that nothing is ever appended
    /// to a journal of unknown length.
    ///
    /// # Errors
    /// [`DiskError`] when the journal is there but cannot be read.
    pub(super) fn recover(&mut self, now: Instant, disk: &mut impl Disk) -> Result<(), DiskError> {
        let mut replayed = Vec::new();
        if self.generation > 0 {
            journal::replay(self.generation, disk, |key, queue_id, offset| {
                replayed.push((String::from(key), queue_id, offset));
            })?;
        }
        if !replayed.is_empty() {
            tracing::info!(records = replayed.len(), "committed offsets taken from the journal");
        }
        for (key, queue_id, offset) in replayed {
            if key == names::SCHEDULE_TOPIC {
                self.replay_delay(queue_id, offset);
                continue;
            }
            if key == names::METADATA_TOPIC {
                self.carried = (offset >= 0).then_some(offset);
                continue;
            }
            if let Some(topic) = key.strip_suffix('@') {
                self.forget_topic(topic, offset.unsigned_abs());
                continue;
            }
            self.set(&key, queue_id, offset);
        }
        self.pending_done();
        self.deleted_pending.clear();
        self.file.touch();
        self.flush_due = now;
        Ok(())
    }

    /// Sets offsets beyond the end of their queues to that end; whether there were any.
    pub(super) fn clamp(&mut self, store: &Store) -> bool {
        let mut is_clamped = false;
        for entry in &mut self.entries {
            let topic = entry.key.rsplit_once('@').map_or(entry.key.as_str(), |(topic, _)| topic);
            for slot in &mut entry.queues {
                let end = store.find_queue(topic, slot.queue_id).map_or(0, |queue| store.max_offset(queue));
                if slot.offset > end {
                    Probe::OffsetClamped.reached();
                    tracing::warn!(
                        key = entry.key,
                        queue_id = slot.queue_id,
                        offset = slot.offset,
                        end,
                        "committed offset lies beyond the end of its queue: set to the end"
                    );
                    slot.offset = end;
                    is_clamped = true;
                }
            }
        }
        is_clamped
    }

    /// What a group has committed; -1 is RocketMQ's word for nothing.
    pub(super) fn query(&mut self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.build_key(group, topic);
        let entry = &self.entries[*self.by_key.get(self.key.as_str())?];
        let slot = entry.queues.iter().find(|slot| slot.queue_id == queue_id)?;
        (slot.offset >= 0).then_some(slot.offset)
    }

    /// The same for an onlooker.
    pub(super) fn look_up(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        let entry = &self.entries[*self.by_key.get(alloc::format!("{topic}@{group}").as_str())?];
        let slot = entry.queues.iter().find(|slot| slot.queue_id == queue_id)?;
        (slot.offset >= 0).then_some(slot.offset)
    }

    /// A client's commit. Any value is taken, lower ones too: clients and operators may go back.
    pub(super) fn commit(&mut self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        self.build_key(group, topic);
        let key = core::mem::take(&mut self.key);
        self.set(&key, queue_id, offset);
        self.key = key;
    }

    /// A client's commit at a slave, which goes home.
    pub(super) fn commit_away(&mut self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        self.commit(group, topic, queue_id, offset);
        self.build_key(group, topic);
        if let Some(slot) = self.by_key.get(self.key.as_str()).and_then(|at| self.entries.get_mut(*at))
            && let Some(slot) = slot.queues.iter_mut().find(|slot| slot.queue_id == queue_id)
        {
            slot.away = true;
        }
    }

    /// A slave takes its master's offsets, but for those that clients committed here and that are ahead of them; these it
    /// hands out.
    ///
    /// # Errors
    /// [`BodyError`]: it is no such table; nothing was changed then.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<Vec<Commit>, BodyError> {
        let wrapper: ConsumerOffsetSerializeWrapper = body::decode(bytes)?;
        for (key, queues) in wrapper.offset_table {
            for (queue_id, offset) in queues {
                self.follow_one(&key, queue_id, offset);
            }
        }
        Ok(self.away())
    }

    /// The same for a slave whose log has not come as far as the master's: what lies beyond `end_of` a queue here is cut to that.
    ///
    /// # Errors
    /// [`BodyError`]: it is no such table; nothing was changed then.
    pub(super) fn follow_within(
        &mut self,
        bytes: &[u8],
        end_of: impl Fn(&str, i32) -> i64,
    ) -> Result<(), BodyError> {
        let wrapper: ConsumerOffsetSerializeWrapper = body::decode(bytes)?;
        for (key, queues) in wrapper.offset_table {
            let topic = key.rsplit_once('@').map_or(key.as_str(), |(topic, _)| topic);
            for (queue_id, offset) in queues {
                let end = end_of(topic, queue_id);
                if end > 0 {
                    self.follow_one(&key, queue_id, offset.min(end));
                }
            }
        }
        Ok(())
    }

    /// A slave takes one offset of its master's, unless a client has committed a later one here.
    pub(super) fn follow_one(&mut self, key: &str, queue_id: i32, offset: i64) {
        let at = self.entry(key);
        if let Some(slot) = self.entries[at].queues.iter_mut().find(|slot| slot.queue_id == queue_id) {
            if slot.away && slot.offset > offset {
                return;
            }
            slot.away = false;
        }
        self.set(key, queue_id, offset);
    }

    /// A slave's master has nothing but this: everything else that was not committed here goes.
    pub(super) fn follow_only(&mut self, table: &BTreeMap<String, BTreeMap<i32, i64>>) {
        let is_known =
            |key: &str, queue_id: i32| table.get(key).is_some_and(|queues| queues.contains_key(&queue_id));
        let slots = |entry: &Entry| {
            let key = entry.key.clone();
            let live = entry.queues.iter().filter(|slot| slot.offset >= 0 && !slot.away);
            let gone = live.filter(|slot| !is_known(&entry.key, slot.queue_id));
            gone.map(|slot| (key.clone(), slot.queue_id)).collect::<Vec<_>>()
        };
        let gone: Vec<(String, i32)> = self.entries.iter().flat_map(slots).collect();
        for (key, queue_id) in gone {
            self.set(&key, queue_id, -1);
        }
        for (key, queues) in table {
            for (queue_id, offset) in queues {
                self.follow_one(key, *queue_id, *offset);
            }
        }
    }

    /// What clients committed here and the master has not taken yet.
    pub(super) fn away(&self) -> Vec<Commit> {
        let away = |entry: &Entry| {
            let key = entry.key.clone();
            let away: Vec<Commit> = entry
                .queues
                .iter()
                .filter(|slot| slot.away && slot.offset >= 0)
                .map(|slot| Commit { key: key.clone(), queue_id: slot.queue_id, offset: slot.offset })
                .collect();
            away
        };
        self.entries.iter().flat_map(away).collect()
    }

    /// The master has taken a commit of this slave.
    pub(super) fn came_home(&mut self, commit: &Commit) {
        let Some(at) = self.by_key.get(commit.key.as_str()) else { return };
        let slots = self.entries[*at].queues.iter_mut();
        for slot in slots.filter(|slot| slot.queue_id == commit.queue_id && slot.offset == commit.offset) {
            slot.away = false;
        }
    }

    /// This broker is the master now: no commit has to go anywhere.
    pub(super) fn all_are_home(&mut self) {
        for slot in self.entries.iter_mut().flat_map(|entry| &mut entry.queues) {
            slot.away = false;
        }
    }

    /// The name of a topic and a group here.
    pub(super) fn pair(&mut self, group: &str, topic: &str) -> Pair {
        self.build_key(group, topic);
        let key = core::mem::take(&mut self.key);
        let at = self.entry(&key);
        self.key = key;
        Pair(at)
    }

    /// The same, if they have met.
    pub(super) fn known_pair(&mut self, group: &str, topic: &str) -> Option<Pair> {
        self.build_key(group, topic);
        self.by_key.get(self.key.as_str()).copied().map(Pair)
    }

    /// Puts a group somewhere else: committed at once, told to its next pull, and no commit counts until then.
    pub(super) fn reset(&mut self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        self.commit(group, topic, queue_id, offset);
        let pair = self.pair(group, topic);
        self.resets.insert((pair, queue_id), offset);
    }

    /// Whether a group was put somewhere else and has not heard of it.
    pub(super) fn is_reset(&mut self, group: &str, topic: &str, queue_id: i32) -> bool {
        if self.resets.is_empty() {
            return false;
        }
        let pair = self.pair(group, topic);
        self.resets.contains_key(&(pair, queue_id))
    }

    /// Where the group was put, told once.
    pub(super) fn take_reset(&mut self, pair: Pair, queue_id: i32) -> Option<i64> {
        if self.resets.is_empty() {
            return None;
        }
        self.resets.remove(&(pair, queue_id))
    }

    fn names(entry: &Entry) -> (&str, &str) {
        entry.key.rsplit_once('@').unwrap_or((&entry.key, ""))
    }

    fn committed(entry: &Entry) -> bool {
        entry.queues.iter().any(|slot| slot.offset >= 0)
    }

    /// Topics in which a group has committed something, sorted.
    pub(super) fn topics_of(&self, group: &str) -> BTreeSet<String> {
        let live = self.entries.iter().filter(|entry| Self::committed(entry)).map(Self::names);
        live.filter(|(_, of)| *of == group).map(|(topic, _)| topic.into()).collect()
    }

    /// Groups that have committed something in a topic, sorted.
    pub(super) fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let live = self.entries.iter().filter(|entry| Self::committed(entry)).map(Self::names);
        live.filter(|(of, _)| *of == topic).map(|(_, group)| group.into()).collect()
    }

    /// What a group has committed in a topic, by queue.
    pub(super) fn of(&mut self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        self.build_key(group, topic);
        let Some(at) = self.by_key.get(self.key.as_str()) else { return BTreeMap::new() };
        let live = self.entries[*at].queues.iter().filter(|slot| slot.offset >= 0);
        live.map(|slot| (slot.queue_id, slot.offset)).collect()
    }

    /// Forgets what was committed in a topic, or by a group.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&str, &str) -> bool) {
        let gone = self.entries.iter().filter(|entry| {
            let (topic, group) = Self::names(entry);
            is_gone(topic, group)
        });
        let gone: Vec<(String, Vec<i32>)> = gone
            .map(|entry| (entry.key.clone(), entry.queues.iter().map(|slot| slot.queue_id).collect()))
            .collect();
        for (key, queues) in gone {
            for queue_id in queues {
                self.set(&key, queue_id, -1);
            }
        }
    }

    /// A topic was deleted up to there in the log: what was committed in it is forgotten, and a topic of that name begins anew.
    pub(super) fn forget_topic(&mut self, topic: &str, upto: u64) {
        self.forget(|of, _| of == topic);
        let entries = &self.entries;
        self.resets.retain(|(pair, _), _| Self::names(&entries[pair.0]).0 != topic);
        self.deleted.insert(topic.into(), upto);
        self.deleted_pending.insert(topic.into());
    }

    /// Whether what was committed in a topic is forgotten up to there in the log.
    pub(super) fn has_forgotten(&self, topic: &str, upto: u64) -> bool {
        self.deleted.get(topic) == Some(&upto)
    }

    /// What was committed in topics that were deleted since is forgotten: the list says up to where in the log they were.
    pub(super) fn follow_deletions<'a>(&mut self, list: impl Iterator<Item = (&'a str, u64)>) {
        let list: BTreeMap<&str, u64> = list.collect();
        self.deleted.retain(|topic, _| list.contains_key(topic.as_str()));
        for (topic, upto) in list {
            // A place in the list may have moved down with the log's end, never up.
            if self.deleted.get(topic).is_none_or(|known| *known < upto) {
                self.forget_topic(topic, upto);
            }
        }
    }

    /// A delay level is so far, by what the log holds below `end`.
    pub(super) fn note_delay(&mut self, level: i32, offset: i64, end: u64) {
        self.delays.insert(level, (offset, end));
        self.delays_pending.insert(level);
        if self.is_carrying {
            self.delays_uncarried.insert(level);
        }
    }

    /// Up to where in its queue the log's changes are taken into account.
    pub(super) fn carried(&self) -> Option<i64> {
        self.carried
    }

    /// They are, up to there; none says that these tables come from elsewhere.
    pub(super) fn set_carried(&mut self, upto: Option<i64>) {
        if self.carried != upto {
            self.carried = upto;
            self.carried_pending = true;
        }
    }

    /// Lists from now on what the log does not carry yet, or nothing.
    pub(super) fn set_carrying(&mut self, is_carrying: bool) {
        self.is_carrying = is_carrying;
        self.take_uncarried(|_, _, _| {}, |_, _| {});
    }

    /// Whether something is not in the log yet.
    pub(super) fn has_uncarried(&self) -> bool {
        !self.uncarried.is_empty() || !self.delays_uncarried.is_empty()
    }

    /// Hands over what is not in the log yet: offsets by `topic@group` and queue, and delay levels.
    pub(super) fn take_uncarried(
        &mut self,
        mut offset: impl FnMut(&str, i32, i64),
        mut delay: impl FnMut(i32, i64),
    ) {
        for (entry, slot) in core::mem::take(&mut self.uncarried) {
            let Entry { key, queues } = &mut self.entries[entry];
            queues[slot].uncarried = false;
            offset(key, queues[slot].queue_id, queues[slot].offset);
        }
        for level in core::mem::take(&mut self.delays_uncarried) {
            delay(level, self.delays.get(&level).map_or(0, |(offset, _)| *offset));
        }
    }

    /// How often an offset has changed in this life, for an onlooker.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Hands over what the journal told of delay levels, oldest first: level, offset, and where the log must end for it to count.
    pub(super) fn take_delays(&mut self, mut f: impl FnMut(i32, i64, u64)) {
        for (level, offset, end) in core::mem::take(&mut self.delays_told) {
            f(level, offset, end);
        }
    }

    /// The journal's records of a level come in pairs, but for those that count in any case.
    fn replay_delay(&mut self, level: i32, number: i64) {
        if level < 0 {
            self.delay_end = (-level, number.unsigned_abs());
            return;
        }
        let end = if self.delay_end.0 == level { self.delay_end.1 } else { 0 };
        self.delay_end = (0, 0);
        self.delays.insert(level, (number, end));
        self.delays_told.push((level, number, end));
    }

    fn build_key(&mut self, group: &str, topic: &str) {
        self.key.clear();
        self.key.push_str(topic);
        self.key.push('@');
        self.key.push_str(group);
    }

    fn entry(&mut self, key: &str) -> usize {
        if let Some(at) = self.by_key.get(key) {
            return *at;
        }
        self.by_key.insert(key.into(), self.entries.len());
        self.entries.push(Entry { key: key.into(), queues: Vec::new() });
        self.entries.len() - 1
    }

    fn set(&mut self, key: &str, queue_id: i32, offset: i64) {
        let at = self.entry(key);
        let queues = &mut self.entries[at].queues;
        let slot = queues.iter().position(|slot| slot.queue_id == queue_id).unwrap_or_else(|| {
            let slot = Slot { queue_id, offset: -1, pending: false, uncarried: false, away: false };
            queues.push(slot);
            queues.len() - 1
        });
        if queues[slot].offset == offset {
            return;
        }
        queues[slot].offset = offset;
        self.changes += 1;
        if self.is_carrying && !queues[slot].uncarried {
            queues[slot].uncarried = true;
            self.uncarried.push((at, slot));
        }
        if !queues[slot].pending {
            queues[slot].pending = true;
            self.pending.push((at, slot));
        }
    }

    fn pending_done(&mut self) {
        for (entry, slot) in self.pending.drain(..) {
            self.entries[entry].queues[slot].pending = false;
        }
    }

    /// Ends a turn: writes its commits to the journals, and begins to replace the file when that is due.
    pub(super) fn settle<D: Disk, E>(
        &mut self,
        now: Instant,
        next_sync: impl FnOnce() -> SyncId,
        disk: &mut D,
        out: &mut Vec<Effect<E>>,
    ) {
        self.write_pending(disk);
        if self.file.is_due(now) && (now >= self.flush_due || self.is_journal_full()) {
            self.begin_replacement(now, next_sync(), disk, out);
        }
    }

    fn is_journal_full(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_full)
    }

    fn write_pending(&mut self, disk: &mut impl Disk) {
        if self.pending.is_empty()
            && self.delays_pending.is_empty()
            && self.deleted_pending.is_empty()
            && !self.carried_pending
        {
            return;
        }
        self.records.clear();
        for level in core::mem::take(&mut self.delays_pending) {
            let (offset, end) = self.delays.get(&level).copied().unwrap_or((0, 0));
            put_delay(level, offset, end, &mut self.records);
        }
        for topic in core::mem::take(&mut self.deleted_pending) {
            let upto = self.deleted.get(&topic).copied().unwrap_or(0);
            journal::put_record(&alloc::format!("{topic}@"), 0, upto as i64, &mut self.records);
        }
        for (entry, slot) in &self.pending {
            let entry = &self.entries[*entry];
            let slot = &entry.queues[*slot];
            journal::put_record(&entry.key, slot.queue_id, slot.offset, &mut self.records);
        }
        // Last: whoever reads it finds everything that it speaks of.
        if core::mem::take(&mut self.carried_pending) {
            let upto = self.carried.unwrap_or(-1);
            journal::put_record(names::METADATA_TOPIC, 0, upto, &mut self.records);
        }
        self.pending_done();
        self.file.touch();
        for journal in [&mut self.journal, &mut self.next_journal] {
            if let Some(open) = journal
                && let Err(error) = open.append(&self.records, disk)
            {
                tracing::warn!(%error, "commits are not safe from a crash until consumerOffset.json is written");
                *journal = None;
                self.flush_due = Instant::ZERO;
            }
        }
    }

    fn begin_replacement<D: Disk, E>(
        &mut self,
        now: Instant,
        id: SyncId,
        disk: &mut D,
        out: &mut Vec<Effect<E>>,
    ) {
        let next = self.generation + 1;
        // The delay levels are in no other file of this generation.
        self.records.clear();
        for (level, (offset, end)) in &self.delays {
            put_delay(*level, *offset, *end, &mut self.records);
        }
        let created = Journal::create(next, disk).and_then(|mut journal| {
            journal.append(&self.records, disk)?;
            Ok(journal)
        });
        self.next_journal = match created {
            Ok(journal) => Some(journal),
            Err(error) => {
                tracing::warn!(%error, "no journal: commits are safe from a crash only with consumerOffset.json");
                None
            }
        };
        self.version.counter += 1;
        let bytes = self.to_json(Some(next));
        self.file.begin(id, bytes, out);
        self.flush_due = now + self.flush_interval;
    }

    /// Takes a completed replacement; `None` when it is another file's. See [`ConfigFile::on_synced`].
    pub(super) fn on_synced(
        &mut self,
        now: Instant,
        id: SyncId,
        result: Result<(), DiskError>,
        disk: &mut impl Disk,
    ) -> Option<Result<(), DiskError>> {
        let outcome = self.file.on_synced(now, id, result)?;
        self.is_begun = true;
        let obsolete = if result.is_ok() {
            self.generation += 1;
            core::mem::replace(&mut self.journal, self.next_journal.take())
        } else {
            self.next_journal.take()
        };
        if let Some(journal) = obsolete {
            journal.remove(disk);
        }
        Some(outcome)
    }

    /// Whether commits may be acknowledged: they go to a journal that the next life reads, or there is none to be had. Until the first
    /// file of this life is there, the next one reads the journal of the life before, to which nothing is added.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// When the file is to be written next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.file.deadline().map(|retry| retry.max(self.flush_due))
    }

    /// Writes the file as soon as it may be.
    pub(super) fn flush_now(&mut self) {
        self.flush_due = Instant::ZERO;
    }

    /// The table as RocketMQ writes it.
    pub(super) fn to_json(&self, generation: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        body::ObjectWriter::write(&mut out, |object| {
            object.member("dataVersion", &self.version);
            if let Some(generation) = generation {
                if let Some(upto) = &self.carried {
                    object.member("gantryCarriedUpTo", upto);
                }
                if !self.deleted.is_empty() {
                    object.member("gantryDeletedTopics", &self.deleted);
                }
                object.member("gantryGeneration", &generation);
            }
            object.member("offsetTable", &self.table());
        });
        out
    }

    /// The offsets by `topic@group`, then by queue.
    pub(super) fn table(&self) -> BTreeMap<&str, BTreeMap<i32, i64>> {
        let queues = |entry: &Entry| {
            let live = entry.queues.iter().filter(|slot| slot.offset >= 0);
            live.map(|slot| (slot.queue_id, slot.offset)).collect()
        };
        let live = self.entries.iter().filter(|entry| Self::committed(entry));
        live.map(|entry| (entry.key.as_str(), queues(entry))).collect()
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_key.len(), self.entries.len(), "every entry has one key");
        let pending: usize =
            self.entries.iter().map(|entry| entry.queues.iter().filter(|slot| slot.pending).count()).sum();
        assert_eq!(pending, self.pending.len(), "what was committed in this turn is listed once");
    }
}

/// How far a delay level is. Its place in the log goes first: without it the offset would count in any case.
fn put_delay(level: i32, offset: i64, end: u64, records: &mut Vec<u8>) {
    if end > 0 {
        journal::put_record(names::SCHEDULE_TOPIC, -level, end as i64, records);
    }
    journal::put_record(names::SCHEDULE_TOPIC, level, offset, records);
}
