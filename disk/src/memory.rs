//! A disk in memory on which everything goes wrong that goes wrong with disks, when its driver says so.
//!
//! To the machine it is a [`Disk`]; to the simulator it is a set of levers (the inherent methods): the death of the process
//! at a chosen operation, the loss of power, when each sync and fetch completes and how, a full disk, cold pages, errors,
//! bits that flip. It is deterministic: the same calls with the same [`Rng`] give the same bytes.
//!
//! What it models:
//! - process death keeps everything written; a replacement under way happens or does not;
//! - power loss leaves of each page any state since the last completed sync of its file, torn at sectors, of each length
//!   likewise (a file whose creation was never synced may have grown only in part), and of each directory entry any state
//!   since the last completed sync of its directory, where a rename within a directory is one step;
//! - after a failed sync the pages count as clean: no later sync writes them unless they are written again, and a restart
//!   may find them as they were before.
//!
//! Absent on purpose: time (the driver decides when a pending operation completes), misdirected writes, reordering of
//! writes within a sector.

use std::collections::BTreeMap;

use bytes::Bytes;
use gantry_core::io::{
    DirEntry, Disk, DiskError, Done, Extent, FetchId, FileId, FileKind, Residency, Space, SyncId, SyncTarget,
};
use gantry_core::rng::Rng;
use gantry_core::time::WallMs;

use crate::path;

mod content;
mod inside;
mod levers;
mod tree;

use content::{Content, PAGE_BYTES};
use tree::{Inode, Node, Tree};

/// How much of what is not durable a power loss takes: drawn once for each file and once for the directories, so that the
/// extremes, which find most bugs, are common.
#[derive(Clone, Copy, Debug)]
enum Fate {
    KeepAll,
    LoseAll,
    /// Changes from this sequence on are lost.
    Cut(u64),
    /// Each change, page or sector on its own.
    Scatter,
}

impl Fate {
    fn draw(rng: &mut Rng, first: u64, end: u64) -> Fate {
        match rng.below(8) {
            0 => Fate::KeepAll,
            1 | 2 => Fate::LoseAll,
            3 | 4 => Fate::Cut(first + rng.below(end - first + 1)),
            _ => Fate::Scatter,
        }
    }

    fn loses(self, seq: u64, rng: &mut Rng) -> bool {
        match self {
            Fate::KeepAll => false,
            Fate::LoseAll => true,
            Fate::Cut(cut) => seq >= cut,
            Fate::Scatter => rng.one_in(2),
        }
    }
}

/// Names an operation that has begun and not completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Ticket {
    /// A sync or a replacement.
    Sync(SyncId),
    /// A fetch.
    Fetch(FetchId),
}

/// What a pending operation does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum PendingKind {
    /// Syncs a file.
    File,
    /// Syncs a directory.
    Dir,
    /// Replaces a small file.
    Replace,
    /// Reads an extent into memory.
    Fetch,
}

/// An operation that waits for [`MemoryDisk::complete`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingOperation {
    /// Its name.
    pub ticket: Ticket,
    /// What it does.
    pub kind: PendingKind,
    /// How many bytes the device moves for it.
    pub bytes: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    ticket: Ticket,
    what: Work,
}

#[derive(Clone, Debug)]
enum Work {
    /// Valid changes below `point`; `None` when the file was not open.
    File {
        inode: Option<Inode>,
        point: u64,
    },
    Dir {
        dir: String,
        point: u64,
    },
    Replace {
        path: String,
        bytes: Bytes,
        happened: Option<Result<(), DiskError>>,
    },
    Fetch {
        at: Extent,
    },
}

/// What a sync said that it had made durable, and what is still in the cache of the device: changes below a point.
#[derive(Clone, Debug)]
enum Lie {
    File(Inode, u64),
    Dir(String, u64),
}

#[derive(Clone, Copy, Debug)]
struct Open {
    inode: Inode,
    kind: FileKind,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    id: FetchId,
    inode: Inode,
    first_page: u32,
    last_page: u32,
}

/// The room of a disk without [`MemoryDisk::set_capacity`], in bytes.
pub const CAPACITY_DEFAULT_BYTES: u64 = 1 << 40;
/// The length of a file at most, in bytes: page numbers fit in 32 bits.
const FILE_BYTES_MAX: u64 = 1 << 43;

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    rng: Rng,
    tree: Tree,
    files: BTreeMap<Inode, Content>,
    next_inode: u32,
    /// By [`FileId`]; ids are never used twice in a life.
    open: Vec<Option<Open>>,
    pending: Vec<Pending>,
    done: Vec<Done>,
    pins: Vec<Pin>,
    wall: WallMs,
    capacity: u64,
    used: u64,
    /// Counts [`Disk::reap`]: what is written in a turn stays in memory for that turn.
    turn: u64,
    automatic: bool,
    operations: u64,
    dead: bool,
    kill_at: Option<u64>,
    cold_per_mille: u32,
    fail_syncs: u32,
    lie_syncs: u32,
    lies: Vec<Lie>,
    fail_writes: u32,
    fail_reads: u32,
    no_descriptors_per_mille: u32,
}

impl Disk for MemoryDisk {
    fn create(&mut self, path: &str, len: u64, kind: FileKind) -> Result<FileId, DiskError> {
        let dies = self.begin_operation()?;
        if dies && self.rng.one_in(2) {
            return Err(DiskError::Io);
        }
        let result = self.draw_descriptor().and_then(|()| self.do_create(path, len, kind, dies));
        if dies { Err(DiskError::Io) } else { result }
    }

