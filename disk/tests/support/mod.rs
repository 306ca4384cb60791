//! What the suites need of a disk beyond the contract.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // shared by several test binaries, none of which uses all

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gantry_core::io::{Disk, Done};
use gantry_core::rng::Rng;
use gantry_disk::{LogWrite, MappedDisk, MappedOptions, MemoryDisk};
use tempfile::TempDir;

/// A completion that takes longer has got lost.
const COMPLETION_WAIT: Duration = Duration::from_secs(60);

/// A disk under test.
pub trait TestDisk {
    type D: Disk;
    /// An empty disk.
    fn new() -> Self;
    fn disk(&mut self) -> &mut Self::D;
    /// Waits for `count` completions, and there must be no more.
    fn finish(&mut self, count: usize) -> Vec<Done>;
    /// The process dies and a new one begins.
    fn restart(&mut self);
    /// Drives a synced file out of memory, which may need several attempts; false when that cannot be done here.
    fn cool(&mut self, path: &str) -> bool;
}

pub struct Memory(pub MemoryDisk);

impl TestDisk for Memory {
    type D = MemoryDisk;

    fn new() -> Memory {
        Memory(MemoryDisk::new(Rng::from_seed(1)))
    }

    fn disk(&mut self) -> &mut MemoryDisk {
        &mut self.0
    }

    fn finish(&mut self, count: usize) -> Vec<Done> {
        let mut done = Vec::new();
        self.0.complete_all();
        self.0.reap(&mut done);
        assert_eq!(done.len(), count);
        done
    }

    fn restart(&mut self) {
        self.0.kill();
        self.0.revive();
    }

    fn cool(&mut self, _path: &str) -> bool {
        self.0.set_cold_ratio(1000);
        // What was written in a turn is warm until the next one.
        self.0.reap(&mut Vec::new());
        true
    }
}

/// The production disk, its logs written through a mapping.
pub struct Mapped {
    disk: Option<MappedDisk>,
    woken: Receiver<()>,
    root: TempDir,
    options: MappedOptions,
}

impl Mapped {
    pub fn with(options: MappedOptions) -> Mapped {
        let root = tempfile::tempdir().unwrap();
        let (disk, woken) = open(root.path(), &options);
        Mapped { disk: Some(disk), woken, root, options }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

pub fn open(root: &Path, options: &MappedOptions) -> (MappedDisk, Receiver<()>) {
    let (sender, woken) = channel();
    let waker = Arc::new(move || {
        let _ = sender.send(());
    });
    (MappedDisk::open(root, options.clone(), waker).unwrap(), woken)
}

impl TestDisk for Mapped {
    type D = MappedDisk;

    fn new() -> Mapped {
        // Small bounds, so that they are met.
        Mapped::with(MappedOptions {
            log_write: LogWrite::Mapped,
            window_bytes: 1 << 20,
            descriptors_max: 3,
            fetchers: 2,
            fetched_bytes_max: 6_000,
        })
    }

    fn disk(&mut self) -> &mut MappedDisk {
        self.disk.as_mut().unwrap()
    }

    fn finish(&mut self, count: usize) -> Vec<Done> {
        let mut done = Vec::new();
        while done.len() < count {
            self.woken.recv_timeout(COMPLETION_WAIT).unwrap();
            let before = done.len();
            self.disk().reap(&mut done);
            for done in &done[before..] {
                if let Done::Fetched(id, Ok(())) = done
                    && count > 100
                {
                    // More than fits in the budget is only ever released by taking it.
                    self.disk().release(*id);
                }
            }
        }
        self.disk().reap(&mut done);
        assert_eq!(done.len(), count);
        done
    }

    fn restart(&mut self) {
        self.disk = None;
        let (disk, woken) = open(self.root.path(), &self.options);
        (self.disk, self.woken) = (Some(disk), woken);
    }

    #[cfg(target_os = "linux")]
    fn cool(&mut self, path: &str) -> bool {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let file = std::fs::File::open(self.root.path().join(path)).unwrap();
        let mut byte = [0];
        let asked = preadv2(&file, &mut [std::io::IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT);
        if asked == Err(Errno::OPNOTSUPP) {
            skip("this file system cannot tell what is in memory: cold reads are not tested");
            return false;
        }
        file.sync_data().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        true
    }

    #[cfg(not(target_os = "linux"))]
    fn cool(&mut self, _path: &str) -> bool {
        skip("this system cannot tell what is in memory: cold reads are not tested");
        false
    }
}

/// The production disk, its logs written by system call.
pub struct Pwritten(Mapped);

impl TestDisk for Pwritten {
    type D = MappedDisk;

    fn new() -> Pwritten {
        Pwritten(Mapped::with(MappedOptions { log_write: LogWrite::Pwrite, ..MappedOptions::default() }))
    }

    fn disk(&mut self) -> &mut MappedDisk {
        self.0.disk()
    }

    fn finish(&mut self, count: usize) -> Vec<Done> {
        self.0.finish(count)
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn cool(&mut self, path: &str) -> bool {
        self.0.cool(path)
    }
}

/// Says what is not tested, past the capture of test output.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
