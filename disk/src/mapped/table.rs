//! The open files of a mapped disk: what a [`FileId`] means, and which files have a descriptor at the moment.
//!
//! Fifty thousand queues are more files than a process may have open. A file stays open to the machine while its
//! descriptor comes and goes: a bounded ring of descriptors, from which one that was not used since the hand last
//! passed is taken (the clock algorithm: a use costs the setting of a flag).
//!
//! Invariants: a file that is open twice is one [`Node`] with one length; a [`FileId`] is its slot and the slot's
//! generation, so that an old name does not reach a new file.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use gantry_core::io::{DiskError, FileId, FileKind};
use rustix::io::Errno;

use super::system;
use super::window::Window;

/// A [`FileId`] is the generation above the slot.
const SLOT_BITS: u32 = 20;
const SLOTS_MAX: usize = 1 << SLOT_BITS;
/// Descriptors given back at most to make room for one, when the process has run out of them.
const EVICTIONS_MAX: usize = 64;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    open: Option<(usize, FileKind)>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) len: u64,
    /// Of all files opened, which; never used twice.
    pub(super) serial: u64,
    /// The mapped window, when the file is a log that is being written.
    pub(super) window: Option<Window>,
    slots: Vec<u32>,
    /// Whatever else may be found at the path some day is another file.
    identity: (u64, u64),
    file: Option<Arc<File>>,
    used: bool,
    ring_at: usize,
}

/// What is left of a file that is no longer open: dropping it may take long.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) _file: Option<Arc<File>>,
    pub(super) window: Option<Window>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free_slots: VecDeque<u32>,
    nodes: Vec<Option<Node>>,
    free_nodes: Vec<usize>,
    by_path: HashMap<String, usize>,
    /// Nodes that have a descriptor.
    ring: Vec<usize>,
    hand: usize,
    descriptors_max: usize,
    next_serial: u64,
}

impl Table {
    pub(super) fn new(descriptors_max: usize) -> Table {
        Table {
            slots: Vec::new(),
            free_slots: VecDeque::new(),
            nodes: Vec::new(),
            free_nodes: Vec::new(),
            by_path: HashMap::new(),
            ring: Vec::new(),
            hand: 0,
            descriptors_max: descriptors_max.max(1),
            next_serial: 0,
        }
    }

    /// The node of a name, and what kind of file it was opened as.
    pub(super) fn get(&self, id: FileId) -> Result<(usize, FileKind), DiskError> {
        let slot = self.slots.get(id.0 as usize & (SLOTS_MAX - 1));
        slot.filter(|slot| slot.generation == id.0 >> SLOT_BITS)
            .and_then(|slot| slot.open)
            .ok_or(DiskError::NotFound)
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("a slot or path names a live node")
    }

    pub(super) fn node_mut(&mut self, index: usize) -> &mut Node {
        self.nodes[index].as_mut().expect("a slot or path names a live node")
    }

