//! How far queues went whose messages are all gone.
//!
//! A slave that joins after retention gets the log from its minimum on, so of a queue that has nothing left there it knows nothing:
//! promoted, it would begin that queue at 0 and give offsets a second time. So a master tells in the log, with its tables (see
//! [`super::carry`]), where each of its queues ends that holds nothing: of all of them in whole tables, and of a queue when
//! retention takes its last message. A slave that has nothing of the queue begins it there.
//!
//! Such a queue has no file yet, so the slave keeps what it was told in `topics.json` (its member `gantryQueueEnds`, which RocketMQ
//! passes over), with the place in the log where it was told. A deletion of the topic behind that place ends it.
//!
//! Invariant: all that a queue had when its end was told lies before that place in the log; what comes behind it is not below
//! that end.
//!
//! Absent on purpose: slaves that poll, which are RocketMQ's or follow a master that does not carry its tables.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::Broker;
use super::topic::Topics;
use crate::probe::Probe;

impl Topics {
    /// What was told of a deleted topic says nothing of one that is made again.
    pub(super) fn forget_ends(&mut self, topic: &str, upto: u64) {
        if let Some(queues) = self.ends.get_mut(topic) {
            queues.retain(|_, (_, at)| *at >= upto);
            if queues.is_empty() {
                self.ends.remove(topic);
            }
            self.file.touch();
        }
    }
}

impl Broker {
    /// A slave takes where its master's queues end that hold nothing, told at `at` in the log.
    pub(super) fn take_ends(&mut self, at: u64, table: &BTreeMap<String, BTreeMap<i32, u64>>) {
        for (topic, queues) in table {
            if self.topics.deletions.place_of(topic).is_some_and(|upto| upto > at) {
                continue;
            }
            for (queue_id, end) in queues {
                if self.store.begin_queue(topic, *queue_id, *end, at) {
                    Probe::QueueBeginsBehind.reached();
                    self.topics.ends.entry(topic.clone()).or_default().insert(*queue_id, (*end, at));
                    self.topics.file.touch();
                }
            }
        }
    }

    /// The store has been opened: queues without a file begin where they did.
    pub(super) fn begin_emptied(&mut self) {
        for (topic, queues) in &self.topics.ends {
            let deleted = self.topics.deletions.place_of(topic).unwrap_or(0);
            for (queue_id, (end, at)) in queues {
                if *at >= deleted {
                    self.store.begin_queue(topic, *queue_id, *end, *at);
                }
            }
        }
    }
}
