//! The disk of production: files below a root directory, locked for this process.
//!
//! Nothing here waits for the device: syncs, fetches and replacements run on helper threads and come back through
//! [`Disk::reap`], after the waker was called. Reads ask the page cache (`preadv2` with `RWF_NOWAIT`); writes go to the
//! page cache, to a log by a copy into a mapping ([`LogWrite`]), else by `pwrite`. What waits nevertheless, as the
//! contract allows: opening, creating, deleting, renaming, listing, and [`Disk::read_small`].
//!
//! Invariants: all room of a preallocated file is allocated before it is written, so that a full disk is an error of
//! `create` and never a signal; a file is unmapped before it is truncated; one disk object serves one life of a machine
//! (its completions must not reach the next one), so a restart drops it and opens another.
//!
//! Absent on purpose: mappings for reading (a cold page would stop the broker's one thread, a media error would be a
//! signal), `O_DIRECT`, and any cache besides the kernel's, except what a fetch holds until its release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::io::{
    DirEntry, Disk, DiskError, Done, Extent, FetchId, FileId, FileKind, Residency, Space, SyncId, SyncTarget,
};

use crate::path;

mod helpers;
mod lock;
mod system;
mod table;
mod window;

pub use lock::OpenError;

use helpers::{FetchJob, Finished, Helpers, Outbox, Replace, SyncJob, make_parents};
use lock::StoreLock;
use system::{OrDiskError, Warm, disk_error};
use table::{Remains, Table};
use window::Window;

/// How a [`FileKind::Log`] is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogWrite {
    /// By copying into a mapping, ahead of which a helper makes pages ready. An append costs no system call; a sync has
    /// more to do.
    Mapped,
    /// By `pwrite`.
    Pwrite,
}

/// What may be chosen about a [`MappedDisk`].
#[derive(Clone, Debug)]
pub struct MappedOptions {
    /// How logs are written.
    pub log_write: LogWrite,
    /// Bytes of a mapped log that are kept ready ahead of its end.
    pub window_bytes: u64,
    /// Descriptors held open at most; never more than half of what the process may have.
    pub descriptors_max: usize,
    /// Threads that fetch cold extents.
    pub fetchers: usize,
    /// Bytes that fetches hold at most, from their begin to their release. One that is longer than this runs alone.
    pub fetched_bytes_max: u64,
}

impl Default for MappedOptions {
    fn default() -> MappedOptions {
        MappedOptions {
            log_write: LogWrite::Mapped,
            window_bytes: 32 << 20,
            descriptors_max: 4096,
            fetchers: 4,
            fetched_bytes_max: 64 << 20,
        }
    }
}

/// Files from this length on lose their pages on a helper thread when they are deleted: it takes 0.1 ms a MiB.
const DROP_LATER_BYTES: u64 = 8 << 20;

/// A fetch from its begin to its release.
#[derive(Debug)]
struct Fetch {
    serial: u64,
    offset: u64,
    len: u32,
    /// Once completed.
    bytes: Option<Vec<u8>>,
    /// The file was written there since the fetch began: what it read may be old.
    is_stale: bool,
}

/// See the [module](self).
pub struct MappedDisk {
    // First of all fields, so that it is dropped first: helpers end before the lock does.
    helpers: Helpers,
    root: PathBuf,
    options: MappedOptions,
    table: Table,
    fetches: BTreeMap<FetchId, Fetch>,
    /// Directories whose own entries are durable, as far as this life knows.
    durable_dirs: BTreeSet<String>,
    /// False once a file system said that it cannot tell what is in memory.
    can_ask_residency: bool,
    outbox: Arc<Outbox>,
    _lock: StoreLock,
}

