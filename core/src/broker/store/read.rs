//! Reading: messages of a queue, and raw ranges of the log for replication.
//!
//! Whatever is not in memory is answered with the extent to fetch; the caller parks and asks again.

use alloc::vec::Vec;

use super::consume_queue::{CqEntry, ENTRY_BYTES, Slice};
use super::{QueueIx, Store};
use crate::io::{Disk, DiskError, Extent, Residency};

/// Bytes of a queue scanned for one read at least (RocketMQ's `maxFilterMessageSize`).
const SCAN_BYTES_MIN: u64 = 16_000;

/// How much one read may give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadLimits {
    /// Messages.
    pub messages_max: u32,
    /// Bytes of records; the first message is given whatever its size.
    pub bytes_max: u64,
}

/// One entry of a consume queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueEntry {
    /// Where the record begins in the commit log.
    pub physical_offset: i64,
    /// Its length.
    pub record_bytes: i32,
    /// What tags are filtered by.
    pub tags_code: i64,
}

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// Records were appended to the caller's buffer.
    Found {
        /// Queue offset to read next.
        next: i64,
        /// How many messages.
        messages: u32,
    },
    /// Entries were scanned, and none was accepted.
    NoMatch {
        /// Queue offset to read next.
        next: i64,
    },
    /// There is nothing at the offset yet: it is the end of the queue.
    Empty,
    /// The offset lies beyond the end.
    Beyond,
    /// The offset lies below the minimum.
    TooSmall,
    /// Something is not in memory: fetch this and read again. The buffer is as it was.
    Cold(Extent),
}

impl Store {
    /// The queue offset of the next message to be appended, behind what is visible and what is not yet.
    pub fn next_offset(&self, queue: QueueIx) -> i64 {
        self.queues[queue.0 as usize].next as i64
    }

