//! A small file that is replaced as a whole when what it holds has changed.
//!
//! At most one replacement of a file is under way, and all changes made meanwhile go into the next one. A change is *durable*
//! once a replacement begun after it has completed.

use core::time::Duration;

use alloc::string::String;
use alloc::vec::Vec;

use crate::io::{DiskError, Effect, SyncId};
use crate::time::Instant;

/// How long to wait after a replacement failed for want of room, descriptors or permission.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Counts the changes of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Generation(u64);

impl Generation {
    /// Counts one more.
    pub(super) fn advance(&mut self) -> Generation {
        self.0 += 1;
        *self
    }
}

/// The file of a table.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: &'static str,
    wanted: Generation,
    durable: Generation,
    writing: Option<(SyncId, Generation)>,
    retry_at: Instant,
}

impl ConfigFile {
    /// The file at `path`, holding what the table holds.
    pub(super) fn new(path: &'static str) -> ConfigFile {
        ConfigFile {
            path,
            wanted: Generation::default(),
            durable: Generation::default(),
            writing: None,
            retry_at: Instant::ZERO,
        }
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// Notes a change; the result is durable with it.
    pub(super) fn touch(&mut self) -> Generation {
        self.wanted.advance()
    }

    /// What the next change will be.
    pub(super) fn next(&self) -> Generation {
        Generation(self.wanted.0 + 1)
    }

    /// The latest change.
    pub(super) fn generation(&self) -> Generation {
        self.wanted
    }

    /// The latest change that survives everything.
    pub(super) fn durable(&self) -> Generation {
        self.durable
    }

    /// Whether a change survives everything.
    pub(super) fn is_durable(&self, generation: Generation) -> bool {
        generation <= self.durable
    }

    /// Whether all changes do.
    pub(super) fn is_clean(&self) -> bool {
        self.durable == self.wanted
    }

    /// Whether a replacement should begin now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.writing.is_none() && self.durable < self.wanted && now >= self.retry_at
    }

    /// When a failed replacement is to be tried again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.writing.is_none() && !self.is_clean()).then_some(self.retry_at)
    }

    /// Begins a replacement by `bytes`, which hold every change so far.
    pub(super) fn begin<E>(&mut self, id: SyncId, bytes: Vec<u8>, out: &mut Vec<Effect<E>>) {
        self.writing = Some((id, self.wanted));
        out.push(Effect::Replace { id, path: String::from(self.path), bytes: bytes.into() });
    }

    /// Takes a completion; `None` when it is not this file's. The error is one that a retry cannot mend.
    pub(super) fn on_synced(
        &mut self,
        now: Instant,
        id: SyncId,
        result: Result<(), DiskError>,
    ) -> Option<Result<(), DiskError>> {
        let (_, generation) = self.writing.filter(|(writing, _)| *writing == id)?;
        self.writing = None;
        Some(match result {
            Ok(()) => {
                self.durable = generation;
                Ok(())
            }
            Err(error) if error.is_shortage() || error == DiskError::Denied => {
                tracing::warn!(path = self.path, %error, "not written, will be tried again");
                self.retry_at = now + RETRY_AFTER;
                Ok(())
            }
            Err(error) => Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn changes_made_while_writing_go_into_the_next_replacement() {
        let mut file = ConfigFile::new("config/topics.json");
        let mut out: Vec<Effect<()>> = vec![];
        assert!(!file.is_due(at(0)));
        let first = file.touch();
        assert!(file.is_due(at(0)));
        file.begin(SyncId(1), vec![], &mut out);
        let second = file.touch();
        assert!(!file.is_due(at(0)), "one at a time");
        assert_eq!(file.on_synced(at(1), SyncId(9), Ok(())), None);
        assert_eq!(file.on_synced(at(1), SyncId(1), Ok(())), Some(Ok(())));
        assert!(file.is_durable(first) && !file.is_durable(second) && file.is_due(at(1)));
        file.begin(SyncId(2), vec![], &mut out);
        assert_eq!(file.on_synced(at(1), SyncId(2), Err(DiskError::Full)), Some(Ok(())));
        assert!(!file.is_due(at(5)) && file.is_due(at(6)));
        file.begin(SyncId(3), vec![], &mut out);
        assert_eq!(file.on_synced(at(6), SyncId(3), Err(DiskError::Io)), Some(Err(DiskError::Io)));
    }
}
