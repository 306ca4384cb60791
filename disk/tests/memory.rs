//! The faults of [`MemoryDisk`]: what each may leave behind, and that it does leave the extremes behind.
//!
//! The model keeps, for each sector, every state since the last completed sync; whatever a power loss leaves must be one
//! of them. What both disks share is in `conformance.rs`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // a test that panics has failed, as it should

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gantry_core::io::{
    Disk, DiskError, Done, Extent, FetchId, FileId, FileKind, Residency, SyncId, SyncTarget,
};
use gantry_core::rng::Rng;
use gantry_core::time::WallMs;
use gantry_disk::{MemoryDisk, PendingKind, Ticket};
use proptest::prelude::*;

const SECTOR: usize = 512;

fn disk() -> MemoryDisk {
    MemoryDisk::new(Rng::from_seed(1))
}

fn extent(file: FileId, offset: u64, len: u32) -> Extent {
    Extent { file, offset, len }
}

fn reaped(disk: &mut MemoryDisk) -> Vec<Done> {
    let mut done = Vec::new();
    disk.reap(&mut done);
    done
}

/// Begins a sync, completes everything and takes the completions.
fn synced(disk: &mut MemoryDisk, target: SyncTarget) -> Vec<Done> {
    disk.sync(SyncId(0), target);
    disk.complete_all();
    reaped(disk)
}

/// A file whose entry and zeros are durable.
fn durable_file(disk: &mut MemoryDisk, path: &str, len: u64, kind: FileKind) -> FileId {
    let file = disk.create(path, len, kind).unwrap();
    synced(disk, SyncTarget::File(file));
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    synced(disk, SyncTarget::Dir(dir.to_owned()));
    file
}

/// What power losses of many seeds make of a disk.
fn outcomes<T: Ord>(disk: &MemoryDisk, seeds: u64, look: impl Fn(&mut MemoryDisk) -> T) -> BTreeSet<T> {
    (0..seeds)
        .map(|seed| {
            let mut lost = disk.clone();
            lost.power_loss(&mut Rng::from_seed(seed));
            look(&mut lost)
        })
        .collect()
}

#[test]
fn a_gigabyte_costs_nothing_until_it_is_written() {
    let mut disk = disk();
    for n in 0..1000 {
        let file = disk.create(&format!("commitlog/{n:020}"), 1 << 30, FileKind::Log).unwrap();
        disk.write(file, (1 << 30) - 3, b"end").unwrap();
    }
    assert_eq!(disk.files().count(), 1000);
}

#[test]
fn process_death_keeps_what_was_written() {
    let mut disk = disk();
    let file = disk.create("a/log", 10_000, FileKind::Log).unwrap();
    disk.write(file, 4_090, b"0123456789").unwrap();
    disk.sync(SyncId(1), SyncTarget::File(file));
    let digest = disk.digest();
    disk.kill();
    assert!(disk.is_dead());
    assert_eq!(disk.write(file, 0, b"x"), Err(DiskError::Io));
    assert_eq!(disk.stat("a/log"), Err(DiskError::Io));
    assert_eq!(reaped(&mut disk), []);
    disk.revive();
    assert_eq!(disk.digest(), digest);
    assert_eq!(disk.len(file), Err(DiskError::NotFound));
    assert_eq!(disk.pending().count(), 0);
    let file = disk.open("a/log", FileKind::Log).unwrap();
    let mut out = Vec::new();
    assert_eq!(disk.read(extent(file, 4_090, 10), &mut out), Ok(Residency::Resident));
    assert_eq!(out, b"0123456789");
}

