//! A master's tables, carried to its slaves in the log: topics, groups, committed offsets, delay levels.
//!
//! RocketMQ's slaves poll for them, so what they know is seconds old, and it may speak of messages that they do not have. A Gantry
//! master that has Gantry slaves puts every change into its log, as an ordinary message of [`names::METADATA_TOPIC`], queue 0; a slave
//! takes it as its log brings it. So a slave's tables are those that its master had when it wrote the end of the slave's log: an
//! offset never lies beyond the slave's messages, and it is not older than they are. RocketMQ's brokers find one more topic.
//!
//! ```text
//! body of a message: JSON, the members of RocketMQ's own files; all may be missing
//! first, last                             whole tables begin, and are complete, with this message; what is not in them is gone
//! topicVersion, topicConfigTable, goneTopics, deletedTopics     deletedTopics as in topics.json, and only what is durable
//! groupVersion, subscriptionGroupTable, forbiddenTable, goneGroups
//! offsetTable {"TOPIC@GROUP":{"QUEUE":OFFSET}}, delayOffsetTable {"LEVEL":OFFSET}     -1: nothing is committed any more
//! queueEndTable {"TOPIC":{"QUEUE":OFFSET}}     queues that hold nothing, and how far they went: see `ends.rs`
//! ```
//! **The master** puts in the whole tables once it is known to have a Gantry slave: when one asks for its epochs, and at each of
//! its starts as long as its log holds such messages; and anew when retention has removed them. From then on changes go in
//! once a turn, [`super::BrokerConfig::metadata_interval`] apart at least: the first one after a quiet time in the turn that made
//! it. While nothing changes nothing is written. Of topics, only what is durable goes in. A clean stop puts in what is left.
//!
//! **A slave** keeps how far it has taken them in the journal of offsets, and moves that on only when what it took is in its
//! files; so after every crash it goes on from there, and taking something twice changes nothing. A broker also reads on as it
//! starts, as a slave or a master, and before a promotion is complete: what its log holds, its tables have. Its own messages, which
//! it wrote as a master, tell a master that lost power of offsets only: its files know better of the rest.
//!
//! A slave that has not met whole tables in its log yet, because it joined late, polls as before; of offsets it takes no more
//! than its queues have.
//!
//! Absent on purpose: a resumable writing of the whole tables. They are made in one turn, which for 10,000 topics takes
//! about as long as an answer to a slave's poll.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::persist::Generation;
use super::store::{AppendError, ReadLimits, ReadOutcome};
use super::{Broker, BrokerEvent, names};
use crate::io::{Disk, DiskError, Effect, Env, FetchId, Now};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{
    self, DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper, TopicConfig, perm,
};
use crate::wire::message::{Draft, Entry};

/// Bytes of a message's body, about; a quarter of a segment at most.
const PART_BYTES_MAX: u64 = 64 * 1024;
/// A message that the store does not take now is offered again after this.
const APPEND_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// One for which there is no room.
const ROOM_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// And one that its disk does not take.
const DISK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// What cannot be read is read again after this.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Read a turn.
const READ_LIMITS: ReadLimits = ReadLimits { messages_max: 64, bytes_max: 256 * 1024 };

/// The body of a message.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Change {
    #[serde(skip_serializing_if = "is_false")]
    first: bool,
    #[serde(skip_serializing_if = "is_false")]
    last: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_version: Option<DataVersion>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    topic_config_table: BTreeMap<String, TopicConfig>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    gone_topics: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_topics: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_version: Option<DataVersion>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    gone_groups: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    delay_offset_table: BTreeMap<i32, i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    queue_end_table: BTreeMap<String, BTreeMap<i32, u64>>,
    /// Where in the log it begins.
    #[serde(skip)]
    at: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
fn is_false(it: &bool) -> bool {
    !it
}

