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
const CAPACITY_DEFAULT_BYTES: u64 = 1 << 40;
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
    fail_writes: u32,
    fail_reads: u32,
}

/// The levers.
impl MemoryDisk {
    /// An empty disk.
    pub fn new(rng: Rng) -> MemoryDisk {
        MemoryDisk {
            rng,
            tree: Tree::new(),
            files: BTreeMap::new(),
            next_inode: 0,
            open: Vec::new(),
            pending: Vec::new(),
            done: Vec::new(),
            pins: Vec::new(),
            wall: WallMs(0),
            capacity: CAPACITY_DEFAULT_BYTES,
            used: 0,
            turn: 1,
            automatic: false,
            operations: 0,
            dead: false,
            kill_at: None,
            cold_per_mille: 0,
            fail_syncs: 0,
            lie_syncs: 0,
            fail_writes: 0,
            fail_reads: 0,
        }
    }

    /// The time that files written from now on bear.
    pub fn set_wall(&mut self, wall: WallMs) {
        self.wall = wall;
    }

    /// Mutating operations (create, write, truncate, rename, delete, and the begin of a replacement) so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Lets the process die in the `n`-th mutating operation from now (1 is the next one). That one may happen, happen in
    /// part or not happen; from then on every operation is an error and changes nothing. 0 takes it back.
    pub fn kill_at_operation(&mut self, n: u64) {
        self.kill_at = (n > 0).then_some(self.operations + n);
    }

    /// Lets the process die now.
    pub fn kill(&mut self) {
        self.dead = true;
        self.kill_at = None;
    }

    /// Whether the process died and was not revived.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// A new process, after a death or a stop: everything written is there, open files and pending operations are
    /// forgotten. A replacement under way happened or did not. (Only where a sync had failed, pages may be as before it.)
    pub fn revive(&mut self) {
        self.end_replacements();
        for content in self.files.values_mut() {
            content.evict_forgotten(&mut self.rng);
        }
        self.forget_process();
    }

    /// The power fails and comes back: what is visible becomes a state that the medium may hold, drawn from `rng`. Open
    /// files and pending operations are forgotten.
    pub fn power_loss(&mut self, rng: &mut Rng) {
        self.end_replacements();
        self.tree.lose_power(rng);
        self.drop_unreachable();
        for content in self.files.values_mut() {
            content.lose_power(rng);
        }
        self.used = self.files.values().map(|content| room(content.len())).sum();
        self.forget_process();
    }

    fn end_replacements(&mut self) {
        for index in 0..self.pending.len() {
            let Work::Replace { path, bytes, happened: None } = &self.pending[index].what else { continue };
            // Replacements of a path take effect in order: one that did not happen ends the series.
            let (path, bytes) = (path.clone(), bytes.clone());
            if self.rng.one_in(2) {
                let _ = self.apply_replace(&path, &bytes);
            } else {
                for other in &mut self.pending {
                    if let Work::Replace { path: of, happened, .. } = &mut other.what
                        && *of == path
                    {
                        happened.get_or_insert(Ok(()));
                    }
                }
            }
        }
    }

    fn forget_process(&mut self) {
        self.open.clear();
        self.pending.clear();
        self.done.clear();
        self.pins.clear();
        self.dead = false;
        self.kill_at = None;
        self.turn += 1;
    }

    /// What has begun and not completed, in the order begun.
    pub fn pending(&self) -> impl Iterator<Item = PendingOperation> {
        self.pending.iter().map(|pending| {
            let (kind, bytes) = match &pending.what {
                Work::File { inode, .. } => {
                    let content = inode.and_then(|inode| self.files.get(&inode));
                    (PendingKind::File, content.map_or(0, Content::dirty_bytes))
                }
                Work::Dir { .. } => (PendingKind::Dir, 0),
                Work::Replace { bytes, .. } => (PendingKind::Replace, bytes.len() as u64),
                Work::Fetch { at } => (PendingKind::Fetch, u64::from(at.len)),
            };
            PendingOperation { ticket: pending.ticket, kind, bytes }
        })
    }

    /// Completes a pending operation: its effect takes place now, and [`Disk::reap`] hands it over next. `result` may make
    /// it fail; what makes it fail by itself (a full disk, a file that is not open) wins over `Ok`. False when there is no
    /// such operation.
    pub fn complete(&mut self, ticket: Ticket, result: Result<(), DiskError>) -> bool {
        if self.dead {
            return false;
        }
        let Some(index) = self.pending.iter().position(|pending| pending.ticket == ticket) else {
            return false;
        };
        let result = match self.pending[index].what.clone() {
            Work::File { inode, point } => self.complete_file(inode, point, result),
            Work::Dir { dir, point } => self.complete_dir(&dir, point, result),
            Work::Replace { .. } => self.complete_replace(index, result),
            Work::Fetch { at } => match ticket {
                Ticket::Fetch(id) => self.complete_fetch(id, at, result),
                Ticket::Sync(_) => unreachable!("a fetch has the ticket of a fetch"),
            },
        };
        self.pending.remove(index);
        self.done.push(match ticket {
            Ticket::Sync(id) => Done::Synced(id, result),
            Ticket::Fetch(id) => Done::Fetched(id, result),
        });
        true
    }

