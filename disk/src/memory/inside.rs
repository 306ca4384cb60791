//! How a [`MemoryDisk`] does what it is asked: operations that a death may cut, and the completion of what is pending.

use gantry_core::io::{DirEntry, DiskError, Extent, FetchId, FileId, FileKind};
use gantry_core::time::WallMs;

use super::content::{Content, PAGE_BYTES};
use super::tree::{Inode, Node};
use super::{FILE_BYTES_MAX, Lie, MemoryDisk, Open, Pin, Work, check_range, pages, room};
use crate::path;

impl MemoryDisk {
    /// Counts a mutating operation. `Ok(true)`: the process dies in it.
    pub(super) fn begin_operation(&mut self) -> Result<bool, DiskError> {
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
    pub(super) fn mutate<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let dies = self.begin_operation()?;
        if dies && self.rng.one_in(2) {
            return Err(DiskError::Io);
        }
        let result = act(self);
        if dies { Err(DiskError::Io) } else { result }
    }

    pub(super) fn alive(&self) -> Result<(), DiskError> {
        if self.dead { Err(DiskError::Io) } else { Ok(()) }
    }

    pub(super) fn opened(&self, file: FileId) -> Result<Open, DiskError> {
        self.open.get(file.0 as usize).copied().flatten().ok_or(DiskError::NotFound)
    }

    pub(super) fn content(&self, inode: Inode) -> &Content {
        self.files.get(&inode).expect("an open or named inode has its content")
    }

    pub(super) fn content_mut(&mut self, inode: Inode) -> &mut Content {
        self.files.get_mut(&inode).expect("an open or named inode has its content")
    }

    pub(super) fn content_at(&mut self, path: &str) -> Option<&mut Content> {
        match self.tree.get(path)? {
            Node::File(inode) => self.files.get_mut(&inode),
            Node::Dir => None,
        }
    }

    pub(super) fn add(&mut self, content: Content) -> Inode {
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        self.files.insert(inode, content);
        inode
    }

    pub(super) fn open_inode(&mut self, inode: Inode, kind: FileKind) -> FileId {
        let id = FileId(u32::try_from(self.open.len()).expect("fewer files are opened in a life"));
        self.open.push(Some(Open { inode, kind }));
        id
    }

    pub(super) fn close_inode(&mut self, inode: Inode) {
        for open in &mut self.open {
            if open.is_some_and(|open| open.inode == inode) {
                *open = None;
            }
        }
    }

    /// Checks that a file may take `len` instead of `old` bytes, and counts them.
    pub(super) fn resize(&mut self, old: u64, len: u64) -> Result<(), DiskError> {
        let (old, new) = (room(old), room(len));
        if new > old && (len > FILE_BYTES_MAX || self.used + (new - old) > self.capacity) {
            return Err(DiskError::Full);
        }
        self.used = self.used - old + new;
        Ok(())
    }

    pub(super) fn do_create(
        &mut self,
        path: &str,
        len: u64,
        kind: FileKind,
        dies: bool,
    ) -> Result<FileId, DiskError> {
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

    pub(super) fn do_rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
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

    pub(super) fn do_delete(&mut self, path: &str) -> Result<(), DiskError> {
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
    pub(super) fn unlink(&mut self, inode: Inode) {
        self.close_inode(inode);
        self.used -= room(self.content(inode).len());
    }

    pub(super) fn apply_replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
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

    /// Changes in a directory are there for good: so are the ends of files that lost their last name in them.
    fn cover(&mut self, dir: &str, point: u64) {
        for inode in self.tree.covered(dir, point) {
            if !self.tree.is_reachable(inode) {
                self.files.remove(&inode);
            }
        }
    }

    pub(super) fn drop_unreachable(&mut self) {
        let reachable = self.tree.reachable();
        self.files.retain(|inode, _| reachable.contains(inode));
    }

    /// What a sync comes to, given what its driver wants: failures ordered beforehand come first.
    pub(super) fn draw_failure(&mut self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        result?;
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(DiskError::Io);
        }
        Ok(())
    }

    /// As [`Self::draw_failure`]; a success may be a lie (`Ok(false)`).
    pub(super) fn draw_sync(&mut self, result: Result<(), DiskError>) -> Result<bool, DiskError> {
        self.draw_failure(result)?;
        let honest = self.lie_syncs == 0;
        self.lie_syncs = self.lie_syncs.saturating_sub(1);
        Ok(honest)
    }

    /// The device empties its cache: what it said before is true now.
    fn tell_truth(&mut self) {
        for lie in std::mem::take(&mut self.lies) {
            match lie {
                Lie::File(inode, point) => {
                    if let Some(content) = self.files.get_mut(&inode) {
                        content.covered(point);
                    }
                }
                Lie::Dir(dir, point) => {
                    if self.tree.has_dir(&dir) {
                        self.cover(&dir, point);
                    }
                }
            }
        }
    }

    pub(super) fn complete_file(
        &mut self,
        inode: Option<Inode>,
        point: u64,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let outcome = self.draw_sync(result);
        let inode = inode.ok_or(DiskError::NotFound)?;
        match outcome {
            Ok(true) => self.tell_truth(),
            Ok(false) => self.lies.push(Lie::File(inode, point)),
            Err(_) => {}
        }
        // A file whose name is gone for good has nothing left to lose.
        let Some(content) = self.files.get_mut(&inode) else { return outcome.map(|_| ()) };
        match outcome {
            Ok(true) => content.covered(point),
            Ok(false) => {}
            Err(_) => content.forgotten(point),
        }
        outcome.map(|_| ())
    }

    pub(super) fn complete_dir(
        &mut self,
        dir: &str,
        point: u64,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.draw_descriptor()?;
        let honest = self.draw_sync(result)?;
        if !self.tree.has_dir(dir) {
            return Err(DiskError::NotFound);
        }
        if honest {
            self.tell_truth();
            self.cover(dir, point);
        } else {
            self.lies.push(Lie::Dir(dir.to_owned(), point));
        }
        Ok(())
    }

    /// Completes a replacement; earlier ones of the same path take place before it.
    pub(super) fn complete_replace(
        &mut self,
        index: usize,
        result: Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.draw_descriptor()?;
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
            self.cover(path::split(&target).0, point);
        }
        result
    }

    pub(super) fn complete_fetch(
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

    pub(super) fn draw_read(&mut self) -> Result<(), DiskError> {
        if self.fail_reads > 0 {
            self.fail_reads -= 1;
            return Err(DiskError::Io);
        }
        Ok(())
    }

    /// Takes a descriptor for what has to be opened.
    pub(super) fn draw_descriptor(&mut self) -> Result<(), DiskError> {
        let per_mille = u64::from(self.no_descriptors_per_mille);
        if per_mille > 0 && self.rng.below(1000) < per_mille {
            return Err(DiskError::NoDescriptors);
        }
        Ok(())
    }

    pub(super) fn is_resident(&mut self, inode: Inode, at: Extent) -> bool {
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

    pub(super) fn entry(&self, name: &str, node: Node) -> DirEntry {
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