#[test]
fn a_death_cuts_the_write_it_falls_into() {
    let mut cuts = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = MemoryDisk::new(Rng::from_seed(seed));
        let file = disk.create("log", 100, FileKind::Log).unwrap();
        disk.kill_at_operation(2);
        assert_eq!(disk.write(file, 0, &[1; 10]), Ok(()));
        assert_eq!(disk.write(file, 10, &[2; 10]), Err(DiskError::Io));
        assert_eq!(disk.write(file, 20, &[3; 10]), Err(DiskError::Io));
        disk.revive();
        let bytes = disk.peek("log").unwrap();
        let cut = bytes.iter().filter(|byte| **byte == 2).count();
        assert_eq!(bytes[..10 + cut], [&[1; 10], &[2; 10][..cut]].concat());
        assert!(bytes[10 + cut..].iter().all(|byte| *byte == 0));
        cuts.insert(cut);
    }
    assert_eq!(cuts, (0..=10).collect());
}

#[test]
fn a_death_in_a_creation_leaves_none_or_a_part_or_the_whole() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = MemoryDisk::new(Rng::from_seed(seed));
        disk.kill_at_operation(1);
        assert_eq!(disk.create("log", 3 * 4096, FileKind::Log), Err(DiskError::Io));
        disk.revive();
        seen.insert(disk.stat("log").unwrap().map(|entry| entry.len / 4096));
    }
    assert_eq!(seen, [None, Some(0), Some(1), Some(2), Some(3)].into());
}

#[test]
fn a_death_in_an_operation_does_it_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let mut disk = MemoryDisk::new(Rng::from_seed(seed));
        disk.create("a", 0, FileKind::Journal).unwrap();
        disk.kill_at_operation(1);
        assert_eq!(disk.rename("a", "b"), Err(DiskError::Io));
        disk.revive();
        seen.insert(disk.files().map(|(path, _)| path).collect::<Vec<_>>());
    }
    assert_eq!(seen, BTreeSet::from([vec!["a".to_owned()], vec!["b".to_owned()]]));
}

#[test]
fn power_loss_loses_any_subset_of_pages_and_tears_them() {
    let mut disk = disk();
    let file = durable_file(&mut disk, "log", 3 * 4096, FileKind::Log);
    for page in 0..3 {
        disk.write(file, page * 4096, &[7; 4096]).unwrap();
    }
    let seen = outcomes(&disk, 400, |disk| {
        let bytes = disk.peek("log").unwrap();
        bytes.chunks(SECTOR).map(|sector| sector[0] == 7 && sector[SECTOR - 1] == 7).collect::<Vec<_>>()
    });
    for subset in 0..8_u32 {
        let whole: Vec<bool> = (0..24).map(|sector| subset >> (sector / 8) & 1 == 1).collect();
        assert!(seen.contains(&whole), "{subset:03b} was never left");
    }
    assert!(seen.len() > 50, "pages are torn in many ways: {}", seen.len());
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let mut disk = disk();
    let file = durable_file(&mut disk, "log", 100, FileKind::Log);
    disk.write(file, 0, b"before").unwrap();
    disk.sync(SyncId(1), SyncTarget::File(file));
    disk.write(file, 10, b"after").unwrap();
    assert!(disk.complete(Ticket::Sync(SyncId(1)), Ok(())));
    assert_eq!(reaped(&mut disk), [Done::Synced(SyncId(1), Ok(()))]);
    disk.sync(SyncId(2), SyncTarget::File(file));
    assert_eq!(disk.pending().map(|pending| pending.bytes).collect::<Vec<_>>(), [5]);
    let seen = outcomes(&disk, 50, |disk| {
        let bytes = disk.peek("log").unwrap();
        assert_eq!(&bytes[..6], b"before");
        bytes[10..15].to_vec()
    });
    assert_eq!(seen, BTreeSet::from([vec![0; 5], b"after".to_vec()]));
}

