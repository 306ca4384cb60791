//! Messages that are to be stored once, however often their sends arrive.
//!
//! A producer that asks for it (`gantryOnce` in the header; nobody else is concerned) gets its name written into the record beside the
//! unique key. A send that may have been stored before (`gantryAgain`) is looked for by that key in the key index, which is as durable
//! as the log's checkpoint and is made whole from the log by every recovery, on a slave too. So there is no table to rebuild after
//! a crash or a promotion, a record that was lost with the log's tail is not found, and a first attempt costs nothing but its mark.
//!
//! What must be remembered is little: sends that are being looked for, since others of their key wait for them; and keys that a
//! later attempt has stored, since the first one may still lie in the buffers of an earlier connection. That one is gone with the
//! process at the latest, and so may the table be.
//!
//! The window is counted by the monotonic clock and, before the start, along the log: a wall clock that jumps does not end it.
//!
//! Invariant: of one key one send is looked for or stored at a time, in the order of arrival.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::NameMap;
use super::store::{KeyQuery, OnceMark};
use crate::io::{ConnId, FetchId};
use crate::time::Instant;
use crate::wire::Command;

/// Sends that are looked for or wait for such, at a time.
const WAITING_MAX: usize = 1024;
/// Searches of one turn: each may go through all keys on the heap, which takes some 0.1 ms when they are many.
const STEPS_PER_TURN_MAX: u32 = 32;
/// The store time is noted so often in a window.
const NOTES: u32 = 16;

/// Names a message for its producer: topic, producer and unique key.
pub(super) type OnceKey = String;

/// Puts together a key. None of the parts may hold the separator: properties do not.
pub(super) fn once_key(topic: &str, producer: &str, unique: &str) -> OnceKey {
    [topic, producer, unique].join("\u{1}")
}

/// Where a message lies.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) queue_id: i32,
    pub(super) queue_offset: i64,
    pub(super) physical: u64,
    /// One past its record.
    pub(super) end: u64,
    pub(super) store_host: core::net::SocketAddr,
}

/// A message of a send that is being looked for.
#[derive(Debug)]
pub(super) struct Sought {
    pub(super) key: OnceKey,
    pub(super) topic: String,
    pub(super) unique: String,
    pub(super) mark: OnceMark,
    /// None before it was looked for; then whether it was found.
    pub(super) found: Option<Option<Found>>,
}

/// A send, and what is known of its messages.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) conn: ConnId,
    pub(super) request: Command,
    pub(super) sought: Vec<Sought>,
    /// Of the first message that was not looked for.
    pub(super) query: Option<KeyQuery>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Once {
    running: VecDeque<Lookup>,
    fetching: BTreeMap<FetchId, Lookup>,
    /// How many lookups of the above have a key.
    busy: NameMap<OnceKey, u32>,
    /// Sends of a key that is busy, in order of arrival: they begin anew when it no longer is.
    behind: VecDeque<(ConnId, Command)>,
    /// A key is no longer busy since those were looked at.
    released: bool,
    /// Keys that a later attempt has stored.
    later: NameMap<OnceKey, Instant>,
    by_age: VecDeque<(Instant, OnceKey)>,
    /// Times, and the newest store time then.
    notes: VecDeque<(Instant, i64)>,
    steps: u32,
}

impl Once {
    /// Notes the newest store time, if the last note is old. To be called with each send that is to be stored once.
    pub(super) fn note(&mut self, now: Instant, newest_ms: i64, window: Duration) {
        if self.notes.back().is_some_and(|(at, _)| now < *at + window / NOTES) {
            return;
        }
        self.notes.push_back((now, newest_ms));
        while self.notes.get(1).is_some_and(|(at, _)| *at + window <= now) {
            self.notes.pop_front();
        }
    }

    /// A store time that nothing has which was stored within the window is below.
    pub(super) fn begin_ms(&self, now: Instant, newest_ms: i64, window: Duration) -> i64 {
        let (at, noted_ms) = self.notes.front().copied().unwrap_or((now, newest_ms));
        let before = window.saturating_sub(now.since(at));
        noted_ms.saturating_sub(i64::try_from(before.as_millis()).unwrap_or(i64::MAX))
    }

    /// Whether a send of this key must wait.
    pub(super) fn is_busy(&self, key: &str) -> bool {
        self.busy.contains_key(key)
    }

    /// Whether a later attempt has stored this key.
    pub(super) fn was_later(&self, key: &str) -> bool {
        self.later.contains_key(key)
    }

