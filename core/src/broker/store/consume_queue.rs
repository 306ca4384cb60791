//! A consume queue: one 20-byte entry per visible message of a queue, in order.
//!
//! Entry `n` lies at byte `n * 20` of the queue's files, as in RocketMQ. The newest entries are on the heap (`tail`) and are
//! spilled in chunks; a file exists from the first spill on.
//!
//! Invariants: `min <= spilled <= max = spilled + tail.len() <= next`; entries below `spilled` are in files.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::io::{Disk, DiskError, Extent, FileId, FileKind, Residency};

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: u64 = 20;
/// The directory of all queues, below the store's root.
pub(crate) const CONSUME_QUEUE_DIR: &str = "consumequeue";
/// The size that marks an entry as a filler (RocketMQ's pre-blank).
const FILLER_SIZE: u32 = 0x7FFF_FFFF;
/// Entries of a queue that recovery keeps on the heap; with a long log to read there would be too many.
const RECOVERED_TAIL_MAX: usize = 4096;
/// Entries read at once to pass over fillers.
const SKIP_ENTRIES: u64 = 200;

/// Queue offsets stay below this: the place of an entry in its files, in bytes, is a number that Java can hold.
const OFFSET_MAX: u64 = i64::MAX as u64 / ENTRY_BYTES / 2;
/// Most offsets that may be missing in a queue before a record: none ever are, but what was written is not thrown away for a few.
const GAP_ENTRIES_MAX: u64 = 1_000_000;

/// Where a message lies, and what its tags hash to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CqEntry {
    pub(crate) physical: u64,
    pub(crate) size: u32,
    pub(crate) tags_code: i64,
}

impl CqEntry {
    pub(crate) const FILLER: CqEntry = CqEntry { physical: 0, size: FILLER_SIZE, tags_code: 0 };

    pub(crate) fn is_filler(self) -> bool {
        self.size == FILLER_SIZE
    }

    /// Whether it can have been written by anybody.
    pub(crate) fn is_valid(self) -> bool {
        self.size > 0 && self.size <= FILLER_SIZE && i64::try_from(self.physical).is_ok()
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.physical.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.tags_code.to_be_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<CqEntry> {
        let (physical, rest) = bytes.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (tags, _) = rest.split_first_chunk::<8>()?;
        Some(CqEntry {
            physical: u64::from_be_bytes(*physical),
            size: u32::from_be_bytes(*size),
            tags_code: i64::from_be_bytes(*tags),
        })
    }
}

#[derive(Debug)]
struct CqFile {
    /// Index of its first entry.
    first: u64,
    file: Option<FileId>,
    /// Written since its last sync.
    dirty: bool,
    /// Entries that it has room for; power loss leaves files short.
    room: u64,
    /// The file before it is there and whole.
    follows: bool,
}

#[derive(Debug)]
pub(crate) struct ConsumeQueue {
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    entries_per_file: u64,
    files: VecDeque<CqFile>,
    /// Files before one that is missing or short: what they hold is read from the log again.
    lost: Vec<String>,
    /// A file came or went since the last sync of the directory.
    pub(super) entries_dirty: bool,
    min: u64,
    spilled: u64,
    tail: Vec<CqEntry>,
    /// Queue offset of the next message to be appended to the log.
    pub(crate) next: u64,
    /// Records below this in the log are of a topic that was deleted.
    pub(crate) begins_at: u64,
    /// Where the newest entry points, as far as it is known.
    pub(crate) newest: Option<u64>,
    /// Its topic is being deleted: nothing is appended.
    pub(crate) is_closed: bool,
    /// The files of a queue of this name are still being removed, so that it makes none.
    pub(crate) is_blocked: bool,
}

/// How far the search for a queue's minimum got: it lies in `low..=high`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinSearch {
    low: u64,
    high: u64,
}

/// Entries of a queue read in one go.
pub(crate) enum Slice {
    /// Appended to the caller's buffer.
    Read,
    /// Not in memory.
    Cold(Extent),
}

impl ConsumeQueue {
    pub(crate) fn new(topic: &str, queue_id: i32, entries_per_file: u64) -> ConsumeQueue {
        ConsumeQueue {
            topic: topic.into(),
            queue_id,
            entries_per_file,
            files: VecDeque::new(),
            lost: Vec::new(),
            entries_dirty: false,
            min: 0,
            spilled: 0,
            tail: Vec::new(),
            next: 0,
            begins_at: 0,
            newest: None,
            is_closed: false,
            is_blocked: false,
        }
    }