#[test]
fn syncs_of_files_complete_in_any_order() {
    let mut disk = disk();
    let a = durable_file(&mut disk, "a", 10, FileKind::Table);
    let b = durable_file(&mut disk, "b", 10, FileKind::Table);
    disk.write(a, 0, b"a").unwrap();
    disk.write(b, 0, b"b").unwrap();
    disk.sync(SyncId(1), SyncTarget::File(a));
    disk.sync(SyncId(2), SyncTarget::File(b));
    let pending: Vec<_> = disk.pending().map(|p| (p.ticket, p.kind, p.bytes)).collect();
    assert_eq!(
        pending,
        [(Ticket::Sync(SyncId(1)), PendingKind::File, 1), (Ticket::Sync(SyncId(2)), PendingKind::File, 1)]
    );
    disk.complete(Ticket::Sync(SyncId(2)), Ok(()));
    assert!(!disk.complete(Ticket::Sync(SyncId(2)), Ok(())));
    let seen = outcomes(&disk, 50, |disk| (disk.peek("a").unwrap()[0], disk.peek("b").unwrap()[0]));
    assert_eq!(seen, BTreeSet::from([(0, b'b'), (b'a', b'b')]));
}

#[test]
fn entries_are_durable_after_the_sync_of_their_directory() {
    let mut disk = disk();
    let file = disk.create("d/e/new", 4096, FileKind::Log).unwrap();
    synced(&mut disk, SyncTarget::File(file));
    let seen = outcomes(&disk, 100, |disk| disk.stat("d/e/new").unwrap().is_some());
    assert_eq!(seen, BTreeSet::from([false, true]));
    synced(&mut disk, SyncTarget::Dir("d/e".to_owned()));
    let seen = outcomes(&disk, 100, |disk| disk.stat("d/e/new").unwrap().is_some());
    assert_eq!(seen, BTreeSet::from([true]));
    disk.delete("d/e/new").unwrap();
    let seen = outcomes(&disk, 100, |disk| disk.peek("d/e/new").map(|bytes| bytes.len()));
    assert_eq!(seen, BTreeSet::from([None, Some(4096)]));
    synced(&mut disk, SyncTarget::Dir("d/e".to_owned()));
    let seen = outcomes(&disk, 100, |disk| disk.peek("d/e/new"));
    assert_eq!(seen, BTreeSet::from([None]));
}

#[test]
fn a_name_keeps_a_prefix_of_its_changes() {
    let mut disk = disk();
    durable_file(&mut disk, "a", 1, FileKind::Table);
    disk.rename("a", "b").unwrap();
    disk.rename("b", "c").unwrap();
    let second = disk.create("a", 2, FileKind::Table).unwrap();
    synced(&mut disk, SyncTarget::File(second));
    let look =
        |disk: &mut MemoryDisk| disk.files().map(|(path, len)| format!("{path}{len}")).collect::<String>();
    // The file itself is always there, under one of its names, and never in two places.
    assert_eq!(outcomes(&disk, 300, look), ["a1", "b1", "c1", "a2b1", "a2c1"].map(str::to_owned).into());
}

#[test]
fn a_sync_of_a_directory_covers_what_was_before_it_began() {
    let mut disk = disk();
    disk.create("d/a", 1, FileKind::Table).unwrap();
    disk.sync(SyncId(1), SyncTarget::Dir("d".to_owned()));
    disk.create("d/b", 1, FileKind::Table).unwrap();
    disk.complete_all();
    let look =
        |disk: &mut MemoryDisk| (disk.stat("d/a").unwrap().is_some(), disk.stat("d/b").unwrap().is_some());
    assert_eq!(outcomes(&disk, 50, look), BTreeSet::from([(true, false), (true, true)]));
}

#[test]
fn a_directory_made_again_has_nothing_of_the_one_before() {
    let mut disk = disk();
    durable_file(&mut disk, "T/1/old", 10, FileKind::Log);
    for path in ["T/1/old", "T/1", "T"] {
        disk.delete(path).unwrap();
    }
    let names = |disk: &mut MemoryDisk| disk.files().map(|(path, _)| path).collect::<Vec<_>>();
    let seen = outcomes(&disk, 100, names);
    assert!(seen.contains(&vec!["T/1/old".to_owned()]), "nothing of the removal is durable: {seen:?}");

    let file = disk.create("T/2/new", 10, FileKind::Log).unwrap();
    let seen = outcomes(&disk, 200, names);
    assert!(!seen.contains(&vec!["T/1/old".to_owned(), "T/2/new".to_owned()]), "{seen:?}");
    synced(&mut disk, SyncTarget::File(file));
    synced(&mut disk, SyncTarget::Dir("T/2".into()));
    assert_eq!(outcomes(&disk, 100, names), BTreeSet::from([vec!["T/2/new".to_owned()]]));
}