impl MappedDisk {
    /// Opens (or creates) the store at `root` and locks it. `waker` is called, on any thread, whenever [`Disk::reap`] has
    /// something to hand over.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another broker works on it.
    pub fn open(
        root: &Path,
        options: MappedOptions,
        waker: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<MappedDisk, OpenError> {
        let lock = StoreLock::take(root)?;
        let outbox = Arc::new(Outbox::new(waker));
        let helpers = Helpers::start(&outbox, options.fetchers, options.fetched_bytes_max)
            .map_err(|source| OpenError::Io { path: root.to_owned(), source })?;
        let half = usize::try_from(system::descriptor_limit() / 2).unwrap_or(usize::MAX);
        Ok(MappedDisk {
            helpers,
            root: lock.root().to_owned(),
            table: Table::new(options.descriptors_max.min(half)),
            options,
            fetches: BTreeMap::new(),
            durable_dirs: BTreeSet::new(),
            can_ask_residency: true,
            outbox,
            _lock: lock,
        })
    }

    fn at(&self, path: &str) -> Result<PathBuf, DiskError> {
        path::check(path)?;
        Ok(self.root.join(path))
    }

    fn dir_at(&self, dir: &str) -> PathBuf {
        // Joining "" would append a slash.
        if dir.is_empty() { self.root.clone() } else { self.root.join(dir) }
    }

    /// Ends all names of a file that is no longer at `path`.
    fn forget(&mut self, path: &str) {
        if let Some(index) = self.table.find(path) {
            let remains = self.table.remove(index);
            self.drop_later(remains);
        }
    }

    fn drop_later(&self, remains: Option<Remains>) {
        if let Some(remains) = remains.filter(|remains| remains.window.is_some()) {
            self.helpers.sync_patiently(SyncJob::Drop(remains));
        }
    }

    /// The directories to sync so that an entry of `dir` is durable, its own first, and those above it that are not known
    /// to be.
    fn dirs_to_sync(&self, dir: &str) -> (Vec<PathBuf>, Vec<String>) {
        let mut dirs = vec![self.dir_at(dir)];
        let mut made = Vec::new();
        for below in path::ancestors(dir) {
            if below.is_empty() || self.durable_dirs.contains(below) {
                break;
            }
            dirs.push(self.dir_at(path::split(below).0));
            made.push(below.to_owned());
        }
        (dirs, made)
    }

    fn delete_file(&mut self, path: &str, full: &Path, len: u64) -> Result<(), DiskError> {
        if len < DROP_LATER_BYTES {
            fs::remove_file(full).or_disk_error()?;
            self.forget(path);
            return Ok(());
        }
        // While a descriptor is open, removing the entry does not wait for the pages to go.
        let file = Arc::new(self.table.with_descriptor(|| fs::File::open(full)).or_disk_error()?);
        fs::remove_file(full).or_disk_error()?;
        self.forget(path);
        self.helpers.sync_patiently(SyncJob::Drop(Remains { _file: Some(file), window: None }));
        Ok(())
    }

    fn delete_dir(&mut self, path: &str, full: &Path) -> Result<(), DiskError> {
        if fs::remove_dir(full).is_err() {
            // Perhaps what a crash left of a replacement is in the way.
            for entry in self.table.with_descriptor(|| fs::read_dir(full)).or_disk_error()?.flatten() {
                if entry.file_name().to_str().is_some_and(path::is_temporary) {
                    fs::remove_file(entry.path()).or_disk_error()?;
                }
            }
            fs::remove_dir(full).map_err(|error| match disk_error(&error) {
                DiskError::Exists => DiskError::Io,
                error @ (DiskError::NotFound
                | DiskError::Full
                | DiskError::OutOfRange
                | DiskError::Io
                | DiskError::Denied
                | DiskError::NoDescriptors) => error,
            })?;
        }
        self.durable_dirs.remove(path);
        Ok(())
    }

    /// Tries to write a log through its mapping; false when that is not possible (yet).
    fn write_mapped(&mut self, index: usize, offset: u64, bytes: &[u8]) -> Result<bool, DiskError> {
        if self.table.node(index).window.is_none() {
            let len = self.table.node(index).len;
            let file = self.table.file(index, &self.root).or_disk_error()?;
            let window = Window::new(file, len).or_disk_error()?;
            self.table.node_mut(index).window = Some(window);
        }
        let Some(window) = &mut self.table.node_mut(index).window else { return Ok(false) };
        let is_written = window.write(offset, bytes);
        let end = offset + bytes.len() as u64;
        if let Some(stretch) = window.next_stretch(offset, end, self.options.window_bytes) {
            self.helpers.prepare(stretch);
        }
        Ok(is_written)
    }

    fn mark_stale(&mut self, serial: u64, from: u64, to: u64) {
        for fetch in self.fetches.values_mut().filter(|fetch| fetch.serial == serial) {
            fetch.is_stale |= fetch.offset < to && from < fetch.offset + u64::from(fetch.len);
        }
    }

    fn fill(&mut self, index: usize, at: Extent, buffer: &mut [u8]) -> Result<Residency, DiskError> {
        let file = self.table.file(index, &self.root).or_disk_error()?;
        if self.can_ask_residency {
            match system::read_warm(file, buffer, at.offset).or_disk_error()? {
                Warm::Read => return Ok(Residency::Resident),
                Warm::Unknown => self.can_ask_residency = false,
                Warm::Cold => return self.fill_fetched(index, at, buffer),
            }
        }
        system::read_cold(file, buffer, at.offset)?;
        Ok(Residency::Resident)
    }

    /// Takes from what fetches hold.
    fn fill_fetched(&mut self, index: usize, at: Extent, buffer: &mut [u8]) -> Result<Residency, DiskError> {
        let serial = self.table.node(index).serial;
        let end = at.offset + u64::from(at.len);
        let holds = |fetch: &&Fetch| {
            let held_end = fetch.offset + u64::from(fetch.len);
            fetch.serial == serial && fetch.bytes.is_some() && fetch.offset <= at.offset && end <= held_end
        };
        let Some(fetch) = self.fetches.values().find(holds) else { return Ok(Residency::NotResident) };
        match &fetch.bytes {
            Some(bytes) if !fetch.is_stale => {
                let start = (at.offset - fetch.offset) as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
            }
            // Written meanwhile, so in memory as good as always; where it is not, the promise is worth a wait.
            Some(_) | None => {
                let file = self.table.file(index, &self.root).or_disk_error()?;
                system::read_cold(file, buffer, at.offset)?;
            }
        }
        Ok(Residency::Resident)
    }

    fn sync_job(&mut self, id: SyncId, target: SyncTarget) -> Result<(), DiskError> {
        match target {
            SyncTarget::File(file) => {
                let (index, kind) = self.table.get(file)?;
                let serial = self.table.node(index).serial;
                let file = Arc::clone(self.table.file(index, &self.root).or_disk_error()?);
                let job = SyncJob::File { id, serial, file };
                match kind {
                    FileKind::Log => self.helpers.sync_urgently(job),
                    FileKind::Table | FileKind::Journal => self.helpers.sync_patiently(job),
                }
            }
            SyncTarget::Dir(dir) => {
                path::check_dir(&dir)?;
                let (dirs, made) = self.dirs_to_sync(&dir);
                // Known from now on: the lane works in order, and after a failure nothing is trusted. (But for one that
                // does not exist nothing was learnt.)
                if !made.is_empty() && self.dir_at(&dir).is_dir() {
                    self.durable_dirs.extend(made);
                }
                self.helpers.sync_urgently(SyncJob::Dirs { id, dirs });
            }
        }
        Ok(())
    }

    fn replace_job(&mut self, id: SyncId, path: &str, bytes: Bytes) -> Result<(), DiskError> {
        let target = self.at(path)?;
        let (dir, name) = path::split(path);
        let temporary = self.dir_at(dir).join(path::temporary(name));
        // What it learns about directories stays its own: it runs in another lane than their syncs.
        let (dirs, _) = self.dirs_to_sync(dir);
        let replace = Replace { id, path: path.to_owned(), target, temporary, dirs, bytes };
        self.helpers.sync_patiently(SyncJob::Replace(replace));
        Ok(())
    }

    fn fetch_job(&mut self, id: FetchId, at: Extent) -> Result<(), DiskError> {
        let (index, _) = self.table.get(at.file)?;
        check_range(at.offset, u64::from(at.len), self.table.node(index).len)?;
        let file = Arc::clone(self.table.file(index, &self.root).or_disk_error()?);
        let serial = self.table.node(index).serial;
        let fetch = Fetch { serial, offset: at.offset, len: at.len, bytes: None, is_stale: false };
        self.fetches.insert(id, fetch);
        self.helpers.fetch(FetchJob { id, file, offset: at.offset, len: at.len });
        Ok(())
    }

    fn on_fetched(&mut self, id: FetchId, result: Result<Vec<u8>, DiskError>) -> Result<(), DiskError> {
        match (result, self.fetches.get_mut(&id)) {
            (Ok(bytes), Some(fetch)) => {
                fetch.bytes = Some(bytes);
                Ok(())
            }
            (Ok(bytes), None) => {
                self.helpers.released(bytes.len() as u32);
                Ok(())
            }
            (Err(error), _) => {
                self.fetches.remove(&id);
                Err(error)
            }
        }
    }
}

impl Disk for MappedDisk {
    fn create(&mut self, path: &str, len: u64, kind: FileKind) -> Result<FileId, DiskError> {
        let full = self.at(path)?;
        let len = if kind == FileKind::Journal { 0 } else { len };
        if fs::symlink_metadata(&full).is_ok() {
            return Err(DiskError::Exists);
        }
        make_parents(&full)?;
        let file = self.table.with_descriptor(|| system::create_file(&full, len, kind)).or_disk_error()?;
        // Whoever removed the file by hand while it was open has ended its names.
        self.forget(path);
        let index = self.table.add(path, len, file).or_disk_error()?;
        self.table.open(index, kind)
    }

