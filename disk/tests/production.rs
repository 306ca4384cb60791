//! What only the disk of production has: a lock, other processes, a file system that fills up.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::io::{Disk, DiskError, Done, Extent, FetchId, FileKind, Residency, SyncId, SyncTarget};
use gantry_disk::{LogWrite, MappedDisk, MappedOptions, OpenError};
use support::{Mapped, TestDisk, skip};

const ROLE: &str = "GANTRY_DISK_TEST_ROLE";
const ROOT: &str = "GANTRY_DISK_TEST_ROOT";

fn try_open(root: &Path) -> Result<MappedDisk, OpenError> {
    MappedDisk::open(root, MappedOptions::default(), Arc::new(|| ()))
}

fn refusal(root: &Path) -> String {
    match try_open(root) {
        Ok(_) => panic!("the store is not locked"),
        Err(error) => error.to_string(),
    }
}

/// This test binary again, as another process that plays a role; returns once it is ready.
fn other_process(role: &str, root: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--nocapture"])
        .env(ROLE, role)
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("ready")), "{role} did not start");
    child
}

/// The other process. Without a role there is nothing to play.
#[test]
fn another_process() {
    let (Ok(role), Ok(root)) = (std::env::var(ROLE), std::env::var(ROOT)) else { return };
    let root = Path::new(&root);
    let _held: Box<dyn std::any::Any> = match role.as_str() {
        "gantry" => Box::new(try_open(root).ok().unwrap()),
        "rocketmq" => {
            let lock = File::create(root.join("lock")).unwrap();
            rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
            Box::new(lock)
        }
        "writer" => {
            let mut disk = try_open(root).ok().unwrap();
            let log = disk.create("commitlog/0", 64 << 20, FileKind::Log).unwrap();
            for n in 0..100_000_u64 {
                disk.write(log, n * 300, &[n as u8; 300]).unwrap();
            }
            let journal = disk.create("journal", 0, FileKind::Journal).unwrap();
            disk.write(journal, 0, b"entry").unwrap();
            Box::new(disk)
        }
        "starved" => Box::new(starve(root)),
        other => panic!("no role {other}"),
    };
    println!("ready");
    // Until the other end closes, or kills.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_store_is_opened_once_in_a_process() {
    let root = tempfile::tempdir().unwrap();
    let first = try_open(root.path()).unwrap_or_else(|error| panic!("{error}"));
    let lock = root.path().canonicalize().unwrap().join("lock");
    assert_eq!(
        refusal(&root.path().join(".")),
        format!("the store is in use: another broker holds the lock {}", lock.display())
    );
    assert_eq!(fs::read_to_string(&lock).unwrap(), "lock");
    drop(first);
    drop(try_open(root.path()).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn a_store_is_opened_by_one_process() {
    for role in ["gantry", "rocketmq"] {
        let root = tempfile::tempdir().unwrap();
        // Whoever stops gives the store back.
        drop(try_open(root.path()).unwrap_or_else(|error| panic!("{error}")));
        let mut child = other_process(role, root.path());
        let refused = refusal(root.path());
        assert!(refused.contains(root.path().join("lock").to_str().unwrap()), "{role}: {refused}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(try_open(root.path()).unwrap_or_else(|error| panic!("{role}: {error}")));
    }
}

#[test]
fn a_root_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = try_open(&dir.path().join("file/store")).err().unwrap().to_string();
    assert!(error.contains("file/store"), "{error}");
}

#[test]
fn a_log_has_its_room_at_once_and_a_table_as_it_is_written() {
    use std::os::unix::fs::MetadataExt;
    const BYTES: u64 = 6_000_000;
    let root = tempfile::tempdir().unwrap();
    let mut disk = try_open(root.path()).unwrap_or_else(|error| panic!("{error}"));
    let mut taken = |path: &str, kind| {
        let file = disk.create(path, BYTES, kind).unwrap();
        disk.write(file, 20, b"entry").unwrap();
        fs::metadata(root.path().join(path)).unwrap().blocks() * 512
    };
    assert!(taken("commitlog/0", FileKind::Log) >= BYTES);
    assert!(taken("consumequeue/topic/0/0", FileKind::Table) < BYTES / 10);
}

#[test]
fn a_killed_process_leaves_all_it_wrote() {
    let root = tempfile::tempdir().unwrap();
    let mut child = other_process("writer", root.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut disk = try_open(root.path()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(disk.read_small("journal", 100), Ok(b"entry".to_vec()));
    let log = disk.read_small("commitlog/0", 64 << 20).unwrap();
    assert!(log.chunks(300).take(100_000).zip(0_u64..).all(|(record, n)| record == [n as u8; 300]));
    assert!(log[30_000_000..].iter().all(|byte| *byte == 0));
}

/// Takes every descriptor that is left, and tries what a broker does; a process of its own, for the limit is the process's.
fn starve(root: &Path) -> MappedDisk {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let none = DiskError::NoDescriptors;
    let (mut disk, woken) = support::open(root, &MappedOptions::default());
    let finish = |disk: &mut MappedDisk| {
        let mut done = Vec::new();
        woken.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        disk.reap(&mut done);
        done
    };
    let log = disk.create("log", 4096, FileKind::Log).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    // An open file lends its descriptor, and has one again when it is used.
    let more = disk.create("more", 4096, FileKind::Table).unwrap();
    disk.write(log, 0, b"x").unwrap();
    disk.write(more, 0, b"y").unwrap();
    disk.write(log, 1, b"z").unwrap();
    // What a lane opens has one in reserve, each time again.
    for n in 0..3 {
        disk.replace(SyncId(2 * n), "config", Bytes::from_static(b"{}"));
        assert_eq!(finish(&mut disk), [Done::Synced(SyncId(2 * n), Ok(()))]);
        disk.sync(SyncId(2 * n + 1), SyncTarget::Dir(String::new()));
        assert_eq!(finish(&mut disk), [Done::Synced(SyncId(2 * n + 1), Ok(()))]);
    }
    // Nobody is left to lend one.
    disk.close(more);
    disk.close(log);
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    assert_eq!(disk.create("third", 4096, FileKind::Log), Err(none));
    assert_eq!(disk.open("log", FileKind::Log), Err(none));
    assert_eq!(disk.list(""), Err(none));
    assert_eq!(disk.read_small("config", 100), Err(none));
    assert_eq!(disk.stat("third"), Ok(None));
    held.clear();
    assert_eq!(disk.read_small("config", 100), Ok(b"{}".to_vec()));
    disk.create("third", 4096, FileKind::Log).unwrap();
    disk
}

#[test]
fn without_descriptors_files_lend_theirs_and_what_is_missing_is_named() {
    let root = tempfile::tempdir().unwrap();
    let mut child = other_process("starved", root.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut disk = try_open(root.path()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(disk.read_small("log", 4096).unwrap()[..2], *b"xz");
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error() {
    const MIB: u64 = 1 << 20;
    let Some(small) = SmallDisk::mount(8 * MIB) else {
        skip("no small file system can be mounted here: a full disk is tested in memory only");
        return;
    };
    let (mut disk, woken) = support::open(small.0.path(), &MappedOptions::default());
    let finish = |disk: &mut MappedDisk| {
        let mut done = Vec::new();
        woken.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        disk.reap(&mut done);
        done
    };
    let log = disk.create("log", 4 * MIB, FileKind::Log).unwrap();
    assert_eq!(disk.create("d/more", 8 * MIB, FileKind::Log), Err(DiskError::Full));
    assert_eq!(disk.stat("d/more"), Ok(None), "nothing is left of it");
    assert_eq!(disk.truncate(log, 12 * MIB), Err(DiskError::Full));
    assert_eq!((disk.len(log), disk.stat("log").unwrap().unwrap().len), (Ok(4 * MIB), 4 * MIB));
    let journal = disk.create("journal", 0, FileKind::Journal).unwrap();
    let mut len = 0;
    let error = loop {
        match disk.write(journal, len, &[7; 100_000]) {
            Ok(()) => len += 100_000,
            Err(error) => break error,
        }
        assert!(len < 8 * MIB);
    };
    assert_eq!(error, DiskError::Full);
    assert_eq!(disk.len(journal).unwrap(), disk.stat("journal").unwrap().unwrap().len);
    disk.truncate(journal, len).unwrap();
    // What was allocated can be written, by either way.
    for n in 0..40 {
        disk.write(log, n * 100_000, &[n as u8 + 1; 100_000]).unwrap();
    }
    let mut out = Vec::new();
    assert_eq!(
        disk.read(Extent { file: log, offset: 100_000, len: 200_000 }, &mut out),
        Ok(Residency::Resident)
    );
    assert!(out[..100_000] == [2; 100_000] && out[100_000..] == [3; 100_000]);
    let free = disk.space().unwrap().free;
    disk.replace(SyncId(1), "config", Bytes::from(vec![1; free as usize + 4096]));
    assert_eq!(finish(&mut disk), [Done::Synced(SyncId(1), Err(DiskError::Full))]);
    assert_eq!(disk.stat("config"), Ok(None));
    let names: Vec<_> = fs::read_dir(small.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().ends_with(".replacing")), "{names:?}");
    disk.delete("journal").unwrap();
    disk.replace(SyncId(2), "config", Bytes::from_static(b"{}"));
    assert_eq!(finish(&mut disk), [Done::Synced(SyncId(2), Ok(()))]);
    drop(disk);
}

#[test]
fn what_a_crash_left_of_a_replacement_is_in_nobodys_way() {
    let mut test = Mapped::new();
    test.disk().create("config/x", 0, FileKind::Journal).unwrap();
    let left = test.root().join("config/.x.replacing");
    fs::write(&left, "half").unwrap();
    assert_eq!(test.disk().list("config").unwrap().len(), 1);
    test.disk().replace(SyncId(1), "config/x", Bytes::from_static(b"new"));
    test.finish(1);
    assert_eq!(test.disk().read_small("config/x", 10), Ok(b"new".to_vec()));
    assert!(!left.exists());
    fs::write(&left, "half").unwrap();
    test.disk().delete("config/x").unwrap();
    test.disk().delete("config").unwrap();
    assert_eq!(test.disk().list(""), Ok(vec![]));
}

#[test]
fn parts_of_a_store_may_lie_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut test = Mapped::new();
    std::os::unix::fs::symlink(elsewhere.path(), test.root().join("commitlog")).unwrap();
    let log = test.disk().create("commitlog/0", 4096, FileKind::Log).unwrap();
    test.disk().write(log, 0, b"x").unwrap();
    assert!(test.disk().list("").unwrap()[0].is_dir);
    assert_eq!(test.disk().list("commitlog").unwrap()[0].len, 4096);
    test.disk().sync(SyncId(1), SyncTarget::Dir("commitlog".to_owned()));
    assert_eq!(test.finish(1), [Done::Synced(SyncId(1), Ok(()))]);
    assert_eq!(fs::read(elsewhere.path().join("0")).unwrap()[..2], *b"x\0");
}

#[test]
fn an_old_name_never_reaches_the_new_file() {
    let mut test = Mapped::with(MappedOptions { descriptors_max: 1, ..MappedOptions::default() });
    let old = test.disk().create("x", 0, FileKind::Journal).unwrap();
    test.disk().write(old, 0, b"old").unwrap();
    test.disk().create("other", 0, FileKind::Journal).unwrap();
    test.disk().replace(SyncId(1), "x", Bytes::from_static(b"new"));
    while fs::read(test.root().join("x")).unwrap() != b"new" {
        std::thread::yield_now();
    }
    // Replaced, and the machine has not heard of it.
    assert_eq!(test.disk().write(old, 3, b"!"), Err(DiskError::NotFound));
    test.finish(1);
    assert_eq!(test.disk().read_small("x", 10), Ok(b"new".to_vec()));
}

#[test]
fn more_files_than_descriptors() {
    let mut test = Mapped::with(MappedOptions {
        descriptors_max: 8,
        log_write: LogWrite::Pwrite,
        ..MappedOptions::default()
    });
    let files: Vec<_> =
        (0..300_u64).map(|n| test.disk().create(&format!("q/{n}"), 8, FileKind::Table).unwrap()).collect();
    for round in 1..3_u64 {
        for (n, file) in files.iter().enumerate() {
            test.disk().write(*file, 0, &(n as u64 * round).to_le_bytes()).unwrap();
        }
        for (n, file) in files.iter().enumerate() {
            test.disk().sync(SyncId(n as u64), SyncTarget::File(*file));
        }
        test.finish(300);
        for (n, file) in files.iter().enumerate() {
            let mut out = Vec::new();
            let at = Extent { file: *file, offset: 0, len: 8 };
            assert_eq!(test.disk().read(at, &mut out), Ok(Residency::Resident));
            assert_eq!(out, (n as u64 * round).to_le_bytes());
        }
    }
    #[cfg(target_os = "linux")]
    {
        let root = test.root().canonicalize().unwrap();
        let is_ours = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .is_ok_and(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(root.join("q"))))
        };
        let held = fs::read_dir("/proc/self/fd").unwrap().filter_map(|e| is_ours(e).then_some(())).count();
        assert!(held <= 8, "{held} descriptors are held");
    }
}

/// Whether `path` is mapped by this process.
#[cfg(target_os = "linux")]
fn is_mapped(path: &Path) -> bool {
    fs::read_to_string("/proc/self/maps").unwrap().contains(path.to_str().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_is_mapped_while_it_is_written_and_not_when_it_is_cut() {
    let mut test = Mapped::new();
    let path = test.root().canonicalize().unwrap().join("log");
    let log = test.disk().create("log", 4 << 20, FileKind::Log).unwrap();
    assert!(!is_mapped(&path));
    test.disk().write(log, 0, b"x").unwrap();
    assert!(is_mapped(&path));
    test.disk().truncate(log, 1 << 20).unwrap();
    // The helper may still be at it.
    let ends = |path: &Path| {
        (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            !is_mapped(path)
        })
    };
    assert!(ends(&path));
    test.disk().write(log, 0, b"y").unwrap();
    assert!(is_mapped(&path));
    test.disk().close(log);
    assert!(ends(&path));
    let table = test.disk().open("log", FileKind::Table).unwrap();
    test.disk().write(table, 0, b"z").unwrap();
    assert!(!is_mapped(&path));
}

#[test]
fn a_disk_with_work_under_way_ends() {
    let mut test = Mapped::new();
    let log = test.disk().create("log", 64 << 20, FileKind::Log).unwrap();
    for n in 0..500 {
        test.disk().write(log, n * 100_000, &[1; 100_000]).unwrap();
        test.disk().sync(SyncId(n), SyncTarget::File(log));
        test.disk().fetch(FetchId(n), Extent { file: log, offset: n * 1000, len: 5_000 });
        test.disk().replace(SyncId(1_000 + n), "x", Bytes::from_static(b"x"));
    }
    test.restart();
    test.disk().open("log", FileKind::Log).unwrap();
}
