//! Every disk behaves as one small model, under arbitrary operations, deaths of the process and reopenings; the memory
//! disk also under losses of power.
//!
//! The model is a map from paths to bytes. What a loss of power may do to what was not synced is the business of
//! `memory.rs`; here it must leave alone what was synced and not touched since.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // a test that panics has failed, as it should

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gantry_core::io::{
    Disk, DiskError, Done, Extent, FetchId, FileId, FileKind, Residency, SyncId, SyncTarget,
};
use gantry_core::rng::Rng;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use support::{Mapped, Memory, Pwritten, TestDisk};

/// Some are files, some directories, and `d` is what it was made first.
const PATHS: [&str; 6] = ["a", "b", "d", "d/a", "d/b", "e/f/c"];
const DIRS: [&str; 5] = ["", "d", "e", "e/f", "a"];

#[derive(Clone, Debug)]
enum Op {
    Create { path: usize, len: u64, kind: FileKind },
    Open { path: usize, kind: FileKind },
    Close { file: usize },
    Write { file: usize, offset: u64, len: usize },
    Append { file: usize, len: usize },
    Truncate { file: usize, len: u64 },
    Read { file: usize, offset: u64, len: u32 },
    Rename { from: usize, to: usize },
    Delete { path: usize },
    DeleteDir { dir: usize },
    Replace { path: usize, len: usize },
    SyncFile { file: usize },
    SyncDir { dir: usize },
    SyncAll,
    Restart,
    PowerLoss { seed: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let path = || 0..PATHS.len();
    let dir = || 0..DIRS.len();
    let file = || 0..8_usize;
    let kind = || prop_oneof![Just(FileKind::Log), Just(FileKind::Table), Just(FileKind::Journal)];
    let op = prop_oneof![
        4 => (path(), 0..20_000_u64, kind()).prop_map(|(path, len, kind)| Op::Create { path, len, kind }),
        3 => (path(), kind()).prop_map(|(path, kind)| Op::Open { path, kind }),
        1 => file().prop_map(|file| Op::Close { file }),
        6 => (file(), 0..20_000_u64, 0..6_000_usize).prop_map(|(file, offset, len)| Op::Write { file, offset, len }),
        6 => (file(), 0..6_000_usize).prop_map(|(file, len)| Op::Append { file, len }),
        3 => (file(), 0..25_000_u64).prop_map(|(file, len)| Op::Truncate { file, len }),
        6 => (file(), 0..20_000_u64, 0..9_000_u32).prop_map(|(file, offset, len)| Op::Read { file, offset, len }),
        3 => (path(), path()).prop_map(|(from, to)| Op::Rename { from, to }),
        2 => path().prop_map(|path| Op::Delete { path }),
        1 => dir().prop_map(|dir| Op::DeleteDir { dir }),
        2 => (path(), 0..9_000_usize).prop_map(|(path, len)| Op::Replace { path, len }),
        1 => file().prop_map(|file| Op::SyncFile { file }),
        1 => dir().prop_map(|dir| Op::SyncDir { dir }),
        1 => Just(Op::SyncAll),
        1 => Just(Op::Restart),
        1 => any::<u64>().prop_map(|seed| Op::PowerLoss { seed }),
    ];
    prop::collection::vec(op, 1..50)
}

/// What a disk should be.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Each path's file, by a number that stays with the file.
    files: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
    bytes: BTreeMap<u64, Vec<u8>>,
    open: Vec<(FileId, u64, FileKind)>,
    next: u64,
    /// Paths that changed since everything was synced.
    touched: BTreeSet<String>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Model {
    fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    fn make_parents(&mut self, path: &str) -> Result<(), DiskError> {
        let dir = parent(path);
        if self.has_dir(dir) {
            return Ok(());
        }
        self.make_parents(dir)?;
        if self.files.contains_key(dir) {
            return Err(DiskError::Io);
        }
        self.dirs.insert(dir.to_owned());
        self.touched.insert(dir.to_owned());
        Ok(())
    }

    fn add(&mut self, path: &str, bytes: Vec<u8>) -> u64 {
        self.next += 1;
        self.files.insert(path.to_owned(), self.next);
        self.bytes.insert(self.next, bytes);
        self.touched.insert(path.to_owned());
        self.next
    }

    fn unlink(&mut self, path: &str) {
        self.touched.insert(path.to_owned());
        if let Some(file) = self.files.remove(path) {
            self.open.retain(|(_, open, _)| *open != file);
        }
    }

    fn touch(&mut self, file: u64) {
        let path = self.files.iter().find(|(_, other)| **other == file).unwrap().0;
        self.touched.insert(path.clone());
    }

    fn list(&self, dir: &str) -> Vec<(String, bool, u64)> {
        let files = self.files.iter().map(|(path, file)| (path, false, self.bytes[file].len() as u64));
        let entries = files.chain(self.dirs.iter().map(|path| (path, true, 0)));
        let mut list: Vec<_> = entries
            .filter(|(path, ..)| parent(path) == dir)
            .map(|(path, is_dir, len)| (path.rsplit('/').next().unwrap().to_owned(), is_dir, len))
            .collect();
        list.sort();
        list
    }
}

/// A disk and what it should be.
struct Pair<T> {
    test: T,
    model: Model,
    fill: u8,
}

impl<T: TestDisk> Pair<T> {
    fn new() -> Pair<T> {
        Pair { test: T::new(), model: Model::default(), fill: 0 }
    }

