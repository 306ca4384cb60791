//! Verifies, where old messages go: a broker removes whole segments only, from the log's beginning on, one after another, never the
//! last one, and only what it was allowed to: what was last written longer ago than the reserve, in an hour for it, at an
//! administrator's word, or with the disk filled above the lower limit; or the very oldest, with the disk filled above the higher
//! one. A pull from below a queue's minimum is sent on past what was about to go and nothing else. Queues begin at their
//! first message behind the log's beginning, when something has gone and in the end. A slave is left behind by what its master
//! removes only in the wake of a fault. And what is past its time in its hour does go, but at slaves that follow nobody.
//!
//! What may go is read off the brokers' disks and clocks as the simulated kernel keeps them: each segment's time of last
//! writing, what is used of the disk. Once allowed in a life stays allowed in it, because between a decision and a removal lie turns.
//!
//! Does not verify: that index files and queue files go, nor how much room there is in the end.

use std::collections::BTreeMap;

use gantry_core::broker::Broker;
use gantry_core::time::{Duration, Instant, WallMs};
use gantry_core::wire::Packet;
use gantry_disk::MemoryDisk;

use super::told::Told;
use super::{Checker, Cx, Verdict, secs, stuck_because, unsafe_because};
use crate::history::Queue;
use crate::process::Seen;
use crate::retention::Retention;
use crate::workload::producer::QUEUES;
use crate::workload::requests::{code, reply};
use crate::world::{Fact, HostId};

const NAME: &str = "removal";
/// What must go has gone within this: the broker looks every ten seconds at most, and a checkpoint comes as often.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// A slave follows again by then when a fault is over, and has copied by then what its master wrote.
const WAKE: Duration = Duration::from_secs(75);

/// What a broker's disk held after its last turn.
#[derive(Debug, Default)]
struct Shelf {
    operations: u64,
    /// Segments by where they begin, and when each was last written.
    segments: BTreeMap<u64, WallMs>,
    /// Segments below this may go.
    cut: u64,
    /// An administrator has asked in this life.
    asked: bool,
    /// Where the log ends.
    end: u64,
    is_empty: bool,
    /// It has recovered.
    is_ready: bool,
    /// Its master's log begins behind its end.
    is_left_behind: bool,
    /// The oldest segment should go since then.
    overdue: Option<(u64, Instant)>,
}

/// A reader was sent on.
#[derive(Clone, Copy, Debug)]
struct SentOn {
    queue: Queue,
    from: i64,
    to: i64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Removal {
    retention: Retention,
    shelves: BTreeMap<HostId, Shelf>,
    sent_on: Vec<SentOn>,
    /// Where the master's log begins.
    masters_begin: u64,
    looked: u64,
}

impl Removal {
    /// For a world.
    pub fn new(retention: Retention) -> Removal {
        Removal { retention, shelves: BTreeMap::new(), sent_on: Vec::new(), masters_begin: 0, looked: 0 }
    }

    fn on_turn(&mut self, cx: &Cx<'_>, broker: &Broker, disk: &MemoryDisk, wall: WallMs) -> Verdict {
        let shelf = self.shelves.entry(cx.host).or_default();
        let mut gone: Vec<(u64, WallMs)> = Vec::new();
        if shelf.operations != disk.operations() || shelf.segments.is_empty() {
            shelf.operations = disk.operations();
            let now = segments(disk);
            let is_gone = |(start, _): &(&u64, &WallMs)| !now.contains_key(start);
            gone.extend(shelf.segments.iter().filter(is_gone).map(|(start, written)| (*start, *written)));
            shelf.segments = now;
        }
        shelf.allow(&self.retention, disk, wall);
        let removed = judge(cx, shelf, &gone)?;
        shelf.note_overdue(cx.at, &self.retention, wall);
        if !broker.is_master() && !broker.is_following() {
            shelf.overdue = None;
        }
        let store = broker.store();
        (shelf.end, shelf.is_empty) = (store.log_end(), store.log_end() == store.log_min());
        if broker.is_ready() && !std::mem::replace(&mut shelf.is_ready, true) {
            // Something went while it was dead.
            shelf.is_left_behind = !shelf.is_empty && shelf.end < self.masters_begin;
        }
        let begins = shelf.segments.keys().next().copied().unwrap_or(0);
        let cut = shelf.cut.max(begins);
        if let Some(written) = removed {
            self.looked += 1;
            // What had been written just before no slave had the time to copy.
            let is_old = wall.0 - written.0 > WAKE.as_millis() as i64;
            self.on_removed(cx, broker, (begins, cut), is_old)?;
        }
        if cx.host == cx.setup.cast.master {
            self.masters_begin = begins;
            for sent_on in std::mem::take(&mut self.sent_on) {
                self.looked += 1;
                may_be_passed(cx, sent_on, cut)?;
            }
        }
        Ok(())
    }

