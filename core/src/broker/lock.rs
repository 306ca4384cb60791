//! Queues held by one client of a group, for consumption in order.
//!
//! A lock is granted when it is free, its own, or has not been renewed for [`super::BrokerConfig::lock_expiry`]. Nothing else frees
//! it but its holder: a client that goes away is waited for, because its messages may still be on their way.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::MessageQueue;

#[derive(Debug)]
struct Lock {
    client: String,
    renewed: Instant,
}

/// All locks.
#[derive(Debug)]
pub(super) struct Locks {
    groups: BTreeMap<String, BTreeMap<MessageQueue, Lock>>,
    expiry: Duration,
}

impl Locks {
    pub(super) fn new(expiry: Duration) -> Locks {
        Locks { groups: BTreeMap::new(), expiry }
    }

    /// Locks a queue or renews the lock; whether `client` holds it now.
    pub(super) fn lock(&mut self, now: Instant, group: &str, queue: MessageQueue, client: &str) -> bool {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.into(), BTreeMap::new());
        }
        let queues = self.groups.get_mut(group).expect("just made");
        let lock = queues.entry(queue).or_insert_with(|| Lock { client: client.into(), renewed: now });
        if lock.client != client && now.since(lock.renewed) <= self.expiry {
            Probe::LockRefused.reached();
            return false;
        }
        if lock.client != client {
            Probe::LockPassedOn.reached();
            tracing::info!(group, from = lock.client, to = client, "expired queue lock passes on");
            lock.client = client.into();
        }
        lock.renewed = now;
        true
    }

    /// Frees a queue that `client` holds.
    pub(super) fn unlock(&mut self, group: &str, queue: &MessageQueue, client: &str) {
        let Some(queues) = self.groups.get_mut(group) else { return };
        if queues.get(queue).is_some_and(|lock| lock.client == client) {
            queues.remove(queue);
        }
        if queues.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Whether the group holds any lock: RocketMQ takes it for one that consumes in order.
    pub(super) fn has_live(&self, now: Instant, group: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|queues| queues.values().any(|lock| now.since(lock.renewed) <= self.expiry))
    }

    /// Forgets what expired.
    pub(super) fn expire(&mut self, now: Instant) {
        let expiry = self.expiry;
        self.groups.retain(|_, queues| {
            queues.retain(|_, lock| now.since(lock.renewed) <= expiry);
            !queues.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_lock_is_its_holders_until_it_expires() {
        let mut locks = Locks::new(Duration::from_secs(60));
        let queue = || MessageQueue::new("T", "b", 0);
        assert!(locks.lock(at(0), "G", queue(), "a"));
        assert!(!locks.lock(at(60), "G", queue(), "b"));
        assert!(locks.lock(at(60), "G", queue(), "a"), "renewed");
        assert!(locks.lock(at(60), "H", queue(), "b"), "groups are apart");
        assert!(locks.has_live(at(120), "G"));
        assert!(locks.lock(at(121), "G", queue(), "b"));
        locks.unlock("G", &queue(), "a");
        assert!(!locks.lock(at(122), "G", queue(), "a"), "only the holder frees it");
        locks.unlock("G", &queue(), "b");
        assert!(locks.lock(at(122), "G", queue(), "a"));
        locks.expire(at(200));
        assert!(!locks.has_live(at(200), "G") && locks.groups.is_empty());
    }
}
