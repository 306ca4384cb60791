//! What recovery cuts off is kept aside when records follow the damage: they may be the only copy of acknowledged messages.
//!
//! A torn end needs nothing: behind it are zeros, or pieces that no record begins. But where a bit flipped in the middle, or a page was
//! lost, whole records may follow. They are copied, with everything from the damage on, into `damaged/FROM-TIME`, for the operator;
//! only when that is durable is the log cut. Without room for it the broker does not start, and nothing was changed.
//!
//! A record is told by its head: it names its own place in the log.
//!
//! Absent on purpose: going on behind the damage. Queue offsets would have a gap, and slaves another log.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::recover::place;
use super::{Ids, Store};
use crate::io::{Disk, DiskError, Effect, Env, Extent, FileId, FileKind, Residency, SyncId, SyncTarget};
use crate::time::WallMs;
use crate::wire::message::{MAGIC_V1, MAGIC_V2};

/// Where it is kept.
const DIR: &str = "damaged";
/// Bytes of the log looked at, or copied, at once.
const READ_BYTES: u64 = 1024 * 1024;
/// Bytes of a record up to the end of its place in the log.
const HEAD_BYTES: u64 = 36;
/// Names tried for a copy.
const NAMES_MAX: i64 = 1000;
/// After so many zeros in a row nothing more is looked for in a segment.
const ZEROS_MAX: u64 = 8 << 20;

/// How a slice ended.
pub(super) enum KeepProgress {
    More,
    Cold(Extent),
    Waiting,
    /// Nothing is to be kept, or it is kept.
    Done,
}

#[derive(Debug)]
enum Step {
    Look,
    Copy { file: FileId, path: String, copied: u64 },
    Sync { path: String, waiting: BTreeSet<SyncId> },
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Keep {
    /// The damage.
    from: u64,
    /// Nothing is kept from here on.
    upto: u64,
    at: u64,
    zeros: u64,
    /// One past the last byte that is not zero.
    end: u64,
    has_record: bool,
    step: Step,
}

impl Keep {
    /// Looks at the log from `from`, where recovery ended, up to `upto`.
    pub(super) fn new(from: u64, upto: u64) -> Keep {
        Keep { from, upto, at: from, zeros: 0, end: from, has_record: false, step: Step::Look }
    }

    /// Counts a completed sync; true when it was one.
    pub(super) fn on_synced(&mut self, id: SyncId) -> bool {
        match &mut self.step {
            Step::Sync { waiting, .. } => waiting.remove(&id),
            Step::Look | Step::Copy { .. } => false,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(&self.step, Step::Sync { waiting, .. } if !waiting.is_empty())
    }

    /// Looks through bytes that lie at `self.at`.
    fn look(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            self.end = self.end.max(self.at + last as u64 + 1);
            self.zeros = 0;
            let first = usize::from(self.at == self.from);
            let heads = bytes.windows(HEAD_BYTES as usize).enumerate().skip(first);
            self.has_record |= heads.into_iter().any(|(at, head)| is_head(head, self.at + at as u64));
        } else {
            self.zeros += bytes.len() as u64;
        }
    }
}

/// Whether these are the first bytes of a record that lies there.
fn is_head(head: &[u8], position: u64) -> bool {
    let magic = head.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b));
    let own = head.get(28..36).and_then(|bytes| bytes.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b));
    matches!(magic, Some(MAGIC_V1 | MAGIC_V2)) && own == Some(position)
}

impl Store {
    /// Goes on by a slice.
    ///
    /// # Errors
    /// What to tell the operator.
    pub(super) fn keep_aside<D: Disk, E>(
        &mut self,
        keep: &mut Keep,
        wall: WallMs,
        env: &mut Env<'_, D, E>,
    ) -> Result<KeepProgress, String> {
        match &mut keep.step {
            Step::Look => self.look_behind(keep, wall, env.disk),
            Step::Copy { file, path, copied } => {
                let (file, size) = (*file, keep.end - keep.from);
                let result = self.copy_slice(keep.from, size, file, copied, env.disk);
                match result {
                    Ok(None) if *copied == size => {
                        let path = core::mem::take(path);
                        keep.step = Step::Sync { path, waiting: sync(file, &mut self.ids, env) };
                        Ok(KeepProgress::Waiting)
                    }
                    Ok(None) => Ok(KeepProgress::More),
                    Ok(Some(cold)) => Ok(KeepProgress::Cold(cold)),
                    Err(error) => {
                        // A part of it would only take the room that is missing.
                        let _ = env.disk.delete(path);
                        Err(self.cannot_keep(keep.from, size, error))
                    }
                }
            }
            Step::Sync { waiting, .. } if !waiting.is_empty() => Ok(KeepProgress::Waiting),
            Step::Sync { path, .. } => {
                tracing::warn!(
                    at = place(keep.from, self.log.segment_bytes()),
                    bytes = keep.end - keep.from,
                    kept_in = path,
                    "the commit log is damaged here, and records follow: it is cut off here, and what follows is kept aside"
                );
                Ok(KeepProgress::Done)
            }
        }
    }