impl Change {
    /// Takes what the next part of the same tables holds.
    fn join(&mut self, next: Change) {
        self.last |= next.last;
        self.topic_version = next.topic_version.or(self.topic_version);
        self.topic_config_table.extend(next.topic_config_table);
        self.gone_topics.extend(next.gone_topics);
        self.deleted_topics = next.deleted_topics.or_else(|| self.deleted_topics.take());
        self.group_version = next.group_version.or(self.group_version);
        self.subscription_group_table.extend(next.subscription_group_table);
        self.forbidden_table.extend(next.forbidden_table);
        self.gone_groups.extend(next.gone_groups);
        for (key, queues) in next.offset_table {
            self.offset_table.entry(key).or_default().extend(queues);
        }
        self.delay_offset_table.extend(next.delay_offset_table);
        for (topic, queues) in next.queue_end_table {
            self.queue_end_table.entry(topic).or_default().extend(queues);
        }
    }

    fn groups(&mut self, version: DataVersion) -> SubscriptionGroupWrapper {
        SubscriptionGroupWrapper {
            data_version: version,
            forbidden_table: core::mem::take(&mut self.forbidden_table),
            subscription_group_table: core::mem::take(&mut self.subscription_group_table),
        }
    }
}

/// Changes, in parts that are messages.
#[derive(Debug)]
struct Parts {
    done: Vec<Change>,
    part: Change,
    bytes: usize,
    bytes_max: usize,
}

impl Parts {
    fn new(bytes_max: usize) -> Parts {
        Parts { done: Vec::new(), part: Change::default(), bytes: 0, bytes_max }
    }

    /// The part that has room for so much.
    fn room(&mut self, bytes: usize) -> &mut Change {
        if self.bytes > 0 && self.bytes + bytes > self.bytes_max {
            self.done.push(core::mem::take(&mut self.part));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.part
    }

    fn topics<'a>(
        &mut self,
        version: DataVersion,
        put: impl IntoIterator<Item = &'a TopicConfig>,
        gone: &BTreeSet<&str>,
    ) {
        for config in put {
            let part = self.room(body::encode(config).len() + config.topic_name.len() + 8);
            part.topic_version = Some(version);
            part.topic_config_table.insert(config.topic_name.clone(), config.clone());
        }
        for name in gone {
            let part = self.room(name.len() + 8);
            part.topic_version = Some(version);
            part.gone_topics.insert((*name).into());
        }
    }

    fn groups(&mut self, wrapper: SubscriptionGroupWrapper, gone: BTreeSet<String>) {
        let SubscriptionGroupWrapper { data_version, mut forbidden_table, subscription_group_table } =
            wrapper;
        for (name, config) in subscription_group_table {
            let forbidden = forbidden_table.remove(&name);
            let bytes = body::encode(&config).len() + body::encode(&forbidden).len() + 2 * name.len() + 16;
            let part = self.room(bytes);
            part.group_version = Some(data_version);
            part.forbidden_table.extend(forbidden.map(|forbidden| (name.clone(), forbidden)));
            part.subscription_group_table.insert(name, config);
        }
        for name in gone {
            let part = self.room(name.len() + 8);
            part.group_version = Some(data_version);
            part.gone_groups.insert(name);
        }
    }

    fn deletions(&mut self, list: BTreeMap<String, u64>) {
        let bytes = body::encode(&list).len() + 20;
        self.room(bytes).deleted_topics = Some(list);
    }

    fn offset(&mut self, key: &str, queue_id: i32, offset: i64) {
        let part = self.room(key.len() + 40);
        part.offset_table.entry(key.into()).or_default().insert(queue_id, offset);
    }

    fn queue_end(&mut self, topic: &str, queue_id: i32, end: u64) {
        let part = self.room(topic.len() + 40);
        part.queue_end_table.entry(topic.into()).or_default().insert(queue_id, end);
    }

    fn delay(&mut self, level: i32, offset: i64) {
        self.room(30).delay_offset_table.insert(level, offset);
    }

    /// All parts; none of nothing.
    fn into_changes(mut self) -> Vec<Change> {
        if self.bytes > 0 {
            self.done.push(self.part);
        }
        self.done
    }
}

/// What has been read, and what of it must be in files before that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taken {
    upto: i64,
    topics: Generation,
    groups: Generation,
    delays: Generation,
}

