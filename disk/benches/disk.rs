//! What the disks cost. `cargo bench -p gantry-disk [-- PART]` prints one line a measurement: the median of several
//! rounds in which the alternatives take turns, since only ratios within one run mean anything on a shared machine.
#![allow(clippy::unwrap_used)] // a measurement that cannot be taken should stop the run

use std::time::Instant;
#[cfg(unix)]
use std::{
    sync::Arc,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use gantry_core::io::{Disk, Extent, FileKind, SyncId, SyncTarget};
#[cfg(unix)]
use gantry_core::io::{FileId, Residency};
use gantry_core::rng::Rng;
use gantry_disk::MemoryDisk;
#[cfg(unix)]
use gantry_disk::{LogWrite, MappedDisk, MappedOptions};

const ROUNDS: usize = 9;

/// Nanoseconds an iteration of `act`.
fn timed(iterations: u32, mut act: impl FnMut(u32)) -> f64 {
    let start = Instant::now();
    for n in 0..iterations {
        act(n);
    }
    start.elapsed().as_nanos() as f64 / f64::from(iterations)
}

/// Runs the alternatives in turns and prints the median of each.
fn compare(part: &str, alternatives: &mut [(&str, &mut dyn FnMut() -> f64)]) {
    if std::env::args().skip(1).any(|arg| !arg.starts_with('-') && !part.contains(&arg)) {
        return;
    }
    let mut taken = vec![Vec::new(); alternatives.len()];
    for _ in 0..ROUNDS {
        for (times, (_, act)) in taken.iter_mut().zip(alternatives.iter_mut()) {
            times.push(act());
        }
    }
    for (times, (name, _)) in taken.iter_mut().zip(alternatives) {
        times.sort_by(f64::total_cmp);
        println!(
            "{part:24} {name:44} {:10.0} ns  ({:.0} to {:.0})",
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS - 1]
        );
    }
}

fn memory() {
    const APPENDS: u32 = 20_000;
    let body = [7; 200];
    let disk = || MemoryDisk::new(Rng::from_seed(1));
    let sync_every = |every: u32| {
        move || {
            let mut disk = disk();
            let file = disk.create("log", 1 << 30, FileKind::Log).unwrap();
            let mut done = Vec::new();
            timed(APPENDS, |n| {
                disk.write(file, u64::from(n) * 200, &body).unwrap();
                if n % every == every - 1 {
                    disk.sync(SyncId(u64::from(n)), SyncTarget::File(file));
                    disk.complete_all();
                    done.clear();
                    disk.reap(&mut done);
                }
            })
        }
    };
    let mut read = || {
        let mut disk = disk();
        let file = disk.create("log", 1 << 20, FileKind::Log).unwrap();
        disk.write(file, 0, &[7; 1 << 20]).unwrap();
        let mut out = Vec::new();
        timed(APPENDS, |n| {
            out.clear();
            let at = Extent { file, offset: u64::from(n % 5000) * 200, len: 200 };
            disk.read(at, &mut out).unwrap();
        })
    };
    let mut lose = || {
        let mut lost = disk();
        let file = lost.create("log", 1 << 20, FileKind::Log).unwrap();
        for n in 0..500 {
            lost.write(file, n * 200, &body).unwrap();
        }
        let mut copies = vec![lost; 100];
        timed(100, |n| copies[n as usize].power_loss(&mut Rng::from_seed(u64::from(n))))
    };
    compare(
        "memory",
        &mut [
            ("append 200 B, never synced", &mut sync_every(u32::MAX)),
            ("append 200 B, synced every 16", &mut sync_every(16)),
            ("append 200 B + sync + complete + reap", &mut sync_every(1)),
            ("read 200 B", &mut read),
            ("power loss of 500 appends", &mut lose),
        ],
    );
}

