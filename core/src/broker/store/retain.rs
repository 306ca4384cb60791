//! Retention: what is old goes, and what the disk has no room for, as RocketMQ's `CleanCommitLogService` decides it.
//!
//! Each [`StoreConfig::clean_interval`] the oldest segments are looked at. They go when they were last written longer ago than
//! [`StoreConfig::file_reserved`], and it is an hour of [`StoreConfig::delete_hours`], or the disk is filled above
//! [`StoreConfig::disk_max_used_percent`], or an administrator asked; above [`StoreConfig::disk_clean_percent`] they go whatever
//! their age, one at a time until there is room.
//!
//! It is a job: first every queue's minimum moves past what will go, so that nobody is led to bytes that are gone; then one
//! segment is removed per sync of the directory, so that power loss never leaves a gap; then the queue files and index files that
//! lie below follow. A slice a turn, what is not in memory by fetch.
//!
//! Invariants: the last segment stays, and so does everything from the durable checkpoint on, where recovery begins; of a queue
//! the files stay from the one on that holds the last entry known to be durable, because its position is the queue's offset.
//!
//! A slave whose master is away keeps what only age would take ([`Store::keep_aged`]), also above
//! [`StoreConfig::disk_max_used_percent`]: the master may come back shorter, and ask for the end of its log here. Its own log does not
//! grow meanwhile.
//!
//! Absent on purpose: waiting for slaves, which RocketMQ does not do either (a slave that falls behind the minimum is refused),
//! and any rest between two segments: the sync of the directory is one.

use alloc::collections::BTreeSet;

use super::commit_log::COMMIT_LOG_DIR;
use super::consume_queue::MinSearch;
use super::{Phase, QueueIx, Store};
use crate::io::{Disk, DiskError, Effect, Env, Extent, FetchId, Now, SyncId, SyncTarget};
use crate::time::{Instant, WallMs};

/// Queues looked at in one turn.
const QUEUES_PER_TURN_MAX: usize = 256;
/// Rounds in which an administrator's wish holds (`MAX_MANUAL_DELETE_FILE_TIMES`).
const MANUAL_ROUNDS: u32 = 20;

/// What retention knows between turns.
#[derive(Debug, Default)]
pub(super) struct Retention {
    stage: Stage,
    /// Rounds left in which the hour does not matter.
    manual_rounds: u32,
    /// Nothing goes for its age alone.
    keeps_aged: bool,
    /// Nothing goes that lies at this place of the log or behind it.
    kept_from: Option<u64>,
    /// Queue and index files below this in the log were looked for.
    cleaned: u64,
    fetching: Option<FetchId>,
    /// Queues that hold nothing any more since they were last asked for.
    emptied: BTreeSet<QueueIx>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// The minimum of queue `at` and of those behind it must move past `cut`.
    Minimums { cut: u64, at: usize, search: Option<MinSearch> },
    /// Segments below `cut` go; `waiting` for the removal of the last one to be durable.
    Segments { cut: u64, waiting: Option<SyncId> },
    /// Queue files below the minimum go, the oldest of each queue per round.
    Files {
        at: usize,
        waiting: BTreeSet<SyncId>,
        /// Whether this round removed any.
        is_again: bool,
    },
    /// Index files go.
    Keys,
}

impl Retention {
    /// A queue is another one now, so that a search in it says nothing.
    pub(super) fn forget_search(&mut self) {
        if let Stage::Minimums { search, .. } = &mut self.stage {
            *search = None;
        }
    }

    /// Whether syncs of queues' directories are under way.
    pub(super) fn syncs_queues(&self) -> bool {
        matches!(&self.stage, Stage::Files { waiting, .. } if !waiting.is_empty())
    }
}

/// How a slice ended.
enum Progress {
    More,
    Cold(Extent),
    Waiting,
    Done,
}

impl Store {
    /// Has the oldest segments removed that are past their time, whatever the hour (`DELETE_EXPIRED_COMMITLOG`).
    pub fn remove_expired(&mut self) {
        self.retention.manual_rounds = MANUAL_ROUNDS;
        self.space.look_again();
    }

    /// Whether what is past its time stays, up to [`StoreConfig::disk_clean_percent`].
    pub(crate) fn keep_aged(&mut self, keeps: bool) {
        self.retention.keeps_aged = keeps;
    }

    /// What lies at this place of the log or behind it stays: the log is on its way back to there.
    pub(crate) fn keep_from(&mut self, at: Option<u64>) {
        self.retention.kept_from = at;
    }

    /// Has queue files and index files removed that lie below the log's minimum (`CLEAN_EXPIRED_CONSUMEQUEUE`).
    pub fn remove_expired_queue_files(&mut self) {
        self.retention.cleaned = 0;
        self.space.look_again();
    }

    /// Whether files are being removed.
    pub fn is_removing(&self) -> bool {
        !matches!(self.retention.stage, Stage::Idle)
    }

    /// Whether anything could go, now or later.
    fn has_removable(&self) -> bool {
        self.retention.cleaned < self.log.min() || self.is_removable(0)
    }

