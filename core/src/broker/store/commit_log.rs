//! The commit log: fixed-size segments named by the offset of their first byte, written once a turn.
//!
//! Invariants: `synced <= written <= end`; bytes `written..end` are in `pending`; a record never spans segments; behind
//! `end` a segment holds zeros only; `synced` never passes a segment whose directory entry is not durable, and a segment is
//! made only once the entry of the one before it is: so power loss never leaves a gap.
//!
//! Absent on purpose: anything about queues, and any reuse of a segment.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{AppendError, Ids};
use crate::io::{Disk, DiskError, Effect, Env, Extent, FileId, FileKind, Residency, SyncId, SyncTarget};
use crate::probe::Probe;
use crate::wire::message::{BLANK_BYTES, put_blank};

/// The directory of the segments, below the store's root.
pub(crate) const COMMIT_LOG_DIR: &str = "commitlog";

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) file: FileId,
    entry_synced: bool,
}

/// A run of `pending` bytes and where it goes.
#[derive(Debug)]
struct Chunk {
    position: u64,
    at: usize,
}

/// A sync of the log under way.
#[derive(Debug)]
struct Flush {
    upto: u64,
    waiting: BTreeSet<SyncId>,
}

#[derive(Debug)]
pub(crate) struct CommitLog {
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    end: u64,
    written: u64,
    /// End of what the files hold durably, whether or not their entries are durable.
    files_synced: u64,
    pending: Vec<u8>,
    chunks: Vec<Chunk>,
    flush: Option<Flush>,
    /// A sync of the directory under way, and the end of the newest segment that it covers.
    entries: Option<(SyncId, u64)>,
}

pub(crate) fn file_name(start: u64) -> String {
    format!("{start:020}")
}

impl CommitLog {
    pub(crate) fn new(segment_bytes: u64) -> CommitLog {
        CommitLog {
            segment_bytes,
            segments: VecDeque::new(),
            end: 0,
            written: 0,
            files_synced: 0,
            pending: Vec::new(),
            chunks: Vec::new(),
            flush: None,
            entries: None,
        }
    }

    /// Opens the segments that are there. The end is not known until [`CommitLog::set_end`]. Below `complete` everything was
    /// durable, so there a file must have its full length; behind it power loss may have left files short.
    pub(crate) fn load<D: Disk>(&mut self, complete: u64, disk: &mut D) -> Result<(), String> {
        let entries = disk.list(COMMIT_LOG_DIR).map_err(|error| format!("{COMMIT_LOG_DIR}: {error}"))?;
        let last = entries.len().saturating_sub(1);
        for (at, entry) in entries.iter().enumerate() {
            let path = format!("{COMMIT_LOG_DIR}/{}", entry.name);
            let start: u64 = entry.name.parse().map_err(|_| {
                format!(
                    "{path}: not the name of a commit-log segment; move the file elsewhere and start again"
                )
            })?;
            // Where all before it is gone, its name alone says where the log goes on.
            let is_all = self.segments.is_empty() && start > 0;
            if at == last && entry.len == 0 && !is_all {
                // A segment whose creation did not get beyond its name.
                disk.delete(&path).map_err(|error| format!("{path}: {error}"))?;
                continue;
            }
            self.check_segment(&path, start, entry.len, complete)?;
            let file = disk.open(&path, FileKind::Log).map_err(|error| format!("{path}: {error}"))?;
            if entry.len < self.segment_bytes {
                disk.truncate(file, self.segment_bytes).map_err(|error| format!("{path}: {error}"))?;
            }
            self.segments.push_back(Segment { start, file, entry_synced: true });
        }
        Ok(())
    }

