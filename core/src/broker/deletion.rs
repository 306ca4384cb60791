//! Deleting a topic: what was deleted, and what may follow when.
//!
//! The list lies in `topics.json` itself (its member `gantryDeletedTopics`, which RocketMQ passes over, and loses when it writes the
//! file): one replacement takes the topic away and says up to where in the log its records do not count, so that every crash
//! leaves either the topic or its deletion. The steps:
//!
//! 1. Nothing is appended to the topic any more, and the log is synced up to its end.
//! 2. The file is written: the topic is gone, and the list says where the log ended.
//! 3. Its queues and what groups committed in them are forgotten (see `store::bury`, [`super::offset`]), the request is answered, and
//!    a topic of that name may be written again.
//! 4. When retention has removed the log below that place, the list forgets it.
//!
//! A slave takes the list from its master along with the topics, and does step 3 when its own file is durable. A master whose log
//! came back shorter than a place in the list moves that place to its end before it serves.
//!
//! Absent on purpose: telling name servers, which the administrator does, as in RocketMQ.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::persist::Generation;
use super::{Broker, names};
use crate::io::{Now, SyncId};
use crate::wire::body;

/// A deleted topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Deletion {
    /// Its records below this in the log do not count.
    upto: u64,
    changed: Generation,
}

/// The list. It is durable with `topics.json`.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    by_topic: BTreeMap<String, Deletion>,
    /// Whose queues are still there.
    open: BTreeSet<String>,
    /// Taken from the list by the master's word.
    dropped: Vec<String>,
    /// The log must be synced up to here before the file is written.
    after: u64,
    /// The lowest place in the list.
    lowest: Option<u64>,
}

impl Deletions {
    /// Takes what the file holds; all of it is known to the store at the start.
    pub(super) fn load(&mut self, list: &BTreeMap<String, u64>) {
        let known = |upto: &u64| Deletion { upto: *upto, changed: Generation::default() };
        self.by_topic = list.iter().map(|(topic, upto)| (topic.clone(), known(upto))).collect();
        self.find_lowest();
    }

    pub(super) fn note(&mut self, topic: &str, upto: u64, changed: Generation) {
        self.by_topic.insert(topic.into(), Deletion { upto, changed });
        self.open.insert(topic.into());
        self.find_lowest();
    }

    /// The file is to be written only once the log is synced up to there.
    pub(super) fn wait_for_log(&mut self, upto: u64) {
        self.after = self.after.max(upto);
    }

    /// Whether the file may be written.
    pub(super) fn may_write(&self, synced: u64) -> bool {
        synced >= self.after
    }

    /// The master's list replaces this one; false when it says nothing new.
    pub(super) fn follow(&mut self, list: &BTreeMap<String, u64>, changed: Generation) -> bool {
        let dropped: Vec<String> =
            self.by_topic.keys().filter(|topic| !list.contains_key(*topic)).cloned().collect();
        let mut is_new = !dropped.is_empty();
        for topic in dropped {
            self.by_topic.remove(&topic);
            self.open.remove(&topic);
            self.dropped.push(topic);
        }
        for (topic, upto) in list {
            if self.by_topic.get(topic).is_none_or(|known| known.upto != *upto) {
                self.note(topic, *upto, changed);
                is_new = true;
            }
        }
        self.find_lowest();
        is_new
    }

    /// Moves a place of the list down.
    fn move_to(&mut self, topic: &str, upto: u64, changed: Generation) {
        if let Some(known) = self.by_topic.get_mut(topic) {
            *known = Deletion { upto, changed };
        }
        self.find_lowest();
    }

    fn remove(&mut self, topic: &str) {
        self.by_topic.remove(topic);
        self.find_lowest();
    }

    fn find_lowest(&mut self) {
        self.lowest = self.by_topic.values().map(|deletion| deletion.upto).min();
    }

    /// Topics and their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_topic.iter().map(|(topic, deletion)| (topic.as_str(), deletion.upto))
    }

    /// Up to where in the log a topic was deleted.
    pub(super) fn place_of(&self, topic: &str) -> Option<u64> {
        self.by_topic.get(topic).map(|deletion| deletion.upto)
    }

    /// What the file is to hold; none without any.
    pub(super) fn list(&self) -> Option<BTreeMap<String, u64>> {
        let all: BTreeMap<String, u64> = self.iter().map(|(topic, upto)| (topic.into(), upto)).collect();
        (!all.is_empty()).then_some(all)
    }

    /// What slaves are told: only what is durable.
    pub(super) fn durable(&self, is_durable: impl Fn(Generation) -> bool) -> BTreeMap<String, u64> {
        let durable = self.by_topic.iter().filter(|(_, deletion)| is_durable(deletion.changed));
        durable.map(|(topic, deletion)| (topic.clone(), deletion.upto)).collect()
    }

    /// A topic whose deletion is durable and whose queues are still there.
    fn take_open(&mut self, is_durable: impl Fn(Generation) -> bool) -> Option<(String, u64)> {
        let (by_topic, open) = (&self.by_topic, &mut self.open);
        let found = open.iter().find_map(|topic| {
            let deletion = by_topic.get(topic)?;
            is_durable(deletion.changed).then(|| (topic.clone(), deletion.upto))
        });
        found.inspect(|(topic, _)| {
            open.remove(topic);
        })
    }
}