#[test]
fn a_creation_that_was_not_synced_may_have_any_length() {
    let mut disk = disk();
    disk.create("log", 4 * 4096, FileKind::Log).unwrap();
    synced(&mut disk, SyncTarget::Dir(String::new()));
    let seen = outcomes(&disk, 300, |disk| disk.peek("log").unwrap().len() / 4096);
    assert_eq!(seen, (0..=4).collect());
}

#[test]
fn a_rename_is_one_step() {
    let mut disk = disk();
    durable_file(&mut disk, "a", 1, FileKind::Table);
    durable_file(&mut disk, "b", 2, FileKind::Table);
    disk.rename("a", "b").unwrap();
    let look = |disk: &mut MemoryDisk| disk.files().collect::<Vec<_>>();
    let old = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
    let new = vec![("b".to_owned(), 1)];
    assert_eq!(outcomes(&disk, 50, look), BTreeSet::from([old, new.clone()]));
    synced(&mut disk, SyncTarget::Dir(String::new()));
    assert_eq!(outcomes(&disk, 50, look), BTreeSet::from([new]));
}

#[test]
fn a_file_that_moves_between_directories_is_never_lost() {
    let mut disk = disk();
    durable_file(&mut disk, "x/f", 1, FileKind::Table);
    durable_file(&mut disk, "y/g", 1, FileKind::Table);
    disk.rename("x/f", "y/f").unwrap();
    let look = |disk: &mut MemoryDisk| (disk.peek("x/f").is_some(), disk.peek("y/f").is_some());
    assert_eq!(outcomes(&disk, 100, look), BTreeSet::from([(true, false), (true, true), (false, true)]));
    // Where both names are there, each is a file of its own.
    outcomes(&disk, 100, |disk| {
        if disk.stat("x/f").unwrap().is_some() && disk.stat("y/f").unwrap().is_some() {
            let open = disk.open("x/f", FileKind::Table).unwrap();
            disk.delete("y/f").unwrap();
            disk.write(open, 0, b"x").unwrap();
        }
    });
    let mut both = disk.clone();
    synced(&mut both, SyncTarget::Dir("y".to_owned()));
    assert_eq!(outcomes(&both, 100, look), BTreeSet::from([(true, true), (false, true)]));
    synced(&mut disk, SyncTarget::Dir("x".to_owned()));
    assert_eq!(outcomes(&disk, 100, look), BTreeSet::from([(false, true)]));
}

#[test]
fn a_replacement_is_wholly_old_or_wholly_new() {
    let mut disk = disk();
    disk.replace(SyncId(1), "config/x.json", Bytes::from_static(b"old"));
    disk.complete_all();
    assert_eq!(reaped(&mut disk), [Done::Synced(SyncId(1), Ok(()))]);
    disk.replace(SyncId(2), "config/x.json", Bytes::from_static(b"second"));
    disk.replace(SyncId(3), "config/x.json", Bytes::from_static(b"third one"));
    let all = BTreeSet::from([b"old".to_vec(), b"second".to_vec(), b"third one".to_vec()]);
    assert_eq!(outcomes(&disk, 100, |disk| disk.peek("config/x.json").unwrap()), all);
    let deaths: BTreeSet<_> = (0..100)
        .map(|seed| {
            let mut disk = MemoryDisk::new(Rng::from_seed(seed));
            disk.replace(SyncId(1), "x", Bytes::from_static(b"old"));
            disk.complete_all();
            disk.replace(SyncId(2), "x", Bytes::from_static(b"second"));
            disk.replace(SyncId(3), "x", Bytes::from_static(b"third one"));
            disk.revive();
            disk.peek("x").unwrap()
        })
        .collect();
    assert_eq!(deaths, all);
    // A later one that completes first has taken the earlier one's place.
    disk.complete(Ticket::Sync(SyncId(3)), Ok(()));
    disk.complete(Ticket::Sync(SyncId(2)), Ok(()));
    assert_eq!(
        outcomes(&disk, 50, |disk| disk.peek("config/x.json").unwrap()),
        BTreeSet::from([b"third one".to_vec()])
    );
}