    fn open(&mut self, path: &str, kind: FileKind) -> Result<FileId, DiskError> {
        self.alive()?;
        path::check(path)?;
        self.draw_descriptor()?;
        match self.tree.get(path) {
            Some(Node::File(inode)) => Ok(self.open_inode(inode, kind)),
            Some(Node::Dir) | None => Err(DiskError::NotFound),
        }
    }

    fn close(&mut self, file: FileId) {
        if let Some(open) = self.open.get_mut(file.0 as usize) {
            *open = None;
        }
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        self.alive()?;
        Ok(self.content(self.opened(file)?.inode).len())
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let dies = self.begin_operation()?;
        let Open { inode, kind } = self.opened(file)?;
        let old = self.content(inode).len();
        let end = offset.checked_add(bytes.len() as u64).ok_or(DiskError::OutOfRange)?;
        if end > old {
            if kind != FileKind::Journal || offset != old {
                return Err(DiskError::OutOfRange);
            }
            self.resize(old, end)?;
        }
        let fails = dies || self.fail_writes > 0;
        let (turn, wall) = (self.turn, self.wall);
        let mut part = bytes;
        if fails {
            self.fail_writes = self.fail_writes.saturating_sub(1);
            part = &bytes[..self.rng.below(bytes.len() as u64 + 1) as usize];
            if end > old {
                self.used = self.used - room(end) + room(old + part.len() as u64);
            }
        }
        let content = self.content_mut(inode);
        content.modified = wall;
        content.write(offset, part, turn);
        if fails { Err(DiskError::Io) } else { Ok(()) }
    }

    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.mutate(|disk| {
            let Open { inode, .. } = disk.opened(file)?;
            disk.resize(disk.content(inode).len(), len)?;
            let wall = disk.wall;
            let content = disk.content_mut(inode);
            content.modified = wall;
            content.truncate(len);
            Ok(())
        })
    }

    fn read(&mut self, at: Extent, out: &mut Vec<u8>) -> Result<Residency, DiskError> {
        self.alive()?;
        let Open { inode, .. } = self.opened(at.file)?;
        check_range(at.offset, u64::from(at.len), self.content(inode).len())?;
        self.draw_read()?;
        if !self.is_resident(inode, at) {
            return Ok(Residency::NotResident);
        }
        self.content(inode).read(at.offset, at.len as usize, out);
        Ok(Residency::Resident)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.mutate(|disk| disk.do_rename(from, to))
    }

    fn delete(&mut self, path: &str) -> Result<(), DiskError> {
        self.mutate(|disk| disk.do_delete(path))
    }

    fn list(&mut self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        self.alive()?;
        path::check_dir(dir)?;
        self.draw_descriptor()?;
        Ok(self.tree.entries(dir).map(|(name, node)| self.entry(name, node)).collect())
    }

    fn stat(&mut self, path: &str) -> Result<Option<DirEntry>, DiskError> {
        self.alive()?;
        path::check_dir(path)?;
        Ok(self.tree.get(path).map(|node| self.entry(path::split(path).1, node)))
    }

    fn space(&mut self) -> Result<Space, DiskError> {
        self.alive()?;
        Ok(Space { total: self.capacity, free: self.capacity.saturating_sub(self.used) })
    }

    fn read_small(&mut self, path: &str, len_max: u64) -> Result<Vec<u8>, DiskError> {
        self.alive()?;
        path::check(path)?;
        self.draw_descriptor()?;
        self.draw_read()?;
        let Some(Node::File(inode)) = self.tree.get(path) else { return Err(DiskError::NotFound) };
        let content = self.content(inode);
        if content.len() > len_max {
            return Err(DiskError::OutOfRange);
        }
        if content.is_bad(0, content.len()) {
            return Err(DiskError::Io);
        }
        let mut out = Vec::new();
        content.read(0, content.len() as usize, &mut out);
        Ok(out)
    }

    fn sync(&mut self, id: SyncId, target: SyncTarget) {
        if self.dead {
            return;
        }
        let what = match target {
            SyncTarget::File(file) => {
                let inode = self.opened(file).ok().map(|open| open.inode);
                let point = inode.map_or(0, |inode| self.content(inode).sync_point());
                Work::File { inode, point }
            }
            SyncTarget::Dir(dir) => Work::Dir { dir, point: self.tree.sync_point() },
        };
        self.pending.push(Pending { ticket: Ticket::Sync(id), what });
    }

    fn replace(&mut self, id: SyncId, path: &str, bytes: Bytes) {
        match self.begin_operation() {
            Ok(dies) if !dies || self.rng.one_in(2) => {
                let what = Work::Replace { path: path.to_owned(), bytes, happened: None };
                self.pending.push(Pending { ticket: Ticket::Sync(id), what });
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn fetch(&mut self, id: FetchId, at: Extent) {
        if !self.dead {
            self.pending.push(Pending { ticket: Ticket::Fetch(id), what: Work::Fetch { at } });
        }
    }

    fn release(&mut self, id: FetchId) {
        self.pins.retain(|pin| pin.id != id);
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        if self.dead {
            return;
        }
        if self.automatic {
            self.complete_all();
        }
        self.turn += 1;
        done.append(&mut self.done);
    }
}

/// The room that a file of `len` bytes takes.
fn room(len: u64) -> u64 {
    len.next_multiple_of(PAGE_BYTES as u64)
}

fn check_range(offset: u64, len: u64, file_len: u64) -> Result<(), DiskError> {
    match offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        Some(_) | None => Err(DiskError::OutOfRange),
    }
}

/// First and last page of an extent that is not empty.
fn pages(at: Extent) -> (u32, u32) {
    let last = at.offset + u64::from(at.len).max(1) - 1;
    ((at.offset / PAGE_BYTES as u64) as u32, (last / PAGE_BYTES as u64) as u32)
}
