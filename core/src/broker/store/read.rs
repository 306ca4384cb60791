//! Reading: messages of a queue, and raw ranges of the log for replication.
//!
//! Whatever is not in memory is answered with the extent to fetch; the caller parks and asks again.
//!
//! Invariant: no message is given whose body is not the one that was stored. (Its record's checksum covers no more than that.)

use alloc::vec::Vec;

use super::consume_queue::{CqEntry, ENTRY_BYTES, Slice};
use super::{QueueIx, Store, recover};
use crate::io::{Disk, DiskError, Extent, Residency};
use crate::probe::Probe;
use crate::wire::message::Entry;

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

/// Records that follow each other in the log and in a queue.
#[derive(Clone, Copy)]
struct Run {
    position: u64,
    bytes: u64,
    count: u32,
    /// The place of its first entry among those that were read.
    first: usize,
    /// The queue offset behind it.
    after: i64,
}

impl Run {
    fn end(&self) -> Option<u64> {
        self.position.checked_add(self.bytes)
    }
}

/// How far a run could be read.
enum Reach {
    All,
    Cold(Extent),
    /// The record of the entry at this place is damaged; so many before it are whole, and were appended.
    Damaged {
        at: usize,
        whole: u32,
    },
}

fn is_whole(record: &[u8], physical: u64) -> bool {
    match Entry::decode(record) {
        Ok(Entry::Message(found)) => {
            found.size as usize == record.len() && found.verify(physical as i64).is_ok()
        }
        Ok(Entry::Blank(_)) | Err(_) => false,
    }
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
        let mut run: Option<Run> = None;
        for (at, entry) in entries.iter().enumerate() {
            let after = from + at as i64 + 1;
            if entry.is_filler() || !accept(entry.tags_code) {
                if messages == 0 && run.is_none() {
                    next = after;
                }
                continue;
            }
            let taken = messages + run.map_or(0, |run| run.count);
            let bytes = (out.len() - start) as u64 + run.map_or(0, |run| run.bytes);
            if taken >= limits.messages_max || (taken > 0 && bytes + u64::from(entry.size) > limits.bytes_max)
            {
                break;
            }
            let alone =
                Run { position: entry.physical, bytes: u64::from(entry.size), count: 1, first: at, after };
            run = match run {
                Some(run)
                    if run.end() == Some(entry.physical)
                        && self.same_segment(run.position, entry.physical) =>
                {
                    let bytes = run.bytes + u64::from(entry.size);
                    Some(Run { bytes, count: run.count + 1, after, ..run })
                }
                Some(whole) => {
                    match self.read_run(whole, entries, disk, out)? {
                        Reach::All => (messages, next) = (messages + whole.count, whole.after),
                        Reach::Cold(extent) => return Ok(self.stopped_at(extent, start, messages, next, out)),
                        Reach::Damaged { at, whole } => {
                            return Ok(self.pass_over(from, entries, at, messages + whole));
                        }
                    }
                    Some(alone)
                }
                None => Some(alone),
            };
        }
        if let Some(whole) = run {
            match self.read_run(whole, entries, disk, out)? {
                Reach::All => (messages, next) = (messages + whole.count, whole.after),
                Reach::Cold(extent) => return Ok(self.stopped_at(extent, start, messages, next, out)),
                Reach::Damaged { at, whole } => {
                    return Ok(self.pass_over(from, entries, at, messages + whole));
                }
            }
        }
        Ok(if messages == 0 { ReadOutcome::NoMatch { next } } else { ReadOutcome::Found { next, messages } })
    }

    fn same_segment(&self, a: u64, b: u64) -> bool {
        a / self.log.segment_bytes() == b / self.log.segment_bytes()
    }

    /// Appends the records of a run, up to the first that is not what was stored.
    fn read_run<D: Disk>(
        &self,
        run: Run,
        entries: &[CqEntry],
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<Reach, DiskError> {
        let Some(extent) = self.log.extent(run.position, run.bytes).filter(|_| run.bytes > 0) else {
            return Ok(Reach::Damaged { at: run.first, whole: 0 });
        };
        let start = out.len();
        if disk.read(extent, out)? == Residency::NotResident {
            return Ok(Reach::Cold(extent));
        }
        let (mut good, mut whole) = (start, 0);
        for (at, entry) in entries.iter().enumerate().skip(run.first) {
            if whole == run.count {
                break;
            }
            // What was not wanted lies elsewhere.
            if entry.is_filler() || entry.physical != run.position + (good - start) as u64 {
                continue;
            }
            let record = out[good..].get(..entry.size as usize);
            if record.is_none_or(|record| !is_whole(record, entry.physical)) {
                out.truncate(good);
                return Ok(Reach::Damaged { at, whole });
            }
            (good, whole) = (good + entry.size as usize, whole + 1);
        }
        Ok(Reach::All)
    }

    /// What lies at an entry is not what was stored: a reply ends before it, and the next one begins behind it. Whoever waited for
    /// the device to become better would wait for ever, with everything that comes behind.
    fn pass_over(&self, from: i64, entries: &[CqEntry], at: usize, messages: u32) -> ReadOutcome {
        let offset = from + at as i64;
        if messages > 0 {
            return ReadOutcome::Found { next: offset, messages };
        }
        Probe::DamagePassedOver.reached();
        let entry = entries[at];
        let place = recover::place(entry.physical, self.config.segment_bytes);
        tracing::error!(%place, bytes = entry.size, offset, "the record is damaged, and is passed over");
        ReadOutcome::NoMatch { next: offset + 1 }
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
