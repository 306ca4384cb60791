//! Pulls that wait: for a message, or for the disk.
//!
//! A held pull is looked at again when its queue gains an entry and when its time is up; nothing sweeps. A pull whose
//! messages are not in memory waits for its fetch. Both together are bounded by [`super::BrokerConfig::pulls_waiting_max`].
//!
//! Invariant: every index names exactly the pulls that are there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::filter::Filter;
use super::offset::Pair;
use super::reply::ReplyTo;
use super::store::{QueueIx, ReadLimits};
use crate::io::{ConnId, FetchId};
use crate::probe::Probe;
use crate::time::Instant;

/// A pull, once it has passed all checks.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) to: ReplyTo,
    pub(super) queue: QueueIx,
    pub(super) queue_id: i32,
    /// Topic and group.
    pub(super) pair: Pair,
    /// Queue offset to read next; moves past messages that the filter refuses.
    pub(super) offset: i64,
    /// The offset that was asked for.
    pub(super) asked: i64,
    pub(super) limits: ReadLimits,
    pub(super) filter: Filter,
    /// The broker that the group should pull from, and the one when it is far behind.
    pub(super) suggest_broker: i64,
    pub(super) suggest_when_slow: i64,
    /// Until when it may be held; none when it must be answered at once.
    pub(super) hold_until: Option<Instant>,
    /// Whether it was held before: then it is answered only by a message or by time.
    pub(super) held: bool,
}

/// Names a held pull. Rises, so that of two pulls of a queue the older one is served first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct HoldId(u64);

/// All pulls that wait.
#[derive(Debug, Default)]
pub(super) struct Holds {
    next: u64,
    held: BTreeMap<HoldId, Pull>,
    by_queue: BTreeSet<(QueueIx, HoldId)>,
    by_deadline: BTreeSet<(Instant, HoldId)>,
    by_conn: BTreeSet<(ConnId, HoldId)>,
    fetching: BTreeMap<FetchId, Pull>,
}

impl Holds {
    /// Pulls that wait.
    pub(super) fn len(&self) -> usize {
        self.held.len() + self.fetching.len()
    }

    /// Holds a pull until its time.
    pub(super) fn hold(&mut self, pull: Pull, until: Instant) {
        self.next += 1;
        let id = HoldId(self.next);
        self.by_queue.insert((pull.queue, id));
        self.by_deadline.insert((until, id));
        self.by_conn.insert((pull.to.conn, id));
        self.held.insert(id, Pull { hold_until: Some(until), held: true, ..pull });
    }

    /// Parks a pull until a fetch.
    pub(super) fn fetch(&mut self, id: FetchId, pull: Pull) {
        Probe::PullCold.reached();
        self.fetching.insert(id, pull);
    }

    /// The pull that waited for a fetch, if its client is still there.
    pub(super) fn fetched(&mut self, id: FetchId) -> Option<Pull> {
        self.fetching.remove(&id)
    }

    /// Takes out all pulls of a queue, oldest first.
    pub(super) fn take_queue(&mut self, queue: QueueIx, out: &mut Vec<Pull>) {
        while let Some((_, id)) =
            self.by_queue.range((queue, HoldId(0))..=(queue, HoldId(u64::MAX))).next().copied()
        {
            Probe::PullWoken.reached();
            out.extend(self.remove(id));
        }
    }

    /// Takes out the pulls whose time is up.
    pub(super) fn take_due(&mut self, now: Instant, out: &mut Vec<Pull>) {
        while let Some((until, id)) = self.by_deadline.first().copied()
            && until <= now
        {
            Probe::PullTimedOut.reached();
            out.extend(self.remove(id));
        }
    }

    /// Takes out everything that is held.
    pub(super) fn take_all(&mut self, out: &mut Vec<Pull>) {
        while let Some((id, _)) = self.held.first_key_value() {
            let id = *id;
            out.extend(self.remove(id));
        }
    }

    /// Forgets the pulls of a connection. A fetch under way completes into nothing.
    pub(super) fn closed(&mut self, conn: ConnId) {
        while let Some((_, id)) =
            self.by_conn.range((conn, HoldId(0))..=(conn, HoldId(u64::MAX))).next().copied()
        {
            Probe::PullForgotten.reached();
            self.remove(id);
        }
        self.fetching.retain(|_, pull| pull.to.conn != conn);
    }

    fn remove(&mut self, id: HoldId) -> Option<Pull> {
        let pull = self.held.remove(&id)?;
        let until = pull.hold_until.expect("a held pull has its time");
        self.by_queue.remove(&(pull.queue, id));
        self.by_deadline.remove(&(until, id));
        self.by_conn.remove(&(pull.to.conn, id));
        Some(pull)
    }

    /// When the next one's time is up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(until, _)| *until)
    }

    pub(super) fn check_invariants(&self) {
        for index in [self.by_queue.len(), self.by_deadline.len(), self.by_conn.len()] {
            assert_eq!(index, self.held.len(), "indexes of held pulls agree");
        }
        for (id, pull) in &self.held {
            assert!(self.by_queue.contains(&(pull.queue, *id)), "a held pull is found by its queue");
            assert!(self.by_conn.contains(&(pull.to.conn, *id)), "a held pull is found by its connection");
        }
    }
}
