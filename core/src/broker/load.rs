//! The start: configuration files are read before anything else, and nothing is served from half of one.
//!
//! A file that cannot be understood is kept beside as `….damaged` when its backup (`….bak`, which RocketMQ writes) can be;
//! without a backup the broker does not start and says which file it is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Broker;
use crate::io::{Disk, DiskError, Now};
use crate::wire::body::BodyError;

/// The longest configuration file.
const CONFIG_BYTES_MAX: u64 = 256 << 20;

impl Broker {
    /// Reads what is known of topics, groups and offsets.
    ///
    /// # Errors
    /// What to tell the operator.
    pub(super) fn load(&mut self, now: Now, disk: &mut impl Disk) -> Result<(), String> {
        let path = self.topics.file.path();
        let source = load_file(path, disk, |bytes| self.topics.load(bytes))?;
        // A topic is in the file before anything is acknowledged in it; so one that only the store has was deleted.
        self.adopts_topics = source != Source::File || self.replication.is_slave();
        if source != Source::File {
            // From now on there is one.
            self.topics.file.touch();
        }
        self.epochs.load(disk).map_err(|error| format!("epochFileCheckpoint: not read: {error}"))?;
        self.known.load(disk).map_err(|error| format!("config/gantrySlaves.json: not read: {error}"))?;
        let path = self.groups.file.path();
        load_file(path, disk, |bytes| self.groups.load(bytes))?;
        let path = self.offsets.file.path();
        load_file(path, disk, |bytes| self.offsets.load(bytes))?;
        let path = self.delays.file.path();
        load_file(path, disk, |bytes| self.delays.load(bytes))?;
        self.offsets
            .recover(now.mono, disk)
            .map_err(|error| format!("config/consumerOffset.journal: not read: {error}"))?;
        self.offsets.follow_deletions(self.topics.deletions.iter());
        self.store.set_deleted(self.topics.deletions.iter());
        self.offsets.take_delays(|level, offset, end| self.delays.claim(level, offset, end));
        Ok(())
    }
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    File,
    Backup,
    /// Neither is there.
    Nothing,
}

fn load_file(
    path: &str,
    disk: &mut impl Disk,
    mut take: impl FnMut(&[u8]) -> Result<(), BodyError>,
) -> Result<Source, String> {
    let main = read(path, disk)?;
    let error = match main.as_deref().map(&mut take) {
        Some(Ok(())) => return Ok(Source::File),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let backup = format!("{path}.bak");
    match (read(&backup, disk)?.as_deref().map(take), error) {
        (Some(Ok(())), None) => {
            tracing::warn!(path, "not there; its backup is used");
            Ok(Source::Backup)
        }
        (Some(Ok(())), Some(error)) => {
            tracing::warn!(path, %error, "damaged: kept beside, and its backup is used");
            let kept = format!("{path}.damaged");
            disk.rename(path, &kept).map_err(|error| format!("{path}: not renamed to {kept}: {error}"))?;
            Ok(Source::Backup)
        }
        (None, None) => Ok(Source::Nothing),
        (Some(Err(error)), None) => Err(format!("{backup}: {error}; restore or remove it")),
        (None | Some(Err(_)), Some(error)) => {
            Err(format!("{path}: {error}; restore it, or remove it and what it holds is lost"))
        }
    }
}

/// A file's bytes; none when it is missing or empty.
fn read(path: &str, disk: &mut impl Disk) -> Result<Option<Vec<u8>>, String> {
    match disk.read_small(path, CONFIG_BYTES_MAX) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(format!("{path}: not read: {error}")),
    }
}
