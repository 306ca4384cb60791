//! The bytes of one file: what is visible, and how to get back from there to any state that a power loss may leave.
//!
//! Pages are sparse: one that was never written costs nothing. Every change saves what it overwrote in an undo log, so an
//! append costs two copies of its own length and never a copy of a page; a completed sync drops a prefix of the log. A
//! power loss walks the log backwards and takes back, sector by sector, what it draws as lost.
//!
//! Invariant: bytes of a page behind the end of the file are zero (so extending reads zeros).

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::rng::Rng;
use gantry_core::time::WallMs;

use super::Fate;

/// The unit that a power loss keeps or loses.
pub(super) const PAGE_BYTES: usize = 4096;
/// The unit within which a page is never torn.
pub(super) const SECTOR_BYTES: usize = 512;
const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

type Page = Box<[u8]>;

#[derive(Clone, Debug)]
struct Undo {
    /// Position in the order of all changes of the file.
    seq: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Bytes of a page were overwritten; the old ones lie in [`Content::old_bytes`].
    Bytes { page: u32, start: u16, len: u16 },
    /// A page was dropped by a truncation.
    Dropped { page: u32, old: Page },
    /// The length changed.
    Len { old: u64, steps: bool },
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u32, Page>,
    /// Changes not yet known to be durable, oldest first.
    undo: Vec<Undo>,
    /// What [`What::Bytes`] overwrote, in the order of the log.
    old_bytes: Vec<u8>,
    dropped_pages: u64,
    next_seq: u64,
    /// Changes below this lost their dirty mark in a failed sync: no later sync writes them out, unless their page is
    /// dirtied again.
    forgotten_below: u64,
    /// Pages written in `written_turn`: they cannot be cold yet.
    written: Vec<u32>,
    written_turn: u64,
    /// Sectors that the medium cannot read.
    bad_sectors: BTreeSet<u64>,
    /// Last modification.
    pub(super) modified: WallMs,
}

impl Content {
    /// A new file that has `len` zero bytes, none of it durable.
    pub(super) fn allocated(len: u64) -> Content {
        let mut content = Content::default();
        if len > 0 {
            content.log(What::Len { old: 0, steps: true });
            content.len = len;
        }
        content
    }

    /// A file whose bytes are durable.
    pub(super) fn durable(bytes: &[u8]) -> Content {
        let mut content = Content { len: bytes.len() as u64, ..Content::default() };
        for (index, chunk) in bytes.chunks(PAGE_BYTES).enumerate() {
            content.page_mut(index as u32)[..chunk.len()].copy_from_slice(chunk);
        }
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A sync that begins now covers the changes below this.
    pub(super) fn sync_point(&self) -> u64 {
        self.next_seq
    }

    /// Bytes that a sync would write.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.old_bytes.len() as u64 + self.dropped_pages * PAGE_BYTES as u64
    }

    /// Overwrites; the range lies within the file, or begins at its end and extends it.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], turn: u64) {
        let end = offset + bytes.len() as u64;
        if end > self.len {
            debug_assert_eq!(offset, self.len, "only an append extends");
            self.log(What::Len { old: self.len, steps: false });
            self.len = end;
        }
        if self.written_turn != turn {
            self.written_turn = turn;
            self.written.clear();
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (page, start) = locate(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            self.overwrite(page, start, now);
            if self.written.last() != Some(&page) {
                self.written.push(page);
            }
            at += now.len() as u64;
            rest = later;
        }
        if !self.bad_sectors.is_empty() {
            // A drive remaps a bad sector when it is written as a whole.
            let whole = offset.div_ceil(SECTOR_BYTES as u64)..end / SECTOR_BYTES as u64;
            self.bad_sectors.retain(|sector| !whole.contains(sector));
        }
    }