    /// Completes everything pending, in the order begun.
    pub fn complete_all(&mut self) {
        while let Some(first) = self.pending.first().map(|pending| pending.ticket) {
            if !self.complete(first, Ok(())) {
                break;
            }
        }
    }

    /// Lets each [`Disk::reap`] complete everything first, for drivers that do not care when.
    pub fn set_automatic(&mut self, automatic: bool) {
        self.automatic = automatic;
    }

    /// Lets the next `count` syncs and replacements fail when they complete.
    pub fn fail_syncs(&mut self, count: u32) {
        self.fail_syncs = count;
    }

    /// Lets the next `count` syncs of files or directories report success and make nothing durable, as drives with a
    /// volatile cache do. An honest sync later makes up for it.
    pub fn lie_syncs(&mut self, count: u32) {
        self.lie_syncs = count;
    }

    /// Lets the next `count` writes fail, each after any part of its bytes.
    pub fn fail_writes(&mut self, count: u32) {
        self.fail_writes = count;
    }

    /// Lets the next `count` reads fail: of [`Disk::read`], [`Disk::read_small`] or a fetch.
    pub fn fail_reads(&mut self, count: u32) {
        self.fail_reads = count;
    }

    /// The size of the disk, in bytes. Smaller than what is used, it only stops growth.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Of a thousand reads of what was neither written in this turn nor fetched, so many find it not in memory.
    pub fn set_cold_ratio(&mut self, per_mille: u32) {
        self.cold_per_mille = per_mille;
    }

    /// Flips a bit on the medium and in memory. False when the file has no such byte.
    pub fn flip_bit(&mut self, path: &str, offset: u64, bit: u8) -> bool {
        self.content_at(path).filter(|content| offset < content.len()).is_some_and(|content| {
            content.flip(offset, bit);
            true
        })
    }

    /// Makes the sector at `offset` unreadable (a fetch of it fails, a read of it finds nothing in memory) until it is
    /// written as a whole. False when the file has no such byte.
    pub fn damage_sector(&mut self, path: &str, offset: u64) -> bool {
        self.content_at(path).filter(|content| offset < content.len()).is_some_and(|content| {
            content.damage(offset);
            true
        })
    }

    /// A hash of every directory, file name, length and byte that is visible: of what is there and not of how it came.
    pub fn digest(&self) -> u64 {
        let mut hash = Digest(0xcbf2_9ce4_8422_2325);
        for dir in self.tree.dirs() {
            hash.fold_str(dir);
        }
        for (dir, name, inode) in self.tree.files() {
            hash.fold_str(dir);
            hash.fold_str(name);
            self.files[&inode].digest(|word| hash.fold(word));
        }
        hash.0
    }

    /// Every file that is visible: its path and its length, sorted by directory, then name.
    pub fn files(&self) -> impl Iterator<Item = (String, u64)> {
        self.tree.files().map(|(dir, name, inode)| (path::join(dir, name), self.files[&inode].len()))
    }

    /// The visible bytes of a file, whatever is cold, failing or dead: for checkers.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let Some(Node::File(inode)) = self.tree.get(path) else { return None };
        let content = &self.files[&inode];
        let mut out = Vec::new();
        content.read(0, content.len() as usize, &mut out);
        Some(out)
    }
}

/// What happens inside.
impl MemoryDisk {
    /// Counts a mutating operation. `Ok(true)`: the process dies in it.
    fn begin_operation(&mut self) -> Result<bool, DiskError> {
        if self.dead {
            return Err(DiskError::Io);
        }
        self.operations += 1;
        if self.kill_at == Some(self.operations) {
            self.kill();
            return Ok(true);
        }
        Ok(false)
    }

