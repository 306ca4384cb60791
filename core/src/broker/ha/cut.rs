//! A replica that parted from its master goes back to where both are the same.
//!
//! What lies behind that place is copied aside first, into `diverged/FROM-TIME`, for the operator; then the place is written
//! into `cutLogTo`, and the broker starts again: recovery cuts the log there (see `store::recover`). A crash at any point leaves
//! either the whole log or the copy.
//!
//! Absent on purpose: the decision. See [`super::replica`].

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::ID_SPACE;
use crate::broker::store::{CUT_FILE, Store};
use crate::io::{Disk, DiskError, Effect, Env, FetchId, FileId, FileKind, Now, SyncId, SyncTarget};
use crate::probe::Probe;

/// Where tails are kept.
const DIR: &str = "diverged";
/// Bytes copied in one turn at most.
const COPY_BYTES: u64 = 1 << 20;
/// Tells these syncs and fetches from those of the streams.
const IDS: u64 = ID_SPACE | (1 << 49);

#[derive(Debug)]
enum Step {
    Copy,
    Fetch(FetchId),
    Sync(BTreeSet<SyncId>),
    Mark(SyncId),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cut {
    at: u64,
    end: u64,
    copied: u64,
    path: String,
    file: FileId,
    step: Step,
    ids: u64,
}

impl Cut {
    /// Begins to copy what lies in the log from `at` to `end`.
    pub(crate) fn begin(now: Now, at: u64, end: u64, disk: &mut impl Disk) -> Result<Cut, DiskError> {
        let path = format!("{DIR}/{at:020}-{}", now.wall.0);
        let file = disk.create(&path, 0, FileKind::Journal)?;
        Probe::LogCut.reached();
        tracing::warn!(at, end, path, "this log and the master's part here; what lies behind is kept aside");
        Ok(Cut { at, end, copied: 0, path, file, step: Step::Copy, ids: 0 })
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        IDS | self.ids
    }

    /// Moves on by what a turn allows.
    ///
    /// # Errors
    /// [`DiskError`]: give it up; the log is as it was.
    pub(crate) fn settle<D: Disk, E>(
        &mut self,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) -> Result<(), DiskError> {
        match &self.step {
            Step::Copy => self.copy(store, env),
            Step::Sync(waiting) if waiting.is_empty() => {
                let id = SyncId(self.id());
                let bytes: Vec<u8> = self.at.to_string().into_bytes();
                env.out.push(Effect::Replace { id, path: CUT_FILE.into(), bytes: bytes.into() });
                self.step = Step::Mark(id);
                Ok(())
            }
            Step::Fetch(_) | Step::Sync(_) | Step::Mark(_) => Ok(()),
        }
    }

    fn copy<D: Disk, E>(&mut self, store: &Store, env: &mut Env<'_, D, E>) -> Result<(), DiskError> {
        let from = self.at + self.copied;
        if from == self.end {
            let (file, dir) = (SyncId(self.id()), SyncId(self.id()));
            env.out.push(Effect::Sync { id: file, target: SyncTarget::File(self.file) });
            env.out.push(Effect::Sync { id: dir, target: SyncTarget::Dir(DIR.into()) });
            self.step = Step::Sync(BTreeSet::from([file, dir]));
            return Ok(());
        }
        let mut bytes = Vec::new();
        match store.read_log(from, COPY_BYTES.min(self.end - from), env.disk, &mut bytes)? {
            Ok(()) => {
                env.disk.write(self.file, self.copied, &bytes)?;
                self.copied += bytes.len() as u64;
            }
            Err(cold) => {
                let id = FetchId(self.id());
                env.out.push(Effect::Fetch { id, at: cold });
                self.step = Step::Fetch(id);
            }
        }
        Ok(())
    }

    /// A fetch completed; false when it is somebody else's.
    pub(crate) fn on_fetched(&mut self, id: FetchId) -> bool {
        let is_own = matches!(self.step, Step::Fetch(own) if own == id);
        if is_own {
            // A read that failed says so again.
            self.step = Step::Copy;
        }
        is_own
    }

    /// A sync completed; none when it is somebody else's. At the end, what to tell the operator.
    pub(crate) fn on_synced(
        &mut self,
        id: SyncId,
        result: Result<(), DiskError>,
    ) -> Option<Result<Option<String>, DiskError>> {
        let is_own = match &mut self.step {
            Step::Copy | Step::Fetch(_) => false,
            Step::Sync(waiting) => waiting.remove(&id),
            Step::Mark(own) => *own == id,
        };
        let is_end = matches!(self.step, Step::Mark(_));
        let said = || {
            format!(
                "this log parted from its master's at {}: what lay behind is kept in {}; starting again to cut it off",
                self.at, self.path
            )
        };
        is_own.then(|| result.map(|()| is_end.then(said)))
    }

    /// Whether it could go on at once.
    pub(crate) fn is_runnable(&self) -> bool {
        match &self.step {
            Step::Copy => true,
            Step::Sync(waiting) => waiting.is_empty(),
            Step::Fetch(_) | Step::Mark(_) => false,
        }
    }
}
