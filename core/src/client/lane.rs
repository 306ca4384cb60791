//! One queue that a member has: what was pulled of it and is not consumed yet (RocketMQ's `ProcessQueue`).
//!
//! A message is in one of three places by its offset: waiting, with the application or on its way back ([`Lane::handed`]), or
//! parked for a local retry. All below the oldest of them is consumed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::consumer::ConsumerConfig;
use super::message::Received;
use super::route::MASTER_ID;
use crate::time::Instant;

/// Bytes that a message counts for beside its body.
const MESSAGE_BYTES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// May go on at this time.
    Nothing(Instant),
    /// Waits for an answer.
    Asking,
}

#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Tells answers to this lane from those to an earlier one of the same queue.
    pub(super) life: u64,
    pub(super) doing: Doing,
    pub(super) asked_at: Instant,
    /// Where to pull next; unknown until the group's offset is.
    pub(super) next: Option<i64>,
    /// The broker id to pull from.
    pub(super) source: i64,
    /// What the broker was last told.
    pub(super) committed: Option<i64>,
    /// How often it is still to be told: a pull that carries an older offset may be carried out behind it.
    pub(super) commits_left: u8,
    pub(super) locked_until: Option<Instant>,
    pub(super) paused_until: Instant,
    waiting: BTreeMap<i64, Arc<Received>>,
    handed: BTreeMap<i64, Arc<Received>>,
    parked: BTreeMap<i64, (Instant, Arc<Received>)>,
    bytes: usize,
}