    /// Performs a mutating operation that happens as a whole or not at all.
    fn mutate<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let dies = self.begin_operation()?;
        if dies && self.rng.one_in(2) {
            return Err(DiskError::Io);
        }
        let result = act(self);
        if dies { Err(DiskError::Io) } else { result }
    }

    fn alive(&self) -> Result<(), DiskError> {
        if self.dead { Err(DiskError::Io) } else { Ok(()) }
    }

    fn opened(&self, file: FileId) -> Result<Open, DiskError> {
        self.open.get(file.0 as usize).copied().flatten().ok_or(DiskError::NotFound)
    }

    fn content(&self, inode: Inode) -> &Content {
        self.files.get(&inode).expect("an open or named inode has its content")
    }

    fn content_mut(&mut self, inode: Inode) -> &mut Content {
        self.files.get_mut(&inode).expect("an open or named inode has its content")
    }

    fn content_at(&mut self, path: &str) -> Option<&mut Content> {
        match self.tree.get(path)? {
            Node::File(inode) => self.files.get_mut(&inode),
            Node::Dir => None,
        }
    }

    fn add(&mut self, content: Content) -> Inode {
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        self.files.insert(inode, content);
        inode
    }

    fn open_inode(&mut self, inode: Inode, kind: FileKind) -> FileId {
        let id = FileId(u32::try_from(self.open.len()).expect("fewer files are opened in a life"));
        self.open.push(Some(Open { inode, kind }));
        id
    }

    fn close_inode(&mut self, inode: Inode) {
        for open in &mut self.open {
            if open.is_some_and(|open| open.inode == inode) {
                *open = None;
            }
        }
    }

    /// Checks that a file may take `len` instead of `old` bytes, and counts them.
    fn resize(&mut self, old: u64, len: u64) -> Result<(), DiskError> {
        let (old, new) = (room(old), room(len));
        if new > old && (len > FILE_BYTES_MAX || self.used + (new - old) > self.capacity) {
            return Err(DiskError::Full);
        }
        self.used = self.used - old + new;
        Ok(())
    }

    fn do_create(&mut self, path: &str, len: u64, kind: FileKind, dies: bool) -> Result<FileId, DiskError> {
        path::check(path)?;
        if self.tree.get(path).is_some() {
            return Err(DiskError::Exists);
        }
        let len = if kind == FileKind::Journal { 0 } else { len };
        self.resize(0, len)?;
        if let Err(error) = self.tree.make_parents(path) {
            self.used -= room(len);
            return Err(error);
        }
        let mut content = Content::allocated(len);
        content.modified = self.wall;
        if dies && self.rng.one_in(2) {
            // The room of a file is allocated in steps, after its entry is there.
            let part = self.rng.below(len / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64;
            self.used = self.used - room(len) + room(part);
            content.truncate(part);
        }
        let inode = self.add(content);
        self.tree.set(path, Some(Node::File(inode)));
        Ok(self.open_inode(inode, kind))
    }

    fn do_rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        path::check(from)?;
        path::check(to)?;
        let Some(Node::File(inode)) = self.tree.get(from) else { return Err(DiskError::NotFound) };
        if !self.tree.has_dir(path::split(to).0) {
            return Err(DiskError::NotFound);
        }
        match self.tree.get(to) {
            Some(Node::Dir) => return Err(DiskError::Io),
            Some(Node::File(old)) if old == inode => return Ok(()),
            Some(Node::File(old)) => self.unlink(old),
            None => {}
        }
        self.tree.rename(from, to, inode);
        Ok(())
    }

    fn do_delete(&mut self, path: &str) -> Result<(), DiskError> {
        path::check(path)?;
        match self.tree.get(path) {
            None => return Err(DiskError::NotFound),
            Some(Node::Dir) if self.tree.entries(path).next().is_some() => return Err(DiskError::Io),
            Some(Node::Dir) => {}
            Some(Node::File(inode)) => self.unlink(inode),
        }
        self.tree.set(path, None);
        Ok(())
    }

    /// A file loses its name. Its bytes stay for as long as a power loss may bring the name back.
    fn unlink(&mut self, inode: Inode) {
        self.close_inode(inode);
        self.used -= room(self.content(inode).len());
    }

    fn apply_replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        path::check(path)?;
        // Both versions exist for a moment.
        self.resize(0, bytes.len() as u64)?;
        let made = match self.tree.get(path) {
            Some(Node::Dir) => Err(DiskError::Io),
            Some(Node::File(_)) | None => self.tree.make_parents(path),
        };
        if made.is_err() {
            self.used -= room(bytes.len() as u64);
            return made;
        }
        if let Some(Node::File(old)) = self.tree.get(path) {
            self.unlink(old);
        }
        let mut content = Content::durable(bytes);
        content.modified = self.wall;
        let inode = self.add(content);
        self.tree.set(path, Some(Node::File(inode)));
        Ok(())
    }

    fn drop_unreachable(&mut self) {
        let reachable = self.tree.reachable();
        self.files.retain(|inode, _| reachable.contains(inode));
    }

    /// What a sync comes to, given what its driver wants: failures ordered beforehand come first.
    fn draw_failure(&mut self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        result?;
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(DiskError::Io);
        }
        Ok(())
    }

    /// As [`Self::draw_failure`]; a success may be a lie (`Ok(false)`).
    fn draw_sync(&mut self, result: Result<(), DiskError>) -> Result<bool, DiskError> {
        self.draw_failure(result)?;
        let honest = self.lie_syncs == 0;
        self.lie_syncs = self.lie_syncs.saturating_sub(1);
        Ok(honest)
    }

    fn complete_file(
        &mut self,
        inode: Option<Inode>,
        point: u64,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let outcome = self.draw_sync(result);
        let inode = inode.ok_or(DiskError::NotFound)?;
        // A file whose name is gone for good has nothing left to lose.
        let Some(content) = self.files.get_mut(&inode) else { return outcome.map(|_| ()) };
        match outcome {
            Ok(true) => content.covered(point),
            Ok(false) => {}
            Err(_) => content.forgotten(point),
        }
        outcome.map(|_| ())
    }

    fn complete_dir(
        &mut self,
        dir: &str,
        point: u64,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let honest = self.draw_sync(result)?;
        if !self.tree.has_dir(dir) {
            return Err(DiskError::NotFound);
        }
        if honest && self.tree.covered(dir, point) {
            self.drop_unreachable();
        }
        Ok(())
    }

    /// Completes a replacement; earlier ones of the same path take place before it.
    fn complete_replace(&mut self, index: usize, result: Result<(), DiskError>) -> Result<(), DiskError> {
        self.draw_failure(result)?;
        let Work::Replace { path: target, .. } = &self.pending[index].what else {
            unreachable!("the caller found a replacement here");
        };
        let target = target.clone();
        for at in 0..=index {
            let Work::Replace { path, bytes, happened: None } = &self.pending[at].what else { continue };
            if *path == target {
                let result = self.apply_replace(&target, &bytes.clone());
                if let Work::Replace { happened, .. } = &mut self.pending[at].what {
                    *happened = Some(result);
                }
            }
        }
        let Work::Replace { happened, .. } = &self.pending[index].what else {
            unreachable!("the caller found a replacement here");
        };
        let result = happened.unwrap_or(Ok(()));
        if result.is_ok() {
            let point = self.tree.sync_point();
            if self.tree.covered(path::split(&target).0, point) {
                self.drop_unreachable();
            }
        }
        result
    }

    fn complete_fetch(
        &mut self,
        id: FetchId,
        at: Extent,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        result?;
        self.draw_read()?;
        let Open { inode, .. } = self.opened(at.file)?;
        let content = self.content(inode);
        check_range(at.offset, u64::from(at.len), content.len())?;
        if content.is_bad(at.offset, u64::from(at.len)) {
            return Err(DiskError::Io);
        }
        let (first_page, last_page) = pages(at);
        self.pins.push(Pin { id, inode, first_page, last_page });
        Ok(())
    }

    fn draw_read(&mut self) -> Result<(), DiskError> {
        if self.fail_reads > 0 {
            self.fail_reads -= 1;
            return Err(DiskError::Io);
        }
        Ok(())
    }

    fn is_resident(&mut self, inode: Inode, at: Extent) -> bool {
        let content = self.content(inode);
        let is_bad = content.is_bad(at.offset, u64::from(at.len));
        if self.cold_per_mille == 0 && !is_bad || at.len == 0 {
            return true;
        }
        let (first, last) = pages(at);
        let is_certain = |page: u32| {
            let is_pin = |pin: &Pin| pin.inode == inode && (pin.first_page..=pin.last_page).contains(&page);
            content.is_written_in(page, self.turn) || self.pins.iter().any(is_pin)
        };
        if (first..=last).all(is_certain) {
            return true;
        }
        !is_bad && self.rng.below(1000) >= u64::from(self.cold_per_mille)
    }

    fn entry(&self, name: &str, node: Node) -> DirEntry {
        match node {
            Node::Dir => DirEntry { name: name.to_owned(), is_dir: true, len: 0, modified: WallMs(0) },
            Node::File(inode) => {
                let content = self.content(inode);
                DirEntry {
                    name: name.to_owned(),
                    is_dir: false,
                    len: content.len(),
                    modified: content.modified,
                }
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn create(&mut self, path: &str, len: u64, kind: FileKind) -> Result<FileId, DiskError> {
        let dies = self.begin_operation()?;
        if dies && self.rng.one_in(2) {
            return Err(DiskError::Io);
        }
        let result = self.do_create(path, len, kind, dies);
        if dies { Err(DiskError::Io) } else { result }
    }

    fn open(&mut self, path: &str, kind: FileKind) -> Result<FileId, DiskError> {
        self.alive()?;
        path::check(path)?;
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

/// A 64-bit hash whose value may be kept: words mixed by multiplication and rotation.
struct Digest(u64);

impl Digest {
    fn fold(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ self.0 >> 32;
    }

    fn fold_str(&mut self, text: &str) {
        self.fold(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }
}
