//! A commit log as it lies on a broker's disk, read by hand and not by the store that wrote it.

use std::ops::Range;

use gantry_disk::MemoryDisk;

use crate::workload::record;

const BLANK_MAGIC: u32 = 0xCBD4_3194;
/// Longest record that is looked at.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// A commit log as it lies on a disk.
pub struct Log<'a> {
    /// The disk.
    pub disk: &'a MemoryDisk,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// The body of a whole message of the workloads'.
pub struct Body {
    /// Where its record begins in the log.
    pub record: u64,
    /// The file it lies in.
    pub path: String,
    /// Where in the file; never empty.
    pub within: Range<u64>,
}

impl<'a> Log<'a> {
    /// That of a disk, whose segments say how long one is; `None` when there is none.
    pub fn on(disk: &'a MemoryDisk) -> Option<Log<'a>> {
        let is_segment = |(path, len): &(String, u64)| path.starts_with("commitlog/") && *len > 0;
        let (_, segment_bytes) = disk.files().find(is_segment)?;
        Some(Log { disk, segment_bytes })
    }

    /// The bodies of all whole messages of the workloads'.
    pub fn bodies(&self) -> Vec<Body> {
        let (mut at, mut bodies) = (self.start(), Vec::new());
        while let Some((bytes, next)) = self.record(at) {
            let records = record::split(&bytes).unwrap_or_default();
            for record in
                records.iter().filter(|record| record.message().is_some() && !record.body.is_empty())
            {
                let begin = at % self.segment_bytes + record.body_at as u64;
                let within = begin..begin + record.body.len() as u64;
                bodies.push(Body { record: at, path: self.path(at), within });
            }
            at = next;
        }
        bodies
    }

    fn path(&self, at: u64) -> String {
        format!("commitlog/{:020}", at - at % self.segment_bytes)
    }

    /// The record at a place: its bytes, and where the next one begins.
    pub fn record(&self, at: u64) -> Option<(Vec<u8>, u64)> {
        let segment = at - at % self.segment_bytes;
        let path = self.path(at);
        let head = self.disk.peek_range(&path, at % self.segment_bytes, 8)?;
        let size = u32::from_be_bytes(*head.first_chunk::<4>()?) as usize;
        let magic = u32::from_be_bytes(*head.get(4..)?.first_chunk::<4>()?);
        if magic == BLANK_MAGIC {
            return Some((head, segment + self.segment_bytes));
        }
        if size == 0 || size > RECORD_BYTES_MAX {
            return None;
        }
        let bytes = self.disk.peek_range(&path, at % self.segment_bytes, size)?;
        Some((bytes, at + size as u64))
    }

    /// Where it begins.
    pub fn start(&self) -> u64 {
        let segments = self.disk.peek_dir("commitlog").filter_map(|(name, _)| name.parse().ok());
        segments.min().unwrap_or(0)
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        let mut at = self.start();
        while let Some((_, next)) = self.record(at) {
            at = next;
        }
        at
    }
}
