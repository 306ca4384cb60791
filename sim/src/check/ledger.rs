//! What was promised, and what became of the promises: the shared memory of the checkers.
//!
//! Derived here, never assumed: what a power loss may have taken. Under asynchronous flush that is every message that no
//! completed sync of its commit-log segment covers, and what lies behind one, and nothing else. Under synchronous flush it is nothing, and the death
//! of a process never takes anything.
//!
//! A master whose disk says that it syncs, and does not, is like one under asynchronous flush: it may lose what no honest sync covers.
//! And what lies in its queues' files and its checkpoint alike: the checkpoint may say more than is there, and what it covers is not
//! looked at again. So only what was vouched for when nothing was in doubt is kept for sure, if its queue's file was synced honestly since.
//!
//! A message whose body was damaged in the master's log is passed over. A start that looks at it cuts the log there: from the next
//! one on nothing behind it is kept for sure, until the master vouches for it again.
//!
//! Under synchronous replication a power loss of the master takes nothing that was acknowledged, whatever the flush mode: a slave
//! has it, and the master brings it home before it serves. Only a slave whose power fails too, since then, may have lost it as well.

use std::collections::BTreeMap;
use std::ops::Range;

use gantry_core::io::{DiskError, SyncId};
use gantry_core::time::Instant;
use gantry_disk::Ticket;

use super::told::Told;
use super::{Flush, Setup};
use crate::history::{MessageId, Outcome, Queue, Report, RequestId, topic_name};
use crate::process::Seen;
use crate::workload::requests::reply;
use crate::world::{Fact, HostId, Violation};

/// A message that the master has acknowledged or handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// Which.
    pub message: MessageId,
    /// Where in the commit log.
    pub physical: u64,
    /// When the master first vouched for it.
    pub at: Instant,
    /// A power loss may have taken it, at this time.
    pub excused: Option<Instant>,
    /// It has survived a power loss: it is on the medium.
    pub durable: bool,
    /// It was acknowledged under synchronous replication: a slave has it too.
    pub replicated: bool,
    /// The master has lost it, and is to bring it home from its slave before it serves.
    pub away: bool,
}

/// An attempt to send, as its producer sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    /// Where to.
    pub queue: Queue,
    /// Its messages.
    pub messages: Vec<MessageId>,
    /// When it began.
    pub begun: Instant,
    /// Offsets of the queue below this were acknowledged to the producer before it began.
    pub floor: i64,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
}

/// A time at which a host's power failed, or a process died that had seen a sync fail: its kernel may drop what it could not
/// write.
pub type PowerLosses = Vec<(HostId, Instant)>;

