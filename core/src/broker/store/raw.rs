//! What a replica takes: raw bytes of another log, which may split records and never change what is there.
//!
//! The head of a record whose rest has not come lies at the end of the log and is known to nobody: no queue, no reader. Its bytes
//! wait in `raw_carry` to be looked at as one record.

use super::{AppendError, Store, Undispatched};
use crate::io::{Disk, DiskError, Effect, Env, SyncTarget};
use crate::probe::Probe;
use crate::wire::message::{Entry, RecordError, peek};

impl Store {
    /// Appends raw bytes of the master's log, which must continue this one. For replicas.
    ///
    /// # Errors
    /// [`AppendError`]; `Disk(OutOfRange)` when `from` is not the end of this log.
    pub fn append_raw<D: Disk>(&mut self, from: u64, bytes: &[u8], disk: &mut D) -> Result<(), AppendError> {
        if !self.is_ready() || self.index.is_backlogged() {
            return Err(AppendError::NotReady);
        }
        if self.log.end() == 0
            && self.log.capacity_end() == 0
            && from.is_multiple_of(self.config.segment_bytes)
        {
            self.log.begin_at(from);
            (self.raw_parsed, self.dispatched) = (from, from);
        }
        if from != self.log.end() {
            return Err(AppendError::Disk(DiskError::OutOfRange));
        }
        let (known, carried) = (self.undispatched.len(), self.raw_carry.len());
        let keys = self.index.waiting();
        let parsed = self.raw_parsed;
        self.raw_carry.extend_from_slice(bytes);
        let taken = self.parse_raw().and_then(|taken| self.log.append_raw(bytes, disk).map(|()| taken));
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

    /// Clears away the head of a record whose rest has not come, so that this log can be written by this broker itself. To be
    /// called after [`Store::settle`]; nothing is appended until [`Store::is_tail_clean`].
    ///
    /// # Errors
    /// [`DiskError`]: start again from the disk.
    pub fn drop_partial<D: Disk, E>(&mut self, env: &mut Env<'_, D, E>) -> Result<(), DiskError> {
        if self.raw_carry.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            end = self.raw_parsed,
            bytes = self.raw_carry.len(),
            "a record without its end is cleared away"
        );
        Probe::HalfRecord.reached();
        self.log.write(env.disk)?;
        self.raw_carry.clear();
        if let Some(file) = self.log.cut_back(self.raw_parsed, env.disk)? {
            let id = self.ids.sync();
            env.out.push(Effect::Sync { id, target: SyncTarget::File(file) });
            self.tail_sync = Some(id);
        }
        Ok(())
    }

    /// Whether something was cut off at the end of the log, and that is not durable yet: nothing may be appended.
    pub fn is_cutting_tail(&self) -> bool {
        self.tail_sync.is_some()
    }

    /// End of the last whole record of a log that may end with the head of one.
    pub fn records_end(&self) -> u64 {
        if self.raw_carry.is_empty() { self.log.end() } else { self.raw_parsed }
    }

    /// Whether the log ends behind a whole record, and that is durable.
    pub fn is_tail_clean(&self) -> bool {
        self.raw_carry.is_empty() && self.tail_sync.is_none()
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
