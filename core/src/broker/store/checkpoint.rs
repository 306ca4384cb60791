//! The checkpoint: how much of the log needs no recovery.
//!
//! The file is RocketMQ's (`StoreCheckpoint`): 4096 bytes, of which six big-endian 8-byte numbers are used. Its promise:
//! everything in the log below `logics_physical` is synced, and so is every queue entry and every key that points below it.
//!
//! A checkpoint is a job over several turns: spill the dirty tails, sync what was written, wait for the log's own sync and
//! for the key index, then replace the file.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::{CHECKPOINT_FILE, Ids, QueueIx, Store};
use crate::io::{Disk, DiskError, Effect, Env, Now, SyncId, SyncTarget};

const CHECKPOINT_BYTES: usize = 4096;
/// Queues whose tails are spilled in one turn at most.
const SPILLS_PER_TURN_MAX: usize = 1024;

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checkpoint {
    /// Store time of the newest synced message, ms.
    pub(crate) physic_timestamp: i64,
    /// Store time of the newest message whose queue entry is synced, ms.
    pub(crate) logics_timestamp: i64,
    /// Store time of the newest message whose keys are synced, ms (RocketMQ: of the last full index file).
    pub(crate) index_timestamp: i64,
    /// Log offset of RocketMQ's confirmed data (kept equal to `logics_physical`).
    pub(crate) confirm_physical: u64,
    /// Log offset below which log and queues are complete on disk.
    pub(crate) logics_physical: u64,
}

impl Checkpoint {
    pub(crate) fn decode(bytes: &[u8]) -> Checkpoint {
        let at = |offset: usize| {
            bytes
                .get(offset..offset + 8)
                .and_then(|bytes| bytes.first_chunk::<8>())
                .map_or(0, |b| i64::from_be_bytes(*b))
        };
        Checkpoint {
            physic_timestamp: at(0),
            logics_timestamp: at(8),
            index_timestamp: at(16),
            confirm_physical: u64::try_from(at(32)).unwrap_or(0),
            logics_physical: u64::try_from(at(40)).unwrap_or(0),
        }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![0; CHECKPOINT_BYTES];
        bytes[0..8].copy_from_slice(&self.physic_timestamp.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.logics_timestamp.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.index_timestamp.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.confirm_physical.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.logics_physical.to_be_bytes());
        bytes
    }
}

/// A checkpoint being made.
#[derive(Debug)]
pub(crate) struct CheckpointJob {
    upto: u64,
    timestamp: i64,
    spill: Vec<QueueIx>,
    waiting: BTreeSet<SyncId>,
    replacing: Option<SyncId>,
}

impl CheckpointJob {
    /// Whether it has nothing more to do with the queues' files and directories.
    pub(super) fn has_synced_queues(&self) -> bool {
        self.spill.is_empty() && self.waiting.is_empty()
    }
}

impl Store {
    /// Begins a checkpoint of everything dispatched so far, unless one is under way or nothing is new.
    pub(super) fn begin_checkpoint(&mut self, now: Now) {
        self.checkpoint_due = now.mono + self.config.checkpoint_interval;
        if self.checkpointing.is_some() || !self.needs_checkpoint() {
            return;
        }
        self.index.want(self.dispatched);
        self.checkpointing = Some(CheckpointJob {
            upto: self.dispatched,
            timestamp: self.dispatched_timestamp,
            spill: core::mem::take(&mut self.dirty).into_iter().collect(),
            waiting: BTreeSet::new(),
            replacing: None,
        });
    }

    /// Whether anything happened that the last checkpoint does not cover.
    pub(super) fn needs_checkpoint(&self) -> bool {
        self.dispatched != self.checkpoint.logics_physical || !self.dirty.is_empty()
    }