    fn open(&mut self, path: &str, kind: FileKind) -> Result<FileId, DiskError> {
        let full = self.at(path)?;
        let index = match self.table.find(path) {
            Some(index) => index,
            None => {
                let file = self.table.with_descriptor(|| system::open_file(&full)).or_disk_error()?;
                let len = file.metadata().or_disk_error()?.len();
                self.table.add(path, len, file).or_disk_error()?
            }
        };
        self.table.open(index, kind)
    }

    fn close(&mut self, file: FileId) {
        let remains = self.table.close(file);
        self.drop_later(remains);
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        Ok(self.table.node(self.table.get(file)?.0).len)
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (index, kind) = self.table.get(file)?;
        let (len, serial) = (self.table.node(index).len, self.table.node(index).serial);
        let end = offset.checked_add(bytes.len() as u64).ok_or(DiskError::OutOfRange)?;
        if end > len && (kind != FileKind::Journal || offset != len) {
            return Err(DiskError::OutOfRange);
        }
        if !self.fetches.is_empty() {
            self.mark_stale(serial, offset, end);
        }
        let is_mapped =
            kind == FileKind::Log && self.options.log_write == LogWrite::Mapped && !bytes.is_empty();
        if is_mapped && self.write_mapped(index, offset, bytes)? {
            return Ok(());
        }
        let file = self.table.file(index, &self.root).or_disk_error()?;
        let written = file.write_all_at(bytes, offset).or_disk_error();
        let len = match written {
            Ok(()) => len.max(end),
            // A part of an append may be there.
            Err(_) => file.metadata().map_or(len, |meta| meta.len()),
        };
        self.table.node_mut(index).len = len;
        written
    }

    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError> {
        let (index, kind) = self.table.get(file)?;
        let node = self.table.node_mut(index);
        let (old, serial) = (node.len, node.serial);
        // Unmapped first: a page behind the end is a signal.
        node.window = None;
        self.mark_stale(serial, old.min(len), u64::MAX);
        let file = self.table.file(index, &self.root).or_disk_error()?;
        if len < old {
            file.set_len(len).or_disk_error()?;
        } else if let Err(error) = system::extend(file, old, len, kind) {
            // Room may have been found for a part.
            let _ = file.set_len(old);
            return Err(disk_error(&error));
        }
        self.table.node_mut(index).len = len;
        Ok(())
    }

