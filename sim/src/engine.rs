//! The event heap: what happens next, in virtual time.
//!
//! Events are ordered by time, then by the order in which they were scheduled, so that a run has exactly one order.
//!
//! Absent on purpose: cancelling. Whoever schedules puts a stamp into the event and drops it when the stamp is stale.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use gantry_core::time::Instant;

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Scheduled events and the present time.
#[derive(Debug)]
pub struct Engine<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    now: Instant,
    sequence: u64,
}

impl<E> Default for Engine<E> {
    fn default() -> Self {
        Engine { heap: BinaryHeap::new(), now: Instant::ZERO, sequence: 0 }
    }
}

impl<E> Engine<E> {
    /// The time of the event taken last.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Events scheduled so far.
    pub fn scheduled(&self) -> u64 {
        self.sequence
    }

    /// Lets `event` happen at `at`, or now if that has passed.
    pub fn schedule(&mut self, at: Instant, event: E) {
        let entry = Entry { at: at.max(self.now), sequence: self.sequence, event };
        self.sequence += 1;
        self.heap.push(Reverse(entry));
    }

    /// Takes the next event and sets the time to it; `None` when nothing is left to happen up to and including `until`.
    pub fn next(&mut self, until: Instant) -> Option<E> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_order_scheduled() {
        let mut engine = Engine::default();
        let at = Instant::from_nanos;
        for (nanos, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (9, 'z')] {
            engine.schedule(at(nanos), name);
        }
        let mut order = String::new();
        while let Some(name) = engine.next(at(8)) {
            order.push(name);
        }
        assert_eq!(order, "abcd");
        assert_eq!(engine.now(), at(5));
        engine.schedule(at(3), 'e');
        assert_eq!(engine.next(at(8)), Some('e'));
        assert_eq!(engine.now(), at(5), "time never goes back");
    }
}
