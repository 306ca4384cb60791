//! What a log that came back shorter takes back from the tables beside it, for good before anything is written in its place.
//!
//! A committed offset and a delay level may count records that power loss took from the log. Were the files to go on saying so while
//! the log grows past that place again, the next life would believe them: a group would pass over messages that it never saw, and a
//! level messages that it never delivered. So a writer begins only when what it takes back is durable, as with its epoch.
//!
//! Slaves take nothing back: their logs grow by their master's bytes, and its word on offsets comes with those. But like every broker
//! they serve only when there is a journal for what is committed.
//!
//! A writer that found no topics.json begins only when there is one: else a topic that its first send was making when it died would be
//! taken for one of a file that somebody lost, and come back with as many queues as that send had reached.

use super::persist::Generation;
use super::{Broker, BrokerEvent};
use crate::io::{Disk, Env, Now};

/// The changes that are to be durable: of `consumerOffset.json`, of `delayOffset.json`, and of `topics.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct TakenBack {
    offsets: Generation,
    delays: Generation,
    topics: Generation,
}

impl Broker {
    /// Sets offsets and delay levels to what the log holds.
    pub(super) fn take_back(&mut self) {
        let mut taken = TakenBack::default();
        let is_clamped = self.offsets.clamp(&self.store);
        let begun = self.delays.begin(&self.store);
        for (level, offset) in begun.told {
            // The log may grow beyond places that an older record names and it had lost.
            self.offsets.note_delay(level, offset, 0);
        }
        if is_clamped || begun.is_taken_back {
            taken.offsets = self.offsets.file.touch();
            self.offsets.flush_now();
        }
        if begun.is_taken_back {
            // The larger counts of what it says and what the journal says.
            taken.delays = self.delays.file.touch();
            self.delays.flush_now();
        }
        if self.adopts_topics {
            taken.topics = self.topics.file.generation();
        }
        self.taken_back = Some(taken);
    }

    /// Whether what [`Broker::take_back`] found is durable, commits have a journal, and topics a file.
    pub(super) fn is_taken_back<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) -> bool {
        let Some(taken) = self.taken_back else { return false };
        let is_durable = |broker: &Broker| {
            broker.offsets.file.is_durable(taken.offsets)
                && broker.delays.file.is_durable(taken.delays)
                && broker.topics.file.is_durable(taken.topics)
        };
        if self.offsets.is_begun() && (self.replication.is_slave() || is_durable(self)) {
            return true;
        }
        self.settle_topics(now, env.out);
        self.settle_progress(now, env);
        false
    }

    /// Whether a broker that starts waits for that.
    pub(super) fn is_taking_back(&self) -> bool {
        self.taken_back.is_some()
    }
}
