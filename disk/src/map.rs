//! The only unsafe code of the project: copying into a mapped file.
//!
//! Why it cannot go wrong:
//! - a copy is checked to lie within the mapping;
//! - the mapping is never read and never lent out as a slice or reference, so that no Rust reference watches bytes that
//!   another process might change; all readers go through system calls;
//! - copying takes `&mut self`, so one thread copies at a time, and a [`Populator`] touches no byte itself;
//! - SIGBUS comes from touching a page behind the end of the file, or one that cannot be allocated or read. Files that
//!   are mapped have all their room allocated, are unmapped before they are truncated, are kept from other brokers by
//!   the store's lock, and only pages that a [`Populator`] has brought into memory are written.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// A writable, shared mapping of a whole file.
#[derive(Debug)]
pub(crate) struct Map(Arc<MmapRaw>);

/// Brings pages of a [`Map`] into memory, on another thread.
#[derive(Debug)]
pub(crate) struct Populator(Arc<MmapRaw>);

impl Map {
    /// Maps the `len` bytes of a file.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        MmapOptions::new().len(len).map_raw(file).map(|raw| Map(Arc::new(raw)))
    }

    /// Copies to a position.
    ///
    /// # Panics
    /// When the range does not lie within the mapping.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("the range lies within the mapping");
        let room = self.0.len().checked_sub(start).expect("the range lies within the mapping");
        assert!(bytes.len() <= room, "the range lies within the mapping");
        // SAFETY: `start + bytes.len()` is at most the length of the mapping, which is writable and lives as long as
        // `self`; `bytes` cannot overlap it, because no slice of the mapping is ever made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(start), bytes.len()) }
    }

    /// A handle for another thread. The pages stay mapped until it is dropped too.
    pub(crate) fn populator(&self) -> Populator {
        Populator(Arc::clone(&self.0))
    }
}

impl Populator {
    /// Makes pages writable without changing a byte; an error where a write would be a signal. Blocks for the device.
    #[cfg(target_os = "linux")]
    pub(crate) fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        let to_usize = |value| usize::try_from(value).map_err(io::Error::other);
        self.0.advise_range(memmap2::Advice::PopulateWrite, to_usize(offset)?, to_usize(len)?)
    }

    /// There is no such call: the caller goes on with positioned writes.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn populate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        let _ = &self.0;
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_copied_is_in_the_file() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.set_len(10_000).expect("its length");
        let mut map = Map::new(&file, 10_000).expect("a mapping");
        map.write(9_995, b"tail!");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("its bytes");
        assert_eq!((bytes.len(), &bytes[9_995..]), (10_000, &b"tail!"[..]));
    }

    #[test]
    #[should_panic(expected = "within the mapping")]
    fn a_copy_past_the_end_is_refused() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(10).expect("its length");
        Map::new(&file, 10).expect("a mapping").write(8, b"xyz");
    }
}
