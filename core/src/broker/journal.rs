//! The journal of committed offsets, beside `consumerOffset.json`.
//!
//! The JSON file is replaced every few seconds; what was committed since is here, written to the page cache before the turn
//! of the commit ends, so that the death of the process forgets nothing. It is never synced: power loss may take the last
//! seconds.
//!
//! ```text
//! config/consumerOffset.journal.N    N = generation % 2
//! magic "GOJ1" 4 | generation 8 | checksum of these 4                     header
//! length of key 2 | key `topic@group` | queue id 4 | offset 8 | checksum 4   a record, repeated; integers big-endian
//! ```
//! A key that ends with `@` says that the topic was deleted, up to the place in the log that stands for the offset: what was committed
//! before is forgotten.
//! The key `SCHEDULE_TOPIC_XXXX` says how far a delay level is, and the queue id is the level; a record with the level's negative before it
//! says where the log must end for that to count, for what was delivered lies below. The key of the topic in which the log
//! carries changes says up to where these tables follow from it (see [`super::carry`]), or -1 when they do not.
//!
//! The generation is that of the JSON file whose commits it continues (its member `gantryGeneration`, which RocketMQ passes
//! over, and loses when it writes the file: then the journal is older than the file and is ignored). While a new JSON file is on
//! its way, commits go to the journals of both generations. A broker that starts adds nothing to the journal that it finds, and serves
//! when its own first JSON file is there. Checksums are CRC-32; reading ends at the first that is wrong.
//!
//! Absent on purpose: mending. A journal that cannot be written is given up until the next generation, with a warning.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::io::{Disk, DiskError, FileId, FileKind};
use crate::probe::Probe;

const MAGIC: &[u8; 4] = b"GOJ1";
const HEADER_BYTES: usize = 16;
/// The longest key: two names and the sign between them.
const KEY_BYTES_MAX: usize = 1024;
/// A journal longer than this asks for a new generation at once.
pub(super) const JOURNAL_BYTES_FULL: u64 = 8 << 20;
/// A journal is never longer.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// One journal, open for writing.
#[derive(Debug)]
pub(super) struct Journal {
    path: String,
    file: FileId,
    len: u64,
}

fn path_of(generation: u64) -> String {
    format!("config/consumerOffset.journal.{}", generation % 2)
}

impl Journal {
    /// A fresh one of this generation, in place of an older one.
    ///
    /// # Errors
    /// [`DiskError`]
    pub(super) fn create(generation: u64, disk: &mut impl Disk) -> Result<Journal, DiskError> {
        let path = path_of(generation);
        match disk.delete(&path) {
            Ok(()) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let file = disk.create(&path, 0, FileKind::Journal)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&generation.to_be_bytes());
        let checksum = crc32fast::hash(&header);
        header.extend_from_slice(&checksum.to_be_bytes());
        disk.write(file, 0, &header)?;
        Ok(Journal { path, file, len: header.len() as u64 })
    }

    /// Appends records made by [`put_record`].
    ///
    /// # Errors
    /// [`DiskError`]; give the journal up then.
    pub(super) fn append(&mut self, records: &[u8], disk: &mut impl Disk) -> Result<(), DiskError> {
        if self.len + records.len() as u64 > JOURNAL_BYTES_MAX {
            return Err(DiskError::Full);
        }
        disk.write(self.file, self.len, records)?;
        self.len += records.len() as u64;
        Ok(())
    }

    /// Whether it is time for a new generation.
    pub(super) fn is_full(&self) -> bool {
        self.len > JOURNAL_BYTES_FULL
    }

    /// Removes it.
    pub(super) fn remove(self, disk: &mut impl Disk) {
        disk.close(self.file);
        if let Err(error) = disk.delete(&self.path) {
            // Its generation is past, so it would be ignored anyway.
            tracing::warn!(path = self.path, %error, "old journal not removed");
        }
    }
}

/// Appends a record.
pub(super) fn put_record(key: &str, queue_id: i32, offset: i64, out: &mut Vec<u8>) {
    debug_assert!(key.len() <= KEY_BYTES_MAX, "names are bounded");
    let start = out.len();
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&queue_id.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// Reads the journal of a generation, if there is one, and hands over its records in order.
///
/// # Errors
/// [`DiskError`] when it is there but cannot be read.
pub(super) fn replay(
    generation: u64,
    disk: &mut impl Disk,
    f: impl FnMut(&str, i32, i64),
) -> Result<(), DiskError> {
    match disk.read_small(&path_of(generation), JOURNAL_BYTES_MAX) {
        Ok(bytes) => {
            let left = decode(generation, &bytes, f);
            if left > 0 {
                let at = bytes.len() - left;
                Probe::JournalTorn.reached();
                tracing::warn!(path = path_of(generation), at, left, "the journal is good up to here");
            }
            Ok(())
        }
        Err(DiskError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Hands over the records of a journal; how many bytes at its end are not one.
fn decode(generation: u64, bytes: &[u8], mut f: impl FnMut(&str, i32, i64)) -> usize {
    let Some((header, mut rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return bytes.len() };
    let is_ours = header[..4] == *MAGIC
        && header[4..12] == generation.to_be_bytes()
        && header[12..] == crc32fast::hash(&header[..12]).to_be_bytes();
    if !is_ours {
        return 0;
    }
    while let Some((key, queue_id, offset, after)) = split_record(rest) {
        f(key, queue_id, offset);
        rest = after;
    }
    rest.len()
}

fn split_record(bytes: &[u8]) -> Option<(&str, i32, i64, &[u8])> {
    let (key_len, _) = bytes.split_first_chunk::<2>()?;
    let key_len = usize::from(u16::from_be_bytes(*key_len));
    let (record, rest) = bytes.split_at_checked(2 + key_len + 4 + 8)?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    // A key of no length would make a run of zeros a record, were it not for the checksum.
    if key_len == 0 || crc32fast::hash(record) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (key, numbers) = record[2..].split_at(key_len);
    let (queue_id, offset) = numbers.split_first_chunk::<4>()?;
    let offset = offset.first_chunk::<8>()?;
    Some((core::str::from_utf8(key).ok()?, i32::from_be_bytes(*queue_id), i64::from_be_bytes(*offset), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn header(generation: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&generation.to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    fn read(generation: u64, bytes: &[u8]) -> (Vec<(String, i32, i64)>, usize) {
        let mut found = vec![];
        let left = decode(generation, bytes, |key, queue, offset| found.push((key.into(), queue, offset)));
        (found, left)
    }

    #[test]
    fn what_was_written_comes_back_up_to_the_damage() {
        let mut bytes = header(3);
        put_record("T@G", 0, 7, &mut bytes);
        let one = bytes.len();
        put_record("%RETRY%G@G", 1, i64::MAX, &mut bytes);
        let (found, left) = read(3, &bytes);
        assert_eq!(found, [("T@G".into(), 0, 7), ("%RETRY%G@G".into(), 1, i64::MAX)]);
        assert_eq!(left, 0);
        for cut in 0..bytes.len() {
            let expect = usize::from(cut >= one);
            assert_eq!(read(3, &bytes[..cut]).0.len(), expect, "{cut}");
        }
        for at in one..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(read(3, &torn).0.len(), 1, "{at}");
        }
        // A page that never reached the disk.
        bytes.resize(bytes.len() + 100, 0);
        assert_eq!(read(3, &bytes).0.len(), 2);
    }

    #[test]
    fn a_journal_of_another_generation_is_ignored() {
        let mut bytes = header(3);
        put_record("T@G", 0, 7, &mut bytes);
        assert_eq!(read(5, &bytes), (vec![], 0));
    }
}
