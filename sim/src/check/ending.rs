//! What a broker's disk holds when its world has ended, read by hand and not by the store that wrote it.

use std::collections::BTreeMap;

use gantry_core::broker::Broker;
use gantry_disk::MemoryDisk;

use super::Setup;
use crate::commit_log::Log;
use crate::history::MessageId;
use crate::workload::record;

/// A copy of one of the simulated clients' messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Its topic.
    pub topic: String,
    /// Its queue there.
    pub queue: i32,
    /// Its offset in the queue.
    pub offset: i64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Ending {
    /// Where the log begins.
    pub log_start: u64,
    /// Queues of whatever topic that have records in the log: the lowest offset there.
    first: BTreeMap<(String, i32), i64>,
    /// The same queues as the master has them, if it lives and nothing is about to go: the lowest offset that it serves.
    minimums: BTreeMap<(String, i32), i64>,
    /// By message, and how often it had come back.
    copies: BTreeMap<(MessageId, i32), Vec<Copy>>,
}

impl Ending {
    /// Reads the log of the master.
    pub fn read(setup: &Setup, disk: &MemoryDisk, master: Option<&Broker>) -> Ending {
        let log = Log { disk, segment_bytes: setup.segment_bytes };
        let mut at = log.start();
        let mut ending = Ending { log_start: at, ..Ending::default() };
        while let Some((bytes, next)) = log.record(at) {
            at = next;
            let records = record::split(&bytes).unwrap_or_default();
            for record in records {
                let queue = (String::from_utf8_lossy(record.topic).into_owned(), record.queue_id);
                ending.first.entry(queue).or_insert(record.queue_offset);
                let Some(id) = record.message() else { continue };
                let topic = String::from_utf8_lossy(record.topic).into_owned();
                let copy = Copy { topic, queue: record.queue_id, offset: record.queue_offset };
                ending.copies.entry((id, record.reconsume_times)).or_default().push(copy);
            }
        }
        if let Some(master) = master.filter(|master| master.is_ready() && !master.store().is_removing()) {
            ending.read_minimums(master);
        }
        ending
    }

    fn read_minimums(&mut self, master: &Broker) {
        for (topic, queue_id) in self.first.keys() {
            let Some(queue) = master.store().find_queue(topic, *queue_id) else { continue };
            let min = master.store().min_offset(queue);
            self.minimums.insert((topic.clone(), *queue_id), min);
        }
    }

    /// Queues with records in the log: the lowest offset there, and the lowest one that the master serves, where that is known.
    pub fn beginnings(&self) -> impl Iterator<Item = (&str, i32, i64, Option<i64>)> {
        self.first.iter().map(|(queue, first)| {
            let (topic, queue_id) = queue;
            (topic.as_str(), *queue_id, *first, self.minimums.get(queue).copied())
        })
    }

    /// The copies of a message in some topics, after it had come back so often.
    pub fn copies<'a>(
        &'a self,
        topics: &'a [&str],
        id: MessageId,
        times: i32,
    ) -> impl Iterator<Item = &'a Copy> {
        let copies = self.copies.get(&(id, times)).map_or(&[][..], Vec::as_slice);
        copies.iter().filter(move |copy| topics.contains(&copy.topic.as_str()))
    }
}
