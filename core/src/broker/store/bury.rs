//! Deleted topics: their queues go, and a topic made again begins at offset 0.
//!
//! The log keeps the records of a deleted topic until retention takes them. So it is remembered where the log ended at the deletion:
//! records of that topic below that place have no queue any more, neither now nor after any recovery. The list of these
//! places is kept by the broker, durably, beside the topics; see `broker::topic`. A queue that recovery finds is known by its newest
//! entry: below that place it is the old one.
//!
//! A record with queue offset 0 behind a queue's other records says the same of that queue alone. By that a replica follows which
//! has not heard of the deletion, or whose master keeps no such list.
//!
//! The files go by a job, some a turn. What is put into the new queue meanwhile stays on the heap, and a checkpoint waits for it. The
//! directories go last, while no sync of them is under way, and then are synced; a checkpoint waits for that too.
//!
//! Invariants: no entry of a queue points below [`ConsumeQueue::begins_at`]; a file is removed only once what made it go is
//! durable (the list, or the log up to the record that began the queue anew); a queue's new file is made after its old
//! ones are gone, and the checkpoint that covers it syncs their directory.
//!
//! Absent on purpose: removing anything from the log or the key index. Queries pass over what lies below the place.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::checkpoint::CheckpointJob;
use super::consume_queue::{CONSUME_QUEUE_DIR, ConsumeQueue, CqEntry};
use super::{Phase, QueueIx, Store};
use crate::io::{Disk, DiskError, Effect, Env, Now, SyncId, SyncTarget};
use crate::time::Instant;

/// Files removed in one turn at most.
const FILES_PER_TURN_MAX: usize = 64;
/// Queues whose directories are removed in one turn at most.
const DIRS_PER_TURN_MAX: usize = 64;

/// The files of a queue that is no more.
#[derive(Debug)]
struct Grave {
    ix: QueueIx,
    topic: String,
    dir: String,
    files: Vec<String>,
    /// The log must be synced up to here before they go.
    after: u64,
}

/// What is known of deleted topics.
#[derive(Debug, Default)]
pub(super) struct Burial {
    /// Records of a topic below this are of one that was deleted.
    deleted: BTreeMap<String, u64>,
    /// Topics whose deletion is not durable yet: nothing is appended to them.
    closing: BTreeSet<String>,
    /// Files to be removed.
    graves: Vec<Grave>,
    /// Files are removed, directories are not.
    emptied: Vec<Grave>,
    /// Until the removal of these topics' directories is durable.
    waiting: BTreeSet<SyncId>,
    synced: Vec<Grave>,
    retry_at: Instant,
    is_failing: bool,
}

impl Burial {
    /// Whether a record at `physical` is one of a deleted topic.
    pub(super) fn covers(&self, topic: &str, physical: u64) -> bool {
        !self.deleted.is_empty() && self.begin_of(topic) > physical
    }

    /// Where records of a topic begin to count.
    pub(super) fn begin_of(&self, topic: &str) -> u64 {
        self.deleted.get(topic).copied().unwrap_or(0)
    }

    /// Whether a queue that recovery found, whose newest entry points to `newest`, is one of a deleted topic.
    pub(super) fn is_stale(&self, topic: &str, newest: Option<u64>) -> bool {
        let begin = self.begin_of(topic);
        begin > 0 && newest.is_none_or(|newest| newest < begin)
    }

    pub(super) fn is_closing(&self, topic: &str) -> bool {
        self.closing.contains(topic)
    }

    fn all(&self) -> impl Iterator<Item = &Grave> {
        self.graves.iter().chain(&self.emptied).chain(&self.synced)
    }
}