    /// Whether the `at`-th segment is one that nobody needs, and not the last.
    fn is_removable(&self, at: usize) -> bool {
        let start = self.log.min() + at as u64 * self.log.segment_bytes();
        let end = start + self.log.segment_bytes();
        end < self.log.capacity_end()
            && end <= self.checkpoint.logics_physical
            && self.retention.kept_from.is_none_or(|kept| end <= kept)
    }

    /// When retention must be woken.
    pub(super) fn retention_deadline(&self) -> Option<(Instant, &'static str)> {
        let at = match &self.retention.stage {
            Stage::Idle if self.has_removable() => self.space.due(),
            Stage::Idle => return None,
            Stage::Segments { waiting: Some(_), .. } => return None,
            Stage::Files { waiting, at, .. } if *at >= self.queues.len() && !waiting.is_empty() => {
                return None;
            }
            Stage::Minimums { .. } | Stage::Segments { .. } | Stage::Files { .. } | Stage::Keys => {
                Instant::ZERO
            }
        };
        self.retention.fetching.is_none().then_some((at, "retention"))
    }

    /// Looks at the disk's room if it is time to, and goes on with what must go.
    pub(super) fn advance_retention<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        self.space.note_segments(self.log.capacity_end());
        let is_round = self.space.watch(now, &self.config, env.disk);
        if !matches!(self.phase, Phase::Ready) || self.retention.fetching.is_some() {
            return;
        }
        if is_round && matches!(self.retention.stage, Stage::Idle) {
            self.begin_retention(now, env.disk);
        }
        let mut stage = core::mem::take(&mut self.retention.stage);
        match self.retain_slice(&mut stage, env) {
            Ok(Progress::More | Progress::Waiting) => self.retention.stage = stage,
            Ok(Progress::Cold(extent)) => {
                let id = self.ids.fetch();
                env.out.push(Effect::Fetch { id, at: extent });
                self.retention.fetching = Some(id);
                self.retention.stage = stage;
            }
            Ok(Progress::Done) => {}
            // The next round tries again.
            Err(error) => tracing::warn!(%error, "retention: the oldest files could not be removed"),
        }
    }

    /// Decides what goes in this round.
    fn begin_retention<D: Disk>(&mut self, now: Now, disk: &mut D) {
        let is_forced = self.config.cleans_forcibly && self.space.is_above(self.config.disk_clean_percent);
        let is_manual = self.retention.manual_rounds > 0;
        self.retention.manual_rounds = self.retention.manual_rounds.saturating_sub(1);
        let is_aged_due = is_manual || self.config.is_delete_hour(now.wall);
        let is_aged_due = is_aged_due || self.space.is_above(self.config.disk_max_used_percent);
        let is_due = is_forced || (is_aged_due && !self.retention.keeps_aged);
        let mut count = 0;
        // By force no more goes than must: after each segment the room is looked at again.
        let count_max = if is_forced { 1 } else { self.config.delete_batch_max };
        while is_due && count < count_max && self.is_removable(count) {
            if !is_forced && !self.is_expired(count, now.wall, disk) {
                break;
            }
            count += 1;
        }
        if count > 0 {
            let cut = self.log.min() + count as u64 * self.log.segment_bytes();
            tracing::info!(segments = count, is_forced, new_min = cut, "the oldest messages are removed");
            if is_forced {
                self.space.look_again();
            }
            self.retention.stage = Stage::Minimums { cut, at: 0, search: None };
        } else if self.retention.cleaned < self.log.min() {
            self.retention.stage = Stage::Files { at: 0, waiting: BTreeSet::new(), is_again: false };
        } else if is_forced || self.space.is_above(self.config.disk_max_used_percent) {
            tracing::warn!("the disk is getting full, and nothing of the commit log may be removed");
        }
    }

    fn is_expired<D: Disk>(&self, at: usize, now: WallMs, disk: &mut D) -> bool {
        let path = self.log.path_of(at);
        match disk.stat(&path) {
            Ok(Some(entry)) => {
                entry.modified.0.saturating_add(self.config.file_reserved.as_millis() as i64) <= now.0
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(path, %error, "the age of a segment is not known; it is kept");
                false
            }
        }
    }

    fn retain_slice<D: Disk, E>(
        &mut self,
        stage: &mut Stage,
        env: &mut Env<'_, D, E>,
    ) -> Result<Progress, DiskError> {
        match stage {
            Stage::Idle => return Ok(Progress::Done),
            Stage::Minimums { cut, at, search } => {
                let cut = *cut;
                match self.raise_minimums(cut, at, search, env.disk)? {
                    Progress::Done => *stage = Stage::Segments { cut, waiting: None },
                    other @ (Progress::More | Progress::Cold(_) | Progress::Waiting) => return Ok(other),
                }
            }
            Stage::Segments { waiting: Some(_), .. } => return Ok(Progress::Waiting),
            Stage::Segments { cut, waiting } => {
                if self.log.min() < *cut {
                    self.log.remove_oldest(env.disk)?;
                    let id = self.ids.sync();
                    env.out.push(Effect::Sync { id, target: SyncTarget::Dir(COMMIT_LOG_DIR.into()) });
                    *waiting = Some(id);
                    return Ok(Progress::Waiting);
                }
                *stage = Stage::Files { at: 0, waiting: BTreeSet::new(), is_again: false };
            }
            Stage::Files { at, waiting, is_again } => {
                let upto = self.queues.len().min(*at + QUEUES_PER_TURN_MAX);
                for queue in self.queues.iter_mut().take(upto).skip(*at) {
                    if queue.remove_oldest_file(env.disk)? {
                        let id = self.ids.sync();
                        env.out.push(Effect::Sync { id, target: SyncTarget::Dir(queue.dir()) });
                        waiting.insert(id);
                        *is_again = true;
                    }
                }
                *at = upto;
                if upto < self.queues.len() {
                    return Ok(Progress::More);
                }
                if !waiting.is_empty() {
                    return Ok(Progress::Waiting);
                }
                *stage = if *is_again {
                    Stage::Files { at: 0, waiting: BTreeSet::new(), is_again: false }
                } else {
                    Stage::Keys
                };
            }
            Stage::Keys => {
                if !self.index.remove_oldest_file(self.log.min(), env.disk)? {
                    self.retention.cleaned = self.log.min();
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }

    /// Moves the minimum of queues past `cut`, some of them a turn.
    fn raise_minimums<D: Disk>(
        &mut self,
        cut: u64,
        at: &mut usize,
        search: &mut Option<MinSearch>,
        disk: &mut D,
    ) -> Result<Progress, DiskError> {
        for _ in 0..QUEUES_PER_TURN_MAX {
            let Some(queue) = self.queues.get_mut(*at) else { return Ok(Progress::Done) };
            if let Some(extent) = queue.raise_min(cut, search, disk)? {
                return Ok(Progress::Cold(extent));
            }
            if queue.is_emptied() {
                self.retention.emptied.insert(QueueIx(*at as u32));
            }
            *search = None;
            *at += 1;
        }
        Ok(Progress::More)
    }

    /// Has a queue of which nothing is here begin at `end`: what it had lies below `at` in the log, and is gone. False where
    /// something is here, or its topic was deleted.
    pub fn begin_queue(&mut self, topic: &str, queue_id: i32, end: u64, at: u64) -> bool {
        if self.burial.covers(topic, at) || self.burial.is_closing(topic) {
            return false;
        }
        let ix = self.queue(topic, queue_id);
        self.queues[ix.0 as usize].begin_behind(end, at)
    }

    /// Calls `f` with each queue that holds nothing any more, and how far it went; only with those that have become so since the
    /// last call unless `all` are wanted.
    pub fn take_emptied(&mut self, all: bool, mut f: impl FnMut(&str, i32, u64)) {
        let emptied = core::mem::take(&mut self.retention.emptied);
        for (at, queue) in self.queues.iter().enumerate() {
            if queue.is_emptied() && (all || emptied.contains(&QueueIx(at as u32))) {
                f(&queue.topic, queue.queue_id, queue.next);
            }
        }
    }

    /// Whether queues have lost their last message since [`Store::take_emptied`].
    pub fn has_emptied(&self) -> bool {
        !self.retention.emptied.is_empty()
    }

    /// Moves the minimum of the queues to where the log begins, from queue `at` on: a slice of recovery. True when all are done;
    /// else what must be fetched first, if anything.
    pub(super) fn correct_minimums<D: Disk>(
        &mut self,
        at: &mut usize,
        search: &mut Option<MinSearch>,
        disk: &mut D,
    ) -> Result<(bool, Option<Extent>), DiskError> {
        Ok(match self.raise_minimums(self.log.min(), at, search, disk)? {
            Progress::Done => (true, None),
            Progress::Cold(extent) => (false, Some(extent)),
            Progress::More | Progress::Waiting => (false, None),
        })
    }

    /// Counts a completed sync of retention; true when it was one.
    pub(super) fn on_retention_synced(&mut self, id: SyncId) -> bool {
        match &mut self.retention.stage {
            Stage::Segments { waiting, .. } => waiting.take_if(|waited| *waited == id).is_some(),
            Stage::Files { waiting, .. } => waiting.remove(&id),
            Stage::Idle | Stage::Minimums { .. } | Stage::Keys => false,
        }
    }

    /// Takes the answer to a fetch of retention; true when it was one. The bytes are resident in this turn, which reads again; so
    /// it does after an error, and finds out whether it lasts.
    pub(super) fn on_retention_fetched(&mut self, id: FetchId, result: Result<(), DiskError>) -> bool {
        if self.retention.fetching.take_if(|waited| *waited == id).is_none() {
            return false;
        }
        if let Err(error) = result {
            tracing::warn!(%error, "retention: a queue was not read");
            self.retention.stage = Stage::Idle;
        }
        true
    }
}
