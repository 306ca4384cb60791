//! Searching a queue by time: the offset for a time, and the time of an offset.
//!
//! Times are the records' store timestamps, which never decrease along the log, so a queue is searched by halves. What is not in
//! memory is answered with the extent to fetch; how far a search got is kept, so that asking again goes on from there.
//!
//! Absent on purpose: an index of times. A search reads about twenty records.

use alloc::vec::Vec;

use super::consume_queue::{CqEntry, Slice};
use super::recover::store_timestamp_at_head;
use super::{QueueIx, Store};
use crate::io::{Disk, DiskError, Extent, Residency};

/// Bytes of a record's head up to the end of its store timestamp, with an IPv6 born host.
const HEAD_BYTES: u64 = 76;
/// Entries read at once to pass over fillers.
const SKIP_ENTRIES: u64 = 200;
/// Searches that wait for a fetch and whose progress is kept; the oldest begins anew when there are more.
const SEARCHES_MAX: usize = 64;

/// Which offset is meant when several messages, or none, have the time asked for (`BoundaryType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boundary {
    /// The first message stored at the time or later; the end of the queue when there is none.
    Lower,
    /// The last message stored at the time or before; the beginning of the queue when there is none.
    Upper,
}

/// How far a search got: the answer lies in `low..=high`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeSearch {
    queue: QueueIx,
    timestamp: i64,
    boundary: Boundary,
    low: u64,
    /// None while no message beyond the answer was seen: then it is the end of the queue, which moves.
    high: Option<u64>,
}

impl Store {
    /// The offset of a queue for a time, in ms. `Ok(Err(extent))` when that must be fetched first: then ask again.
    ///
    /// The answer always lies between the queue's minimum and maximum, as RocketMQ 5.5 clamps it.
    ///
    /// # Errors
    /// [`DiskError`] when the device fails.
    pub fn offset_by_time<D: Disk>(
        &mut self,
        queue: QueueIx,
        timestamp_ms: i64,
        boundary: Boundary,
        disk: &mut D,
    ) -> Result<Result<i64, Extent>, DiskError> {
        let mut search = self.take_search(queue, timestamp_ms, boundary);
        let (min, max) = (self.min_offset(queue) as u64, self.max_offset(queue) as u64);
        search.low = search.low.max(min);
        loop {
            let high = search.high.unwrap_or(max);
            if search.low >= high {
                break;
            }
            let middle = search.low + (high - search.low) / 2;
            let (at, stored) = match self.next_timestamp(queue, middle, high, disk)? {
                Ok(found) => found,
                Err(cold) => {
                    self.keep_search(search);
                    return Ok(Err(cold));
                }
            };
            let is_beyond = match boundary {
                Boundary::Lower => stored >= timestamp_ms,
                Boundary::Upper => stored > timestamp_ms,
            };
            if is_beyond {
                search.high = Some(middle);
            } else {
                search.low = at + 1;
            }
        }
        let first_beyond = search.low.min(max);
        Ok(Ok(match boundary {
            Boundary::Lower => first_beyond as i64,
            Boundary::Upper => first_beyond.saturating_sub(1).max(min) as i64,
        }))
    }

    /// When the message at an offset of a queue was stored, in ms; none when there is no message.
    /// `Ok(Err(extent))` when that must be fetched first: then ask again.
    ///
    /// # Errors
    /// [`DiskError`] when the device fails.
    pub fn store_timestamp<D: Disk>(
        &mut self,
        queue: QueueIx,
        offset: i64,
        disk: &mut D,
    ) -> Result<Result<Option<i64>, Extent>, DiskError> {
        if offset < self.min_offset(queue) || offset >= self.max_offset(queue) {
            return Ok(Ok(None));
        }
        let mut entries = Vec::with_capacity(1);
        if let Slice::Cold(extent) =
            self.queues[queue.0 as usize].read(offset as u64, 1, disk, &mut entries)?
        {
            return Ok(Err(extent));
        }
        match entries.first() {
            Some(entry) if !entry.is_filler() => self.entry_timestamp(*entry, disk),
            Some(_) | None => Ok(Ok(None)),
        }
    }

    /// Offset and store time of the first message in `from..upto`, fillers left out. Fillers up to the end count as stored
    /// after all time, so that the search goes on before `from`.
    fn next_timestamp<D: Disk>(
        &mut self,
        queue: QueueIx,
        from: u64,
        upto: u64,
        disk: &mut D,
    ) -> Result<Result<(u64, i64), Extent>, DiskError> {
        let mut at = from;
        let mut count = 1;
        let mut entries = Vec::new();
        while at < upto {
            entries.clear();
            let slice = self.queues[queue.0 as usize].read(at, count.min(upto - at), disk, &mut entries)?;
            if let Slice::Cold(extent) = slice {
                return Ok(Err(extent));
            }
            if let Some((skipped, entry)) = entries.iter().enumerate().find(|(_, entry)| !entry.is_filler()) {
                let stored = self.entry_timestamp(*entry, disk)?;
                // What the log no longer has was stored before all it has.
                return Ok(stored.map(|stored| (at + skipped as u64, stored.unwrap_or(i64::MIN))));
            }
            at += (entries.len() as u64).max(1);
            count = SKIP_ENTRIES;
        }
        Ok(Ok((upto, i64::MAX)))
    }

    fn entry_timestamp<D: Disk>(
        &self,
        entry: CqEntry,
        disk: &mut D,
    ) -> Result<Result<Option<i64>, Extent>, DiskError> {
        let Some(extent) = self.log.extent(entry.physical, HEAD_BYTES.min(u64::from(entry.size))) else {
            return Ok(Ok(None));
        };
        let mut head = Vec::with_capacity(HEAD_BYTES as usize);
        Ok(match disk.read(extent, &mut head)? {
            Residency::Resident => Ok(store_timestamp_at_head(&head)),
            Residency::NotResident => Err(extent),
        })
    }

    fn take_search(&mut self, queue: QueueIx, timestamp: i64, boundary: Boundary) -> TimeSearch {
        let is_same = |known: &TimeSearch| {
            known.queue == queue && known.timestamp == timestamp && known.boundary == boundary
        };
        match self.searches.iter().position(is_same) {
            Some(at) => self.searches.remove(at),
            None => TimeSearch { queue, timestamp, boundary, low: 0, high: None },
        }
    }

    /// A queue is another one now, so that searches in it say nothing.
    pub(super) fn forget_searches(&mut self, queue: QueueIx) {
        self.searches.retain(|search| search.queue != queue);
    }

    fn keep_search(&mut self, search: TimeSearch) {
        if self.searches.len() == SEARCHES_MAX {
            self.searches.remove(0);
        }
        self.searches.push(search);
    }
}