    /// Something has gone from a broker's log.
    fn on_removed(
        &mut self,
        cx: &Cx<'_>,
        broker: &Broker,
        (begins, cut): (u64, u64),
        is_old: bool,
    ) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if !broker.is_ready() {
            // It may have gone as the master recovered: nobody is led anywhere then, and no slave could have copied it.
            self.note_left_behind(cx, begins);
            return Ok(());
        }
        for topic in 0..cx.setup.topics {
            for id in 0..QUEUES as i32 {
                let queue = Queue { topic, id };
                let store = broker.store();
                let Some(ix) = store.find_queue(&crate::history::topic_name(topic), id) else { continue };
                let min = store.min_offset(ix);
                may_be_passed(cx, SentOn { queue, from: 0, to: min }, cut)?;
                let below = cx
                    .ledger
                    .promises_in(queue, min..i64::MAX)
                    .find(|(_, promise)| promise.excused.is_none() && promise.physical < begins);
                if let Some((offset, promise)) = below {
                    let what = format!(
                        "{queue:?} begins at {min}; offset {offset} was at log {}, which begins at {begins}",
                        promise.physical
                    );
                    return unsafe_because(NAME, what);
                }
            }
        }
        let since = Instant::from_nanos(cx.at.as_nanos().saturating_sub(WAKE.as_nanos() as u64));
        let behind = self.note_left_behind(cx, begins);
        if let Some((host, end)) = behind
            && is_old
            && cx.setup.is_calm(since, cx.at)
        {
            let what = format!(
                "the master's log begins at {begins}; the log of its slave {} ends at {end}, and nothing was wrong",
                host.0
            );
            return stuck_because(NAME, what);
        }
        Ok(())
    }

    /// Notes which slaves' logs end before the master's begins. Gives the first that did not yet.
    fn note_left_behind(&mut self, cx: &Cx<'_>, begins: u64) -> Option<(HostId, u64)> {
        let mut first = None;
        for (host, shelf) in &mut self.shelves {
            let is_behind = cx.setup.is_slave(*host) && !shelf.is_empty && shelf.end < begins;
            // Once it is, it stays so until somebody empties its disk.
            if is_behind && !std::mem::replace(&mut shelf.is_left_behind, is_behind) {
                first = first.or(Some((*host, shelf.end)));
            }
        }
        first
    }
}

fn segments(disk: &MemoryDisk) -> BTreeMap<u64, WallMs> {
    let files = disk.peek_dir("commitlog");
    files.filter_map(|(name, written)| Some((name.parse().ok()?, written))).collect()
}

impl Shelf {
    /// Works out what may go now.
    fn allow(&mut self, retention: &Retention, disk: &MemoryDisk, wall: WallMs) {
        // What is missing in reserve is to be made room for as well.
        let has_reserve = disk.peek_dir("").any(|(name, _)| name == "gantryReserve");
        let used = disk.used() + if has_reserve { 0 } else { retention.reserve_bytes };
        let is_above = |percent: u64| used * 100 > disk.capacity() * percent;
        if self.asked || retention.is_hour(wall) || is_above(retention.used_percent) {
            self.cut = self.cut.max(self.past(retention, wall));
        }
        if retention.disk_bytes.is_some() && is_above(retention.clean_percent) {
            self.cut = self.cut.max(self.segments.keys().nth(1).copied().unwrap_or(0));
        }
    }

    /// Where the first segment begins that is not past its time, or the last one.
    fn past(&self, retention: &Retention, wall: WallMs) -> u64 {
        let kept = self.segments.iter().find(|(_, written)| !retention.is_past(**written, wall));
        let last = self.segments.keys().next_back().copied().unwrap_or(0);
        kept.map_or(last, |(start, _)| *start)
    }

