//! One batch of keys on its way into an index file.
//!
//! Invariant: nothing here writes a slot before [`Merge::header`], and so all entries, were synced; the caller sees to that by
//! the order of its stages.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::super::Ids;
use super::{ENTRY_BYTES, Header, KeyEntry, SLOT_BYTES, Shape, int_at};
use crate::io::{Disk, DiskError, Effect, Env, Extent, FileId, Residency, SyncId, SyncTarget};

/// Slots that lie in one block: the most that one read or write of the table covers.
const BLOCK_SLOTS: u32 = 16 * 1024;
/// Slots so far apart are not read in one go.
const RUN_GAP_SLOTS: u32 = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Link,
    Entries,
    SyncEntries,
    Slots,
    SyncSlots,
}

/// A batch on its way into the newest file.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) batch: Vec<KeyEntry>,
    /// Number of the batch's first entry.
    pub(super) first: u32,
    pub(super) begin_timestamp: i64,
    /// Number of the entry before each of the batch in its chain.
    previous: Vec<u32>,
    /// The batch by block of slots, and within the blocks that were sorted already by slot.
    order: Vec<u32>,
    block_ends: Vec<u32>,
    /// Blocks, and with them entries of `order`, sorted so far.
    blocks_sorted: usize,
    sorted: usize,
    pub(super) cursor: usize,
    fresh_slots: u32,
    pub(super) stage: Stage,
    pub(super) syncs: BTreeSet<SyncId>,
}

impl Merge {
    /// A batch that follows on the entries that `header` counts; not empty.
    pub(super) fn new(batch: Vec<KeyEntry>, header: Header, shape: Shape) -> Merge {
        let first_timestamp = batch.first().map_or(0, |first| first.timestamp);
        let (order, block_ends) = by_block(&batch, shape);
        Merge {
            first: header.count,
            begin_timestamp: if header.count > 1 { header.begin_timestamp } else { first_timestamp },
            previous: vec![0; batch.len()],
            batch,
            order,
            block_ends,
            blocks_sorted: 0,
            sorted: 0,
            cursor: 0,
            fresh_slots: 0,
            stage: Stage::Link,
            syncs: BTreeSet::new(),
        }
    }

    pub(super) fn sync<D, E>(&mut self, target: SyncTarget, ids: &mut Ids, env: &mut Env<'_, D, E>) {
        let id = ids.sync();
        env.out.push(Effect::Sync { id, target });
        self.syncs.insert(id);
    }

    fn slot(&self, at: usize, shape: Shape) -> u32 {
        shape.slot_of(self.batch[self.order[at] as usize].hash)
    }

    /// End of the entries from the cursor on whose slots are read and written in one go.
    fn run_end(&mut self, shape: Shape) -> usize {
        while self.cursor >= self.sorted {
            let end = self.block_ends[self.blocks_sorted] as usize;
            let batch = &self.batch;
            self.order[self.sorted..end]
                .sort_unstable_by_key(|at| (shape.slot_of(batch[*at as usize].hash), *at));
            (self.sorted, self.blocks_sorted) = (end, self.blocks_sorted + 1);
        }
        let block = self.slot(self.cursor, shape) / BLOCK_SLOTS;
        let mut end = self.cursor + 1;
        while end < self.sorted {
            let (before, slot) = (self.slot(end - 1, shape), self.slot(end, shape));
            if slot / BLOCK_SLOTS != block || slot - before > RUN_GAP_SLOTS {
                break;
            }
            end += 1;
        }
        end
    }

    /// Reads the slots of the batch from the cursor on and links the entries to what they say, or lets them name the new
    /// entries. Gives the extent that must be fetched before it can go on.
    pub(super) fn visit_slots<D: Disk>(
        &mut self,
        shape: Shape,
        file: FileId,
        budget: u64,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let mut spent = 0;
        let mut bytes = Vec::new();
        while self.cursor < self.batch.len() && spent < budget {
            let end = self.run_end(shape);
            let (low, high) = (self.slot(self.cursor, shape), self.slot(end - 1, shape));
            let len = (high - low + 1) * SLOT_BYTES as u32;
            let extent = Extent { file, offset: Shape::slot_at(low), len };
            bytes.clear();
            if disk.read(extent, &mut bytes)? == Residency::NotResident {
                return Ok(Some(extent));
            }
            if self.stage == Stage::Link {
                self.link(low, end, shape, &bytes);
            } else {
                for at in self.cursor..end {
                    let offset = ((self.slot(at, shape) - low) * SLOT_BYTES as u32) as usize;
                    let number = self.first + self.order[at];
                    bytes[offset..offset + SLOT_BYTES as usize].copy_from_slice(&number.to_be_bytes());
                }
                disk.write(file, extent.offset, &bytes)?;
            }
            self.cursor = end;
            spent += u64::from(len);
        }
        Ok(None)
    }

