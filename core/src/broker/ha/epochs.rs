//! Epochs: which life of which master wrote which part of the log.
//!
//! An epoch begins at every start of a writer, at the end that its log has then, and lies in `epochFileCheckpoint` before the
//! first byte of it is appended. A slave has its master's list, from before the first byte that it takes from it. So where two
//! logs have an epoch in common (same number, same beginning) they hold the same bytes up to where the shorter one ends it.
//!
//! Numbers rise by steps of chance: two writers that begin from the same log do not take the same one.
//!
//! ```text
//! epochFileCheckpoint   how many | CRC-32 of what follows, without its top bit | EPOCH-BEGIN ...   one a line (RocketMQ's form)
//! config/gantryEpochs.json   {"ownFrom":N}   what lies from N on was written by this broker itself as master
//! ```
//!
//! Absent on purpose: who may be a writer; that is the operator's word (`brokerRole`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::broker::persist::ConfigFile;
use crate::io::{Disk, DiskError};
use crate::probe::Probe;
use crate::rng::Rng;
use crate::wire::body::{self, EpochEntry};

/// Epochs kept; older ones are forgotten.
const EPOCHS_MAX: usize = 1024;
/// The largest step from one number to the next.
const STEP_MAX: u64 = 4096;
/// The longest of both files.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Own {
    own_from: Option<u64>,
}

/// How two logs lie to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shared {
    /// They hold the same bytes up to here, and then one of them ends or they part.
    UpTo(u64),
    /// They have no epoch in common: nothing is known.
    Unknown,
}

/// What another log has behind the end of this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// Nothing that continues this one.
    None,
    /// Its bytes from this log's end up to here continue this log.
    UpTo(u64),
    /// It has other bytes where this log goes on, or nothing is known.
    Parted,
}

/// The epochs of this log, rising in number and beginning.
#[derive(Debug)]
pub(crate) struct Epochs {
    entries: Vec<EpochEntry>,
    own: Own,
    pub(in crate::broker) file: ConfigFile,
    pub(in crate::broker) own_file: ConfigFile,
}

impl Epochs {
    pub(crate) fn new() -> Epochs {
        Epochs {
            entries: Vec::new(),
            own: Own::default(),
            file: ConfigFile::new("epochFileCheckpoint"),
            own_file: ConfigFile::new("config/gantryEpochs.json"),
        }
    }

    /// Reads both files. A damaged list is as good as none: the logs are compared then, and nothing is cut.
    pub(crate) fn load(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        let mut read = |path: &str| match disk.read_small(path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DiskError::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(bytes) = read(self.file.path())? {
            self.entries = parse(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = self.file.path(), "not a list of epochs: passed over");
                Vec::new()
            });
        }
        if let Some(bytes) = read(self.own_file.path())? {
            self.own = body::decode(&bytes).unwrap_or_default();
        }
        Ok(())
    }

    /// Forgets what begins behind the end of the log. What begins there stays, though nothing of it is left: a slave may have
    /// what was lost.
    pub(crate) fn cut(&mut self, end: u64) {
        self.entries.retain(|entry| entry.start_offset <= end);
        self.own.own_from = self.own.own_from.filter(|from| *from <= end);
    }

    /// A writer starts, with a log that ends there.
    pub(crate) fn begin(&mut self, end: u64, rng: &mut Rng) {
        let last = self.entries.last().map_or(0, |entry| entry.epoch);
        self.cut(end);
        let epoch = last + 1 + rng.below(STEP_MAX) as i64;
        self.entries.push(EpochEntry { epoch, start_offset: end, end_offset: 0 });
        let surplus = self.entries.len().saturating_sub(EPOCHS_MAX);
        self.entries.drain(..surplus);
        let own_from = self.own.own_from.unwrap_or(end).min(end);
        if self.own.own_from != Some(own_from) {
            self.own.own_from = Some(own_from);
            self.own_file.touch();
        }
        self.file.touch();
        Probe::EpochBegins.reached();
        tracing::info!(epoch, from = end, "a new epoch begins");
    }

    /// A slave takes its master's list, or none when that has none. True when something changed.
    pub(crate) fn adopt(&mut self, entries: Vec<EpochEntry>) -> bool {
        let changed = self.entries != entries || self.own.own_from.is_some();
        if self.entries != entries {
            self.entries = entries;
            self.file.touch();
        }
        if self.own.own_from.take().is_some() {
            self.own_file.touch();
        }
        changed
    }

    /// Whether both files hold what is known.
    pub(crate) fn is_durable(&self) -> bool {
        self.file.is_clean() && self.own_file.is_clean()
    }

    /// Whether this broker wrote everything from `at` on itself.
    pub(crate) fn is_own_from(&self, at: u64) -> bool {
        self.own.own_from.is_some_and(|from| from <= at)
    }

    /// The list, each with where it ends.
    pub(crate) fn entries(&self, log_end: u64) -> Vec<EpochEntry> {
        let ends = self.entries.iter().skip(1).map(|next| next.start_offset).chain([log_end]);
        self.entries.iter().zip(ends).map(|(entry, end_offset)| EpochEntry { end_offset, ..*entry }).collect()
    }

    /// What both logs have for sure: this one, which ends at `end`, and a master's.
    pub(crate) fn shared(&self, end: u64, master: &[EpochEntry], master_end: u64) -> Shared {
        shared_up_to(&self.entries, end, master, master_end).map_or(Shared::Unknown, Shared::UpTo)
    }

    /// What a slave's log has behind the end of this one, in the newest epoch that both have: not what the slave wrote after
    /// that in epochs of its own, nor what this log went on with in an epoch that the slave never saw. An epoch of this log
    /// may begin behind its end: what led up to it is lost. Ask again once the end has moved.
    pub(crate) fn tail(&self, end: u64, slave: &[EpochEntry], slave_end: u64) -> Tail {
        if slave_end <= end {
            return Tail::None;
        }
        let began = self.entries.partition_point(|ours| ours.start_offset <= end);
        let Some(newest) = began.checked_sub(1).map(|at| self.entries[at]) else { return Tail::Parted };
        let is_same =
            |entry: &EpochEntry| (entry.epoch, entry.start_offset) == (newest.epoch, newest.start_offset);
        let Some(at) = slave.iter().position(is_same) else { return Tail::Parted };
        let theirs = slave.get(at + 1).map_or(slave_end, |next| next.start_offset.min(slave_end));
        let upto = self.entries.get(began).map_or(theirs, |next| next.start_offset.min(theirs));
        if upto > end { Tail::UpTo(upto) } else { Tail::Parted }
    }

    /// What `epochFileCheckpoint` is to hold.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let lines: String =
            self.entries.iter().map(|entry| format!("{}-{}\n", entry.epoch, entry.start_offset)).collect();
        format!("{}\n{}\n{lines}", self.entries.len(), checksum(&lines)).into_bytes()
    }

    /// What the file beside it is to hold.
    pub(crate) fn own_json(&self) -> Vec<u8> {
        body::encode(&self.own)
    }

    pub(crate) fn check_invariants(&self) {
        for pair in self.entries.windows(2) {
            let [a, b] = pair else { continue };
            assert!(a.epoch < b.epoch && a.start_offset <= b.start_offset, "epochs rise");
        }
    }
}

