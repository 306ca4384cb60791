//! The topics of this broker: `topics.json` in memory.
//!
//! A topic is known to name servers as soon as it is registered and to this broker from the moment it is made; a message
//! is acknowledged in it only once the file that holds it is durable (see [`super::ack`]). When the file itself was lost, topics are
//! made again from the queues that the store has.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::config::BrokerConfig;
use super::deletion::Deletions;
use super::persist::{ConfigFile, Generation};
use super::stats::PutStats;
use super::store::{QueueIx, Store};
use super::{NameMap, names};
use crate::probe::Probe;
use crate::time::WallMs;
use crate::wire::body::{
    self, BodyError, DataVersion, QueueEnds, TopicConfig, TopicConfigSerializeWrapper, perm,
};

/// Queues of SCHEDULE_TOPIC_XXXX: one a delay level.
const SCHEDULE_QUEUES: i32 = 18;
/// Names of deleted topics that are kept for name servers which have not heard of it.
const DELETED_MAX: usize = 1024;

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) config: TopicConfig,
    pub(super) stats: PutStats,
    /// The change that made it what it is.
    pub(super) changed: Generation,
    /// The store's names of its queues, by queue id, as far as they were asked for.
    queues: Vec<Option<QueueIx>>,
}

impl Topic {
    /// The store's name of a queue, which need not exist there yet.
    pub(super) fn queue(&mut self, queue_id: i32, store: &mut Store) -> QueueIx {
        let at = usize::try_from(queue_id).expect("checked to be a queue of the topic");
        if self.queues.len() <= at {
            self.queues.resize(at + 1, None);
        }
        *self.queues[at].get_or_insert_with(|| store.queue(&self.config.topic_name, queue_id))
    }

    /// Queue ids are below this.
    pub(super) fn queue_ids_end(&self) -> i32 {
        self.config.read_queue_nums.max(self.config.write_queue_nums)
    }
}

/// All topics.
#[derive(Debug)]
pub(super) struct Topics {
    /// Never iterated.
    by_name: NameMap<String, usize>,
    /// In the order they became known; none where one was deleted.
    slots: Vec<Option<Topic>>,
    version: DataVersion,
    pub(super) deletions: Deletions,
    /// Queues that begin behind what is gone (see `ends.rs`). Durable with the file.
    pub(super) ends: QueueEnds,
    pub(super) file: ConfigFile,
    /// The newest deletions, by the change that made them.
    deleted: VecDeque<(Generation, String)>,
    /// Deletions up to this one are forgotten.
    deleted_forgotten: Generation,
}

impl Topics {
    /// The topics every broker has.
    pub(super) fn new(config: &BrokerConfig) -> Topics {
        let mut topics = Topics {
            by_name: NameMap::default(),
            slots: Vec::new(),
            version: DataVersion::default(),
            deletions: Deletions::default(),
            ends: QueueEnds::default(),
            file: ConfigFile::new("config/topics.json"),
            deleted: VecDeque::new(),
            deleted_forgotten: Generation::default(),
        };
        for topic in system_topics(config) {
            topics.insert(topic);
        }
        topics
    }