    /// Cuts, or extends with zeros.
    pub(super) fn truncate(&mut self, len: u64) {
        if len == self.len {
            return;
        }
        self.log(What::Len { old: self.len, steps: false });
        if len < self.len {
            let (page, start) = locate(len);
            if start > 0 && self.pages.contains_key(&page) {
                self.overwrite(page, start, &[0; PAGE_BYTES][start..]);
            }
            let first_dropped = if start > 0 { page + 1 } else { page };
            for (page, old) in self.pages.split_off(&first_dropped) {
                self.dropped_pages += 1;
                self.log(What::Dropped { page, old });
            }
            self.bad_sectors.split_off(&len.div_ceil(SECTOR_BYTES as u64));
        }
        self.len = len;
    }

    fn overwrite(&mut self, page: u32, start: usize, bytes: &[u8]) {
        self.log(What::Bytes { page, start: start as u16, len: bytes.len() as u16 });
        let slot = self.pages.entry(page).or_insert_with(zero_page);
        let range = &mut slot[start..start + bytes.len()];
        self.old_bytes.extend_from_slice(range);
        range.copy_from_slice(bytes);
    }

    fn log(&mut self, what: What) {
        self.undo.push(Undo { seq: self.next_seq, what });
        self.next_seq += 1;
    }

    fn page_mut(&mut self, page: u32) -> &mut [u8] {
        self.pages.entry(page).or_insert_with(zero_page)
    }

    /// Appends a range that lies within the file.
    pub(super) fn read(&self, offset: u64, len: usize, out: &mut Vec<u8>) {
        let (mut at, mut left) = (offset, len);
        while left > 0 {
            let (page, start) = locate(at);
            let count = left.min(PAGE_BYTES - start);
            match self.pages.get(&page) {
                Some(bytes) => out.extend_from_slice(&bytes[start..start + count]),
                None => out.resize(out.len() + count, 0),
            }
            at += count as u64;
            left -= count;
        }
    }

    /// Whether a page was written in `turn`, so that it cannot have left memory.
    pub(super) fn is_written_in(&self, page: u32, turn: u64) -> bool {
        self.written_turn == turn && self.written.contains(&page)
    }

    /// Whether the medium cannot give a part of the range.
    pub(super) fn is_bad(&self, offset: u64, len: u64) -> bool {
        let sectors = offset / SECTOR_BYTES as u64..(offset + len).div_ceil(SECTOR_BYTES as u64);
        !self.bad_sectors.is_empty() && self.bad_sectors.range(sectors).next().is_some()
    }

    /// Makes the sector at `offset` unreadable until it is written as a whole.
    pub(super) fn damage(&mut self, offset: u64) {
        self.bad_sectors.insert(offset / SECTOR_BYTES as u64);
    }

