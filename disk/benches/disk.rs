//! What the disks cost. `cargo bench -p gantry-disk [-- PART]` prints one line a measurement: the median of several
//! rounds in which the alternatives take turns, since only ratios within one run mean anything on a shared machine.
#![allow(clippy::unwrap_used)] // a measurement that cannot be taken should stop the run

use std::time::Instant;

use gantry_core::io::{Disk, Extent, FileKind, SyncId, SyncTarget};
use gantry_core::rng::Rng;
use gantry_disk::MemoryDisk;

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

fn main() {
    memory();
}