    fn link(&mut self, low: u32, end: usize, shape: Shape, bytes: &[u8]) {
        let mut before: Option<(u32, u32)> = None;
        for at in self.cursor..end {
            let slot = self.slot(at, shape);
            let previous = match before {
                Some((same, number)) if same == slot => number,
                Some(_) | None => {
                    let known = int_at(bytes, ((slot - low) * SLOT_BYTES as u32) as usize);
                    // What no header counts was never written.
                    let known = if known < self.first { known } else { 0 };
                    self.fresh_slots += u32::from(known == 0);
                    known
                }
            };
            self.previous[self.order[at] as usize] = previous;
            before = Some((slot, self.first + self.order[at]));
        }
    }

    pub(super) fn write_entries<D: Disk>(
        &mut self,
        shape: Shape,
        file: FileId,
        budget: u64,
        disk: &mut D,
    ) -> Result<(), DiskError> {
        let end = (self.cursor + (budget / ENTRY_BYTES) as usize).min(self.batch.len());
        let mut bytes = Vec::with_capacity((end - self.cursor) * ENTRY_BYTES as usize);
        for (entry, previous) in self.batch[self.cursor..end].iter().zip(&self.previous[self.cursor..end]) {
            let seconds = ((entry.timestamp - self.begin_timestamp) / 1000).clamp(0, i64::from(i32::MAX));
            bytes.extend_from_slice(&entry.hash.to_be_bytes());
            bytes.extend_from_slice(&entry.physical.to_be_bytes());
            bytes.extend_from_slice(&(seconds as u32).to_be_bytes());
            bytes.extend_from_slice(&previous.to_be_bytes());
        }
        disk.write(file, shape.entry_at(self.first + self.cursor as u32), &bytes)?;
        self.cursor = end;
        Ok(())
    }

    /// The header that counts the batch.
    pub(super) fn header(&self, before: Header) -> Header {
        let (Some(first), Some(last)) = (self.batch.first(), self.batch.last()) else { return before };
        Header {
            begin_timestamp: self.begin_timestamp,
            begin_physical: if self.first > 1 { before.begin_physical } else { first.physical },
            end_timestamp: last.timestamp,
            end_physical: last.physical,
            used_slots: before.used_slots.saturating_add(self.fresh_slots),
            count: self.first + self.batch.len() as u32,
        }
    }
}

/// The positions of a batch by block of slots, and where each block that has any ends.
fn by_block(batch: &[KeyEntry], shape: Shape) -> (Vec<u32>, Vec<u32>) {
    let block_of = |entry: &KeyEntry| (shape.slot_of(entry.hash) / BLOCK_SLOTS) as usize;
    let mut next = vec![0u32; (shape.slots / BLOCK_SLOTS) as usize + 2];
    for entry in batch {
        next[block_of(entry) + 1] += 1;
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let mut order = vec![0; batch.len()];
    for (at, entry) in batch.iter().enumerate() {
        let place = &mut next[block_of(entry)];
        order[*place as usize] = at as u32;
        *place += 1;
    }
    // Each start has moved to its end.
    next.dedup();
    next.retain(|end| *end > 0);
    (order, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_put_in_order_of_blocks() {
        let shape = Shape { slots: 3 * BLOCK_SLOTS, entries: 100 };
        let entry = |hash| KeyEntry { physical: 0, timestamp: 0, hash };
        let batch = [entry(2 * BLOCK_SLOTS), entry(1), entry(2 * BLOCK_SLOTS + 5), entry(0)];
        assert_eq!(by_block(&batch, shape), (vec![1, 3, 0, 2], vec![2, 4]));
        assert_eq!(by_block(&batch[..1], shape), (vec![0], vec![1]));
    }
}
