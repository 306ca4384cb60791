//! The event heap: what happens next, in virtual time.
//!
//! Events are ordered by time, then by the order in which they were scheduled, so that a run has exactly one order.
//!
//! Absent on purpose: cancelling. Whoever schedules puts a stamp into the event and drops it when the stamp is stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gantry_core::time::Instant;

/// When, in which order, and the event's place in [`Engine::events`].
type Entry = (Instant, u64, usize);

/// Scheduled events and the present time.
#[derive(Debug)]
pub struct Engine<E> {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Events are many times as large as what orders them: a heap moves its entries, and these stay where they are.
    events: Vec<Option<E>>,
    free: Vec<usize>,
    now: Instant,
    sequence: u64,
}

impl<E> Default for Engine<E> {
    fn default() -> Self {
        Engine {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            now: Instant::ZERO,
            sequence: 0,
        }
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
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at.max(self.now), self.sequence, place)));
        self.sequence += 1;
    }

    /// Takes the next event and sets the time to it; `None` when nothing is left to happen up to and including `until`.
    pub fn next(&mut self, until: Instant) -> Option<E> {
        if self.heap.peek()?.0.0 > until {
            return None;
        }
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.now = at;
        self.free.push(place);
        self.events[place].take()
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