/// A log of a gibibyte on a fresh production disk, and somebody who is woken.
#[cfg(unix)]
fn log(log_write: LogWrite) -> (tempfile::TempDir, MappedDisk, FileId, Receiver<()>) {
    let root = tempfile::tempdir().unwrap();
    let (sender, woken) = channel();
    let waker = Arc::new(move || sender.send(()).unwrap_or_default());
    let options = MappedOptions { log_write, ..MappedOptions::default() };
    let mut disk = MappedDisk::open(root.path(), options, waker).unwrap();
    let file = disk.create("log", 1 << 30, FileKind::Log).unwrap();
    (root, disk, file, woken)
}

/// Appends without a pause, after the window has had time to get ready.
#[cfg(unix)]
fn appends(log_write: LogWrite, len: usize, count: u32) -> f64 {
    let (_root, mut disk, file, _woken) = log(log_write);
    let body = vec![7; len];
    disk.write(file, 0, &body).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    timed(count, |n| disk.write(file, u64::from(n + 1) * len as u64, &body).unwrap())
}

/// Appends, each followed by a sync that is waited for.
#[cfg(unix)]
fn synced_appends(log_write: LogWrite, len: usize) -> f64 {
    let (_root, mut disk, file, woken) = log(log_write);
    let body = vec![7; len];
    let mut done = Vec::new();
    let mut append = |n: u32| {
        disk.write(file, u64::from(n) * len as u64, &body).unwrap();
        disk.sync(SyncId(u64::from(n)), SyncTarget::File(file));
        done.clear();
        while done.is_empty() {
            woken.recv().unwrap();
            disk.reap(&mut done);
        }
    };
    (0..50).for_each(&mut append);
    std::thread::sleep(Duration::from_millis(100));
    append(50);
    timed(200, |n| append(51 + n))
}

#[cfg(unix)]
fn mapped() {
    use LogWrite::{Mapped, Pwrite};
    compare(
        "log append",
        &mut [
            ("300 B mapped", &mut || appends(Mapped, 300, 20_000)),
            ("300 B pwrite", &mut || appends(Pwrite, 300, 20_000)),
            ("4.8 KB mapped", &mut || appends(Mapped, 4_800, 5_000)),
            ("4.8 KB pwrite", &mut || appends(Pwrite, 4_800, 5_000)),
        ],
    );
    compare(
        "log append + sync",
        &mut [
            ("300 B mapped", &mut || synced_appends(Mapped, 300)),
            ("300 B pwrite", &mut || synced_appends(Pwrite, 300)),
            ("64 KiB mapped", &mut || synced_appends(Mapped, 64 << 10)),
            ("64 KiB pwrite", &mut || synced_appends(Pwrite, 64 << 10)),
        ],
    );
    let (_root, mut disk, file, _woken) = log(Pwrite);
    disk.write(file, 0, &vec![7; 8 << 20]).unwrap();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut read = |len: u32, out: &mut Vec<u8>| {
        timed(20_000, |n| {
            out.clear();
            let at = Extent { file, offset: u64::from(n % 2_000) * 4096, len };
            assert_eq!(disk.read(at, out), Ok(Residency::Resident));
        })
    };
    let read = std::cell::RefCell::new(&mut read);
    compare(
        "read, warm",
        &mut [
            ("20 B", &mut || read.borrow_mut()(20, &mut one)),
            ("4 KiB", &mut || read.borrow_mut()(4096, &mut other)),
        ],
    );
    let (_root, mut disk, _file, _woken) = log(Pwrite);
    let mut created = 0;
    let mut create = || {
        timed(1, |_| {
            created += 1;
            disk.create(&created.to_string(), 1 << 30, FileKind::Log).unwrap();
        })
    };
    compare("segment", &mut [("create 1 GiB", &mut create)]);
    let mut delete = || {
        let file = disk.create("full", 256 << 20, FileKind::Log).unwrap();
        let bytes = vec![1; 1 << 20];
        (0..256).for_each(|n| disk.write(file, n << 20, &bytes).unwrap());
        timed(1, |_| disk.delete("full").unwrap())
    };
    compare("segment", &mut [("delete 256 MiB in memory", &mut delete)]);
}

fn main() {
    memory();
    #[cfg(unix)]
    mapped();
}
