//! Directories: what is visible, and which changes of entries a power loss may take back.
//!
//! A change is one operation on one directory (a rename within a directory is one change of two names). For each name a
//! power loss keeps a prefix of its changes; a sync of a directory keeps all that were made there before, and the
//! creation of the directory and of those above it. What was changed in a directory before it was removed is as gone as it is: one
//! made later under its name is another.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::io::DiskError;
use gantry_core::rng::Rng;

use super::Fate;
use crate::path;

/// A file's content, by name-independent number. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Inode(pub(super) u32);

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Dir,
    File(Inode),
}

#[derive(Clone, Debug)]
struct Change {
    seq: u64,
    dir: String,
    names: Vec<Renamed>,
    /// A change that is kept if this one is (the new name of a file that left this directory).
    keeps: Option<u64>,
}

impl Change {
    /// The directories that it removes, with its number.
    fn removed_dirs(&self) -> impl Iterator<Item = (String, u64)> {
        let gone = |renamed: &&Renamed| renamed.before == Some(Node::Dir) && renamed.after.is_none();
        self.names.iter().filter(gone).map(|renamed| (path::join(&self.dir, &renamed.name), self.seq))
    }
}

/// A name, and what it meant before and after.
#[derive(Clone, Debug)]
struct Renamed {
    name: String,
    before: Option<Node>,
    after: Option<Node>,
}

fn file_of(node: Option<Node>) -> Option<Inode> {
    match node {
        Some(Node::File(inode)) => Some(inode),
        Some(Node::Dir) | None => None,
    }
}

