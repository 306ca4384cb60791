//! The lock of a store: one process at a time, whether Gantry or RocketMQ.
//!
//! RocketMQ's broker locks the first byte of `lock` through `FileChannel.tryLock`, which is a POSIX record lock, and
//! writes the text `lock` (`DefaultMessageStore.start`). A lock of that kind belongs to the process: it does not keep the
//! same process out, and it ends when *any* descriptor of the file is closed. Hence the register below, and hence no
//! path of a disk may be `lock`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::path::LOCK_NAME;

/// The stores that this process holds.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process (or another part of this one) works on it.
    InUse {
        /// The file that it has locked.
        lock: PathBuf,
    },
    /// The system refused something.
    Io {
        /// Of what.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { lock } => {
                write!(f, "the store is in use: another broker holds the lock {}", lock.display())
            }
            OpenError::Io { path, source } => write!(f, "cannot open {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::InUse { .. } => None,
            OpenError::Io { source, .. } => Some(source),
        }
    }
}

/// Holds a store until dropped.
#[derive(Debug)]
pub(super) struct StoreLock {
    root: PathBuf,
    /// Closed before the register is told: a second descriptor that was open by then would lose its lock.
    file: Option<File>,
}

impl StoreLock {
    /// Takes the lock of the store at `root`, which is created if need be.
    pub(super) fn take(root: &Path) -> Result<StoreLock, OpenError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(io_error(root))?;
        let root = root.canonicalize().map_err(io_error(root))?;
        let lock = root.join(LOCK_NAME);
        if !HELD.lock().unwrap_or_else(PoisonError::into_inner).insert(root.clone()) {
            return Err(OpenError::InUse { lock });
        }
        match lock_file(&lock) {
            Ok(Some(file)) => Ok(StoreLock { root, file: Some(file) }),
            Ok(None) => {
                forget(&root);
                Err(OpenError::InUse { lock })
            }
            Err(source) => {
                forget(&root);
                Err(OpenError::Io { path: lock, source })
            }
        }
    }

    /// The root, without symbolic links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        drop(self.file.take());
        forget(&self.root);
    }
}

fn lock_file(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    file.write_all_at(LOCK_NAME.as_bytes(), 0)?;
    Ok(Some(file))
}

fn forget(root: &Path) {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(root);
}