    fn disk(&mut self) -> &mut T::D {
        self.test.disk()
    }

    fn run(&mut self, ops: &[Op], mut lose_power: impl FnMut(&mut T, u64) -> bool) -> TestCaseResult {
        for op in ops {
            self.fill = self.fill.wrapping_add(1);
            match *op {
                Op::Create { path, len, kind } => self.create(PATHS[path], len, kind)?,
                Op::Open { path, kind } => self.open(PATHS[path], kind)?,
                Op::Rename { from, to } => self.rename(PATHS[from], PATHS[to])?,
                Op::Delete { path } => self.delete(PATHS[path])?,
                Op::DeleteDir { dir } if !DIRS[dir].is_empty() => self.delete(DIRS[dir])?,
                Op::DeleteDir { .. } => {}
                Op::Replace { path, len } => self.replace(PATHS[path], len)?,
                Op::SyncDir { dir } => self.sync_dir(DIRS[dir])?,
                Op::SyncAll => self.sync_all()?,
                Op::Restart => {
                    self.test.restart();
                    self.model.open.clear();
                }
                Op::PowerLoss { seed } => {
                    if lose_power(&mut self.test, seed) {
                        self.after_power_loss()?;
                    }
                }
                Op::Close { file }
                | Op::Write { file, .. }
                | Op::Append { file, .. }
                | Op::Truncate { file, .. }
                | Op::Read { file, .. }
                | Op::SyncFile { file } => {
                    if let Some(open) = self.model.open.get(file).copied() {
                        self.on_file(op, open)?;
                    }
                }
            }
            self.check()?;
        }
        Ok(())
    }

    fn create(&mut self, path: &str, len: u64, kind: FileKind) -> TestCaseResult {
        let expect = if self.model.files.contains_key(path) || self.model.has_dir(path) {
            Err(DiskError::Exists)
        } else {
            self.model.make_parents(path)
        };
        let made = self.disk().create(path, len, kind);
        prop_assert_eq!(made.map(|_| ()), expect);
        if let Ok(id) = made {
            let len = if kind == FileKind::Journal { 0 } else { len };
            let file = self.model.add(path, vec![0; len as usize]);
            self.model.open.push((id, file, kind));
        }
        Ok(())
    }

    fn open(&mut self, path: &str, kind: FileKind) -> TestCaseResult {
        let file = self.model.files.get(path).copied();
        let opened = self.disk().open(path, kind);
        prop_assert_eq!(opened.is_ok(), file.is_some());
        match (opened, file) {
            (Ok(id), Some(file)) => self.model.open.push((id, file, kind)),
            (result, _) => prop_assert_eq!(result, Err(DiskError::NotFound)),
        }
        Ok(())
    }