impl Lane {
    pub(super) fn new(life: u64, now: Instant) -> Lane {
        Lane {
            life,
            doing: Doing::Nothing(now),
            asked_at: now,
            next: None,
            source: MASTER_ID,
            committed: None,
            commits_left: 0,
            locked_until: None,
            paused_until: Instant::ZERO,
            waiting: BTreeMap::new(),
            handed: BTreeMap::new(),
            parked: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn begin(&mut self, offset: i64) {
        self.next = Some(offset);
    }

    /// Takes what was pulled.
    pub(super) fn take(&mut self, messages: impl Iterator<Item = Received>, next: i64) {
        for message in messages {
            if self.waiting.contains_key(&message.queue_offset) {
                continue;
            }
            self.bytes += message.body.len() + MESSAGE_BYTES;
            self.waiting.insert(message.queue_offset, Arc::new(message));
        }
        self.next = Some(next);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing is with the application.
    pub(super) fn is_all_here(&self) -> bool {
        self.handed.is_empty()
    }

    pub(super) fn is_locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| until > now)
    }

    /// Whether nothing more is to be pulled for now.
    pub(super) fn is_full(&self, config: &ConsumerConfig) -> bool {
        let count = self.waiting.len() + self.handed.len() + self.parked.len();
        let span = match (self.oldest(), self.next) {
            (Some(oldest), Some(next)) => next - oldest,
            (None, _) | (_, None) => 0,
        };
        count >= config.queue_messages_max
            || self.bytes >= config.queue_bytes_max
            || (!config.orderly && span > config.queue_span_max)
    }

    /// The oldest messages, for the application.
    pub(super) fn hand_out(&mut self, count: usize) -> Vec<Arc<Received>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let Some((offset, message)) = self.waiting.pop_first() else { break };
            self.handed.insert(offset, message.clone());
            messages.push(message);
        }
        messages
    }

    /// A message is consumed, or is with the broker again.
    pub(super) fn done(&mut self, offset: i64) {
        let message = self.handed.remove(&offset);
        if let Some(message) = message.or_else(|| self.waiting.remove(&offset)) {
            self.bytes -= message.body.len() + MESSAGE_BYTES;
        }
    }

    /// A message that was handed out, to be sent back.
    pub(super) fn held(&self, offset: i64) -> Option<Arc<Received>> {
        self.handed.get(&offset).cloned()
    }

    /// Puts a message back in its place for another try, and says how many it has had.
    pub(super) fn again(&mut self, offset: i64) -> i32 {
        let Some(mut message) = self.handed.remove(&offset) else { return 0 };
        let tries = count_try(&mut message);
        self.waiting.insert(offset, message);
        tries
    }

    /// Takes a waiting message out, to be sent back.
    pub(super) fn handed(&mut self, offset: i64) -> Option<Arc<Received>> {
        let message = self.waiting.remove(&offset)?;
        self.handed.insert(offset, message.clone());
        Some(message)
    }

    /// The broker did not take it back: it is tried again here, later.
    pub(super) fn park(&mut self, offset: i64, until: Instant) {
        if let Some(mut message) = self.handed.remove(&offset) {
            count_try(&mut message);
            self.parked.insert(offset, (until, message));
        }
    }

    pub(super) fn unpark(&mut self, now: Instant) {
        if self.parked.is_empty() {
            return;
        }
        while let Some(offset) =
            self.parked.iter().find(|(_, (until, _))| *until <= now).map(|(offset, _)| *offset)
        {
            if let Some((_, message)) = self.parked.remove(&offset) {
                self.waiting.insert(offset, message);
            }
        }
    }

    pub(super) fn parked_until(&self) -> Option<Instant> {
        if self.parked.is_empty() {
            return None;
        }
        self.parked.values().map(|(until, _)| *until).min()
    }

    /// The oldest message that nobody has settled.
    pub(super) fn oldest(&self) -> Option<i64> {
        if self.waiting.is_empty() && self.handed.is_empty() && self.parked.is_empty() {
            return None;
        }
        let firsts = [self.waiting.keys().next(), self.handed.keys().next(), self.parked.keys().next()];
        firsts.into_iter().flatten().min().copied()
    }

    /// What is here: how many, oldest and newest (0 when none), and bytes.
    pub(super) fn cached(&self) -> (usize, (i64, i64), usize) {
        let lasts =
            [self.waiting.keys().next_back(), self.handed.keys().next_back(), self.parked.keys().next_back()];
        let newest = lasts.into_iter().flatten().max().copied();
        let count = self.waiting.len() + self.handed.len() + self.parked.len();
        (count, (self.oldest().unwrap_or(0), newest.unwrap_or(0)), self.bytes)
    }

    /// What is with the application: how many, oldest and newest (0 when none).
    pub(super) fn with_application(&self) -> (i32, (i64, i64)) {
        let range = (self.handed.keys().next(), self.handed.keys().next_back());
        let count = i32::try_from(self.handed.len()).unwrap_or(i32::MAX);
        (count, (range.0.copied().unwrap_or(0), range.1.copied().unwrap_or(0)))
    }

    /// All below this is consumed.
    pub(super) fn consumed(&self) -> Option<i64> {
        self.oldest().or(self.next)
    }

    /// Whether the broker is to be told how far this has come.
    pub(super) fn has_news(&self) -> bool {
        self.consumed().is_some_and(|offset| self.committed != Some(offset) || self.commits_left > 0)
    }

    pub(super) fn check_invariants(&self, config: &ConsumerConfig) {
        let here =
            self.waiting.values().chain(self.handed.values()).chain(self.parked.values().map(|(_, m)| m));
        let bytes: usize = here.map(|message| message.body.len() + MESSAGE_BYTES).sum();
        assert_eq!(bytes, self.bytes, "the bytes of a lane are those of its messages");
        // A pull leaves while there is room for one message, and brings as many as it asks for.
        let most = config.queue_messages_max + usize::try_from(config.pull_messages_max).unwrap_or(0);
        let count = self.waiting.len() + self.handed.len() + self.parked.len();
        assert!(count <= most, "a queue holds {count} messages here, of {most}");
    }
}

/// One more, which the application does not see in what it still has.
fn count_try(message: &mut Arc<Received>) -> i32 {
    let message = Arc::make_mut(message);
    message.reconsume_times += 1;
    message.reconsume_times
}