/// Both sides of it; one of them has work.
#[derive(Debug, Default)]
pub(super) struct Carry {
    /// A Gantry slave has asked for the epochs in this life.
    is_attached: bool,
    /// The log was looked at for messages of lives before.
    has_looked: bool,
    is_writing: bool,
    /// The whole tables are to be written.
    is_whole_due: bool,
    /// Where the last whole tables begin in the log.
    base_at: Option<u64>,
    /// Messages to be written, and whether each begins whole tables.
    outbox: VecDeque<(bool, Vec<u8>)>,
    written_at: Option<Instant>,
    append_at: Instant,
    /// Changes of the topics' file that are in the log.
    topics_upto: Generation,
    deletions: BTreeMap<String, u64>,
    deletions_upto: Generation,

    /// Whether the master that is followed writes its tables into its log; none until it has said so.
    follows: Option<bool>,
    /// These tables are what the log says, but for what has not been read of it.
    is_based: bool,
    /// In the queue, what is read next.
    next: Option<i64>,
    fetching: Option<FetchId>,
    read_at: Instant,
    /// Whole tables of which not all has been read.
    whole: Option<Change>,
    taken: VecDeque<Taken>,
    buffer: Vec<u8>,
}

impl Carry {
    /// A Gantry slave is about to follow.
    pub(super) fn attach(&mut self) {
        self.is_attached = true;
    }

    /// Whether the master that is followed writes its tables into its log.
    pub(super) fn set_follows(&mut self, follows: bool) {
        self.follows = Some(follows);
    }

    pub(super) fn follows(&self) -> Option<bool> {
        self.follows
    }

    /// Whether these tables are what the log says.
    pub(super) fn is_based(&self) -> bool {
        self.is_based
    }

    fn is_read(&self) -> bool {
        self.is_based || self.follows == Some(true)
    }

    fn due(&self, interval: Duration) -> Instant {
        self.written_at.map_or(Instant::ZERO, |at| at + interval)
    }

    /// A fetch completed; false when it is somebody else's. The bytes are there in this turn only.
    pub(super) fn on_fetched(&mut self, now: Now, id: FetchId, result: Result<(), DiskError>) -> bool {
        let is_own = self.fetching.take_if(|fetching| *fetching == id).is_some();
        if is_own && let Err(error) = result {
            tracing::error!(%error, "what the log carries of the tables was not read");
            self.read_at = now.mono + READ_AGAIN_AFTER;
        }
        is_own
    }
}