#[test]
fn after_a_failed_sync_the_next_one_proves_nothing() {
    let mut disk = disk();
    let file = durable_file(&mut disk, "log", 2 * 4096, FileKind::Log);
    disk.write(file, 0, b"first").unwrap();
    disk.write(file, 4096, b"first").unwrap();
    disk.fail_syncs(1);
    assert_eq!(synced(&mut disk, SyncTarget::File(file)), [Done::Synced(SyncId(0), Err(DiskError::Io))]);
    // The first page is dirtied again and so written as a whole; the second is clean in the kernel's eyes.
    disk.write(file, 100, b"again").unwrap();
    assert_eq!(synced(&mut disk, SyncTarget::File(file)), [Done::Synced(SyncId(0), Ok(()))]);
    let seen = outcomes(&disk, 50, |disk| {
        let bytes = disk.peek("log").unwrap();
        assert_eq!((&bytes[..5], &bytes[100..105]), (&b"first"[..], &b"again"[..]));
        bytes[4096] == b'f'
    });
    assert_eq!(seen, BTreeSet::from([false, true]));
    let restarts: BTreeSet<bool> = (0..50)
        .map(|seed| {
            let mut disk = MemoryDisk::new(Rng::from_seed(seed));
            let file = durable_file(&mut disk, "log", 4096, FileKind::Log);
            disk.write(file, 0, b"first").unwrap();
            disk.fail_syncs(1);
            synced(&mut disk, SyncTarget::File(file));
            disk.revive();
            disk.peek("log").unwrap()[0] == b'f'
        })
        .collect();
    assert_eq!(restarts, BTreeSet::from([false, true]), "a restart may find the page evicted");
}

#[test]
fn a_lying_sync_makes_nothing_durable() {
    let mut disk = disk();
    let file = durable_file(&mut disk, "log", 100, FileKind::Log);
    disk.write(file, 0, b"x").unwrap();
    disk.lie_syncs(1);
    assert_eq!(synced(&mut disk, SyncTarget::File(file)), [Done::Synced(SyncId(0), Ok(()))]);
    let look = |disk: &mut MemoryDisk| disk.peek("log").unwrap()[0];
    assert_eq!(outcomes(&disk, 50, look), BTreeSet::from([0, b'x']));
    synced(&mut disk, SyncTarget::File(file));
    assert_eq!(outcomes(&disk, 50, look), BTreeSet::from([b'x']));
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let mut disk = disk();
    disk.set_capacity(3 * 4096);
    let log = disk.create("log", 2 * 4096, FileKind::Log).unwrap();
    assert_eq!(disk.create("more", 2 * 4096, FileKind::Log), Err(DiskError::Full));
    assert_eq!(disk.stat("more"), Ok(None));
    let journal = disk.create("journal", 0, FileKind::Journal).unwrap();
    disk.write(journal, 0, &[1; 4096]).unwrap();
    assert_eq!(disk.space().unwrap().free, 0);
    assert_eq!(disk.write(journal, 4096, b"x"), Err(DiskError::Full));
    assert_eq!(disk.truncate(log, 3 * 4096), Err(DiskError::Full));
    disk.write(log, 0, &[1; 8192]).unwrap();
    disk.replace(SyncId(1), "x", Bytes::from_static(b"x"));
    disk.complete_all();
    assert_eq!(reaped(&mut disk), [Done::Synced(SyncId(1), Err(DiskError::Full))]);
    disk.delete("journal").unwrap();
    disk.replace(SyncId(2), "x", Bytes::from_static(b"x"));
    disk.complete_all();
    assert_eq!(reaped(&mut disk), [Done::Synced(SyncId(2), Ok(()))]);
}