    /// Takes what the file holds.
    ///
    /// # Errors
    /// [`BodyError`]: it is not such a file.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let wrapper: TopicConfigSerializeWrapper = body::decode(bytes)?;
        self.version = wrapper.data_version;
        self.deletions.load(&wrapper.gantry_deleted_topics.unwrap_or_default());
        self.ends = wrapper.gantry_queue_ends.unwrap_or_default();
        for (name, config) in wrapper.topic_config_table {
            self.insert(TopicConfig { topic_name: name, ..config });
        }
        Ok(())
    }

    /// A slave takes its master's table as it is, unless it has that version.
    ///
    /// # Errors
    /// [`BodyError`]: it is no such table; nothing was changed then.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let wrapper: TopicConfigSerializeWrapper = body::decode(bytes)?;
        // A master that keeps no such list says nothing of deletions.
        if let Some(list) = &wrapper.gantry_deleted_topics {
            self.follow_deletions(list);
        }
        let table = wrapper.topic_config_table;
        if wrapper.data_version != self.version && !table.is_empty() {
            self.follow_only(wrapper.data_version, table);
        }
        Ok(())
    }

    /// A slave takes its master's table as it is.
    pub(super) fn follow_only(&mut self, version: DataVersion, table: BTreeMap<String, TopicConfig>) {
        self.file.touch();
        let gone = self.iter().map(|topic| topic.config.topic_name.clone());
        let gone: Vec<String> = gone.filter(|name| !table.contains_key(name)).collect();
        for name in gone {
            tracing::info!(topic = name, "the master has this topic no more");
            self.remove(name);
        }
        self.follow_some(version, table, &BTreeSet::new());
    }

    /// A slave takes what its master has changed.
    pub(super) fn follow_some(
        &mut self,
        version: DataVersion,
        table: BTreeMap<String, TopicConfig>,
        gone: &BTreeSet<String>,
    ) {
        self.file.touch();
        for name in gone {
            tracing::info!(topic = name, "the master has this topic no more");
            self.remove(name.clone());
        }
        for (name, config) in table {
            let config = TopicConfig { topic_name: name, ..config };
            if self.get(&config.topic_name).is_none_or(|known| known.config != config) {
                self.insert(config);
            }
        }
        self.version = version;
    }

    /// A slave takes its master's list of deletions.
    pub(super) fn follow_deletions(&mut self, list: &BTreeMap<String, u64>) {
        let next = self.file.next();
        if self.deletions.follow(list, next) {
            self.file.touch();
        }
    }

    fn insert(&mut self, config: TopicConfig) {
        let changed = self.file.generation();
        if let Some(known) = self.get_mut(&config.topic_name) {
            known.config = config;
            known.changed = changed;
            return;
        }
        self.by_name.insert(config.topic_name.clone(), self.slots.len());
        self.slots.push(Some(Topic { config, stats: PutStats::default(), changed, queues: Vec::new() }));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Topic> {
        self.slots[*self.by_name.get(name)?].as_ref()
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.slots[*self.by_name.get(name)?].as_mut()
    }

    /// Every topic, in the order they became known.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.slots.iter().flatten()
    }

    /// Version of the table, as name servers and slaves compare it.
    pub(super) fn version(&self) -> DataVersion {
        self.version
    }

    /// Something that name servers are told of every topic has changed.
    pub(super) fn advance_version(&mut self, wall: WallMs) {
        self.file.touch();
        self.version.counter += 1;
        self.version.timestamp = wall.0;
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.slots.iter_mut().flatten()
    }

    /// Forgets a topic, whose records below `upto` in the log do not count any more. RocketMQ's name servers keep it until they are
    /// told by the administrator.
    pub(super) fn delete(&mut self, wall: WallMs, name: &str, upto: u64) {
        self.advance_version(wall);
        self.remove(name.into());
        self.deletions.note(name, upto, self.file.generation());
        tracing::info!(topic = name, upto, "topic deleted");
    }

    fn remove(&mut self, name: String) {
        let Some(at) = self.by_name.remove(&name) else { return };
        self.slots[at] = None;
        self.deleted.push_back((self.file.generation(), name));
        if self.deleted.len() > DELETED_MAX
            && let Some((forgotten, _)) = self.deleted.pop_front()
        {
            self.deleted_forgotten = forgotten;
        }
    }

    /// Topics deleted after `since` and not made again; none when so many were that not all are remembered.
    pub(super) fn deleted_since(&self, since: Generation) -> Option<BTreeSet<&str>> {
        if since < self.deleted_forgotten {
            return None;
        }
        let deleted = self.deleted.iter().filter(|(generation, _)| *generation > since);
        Some(deleted.map(|(_, name)| name.as_str()).filter(|name| self.get(name).is_none()).collect())
    }

    /// What the changes after `since` and up to `upto` have made: topics that were put, and those that are gone. None when so many
    /// are gone that not all are remembered.
    pub(super) fn changed_between(
        &self,
        since: Generation,
        upto: Generation,
    ) -> Option<(Vec<&TopicConfig>, BTreeSet<&str>)> {
        if since < self.deleted_forgotten {
            return None;
        }
        let is_new = |change: Generation| since < change && change <= upto;
        let put = self.iter().filter(|topic| is_new(topic.changed)).map(|topic| &topic.config);
        let gone = self.deleted.iter().filter(|(change, _)| is_new(*change));
        let gone = gone.map(|(_, name)| name.as_str()).filter(|name| self.get(name).is_none());
        Some((put.collect(), gone.collect()))
    }

    /// Deletions that are durable, as slaves are told.
    pub(super) fn durable_deletions(&self) -> BTreeMap<String, u64> {
        self.deletions.durable(|change| self.file.is_durable(change))
    }

    /// Makes or changes a topic.
    pub(super) fn put(&mut self, wall: WallMs, config: TopicConfig) {
        self.advance_version(wall);
        tracing::info!(
            topic = config.topic_name,
            read_queues = config.read_queue_nums,
            write_queues = config.write_queue_nums,
            perm = config.perm,
            "topic put"
        );
        self.insert(config);
    }

    /// Makes a topic because somebody sends to it, with the settings of `default_topic`.
    ///
    /// # Errors
    /// Why it is not made: for the log.
    pub(super) fn create_by_send(
        &mut self,
        wall: WallMs,
        name: &str,
        default_topic: &str,
        queues: i32,
        sys_flag: i32,
        config: &BrokerConfig,
    ) -> Result<(), String> {
        let Some(default) = self.get(default_topic).map(|topic| &topic.config) else {
            return Err(format!("the default topic [{default_topic}] does not exist"));
        };
        let inherits = default.perm & perm::INHERIT != 0
            && (config.auto_create_topic || default_topic != names::AUTO_CREATE_TOPIC_KEY);
        if !inherits {
            return Err(format!("the default topic [{default_topic}] has no permission to be inherited"));
        }
        let queues = queues.min(default.write_queue_nums).max(0);
        let config = TopicConfig {
            topic_name: name.into(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: default.perm & !perm::INHERIT,
            topic_sys_flag: sys_flag,
            topic_filter_type: default.topic_filter_type,
            ..TopicConfig::default()
        };
        self.put(wall, config);
        Ok(())
    }

    /// Makes a retry topic, or makes it ordered or not (RocketMQ's `createTopicInSendMessageBackMethod`).
    pub(super) fn ensure(&mut self, wall: WallMs, name: &str, queues: i32, order: bool, sys_flag: i32) {
        if self.get(name).is_some_and(|known| known.config.order == order) {
            return;
        }
        let mut config = self.get(name).map(|known| known.config.clone()).unwrap_or_else(|| TopicConfig {
            topic_name: name.into(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            topic_sys_flag: sys_flag,
            ..TopicConfig::default()
        });
        config.order = order;
        self.put(wall, config);
    }

    /// Makes a retry or dead-letter topic unless it is there.
    pub(super) fn make(&mut self, wall: WallMs, name: &str, queues: i32, sys_flag: i32) {
        if self.get(name).is_none() {
            self.ensure(wall, name, queues, false, sys_flag);
        }
    }

    /// Makes what the file has lost: topics of which the store has queues.
    pub(super) fn adopt_queues(&mut self, wall: WallMs, store: &Store) {
        let mut found: BTreeMap<String, i32> = BTreeMap::new();
        store.for_each_queue(|topic, queue_id, ix| {
            // A deleted topic's queues are known without messages.
            if store.max_offset(ix) > 0 && self.get(topic).is_none() && !names::is_lmq(topic) {
                let end = found.entry(topic.into()).or_default();
                *end = (*end).max(queue_id + 1);
            }
        });
        for (topic, queues) in found {
            Probe::TopicMadeAgain.reached();
            tracing::warn!(topic, queues, "topic found in the store but not in topics.json: made again");
            let config = TopicConfig {
                topic_name: topic,
                read_queue_nums: queues,
                write_queue_nums: queues,
                ..TopicConfig::default()
            };
            self.put(wall, config);
        }
    }

    /// What the file is to hold.
    pub(super) fn wrapper(&self) -> TopicConfigSerializeWrapper {
        TopicConfigSerializeWrapper {
            gantry_deleted_topics: self.deletions.list(),
            gantry_queue_ends: (!self.ends.is_empty()).then(|| self.ends.clone()),
            ..self.wrapper_of(|_| true)
        }
    }

    /// What slaves get: of deletions, only what is durable here.
    pub(super) fn wrapper_for_slaves(&self) -> TopicConfigSerializeWrapper {
        TopicConfigSerializeWrapper {
            gantry_deleted_topics: Some(self.durable_deletions()),
            ..self.wrapper_of(|_| true)
        }
    }

    /// What this broker has, as a slave tells its master: version and deletions.
    pub(super) fn stamp(&self) -> String {
        stamp(self.version, &self.deletions.list().unwrap_or_default())
    }

    /// What a slave has that took everything from [`Topics::wrapper_for_slaves`].
    pub(super) fn stamp_for_slaves(&self) -> String {
        stamp(self.version, &self.durable_deletions())
    }

    /// The same of some topics only.
    pub(super) fn wrapper_of(&self, takes: impl Fn(&Topic) -> bool) -> TopicConfigSerializeWrapper {
        let taken = self.iter().filter(|topic| takes(topic));
        TopicConfigSerializeWrapper {
            data_version: self.version,
            topic_config_table: taken
                .map(|topic| (topic.config.topic_name.clone(), topic.config.clone()))
                .collect(),
            ..TopicConfigSerializeWrapper::default()
        }
    }

    pub(super) fn check_invariants(&self) {
        let live = self.iter().count();
        assert_eq!(live, self.by_name.len(), "every topic has one name");
        for topic in self.iter() {
            assert!(
                self.get(&topic.config.topic_name).is_some_and(|found| core::ptr::eq(found, topic)),
                "a topic is found by its name"
            );
            assert!(topic.changed <= self.file.generation(), "no change lies in the future");
        }
    }
}

fn stamp(version: DataVersion, deletions: &BTreeMap<String, u64>) -> String {
    let DataVersion { state_version, counter, timestamp } = version;
    format!("{state_version}:{counter}:{timestamp}:{:08x}", crc32fast::hash(&body::encode(deletions)))
}

fn system_topics(config: &BrokerConfig) -> Vec<TopicConfig> {
    let topic = |name: &str, queues: i32, perm: i32| TopicConfig {
        topic_name: name.into(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..TopicConfig::default()
    };
    let plain = |name: &str, queues: i32| topic(name, queues, perm::READ | perm::WRITE);
    let inherited = |writable: bool| {
        if writable { perm::INHERIT | perm::READ | perm::WRITE } else { perm::INHERIT }
    };
    let mut topics = Vec::from([
        plain(names::SELF_TEST_TOPIC, 1),
        plain(names::BENCHMARK_TOPIC, 1024),
        topic(&config.cluster_name, 16, inherited(config.cluster_topic)),
        topic(&config.broker_name, 1, inherited(config.broker_topic)),
        plain(names::OFFSET_MOVED_EVENT, 1),
        plain(names::SCHEDULE_TOPIC, SCHEDULE_QUEUES),
        plain(&format!("{}_{}", config.cluster_name, names::REPLY_TOPIC_POSTFIX), 1),
        plain(&format!("{}{}", names::REVIVE_TOPIC_PREFIX, config.cluster_name), config.revive_queues),
        topic(&format!("{}{}", names::SYNC_MEMBER_PREFIX, config.broker_name), 1, perm::INHERIT),
        plain(names::HALF_TOPIC, 1),
        plain(names::OP_HALF_TOPIC, 1),
        plain(names::ROCKSDB_HALF_TOPIC, 1),
        plain(names::ROCKSDB_OP_HALF_TOPIC, 1),
        plain(names::TIMER_TOPIC, 1),
    ]);
    if config.auto_create_topic {
        topics.push(topic(names::AUTO_CREATE_TOPIC_KEY, config.default_topic_queues, inherited(true)));
    }
    if config.trace_topic {
        topics.push(plain(&config.trace_topic_name, 1));
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(auto_create: bool) -> (Topics, BrokerConfig) {
        let mut config = BrokerConfig::new("b", "127.0.0.1:10911".parse().expect("address"));
        config.auto_create_topic = auto_create;
        (Topics::new(&config), config)
    }

    #[test]
    fn topics_are_made_by_their_default_topic() {
        for (auto, default, asked, expect) in [
            (true, "TBW102", 4, Some(4)),
            (true, "TBW102", 100, Some(8)),
            (true, "TBW102", -1, Some(0)),
            (true, "BenchmarkTest", 4, None),
            (true, "nowhere", 4, None),
            (false, "TBW102", 4, None),
            (true, "b", 4, Some(1)),
        ] {
            let (mut topics, config) = topics(auto);
            let made = topics.create_by_send(WallMs(5), "T", default, asked, 0, &config);
            let queues = topics.get("T").map(|topic| (topic.config.write_queue_nums, topic.config.perm));
            assert_eq!(queues, expect.map(|queues| (queues, 6)), "{default} {asked} {made:?}");
            assert_eq!(topics.file.is_clean(), expect.is_none());
            topics.check_invariants();
        }
    }

    #[test]
    fn the_file_comes_back() {
        let (mut topics, config) = topics(true);
        topics.create_by_send(WallMs(5), "T", "TBW102", 4, 0, &config).expect("made");
        let bytes = body::encode(&topics.wrapper());
        let mut again = Topics::new(&config);
        again.load(&bytes).expect("own file");
        assert_eq!(again.wrapper(), topics.wrapper());
        assert_eq!(again.version.counter, 1);
        assert!(again.load(&bytes[..bytes.len() / 2]).is_err());
    }
}