    /// Moves a checkpoint on by what this turn allows.
    pub(super) fn advance_checkpoint<D: Disk, E>(
        &mut self,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), DiskError> {
        let Some(mut job) = self.checkpointing.take() else { return Ok(()) };
        let spilled = self.spill_some(&mut job, env);
        if job.has_synced_queues() && job.replacing.is_none() && spilled.is_ok() {
            if self.log.synced() < job.upto {
                self.log.request_sync(&mut self.ids, env);
            } else if self.index.covers(job.upto) && !self.has_files_to_bury() {
                let id = self.ids.sync();
                job.replacing = Some(id);
                let bytes = self.checkpoint_of(&job).encode().into();
                env.out.push(Effect::Replace { id, path: CHECKPOINT_FILE.to_string(), bytes });
            }
        }
        self.checkpointing = Some(job);
        spilled
    }

    fn spill_some<D: Disk, E>(
        &mut self,
        job: &mut CheckpointJob,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), DiskError> {
        for _ in 0..SPILLS_PER_TURN_MAX {
            let Some(ix) = job.spill.last().copied() else { break };
            let queue = &mut self.queues[ix.0 as usize];
            if !queue.may_spill() {
                // Its turn comes when the files in its way are gone.
                break;
            }
            queue.spill(env.disk)?;
            let (ids, waiting, out) = (&mut self.ids, &mut job.waiting, &mut *env.out);
            let mut sync = |ids: &mut Ids, target| {
                let id = ids.sync();
                out.push(Effect::Sync { id, target });
                waiting.insert(id);
            };
            let fresh = queue.take_dirty(|file| sync(ids, SyncTarget::File(file)));
            if fresh {
                sync(ids, SyncTarget::Dir(queue.dir()));
            }
            job.spill.pop();
        }
        Ok(())
    }

    fn checkpoint_of(&self, job: &CheckpointJob) -> Checkpoint {
        Checkpoint {
            physic_timestamp: job.timestamp,
            logics_timestamp: job.timestamp,
            index_timestamp: self.index.merged_timestamp(),
            confirm_physical: job.upto,
            logics_physical: job.upto,
        }
    }

    /// A sync failed, or the replacement of the checkpoint. For the latter want of room or of descriptors is only a reason to try
    /// again later: what the old one says stays true.
    pub(super) fn on_sync_failed<D: Disk, E>(
        &mut self,
        now: Now,
        id: SyncId,
        error: DiskError,
        env: &mut Env<'_, D, E>,
    ) {
        let is_checkpoint = self.checkpointing.as_ref().is_some_and(|job| job.replacing == Some(id));
        if is_checkpoint && self.is_ready() && (error.is_shortage() || error == DiskError::Denied) {
            tracing::warn!(%error, "{CHECKPOINT_FILE} not written, will be tried again");
            self.checkpointing = None;
            if error == DiskError::Full && self.space.give_up_reserve(now, env.disk) {
                self.checkpoint_due = self.space.due();
            }
            return;
        }
        // The kernel may have dropped the pages that failed: no later sync would be worth anything.
        let reason = format!("sync of the store failed: {error}; starting again from the disk");
        env.out.push(Effect::Fail { reason, restart: true });
    }

    /// Counts a completed sync of the checkpoint; true when it was one.
    pub(super) fn on_checkpoint_synced(&mut self, id: SyncId) -> bool {
        let Some(job) = &mut self.checkpointing else { return false };
        if job.replacing == Some(id) {
            let job = self.checkpointing.take().expect("just seen");
            self.checkpoint = self.checkpoint_of(&job);
            return true;
        }
        job.waiting.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_a_short_one_is_all_zeros() {
        let checkpoint = Checkpoint {
            physic_timestamp: 1,
            logics_timestamp: 2,
            index_timestamp: 3,
            confirm_physical: 4,
            logics_physical: 5,
        };
        let bytes = checkpoint.encode();
        assert_eq!((bytes.len(), bytes[47]), (4096, 5));
        assert_eq!(Checkpoint::decode(&bytes), checkpoint);
        assert_eq!(Checkpoint::decode(&bytes[..3]), Checkpoint::default());
    }
}