#[derive(Clone, Copy, Debug, Default)]
struct HostState {
    running: bool,
    /// A sync has failed in this life: when it ends, what was not synced may be gone as after a power loss.
    sync_failed: bool,
    /// Since when it has been running without a pause.
    since: Instant,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ledger {
    promises: BTreeMap<(Queue, i64), Promise>,
    /// Where each message was first seen.
    places: BTreeMap<MessageId, (Queue, i64)>,
    attempts: BTreeMap<RequestId, Attempt>,
    requests: BTreeMap<MessageId, RequestId>,
    /// One past the highest offset acknowledged to the producer.
    floors: BTreeMap<Queue, i64>,
    syncs: Syncs,
    /// What of the log was on the medium when the master's power last failed.
    medium: Option<Medium>,
    power_losses: PowerLosses,
    hosts: Vec<HostState>,
    excused: u64,
    /// What the master lost it may have brought home from a slave.
    comes_home: bool,
    /// The master's disk was not true to its word, or to what it was given: everything below this place of the log is kept.
    betrayed: Option<u64>,
    /// Where in the log bodies are damaged, and whether the master was started since.
    damaged: BTreeMap<u64, bool>,
    /// The master has told something in this life: its start is over.
    serves: bool,
    /// A start may have cut the log where a body was damaged.
    may_be_cut: bool,
    /// What the master has lost in that way, and a slave holds: where in the log, and which.
    entrusted: BTreeMap<u64, MessageId>,
}

/// Which parts of the commit log are on the medium.
#[derive(Debug, Default)]
struct Syncs {
    pending: BTreeMap<SyncId, (String, Instant)>,
    /// Files that a process asked for and died before it was told: until the next one has recovered, which ends with a sync of what it
    /// read, the power may take what lies in them.
    unfinished: Vec<String>,
    /// By the start of a segment: everything written into it up to then is durable.
    safe_since: BTreeMap<u64, Instant>,
    /// The same as the disk said it, which is all that a machine can know.
    said_since: BTreeMap<u64, Instant>,
    /// What the disk said was synced, and was not: files, and when that was asked for.
    lies: Vec<(String, Instant)>,
    /// By topic and queue: everything put into the file of it up to then is durable.
    queue_since: BTreeMap<(String, i32), Instant>,
}

/// What of a log was on the medium when the power failed.
#[derive(Debug)]
struct Medium {
    safe_since: BTreeMap<u64, Instant>,
    /// A segment that may have lost something: what lies behind it is lost with it.
    first_pending: Option<u64>,
    directory_pending: bool,
}

const LOG_DIR: &str = "commitlog";

/// The segment that a file of the commit log holds.
fn segment_of(path: &str) -> Option<u64> {
    path.strip_prefix(LOG_DIR)?.strip_prefix('/')?.parse().ok()
}

/// The queue that a file or a directory of one belongs to.
fn queue_of(path: &str) -> Option<(String, i32)> {
    let mut parts = path.strip_prefix("consumequeue/")?.split('/');
    let (topic, queue, _file) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    Some((topic.to_owned(), queue))
}

impl Syncs {
    fn complete(&mut self, id: SyncId, is_lie: bool) {
        let Some((path, asked_at)) = self.pending.remove(&id) else { return };
        if let Some(segment) = segment_of(&path) {
            let since = self.said_since.entry(segment).or_default();
            *since = asked_at.max(*since);
        }
        if is_lie {
            return self.lies.push((path, asked_at));
        }
        self.is_true(&path, asked_at);
        for (path, asked_at) in std::mem::take(&mut self.lies) {
            self.is_true(&path, asked_at);
        }
    }

    fn is_true(&mut self, path: &str, asked_at: Instant) {
        if let Some(queue) = queue_of(path) {
            let since = self.queue_since.entry(queue).or_default();
            *since = asked_at.max(*since);
        }
        if let Some(segment) = segment_of(path) {
            let since = self.safe_since.entry(segment).or_default();
            *since = asked_at.max(*since);
        }
    }

    fn is_safe(&self, segment: u64, written_at: Instant) -> bool {
        self.safe_since.get(&segment).is_some_and(|since| *since >= written_at)
    }

    /// Whether a segment before this one is being synced.
    fn is_pending_below(&self, segment: u64) -> bool {
        self.unsynced().any(|path| segment_of(path).is_some_and(|other| other < segment))
    }

    fn unsynced(&self) -> impl Iterator<Item = &String> {
        self.pending.values().map(|(path, _)| path).chain(&self.unfinished)
    }

    fn die(&mut self) {
        self.unfinished.extend(std::mem::take(&mut self.pending).into_values().map(|(path, _)| path));
    }

    fn medium(&self) -> Medium {
        Medium {
            safe_since: self.safe_since.clone(),
            first_pending: self.unsynced().filter_map(|path| segment_of(path)).min(),
            directory_pending: self.is_directory_pending(),
        }
    }

    /// Whether the file of a queue has everything that was put into it by then.
    fn has_entries(&self, queue: Queue, by: Instant) -> bool {
        let topic = topic_name(queue.topic);
        let dir = format!("consumequeue/{topic}/{}", queue.id);
        let is_named = !self.lies.iter().chain(self.pending.values()).any(|(path, _)| *path == dir);
        is_named && self.queue_since.get(&(topic, queue.id)).is_some_and(|since| *since >= by)
    }

    fn is_directory_pending(&self) -> bool {
        self.unsynced().any(|path| path == LOG_DIR || path.is_empty())
    }
}

impl Ledger {
    /// Nothing promised yet.
    pub fn new(setup: &Setup) -> Ledger {
        let cast = &setup.cast;
        let ids = [cast.name_server, cast.master, cast.follower, cast.producer, cast.consumer, cast.auditor];
        let hosts = ids.iter().chain(&setup.name_servers).map(|host| host.0).max().unwrap_or(0) + 1;
        Ledger {
            promises: BTreeMap::new(),
            places: BTreeMap::new(),
            attempts: BTreeMap::new(),
            requests: BTreeMap::new(),
            floors: BTreeMap::new(),
            syncs: Syncs::default(),
            medium: None,
            power_losses: Vec::new(),
            hosts: vec![HostState::default(); hosts],
            excused: 0,
            comes_home: false,
            betrayed: None,
            damaged: BTreeMap::new(),
            serves: false,
            may_be_cut: false,
            entrusted: BTreeMap::new(),
        }
    }