impl Broker {
    /// Deletes a topic, with the topics of its messages that POP retries; what there is nothing of is deleted already.
    pub(super) fn delete_topic(&mut self, now: Now, topic: &str) {
        let groups = self.offsets.groups_of(topic);
        let prefix = names::RETRY_PREFIX;
        let retries = groups
            .iter()
            .flat_map(|group| [format!("{prefix}{group}+{topic}"), format!("{prefix}{group}_{topic}")]);
        let retries: Vec<String> = retries.filter(|retry| self.topics.get(retry).is_some()).collect();
        if self.topics.get(topic).is_some() || !groups.is_empty() || self.store.has_messages(topic) {
            self.delete_one(now, topic);
        }
        for retry in retries {
            self.delete_one(now, &retry);
        }
    }

    fn delete_one(&mut self, now: Now, topic: &str) {
        let upto = self.store.close_topic(topic);
        self.topics.delete(now.wall, topic, upto);
        if !self.replication.is_slave() {
            self.topics.deletions.wait_for_log(upto);
        }
    }

    /// Does what follows deletions that have become durable, and forgets old ones.
    pub(super) fn settle_deletions(&mut self) {
        let topics = &mut self.topics;
        while let Some((topic, upto)) = topics.deletions.take_open(|change| topics.file.is_durable(change)) {
            self.store.bury_topic(&topic, upto);
            topics.forget_ends(&topic, upto);
            // A slave has as its log told of it.
            if !self.offsets.has_forgotten(&topic, upto) {
                self.offsets.forget_topic(&topic, upto);
            }
        }
        for topic in core::mem::take(&mut topics.deletions.dropped) {
            self.store.forget_deleted(&topic);
        }
        let log_min = self.store.log_min();
        if topics.deletions.lowest.is_none_or(|lowest| lowest > log_min) {
            return;
        }
        let gone = topics.deletions.iter().filter(|(topic, upto)| {
            // An empty log begins where it ends.
            *upto <= log_min && log_min < self.store.log_end() && !self.store.is_burying(topic)
        });
        let gone: Vec<String> = gone.map(|(topic, _)| topic.into()).collect();
        for topic in gone {
            topics.deletions.remove(&topic);
            self.store.forget_deleted(&topic);
            topics.file.touch();
        }
    }

    /// A log that a master is to write ends before places of the list: what is appended from now on must count. True once that is
    /// durable.
    pub(super) fn settle_shorter_log(
        &mut self,
        now: Now,
        out: &mut Vec<crate::io::Effect<super::BrokerEvent>>,
    ) -> bool {
        let clamped = self.store.clamp_deleted();
        if !clamped.is_empty() {
            self.topics.advance_version(now.wall);
            self.shorter = Some(self.topics.file.generation());
        }
        for (topic, upto) in clamped {
            tracing::warn!(
                topic,
                upto,
                "the log ends before the deletion of this topic: it counts from the end"
            );
            self.topics.deletions.move_to(&topic, upto, self.topics.file.generation());
        }
        let Some(change) = self.shorter else { return true };
        self.write_topics(now, out);
        self.topics.file.is_durable(change)
    }

    /// Begins to write the topics' file, if it is to be written and the log has what its deletions count from.
    pub(super) fn settle_topics(&mut self, now: Now, out: &mut Vec<crate::io::Effect<super::BrokerEvent>>) {
        if self.topics.deletions.may_write(self.store.synced()) {
            self.write_topics(now, out);
        }
    }

    fn write_topics(&mut self, now: Now, out: &mut Vec<crate::io::Effect<super::BrokerEvent>>) {
        if self.topics.file.is_due(now.mono) {
            let id = SyncId(self.ids.next());
            let bytes = body::encode(&self.topics.wrapper());
            self.topics.file.begin(id, bytes, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_list_replaces_the_slaves() {
        let mut deletions = Deletions::default();
        let list =
            |all: &[(&str, u64)]| all.iter().map(|(topic, upto)| (String::from(*topic), *upto)).collect();
        deletions.load(&list(&[("A", 5), ("B", 7)]));
        let change = Generation::default();
        assert!(!deletions.follow(&list(&[("A", 5), ("B", 7)]), change));
        assert!(deletions.follow(&list(&[("B", 6), ("C", 9)]), change));
        assert_eq!((deletions.list(), deletions.lowest), (Some(list(&[("B", 6), ("C", 9)])), Some(6)));
        assert_eq!(deletions.dropped, ["A"]);
        assert_eq!(deletions.take_open(|_| false), None);
        assert_eq!(deletions.take_open(|_| true), Some(("B".into(), 6)));
        assert_eq!(deletions.take_open(|_| true), Some(("C".into(), 9)));
        assert_eq!(deletions.take_open(|_| true), None);
    }
}