    fn check_segment(&self, path: &str, start: u64, len: u64, complete: u64) -> Result<(), String> {
        let expected = self.segments.back().map_or(start, |segment| segment.start + self.segment_bytes);
        if start != expected || !start.is_multiple_of(self.segment_bytes) {
            return Err(format!(
                "{path}: the segment before it ends at {expected}; a segment is missing or mappedFileSizeCommitLog \
                 ({}) is not the one this store was written with",
                self.segment_bytes
            ));
        }
        if len > self.segment_bytes || start + len < complete.min(start + self.segment_bytes) {
            return Err(format!(
                "{path}: is {len} bytes long, but mappedFileSizeCommitLog is {}; set it to the length of the files",
                self.segment_bytes
            ));
        }
        Ok(())
    }

    /// First byte that the log still has.
    pub(crate) fn min(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.start)
    }

    /// The path of the `at`-th segment that is there.
    pub(crate) fn path_of(&self, at: usize) -> String {
        format!("{COMMIT_LOG_DIR}/{}", file_name(self.min() + at as u64 * self.segment_bytes))
    }

    /// Removes the oldest segment. The caller syncs the directory before it removes the next one.
    pub(crate) fn remove_oldest<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        assert!(
            self.segments.len() > 1 && self.min() + self.segment_bytes <= self.synced(),
            "what is removed was complete, and is not the last"
        );
        disk.delete(&self.path_of(0))?;
        self.segments.pop_front();
        Ok(())
    }

    /// One past the last byte that any segment has room for.
    pub(crate) fn capacity_end(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.start + self.segment_bytes)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn synced(&self) -> u64 {
        let uncertain = self.segments.iter().rev().take_while(|segment| !segment.entry_synced).last();
        uncertain.map_or(self.files_synced, |segment| segment.start.min(self.files_synced))
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The segment that holds `position`.
    pub(crate) fn segment_of(&self, position: u64) -> Option<&Segment> {
        let first = self.segments.front()?.start;
        let at = position.checked_sub(first)? / self.segment_bytes;
        self.segments.get(usize::try_from(at).ok()?)
    }

    /// `len` bytes from `position` on as an extent, cut at the end of the segment.
    pub(crate) fn extent(&self, position: u64, len: u64) -> Option<Extent> {
        let segment = self.segment_of(position)?;
        let offset = position - segment.start;
        let len = len.min(self.segment_bytes - offset);
        Some(Extent { file: segment.file, offset, len: u32::try_from(len).unwrap_or(u32::MAX) })
    }

    /// Fixes the end after recovery: what lies behind is cut off and zeroed, later segments are deleted.
    ///
    /// The caller syncs what this touched before the first append: see [`CommitLog::sync_all`].
    pub(crate) fn set_end<D: Disk>(&mut self, end: u64, zero: bool, disk: &mut D) -> Result<(), DiskError> {
        assert!(self.pending.is_empty(), "nothing is appended before recovery ends");
        while let Some(last) = self.segments.back() {
            // A segment that begins exactly at the end is the next one, made ahead; keep it if it is empty anyway.
            if last.start < end || self.segments.len() == 1 || (last.start == end && !zero) {
                break;
            }
            disk.delete(&format!("{COMMIT_LOG_DIR}/{}", file_name(last.start)))?;
            self.segments.pop_back();
        }
        if zero
            && let Some(last) = self.segments.back_mut()
            && end < last.start + self.segment_bytes
        {
            disk.truncate(last.file, end - last.start)?;
            disk.truncate(last.file, self.segment_bytes)?;
        }
        (self.end, self.written, self.files_synced) = (end, end, end);
        Ok(())
    }

    /// Asks for the sync of the directory and of all segments that reach beyond `complete`: what recovery read there may
    /// have been in the page cache only.
    pub(crate) fn sync_all<D, E>(
        &mut self,
        complete: u64,
        ids: &mut Ids,
        env: &mut Env<'_, D, E>,
    ) -> BTreeSet<SyncId> {
        let mut waiting = BTreeSet::new();
        let upto = self.segment_bytes;
        for segment in self.segments.iter().filter(|segment| segment.start + upto > complete) {
            let id = ids.sync();
            env.out.push(Effect::Sync { id, target: SyncTarget::File(segment.file) });
            waiting.insert(id);
        }
        if !self.segments.is_empty() {
            let id = ids.sync();
            env.out.push(Effect::Sync { id, target: SyncTarget::Dir(COMMIT_LOG_DIR.into()) });
            waiting.insert(id);
        }
        waiting
    }

    /// Makes room for a record of `bytes`, rolling to the next segment where it does not fit, and gives its position.
    /// The caller appends exactly `bytes` to [`CommitLog::pending_mut`] and calls [`CommitLog::appended`].
    pub(crate) fn reserve<D: Disk>(&mut self, bytes: u64, disk: &mut D) -> Result<u64, AppendError> {
        if self.segments.is_empty() || self.end == self.capacity_end() {
            self.add_segment(disk)?;
        }
        let remaining = self.segment_bytes - self.end % self.segment_bytes;
        if bytes + BLANK_BYTES as u64 > remaining {
            if self.end + remaining == self.capacity_end() {
                self.add_segment(disk)?;
            }
            self.open_chunk();
            Probe::SegmentRolled.reached();
            put_blank(remaining as u32, &mut self.pending);
            self.end += remaining;
        }
        self.open_chunk();
        Ok(self.end)
    }

    /// Begins a new chunk where `pending` does not run on to `end`.
    fn open_chunk(&mut self) {
        let runs_on = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.position + (self.pending.len() - chunk.at) as u64 == self.end);
        // A chunk is one write into one file.
        if !runs_on || self.end.is_multiple_of(self.segment_bytes) {
            self.chunks.push(Chunk { position: self.end, at: self.pending.len() });
        }
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Counts what the caller put into `pending`.
    pub(crate) fn appended(&mut self, bytes: u64) {
        self.end += bytes;
        let chunk = self.chunks.last().expect("reserve opened a chunk");
        assert_eq!(
            chunk.position + (self.pending.len() - chunk.at) as u64,
            self.end,
            "pending runs to the end"
        );
    }

    /// Appends raw bytes of another log at the end, which may split records but never segments.
    pub(crate) fn append_raw<D: Disk>(&mut self, bytes: &[u8], disk: &mut D) -> Result<(), AppendError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.segments.is_empty() || self.end == self.capacity_end() {
                self.add_segment(disk)?;
            }
            let room = self.segment_bytes - self.end % self.segment_bytes;
            let take = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.open_chunk();
            self.pending.extend_from_slice(&rest[..take]);
            self.appended(take as u64);
            rest = &rest[take..];
        }
        Ok(())
    }

    /// Begins an empty log at `start`, which must be the start of a segment.
    pub(crate) fn begin_at(&mut self, start: u64) {
        assert!(
            self.segments.is_empty() && start.is_multiple_of(self.segment_bytes),
            "only an empty log moves"
        );
        (self.end, self.written, self.files_synced) = (start, start, start);
    }

    fn add_segment<D: Disk>(&mut self, disk: &mut D) -> Result<(), AppendError> {
        if self.is_entry_pending() {
            Probe::SegmentNotReady.reached();
            return Err(AppendError::NotReady);
        }
        let start = if self.segments.is_empty() { self.end } else { self.capacity_end() };
        let path = format!("{COMMIT_LOG_DIR}/{}", file_name(start));
        let file = disk.create(&path, self.segment_bytes, FileKind::Log).map_err(AppendError::Disk)?;
        self.segments.push_back(Segment { start, file, entry_synced: false });
        Ok(())
    }

    /// Whether the newest segment's entry in its directory is not durable yet: until then there is no other.
    pub(crate) fn is_entry_pending(&self) -> bool {
        self.segments.back().is_some_and(|last| !last.entry_synced)
    }

    /// Makes the next segment once the newest is half full, so that rolling over does not wait for it, and asks for the
    /// sync of new entries of the directory.
    pub(crate) fn prepare_next<D: Disk, E>(&mut self, ids: &mut Ids, env: &mut Env<'_, D, E>) {
        if !self.segments.is_empty() && self.end + self.segment_bytes / 2 >= self.capacity_end() {
            // What stands in the way is found out again, and answered, by the append that needs the room.
            let _ = self.add_segment(env.disk);
        }
        if self.entries.is_none() && self.segments.back().is_some_and(|last| !last.entry_synced) {
            let id = ids.sync();
            env.out.push(Effect::Sync { id, target: SyncTarget::Dir(COMMIT_LOG_DIR.into()) });
            self.entries = Some((id, self.capacity_end()));
        }
    }

    /// Writes everything appended since the last call.
    pub(crate) fn write<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        for (at, chunk) in self.chunks.iter().enumerate() {
            let upto = self.chunks.get(at + 1).map_or(self.pending.len(), |next| next.at);
            let segment = self.segment_of(chunk.position).expect("an append has its segment");
            disk.write(segment.file, chunk.position - segment.start, &self.pending[chunk.at..upto])?;
        }
        self.pending.clear();
        self.chunks.clear();
        self.written = self.end;
        Ok(())
    }

    /// What was appended from `position` on and is not written yet.
    pub(crate) fn unwritten(&self, position: u64) -> Option<&[u8]> {
        let at = self.chunks.partition_point(|chunk| chunk.position <= position).checked_sub(1)?;
        let chunk = self.chunks.get(at)?;
        let upto = self.chunks.get(at + 1).map_or(self.pending.len(), |next| next.at);
        let from = chunk.at + usize::try_from(position - chunk.position).ok()?;
        self.pending.get(from..upto)
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flush.is_some()
    }

    /// Asks for the sync of everything written, unless one is under way or nothing is unsynced.
    pub(crate) fn request_sync<D, E>(&mut self, ids: &mut Ids, env: &mut Env<'_, D, E>) {
        if self.files_synced == self.written {
            return;
        }
        if self.flush.is_some() {
            Probe::SyncUnderWay.reached();
            return;
        }
        let mut waiting = BTreeSet::new();
        let (from, upto) = (self.files_synced, self.written);
        for segment in &self.segments {
            if segment.start < upto && segment.start + self.segment_bytes > from {
                let id = ids.sync();
                env.out.push(Effect::Sync { id, target: SyncTarget::File(segment.file) });
                waiting.insert(id);
            }
        }
        if waiting.len() > 1 {
            Probe::SyncOfTwoSegments.reached();
        }
        self.flush = Some(Flush { upto, waiting });
    }

    /// Counts a completed sync; true when it was this log's.
    pub(crate) fn on_synced(&mut self, id: SyncId) -> bool {
        if let Some((_, upto)) = self.entries.take_if(|(waited, _)| *waited == id) {
            for segment in &mut self.segments {
                segment.entry_synced |= segment.start < upto;
            }
            return true;
        }
        let Some(flush) = &mut self.flush else { return false };
        if !flush.waiting.remove(&id) {
            return false;
        }
        if flush.waiting.is_empty() {
            self.files_synced = flush.upto;
            self.flush = None;
        }
        true
    }

    /// Appends bytes `position..position + len` (cut at the segment's and the log's written end) to `out`.
    pub(crate) fn read<D: Disk>(
        &self,
        position: u64,
        len: u64,
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Extent>, DiskError> {
        let len = len.min(self.written.saturating_sub(position));
        let Some(extent) = self.extent(position, len) else { return Err(DiskError::OutOfRange) };
        match disk.read(extent, out)? {
            Residency::Resident => Ok(Ok(())),
            Residency::NotResident => Ok(Err(extent)),
        }
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.files_synced <= self.written && self.written <= self.end, "watermarks are ordered");
        assert_eq!(self.chunks.is_empty(), self.pending.is_empty(), "pending bytes have a place");
        assert!(self.end <= self.capacity_end() || self.segments.is_empty(), "the end lies in a segment");
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            assert_eq!(segment.start + self.segment_bytes, next.start, "segments follow on");
        }
    }
}