#[test]
fn without_descriptors_nothing_is_opened_and_what_is_open_works() {
    let mut disk = disk();
    let log = disk.create("log", 4096, FileKind::Log).unwrap();
    disk.set_no_descriptors(1000);
    let none = DiskError::NoDescriptors;
    assert_eq!(disk.create("more", 4096, FileKind::Log), Err(none));
    assert_eq!(disk.stat("more"), Ok(None));
    assert_eq!(disk.open("log", FileKind::Log), Err(none));
    assert_eq!(disk.list(""), Err(none));
    assert_eq!(disk.read_small("log", 4096), Err(none));
    disk.write(log, 0, b"x").unwrap();
    disk.replace(SyncId(1), "x", Bytes::from_static(b"x"));
    disk.sync(SyncId(2), SyncTarget::Dir(String::new()));
    disk.sync(SyncId(3), SyncTarget::File(log));
    disk.complete_all();
    let ended = [
        Done::Synced(SyncId(1), Err(none)),
        Done::Synced(SyncId(2), Err(none)),
        Done::Synced(SyncId(3), Ok(())),
    ];
    assert_eq!(reaped(&mut disk), ended);
    disk.set_no_descriptors(0);
    assert_eq!(disk.stat("x"), Ok(None));
    assert!(disk.create("more", 4096, FileKind::Log).is_ok());
}

#[test]
fn cold_pages_are_fetched_and_stay_until_released() {
    let mut disk = disk();
    disk.set_cold_ratio(1000);
    let file = disk.create("log", 3 * 4096, FileKind::Log).unwrap();
    disk.write(file, 4096, b"hot").unwrap();
    let mut out = b"kept".to_vec();
    assert_eq!(disk.read(extent(file, 4096, 3), &mut out), Ok(Residency::Resident));
    assert_eq!(out, b"kepthot");
    assert_eq!(reaped(&mut disk), []);
    assert_eq!(disk.read(extent(file, 4096, 3), &mut out), Ok(Residency::NotResident));
    assert_eq!(out, b"kepthot");
    disk.fetch(FetchId(1), extent(file, 4000, 200));
    assert_eq!(disk.read(extent(file, 4096, 3), &mut out), Ok(Residency::NotResident));
    disk.complete_all();
    assert_eq!(reaped(&mut disk), [Done::Fetched(FetchId(1), Ok(()))]);
    assert_eq!(disk.read(extent(file, 4050, 100), &mut out), Ok(Residency::Resident));
    assert_eq!(disk.read(extent(file, 8192, 1), &mut out), Ok(Residency::NotResident));
    disk.release(FetchId(1));
    assert_eq!(disk.read(extent(file, 4050, 100), &mut out), Ok(Residency::NotResident));
}