    /// Flips one bit of the byte at `offset`, as a fault of the medium: no sync and no write is involved.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let (page, start) = locate(offset);
        self.page_mut(page)[start] ^= 1 << (bit & 7);
    }

    /// A sync that began at `point` succeeded.
    pub(super) fn covered(&mut self, point: u64) {
        if self.forgotten_below == 0 {
            self.drop_first(self.undo.partition_point(|undo| undo.seq < point));
            return;
        }
        let forgotten_below = self.forgotten_below;
        // A page is written out whole, so a page dirtied after the failed sync takes the forgotten bytes with it.
        let rewritten: BTreeSet<u32> = self
            .undo
            .iter()
            .filter(|undo| (forgotten_below..point).contains(&undo.seq))
            .filter_map(|undo| page_of(&undo.what))
            .collect();
        let is_covered = |undo: &Undo| {
            undo.seq < point
                && (undo.seq >= forgotten_below
                    || page_of(&undo.what).is_none_or(|page| rewritten.contains(&page)))
        };
        let (mut kept_bytes, mut at) = (Vec::new(), 0);
        for undo in &self.undo {
            let len = old_len(&undo.what);
            if !is_covered(undo) {
                kept_bytes.extend_from_slice(&self.old_bytes[at..at + len]);
            }
            at += len;
        }
        self.old_bytes = kept_bytes;
        self.undo.retain(|undo| !is_covered(undo));
        self.recount();
    }

    fn drop_first(&mut self, count: usize) {
        if count == self.undo.len() {
            self.undo.clear();
            self.old_bytes.clear();
            self.dropped_pages = 0;
        } else if count > 0 {
            let bytes: usize = self.undo[..count].iter().map(|undo| old_len(&undo.what)).sum();
            self.undo.drain(..count);
            self.old_bytes.drain(..bytes);
            self.recount();
        }
    }

    fn recount(&mut self) {
        let dropped = self.undo.iter().filter(|undo| matches!(undo.what, What::Dropped { .. }));
        self.dropped_pages = dropped.count() as u64;
        if self.undo.first().is_none_or(|undo| undo.seq >= self.forgotten_below) {
            self.forgotten_below = 0;
        }
    }

    /// A sync that began at `point` failed: the kernel marks the pages clean all the same.
    pub(super) fn forgotten(&mut self, point: u64) {
        if self.undo.first().is_some_and(|undo| undo.seq < point) {
            self.forgotten_below = self.forgotten_below.max(point);
        }
    }

    /// Pages that a failed sync left clean but not on the medium may be evicted and come back as they were before it.
    pub(super) fn evict_forgotten(&mut self, rng: &mut Rng) {
        if self.forgotten_below == 0 {
            return;
        }
        let mut evicted = BTreeMap::new();
        for undo in &self.undo {
            // A page that is dirty again is not evicted before it is written out whole.
            if let Some(page) = page_of(&undo.what) {
                let drawn = *evicted.entry(page).or_insert_with(|| rng.one_in(2));
                evicted.insert(page, drawn && undo.seq < self.forgotten_below);
            }
        }
        evicted.retain(|_, evicted| *evicted);
        let pages = evicted.into_keys().map(|page| (page, [0; SECTORS])).collect();
        self.roll_back(&pages, false);
    }

    /// Becomes a state that a power loss may leave.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        if self.undo.is_empty() {
            return;
        }
        let first = self.undo[0].seq;
        let fate = Fate::draw(rng, first, self.next_seq);
        let len = self.draw_len(fate, rng);
        let mut counts: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for undo in &self.undo {
            if let Some(page) = page_of(&undo.what) {
                counts.entry(page).or_default().push(undo.seq);
            }
        }
        let keep = counts.into_iter().map(|(page, seqs)| (page, draw_sectors(fate, &seqs, rng))).collect();
        self.roll_back(&keep, true);
        self.undo.clear();
        self.old_bytes.clear();
        (self.dropped_pages, self.forgotten_below) = (0, 0);
        self.written.clear();
        self.set_len(len);
    }

    /// Takes back, in each sector of the pages named, the changes from its sequence on. With `all` it ends with an empty
    /// log; else the changes taken back leave the log and the others stay.
    fn roll_back(&mut self, keep_below: &BTreeMap<u32, [u64; SECTORS]>, all: bool) {
        let mut end = self.old_bytes.len();
        for index in (0..self.undo.len()).rev() {
            let Undo { seq, what } = &mut self.undo[index];
            end -= old_len(what);
            let Some(keep) = page_of(what).and_then(|page| keep_below.get(&page)) else { continue };
            match what {
                What::Bytes { page, start, len } => {
                    let slot = self.pages.entry(*page).or_insert_with(zero_page);
                    let old = &self.old_bytes[end..end + usize::from(*len)];
                    restore(slot, usize::from(*start), old, keep, *seq);
                }
                What::Dropped { page, old } => {
                    let slot = self.pages.entry(*page).or_insert_with(zero_page);
                    restore(slot, 0, old, keep, *seq);
                }
                What::Len { .. } => {}
            }
        }
        if !all {
            let (mut kept_bytes, mut at) = (Vec::new(), 0);
            let is_taken_back =
                |what: &What| page_of(what).is_some_and(|page| keep_below.contains_key(&page));
            for undo in &self.undo {
                let len = old_len(&undo.what);
                if !is_taken_back(&undo.what) {
                    kept_bytes.extend_from_slice(&self.old_bytes[at..at + len]);
                }
                at += len;
            }
            self.old_bytes = kept_bytes;
            self.undo.retain(|undo| !is_taken_back(&undo.what));
            self.recount();
            self.set_len(self.len);
        }
    }

    /// Draws one of the lengths the file had. What a creation allocates grows in steps, any of which may be the last.
    fn draw_len(&self, fate: Fate, rng: &mut Rng) -> u64 {
        let mut lens = self.undo.iter().filter_map(|undo| match undo.what {
            What::Len { old, steps } => Some((undo.seq, old, steps)),
            What::Bytes { .. } | What::Dropped { .. } => None,
        });
        let Some((_, old, steps)) = lens.find(|(seq, ..)| fate.loses(*seq, rng)) else { return self.len };
        if !steps || !rng.one_in(4) {
            return old;
        }
        let new = lens.next().map_or(self.len, |(_, old, _)| old);
        let pages = new / PAGE_BYTES as u64;
        rng.below(pages + 1) * PAGE_BYTES as u64
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        let (page, start) = locate(len);
        self.pages.split_off(&if start > 0 { page + 1 } else { page });
        if start > 0
            && let Some(bytes) = self.pages.get_mut(&page)
        {
            bytes[start..].fill(0);
        }
    }

    /// Folds length and bytes into a hash that does not know how they came about.
    pub(super) fn digest(&self, mut fold: impl FnMut(u64)) {
        fold(self.len);
        for (page, bytes) in &self.pages {
            let words = bytes.as_chunks::<8>().0;
            if words.iter().any(|word| *word != [0; 8]) {
                fold(u64::from(*page));
                words.iter().for_each(|word| fold(u64::from_le_bytes(*word)));
            }
        }
    }
}

