//! What a replica takes: raw bytes of another log, which may split records and never change what is there.
//!
//! The head of a record whose rest has not come waits in `raw_carry`, in memory: only whole records are written. Were its pieces written
//! one by one, a loss of power could leave a page as it was between two of them and the next page as it was after both, and nothing in a
//! record tells that bytes of its head are missing.

use super::{AppendError, Store, Undispatched};
use crate::io::{Disk, DiskError};
use crate::probe::Probe;
use crate::wire::message::{Entry, RecordError, peek};

impl Store {
    /// Appends raw bytes of the master's log, which must continue this one, or what was taken last. For replicas.
    ///
    /// # Errors
    /// [`AppendError`]; `Disk(OutOfRange)` when `from` is neither place.
    pub fn append_raw<D: Disk>(&mut self, from: u64, bytes: &[u8], disk: &mut D) -> Result<(), AppendError> {
        if !self.is_ready() || self.index.is_backlogged() {
            return Err(AppendError::NotReady);
        }
        if from == self.log.end() {
            // The stream began anew: the rest of what was carried comes with its head again.
            self.raw_carry.clear();
        }
        if self.log.end() == 0
            && self.log.capacity_end() == 0
            && self.raw_carry.is_empty()
            && from.is_multiple_of(self.config.segment_bytes)
        {
            self.log.begin_at(from);
            (self.raw_parsed, self.dispatched) = (from, from);
        }
        if from != self.log.end() + self.raw_carry.len() as u64 {
            return Err(AppendError::Disk(DiskError::OutOfRange));
        }
        let (known, carried) = (self.undispatched.len(), self.raw_carry.len());
        let keys = self.index.waiting();
        let parsed = self.raw_parsed;
        self.raw_carry.extend_from_slice(bytes);
        let taken = self.parse_raw().and_then(|taken| {
            self.log.append_raw(&self.raw_carry[..taken], disk)?;
            Ok(taken)
        });
        match taken {
            Ok(taken) => {
                self.raw_carry.drain(..taken);
                Ok(())
            }
            Err(error) => {
                self.undispatched.truncate(known);
                self.index.forget_from(keys);
                self.raw_carry.truncate(carried);
                self.raw_parsed = parsed;
                Err(error)
            }
        }
    }

    /// Whether a replica that was answered [`AppendError::NotReady`] may go on: the key index has caught up, and there is a segment to
    /// write into.
    pub fn takes_raw(&self) -> bool {
        self.is_ready() && self.index.has_caught_up() && !self.log.is_entry_pending()
    }

    /// Whether the disk was filled above the ratio at which nothing more is taken, when it was last looked at.
    pub fn is_short_of_room(&self) -> bool {
        self.space.is_short()
    }

    /// Forgets the head of a record whose rest has not come, so that this log can be written by this broker itself.
    pub fn drop_partial(&mut self) {
        if !self.raw_carry.is_empty() {
            Probe::HalfRecord.reached();
            self.raw_carry.clear();
        }
    }

    /// Takes the whole records from the head of the carried bytes, and says how many bytes they are.
    fn parse_raw(&mut self) -> Result<usize, AppendError> {
        let carry = core::mem::take(&mut self.raw_carry);
        let mut at = 0;
        let result = loop {
            if peek(&carry[at..]).is_none() {
                break Ok(at);
            }
            let here = self.raw_parsed;
            let room = self.config.segment_bytes - here % self.config.segment_bytes;
            match Entry::decode(&carry[at..]) {
                Ok(Entry::Blank(size)) if u64::from(size) != room => break Err(AppendError::NotARecord),
                // A filler counts as the rest of its segment, of which only the head need have arrived.
                Ok(Entry::Blank(_)) if ((carry.len() - at) as u64) < room => break Ok(at),
                Ok(Entry::Blank(_)) => {
                    at += room as usize;
                    self.raw_parsed += room;
                }
                Ok(Entry::Message(record)) if record.verify(here as i64).is_ok() => {
                    let end = here + u64::from(record.size);
                    let queued = self.queued_of(&record, here);
                    if queued.is_some_and(|(ix, offset, _)| !self.queues[ix.0 as usize].can_take(offset)) {
                        break Err(AppendError::NotARecord);
                    }
                    self.add_keys(&record);
                    self.last_store_timestamp = self.last_store_timestamp.max(record.store_timestamp);
                    self.undispatched.push_back(Undispatched {
                        end,
                        store_timestamp: record.store_timestamp,
                        queued,
                    });
                    at += record.size as usize;
                    self.raw_parsed = end;
                }
                Err(RecordError::Short) if ((carry.len() - at) as u64) < room => break Ok(at),
                Ok(Entry::Message(_)) | Err(_) => break Err(AppendError::NotARecord),
            }
        };
        self.raw_carry = carry;
        result
    }
}