    fn read(&mut self, at: Extent, out: &mut Vec<u8>) -> Result<Residency, DiskError> {
        let (index, _) = self.table.get(at.file)?;
        check_range(at.offset, u64::from(at.len), self.table.node(index).len)?;
        if at.len == 0 {
            return Ok(Residency::Resident);
        }
        let start = out.len();
        out.resize(start + at.len as usize, 0);
        let result = self.fill(index, at, &mut out[start..]);
        if result != Ok(Residency::Resident) {
            out.truncate(start);
        }
        result
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let (from_full, to_full) = (self.at(from)?, self.at(to)?);
        if !fs::metadata(&from_full).or_disk_error()?.is_file() {
            return Err(DiskError::NotFound);
        }
        if to_full.is_dir() {
            return Err(DiskError::Io);
        }
        if from == to {
            return Ok(());
        }
        fs::rename(&from_full, &to_full).or_disk_error()?;
        self.forget(to);
        if let Some(index) = self.table.find(from) {
            self.table.rename(index, to);
        }
        Ok(())
    }

    fn delete(&mut self, path: &str) -> Result<(), DiskError> {
        let full = self.at(path)?;
        let meta = fs::symlink_metadata(&full).or_disk_error()?;
        if meta.is_dir() { self.delete_dir(path, &full) } else { self.delete_file(path, &full, meta.len()) }
    }