fn zero_page() -> Page {
    vec![0; PAGE_BYTES].into_boxed_slice()
}

fn locate(offset: u64) -> (u32, usize) {
    ((offset / PAGE_BYTES as u64) as u32, (offset % PAGE_BYTES as u64) as usize)
}

fn page_of(what: &What) -> Option<u32> {
    match what {
        What::Bytes { page, .. } | What::Dropped { page, .. } => Some(*page),
        What::Len { .. } => None,
    }
}

fn old_len(what: &What) -> usize {
    match what {
        What::Bytes { len, .. } => usize::from(*len),
        What::Dropped { .. } | What::Len { .. } => 0,
    }
}

/// For each sector of a page: the sequence below which its changes stay.
fn draw_sectors(fate: Fate, seqs: &[u64], rng: &mut Rng) -> [u64; SECTORS] {
    let end = seqs[seqs.len() - 1] + 1;
    match fate {
        Fate::KeepAll => [end; SECTORS],
        Fate::LoseAll => [0; SECTORS],
        Fate::Cut(seq) => [seq; SECTORS],
        Fate::Scatter => {
            let mut draw = || seqs.get(rng.below(seqs.len() as u64 + 1) as usize).map_or(end, |seq| *seq);
            let (one, other) = (draw(), draw());
            let torn = if rng.one_in(2) { rng.next_u64() } else { 0 };
            std::array::from_fn(|sector| if torn >> sector & 1 == 1 { other } else { one })
        }
    }
}

/// Puts `old` back at `start`, in the sectors that lost the change `seq`.
fn restore(page: &mut [u8], start: usize, old: &[u8], keep_below: &[u64; SECTORS], seq: u64) {
    for (sector, keep) in keep_below.iter().enumerate() {
        let from = (sector * SECTOR_BYTES).max(start);
        let to = ((sector + 1) * SECTOR_BYTES).min(start + old.len());
        if from < to && seq >= *keep {
            page[from..to].copy_from_slice(&old[from - start..to - start]);
        }
    }
}