/// All directories.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    dirs: BTreeMap<String, BTreeMap<String, Node>>,
    /// Changes not yet known to be durable, oldest first.
    changes: Vec<Change>,
    next_seq: u64,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { dirs: BTreeMap::from([(String::new(), BTreeMap::new())]), changes: Vec::new(), next_seq: 0 }
    }

    pub(super) fn get(&self, path: &str) -> Option<Node> {
        if path.is_empty() {
            return Some(Node::Dir);
        }
        let (dir, name) = path::split(path);
        self.dirs.get(dir)?.get(name).copied()
    }

    /// The entries of a directory, sorted by name.
    pub(super) fn entries(&self, dir: &str) -> impl Iterator<Item = (&str, Node)> {
        self.dirs.get(dir).into_iter().flatten().map(|(name, node)| (name.as_str(), *node))
    }

    pub(super) fn has_dir(&self, dir: &str) -> bool {
        self.dirs.contains_key(dir)
    }

    /// Every file with its path, sorted by directory, then name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str, Inode)> {
        self.dirs.iter().flat_map(|(dir, entries)| {
            entries.iter().filter_map(move |(name, node)| match node {
                Node::File(inode) => Some((dir.as_str(), name.as_str(), *inode)),
                Node::Dir => None,
            })
        })
    }

    /// The directories, sorted.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &str> {
        self.dirs.keys().map(String::as_str)
    }

    /// Creates the directories that a file at `path` needs.
    pub(super) fn make_parents(&mut self, path: &str) -> Result<(), DiskError> {
        let dir = path::split(path).0;
        if self.has_dir(dir) {
            return Ok(());
        }
        self.make_parents(dir)?;
        if self.get(dir).is_some() {
            // A file is in the way.
            return Err(DiskError::Io);
        }
        self.set(dir, Some(Node::Dir));
        Ok(())
    }

    /// Makes an entry mean something else; its directory exists.
    pub(super) fn set(&mut self, path: &str, after: Option<Node>) {
        let (dir, name) = path::split(path);
        let before = self.get(path);
        self.put(dir, name, after);
        let names = vec![Renamed { name: name.to_owned(), before, after }];
        self.log(dir, names, None);
    }

    /// Moves a file to a name whose directory exists.
    pub(super) fn rename(&mut self, from: &str, to: &str, inode: Inode) {
        let ((from_dir, from_name), (to_dir, to_name)) = (path::split(from), path::split(to));
        let node = Some(Node::File(inode));
        let gone = Renamed { name: from_name.to_owned(), before: node, after: None };
        let come = Renamed { name: to_name.to_owned(), before: self.get(to), after: node };
        self.put(from_dir, from_name, None);
        self.put(to_dir, to_name, node);
        if from_dir == to_dir {
            self.log(from_dir, vec![gone, come], None);
        } else {
            let come_seq = self.log(to_dir, vec![come], None);
            self.log(from_dir, vec![gone], Some(come_seq));
        }
    }

    fn put(&mut self, dir: &str, name: &str, node: Option<Node>) {
        // A directory that vanished takes the changes in it along.
        let Some(entries) = self.dirs.get_mut(dir) else { return };
        let before = match node {
            Some(node) => entries.insert(name.to_owned(), node),
            None => entries.remove(name),
        };
        if node == Some(Node::Dir) {
            self.dirs.entry(path::join(dir, name)).or_default();
        } else if before == Some(Node::Dir) {
            let path = path::join(dir, name);
            let below = format!("{path}/");
            self.dirs.retain(|dir, _| *dir != path && !dir.starts_with(&below));
        }
    }

    fn log(&mut self, dir: &str, names: Vec<Renamed>, keeps: Option<u64>) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.changes.push(Change { seq, dir: dir.to_owned(), names, keeps });
        seq
    }

    /// A sync that begins now covers the changes below this.
    pub(super) fn sync_point(&self) -> u64 {
        self.next_seq
    }

    /// A sync of `dir` that began at `point` succeeded. Gives the files whose last name may have gone for good.
    pub(super) fn covered(&mut self, dir: &str, point: u64) -> Vec<Inode> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        let above: BTreeSet<&str> = path::ancestors(dir).collect();
        let is_own = |change: &Change| {
            let makes_dir = |renamed: &Renamed| renamed.after == Some(Node::Dir) && renamed.before.is_none();
            change.seq < point
                && (change.dir == dir
                    || above.contains(change.dir.as_str())
                        && change.names.iter().any(|renamed| {
                            makes_dir(renamed)
                                && above.contains(path::join(&change.dir, &renamed.name).as_str())
                        }))
        };
        // A rename across directories is one transaction of the file system: when the old name is gone for good, the
        // new one is there for good.
        let mut covered: BTreeSet<u64> =
            self.changes.iter().filter(|change| is_own(change)).map(|c| c.seq).collect();
        let along: Vec<u64> =
            self.changes.iter().filter(|c| covered.contains(&c.seq)).filter_map(|c| c.keeps).collect();
        covered.extend(along);
        // Of each name a prefix of the changes is kept, and what was in a removed directory went with it.
        for seq in covered.clone() {
            let Some(change) = self.changes.iter().find(|change| change.seq == seq) else { continue };
            let earlier = self.changes.iter().filter(|c| c.seq < seq && shares_name(c, change));
            covered.extend(earlier.map(|c| c.seq));
        }
        let removed: Vec<(String, u64)> =
            self.changes.iter().filter(|c| covered.contains(&c.seq)).flat_map(Change::removed_dirs).collect();
        for (dir, seq) in removed {
            let within = self.changes.iter().filter(|c| c.seq < seq && path::is_in(&c.dir, &dir));
            covered.extend(within.map(|c| c.seq));
        }
        let gone = self.changes.extract_if(.., |change| covered.contains(&change.seq));
        gone.flat_map(|change| change.names).filter_map(|renamed| file_of(renamed.before)).collect()
    }

    /// Whether a file has a name, or may have one again after a power loss.
    pub(super) fn is_reachable(&self, inode: Inode) -> bool {
        self.files().any(|(_, _, other)| other == inode) || self.former().any(|other| other == inode)
    }

    /// The files that names stood for before the changes.
    fn former(&self) -> impl Iterator<Item = Inode> {
        self.changes.iter().flat_map(|change| &change.names).filter_map(|renamed| file_of(renamed.before))
    }

    /// Every file that has a name, or may have one again after a power loss.
    pub(super) fn reachable(&self) -> BTreeSet<Inode> {
        self.files().map(|(_, _, inode)| inode).chain(self.former()).collect()
    }

    /// Gives every name a file of its own, where a power loss kept both names of one.
    pub(super) fn split_shared(&mut self, mut copy: impl FnMut(Inode) -> Inode) {
        let mut seen = BTreeSet::new();
        for node in self.dirs.values_mut().flat_map(BTreeMap::values_mut) {
            if let Node::File(inode) = node
                && !seen.insert(*inode)
            {
                *inode = copy(*inode);
            }
        }
    }

    /// Becomes a state that a power loss may leave.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.changes);
        let Some(first) = changes.first().map(|change| change.seq) else { return };
        let fate = Fate::draw(rng, first, self.next_seq);
        let mut kept_names: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut kept_along: BTreeSet<u64> = BTreeSet::new();
        let mut kept_removals: Vec<String> = Vec::new();
        let mut lost = Vec::new();
        for change in changes.iter().rev() {
            let names = || change.names.iter().map(|renamed| (change.dir.as_str(), renamed.name.as_str()));
            let must_stay = kept_along.contains(&change.seq)
                || names().any(|name| kept_names.contains(&name))
                || kept_removals.iter().any(|removed| path::is_in(&change.dir, removed));
            if !must_stay && fate.loses(change.seq, rng) {
                lost.push(change);
            } else {
                kept_names.extend(names());
                kept_along.extend(change.keeps);
                kept_removals.extend(change.removed_dirs().map(|(dir, _)| dir));
            }
        }
        for change in lost {
            for renamed in change.names.iter().rev() {
                self.put(&change.dir, &renamed.name, renamed.before);
            }
        }
    }
}

fn shares_name(a: &Change, b: &Change) -> bool {
    a.dir == b.dir && a.names.iter().any(|a| b.names.iter().any(|b| a.name == b.name))
}
