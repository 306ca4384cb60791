//! One suite for every disk: what the contract of [`gantry_core::io::Disk`] says, by example. `model.rs` says it by
//! arbitrary operations.
#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod support;

use bytes::Bytes;
use gantry_core::io::{
    Disk, DiskError, Done, Extent, FetchId, FileId, FileKind, Residency, SyncId, SyncTarget,
};
use support::{Mapped, Memory, Pwritten, TestDisk};

/// Every case on every disk.
macro_rules! suite {
    ($($case:ident)*) => {
        mod memory { use super::*; $(#[test] fn $case() { super::$case(Memory::new()) })* }
        mod mapped { use super::*; $(#[test] fn $case() { super::$case(Mapped::new()) })* }
        mod pwritten { use super::*; $(#[test] fn $case() { super::$case(Pwritten::new()) })* }
    };
}

suite! {
    created_files_are_zeros_and_exclusive
    paths_stay_below_the_root
    writes_are_readable_at_once
    only_a_journal_grows_by_writing
    truncation_cuts_and_extends_with_zeros
    reads_are_checked_and_append
    names_of_closed_files_are_unknown
    a_file_open_twice_is_one_file
    rename_replaces_and_keeps_the_open_file
    rename_needs_a_file_and_a_directory
    delete_closes_and_spares_full_directories
    lists_are_sorted_and_tell_lengths
    a_small_file_is_read_whole_or_not_at_all
    syncs_complete_once_and_say_what_is_missing
    replacements_follow_each_other
    a_replaced_file_is_closed
    a_cold_extent_is_fetched_read_and_released
    a_fetched_extent_shows_what_was_written_since
    a_fetch_of_what_is_not_there_fails
    a_restart_keeps_what_was_written
    a_log_is_written_everywhere
    a_disk_has_room
}

fn extent(file: FileId, offset: u64, len: u32) -> Extent {
    Extent { file, offset, len }
}

/// Reads, fetching what is cold.
fn read<T: TestDisk>(test: &mut T, at: Extent) -> Vec<u8> {
    let mut out = Vec::new();
    if test.disk().read(at, &mut out).unwrap() == Residency::NotResident {
        test.disk().fetch(FetchId(u64::MAX), at);
        assert_eq!(test.finish(1), [Done::Fetched(FetchId(u64::MAX), Ok(()))]);
        assert_eq!(test.disk().read(at, &mut out), Ok(Residency::Resident));
        test.disk().release(FetchId(u64::MAX));
    }
    out
}

/// The bytes of a file that is not open.
fn content<T: TestDisk>(test: &mut T, path: &str) -> Result<Vec<u8>, DiskError> {
    test.disk().read_small(path, 1 << 20)
}

fn names<T: TestDisk>(test: &mut T, dir: &str) -> Vec<String> {
    test.disk().list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn created_files_are_zeros_and_exclusive(mut test: impl TestDisk) {
    let disk = test.disk();
    for (path, kind, len) in
        [("a/b/log", FileKind::Log, 10_000), ("table", FileKind::Table, 1), ("none", FileKind::Table, 0)]
    {
        let file = disk.create(path, len, kind).unwrap();
        assert_eq!(disk.len(file), Ok(len));
        assert_eq!(disk.create(path, len, kind), Err(DiskError::Exists));
    }
    let journal = disk.create("journal", 500, FileKind::Journal).unwrap();
    assert_eq!(disk.len(journal), Ok(0));
    assert_eq!(disk.create("a/b", 1, FileKind::Table), Err(DiskError::Exists));
    assert_eq!(disk.create("table/x", 1, FileKind::Table), Err(DiskError::Io));
    assert_eq!(content(&mut test, "a/b/log"), Ok(vec![0; 10_000]));
}

fn paths_stay_below_the_root(mut test: impl TestDisk) {
    for path in ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", ".x.replacing", "lock"] {
        let disk = test.disk();
        assert_eq!(disk.create(path, 1, FileKind::Table), Err(DiskError::Denied), "{path}");
        assert_eq!(disk.open(path, FileKind::Table), Err(DiskError::Denied), "{path}");
        assert_eq!(disk.delete(path), Err(DiskError::Denied), "{path}");
        assert_eq!(disk.rename("x", path), Err(DiskError::Denied), "{path}");
        assert_eq!(disk.rename(path, "x"), Err(DiskError::Denied), "{path}");
        assert_eq!(disk.read_small(path, 9), Err(DiskError::Denied), "{path}");
        if !path.is_empty() {
            assert_eq!(disk.list(path), Err(DiskError::Denied), "{path}");
            assert_eq!(disk.stat(path), Err(DiskError::Denied), "{path}");
        }
        disk.replace(SyncId(1), path, Bytes::from_static(b"x"));
        assert_eq!(test.finish(1), [Done::Synced(SyncId(1), Err(DiskError::Denied))], "{path}");
        assert!(test.disk().stat("").unwrap().unwrap().is_dir);
    }
    assert_eq!(names(&mut test, ""), [""; 0]);
}

fn writes_are_readable_at_once(mut test: impl TestDisk) {
    for kind in [FileKind::Log, FileKind::Table] {
        let path = format!("{kind:?}");
        let file = test.disk().create(&path, 20_000, kind).unwrap();
        let mut expect = vec![0; 20_000];
        for (offset, len, fill) in
            [(0, 1, 1), (4_090, 20, 2), (19_999, 1, 3), (100, 9_000, 4), (4_095, 1, 5), (7, 0, 6)]
        {
            test.disk().write(file, offset as u64, &vec![fill; len]).unwrap();
            expect[offset..offset + len].fill(fill);
            assert!(read(&mut test, extent(file, 0, 20_000)) == expect);
        }
        assert!(content(&mut test, &path).unwrap() == expect);
    }
}

fn only_a_journal_grows_by_writing(mut test: impl TestDisk) {
    let disk = test.disk();
    for kind in [FileKind::Log, FileKind::Table] {
        let file = disk.create(&format!("{kind:?}"), 100, kind).unwrap();
        for (offset, len) in [(100, 1), (99, 2), (101, 0), (u64::MAX, 2)] {
            assert_eq!(
                disk.write(file, offset, &vec![1; len]),
                Err(DiskError::OutOfRange),
                "{kind:?} {offset}"
            );
        }
        assert_eq!(disk.write(file, 100, b""), Ok(()));
        assert_eq!(disk.len(file), Ok(100));
    }
    let journal = disk.create("journal", 0, FileKind::Journal).unwrap();
    assert_eq!(disk.write(journal, 1, b"x"), Err(DiskError::OutOfRange));
    disk.write(journal, 0, b"one").unwrap();
    disk.write(journal, 3, b"two").unwrap();
    assert_eq!(disk.write(journal, 5, b"xx"), Err(DiskError::OutOfRange), "overlaps the end");
    disk.write(journal, 2, b"E").unwrap();
    assert_eq!(disk.len(journal), Ok(6));
    assert_eq!(content(&mut test, "journal"), Ok(b"onEtwo".to_vec()));
}

fn truncation_cuts_and_extends_with_zeros(mut test: impl TestDisk) {
    for kind in [FileKind::Log, FileKind::Table, FileKind::Journal] {
        let path = format!("{kind:?}");
        let file = test.disk().create(&path, 9_000, kind).unwrap();
        if kind == FileKind::Journal {
            test.disk().truncate(file, 9_000).unwrap();
        }
        test.disk().write(file, 0, &[7; 9_000]).unwrap();
        test.disk().truncate(file, 4_100).unwrap();
        assert_eq!(test.disk().len(file), Ok(4_100));
        assert_eq!(test.disk().read(extent(file, 4_100, 1), &mut Vec::new()), Err(DiskError::OutOfRange));
        test.disk().truncate(file, 9_500).unwrap();
        let expect = [vec![7; 4_100], vec![0; 5_400]].concat();
        assert!(read(&mut test, extent(file, 0, 9_500)) == expect);
        test.disk().write(file, 9_499, b"x").unwrap();
        test.disk().truncate(file, 0).unwrap();
        test.disk().truncate(file, 10).unwrap();
        assert_eq!(content(&mut test, &path), Ok(vec![0; 10]));
    }
}

fn reads_are_checked_and_append(mut test: impl TestDisk) {
    let disk = test.disk();
    let file = disk.create("log", 10, FileKind::Log).unwrap();
    disk.write(file, 0, b"0123456789").unwrap();
    let mut out = b"kept".to_vec();
    for (offset, len) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 1)] {
        assert_eq!(disk.read(extent(file, offset, len), &mut out), Err(DiskError::OutOfRange), "{offset}");
        assert_eq!(out, b"kept");
    }
    assert_eq!(disk.read(extent(file, 10, 0), &mut out), Ok(Residency::Resident));
    assert_eq!(disk.read(extent(file, 2, 3), &mut out), Ok(Residency::Resident));
    assert_eq!(out, b"kept234");
}

fn names_of_closed_files_are_unknown(mut test: impl TestDisk) {
    let disk = test.disk();
    let file = disk.create("log", 10, FileKind::Log).unwrap();
    disk.write(file, 0, b"x").unwrap();
    disk.close(file);
    disk.close(file);
    disk.close(FileId(77));
    assert_eq!(disk.len(file), Err(DiskError::NotFound));
    assert_eq!(disk.write(file, 0, b"x"), Err(DiskError::NotFound));
    assert_eq!(disk.truncate(file, 0), Err(DiskError::NotFound));
    assert_eq!(disk.read(extent(file, 0, 1), &mut Vec::new()), Err(DiskError::NotFound));
    let again = disk.open("log", FileKind::Log).unwrap();
    assert_ne!(again, file);
    assert_eq!(disk.len(file), Err(DiskError::NotFound));
    assert_eq!(read(&mut test, extent(again, 0, 2)), b"x\0");
    assert_eq!(test.disk().open("nothing", FileKind::Log), Err(DiskError::NotFound));
    test.disk().create("d/x", 0, FileKind::Table).unwrap();
    assert_eq!(test.disk().open("d", FileKind::Log), Err(DiskError::NotFound));
    assert_eq!(test.disk().open("log/x", FileKind::Log), Err(DiskError::NotFound));
}

fn a_file_open_twice_is_one_file(mut test: impl TestDisk) {
    let one = test.disk().create("f", 0, FileKind::Journal).unwrap();
    let other = test.disk().open("f", FileKind::Log).unwrap();
    test.disk().write(one, 0, b"abc").unwrap();
    assert_eq!(test.disk().len(other), Ok(3));
    test.disk().write(other, 1, b"B").unwrap();
    assert_eq!(read(&mut test, extent(one, 0, 3)), b"aBc");
    test.disk().close(one);
    assert_eq!(read(&mut test, extent(other, 0, 3)), b"aBc");
    test.disk().truncate(other, 1).unwrap();
    assert_eq!(content(&mut test, "f"), Ok(b"a".to_vec()));
}

fn rename_replaces_and_keeps_the_open_file(mut test: impl TestDisk) {
    let disk = test.disk();
    let old = disk.create("old", 0, FileKind::Journal).unwrap();
    disk.write(old, 0, b"old").unwrap();
    let new = disk.create("d/new", 0, FileKind::Journal).unwrap();
    disk.write(new, 0, b"new").unwrap();
    disk.rename("d/new", "old").unwrap();
    assert_eq!(disk.len(old), Err(DiskError::NotFound), "the target is closed");
    disk.write(new, 3, b"er").unwrap();
    disk.rename("old", "d/third").unwrap();
    disk.rename("d/third", "d/third").unwrap();
    disk.write(new, 5, b"!").unwrap();
    assert_eq!(content(&mut test, "d/third"), Ok(b"newer!".to_vec()));
    assert_eq!(read(&mut test, extent(new, 0, 6)), b"newer!");
    assert_eq!(names(&mut test, ""), ["d"]);
    // The name is free again.
    test.disk().create("old", 1, FileKind::Table).unwrap();
    test.disk().sync(SyncId(1), SyncTarget::File(new));
    assert_eq!(test.finish(1), [Done::Synced(SyncId(1), Ok(()))]);
}

fn rename_needs_a_file_and_a_directory(mut test: impl TestDisk) {
    let disk = test.disk();
    disk.create("d/x", 1, FileKind::Table).unwrap();
    disk.create("f", 1, FileKind::Table).unwrap();
    for (from, to, expect) in [
        ("nothing", "x", DiskError::NotFound),
        ("d", "e", DiskError::NotFound),
        ("f", "nowhere/f", DiskError::NotFound),
        ("f", "d", DiskError::Io),
        ("d/x", "f/x", DiskError::NotFound),
    ] {
        assert_eq!(disk.rename(from, to), Err(expect), "{from} to {to}");
    }
    assert_eq!(names(&mut test, ""), ["d", "f"]);
}

fn delete_closes_and_spares_full_directories(mut test: impl TestDisk) {
    let disk = test.disk();
    let file = disk.create("d/e/x", 64 << 20, FileKind::Log).unwrap();
    disk.write(file, 0, b"x").unwrap();
    assert_eq!(disk.delete("d/e"), Err(DiskError::Io));
    disk.delete("d/e/x").unwrap();
    assert_eq!(disk.len(file), Err(DiskError::NotFound));
    assert_eq!(disk.delete("d/e/x"), Err(DiskError::NotFound));
    assert_eq!(disk.stat("d/e/x"), Ok(None));
    let again = disk.create("d/e/x", 2, FileKind::Table).unwrap();
    assert_eq!(disk.len(again), Ok(2));
    disk.delete("d/e/x").unwrap();
    disk.delete("d/e").unwrap();
    disk.delete("d").unwrap();
    assert_eq!(disk.delete("d"), Err(DiskError::NotFound));
    assert_eq!(names(&mut test, ""), [""; 0]);
    // A directory that was there before, made again, is made durable again.
    test.disk().create("d/e/x", 2, FileKind::Table).unwrap();
    test.disk().sync(SyncId(1), SyncTarget::Dir("d/e".to_owned()));
    assert_eq!(test.finish(1), [Done::Synced(SyncId(1), Ok(()))]);
}

fn lists_are_sorted_and_tell_lengths(mut test: impl TestDisk) {
    let disk = test.disk();
    for path in ["q/10", "q/9", "q/B", "q/a", "q/sub/x"] {
        disk.create(path, 3, FileKind::Table).unwrap();
    }
    let list: Vec<_> = disk.list("q").unwrap().into_iter().map(|e| (e.name, e.is_dir, e.len)).collect();
    let expect = [("10", false, 3), ("9", false, 3), ("B", false, 3), ("a", false, 3), ("sub", true, 0)]
        .map(|(n, d, l)| (n.to_owned(), d, l));
    assert_eq!(list, expect);
    assert_eq!(disk.list("nowhere"), Ok(vec![]));
    assert_eq!(disk.list("q/10"), Ok(vec![]));
    let entry = disk.stat("q/sub").unwrap().unwrap();
    assert_eq!((entry.name.as_str(), entry.is_dir), ("sub", true));
    let entry = disk.stat("q/10").unwrap().unwrap();
    assert_eq!((entry.name.as_str(), entry.is_dir, entry.len), ("10", false, 3));
    assert_eq!(disk.stat("q/10/x"), Ok(None));
}

fn a_small_file_is_read_whole_or_not_at_all(mut test: impl TestDisk) {
    let file = test.disk().create("d/f", 0, FileKind::Journal).unwrap();
    test.disk().write(file, 0, &[7; 5_000]).unwrap();
    assert_eq!(test.disk().read_small("d/f", 5_000), Ok(vec![7; 5_000]));
    assert_eq!(test.disk().read_small("d/f", 4_999), Err(DiskError::OutOfRange));
    assert_eq!(test.disk().read_small("d/g", 4_999), Err(DiskError::NotFound));
    assert_eq!(test.disk().read_small("d", 4_999), Err(DiskError::NotFound));
}

fn syncs_complete_once_and_say_what_is_missing(mut test: impl TestDisk) {
    let disk = test.disk();
    let log = disk.create("d/log", 100, FileKind::Log).unwrap();
    let table = disk.create("d/table", 100, FileKind::Table).unwrap();
    for n in 0..50 {
        disk.write(log, n, b"x").unwrap();
        disk.write(table, n, b"x").unwrap();
        disk.sync(SyncId(4 * n), SyncTarget::File(log));
        disk.sync(SyncId(4 * n + 1), SyncTarget::File(table));
        disk.sync(SyncId(4 * n + 2), SyncTarget::Dir("d".to_owned()));
        disk.sync(SyncId(4 * n + 3), SyncTarget::Dir(String::new()));
    }
    let mut done = test.finish(200);
    done.sort_by_key(|done| match done {
        Done::Synced(id, _) => id.0,
        Done::Fetched(id, _) => id.0,
    });
    assert_eq!(done, (0..200).map(|n| Done::Synced(SyncId(n), Ok(()))).collect::<Vec<_>>());
    // A sync that has begun outlives its name.
    test.disk().sync(SyncId(1_000), SyncTarget::File(log));
    test.disk().close(log);
    assert_eq!(test.finish(1), [Done::Synced(SyncId(1_000), Ok(()))]);
    for target in
        [SyncTarget::File(log), SyncTarget::Dir("nowhere".to_owned()), SyncTarget::Dir("d/log".to_owned())]
    {
        test.disk().sync(SyncId(1_001), target.clone());
        assert_eq!(test.finish(1), [Done::Synced(SyncId(1_001), Err(DiskError::NotFound))], "{target:?}");
    }
}

fn replacements_follow_each_other(mut test: impl TestDisk) {
    test.disk().create("config/dir/x", 1, FileKind::Table).unwrap();
    for n in 0..20 {
        test.disk().replace(
            SyncId(n),
            "config/topics.json",
            Bytes::from(n.to_string().repeat(1 + n as usize * 300)),
        );
    }
    let done: Vec<_> = (0..20).map(|n| Done::Synced(SyncId(n), Ok(()))).collect();
    assert_eq!(test.finish(20), done);
    assert_eq!(content(&mut test, "config/topics.json"), Ok("19".repeat(5_701).into_bytes()));
    assert_eq!(names(&mut test, "config"), ["dir", "topics.json"]);
    test.disk().replace(SyncId(20), "config/topics.json", Bytes::new());
    test.disk().replace(SyncId(21), "made/on/the/way", Bytes::from_static(b"x"));
    test.finish(2);
    assert_eq!(content(&mut test, "config/topics.json"), Ok(vec![]));
    assert_eq!(content(&mut test, "made/on/the/way"), Ok(b"x".to_vec()));
    for (path, expect) in [("config/dir", DiskError::Io), ("made/on/the/way/x", DiskError::Io)] {
        test.disk().replace(SyncId(22), path, Bytes::new());
        assert_eq!(test.finish(1), [Done::Synced(SyncId(22), Err(expect))]);
    }
}

fn a_replaced_file_is_closed(mut test: impl TestDisk) {
    let file = test.disk().create("x", 0, FileKind::Journal).unwrap();
    test.disk().write(file, 0, b"old").unwrap();
    // More files than some of the disks under test have descriptors.
    for n in 0..5 {
        test.disk().create(&n.to_string(), 1, FileKind::Table).unwrap();
    }
    test.disk().replace(SyncId(1), "x", Bytes::from_static(b"newer"));
    test.finish(1);
    assert_eq!(test.disk().len(file), Err(DiskError::NotFound));
    let file = test.disk().open("x", FileKind::Journal).unwrap();
    assert_eq!(read(&mut test, extent(file, 0, 5)), b"newer");
    test.disk().write(file, 5, b"!").unwrap();
    assert_eq!(content(&mut test, "x"), Ok(b"newer!".to_vec()));
}

fn a_cold_extent_is_fetched_read_and_released(mut test: impl TestDisk) {
    let file = test.disk().create("q/table", 4 << 20, FileKind::Table).unwrap();
    let page = 3 << 20;
    test.disk().write(file, page, &[7; 4096]).unwrap();
    test.disk().sync(SyncId(1), SyncTarget::File(file));
    test.finish(1);
    let at = extent(file, page, 4096);
    let mut out = b"kept".to_vec();
    if !reads_cold(&mut test, "q/table", at, &mut out) {
        return;
    }
    assert_eq!(out, b"kept");
    test.disk().fetch(FetchId(1), extent(file, page - 10, 5_000));
    assert_eq!(test.finish(1), [Done::Fetched(FetchId(1), Ok(()))]);
    // Whatever else leaves memory, the extent does not.
    for _ in 0..50 {
        test.cool("q/table");
        out.clear();
        assert_eq!(test.disk().read(at, &mut out), Ok(Residency::Resident));
        assert!(out == [7; 4096]);
    }
    out.clear();
    assert_eq!(test.disk().read(extent(file, page - 10, 11), &mut out), Ok(Residency::Resident));
    assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    test.disk().release(FetchId(1));
    assert!(reads_cold(&mut test, "q/table", at, &mut out));
    assert_eq!(out.len(), 11);
}

/// Drives a file out of memory until a read says so; false when that cannot be done here. (The kernel keeps a page that is
/// just in use, and brings back one that was just asked for.)
fn reads_cold<T: TestDisk>(test: &mut T, path: &str, at: Extent, out: &mut Vec<u8>) -> bool {
    let len = out.len();
    for _ in 0..10_000 {
        if !test.cool(path) {
            return false;
        }
        if test.disk().read(at, out) == Ok(Residency::NotResident) {
            return true;
        }
        out.truncate(len);
    }
    panic!("{path} stays in memory");
}

fn a_fetched_extent_shows_what_was_written_since(mut test: impl TestDisk) {
    let file = test.disk().create("table", 1 << 20, FileKind::Table).unwrap();
    test.disk().write(file, 0, &[1; 8192]).unwrap();
    for round in 0..20 {
        test.disk().sync(SyncId(1), SyncTarget::File(file));
        test.finish(1);
        test.cool("table");
        test.disk().fetch(FetchId(round), extent(file, 0, 8192));
        test.disk().write(file, 100, &[round as u8; 50]).unwrap();
        test.finish(1);
        test.disk().write(file, 5_000, &[round as u8; 50]).unwrap();
        test.disk().sync(SyncId(1), SyncTarget::File(file));
        test.finish(1);
        test.cool("table");
        let mut expect = vec![1; 8192];
        expect[100..150].fill(round as u8);
        expect[5_000..5_050].fill(round as u8);
        let mut out = Vec::new();
        assert_eq!(test.disk().read(extent(file, 0, 8192), &mut out), Ok(Residency::Resident));
        assert!(out == expect, "round {round}");
        test.disk().release(FetchId(round));
    }
}

fn a_fetch_of_what_is_not_there_fails(mut test: impl TestDisk) {
    let file = test.disk().create("table", 100, FileKind::Table).unwrap();
    test.disk().fetch(FetchId(1), extent(file, 50, 51));
    assert_eq!(test.finish(1), [Done::Fetched(FetchId(1), Err(DiskError::OutOfRange))]);
    test.disk().close(file);
    test.disk().fetch(FetchId(2), extent(file, 0, 1));
    assert_eq!(test.finish(1), [Done::Fetched(FetchId(2), Err(DiskError::NotFound))]);
    test.disk().release(FetchId(2));
    test.disk().release(FetchId(3));
    // Released before it completes, and completed after its file has gone: nothing is held for ever.
    let file = test.disk().open("table", FileKind::Table).unwrap();
    for id in 10..200 {
        test.disk().fetch(FetchId(id), extent(file, 0, 100));
    }
    test.disk().delete("table").unwrap();
    test.finish(190);
    (10..200).for_each(|id| test.disk().release(FetchId(id)));
}

fn a_restart_keeps_what_was_written(mut test: impl TestDisk) {
    let log = test.disk().create("commitlog/0", 1 << 20, FileKind::Log).unwrap();
    test.disk().write(log, 1_000, &[7; 300]).unwrap();
    let journal = test.disk().create("journal", 0, FileKind::Journal).unwrap();
    test.disk().write(journal, 0, b"entry").unwrap();
    test.disk().replace(SyncId(1), "config/x", Bytes::from_static(b"x"));
    test.finish(1);
    test.restart();
    assert_eq!(test.disk().len(log), Err(DiskError::NotFound));
    assert_eq!(names(&mut test, ""), ["commitlog", "config", "journal"]);
    let log = test.disk().open("commitlog/0", FileKind::Log).unwrap();
    assert_eq!(test.disk().len(log), Ok(1 << 20));
    assert!(read(&mut test, extent(log, 999, 302)) == [&[0][..], &[7; 300], &[0]].concat());
    test.disk().write(log, 1_300, b"more").unwrap();
    assert_eq!(read(&mut test, extent(log, 1_299, 5)), b"\x07more");
    assert_eq!(content(&mut test, "journal"), Ok(b"entry".to_vec()));
}

/// By copy, by system call, at the seams between them, across a truncation: the same bytes.
fn a_log_is_written_everywhere(mut test: impl TestDisk) {
    const LEN: usize = 8 << 20;
    let file = test.disk().create("log", LEN as u64, FileKind::Log).unwrap();
    let mut expect = vec![0; LEN];
    let mut offset = 123;
    for n in 0..6_000_u32 {
        let bytes = n.to_le_bytes().repeat(1 + n as usize % 500);
        if offset + bytes.len() > LEN {
            break;
        }
        test.disk().write(file, offset as u64, &bytes).unwrap();
        expect[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let back = (offset / 4).saturating_sub(bytes.len());
        let at = extent(file, back as u64, bytes.len() as u32);
        assert!(read(&mut test, at) == expect[back..back + bytes.len()]);
        offset += bytes.len();
        if n == 2_000 {
            test.disk().truncate(file, 1_000_001).unwrap();
            test.disk().truncate(file, LEN as u64).unwrap();
            expect[1_000_001..].fill(0);
            offset = 1_000_001;
        }
    }
    assert!(offset > LEN / 2);
    test.disk().sync(SyncId(1), SyncTarget::File(file));
    test.finish(1);
    test.disk().close(file);
    assert!(test.disk().read_small("log", LEN as u64).unwrap() == expect);
}

fn a_disk_has_room(mut test: impl TestDisk) {
    let space = test.disk().space().unwrap();
    assert!(space.free <= space.total && space.total > 0, "{space:?}");
}
