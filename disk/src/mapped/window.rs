//! The mapped window of a log: the stretch ahead of its end that is already in memory, so that an append is a copy.
//!
//! A helper thread brings pages into memory ahead of the writer. What lies outside of the stretch that is ready is
//! written by system call, where a fault of the device is an error and not a signal; so the first writes after opening,
//! and those of a writer that outran its helper, are slower and never wrong.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::{Map, Populator};

/// Bytes made ready at a time: short enough not to keep a page fault of the writer waiting.
const STEP_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;

/// The writer's end.
#[derive(Debug)]
pub(super) struct Window {
    map: Map,
    len: u64,
    /// The ready stretch begins here …
    from: u64,
    /// … and ends here, moved by the helper.
    ready: Arc<AtomicU64>,
    /// What the helper was asked for ends here.
    requested: u64,
}

/// A stretch that the helper shall make ready.
#[derive(Debug)]
pub(super) struct Stretch {
    pages: Populator,
    from: u64,
    to: u64,
    ready: Arc<AtomicU64>,
}

impl Window {
    /// Maps a file of `len` bytes whose room is allocated.
    pub(super) fn new(file: &File, len: u64) -> io::Result<Window> {
        let ready = Arc::new(AtomicU64::new(0));
        Ok(Window { map: Map::new(file, len)?, len, from: 0, ready, requested: 0 })
    }

    /// Copies into the ready stretch; false, and nothing done, when the range is not in it.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> bool {
        // Acquire: the pages were made ready before the end was moved.
        let ready = self.ready.load(Ordering::Acquire);
        let is_ready = offset >= self.from && offset + bytes.len() as u64 <= ready;
        if is_ready {
            self.map.write(offset, bytes);
        }
        is_ready
    }

    /// What to make ready after a write of `offset..end`, so that `ahead` bytes are.
    pub(super) fn next_stretch(&mut self, offset: u64, end: u64, ahead: u64) -> Option<Stretch> {
        if self.requested == 0 || offset > self.requested {
            // The first write, or one far ahead: begin anew there.
            self.from = offset / PAGE_BYTES * PAGE_BYTES;
            self.requested = self.from;
            self.ready = Arc::new(AtomicU64::new(self.from));
        } else if end + ahead / 2 <= self.requested {
            return None;
        }
        let from = self.requested;
        let to = (end + ahead).next_multiple_of(PAGE_BYTES).min(self.len);
        if from >= to {
            return None;
        }
        self.requested = to;
        Some(Stretch { pages: self.map.populator(), from, to, ready: Arc::clone(&self.ready) })
    }
}

impl Stretch {
    /// Makes it ready, blocking for the device.
    pub(super) fn prepare(&self) -> io::Result<()> {
        // After a stretch that failed there is a hole: what lies behind it is not ready.
        if self.ready.load(Ordering::Relaxed) != self.from {
            return Ok(());
        }
        let mut at = self.from;
        while at < self.to {
            let end = (at + STEP_BYTES).min(self.to);
            self.pages.populate(at, end - at)?;
            self.ready.store(end, Ordering::Release);
            at = end;
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    const AHEAD: u64 = 4 << 20;

    #[test]
    fn only_what_is_ready_is_copied() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64 << 20).expect("its length");
        let mut window = Window::new(&file, 64 << 20).expect("a mapping");
        assert!(!window.write(5_000, b"x"));
        let first = window.next_stretch(5_000, 5_001, AHEAD).expect("a first stretch");
        assert!(!window.write(5_000, b"x"));
        first.prepare().expect("ready");
        assert!(window.write(5_000, b"x"));
        assert!(window.write(4_096, b"x"));
        assert!(!window.write(4_095, b"xx"), "before the stretch");
        assert!(window.next_stretch(5_001, 5_002, AHEAD).is_none(), "enough is ready");
        let second = window.next_stretch(3 << 20, (3 << 20) + 1, AHEAD).expect("a second stretch");
        assert_eq!(second.from, first.to);
        let far = window.next_stretch(40 << 20, (40 << 20) + 1, AHEAD).expect("a stretch far ahead");
        second.prepare().expect("late");
        assert!(!window.write(5_000, b"x"), "the old stretch is given up");
        far.prepare().expect("ready");
        assert!(window.write(40 << 20, b"x"));
        let last = window.next_stretch(63 << 20, 63 << 20, AHEAD).expect("a last stretch");
        assert_eq!(last.to, 64 << 20);
        last.prepare().expect("ready");
        assert!(window.write((64 << 20) - 1, b"x"));
        assert!(window.next_stretch((64 << 20) - 1, 64 << 20, AHEAD).is_none());
    }

    #[test]
    fn behind_a_hole_nothing_is_ready() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64 << 20).expect("its length");
        let mut window = Window::new(&file, 64 << 20).expect("a mapping");
        let lost = window.next_stretch(0, 1, AHEAD).expect("a stretch");
        let second = window.next_stretch(3 << 20, 3 << 20, AHEAD).expect("a stretch");
        second.prepare().expect("nothing done");
        assert!(!window.write(5 << 20, b"x"));
        lost.prepare().expect("ready");
        assert!(window.write(0, b"x"));
        assert!(!window.write(5 << 20, b"x"));
    }
}