impl Broker {
    /// A master writes what has changed. Before the store settles, so that it is written in this turn.
    pub(super) fn settle_carrying<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        self.carry_changes(now, now.mono >= self.carry.due(self.config.metadata_interval), env.disk);
    }

    /// The same as the store is about to take nothing more, however short a time ago the last change went in: whoever is made the master
    /// after a clean stop knows of every commit. False when the log does not take it now.
    pub(super) fn carry_last<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) -> bool {
        self.carry_changes(now, true, env.disk);
        self.carry.outbox.is_empty()
    }

    fn carry_changes(&mut self, now: Now, is_due: bool, disk: &mut impl Disk) {
        if !self.delivers() || !self.config.metadata_in_log {
            return;
        }
        self.choose_carrying(now);
        if !self.carry.is_writing {
            return;
        }
        if self.carry.outbox.is_empty() {
            if core::mem::take(&mut self.carry.is_whole_due) {
                self.write_whole();
            } else if is_due && self.has_uncarried() {
                self.write_changes();
            }
        }
        self.append_carried(now, disk);
    }

    /// Begins, ends, or begins anew.
    fn choose_carrying(&mut self, now: Now) {
        let queue = self.store.find_queue(names::METADATA_TOPIC, 0);
        let holds_some =
            queue.is_some_and(|queue| self.store.max_offset(queue) > self.store.min_offset(queue));
        let was_carrying = !core::mem::replace(&mut self.carry.has_looked, true) && holds_some;
        if !self.carry.is_writing && (self.carry.is_attached || was_carrying) {
            self.set_carrying(true);
            if self.topics.get(names::METADATA_TOPIC).is_none() {
                let config = TopicConfig {
                    topic_name: names::METADATA_TOPIC.into(),
                    read_queue_nums: 1,
                    write_queue_nums: 1,
                    // Clients may not send to it either (see `names::is_send_forbidden`).
                    perm: perm::READ,
                    ..TopicConfig::default()
                };
                self.topics.put(now.wall, config);
            }
        }
        if self.carry.base_at.is_some_and(|base| base < self.store.log_min()) {
            self.carry.base_at = None;
            self.set_carrying(self.carry.is_attached);
        }
    }

    fn set_carrying(&mut self, is_writing: bool) {
        self.carry.is_writing = is_writing;
        self.carry.is_whole_due = is_writing;
        if !is_writing {
            // What found no room is part of the whole when that is written again.
            self.carry.outbox.clear();
        }
        self.offsets.set_carrying(is_writing);
        self.groups.set_carrying(is_writing);
    }

    fn has_uncarried(&self) -> bool {
        let durable = self.topics.file.durable();
        self.offsets.has_uncarried()
            || self.store.has_emptied()
            || self.groups.has_uncarried()
            || durable > self.carry.topics_upto
            || durable != self.carry.deletions_upto
    }

    fn parts(&self) -> Parts {
        Parts::new(PART_BYTES_MAX.min(self.store.segment_bytes() / 4) as usize)
    }

    fn write_whole(&mut self) {
        Probe::TablesCarriedWhole.reached();
        let mut parts = self.parts();
        let topics: Vec<&TopicConfig> = self.topics.iter().map(|topic| &topic.config).collect();
        parts.topics(self.topics.version(), topics, &BTreeSet::new());
        let deletions = self.topics.durable_deletions();
        parts.deletions(deletions.clone());
        parts.groups(self.groups.wrapper(), BTreeSet::new());
        for (key, queues) in self.offsets.table() {
            queues.into_iter().for_each(|(queue_id, offset)| parts.offset(key, queue_id, offset));
        }
        self.delays.safe().into_iter().for_each(|(level, offset)| parts.delay(level, offset));
        self.store.take_emptied(true, |topic, queue_id, end| parts.queue_end(topic, queue_id, end));
        let mut changes = parts.into_changes();
        if let Some(first) = changes.first_mut() {
            first.first = true;
        }
        if let Some(last) = changes.last_mut() {
            last.last = true;
        }
        // All of it is in there.
        self.offsets.set_carrying(true);
        self.groups.set_carrying(true);
        self.carry.topics_upto = self.topics.file.generation();
        (self.carry.deletions, self.carry.deletions_upto) = (deletions, self.topics.file.durable());
        tracing::info!(messages = changes.len(), "the tables are written into the log for slaves");
        self.carry.outbox.extend(changes.iter().map(|change| (change.first, body::encode(change))));
    }

    fn write_changes(&mut self) {
        let durable = self.topics.file.durable();
        let mut parts = self.parts();
        if durable > self.carry.topics_upto {
            let Some((put, gone)) = self.topics.changed_between(self.carry.topics_upto, durable) else {
                // More deletions than are remembered.
                return self.write_whole();
            };
            parts.topics(self.topics.version(), put, &gone);
            self.carry.topics_upto = durable;
        }
        if durable != self.carry.deletions_upto {
            self.carry.deletions_upto = durable;
            let deletions = self.topics.durable_deletions();
            if deletions != self.carry.deletions {
                parts.deletions(deletions.clone());
                self.carry.deletions = deletions;
            }
        }
        if self.groups.has_uncarried() {
            let (changed, gone) = self.groups.take_uncarried();
            parts.groups(changed, gone);
        }
        let mut delays = Vec::new();
        self.offsets.take_uncarried(
            |key, queue_id, offset| parts.offset(key, queue_id, offset),
            |level, offset| delays.push((level, offset)),
        );
        delays.into_iter().for_each(|(level, offset)| parts.delay(level, offset));
        self.store.take_emptied(false, |topic, queue_id, end| parts.queue_end(topic, queue_id, end));
        let changes = parts.into_changes();
        if !changes.is_empty() {
            Probe::TablesCarried.reached();
        }
        self.carry.outbox.extend(changes.iter().map(|change| (false, body::encode(change))));
    }

    fn append_carried(&mut self, now: Now, disk: &mut impl Disk) {
        if now.mono < self.carry.append_at {
            return;
        }
        let host = self.config.store_host;
        while let Some((is_first, bytes)) = self.carry.outbox.front() {
            let draft = Draft {
                topic: names::METADATA_TOPIC,
                queue_id: 0,
                flag: 0,
                sys_flag: 0,
                born_timestamp: now.wall.0,
                born_host: host,
                store_host: host,
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: bytes,
                properties: b"",
            };
            let queue = self.store.queue(names::METADATA_TOPIC, 0);
            match self.store.append(now, queue, &draft, disk) {
                Ok(appended) => {
                    if *is_first {
                        self.carry.base_at = Some(appended.physical_offset);
                    }
                    self.carry.written_at = Some(now.mono);
                    self.offsets.set_carried(Some(appended.queue_offset + 1));
                }
                Err(AppendError::NotReady) => {
                    self.carry.append_at = now.mono + APPEND_AGAIN_AFTER;
                    return;
                }
                Err(AppendError::DiskWarning) => {
                    // The store has told of it.
                    self.carry.append_at = now.mono + ROOM_AGAIN_AFTER;
                    return;
                }
                Err(error @ AppendError::Disk(_)) => {
                    tracing::warn!(?error, "changes of the tables are not written into the log now");
                    self.carry.append_at = now.mono + DISK_AGAIN_AFTER;
                    return;
                }
                Err(AppendError::TooLarge) => {
                    tracing::error!(bytes = bytes.len(), "a change of the tables fits into no message");
                }
                Err(AppendError::NotARecord) => {
                    unreachable!("only raw bytes of another log are refused so")
                }
            }
            self.carry.outbox.pop_front();
        }
    }

    /// The log is there: what was taken of it must be in it.
    pub(super) fn begin_carried(&mut self) {
        let Some(carried) = self.offsets.carried().filter(|_| self.carry.next.is_none()) else { return };
        let queue = self.store.find_queue(names::METADATA_TOPIC, 0);
        let upto = carried.min(queue.map_or(0, |queue| self.store.max_offset(queue)));
        self.offsets.set_carried(Some(upto));
        (self.carry.next, self.carry.is_based) = (Some(upto), true);
    }

    /// A slave takes what its log has brought.
    pub(super) fn settle_carried<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let reads = self.is_serving() && self.replication.is_slave() && !self.is_promoting();
        if reads && self.carry.is_read() {
            self.read_carried(now, env);
        }
        let (topics, groups, delays) = (&self.topics.file, &self.groups.file, &self.delays.file);
        while let Some(taken) = self.carry.taken.front()
            && topics.is_durable(taken.topics)
            && groups.is_durable(taken.groups)
            && delays.is_durable(taken.delays)
        {
            if self.carry.is_based && self.offsets.carried().is_none_or(|upto| upto < taken.upto) {
                self.offsets.set_carried(Some(taken.upto));
            }
            self.carry.taken.pop_front();
        }
    }

    /// Whether all that the log carries is taken. Nothing is, where these tables come from elsewhere.
    pub(super) fn is_carried<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) -> bool {
        if !self.carry.is_read() {
            return true;
        }
        self.store.visible() >= self.store.log_end() && self.read_carried(now, env)
    }

    /// Takes some more; whether that was all.
    fn read_carried<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) -> bool {
        let Some(queue) = self.store.find_queue(names::METADATA_TOPIC, 0) else { return true };
        let (min, max) = (self.store.min_offset(queue), self.store.max_offset(queue));
        let next = self.carry.next.unwrap_or(min);
        if next >= max {
            return true;
        }
        if self.carry.fetching.is_some() || now.mono < self.carry.read_at {
            return false;
        }
        let mut buffer = core::mem::take(&mut self.carry.buffer);
        buffer.clear();
        let read = self.store.read_messages(queue, next, READ_LIMITS, |_| true, env.disk, &mut buffer);
        let next = match read {
            Ok(ReadOutcome::Found { next, .. }) => {
                if self.phase == super::Phase::Recovering {
                    Probe::TablesTakenAtStart.reached();
                }
                self.take_carried(&buffer);
                next
            }
            Ok(ReadOutcome::NoMatch { next }) => next,
            Ok(ReadOutcome::Empty | ReadOutcome::Beyond) => next,
            Ok(ReadOutcome::TooSmall) => {
                // Retention was faster. Whole tables follow.
                self.leave_carried();
                min
            }
            Ok(ReadOutcome::Cold(extent)) => {
                Probe::TablesCold.reached();
                let id = FetchId(self.ids.next());
                env.out.push(Effect::Fetch { id, at: extent });
                self.carry.fetching = Some(id);
                next
            }
            Err(error) => {
                tracing::error!(%error, next, "what the log carries of the tables was not read");
                self.carry.read_at = now.mono + READ_AGAIN_AFTER;
                next
            }
        };
        self.carry.buffer = buffer;
        self.carry.next = Some(next);
        if self.carry.is_based && self.carry.whole.is_none() {
            self.note_taken(next);
        }
        next >= max
    }

    /// What was read counts once it is in files.
    fn note_taken(&mut self, upto: i64) {
        let (topics, groups) = (self.topics.file.generation(), self.groups.file.generation());
        let delays = self.carry.taken.back().map_or(Generation::default(), |taken| taken.delays);
        let taken = Taken { upto, topics, groups, delays: delays.max(self.delays_back) };
        match self.carry.taken.back_mut() {
            Some(last) if Taken { upto, ..*last } == taken => last.upto = upto,
            Some(_) | None => self.carry.taken.push_back(taken),
        }
    }

    /// These tables come from elsewhere from now on.
    pub(super) fn leave_carried(&mut self) {
        self.offsets.set_carried(None);
        (self.carry.is_based, self.carry.whole, self.carry.next) = (false, None, None);
        self.carry.taken.clear();
    }

    fn take_carried(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            let Ok(Entry::Message(record)) = Entry::decode(records) else {
                tracing::error!("what the queue of the tables points at is not a message");
                return;
            };
            records = &records[record.size as usize..];
            let at = record.physical_offset as u64;
            match body::decode::<Change>(record.body) {
                Ok(change) => self.take_change(at, change),
                Err(error) => {
                    tracing::error!(at, %error, "what the log carries of the tables is not understood");
                }
            }
        }
    }

    fn take_change(&mut self, at: u64, mut change: Change) {
        if self.epochs.is_own_from(at) {
            return self.take_own(at, change);
        }
        if change.first {
            self.carry.whole = Some(Change { at, ..Change::default() });
        }
        if let Some(whole) = &mut self.carry.whole {
            whole.join(change);
            if whole.last {
                let whole = self.carry.whole.take().unwrap_or_default();
                self.take_whole(whole);
            }
            return;
        }
        if !self.carry.is_based {
            return;
        }
        Probe::TablesTaken.reached();
        self.take_deletions(change.deleted_topics.as_ref());
        if let Some(version) = change.topic_version {
            let put = core::mem::take(&mut change.topic_config_table);
            self.topics.follow_some(version, put, &change.gone_topics);
        }
        if let Some(version) = change.group_version {
            let wrapper = change.groups(version);
            self.groups.follow_some(wrapper, &change.gone_groups);
        }
        for (key, queues) in &change.offset_table {
            queues.iter().for_each(|(queue_id, offset)| self.offsets.follow_one(key, *queue_id, *offset));
        }
        self.take_delays(&change.delay_offset_table);
        self.take_ends(at, &change.queue_end_table);
    }

    /// Whole tables take the place of these.
    fn take_whole(&mut self, mut whole: Change) {
        Probe::TablesTaken.reached();
        self.take_deletions(whole.deleted_topics.as_ref());
        let version = whole.topic_version.filter(|version| *version != self.topics.version());
        if let Some(version) = version {
            self.topics.follow_only(version, core::mem::take(&mut whole.topic_config_table));
        }
        if let Some(version) = whole.group_version {
            let wrapper = whole.groups(version);
            if wrapper != self.groups.wrapper() {
                self.groups.follow_only(wrapper);
            }
        }
        self.offsets.follow_only(&whole.offset_table);
        self.take_delays(&whole.delay_offset_table);
        self.take_ends(whole.at, &whole.queue_end_table);
        self.carry.is_based = true;
    }

    /// What this broker wrote itself, as a master: of offsets its log may know more than its files after a loss of power.
    fn take_own(&mut self, at: u64, change: Change) {
        for (key, queues) in &change.offset_table {
            let topic = key.rsplit_once('@').map_or(key.as_str(), |(topic, _)| topic);
            let is_there = self.topics.get(topic).is_some()
                && self.topics.deletions.place_of(topic).is_none_or(|upto| upto <= at);
            if is_there {
                queues.iter().for_each(|(queue_id, offset)| {
                    self.offsets.follow_one(key, *queue_id, *offset);
                });
            }
        }
        self.take_delays(&change.delay_offset_table);
    }

    /// What was committed in deleted topics is forgotten at once: what follows in the log belongs to topics that were made again.
    fn take_deletions(&mut self, list: Option<&BTreeMap<String, u64>>) {
        if let Some(list) = list {
            self.topics.follow_deletions(list);
            self.offsets.follow_deletions(self.topics.deletions.iter());
        }
    }

    fn take_delays(&mut self, table: &BTreeMap<i32, i64>) {
        for (level, offset) in table {
            if self.delays.follow_one(*level, *offset) {
                self.delays_back = self.delays.file.generation();
            }
            self.offsets.note_delay(*level, *offset, self.store.log_end());
        }
    }

    /// When to go on.
    pub(super) fn carry_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.delivers() && self.config.metadata_in_log {
            let carry = &self.carry;
            if !carry.outbox.is_empty() {
                return Some((carry.append_at, "tables into the log"));
            }
            let begins = !carry.is_writing && (carry.is_attached || !carry.has_looked);
            if begins || carry.is_whole_due {
                return Some((Instant::ZERO, "whole tables into the log"));
            }
            let has_changes = carry.is_writing && self.has_uncarried();
            return has_changes.then(|| (carry.due(self.config.metadata_interval), "changes into the log"));
        }
        let begins = self.phase == super::Phase::Recovering || self.is_promoting();
        // The disk says when it is time.
        let waits = self.store.visible() < self.store.log_end() || !self.epochs.is_durable();
        if begins && waits {
            return None;
        }
        // Who is stopping reads no more.
        let reads = begins || self.is_serving() && self.replication.is_slave();
        if !reads || self.carry.fetching.is_some() || !self.carry.is_read() {
            return None;
        }
        let queue = self.store.find_queue(names::METADATA_TOPIC, 0)?;
        let next = self.carry.next.unwrap_or_else(|| self.store.min_offset(queue));
        (next < self.store.max_offset(queue)).then_some((self.carry.read_at, "tables from the log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn offsets(count: i32) -> Parts {
        let mut parts = Parts::new(1000);
        (0..count).for_each(|queue_id| parts.offset("TOPIC@GROUP", queue_id, i64::MAX));
        parts
    }

    #[test]
    fn changes_are_split_and_put_together_again() {
        for count in [0, 1, 19, 20, 500] {
            let changes = offsets(count).into_changes();
            assert_eq!(changes.is_empty(), count == 0);
            let mut joined = Change::default();
            for change in changes {
                let bytes = body::encode(&change);
                assert!(bytes.len() <= 1000, "{}", bytes.len());
                joined.join(body::decode(&bytes).expect("own bytes"));
            }
            assert_eq!(joined.offset_table.values().map(BTreeMap::len).sum::<usize>(), count as usize);
        }
    }

    #[test]
    fn a_body_holds_only_what_changed() {
        let mut parts = Parts::new(1000);
        parts.delay(3, 7);
        let changes = parts.into_changes();
        let text = |change: &Change| std::string::String::from_utf8(body::encode(change)).expect("JSON");
        assert_eq!(
            changes.iter().map(text).collect::<Vec<_>>(),
            ["{\"delayOffsetTable\":{\"3\":7}}".to_string()]
        );
    }
}