#[test]
fn errors_come_when_ordered() {
    let mut disk = disk();
    let file = disk.create("log", 4096, FileKind::Log).unwrap();
    disk.fail_writes(1);
    assert_eq!(disk.write(file, 0, b"x"), Err(DiskError::Io));
    assert_eq!(disk.write(file, 0, b"x"), Ok(()));
    disk.fail_reads(1);
    assert_eq!(disk.read(extent(file, 0, 1), &mut Vec::new()), Err(DiskError::Io));
    assert_eq!(disk.read(extent(file, 0, 1), &mut Vec::new()), Ok(Residency::Resident));
    assert!(disk.damage_sector("log", 600));
    assert_eq!(disk.read(extent(file, 0, 512), &mut Vec::new()), Ok(Residency::Resident));
    reaped(&mut disk);
    assert_eq!(disk.read(extent(file, 0, 513), &mut Vec::new()), Ok(Residency::NotResident));
    assert_eq!(disk.read_small("log", 4096), Err(DiskError::Io));
    disk.fetch(FetchId(1), extent(file, 1000, 1));
    disk.complete_all();
    assert_eq!(reaped(&mut disk), [Done::Fetched(FetchId(1), Err(DiskError::Io))]);
    disk.write(file, 512, &[0; 512]).unwrap();
    reaped(&mut disk);
    assert_eq!(disk.read(extent(file, 0, 4096), &mut Vec::new()), Ok(Residency::Resident));
    assert!(disk.flip_bit("log", 9, 3));
    assert_eq!(disk.peek("log").unwrap()[9], 8);
    assert!(!disk.flip_bit("log", 4096, 0));
}

#[test]
fn files_bear_the_wall_time_of_their_last_write() {
    let mut disk = disk();
    disk.set_wall(WallMs(5));
    let file = disk.create("log", 10, FileKind::Log).unwrap();
    assert_eq!(disk.stat("log").unwrap().unwrap().modified, WallMs(5));
    disk.set_wall(WallMs(7));
    disk.write(file, 0, b"x").unwrap();
    assert_eq!(disk.list("").unwrap()[0].modified, WallMs(7));
}

#[test]
fn a_digest_tells_what_is_there_and_not_how_it_came() {
    let (mut one, mut other) = (disk(), disk());
    let file = one.create("log", 10_000, FileKind::Log).unwrap();
    one.write(file, 5_000, b"x").unwrap();
    let file = other.create("log", 9_000, FileKind::Log).unwrap();
    other.truncate(file, 10_000).unwrap();
    other.write(file, 0, b"y").unwrap();
    assert_ne!(one.digest(), other.digest());
    other.write(file, 0, &[0]).unwrap();
    assert_ne!(one.digest(), other.digest());
    other.write(file, 5_000, b"x").unwrap();
    assert_eq!(one.digest(), other.digest());
    other.rename("log", "gol").unwrap();
    assert_ne!(one.digest(), other.digest());
}

/// One step of a file's life.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: usize },
    Append { len: usize },
    Truncate { len: u64 },
    BeginSync,
    CompleteSync,
    FailSync,
    PowerLoss { seed: u64 },
    Death,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_000_u64, 1..6_000_usize).prop_map(|(offset, len)| Step::Write { offset, len }),
        6 => (1..5_000_usize).prop_map(|len| Step::Append { len }),
        2 => (0..14_000_u64).prop_map(|len| Step::Truncate { len }),
        2 => Just(Step::BeginSync),
        3 => Just(Step::CompleteSync),
        1 => Just(Step::FailSync),
        2 => any::<u64>().prop_map(|seed| Step::PowerLoss { seed }),
        1 => Just(Step::Death),
    ];
    prop::collection::vec(step, 1..40)
}

/// Every state of a file since its last completed sync, oldest first: the durable one, then one after each change.
struct Versions {
    states: Vec<Vec<u8>>,
    /// The state that the running sync covers, as an index into `states`.
    syncing: Option<usize>,
    failed: bool,
}

impl Versions {
    fn new(bytes: Vec<u8>) -> Versions {
        Versions { states: vec![bytes], syncing: None, failed: false }
    }

    fn now(&self) -> &Vec<u8> {
        &self.states[self.states.len() - 1]
    }

    fn change(&mut self, act: impl FnOnce(&mut Vec<u8>)) {
        let mut next = self.now().clone();
        act(&mut next);
        self.states.push(next);
    }

