//! The levers of a [`MemoryDisk`]: what its driver, and never its machine, may do.

use std::collections::BTreeMap;

use gantry_core::io::{DiskError, Done, FileId};
use gantry_core::rng::Rng;
use gantry_core::time::WallMs;

use super::content::Content;
use super::tree::{Inode, Node, Tree};
use super::{CAPACITY_DEFAULT_BYTES, MemoryDisk, PendingKind, PendingOperation, Ticket, Work, room};
use crate::path;

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
            lies: Vec::new(),
            fail_writes: 0,
            fail_reads: 0,
            no_descriptors_per_mille: 0,
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
        self.lies.clear();
        self.tree.lose_power(rng);
        self.drop_unreachable();
        for content in self.files.values_mut() {
            content.lose_power(rng);
        }
        self.tree.split_shared(|inode| {
            let copy = Inode(self.next_inode);
            self.next_inode += 1;
            self.files.insert(copy, self.files[&inode].clone());
            copy
        });
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

    /// How the operation that [`MemoryDisk::complete`] completed last has ended, until it is reaped.
    pub fn last_result(&self) -> Option<Result<(), DiskError>> {
        self.done.last().map(|done| match done {
            Done::Synced(_, result) | Done::Fetched(_, result) => *result,
        })
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
    /// volatile cache do. The next honest sync makes up for all of them, of whatever file: it empties that cache. (Replacements are
    /// not lied about.)
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

    /// Of a thousand operations that have to open a file or a directory, so many find no descriptor left: [`Disk::create`],
    /// [`Disk::open`], [`Disk::list`], [`Disk::read_small`], a replacement and the sync of a directory. Files that are open are not
    /// concerned, for the disk of production gives up the descriptor of one that is not used for one that is.
    pub fn set_no_descriptors(&mut self, per_mille: u32) {
        self.no_descriptors_per_mille = per_mille;
    }

    /// What its files take, in bytes.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The size of the disk, in bytes. Smaller than what is used, it only stops growth.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// The size of the disk, in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The files of a directory, by name, each with the time of its last write: for checkers, whatever is failing or dead.
    pub fn peek_dir(&self, dir: &str) -> impl Iterator<Item = (&str, WallMs)> {
        self.tree.entries(dir).filter_map(|(name, node)| match node {
            Node::File(inode) => Some((name, self.files[&inode].modified)),
            Node::Dir => None,
        })
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

    /// Where an open file is found, if it still has a name.
    pub fn path_of(&self, file: FileId) -> Option<String> {
        let inode = self.opened(file).ok()?.inode;
        let found = self.tree.files().find(|(_, _, of)| *of == inode);
        found.map(|(dir, name, _)| path::join(dir, name))
    }

    /// At most `len` visible bytes of a file from `offset` on; see [`MemoryDisk::peek`].
    pub fn peek_range(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        let Some(Node::File(inode)) = self.tree.get(path) else { return None };
        let content = &self.files[&inode];
        let room = content.len().saturating_sub(offset).min(len as u64);
        let mut out = Vec::new();
        content.read(offset, room as usize, &mut out);
        Some(out)
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