    fn on_file(&mut self, op: &Op, (id, file, kind): (FileId, u64, FileKind)) -> TestCaseResult {
        let len_now = self.model.bytes[&file].len() as u64;
        match *op {
            Op::Write { offset, len, .. } => self.write(id, file, kind, offset, len)?,
            Op::Append { len, .. } => self.write(id, file, kind, len_now, len)?,
            Op::Truncate { len, .. } => {
                prop_assert_eq!(self.disk().truncate(id, len), Ok(()));
                self.model.bytes.get_mut(&file).unwrap().resize(len as usize, 0);
                self.model.touch(file);
            }
            Op::Read { offset, len, .. } => {
                let at = Extent { file: id, offset, len };
                if offset + u64::from(len) > len_now {
                    prop_assert_eq!(self.disk().read(at, &mut Vec::new()), Err(DiskError::OutOfRange));
                } else {
                    let bytes = self.read(at)?;
                    let expect = &self.model.bytes[&file][offset as usize..][..len as usize];
                    prop_assert!(bytes == expect, "bytes differ");
                }
            }
            Op::SyncFile { .. } => {
                self.disk().sync(SyncId(1), SyncTarget::File(id));
                prop_assert_eq!(self.test.finish(1), [Done::Synced(SyncId(1), Ok(()))]);
            }
            Op::Close { .. } => {
                self.disk().close(id);
                self.model.open.retain(|(open, ..)| *open != id);
                prop_assert_eq!(self.disk().len(id), Err(DiskError::NotFound));
            }
            _ => unreachable!("not an operation of a file"),
        }
        Ok(())
    }

    fn write(&mut self, id: FileId, file: u64, kind: FileKind, offset: u64, len: usize) -> TestCaseResult {
        let bytes = vec![self.fill; len];
        let (old, end) = (self.model.bytes[&file].len() as u64, offset + len as u64);
        let fits = end <= old || kind == FileKind::Journal && offset == old;
        let expect = if fits { Ok(()) } else { Err(DiskError::OutOfRange) };
        prop_assert_eq!(self.disk().write(id, offset, &bytes), expect);
        if fits {
            let content = self.model.bytes.get_mut(&file).unwrap();
            content.resize(old.max(end) as usize, 0);
            content[offset as usize..end as usize].copy_from_slice(&bytes);
            self.model.touch(file);
        }
        Ok(())
    }

    fn read(&mut self, at: Extent) -> Result<Vec<u8>, TestCaseError> {
        let mut out = vec![9];
        if self.disk().read(at, &mut out) == Ok(Residency::NotResident) {
            prop_assert_eq!(&out, &[9]);
            self.disk().fetch(FetchId(1), at);
            prop_assert_eq!(self.test.finish(1), [Done::Fetched(FetchId(1), Ok(()))]);
            prop_assert_eq!(self.disk().read(at, &mut out), Ok(Residency::Resident));
            self.disk().release(FetchId(1));
        }
        Ok(out.split_off(1))
    }

    fn rename(&mut self, from: &str, to: &str) -> TestCaseResult {
        let expect = match self.model.files.get(from) {
            None => Err(DiskError::NotFound),
            Some(_) if !self.model.has_dir(parent(to)) => Err(DiskError::NotFound),
            Some(_) if self.model.has_dir(to) => Err(DiskError::Io),
            Some(file) => Ok(*file),
        };
        prop_assert_eq!(self.disk().rename(from, to), expect.map(|_| ()));
        if let Ok(file) = expect
            && from != to
        {
            self.model.unlink(to);
            self.model.files.remove(from);
            self.model.files.insert(to.to_owned(), file);
            self.model.touched.extend([from.to_owned(), to.to_owned()]);
        }
        Ok(())
    }

    fn delete(&mut self, path: &str) -> TestCaseResult {
        let expect = match (self.model.files.contains_key(path), self.model.has_dir(path)) {
            (true, _) => Ok(()),
            (_, true) if !self.model.list(path).is_empty() => Err(DiskError::Io),
            (_, true) => Ok(()),
            (false, false) => Err(DiskError::NotFound),
        };
        prop_assert_eq!(self.disk().delete(path), expect);
        if expect.is_ok() {
            self.model.unlink(path);
            self.model.dirs.remove(path);
        }
        Ok(())
    }

    fn replace(&mut self, path: &str, len: usize) -> TestCaseResult {
        let bytes = vec![self.fill; len];
        let expect =
            if self.model.has_dir(path) { Err(DiskError::Io) } else { self.model.make_parents(path) };
        self.disk().replace(SyncId(2), path, Bytes::from(bytes.clone()));
        prop_assert_eq!(self.test.finish(1), [Done::Synced(SyncId(2), expect)]);
        if expect.is_ok() {
            self.model.unlink(path);
            self.model.add(path, bytes);
            // This is durable at once, but what else changed in its directory is too.
        }
        Ok(())
    }