    /// Everything promised: the latest promise for each offset.
    pub fn promises(&self) -> impl Iterator<Item = (Queue, i64, &Promise)> {
        self.promises.iter().map(|((queue, offset), promise)| (*queue, *offset, promise))
    }

    /// What was promised in a part of a queue.
    pub fn promises_in(&self, queue: Queue, offsets: Range<i64>) -> impl Iterator<Item = (i64, &Promise)> {
        let range = self.promises.range((queue, offsets.start)..(queue, offsets.end.max(offsets.start)));
        range.map(|((_, offset), promise)| (*offset, promise))
    }

    /// What was promised at an offset.
    pub fn promise(&self, queue: Queue, offset: i64) -> Option<&Promise> {
        self.promises.get(&(queue, offset))
    }

    /// Where a message was first seen.
    pub fn place(&self, message: MessageId) -> Option<(Queue, i64)> {
        self.places.get(&message).copied()
    }

    /// The attempt to which a message belongs.
    pub fn attempt(&self, message: MessageId) -> Option<&Attempt> {
        self.attempts.get(self.requests.get(&message)?)
    }

    /// The attempt of a request.
    pub fn attempt_of(&self, request: RequestId) -> Option<&Attempt> {
        self.attempts.get(&request)
    }

    /// All attempts.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.values()
    }

    /// When power failed, and where.
    pub fn power_losses(&self) -> &PowerLosses {
        &self.power_losses
    }

    /// How many promises a power loss may have taken.
    pub fn excused(&self) -> u64 {
        self.excused
    }

    /// Since when a host has been running without death or pause.
    pub fn running_since(&self, host: HostId) -> Option<Instant> {
        self.hosts.get(host.0).filter(|host| host.running).map(|host| host.since)
    }

    /// Whether the disk has said that everything written into the log at `physical` by `written_at` is on the medium.
    pub fn is_synced(&self, setup: &Setup, physical: u64, written_at: Instant) -> bool {
        let segment = physical - physical % setup.segment_bytes;
        self.syncs.said_since.get(&segment).is_some_and(|since| *since >= written_at)
    }

    /// Whether what lay in the log at `physical`, and was seen there at a time, is there still after the latest power loss of
    /// the master.
    pub fn has_survived(&self, setup: &Setup, physical: u64, seen_at: Instant) -> bool {
        let Some(medium) = self.medium.as_ref().filter(|_| setup.flush == Flush::Async) else { return true };
        let segment = physical - physical % setup.segment_bytes;
        let synced = medium.safe_since.get(&segment).is_some_and(|since| *since >= seen_at);
        synced && !medium.directory_pending && medium.first_pending.is_none_or(|first| first >= segment)
    }

    /// The lowest place in the log that a power loss may have taken; everything below it is the same for ever.
    pub fn first_excused(&self) -> Option<u64> {
        let excused = self.promises.values().filter(|promise| promise.excused.is_some());
        excused.map(|promise| promise.physical).min()
    }

    /// Below which place of its log a master has kept everything, whose power failed while what its disk had said was not true, or
    /// whose disk did not keep a body as it was.
    pub fn betrayed(&self) -> Option<u64> {
        self.betrayed
    }

    /// Whether the body of the message there is damaged in the master's log.
    pub fn is_damaged(&self, physical: u64) -> bool {
        self.damaged.contains_key(&physical)
    }

    /// Whether a start may have cut the master's log, because a body was damaged.
    pub fn may_be_cut(&self) -> bool {
        self.may_be_cut
    }

    /// What such a master has lost, and its slaves must have.
    pub fn entrusted(&self) -> &BTreeMap<u64, MessageId> {
        &self.entrusted
    }

