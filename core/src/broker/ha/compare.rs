//! Which of two logs of a group holds more, by what both brokers tell of their epochs.
//!
//! For whoever decides which slave becomes the master: the one that is left behind cannot follow with more than the new master has.
//!
//! Absent on purpose: the decision.

use super::epochs::shared_up_to;
use crate::wire::body::EpochEntryCache;

/// What another log holds that one does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lead {
    /// Nothing.
    None,
    /// It goes on for so many bytes where the one ends.
    More(u64),
    /// Both go on, each its own way: the other so many bytes.
    Parted {
        /// They are the same up to here.
        at: u64,
        /// What only the other holds.
        bytes: u64,
    },
    /// They have no epoch in common.
    Unknown,
}

/// What `other` holds that `this` does not.
pub fn lead(this: &EpochEntryCache, other: &EpochEntryCache) -> Lead {
    if other.max_offset == 0 {
        return Lead::None;
    }
    if this.max_offset == 0 {
        return Lead::More(other.max_offset);
    }
    let lists = (&this.epoch_list[..], &other.epoch_list[..]);
    let Some(shared) = shared_up_to(lists.0, this.max_offset, lists.1, other.max_offset) else {
        return Lead::Unknown;
    };
    let bytes = other.max_offset.saturating_sub(shared);
    match (bytes, this.max_offset > shared) {
        (0, _) => Lead::None,
        (_, false) => Lead::More(bytes),
        (_, true) => Lead::Parted { at: shared, bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body::EpochEntry;

    fn log(epochs: &[(i64, u64)], end: u64) -> EpochEntryCache {
        let entry = |(epoch, start_offset): &(i64, u64)| EpochEntry {
            epoch: *epoch,
            start_offset: *start_offset,
            end_offset: 0,
        };
        EpochEntryCache {
            epoch_list: epochs.iter().map(entry).collect(),
            max_offset: end,
            ..EpochEntryCache::default()
        }
    }

    #[test]
    fn what_only_the_other_holds() {
        for (this, other, expect) in [
            (log(&[(1, 0)], 70), log(&[(1, 0)], 70), Lead::None),
            (log(&[(1, 0)], 70), log(&[(1, 0)], 90), Lead::More(20)),
            (log(&[(1, 0)], 90), log(&[(1, 0)], 70), Lead::None),
            (log(&[(1, 0)], 70), log(&[(1, 0), (4, 70)], 90), Lead::More(20)),
            (log(&[(1, 0), (4, 60)], 70), log(&[(1, 0), (5, 60)], 90), Lead::Parted { at: 60, bytes: 30 }),
            (log(&[(1, 0)], 70), log(&[(2, 0)], 90), Lead::Unknown),
            (log(&[], 0), log(&[(2, 0)], 90), Lead::More(90)),
            (log(&[(2, 0)], 90), log(&[], 0), Lead::None),
        ] {
            assert_eq!(lead(&this, &other), expect, "{this:?} {other:?}");
        }
    }
}