    fn sync_dir(&mut self, dir: &str) -> TestCaseResult {
        let expect = if self.model.has_dir(dir) { Ok(()) } else { Err(DiskError::NotFound) };
        self.disk().sync(SyncId(3), SyncTarget::Dir(dir.to_owned()));
        prop_assert_eq!(self.test.finish(1), [Done::Synced(SyncId(3), expect)]);
        Ok(())
    }

    fn sync_all(&mut self) -> TestCaseResult {
        let paths: Vec<String> = self.model.files.keys().cloned().collect();
        let dirs: Vec<String> = self.model.dirs.iter().cloned().chain([String::new()]).collect();
        let count = paths.len() + dirs.len();
        for path in paths {
            let id = self.disk().open(&path, FileKind::Table).unwrap();
            self.disk().sync(SyncId(4), SyncTarget::File(id));
            self.disk().close(id);
        }
        for dir in dirs {
            self.disk().sync(SyncId(4), SyncTarget::Dir(dir));
        }
        prop_assert_eq!(self.test.finish(count), vec![Done::Synced(SyncId(4), Ok(())); count]);
        self.model.touched.clear();
        Ok(())
    }

    /// Checks what must have stayed, and takes what is there for what should be.
    fn after_power_loss(&mut self) -> TestCaseResult {
        let touched = std::mem::take(&mut self.model.touched);
        let before = std::mem::take(&mut self.model);
        self.model.next = before.next;
        let mut found = BTreeSet::new();
        self.adopt("", &mut found)?;
        let named = before.files.keys().chain(&before.dirs).chain(&found);
        for path in named.filter(|path| !touched.contains(*path)) {
            prop_assert_eq!(self.model.dirs.contains(path), before.dirs.contains(path), "{}", path);
            let bytes = |model: &Model| model.files.get(path).map(|file| model.bytes[file].clone());
            prop_assert!(bytes(&self.model) == bytes(&before), "{} changed", path);
        }
        // What came back from a loss of power is durable.
        self.model.touched.clear();
        Ok(())
    }

    fn adopt(&mut self, dir: &str, found: &mut BTreeSet<String>) -> TestCaseResult {
        for entry in self.disk().list(dir).unwrap() {
            let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
            found.insert(path.clone());
            if entry.is_dir {
                self.model.dirs.insert(path.clone());
                self.adopt(&path, found)?;
            } else {
                let bytes = self.disk().read_small(&path, entry.len).unwrap();
                prop_assert_eq!(bytes.len() as u64, entry.len);
                self.model.add(&path, bytes);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> TestCaseResult {
        for dir in DIRS {
            let list = self.disk().list(dir).unwrap();
            let list: Vec<_> = list.into_iter().map(|entry| (entry.name, entry.is_dir, entry.len)).collect();
            prop_assert_eq!(list, self.model.list(dir));
        }
        for (path, file) in self.model.files.clone() {
            let bytes = self.disk().read_small(&path, 1 << 20);
            prop_assert!(bytes.as_ref() == Ok(&self.model.bytes[&file]), "{} differs", path);
        }
        for (id, file, _) in self.model.open.clone() {
            prop_assert_eq!(self.disk().len(id), Ok(self.model.bytes[&file].len() as u64));
        }
        Ok(())
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn the_memory_disk_is_the_model(ops in ops(), cold in 0..=1000_u32) {
        let mut pair = Pair::<Memory>::new();
        pair.test.0.set_cold_ratio(cold);
        pair.run(&ops, |test, seed| {
            test.0.power_loss(&mut Rng::from_seed(seed));
            true
        })?;
    }
}

proptest! {
    // Each case touches a real file system a few hundred times.
    #![proptest_config(config(60))]

    #[test]
    fn the_mapped_disk_is_the_model(ops in ops()) {
        Pair::<Mapped>::new().run(&ops, |_, _| false)?;
    }

    #[test]
    fn the_mapped_disk_without_mapping_is_the_model(ops in ops()) {
        Pair::<Pwritten>::new().run(&ops, |_, _| false)?;
    }
}