/// Up to where two logs are the same for sure: the end of the newest epoch that both have.
pub(super) fn shared_up_to(
    entries: &[EpochEntry],
    end: u64,
    others: &[EpochEntry],
    others_end: u64,
) -> Option<u64> {
    let end_of = |entries: &[EpochEntry], at: usize, end: u64| {
        entries.get(at + 1).map_or(end, |next| next.start_offset.min(end))
    };
    entries.iter().enumerate().rev().filter(|(_, entry)| entry.start_offset <= end).find_map(|(at, entry)| {
        let is_same =
            |other: &EpochEntry| (other.epoch, other.start_offset) == (entry.epoch, entry.start_offset);
        let other = others.iter().position(is_same)?;
        Some(end_of(entries, at, end).min(end_of(others, other, others_end)))
    })
}

fn checksum(lines: &str) -> u32 {
    crc32fast::hash(lines.as_bytes()) & 0x7FFF_FFFF
}

/// Whether a list is one: as the invariant says.
pub(crate) fn is_rising(entries: &[EpochEntry]) -> bool {
    entries.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset <= b.start_offset)
}

fn parse(bytes: &[u8]) -> Option<Vec<EpochEntry>> {
    let text = core::str::from_utf8(bytes).ok()?.replace("\r\n", "\n");
    let (count, rest) = text.split_once('\n')?;
    let (sum, lines) = rest.split_once('\n')?;
    if checksum(lines).to_string() != sum {
        return None;
    }
    let entry = |line: &str| {
        let (epoch, begin) = line.split_once('-')?;
        Some(EpochEntry { epoch: epoch.parse().ok()?, start_offset: begin.parse().ok()?, end_offset: 0 })
    };
    let entries: Vec<EpochEntry> = lines.lines().map(entry).collect::<Option<_>>()?;
    (entries.len().to_string() == count && is_rising(&entries)).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(i64, u64)]) -> Vec<EpochEntry> {
        let entry = |(epoch, start_offset): &(i64, u64)| EpochEntry {
            epoch: *epoch,
            start_offset: *start_offset,
            end_offset: 0,
        };
        entries.iter().map(entry).collect()
    }

    fn epochs(entries: &[(i64, u64)]) -> Epochs {
        Epochs { entries: list(entries), ..Epochs::new() }
    }

    #[test]
    fn the_file_is_rocketmqs() {
        let two = epochs(&[(7, 7000), (8, 8000)]);
        assert_eq!(two.to_text(), b"2\n773307083\n7-7000\n8-8000\n");
        assert_eq!(parse(&two.to_text()), Some(list(&[(7, 7000), (8, 8000)])));
        assert_eq!(parse(&epochs(&[]).to_text()), Some(Vec::new()));
        for damaged in ["", "2\n773307083\n7-7000\n8-8001\n", "1\n773307083\n7-7000\n8-8000\n", "x"] {
            assert_eq!(parse(damaged.as_bytes()), None, "{damaged}");
        }
    }

    /// Ours and its end, the master's and its end.
    fn check(ours: &[(i64, u64)], end: u64, master: &[(i64, u64)], master_end: u64, expect: Shared) {
        assert_eq!(epochs(ours).shared(end, &list(master), master_end), expect, "{ours:?} {master:?}");
    }

    #[test]
    fn what_two_logs_share_follows_from_their_epochs() {
        // The slave is behind, or as far.
        check(&[(1, 0)], 50, &[(1, 0)], 90, Shared::UpTo(50));
        check(&[(1, 0)], 50, &[(1, 0), (5, 70)], 90, Shared::UpTo(50));
        check(&[(1, 0)], 70, &[(1, 0), (5, 70)], 90, Shared::UpTo(70));
        // The master came back shorter, then grew again.
        check(&[(1, 0)], 80, &[(1, 0), (5, 70)], 70, Shared::UpTo(70));
        check(&[(1, 0)], 80, &[(1, 0), (5, 70)], 99, Shared::UpTo(70));
        // It lost a disk cache: shorter than where its last epoch began.
        check(&[(1, 0), (4, 60)], 80, &[(1, 0), (5, 50)], 99, Shared::UpTo(50));
        // An old master with a tail of its own comes back under a promoted slave.
        check(&[(1, 0), (3, 40)], 80, &[(1, 0), (4, 45)], 99, Shared::UpTo(40));
        check(&[(1, 0)], 80, &[(1, 0), (4, 45)], 99, Shared::UpTo(45));
        // Nothing in common: another log, or one from before there were epochs.
        check(&[], 80, &[(1, 0)], 99, Shared::Unknown);
        check(&[(1, 0)], 80, &[(2, 0)], 99, Shared::Unknown);
        check(&[(1, 10)], 80, &[(1, 0)], 99, Shared::Unknown);
    }

    #[test]
    fn what_a_slave_has_behind_the_end_is_taken_in_the_same_epoch_only() {
        let check = |ours: &[(i64, u64)], end, slave: &[(i64, u64)], slave_end, expect| {
            let tail = epochs(ours).tail(end, &list(slave), slave_end);
            assert_eq!(tail, expect, "{ours:?} {slave:?}");
        };
        check(&[(1, 0)], 70, &[(1, 0)], 100, Tail::UpTo(100));
        check(&[(1, 0)], 100, &[(1, 0)], 100, Tail::None);
        check(&[(1, 0)], 100, &[(1, 0)], 70, Tail::None);
        check(&[(1, 0), (5, 60)], 80, &[(1, 0), (5, 60)], 100, Tail::UpTo(100));
        // The slave never saw the epoch in which this log went on.
        check(&[(1, 0), (5, 60)], 80, &[(1, 0)], 100, Tail::Parted);
        // It has written itself since.
        check(&[(1, 0)], 70, &[(1, 0), (9, 90)], 120, Tail::UpTo(90));
        check(&[(1, 0)], 70, &[(1, 0), (9, 70)], 120, Tail::Parted);
        check(&[], 70, &[(1, 0)], 120, Tail::Parted);
        // This log lost the place where its newest epoch began.
        check(&[(1, 0), (5, 90)], 80, &[(1, 0)], 100, Tail::UpTo(90));
        check(&[(1, 0), (5, 90)], 80, &[(1, 0), (5, 90)], 120, Tail::UpTo(90));
        check(&[(1, 0), (5, 90)], 90, &[(1, 0), (5, 90)], 120, Tail::UpTo(120));
        check(&[(1, 0), (5, 90)], 90, &[(1, 0)], 100, Tail::Parted);
    }

    #[test]
    fn a_writer_begins_an_epoch_where_its_log_ends() {
        let mut rng = Rng::from_seed(1);
        let mut epochs = epochs(&[(3, 0), (9, 100)]);
        epochs.begin(80, &mut rng);
        let begun = epochs.entries(90);
        assert_eq!((begun[0].epoch, begun[0].end_offset), (3, 80));
        assert!(begun[1].epoch > 9 && begun[1].start_offset == 80 && begun[1].end_offset == 90);
        assert!(epochs.is_own_from(80) && !epochs.is_own_from(79) && !epochs.is_durable());
        // It starts again without having written.
        epochs.begin(80, &mut rng);
        assert_eq!(epochs.entries(80).len(), 3);
        epochs.begin(120, &mut rng);
        assert!(epochs.is_own_from(80) && epochs.entries(130).len() == 4);
        let list = epochs.entries(130);
        assert!(epochs.adopt(list.clone()) && !epochs.is_own_from(200));
        assert!(!epochs.adopt(list));
    }
}