    /// Takes a fact.
    pub fn on_fact(&mut self, setup: &Setup, at: Instant, host: HostId, fact: &Fact<'_>) {
        self.follow_host(at, host, fact);
        if let Fact::Report(report) = fact {
            self.on_report(at, report);
        }
        let dropped = self.has_dropped(host, fact);
        if dropped || matches!(fact, Fact::PowerLost) {
            self.power_losses.push((host, at));
            if setup.is_slave(host) {
                self.excuse_away(at);
            }
        }
        if host == setup.cast.master {
            if dropped {
                self.medium = Some(self.syncs.medium());
                self.on_power_lost(setup, at);
            }
            self.on_master(setup, at, fact);
        }
    }

    fn follow_host(&mut self, at: Instant, host: HostId, fact: &Fact<'_>) {
        let Some(state) = self.hosts.get_mut(host.0) else { return };
        match fact {
            Fact::Started { .. } => *state = HostState { running: true, since: at, sync_failed: false },
            Fact::Resumed => (state.running, state.since) = (true, at),
            Fact::Died(_) | Fact::Paused => state.running = false,
            // What never began has dropped nothing.
            Fact::Seen(Seen::Synced { result: Err(DiskError::NoDescriptors), .. }) => {}
            Fact::Seen(Seen::Synced { result: Err(_), .. }) => state.sync_failed = true,
            Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::Seen(_)
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Log(_) => {}
        }
    }

    /// Whether a life ends after which the kernel may have dropped what it could not sync.
    fn has_dropped(&self, host: HostId, fact: &Fact<'_>) -> bool {
        matches!(fact, Fact::Died(_)) && self.hosts.get(host.0).is_some_and(|state| state.sync_failed)
    }

    fn on_master(&mut self, setup: &Setup, at: Instant, fact: &Fact<'_>) {
        match fact {
            Fact::Seen(Seen::Sync { id, path }) => {
                self.syncs.pending.insert(*id, (path.clone(), at));
            }
            Fact::DiskCompleted { ticket: Ticket::Sync(id), result: Ok(()) } => {
                let in_doubt = !self.syncs.lies.is_empty();
                self.syncs.complete(*id, setup.is_lying(setup.cast.master, at));
                if in_doubt && self.syncs.lies.is_empty() && setup.flush == Flush::Sync {
                    // What was acknowledged rests on syncs that are true now.
                    let lasting = self.promises.values_mut().filter(|promise| promise.excused.is_none());
                    lasting.for_each(|promise| promise.durable = true);
                }
            }
            Fact::Died(death) => {
                if *death == crate::fault::Death::Process {
                    self.syncs.die();
                }
            }
            Fact::BodyDamaged { physical } => self.on_damaged(at, *physical),
            Fact::PowerLost => {
                self.medium = Some(self.syncs.medium());
                self.on_power_lost(setup, at);
                self.syncs.pending.clear();
                self.syncs.unfinished.clear();
                self.syncs.lies.clear();
            }
            Fact::Started { .. } => {
                self.serves = false;
                self.on_cut(at);
            }
            Fact::DiskCompleted { .. }
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::Seen(_)
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::Log(_) => {}
        }
    }

    /// What only a slave had may be gone with its power.
    fn excuse_away(&mut self, at: Instant) {
        self.entrusted.clear();
        for promise in self.promises.values_mut().filter(|promise| promise.away) {
            promise.away = false;
            promise.excused = Some(at);
            self.excused += 1;
        }
        // What the producer was told before no longer orders what it sends from now on.
        self.floors.clear();
    }

    /// The master serves: what was away is in its log again, and no sync of this life has seen it before.
    fn all_home(&mut self, at: Instant) {
        for promise in self.promises.values_mut().filter(|promise| promise.away) {
            promise.away = false;
            promise.at = at;
        }
    }