    pub(crate) fn dir(&self) -> String {
        format!("{CONSUME_QUEUE_DIR}/{}/{}", self.topic, self.queue_id)
    }

    fn path(&self, first: u64) -> String {
        format!("{}/{:020}", self.dir(), first * ENTRY_BYTES)
    }

    /// Learns which files are there; after an unclean end their entries may be in the page cache only. What they hold is
    /// settled by [`ConsumeQueue::set_spilled`]. False when one in the middle is missing or too short, which an unclean end
    /// explains where nothing behind it is kept: see [`ConsumeQueue::lose_before_gap`].
    pub(crate) fn load<D: Disk>(&mut self, unclean: bool, disk: &mut D) -> Result<bool, String> {
        let dir = self.dir();
        let entries = disk.list(&dir).map_err(|error| format!("{dir}: {error}"))?;
        let last = entries.len().saturating_sub(1);
        for (at, entry) in entries.into_iter().enumerate() {
            let path = format!("{dir}/{}", entry.name);
            let bytes: u64 = entry.name.parse().map_err(|_| {
                format!(
                    "{path}: not the name of a consume-queue file; move the file elsewhere and start again"
                )
            })?;
            let file_bytes = self.entries_per_file * ENTRY_BYTES;
            if !bytes.is_multiple_of(file_bytes) || entry.len > file_bytes {
                return Err(format!(
                    "{path}: does not fit files of {file_bytes} bytes; set mappedFileSizeConsumeQueue to the length \
                     of the files"
                ));
            }
            let first = bytes / ENTRY_BYTES;
            let is_next =
                |before: &CqFile| before.first + before.room == first && before.room == self.entries_per_file;
            let follows = self.files.back().is_none_or(is_next);
            let mut file = CqFile { first, file: None, dirty: false, room: entry.len / ENTRY_BYTES, follows };
            if entry.len < file_bytes && at == last {
                let id = disk.open(&path, FileKind::Table).map_err(|error| format!("{path}: {error}"))?;
                disk.truncate(id, file_bytes).map_err(|error| format!("{path}: {error}"))?;
                file = CqFile { file: Some(id), dirty: true, room: self.entries_per_file, ..file };
            }
            self.files.push_back(file);
        }
        // A file that the last life deleted may still come back.
        self.entries_dirty = unclean;
        self.begin_with_files();
        Ok(unclean || !self.lose_before_gap(u64::MAX))
    }

    fn begin_with_files(&mut self) {
        self.min = self.files.front().map_or(0, |file| file.first);
        (self.spilled, self.next) = (self.min, self.min);
    }

    /// Gives up the files before the newest gap below entry `upto`, whose entries are read from the log again. False when there is
    /// none. A gap behind the kept entries is what a power loss leaves of files that recovery cut off, and nothing is lost by it.
    pub(crate) fn lose_before_gap(&mut self, upto: u64) -> bool {
        let Some(at) = self.files.iter().rposition(|file| file.first < upto && !file.follows) else {
            return false;
        };
        let path = self.path(self.files[at].first);
        tracing::warn!(
            path,
            "the file before this one is missing or too short: its queue is read from the log again"
        );
        for first in self.files.drain(..at).map(|file| file.first).collect::<Vec<_>>() {
            self.lost.push(self.path(first));
        }
        self.files[0].follows = true;
        self.begin_with_files();
        true
    }