    /// Appends the records of a queue from offset `from` on to `out`, those whose tag code `accept` takes.
    ///
    /// # Errors
    /// [`DiskError`] when the device fails.
    pub fn read_messages<D: Disk>(
        &mut self,
        queue: QueueIx,
        from: i64,
        limits: ReadLimits,
        mut accept: impl FnMut(i64) -> bool,
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<ReadOutcome, DiskError> {
        let (min, max) = (self.min_offset(queue), self.max_offset(queue));
        if from < min {
            return Ok(ReadOutcome::TooSmall);
        }
        if from >= max {
            return Ok(if from == max { ReadOutcome::Empty } else { ReadOutcome::Beyond });
        }
        let scan = (SCAN_BYTES_MIN / ENTRY_BYTES).max(u64::from(limits.messages_max));
        let mut entries = core::mem::take(&mut self.scratch);
        entries.clear();
        let outcome = match self.read_slice(queue, from, scan, disk, &mut entries) {
            Ok(Slice::Read) => self.collect(from, &entries, limits, &mut accept, disk, out),
            Ok(Slice::Cold(extent)) => Ok(ReadOutcome::Cold(extent)),
            Err(error) => Err(error),
        };
        self.scratch = entries;
        outcome
    }

    /// Appends up to `count` entries, across the seam between what lies in a file and what lies on the heap. Once there are some,
    /// what is not in memory ends them.
    fn read_slice<D: Disk>(
        &mut self,
        queue: QueueIx,
        from: i64,
        count: u64,
        disk: &mut D,
        entries: &mut Vec<CqEntry>,
    ) -> Result<Slice, DiskError> {
        let queue = &mut self.queues[queue.0 as usize];
        loop {
            let had = entries.len() as u64;
            match queue.read(from as u64 + had, count - had, disk, entries)? {
                Slice::Cold(extent) if had == 0 => return Ok(Slice::Cold(extent)),
                Slice::Cold(_) => return Ok(Slice::Read),
                Slice::Read if entries.len() as u64 == had || entries.len() as u64 >= count => {
                    return Ok(Slice::Read);
                }
                Slice::Read => {}
            }
        }
    }

    /// The entries of a queue from offset `from` on, `count` at most, up to its visible end; what must be fetched first, if so.
    /// None when there is nothing at that offset.
    ///
    /// # Errors
    /// [`DiskError`] when the device fails.
    pub fn read_entries<D: Disk>(
        &mut self,
        queue: QueueIx,
        from: i64,
        count: u32,
        disk: &mut D,
    ) -> Result<Result<Option<Vec<QueueEntry>>, Extent>, DiskError> {
        let (min, max) = (self.min_offset(queue), self.max_offset(queue));
        if from < min || from >= max {
            return Ok(Ok(None));
        }
        let end = from.saturating_add(i64::from(count)).min(max);
        let mut entries = Vec::new();
        // A read ends with its file of entries: the next one goes on in the next.
        while from + (entries.len() as i64) < end {
            let at = from + entries.len() as i64;
            match self.queues[queue.0 as usize].read(at as u64, (end - at) as u64, disk, &mut entries)? {
                Slice::Read => {}
                Slice::Cold(extent) => return Ok(Err(extent)),
            }
        }
        let visible = entries.iter().filter(|entry| !entry.is_filler()).map(|entry| QueueEntry {
            physical_offset: entry.physical as i64,
            record_bytes: entry.size as i32,
            tags_code: entry.tags_code,
        });
        Ok(Ok(Some(visible.collect())))
    }

    fn collect<D: Disk>(
        &self,
        from: i64,
        entries: &[CqEntry],
        limits: ReadLimits,
        accept: &mut impl FnMut(i64) -> bool,
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<ReadOutcome, DiskError> {
        let start = out.len();
        let mut next = from;
        let mut messages = 0;
        // Adjacent records are read in one go.
        let mut run: Option<(u64, u64, u32, i64)> = None;
        for (at, entry) in entries.iter().enumerate() {
            let after = from + at as i64 + 1;
            if entry.is_filler() || !accept(entry.tags_code) {
                if messages == 0 && run.is_none() {
                    next = after;
                }
                continue;
            }
            let taken = messages + run.map_or(0, |run| run.2);
            let bytes = (out.len() - start) as u64 + run.map_or(0, |run| run.1);
            if taken >= limits.messages_max || (taken > 0 && bytes + u64::from(entry.size) > limits.bytes_max)
            {
                break;
            }
            run = match run {
                Some((position, bytes, count, _))
                    if position + bytes == entry.physical && self.same_segment(position, entry.physical) =>
                {
                    Some((position, bytes + u64::from(entry.size), count + 1, after))
                }
                Some(whole) => {
                    if let Some(extent) = self.read_run(whole, disk, out)? {
                        return Ok(self.stopped_at(extent, start, messages, next, out));
                    }
                    (messages, next) = (messages + whole.2, whole.3);
                    Some((entry.physical, u64::from(entry.size), 1, after))
                }
                None => Some((entry.physical, u64::from(entry.size), 1, after)),
            };
        }
        if let Some(whole) = run {
            if let Some(extent) = self.read_run(whole, disk, out)? {
                return Ok(self.stopped_at(extent, start, messages, next, out));
            }
            (messages, next) = (messages + whole.2, whole.3);
        }
        Ok(if messages == 0 { ReadOutcome::NoMatch { next } } else { ReadOutcome::Found { next, messages } })
    }

    fn same_segment(&self, a: u64, b: u64) -> bool {
        a / self.log.segment_bytes() == b / self.log.segment_bytes()
    }

    fn read_run<D: Disk>(
        &self,
        (position, bytes, _, _): (u64, u64, u32, i64),
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<Option<Extent>, DiskError> {
        let Some(extent) = self.log.extent(position, bytes) else { return Err(DiskError::OutOfRange) };
        Ok(match disk.read(extent, out)? {
            Residency::Resident => None,
            Residency::NotResident => Some(extent),
        })
    }

    /// A cold record ends a reply that has some already; it is the reply's first only when it must be fetched.
    fn stopped_at(
        &self,
        cold: Extent,
        start: usize,
        messages: u32,
        next: i64,
        out: &mut Vec<u8>,
    ) -> ReadOutcome {
        if messages > 0 {
            return ReadOutcome::Found { next, messages };
        }
        out.truncate(start);
        ReadOutcome::Cold(cold)
    }

    /// Appends raw bytes of the log from `from` on to `out`, at most `bytes_max`, never past the end of a segment or what is
    /// written. `Ok(Err(extent))` when they must be fetched first.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`] when the log does not hold `from`; others when the device fails.
    pub fn read_log<D: Disk>(
        &self,
        from: u64,
        bytes_max: u64,
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Extent>, DiskError> {
        self.log.read(from, bytes_max, disk, out)
    }
}