    fn on_power_lost(&mut self, setup: &Setup, at: Instant) {
        if !self.syncs.lies.is_empty() {
            return self.on_betrayed(setup, at);
        }
        if setup.flush == Flush::Sync {
            return;
        }
        // A slave has a message from after its producer began to send it.
        let begun = |message| self.requests.get(message).and_then(|request| self.attempts.get(request));
        let slave_losses = self.power_losses.iter().filter(|(host, _)| setup.is_slave(*host));
        let slave_lost = slave_losses.map(|(_, at)| *at).max();
        let directory = self.syncs.is_directory_pending();
        let mut by_place: Vec<&mut Promise> = self.promises.values_mut().collect();
        by_place.sort_by_key(|promise| promise.physical);
        // The log is read from its beginning: behind the first record that is gone, everything is.
        let mut prefix_is_safe = !directory;
        for promise in by_place {
            let segment = promise.physical - promise.physical % setup.segment_bytes;
            let synced = self.syncs.is_safe(segment, promise.at) && !self.syncs.is_pending_below(segment);
            prefix_is_safe &= synced || promise.durable;
            if prefix_is_safe || promise.durable || promise.excused.is_some() {
                continue;
            }
            let begun = begun(&promise.message).map_or(Instant::ZERO, |attempt| attempt.begun);
            if promise.replicated && slave_lost.is_none_or(|lost| lost < begun) {
                promise.away = true;
            } else {
                promise.excused = Some(at);
                self.excused += 1;
            }
        }
        // What the producer was told before no longer orders what it sends from now on.
        self.floors.clear();
    }

    /// The power failed while what the disk had said was not true.
    fn on_betrayed(&mut self, setup: &Setup, at: Instant) {
        let begun = |message| self.requests.get(message).and_then(|request| self.attempts.get(request));
        let slave_losses = self.power_losses.iter().filter(|(host, _)| setup.is_slave(*host));
        let slave_lost = slave_losses.map(|(_, at)| *at).max();
        let mut kept_below = 0;
        let mut by_place: Vec<(&(Queue, i64), &mut Promise)> = self.promises.iter_mut().collect();
        by_place.sort_by_key(|(_, promise)| promise.physical);
        let mut is_whole = true;
        for ((queue, _), promise) in by_place {
            is_whole &= promise.durable;
            if is_whole {
                kept_below = promise.physical + 1;
            }
            let has_entries = self.syncs.has_entries(*queue, promise.at);
            if promise.excused.is_none() && !(is_whole && has_entries) {
                promise.excused = Some(at);
                self.excused += 1;
                let begun = begun(&promise.message).map_or(Instant::ZERO, |attempt| attempt.begun);
                if promise.replicated && slave_lost.is_none_or(|lost| lost < begun) {
                    self.entrusted.insert(promise.physical, promise.message);
                }
            }
        }
        self.keep_below(kept_below);
        self.floors.clear();
    }

    fn keep_below(&mut self, physical: u64) {
        self.betrayed = Some(self.betrayed.map_or(physical, |before| before.min(physical)));
    }

    fn on_damaged(&mut self, at: Instant, physical: u64) {
        self.damaged.insert(physical, false);
        self.keep_below(physical);
        let here = self.promises.values_mut().filter(|promise| promise.physical == physical);
        for promise in here.filter(|promise| promise.excused.is_none()) {
            promise.excused = Some(at);
            self.excused += 1;
        }
        if !self.serves {
            self.on_cut(at);
        }
    }

    /// This start may find a damaged body, and goes on from there.
    fn on_cut(&mut self, at: Instant) {
        let Some(first) = self.damaged.keys().next().copied() else { return };
        self.damaged.values_mut().for_each(|started| *started = true);
        let behind = self.promises.values_mut().filter(|promise| promise.physical >= first);
        for promise in behind.filter(|promise| promise.excused.is_none()) {
            (promise.excused, promise.away) = (Some(at), false);
            self.excused += 1;
        }
        self.may_be_cut = true;
        // What the producer was told before orders neither what it sends from now on nor what is under way.
        self.floors.clear();
        let under_way = self.attempts.values_mut().filter(|attempt| attempt.outcome.is_none());
        under_way.for_each(|attempt| attempt.floor = 0);
    }