    /// Removes the files whose entries are read from the log again, so that they can be written anew.
    pub(crate) fn remove_lost<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        while let Some(path) = self.lost.pop() {
            disk.delete(&path)?;
            self.entries_dirty = true;
        }
        Ok(())
    }

    /// First entries of its files, newest file first.
    pub(crate) fn file_firsts(&self) -> impl Iterator<Item = u64> {
        self.files.iter().rev().map(|file| file.first)
    }

    pub(crate) fn entries_per_file(&self) -> u64 {
        self.entries_per_file
    }

    /// The paths of its files, newest first.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.file_firsts().map(|first| self.path(first)).collect()
    }

    /// Fixes how many entries the files hold after recovery looked at them; with `zero` what lies behind is zeroed.
    pub(crate) fn set_spilled<D: Disk>(
        &mut self,
        spilled: u64,
        zero: bool,
        disk: &mut D,
    ) -> Result<(), DiskError> {
        assert!(self.tail.is_empty(), "recovery settles the files first");
        self.min = self.min.min(spilled);
        if zero {
            while let Some(last) = self.files.back() {
                if last.first < spilled || (self.files.len() == 1 && spilled > 0) {
                    break;
                }
                disk.delete(&self.path(last.first))?;
                self.files.pop_back();
                self.entries_dirty = true;
            }
            let file_bytes = self.entries_per_file * ENTRY_BYTES;
            if let Some(first) = self.files.back().map(|file| file.first)
                && let Some(id) = self.open_at(first, disk)?
            {
                disk.truncate(id, (spilled - first) * ENTRY_BYTES)?;
                disk.truncate(id, file_bytes)?;
                let last = self.files.back_mut().expect("it is there");
                (last.dirty, last.room) = (true, self.entries_per_file);
            }
        }
        (self.spilled, self.next) = (spilled, spilled);
        Ok(())
    }

    /// The open file whose first entry is `first`.
    fn open_at<D: Disk>(&mut self, first: u64, disk: &mut D) -> Result<Option<FileId>, DiskError> {
        let Some(at) = self.files.iter().rposition(|file| file.first == first) else { return Ok(None) };
        if self.files[at].file.is_none() {
            self.files[at].file = Some(disk.open(&self.path(first), FileKind::Table)?);
        }
        Ok(self.files[at].file)
    }

    /// Entries that the file whose first entry is `first` has room for.
    pub(crate) fn room_at(&self, first: u64) -> u64 {
        self.files.iter().find(|file| file.first == first).map_or(0, |file| file.room)
    }

    /// Lowest queue offset that can be read.
    pub(crate) fn min(&self) -> u64 {
        self.min
    }

    /// One past the highest visible queue offset.
    pub(crate) fn max(&self) -> u64 {
        self.spilled + self.tail.len() as u64
    }

    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// Whether an entry at queue offset `at` can be this queue's: a damaged record must not ask for a gap without end.
    pub(crate) fn can_take(&self, at: u64) -> bool {
        let is_new = self.files.is_empty() && self.tail.is_empty();
        at < OFFSET_MAX && (is_new || at <= self.max() + GAP_ENTRIES_MAX)
    }

    /// Whether an entry is the first of another queue of this name, whose topic was deleted and made again.
    pub(crate) fn begins_anew(&self, at: u64, entry: CqEntry) -> bool {
        at == 0
            && self.max() > 0
            && entry.physical >= self.begins_at
            && self.newest.is_some_and(|newest| entry.physical > newest)
    }

    /// Begins a queue of which nothing is here behind messages that are gone: they went up to `end`, and lie below `at` in the
    /// log. Its first file is made with its first entry. False where something is here.
    pub(crate) fn begin_behind(&mut self, end: u64, at: u64) -> bool {
        let is_new = self.files.is_empty() && self.tail.is_empty() && self.next == 0;
        if is_new && (1..OFFSET_MAX).contains(&end) {
            (self.min, self.spilled, self.next) = (end, end, end);
            self.newest = Some(at);
            return true;
        }
        false
    }

    /// Whether it had messages and holds none of them any more.
    pub(crate) fn is_emptied(&self) -> bool {
        self.next > 0 && self.min == self.next && !self.is_closed
    }

    /// Makes the entry of queue offset `at` visible. Offsets below the end are known already; a gap is filled so
    /// that an entry's position is its queue offset.
    pub(crate) fn push(&mut self, at: u64, entry: CqEntry) {
        if entry.physical < self.begins_at {
            return;
        }
        if self.files.is_empty() && self.tail.is_empty() && at >= self.max() {
            // The queue's beginning is gone (retention, or a replica that started late): it begins here.
            let first = at - at % self.entries_per_file;
            (self.min, self.spilled) = (at, first);
            self.tail.resize((at - first) as usize, CqEntry::FILLER);
        }
        while self.max() < at {
            self.tail.push(CqEntry::FILLER);
        }
        if self.max() == at {
            self.tail.push(entry);
            self.newest = Some(entry.physical);
        }
        self.next = self.next.max(self.max());
    }

    /// Appends up to `count` entries from queue offset `from` on to `out`; fewer at the end of a file, at least one.
    pub(crate) fn read<D: Disk>(
        &mut self,
        from: u64,
        count: u64,
        disk: &mut D,
        out: &mut Vec<CqEntry>,
    ) -> Result<Slice, DiskError> {
        let count = count.min(self.max().saturating_sub(from));
        if count == 0 {
            return Ok(Slice::Read);
        }
        if from >= self.spilled {
            let at = (from - self.spilled) as usize;
            out.extend_from_slice(&self.tail[at..at + count as usize]);
            return Ok(Slice::Read);
        }
        let first = from - from % self.entries_per_file;
        let Some(file) = self.open_at(first, disk)? else { return Err(DiskError::NotFound) };
        let upto = (from + count).min(first + self.entries_per_file).min(self.spilled);
        let extent =
            Extent { file, offset: (from - first) * ENTRY_BYTES, len: ((upto - from) * ENTRY_BYTES) as u32 };
        let mut bytes = Vec::new();
        match disk.read(extent, &mut bytes)? {
            Residency::Resident => {
                out.extend(bytes.chunks_exact(ENTRY_BYTES as usize).filter_map(CqEntry::decode));
                Ok(Slice::Read)
            }
            Residency::NotResident => Ok(Slice::Cold(extent)),
        }
    }

    /// Where entries `from..from + count` (cut at the end of the file) would lie, for recovery to look at.
    pub(crate) fn extent<D: Disk>(
        &mut self,
        from: u64,
        count: u64,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let first = from - from % self.entries_per_file;
        let Some(file) = self.open_at(first, disk)? else { return Ok(None) };
        let upto = (from + count).min(first + self.room_at(first));
        Ok(Some(Extent {
            file,
            offset: (from - first) * ENTRY_BYTES,
            len: ((upto - from) * ENTRY_BYTES) as u32,
        }))
    }

    /// Moves the minimum to the first entry that lies at `cut` or behind it in the log. What must be fetched first is given; then
    /// the search goes on where it was.
    pub(crate) fn raise_min<D: Disk>(
        &mut self,
        cut: u64,
        search: &mut Option<MinSearch>,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let mut known = match *search {
            Some(known) => known,
            None => {
                let all = MinSearch { low: self.min, high: self.max() };
                if all.low >= all.high {
                    return Ok(None);
                }
                match self.first_in(all.low, all.low + 1, disk)? {
                    Err(cold) => return Ok(Some(cold)),
                    Ok(Some((_, entry))) if entry.physical >= cut => return Ok(None),
                    Ok(_) => all,
                }
            }
        };
        while known.low < known.high {
            let middle = known.low + (known.high - known.low) / 2;
            match self.first_in(middle, known.high, disk)? {
                Err(cold) => {
                    *search = Some(known);
                    return Ok(Some(cold));
                }
                Ok(Some((at, entry))) if entry.physical < cut => known.low = at + 1,
                // Fillers up to the end say nothing; what they stand for came before.
                Ok(_) => known.high = middle,
            }
        }
        // Fillers there stand for what was removed before their file was written anew: nothing of them can be read.
        match self.first_in(known.low, self.max(), disk)? {
            Err(cold) => {
                *search = Some(known);
                Ok(Some(cold))
            }
            Ok(first) => {
                self.min = first.map_or(known.low, |(at, _)| at);
                Ok(None)
            }
        }
    }

    /// The first entry in `from..upto` that is not a filler.
    fn first_in<D: Disk>(
        &mut self,
        from: u64,
        upto: u64,
        disk: &mut D,
    ) -> Result<Result<Option<(u64, CqEntry)>, Extent>, DiskError> {
        let (mut at, mut count) = (from, 1);
        let mut entries = Vec::new();
        while at < upto {
            entries.clear();
            if let Slice::Cold(extent) = self.read(at, count.min(upto - at), disk, &mut entries)? {
                return Ok(Err(extent));
            }
            if let Some(skipped) = entries.iter().position(|entry| !entry.is_filler()) {
                return Ok(Ok(Some((at + skipped as u64, entries[skipped]))));
            }
            at += (entries.len() as u64).max(1);
            count = SKIP_ENTRIES;
        }
        Ok(Ok(None))
    }

    /// Removes the oldest file if all of it lies below the minimum, and the beginning of the next one too: an entry below the
    /// minimum is durable, so that after power loss the queue still knows how far its offsets went. True when it did.
    pub(crate) fn remove_oldest_file<D: Disk>(&mut self, disk: &mut D) -> Result<bool, DiskError> {
        let (Some(oldest), Some(next)) = (self.files.front(), self.files.get(1)) else { return Ok(false) };
        if self.min <= next.first || oldest.dirty {
            return Ok(false);
        }
        disk.delete(&self.path(oldest.first))?;
        self.files.pop_front();
        Ok(true)
    }

    /// Whether it could be spilled: nothing of another queue is in the way.
    pub(crate) fn may_spill(&self) -> bool {
        !self.is_blocked || self.tail.is_empty()
    }

    /// Whether recovery should spill it now.
    pub(crate) fn is_long(&self) -> bool {
        self.tail.len() >= RECOVERED_TAIL_MAX && !self.is_blocked
    }

    /// Moves the tail to the files, unless those of another queue are in the way.
    ///
    /// # Errors
    /// [`DiskError`]; what was not written stays in the tail.
    pub(crate) fn spill<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskError> {
        while !self.tail.is_empty() && !self.is_blocked {
            let first = self.spilled - self.spilled % self.entries_per_file;
            let file = match self.open_at(first, disk)? {
                Some(file) => file,
                None => {
                    let path = self.path(first);
                    let file = disk.create(&path, self.entries_per_file * ENTRY_BYTES, FileKind::Table)?;
                    let room = self.entries_per_file;
                    self.files.push_back(CqFile {
                        first,
                        file: Some(file),
                        dirty: true,
                        room,
                        follows: true,
                    });
                    self.entries_dirty = true;
                    file
                }
            };
            let count = (self.tail.len() as u64).min(first + self.entries_per_file - self.spilled) as usize;
            let mut bytes = Vec::with_capacity(count * ENTRY_BYTES as usize);
            for entry in &self.tail[..count] {
                entry.put(&mut bytes);
            }
            disk.write(file, (self.spilled - first) * ENTRY_BYTES, &bytes)?;
            if let Some(written) = self.files.iter_mut().find(|file| file.first == first) {
                written.dirty = true;
            }
            self.tail.drain(..count);
            self.spilled += count as u64;
        }
        Ok(())
    }

    /// Hands over the files written since the last call, and whether the directory changed.
    pub(crate) fn take_dirty(&mut self, mut file: impl FnMut(FileId)) -> bool {
        for known in &mut self.files {
            if core::mem::take(&mut known.dirty)
                && let Some(id) = known.file
            {
                file(id);
            }
        }
        core::mem::take(&mut self.entries_dirty)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.min <= self.max() && self.max() <= self.next, "{}: offsets are ordered", self.dir());
        assert!(!self.is_blocked || self.files.is_empty(), "{}: no file is made beside old ones", self.dir());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_rocketmqs_layout() {
        let mut out = Vec::new();
        CqEntry { physical: 258, size: 100, tags_code: -2 }.put(&mut out);
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 100, 255, 255, 255, 255, 255, 255, 255, 254]);
        assert_eq!(CqEntry::decode(&out), Some(CqEntry { physical: 258, size: 100, tags_code: -2 }));
    }

    #[test]
    fn an_offset_never_gets_a_second_entry() {
        let mut queue = ConsumeQueue::new("T", 0, 10);
        let entry = |physical| CqEntry { physical, size: 1, tags_code: 0 };
        queue.push(0, entry(5));
        queue.push(0, entry(9));
        assert_eq!((queue.max(), queue.tail[0]), (1, entry(5)));
        queue.push(3, entry(20));
        assert_eq!((queue.max(), queue.tail[2], queue.tail[3]), (4, CqEntry::FILLER, entry(20)));
    }

    #[test]
    fn a_queue_begins_behind_what_is_gone_and_nothing_else_does() {
        let entry = |physical| CqEntry { physical, size: 1, tags_code: 0 };
        let mut queue = ConsumeQueue::new("T", 0, 10);
        assert!(!queue.begin_behind(0, 70) && !queue.begin_behind(u64::MAX, 70));
        assert!(queue.begin_behind(23, 70) && queue.is_emptied());
        assert_eq!((queue.min(), queue.max(), queue.next), (23, 23, 23));
        assert!(!queue.begin_behind(40, 90), "once");
        // A topic of that name made again is another one.
        assert!(queue.begins_anew(0, entry(71)) && !queue.begins_anew(0, entry(69)));
        queue.push(23, entry(80));
        assert_eq!((queue.min(), queue.max(), queue.spilled, queue.tail[3]), (23, 24, 20, entry(80)));
        assert!(!queue.is_emptied());
    }

    #[test]
    fn a_queue_may_begin_late() {
        let mut queue = ConsumeQueue::new("T", 0, 10);
        queue.push(23, CqEntry { physical: 5, size: 1, tags_code: 0 });
        assert_eq!((queue.min(), queue.max(), queue.spilled), (23, 24, 20));
    }
}