    fn cannot_keep(&self, from: u64, bytes: u64, error: DiskError) -> String {
        let at = place(from, self.log.segment_bytes());
        format!(
            "{at}: the commit log is damaged here, and records follow; {bytes} bytes could not be kept aside in {DIR}/: {error}. \
             Nothing was changed: make room, and start again"
        )
    }

    fn look_behind<D: Disk>(
        &mut self,
        keep: &mut Keep,
        wall: WallMs,
        disk: &mut D,
    ) -> Result<KeepProgress, String> {
        let begin = keep.at;
        while keep.at < keep.upto && keep.at - begin < self.config.recover_slice_bytes.max(READ_BYTES) {
            let Some(extent) = self.log.extent(keep.at, READ_BYTES.min(keep.upto - keep.at)) else { break };
            let mut bytes = Vec::new();
            match disk.read(extent, &mut bytes) {
                Ok(Residency::Resident) => {}
                Ok(Residency::NotResident) => return Ok(KeepProgress::Cold(extent)),
                Err(error) => return Err(self.cannot_keep(keep.from, keep.upto - keep.from, error)),
            }
            keep.look(&bytes);
            let segment_end = keep.at - keep.at % self.log.segment_bytes() + self.log.segment_bytes();
            let next = keep.at + bytes.len() as u64;
            // The next piece begins where a head may have begun that this one does not hold whole.
            keep.at = if next >= segment_end || next >= keep.upto { next } else { next - (HEAD_BYTES - 1) };
            if keep.zeros >= ZEROS_MAX {
                (keep.at, keep.zeros) = (segment_end, 0);
            }
        }
        if keep.at < keep.upto && self.log.extent(keep.at, 1).is_some() {
            return Ok(KeepProgress::More);
        }
        if !keep.has_record {
            return Ok(KeepProgress::Done);
        }
        for more in 0..NAMES_MAX {
            let path = format!("{DIR}/{:020}-{}", keep.from, wall.0 + more);
            match disk.create(&path, 0, FileKind::Journal) {
                Ok(file) => {
                    keep.step = Step::Copy { file, path, copied: 0 };
                    break;
                }
                // Of a start that died meanwhile.
                Err(DiskError::Exists) if more + 1 < NAMES_MAX => {}
                Err(error) => return Err(self.cannot_keep(keep.from, keep.end - keep.from, error)),
            }
        }
        Ok(KeepProgress::More)
    }

    /// Copies a piece; what must be fetched first, if so.
    fn copy_slice<D: Disk>(
        &self,
        from: u64,
        size: u64,
        file: FileId,
        copied: &mut u64,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let Some(extent) = self.log.extent(from + *copied, READ_BYTES.min(size - *copied)) else {
            return Err(DiskError::OutOfRange);
        };
        let mut bytes = Vec::new();
        if disk.read(extent, &mut bytes)? == Residency::NotResident {
            return Ok(Some(extent));
        }
        disk.write(file, *copied, &bytes)?;
        *copied += bytes.len() as u64;
        Ok(None)
    }
}

fn sync<D, E>(file: FileId, ids: &mut Ids, env: &mut Env<'_, D, E>) -> BTreeSet<SyncId> {
    let targets = [SyncTarget::File(file), SyncTarget::Dir(DIR.into())];
    let ask = |target| {
        let id = ids.sync();
        env.out.push(Effect::Sync { id, target });
        id
    };
    targets.into_iter().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn a_record_is_told_by_its_place() {
        let mut head = vec![0; HEAD_BYTES as usize];
        head[4..8].copy_from_slice(&MAGIC_V2.to_be_bytes());
        head[28..36].copy_from_slice(&500u64.to_be_bytes());
        assert!(is_head(&head, 500) && !is_head(&head, 501));
        for (lead, expect) in [(0, false), (1, true), (100, true)] {
            // What lies at the damage itself does not follow it.
            let mut keep = Keep::new(500 - lead, 10_000);
            let mut bytes = vec![0; lead as usize];
            bytes.extend_from_slice(&head);
            bytes.push(0);
            keep.look(&bytes);
            assert_eq!((keep.has_record, keep.end), (expect, 536), "{lead}");
        }
    }
}