impl Store {
    /// Takes the list of deleted topics: of each the place in the log below which its records do not count. Before the start.
    pub fn set_deleted<'a>(&mut self, deleted: impl IntoIterator<Item = (&'a str, u64)>) {
        assert!(matches!(self.phase, Phase::New), "recovery must know it");
        self.burial.deleted = deleted.into_iter().map(|(topic, upto)| (topic.into(), upto)).collect();
    }

    /// Begins to delete a topic: nothing more is appended to it until [`Store::bury_topic`]. Gives the place in the log for the list,
    /// which must be durable before that call, and the log up to there before the list.
    pub fn close_topic(&mut self, topic: &str) -> u64 {
        self.burial.closing.insert(topic.into());
        for ix in self.queues_of(topic) {
            self.queues[ix.0 as usize].is_closed = true;
        }
        self.flush_due = Instant::ZERO;
        self.log.end()
    }

    /// A topic's records below `upto` in the log have no queue any more, and its queues begin at 0.
    pub fn bury_topic(&mut self, topic: &str, upto: u64) {
        self.burial.deleted.insert(topic.into(), upto);
        self.burial.closing.remove(topic);
        let queues = self.queues_of(topic);
        for ix in &queues {
            // Where newer records came before the word of the deletion, the queue has begun anew already.
            if self.queues[ix.0 as usize].newest.is_none_or(|newest| newest < upto) {
                self.bury_queue(*ix, 0);
            }
            let queue = &mut self.queues[ix.0 as usize];
            queue.begins_at = upto;
            queue.is_closed = false;
        }
        tracing::info!(topic, upto, queues = queues.len(), "the queues of a deleted topic are removed");
    }

    /// The list has this topic no more: its log below the place is gone, or a master says otherwise.
    pub fn forget_deleted(&mut self, topic: &str) {
        self.burial.deleted.remove(topic);
        for ix in self.queues_of(topic) {
            self.queues[ix.0 as usize].begins_at = 0;
        }
    }

    /// Whether files of a deleted topic may still be there.
    pub fn is_burying(&self, topic: &str) -> bool {
        self.burial.is_closing(topic) || self.burial.all().any(|grave| grave.topic == topic)
    }

    /// Whether a topic has, or had, messages in queues.
    pub fn has_messages(&self, topic: &str) -> bool {
        self.queues_of(topic).iter().any(|ix| self.queues[ix.0 as usize].next > 0)
    }

    /// Whether a record at `physical` in the log is of a topic deleted since.
    pub fn is_of_deleted(&self, topic: &str, physical: u64) -> bool {
        self.burial.covers(topic, physical)
    }

    fn queues_of(&self, topic: &str) -> Vec<QueueIx> {
        self.names.get(topic).into_iter().flatten().map(|(_, ix)| *ix).collect()
    }

    /// Puts an entry into its queue.
    pub(super) fn push(&mut self, ix: QueueIx, queue_offset: u64, entry: CqEntry) {
        if self.queues[ix.0 as usize].begins_anew(queue_offset, entry) {
            let queue = &self.queues[ix.0 as usize];
            tracing::info!(
                queue = queue.dir(),
                at = entry.physical,
                "the queue begins anew: its topic was deleted"
            );
            self.bury_queue(ix, entry.physical + u64::from(entry.size));
        }
        self.queues[ix.0 as usize].push(queue_offset, entry);
    }

    /// Makes a queue one without messages; its files go once the log is synced up to `after`.
    pub(super) fn bury_queue(&mut self, ix: QueueIx, after: u64) {
        let queue = &mut self.queues[ix.0 as usize];
        let mut fresh = ConsumeQueue::new(&queue.topic, queue.queue_id, queue.entries_per_file());
        fresh.begins_at = queue.begins_at;
        fresh.is_closed = queue.is_closed;
        let files = queue.paths();
        // With files to remove the job syncs their directory. Without, what recovery removed there may still come back.
        fresh.entries_dirty = queue.entries_dirty && files.is_empty();
        fresh.is_blocked = queue.is_blocked || !files.is_empty();
        let (topic, dir) = (queue.topic.clone(), queue.dir());
        *queue = fresh;
        self.retention.forget_search();
        self.forget_searches(ix);
        if !files.is_empty() {
            self.burial.graves.push(Grave { ix, topic, dir, files, after });
        }
    }

    /// Removes some of what is to go.
    pub(super) fn advance_burial<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        if self.burial_deadline().is_none_or(|(at, _)| now.mono < at) {
            return;
        }
        let done = self
            .remove_files(env.disk)
            .and_then(|()| if self.may_remove_dirs() { self.remove_dirs(env) } else { Ok(()) });
        self.burial.is_failing = done.is_err();
        if let Err(error) = done {
            tracing::warn!(%error, "queues of a deleted topic could not be removed; it is tried again");
            self.burial.retry_at = now.mono + self.config.clean_interval;
        }
    }

    fn remove_files<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        let synced = self.log.synced();
        let mut budget = FILES_PER_TURN_MAX;
        let mut at = 0;
        while let Some(grave) = self.burial.graves.get_mut(at) {
            if grave.after > synced {
                at += 1;
                continue;
            }
            while let Some(path) = grave.files.last() {
                if budget == 0 {
                    return Ok(());
                }
                match disk.delete(path) {
                    Ok(()) | Err(DiskError::NotFound) => {}
                    Err(error) => return Err(error),
                }
                grave.files.pop();
                budget -= 1;
            }
            let grave = self.burial.graves.remove(at);
            let ix = grave.ix;
            self.burial.emptied.push(grave);
            if !self.burial.graves.iter().any(|grave| grave.ix == ix) {
                self.queues[ix.0 as usize].is_blocked = false;
            }
        }
        Ok(())
    }

    /// A directory whose sync is under way stays until that has come back.
    fn may_remove_dirs(&self) -> bool {
        !self.burial.emptied.is_empty()
            && self.burial.waiting.is_empty()
            && self.checkpointing.as_ref().is_none_or(CheckpointJob::has_synced_queues)
            && !self.retention.syncs_queues()
    }

    fn remove_dirs<D: Disk, E>(&mut self, env: &mut Env<'_, D, E>) -> Result<(), DiskError> {
        let count = self.burial.emptied.len().min(DIRS_PER_TURN_MAX);
        for grave in &self.burial.emptied[..count] {
            // Neither goes when something new lies in it.
            let topic_dir = topic_dir(&grave.topic);
            if env.disk.list(&grave.dir)?.is_empty() {
                let _ = env.disk.delete(&grave.dir);
            }
            if env.disk.list(&topic_dir)?.is_empty() {
                let _ = env.disk.delete(&topic_dir);
            }
        }
        let mut dirs = BTreeSet::new();
        for grave in &self.burial.emptied[..count] {
            let topic_dir = topic_dir(&grave.topic);
            for (dir, parent) in [(&grave.dir, &topic_dir), (&topic_dir, &String::from(CONSUME_QUEUE_DIR))] {
                let there = env.disk.stat(dir)?.is_some();
                let parent_there = env.disk.stat(parent)?.is_some();
                dirs.extend(there.then(|| dir.clone()));
                dirs.extend((!there && parent_there).then(|| parent.clone()));
            }
        }
        for dir in dirs {
            let id = self.ids.sync();
            env.out.push(Effect::Sync { id, target: SyncTarget::Dir(dir) });
            self.burial.waiting.insert(id);
        }
        self.burial.synced.extend(self.burial.emptied.drain(..count));
        Ok(())
    }

    /// Whether a checkpoint must wait: a file that may come back can have entries that point behind an end which the log had lost. Once it
    /// has grown beyond, and a checkpoint says that all below is settled, they would be believed.
    pub(super) fn has_files_to_bury(&self) -> bool {
        self.burial.all().next().is_some()
    }

    /// When the job must be woken.
    pub(super) fn burial_deadline(&self) -> Option<(Instant, &'static str)> {
        let burial = &self.burial;
        let has_files = burial.graves.iter().any(|grave| grave.after <= self.log.synced());
        (has_files || self.may_remove_dirs()).then_some((burial.retry_at, "removal of a deleted topic"))
    }

    /// Whether a clean stop should wait for the job.
    pub(super) fn has_graves(&self) -> bool {
        !self.burial.is_failing && self.burial.all().next().is_some()
    }

    /// Counts a completed sync of the job; true when it was one.
    pub(super) fn on_burial_synced(&mut self, id: SyncId) -> bool {
        let is_own = self.burial.waiting.remove(&id);
        if is_own && self.burial.waiting.is_empty() {
            self.burial.synced.clear();
        }
        is_own
    }

    /// The log ends before places of the list: what comes next is newer than those deletions. Gives what the list must say now.
    pub fn clamp_deleted(&mut self) -> Vec<(String, u64)> {
        let end = self.log.end();
        let beyond = self.burial.deleted.iter_mut().filter(|(_, upto)| **upto > end);
        let clamped: Vec<(String, u64)> = beyond
            .map(|(topic, upto)| {
                *upto = end;
                (topic.clone(), end)
            })
            .collect();
        for (topic, upto) in &clamped {
            for ix in self.queues_of(topic) {
                self.queues[ix.0 as usize].begins_at = *upto;
            }
        }
        clamped
    }
}

fn topic_dir(topic: &str) -> String {
    format!("{CONSUME_QUEUE_DIR}/{topic}")
}