    /// A later attempt has stored this key.
    pub(super) fn remember(&mut self, now: Instant, key: OnceKey, window: Duration, keys_max: usize) {
        while self.by_age.front().is_some_and(|(at, _)| *at + window <= now) || self.by_age.len() >= keys_max
        {
            let Some((at, old)) = self.by_age.pop_front() else { break };
            if self.later.get(&old) == Some(&at) {
                self.later.remove(&old);
            }
        }
        self.later.insert(key.clone(), now);
        self.by_age.push_back((now, key));
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.running.len() + self.fetching.len() + self.behind.len() >= WAITING_MAX
    }

    /// Whether one more step may be done in this turn.
    pub(super) fn may_step(&mut self) -> bool {
        self.steps += 1;
        self.steps <= STEPS_PER_TURN_MAX
    }

    /// A new turn.
    pub(super) fn turn_ends(&mut self) {
        self.steps = 0;
    }

    /// The keys of a lookup are busy from now on.
    pub(super) fn occupy(&mut self, lookup: &Lookup) {
        for sought in &lookup.sought {
            *self.busy.entry(sought.key.clone()).or_default() += 1;
        }
    }

    /// A lookup is over.
    pub(super) fn release(&mut self, lookup: &Lookup) {
        self.released = true;
        for sought in &lookup.sought {
            if let Some(count) = self.busy.get_mut(&sought.key) {
                *count -= 1;
                if *count == 0 {
                    self.busy.remove(&sought.key);
                }
            }
        }
    }

    pub(super) fn run(&mut self, lookup: Lookup) {
        self.running.push_back(lookup);
    }

    pub(super) fn fetch(&mut self, id: FetchId, lookup: Lookup) {
        self.fetching.insert(id, lookup);
    }

    pub(super) fn fetched(&mut self, id: FetchId) -> Option<Lookup> {
        self.fetching.remove(&id)
    }

    pub(super) fn wait(&mut self, conn: ConnId, request: Command) {
        self.behind.push_back((conn, request));
    }

    /// How many can go on now.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// One that can.
    pub(super) fn next_running(&mut self) -> Option<Lookup> {
        self.running.pop_front()
    }

    /// Sends that wait for others, once some of those are over: all begin anew.
    pub(super) fn take_behind(&mut self) -> VecDeque<(ConnId, Command)> {
        if core::mem::take(&mut self.released) { core::mem::take(&mut self.behind) } else { VecDeque::new() }
    }

    /// Whether there is something to do without waiting for anything.
    pub(super) fn is_runnable(&self) -> bool {
        !self.running.is_empty() || (!self.behind.is_empty() && self.released)
    }

    pub(super) fn check_invariants(&self) {
        let lookups = self.running.iter().chain(self.fetching.values());
        let keys: usize = lookups.map(|lookup| lookup.sought.len()).sum();
        assert!(self.busy.len() <= keys, "only what is looked for is busy");
        assert!(self.later.len() <= self.by_age.len(), "what is remembered is forgotten one day");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(16);

    fn at(secs: u64) -> Instant {
        Instant::from_nanos((1000 + secs) * 1_000_000_000)
    }

    #[test]
    fn the_window_does_not_end_with_a_jump_of_the_wall_clock() {
        let mut once = Once::default();
        assert_eq!(once.begin_ms(at(0), 50_000, WINDOW), 34_000, "before the first note: along the log");
        once.note(at(0), 50_000, WINDOW);
        once.note(at(4), 9_000_000, WINDOW);
        assert_eq!(once.begin_ms(at(10), 9_000_100, WINDOW), 44_000);
        once.note(at(20), 9_000_200, WINDOW);
        assert_eq!(once.begin_ms(at(20), 9_000_200, WINDOW), 9_000_000, "what is older than the window goes");
        assert_eq!(once.begin_ms(at(500), 9_000_200, WINDOW), 9_000_000);
    }

    #[test]
    fn keys_are_forgotten_by_age_and_number() {
        let mut once = Once::default();
        once.remember(at(0), "a".into(), WINDOW, 2);
        once.remember(at(1), "b".into(), WINDOW, 2);
        assert!(once.was_later("a") && once.was_later("b"));
        once.remember(at(2), "c".into(), WINDOW, 2);
        assert!(!once.was_later("a") && once.was_later("b"));
        once.remember(at(17), "c".into(), WINDOW, 9);
        assert!(!once.was_later("b") && once.was_later("c"));
        once.remember(at(18), "d".into(), WINDOW, 9);
        assert!(once.was_later("c"), "the newer time counts");
        once.check_invariants();
    }
}