    /// Whether each sector of `bytes` and its length are those of some state.
    fn check(&self, bytes: &[u8]) {
        assert!(
            self.states.iter().any(|state| state.len() == bytes.len()),
            "length {} never was",
            bytes.len()
        );
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            let is_of = |state: &Vec<u8>| {
                let from = (index * SECTOR).min(state.len());
                let mut then = state[from..(from + SECTOR).min(state.len())].to_vec();
                then.resize(SECTOR, 0);
                then[..sector.len()] == *sector
            };
            assert!(self.states.iter().any(is_of), "sector {index} never was so");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_loss_leaves_only_states_that_were(steps in steps()) {
        let mut disk = disk();
        let mut file = durable_file(&mut disk, "f", 0, FileKind::Journal);
        let mut model = Versions::new(Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            let fill = index as u8 + 1;
            match step {
                Step::Write { offset, len } => {
                    let fits = offset + len as u64 <= model.now().len() as u64;
                    let end = if fits { Ok(()) } else { Err(DiskError::OutOfRange) };
                    if offset != model.now().len() as u64 {
                        prop_assert_eq!(disk.write(file, offset, &vec![fill; len]), end);
                        if fits {
                            model.change(|bytes| bytes[offset as usize..][..len].fill(fill));
                        }
                    }
                }
                Step::Append { len } => {
                    disk.write(file, model.now().len() as u64, &vec![fill; len]).unwrap();
                    model.change(|bytes| bytes.resize(bytes.len() + len, fill));
                }
                Step::Truncate { len } => {
                    disk.truncate(file, len).unwrap();
                    model.change(|bytes| bytes.resize(len as usize, 0));
                }
                Step::BeginSync if model.syncing.is_none() => {
                    disk.sync(SyncId(9), SyncTarget::File(file));
                    model.syncing = Some(model.states.len() - 1);
                }
                Step::CompleteSync if model.syncing.is_some() => {
                    disk.complete(Ticket::Sync(SyncId(9)), Ok(()));
                    // After a failure the older states stay possible, whatever later syncs say.
                    if let Some(point) = model.syncing.take().filter(|_| !model.failed) {
                        model.states.drain(..point);
                    }
                }
                Step::FailSync if model.syncing.is_some() => {
                    disk.complete(Ticket::Sync(SyncId(9)), Err(DiskError::Io));
                    model.syncing = None;
                    model.failed = true;
                }
                Step::BeginSync | Step::CompleteSync | Step::FailSync => {}
                Step::PowerLoss { .. } | Step::Death => {
                    match step {
                        Step::PowerLoss { seed } => disk.power_loss(&mut Rng::from_seed(seed)),
                        _ => disk.revive(),
                    }
                    let left = disk.peek("f").unwrap();
                    model.check(&left);
                    if matches!(step, Step::PowerLoss { .. }) {
                        model = Versions::new(left);
                    } else {
                        prop_assert!(model.failed || left == *model.now());
                        model.syncing = None;
                        model.states.push(left);
                    }
                    file = disk.open("f", FileKind::Journal).unwrap();
                }
            }
            prop_assert!(model.failed || disk.peek("f").unwrap() == *model.now());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_disk(seed: u64, steps in steps()) {
        let run = || {
            let mut disk = MemoryDisk::new(Rng::from_seed(seed));
            let mut file = disk.create("f", 0, FileKind::Journal).unwrap();
            let mut digests = BTreeMap::new();
            for (index, step) in steps.iter().enumerate() {
                match *step {
                    Step::Append { len } => disk.write(file, disk.len(file).unwrap(), &vec![7; len]).unwrap(),
                    Step::Truncate { len } => disk.truncate(file, len).unwrap(),
                    Step::PowerLoss { seed } => {
                        disk.power_loss(&mut Rng::from_seed(seed));
                        let again = |disk: &mut MemoryDisk| disk.create("f", 0, FileKind::Journal).unwrap();
                        file = disk.open("f", FileKind::Journal).unwrap_or_else(|_| again(&mut disk));
                    }
                    _ => {}
                }
                digests.insert(index, disk.digest());
            }
            digests
        };
        prop_assert_eq!(run(), run());
    }
}