    fn list(&mut self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        path::check_dir(dir)?;
        let full = self.dir_at(dir);
        let entries = match self.table.with_descriptor(|| fs::read_dir(&full)).or_disk_error() {
            Err(DiskError::NotFound) => return Ok(Vec::new()),
            result => result?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry.or_disk_error()?;
            // No name of the store is outside of Unicode: what is, is not part of it.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if path::is_temporary(&name) || dir.is_empty() && name == path::LOCK_NAME {
                continue;
            }
            list.extend(system::entry(&entry.path(), name).or_disk_error()?);
        }
        list.sort();
        Ok(list)
    }

    fn stat(&mut self, path: &str) -> Result<Option<DirEntry>, DiskError> {
        path::check_dir(path)?;
        system::entry(&self.dir_at(path), path::split(path).1.to_owned()).or_disk_error()
    }

    fn space(&mut self) -> Result<Space, DiskError> {
        system::space(&self.root).or_disk_error()
    }

    fn read_small(&mut self, path: &str, len_max: u64) -> Result<Vec<u8>, DiskError> {
        let full = self.at(path)?;
        let file = self.table.with_descriptor(|| fs::File::open(&full)).or_disk_error()?;
        let meta = file.metadata().or_disk_error()?;
        if meta.is_dir() {
            return Err(DiskError::NotFound);
        }
        if meta.len() > len_max {
            return Err(DiskError::OutOfRange);
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.take(len_max).read_to_end(&mut bytes).or_disk_error()?;
        Ok(bytes)
    }

    fn sync(&mut self, id: SyncId, target: SyncTarget) {
        if let Err(error) = self.sync_job(id, target) {
            self.outbox.push([Finished::Synced(id, Err(error))]);
        }
    }

    fn replace(&mut self, id: SyncId, path: &str, bytes: Bytes) {
        if let Err(error) = self.replace_job(id, path, bytes) {
            self.outbox.push([Finished::Synced(id, Err(error))]);
        }
    }

    fn fetch(&mut self, id: FetchId, at: Extent) {
        if let Err(error) = self.fetch_job(id, at) {
            self.outbox.push([Finished::Fetched(id, Err(error))]);
        }
    }

    fn release(&mut self, id: FetchId) {
        if let Some(bytes) = self.fetches.remove(&id).and_then(|fetch| fetch.bytes) {
            self.helpers.released(bytes.len() as u32);
        }
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        for finished in self.outbox.take() {
            done.push(match finished {
                Finished::Synced(id, result) => Done::Synced(id, result),
                Finished::Replaced(id, path, result) => {
                    // Names from before the completion are of the old file, or as good as: they end.
                    if result.is_ok() {
                        self.forget(&path);
                    }
                    Done::Synced(id, result)
                }
                Finished::Fetched(id, result) => Done::Fetched(id, self.on_fetched(id, result)),
            });
        }
    }
}

fn check_range(offset: u64, len: u64, file_len: u64) -> Result<(), DiskError> {
    match offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        Some(_) | None => Err(DiskError::OutOfRange),
    }
}