    fn on_report(&mut self, at: Instant, report: &Report) {
        match report {
            Report::SendBegun { request, queue, messages } => {
                let floor = self.floors.get(queue).copied().unwrap_or(0);
                for message in messages {
                    self.requests.insert(*message, *request);
                }
                let attempt =
                    Attempt { queue: *queue, messages: messages.clone(), begun: at, floor, outcome: None };
                self.attempts.insert(*request, attempt);
            }
            Report::SendEnded { request, outcome } => {
                let Some(attempt) = self.attempts.get_mut(request) else { return };
                attempt.outcome = Some(outcome.clone());
                if let Outcome::Ok { offset, .. } = outcome {
                    // Not if a power loss has come between the promise and its arrival.
                    let last = offset + attempt.messages.len() as i64 - 1;
                    let kept =
                        self.promises.get(&(attempt.queue, last)).is_some_and(|kept| kept.excused.is_none());
                    let floor = self.floors.entry(attempt.queue).or_default();
                    if kept {
                        *floor = (*floor).max(last + 1);
                    }
                }
            }
            Report::GaveUp { .. }
            | Report::AllSent
            | Report::ReadFrom { .. }
            | Report::Moved { .. }
            | Report::Delivered { .. }
            | Report::Pulled { .. }
            | Report::Began { .. }
            | Report::Route { .. }
            | Report::Broken { .. }
            | Report::Delay(_)
            | Report::Retry(_)
            | Report::SlaveServed
            | Report::Ordered(_)
            | Report::Ask(_)
            | Report::Admin(_)
            | Report::Client(_)
            | Report::Insist(_) => {}
        }
    }

    /// Takes what the master told; a second value at one place is found here.
    pub fn on_told(&mut self, setup: &Setup, at: Instant, told: &Told) -> Option<Violation> {
        let is_refusal =
            matches!(told, Told::PullAnswered { code, .. } if *code == reply::SERVICE_NOT_AVAILABLE);
        if matches!(told, Told::Stored { .. } | Told::PullAnswered { .. }) && !is_refusal {
            self.all_home(at);
            self.serves = true;
            self.syncs.unfinished.clear();
        }
        let is_replicated = setup.replication == super::Replication::Sync;
        self.comes_home = is_replicated && setup.flush == Flush::Async;
        match told {
            Told::Stored { queue, offset, messages, physical, .. } => {
                let places = messages.iter().zip(physical).zip(*offset..);
                places.into_iter().find_map(|((message, physical), offset)| {
                    // What is written here now lies behind a cut, or is what was damaged before it was acknowledged.
                    self.damaged.retain(|damaged, started| !*started || *damaged < *physical);
                    let broken = self.promise_at(setup, at, (*queue, offset), (*message, *physical));
                    let is_damaged = self.damaged.contains_key(physical);
                    if let Some(promise) = self.promises.get_mut(&(*queue, offset)) {
                        promise.replicated |= is_replicated;
                        promise.excused = promise.excused.or(is_damaged.then_some(at));
                    }
                    broken
                })
            }
            Told::PullAnswered { queue, messages, .. } => messages.iter().find_map(|handed| {
                let message = handed.message?;
                self.damaged.remove(&handed.physical);
                self.promise_at(setup, at, (*queue, handed.offset), (message, handed.physical))
            }),
            Told::NotStored { .. }
            | Told::PullTaken { .. }
            | Told::PullGone { .. }
            | Told::OffsetTaken { .. }
            | Told::OffsetTold { .. }
            | Told::SlaveReported { .. }
            | Told::SlaveGone { .. }
            | Told::Forgotten => None,
        }
    }

    fn promise_at(
        &mut self,
        setup: &Setup,
        at: Instant,
        (queue, offset): (Queue, i64),
        (message, physical): (MessageId, u64),
    ) -> Option<Violation> {
        // Acknowledged is what was synced.
        let durable = setup.flush == Flush::Sync && self.syncs.lies.is_empty();
        let fresh = Promise { message, physical, at, excused: None, durable, replicated: false, away: false };
        if let Some(promise) = self.promises.get_mut(&(queue, offset)) {
            if promise.message == message && promise.physical == physical {
                // Vouched for again after a power loss that might have taken it: it is on the medium, or was brought home.
                if promise.excused.take().is_some() {
                    promise.durable |= !self.comes_home;
                    promise.at = at;
                }
                return None;
            }
            if promise.excused.is_none() {
                return super::one_value::second_value(queue, offset, promise, &fresh);
            }
        }
        self.promises.insert((queue, offset), fresh);
        let place = self.places.insert(message, (queue, offset));
        let before = place.filter(|place| *place != (queue, offset))?;
        let kept =
            self.promises.get(&before).is_some_and(|kept| kept.message == message && kept.excused.is_none());
        kept.then(|| super::one_value::second_place(message, before, (queue, offset)))
    }
}