    fn note_overdue(&mut self, at: Instant, retention: &Retention, wall: WallMs) {
        let first = self.segments.keys().next().copied().unwrap_or(0);
        // The last but one may lie above the checkpoint for as long as nothing is written.
        let is_due = retention.is_hour(wall) && self.segments.len() > 2 && first < self.past(retention, wall);
        if !is_due {
            self.overdue = None;
        } else if self.overdue.is_none_or(|(start, _)| start != first) {
            self.overdue = Some((first, at));
        }
    }
}

/// Segments are gone: whether they were allowed to. If retention took them, when the last of them was last written.
fn judge(
    cx: &Cx<'_>,
    shelf: &Shelf,
    gone: &[(u64, WallMs)],
) -> Result<Option<WallMs>, crate::world::Violation> {
    let mut removed = None;
    for (start, written) in gone {
        let (first, last) = (shelf.segments.keys().next(), shelf.segments.keys().next_back());
        let (Some(first), Some(last)) = (first, last) else {
            if !shelf.is_empty {
                unsafe_because(NAME, format!("the whole log of {} is gone", cx.host.0))?;
            }
            continue;
        };
        // A log without a record may begin elsewhere, and a tail may be cut off.
        if shelf.is_empty || start > last {
            continue;
        }
        if start > first {
            unsafe_because(NAME, format!("the log of {} lacks the segment {start}", cx.host.0))?;
        }
        removed = Some(*written);
        if *start >= shelf.cut {
            let what = format!(
                "{} removed the segment {start}, and only what lies below {} was allowed to go",
                cx.host.0, shelf.cut
            );
            unsafe_because(NAME, what)?;
        }
    }
    Ok(removed)
}

/// Whether readers may be led past a part of a queue: all of it lies in what may go.
fn may_be_passed(cx: &Cx<'_>, SentOn { queue, from, to }: SentOn, cut: u64) -> Verdict {
    let kept = cx
        .ledger
        .promises_in(queue, from..to)
        .find(|(_, promise)| promise.excused.is_none() && !promise.away && promise.physical >= cut);
    let Some((offset, promise)) = kept else { return Ok(()) };
    let what = format!(
        "{queue:?} is read from {to} on, past offset {offset} at log {}; only what lies below {cut} was allowed to go",
        promise.physical
    );
    unsafe_because(NAME, what)
}

impl Checker for Removal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, _cx: &Cx<'_>, told: &Told) -> Verdict {
        if let Told::PullAnswered { queue, from, code: reply::PULL_OFFSET_MOVED, next, .. } = told
            && next > from
        {
            self.sent_on.push(SentOn { queue: *queue, from: *from, to: *next });
        }
        Ok(())
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Died(_) | Fact::PowerLost => {
                self.shelves.remove(&cx.host);
            }
            Fact::Seen(Seen::Received { packet: Packet::Command(command), .. })
                if command.code == code::DELETE_EXPIRED_COMMITLOG =>
            {
                self.shelves.entry(cx.host).or_default().asked = true;
            }
            Fact::TurnEnded { machine, disk, wall, .. } => {
                if let Some(broker) = machine.downcast_ref::<Broker>() {
                    return self.on_turn(cx, broker, disk, *wall);
                }
            }
            Fact::Started { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Failed { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::Seen(_)
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => {}
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        for (host, shelf) in &self.shelves {
            let Some((start, since)) = shelf.overdue else { continue };
            let running = cx.ledger.running_since(*host).unwrap_or(cx.at);
            if since.max(running).max(cx.setup.healed_at) + GONE_WITHIN < cx.at {
                let what = format!(
                    "{} keeps the segment {start}, which should be gone since {}",
                    host.0,
                    secs(since)
                );
                return stuck_because(NAME, what);
            }
        }
        let Some(ending) = cx.ending else { return Ok(()) };
        for (topic, queue_id, first, served) in ending.beginnings() {
            // Of topics that are deleted and made again the log holds earlier lives too.
            let Some(served) = served.filter(|_| topic.starts_with("topic-")) else { continue };
            self.looked += 1;
            if served != first {
                let what = format!(
                    "{topic}/{queue_id} is served from {served} on, and the log's first message of it is {first}"
                );
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