    /// The open file at `path`, if any.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// Adds a file that is not in the table.
    pub(super) fn add(&mut self, path: &str, len: u64, file: File) -> io::Result<usize> {
        let identity = system::identity(&file)?;
        let serial = self.next_serial;
        self.next_serial += 1;
        let node = Node {
            path: path.to_owned(),
            len,
            serial,
            window: None,
            slots: Vec::new(),
            identity,
            file: None,
            used: false,
            ring_at: 0,
        };
        let index = match self.free_nodes.pop() {
            Some(index) => {
                self.nodes[index] = Some(node);
                index
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        self.by_path.insert(path.to_owned(), index);
        self.hold(index, file);
        Ok(index)
    }

    /// A new name for an open file.
    pub(super) fn open(&mut self, index: usize, kind: FileKind) -> Result<FileId, DiskError> {
        // Slots are reused in the order freed, so that their generations last longest.
        let slot = match self.free_slots.pop_front() {
            Some(slot) => slot,
            None if self.slots.len() == SLOTS_MAX => return Err(DiskError::Io),
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize].open = Some((index, kind));
        self.node_mut(index).slots.push(slot);
        Ok(FileId(self.slots[slot as usize].generation << SLOT_BITS | slot))
    }

    /// Ends a name; the last one ends the file.
    pub(super) fn close(&mut self, id: FileId) -> Option<Remains> {
        let (index, _) = self.get(id).ok()?;
        let slot = id.0 & (SLOTS_MAX as u32 - 1);
        self.free_slot(slot);
        let node = self.node_mut(index);
        node.slots.retain(|other| *other != slot);
        if node.slots.is_empty() { self.remove(index) } else { None }
    }

    /// Ends a file and all its names.
    pub(super) fn remove(&mut self, index: usize) -> Option<Remains> {
        let file = self.evict(index);
        let node = self.nodes[index].take()?;
        for slot in node.slots {
            self.free_slot(slot);
        }
        self.by_path.remove(&node.path);
        self.free_nodes.push(index);
        Some(Remains { _file: file, window: node.window })
    }

    fn free_slot(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        state.open = None;
        state.generation = (state.generation + 1) & (u32::MAX >> SLOT_BITS);
        self.free_slots.push_back(slot);
    }

    /// A file goes on under another path, which no other open file has.
    pub(super) fn rename(&mut self, index: usize, to: &str) {
        let from = std::mem::replace(&mut self.node_mut(index).path, to.to_owned());
        self.by_path.remove(&from);
        self.by_path.insert(to.to_owned(), index);
    }

    /// The descriptor of a file, opened anew if it was given back.
    pub(super) fn file(&mut self, index: usize, root: &Path) -> io::Result<&Arc<File>> {
        if self.node(index).file.is_none() {
            let path = root.join(&self.node(index).path);
            let file = self.with_descriptor(|| system::open_file(&path))?;
            if system::identity(&file)? != self.node(index).identity {
                // Replaced, and its name ends as soon as the machine hears of it.
                return Err(Errno::NOENT.into());
            }
            self.hold(index, file);
        }
        let node = self.node_mut(index);
        node.used = true;
        Ok(node.file.as_ref().expect("held above"))
    }

    /// Opens something; gives descriptors back while the process has none left.
    pub(super) fn with_descriptor<T>(&mut self, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..EVICTIONS_MAX {
            match open() {
                Err(error) if system::is_exhausted(&error) && !self.ring.is_empty() => self.evict_one(),
                result => return result,
            }
        }
        open()
    }

    fn hold(&mut self, index: usize, file: File) {
        if self.ring.len() >= self.descriptors_max {
            self.evict_one();
        }
        let ring_at = self.ring.len();
        self.ring.push(index);
        let node = self.node_mut(index);
        (node.file, node.used, node.ring_at) = (Some(Arc::new(file)), true, ring_at);
    }

    fn evict_one(&mut self) {
        // The hand finds an unused one within two rounds, because it clears what it passes.
        loop {
            self.hand %= self.ring.len();
            let index = self.ring[self.hand];
            let node = self.node_mut(index);
            if !std::mem::take(&mut node.used) {
                self.evict(index);
                return;
            }
            self.hand += 1;
        }
    }

    fn evict(&mut self, index: usize) -> Option<Arc<File>> {
        let node = self.node_mut(index);
        let file = node.file.take()?;
        let ring_at = node.ring_at;
        self.ring.swap_remove(ring_at);
        if let Some(&moved) = self.ring.get(ring_at) {
            self.node_mut(moved).ring_at = ring_at;
        }
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn table(files: usize, descriptors_max: usize) -> (tempfile::TempDir, Table, Vec<FileId>) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut table = Table::new(descriptors_max);
        let ids = (0..files)
            .map(|n| {
                let path = n.to_string();
                std::fs::write(dir.path().join(&path), &path).expect("written");
                let file = system::open_file(&dir.path().join(&path)).expect("opened");
                let node = table.add(&path, 1, file).expect("added");
                table.open(node, FileKind::Table).expect("a slot")
            })
            .collect();
        (dir, table, ids)
    }

    #[test]
    fn descriptors_are_bounded_and_each_file_stays_itself() {
        let (dir, mut table, ids) = table(20, 3);
        for round in 0..200_usize {
            let n = round * 7 % ids.len();
            let (node, _) = table.get(ids[n]).expect("open");
            let mut text = String::new();
            let mut file: &File = table.file(node, dir.path()).expect("a descriptor");
            std::io::Seek::rewind(&mut file).expect("rewound");
            file.read_to_string(&mut text).expect("read");
            assert_eq!(text, n.to_string());
            assert!(table.ring.len() <= 3);
            for (at, node) in table.ring.iter().enumerate() {
                assert_eq!(table.node(*node).ring_at, at);
            }
        }
    }

    #[test]
    fn a_name_that_ended_reaches_nothing() {
        let (_dir, mut table, ids) = table(2, 3);
        let (node, _) = table.get(ids[0]).expect("open");
        let again = table.open(node, FileKind::Log).expect("a slot");
        assert!(table.close(ids[0]).is_none(), "still open under another name");
        assert_eq!(table.get(ids[0]), Err(DiskError::NotFound));
        assert_eq!(table.get(again), Ok((node, FileKind::Log)));
        assert!(table.close(again).is_some());
        let (other, _) = table.get(ids[1]).expect("open");
        for _ in 0..5 {
            let id = table.open(other, FileKind::Table).expect("a slot");
            assert!(!ids.contains(&id) && id != again);
            table.close(id);
        }
        assert!(table.close(ids[0]).is_none());
    }
}
