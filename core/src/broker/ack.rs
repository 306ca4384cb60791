//! Answers that wait until what they promise is true.
//!
//! A send is acknowledged when its record lies below the watermark that it asked for: *visible* (what the flush and
//! replication modes demand), or *written* when it said that it does not wait (`WAIT=false`). The first acknowledgement in a new topic waits for
//! `topics.json` too, and an administrator's for the file that he changed. Records are appended in the order of their requests, so each lane is a queue and only its head is looked at;
//! answers that also wait for the file are few, and in a lane of their own so that nobody waits behind them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::persist::{ConfigFile, Generation};
use crate::io::ConnId;
use crate::probe::Probe;
use crate::time::Instant;
use crate::wire::Command;
use crate::wire::code::response_code;

/// How safe a record must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Safety {
    /// In the page cache.
    Written,
    /// As the modes of the store demand.
    Visible,
}

/// A change of a configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Topics(Generation),
    Groups(Generation),
}

/// The files whose changes answers wait for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    pub(super) topics: &'a ConfigFile,
    pub(super) groups: &'a ConfigFile,
}

impl Files<'_> {
    fn hold(&self, change: Change) -> bool {
        match change {
            Change::Topics(generation) => self.topics.is_durable(generation),
            Change::Groups(generation) => self.groups.is_durable(generation),
        }
    }
}

/// An answer with what it waits for.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) conn: ConnId,
    pub(super) reply: Command,
    /// End of the last record it speaks of.
    pub(super) end: u64,
    pub(super) safety: Safety,
    /// What must be durable besides.
    pub(super) change: Option<Change>,
    /// When it is answered for want of the disk, and for want of a replica.
    pub(super) flush_deadline: Instant,
    pub(super) slave_deadline: Instant,
}

/// Ends of what is safe, in bytes of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watermarks {
    pub(super) written: u64,
    /// What the flush mode alone demands.
    pub(super) flushed: u64,
    pub(super) visible: u64,
    /// What slaves hold, where that is promised. It may be less than `visible`: when no slave counts nobody waits for one.
    pub(super) acknowledged: Option<u64>,
}

impl Watermarks {
    fn has_passed(&self, ack: &Ack) -> bool {
        ack.end
            <= match ack.safety {
                Safety::Written => self.written,
                Safety::Visible => self.visible,
            }
    }

    /// The code of an answer whose watermark has passed: none when its promise is kept.
    fn shortfall(&self, ack: &Ack) -> Option<i32> {
        let held = self.acknowledged.is_none_or(|end| ack.end <= end);
        (ack.safety == Safety::Visible && !held).then_some(response_code::SLAVE_NOT_AVAILABLE)
    }
}

/// All answers that wait.
#[derive(Debug, Default)]
pub(super) struct Acks {
    written: VecDeque<Ack>,
    visible: VecDeque<Ack>,
    /// Those that wait for a file, and others that fit in no lane.
    others: Vec<Ack>,
}

impl Acks {
    /// Parks an answer.
    pub(super) fn park(&mut self, ack: Ack) {
        if ack.change.is_some() {
            self.others.push(ack);
            return;
        }
        let lane = match ack.safety {
            Safety::Written => &mut self.written,
            Safety::Visible => &mut self.visible,
        };
        debug_assert!(lane.back().is_none_or(|last| last.end <= ack.end), "records are appended in order");
        lane.push_back(ack);
    }

    /// Parks an answer whose record was appended some time ago.
    pub(super) fn park_out_of_order(&mut self, ack: Ack) {
        self.others.push(ack);
    }

    /// Hands over the answers that may go: those whose promise is true, and those that waited too long.
    pub(super) fn release(
        &mut self,
        now: Instant,
        marks: Watermarks,
        files: Files<'_>,
        mut send: impl FnMut(ConnId, Command),
    ) {
        for lane in [&mut self.written, &mut self.visible] {
            while let Some(ack) = lane.front() {
                let reply = if marks.has_passed(ack) {
                    marks.shortfall(ack).inspect(|_| Probe::AnsweredWithShortfall.reached())
                } else if let Some(code) = overdue(now, marks, ack) {
                    Probe::AnsweredLate.reached();
                    Some(code)
                } else {
                    break;
                };
                let ack = lane.pop_front().expect("just seen");
                send(ack.conn, answer(ack.reply, reply));
            }
        }
        if self.others.is_empty() {
            return;
        }
        for ack in core::mem::take(&mut self.others) {
            let known = ack.change.is_none_or(|change| files.hold(change));
            if known && marks.has_passed(&ack) {
                let code = marks.shortfall(&ack);
                send(ack.conn, answer(ack.reply, code));
            } else if let Some(code) = overdue(now, marks, &ack) {
                send(ack.conn, answer(ack.reply, Some(code)));
            } else {
                self.others.push(ack);
            }
        }
    }

    /// When the next one has waited too long.
    pub(super) fn deadline(&self, marks: Watermarks) -> Option<Instant> {
        let heads = self.written.front().into_iter().chain(self.visible.front()).chain(&self.others);
        heads.map(|ack| deadline_of(marks, ack)).min()
    }

    /// Answers that wait.
    pub(super) fn len(&self) -> usize {
        self.written.len() + self.visible.len() + self.others.len()
    }

    pub(super) fn check_invariants(&self) {
        for lane in [&self.written, &self.visible] {
            for (a, b) in lane.iter().zip(lane.iter().skip(1)) {
                assert!(a.end <= b.end, "answers wait in the order of their records");
            }
        }
    }
}

fn deadline_of(marks: Watermarks, ack: &Ack) -> Instant {
    let waits_for_slave =
        ack.safety == Safety::Visible && ack.end <= marks.flushed && ack.end > marks.visible;
    if waits_for_slave { ack.slave_deadline } else { ack.flush_deadline }
}

/// The code of an answer that waited too long: the message is stored, but less safely than was asked for.
fn overdue(now: Instant, marks: Watermarks, ack: &Ack) -> Option<i32> {
    if now < deadline_of(marks, ack) {
        return None;
    }
    let waits_for_slave =
        ack.safety == Safety::Visible && ack.end <= marks.flushed && ack.end > marks.visible;
    Some(if waits_for_slave { response_code::FLUSH_SLAVE_TIMEOUT } else { response_code::FLUSH_DISK_TIMEOUT })
}

fn answer(reply: Command, code: Option<i32>) -> Command {
    match code {
        Some(code) => Command { code, ..reply },
        None => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Effect, SyncId};
    use crate::wire::Ext;
    use std::vec;

    fn files() -> (ConfigFile, ConfigFile) {
        (ConfigFile::new("config/topics.json"), ConfigFile::new("config/subscriptionGroup.json"))
    }

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    fn ack(n: u64, end: u64, safety: Safety, change: Option<Change>) -> Ack {
        Ack {
            conn: ConnId::accepted(n),
            reply: Command::request(0, Ext::None),
            end,
            safety,
            change,
            flush_deadline: at(5),
            slave_deadline: at(3),
        }
    }

    fn release(
        acks: &mut Acks,
        now: u64,
        (written, flushed, visible): (u64, u64, u64),
        files: Files<'_>,
    ) -> Vec<(u64, i32)> {
        let mut sent = vec![];
        let marks = Watermarks { written, flushed, visible, acknowledged: None };
        acks.release(at(now), marks, files, |conn, reply| sent.push((conn.0, reply.code)));
        acks.check_invariants();
        sent
    }

    #[test]
    fn an_answer_waits_for_its_watermark() {
        let (topics, groups) = files();
        let files = Files { topics: &topics, groups: &groups };
        let mut acks = Acks::default();
        acks.park(ack(1, 10, Safety::Visible, None));
        acks.park(ack(2, 20, Safety::Written, None));
        acks.park(ack(3, 30, Safety::Visible, None));
        assert_eq!(release(&mut acks, 0, (30, 0, 0), files), [(2, 0)]);
        assert_eq!(release(&mut acks, 0, (30, 10, 10), files), [(1, 0)]);
        assert_eq!(release(&mut acks, 4, (30, 10, 10), files), []);
        assert_eq!(release(&mut acks, 5, (30, 10, 10), files), [(3, response_code::FLUSH_DISK_TIMEOUT)]);
        acks.park(ack(4, 40, Safety::Visible, None));
        assert_eq!(release(&mut acks, 2, (40, 40, 10), files), []);
        assert_eq!(release(&mut acks, 3, (40, 40, 10), files), [(4, response_code::FLUSH_SLAVE_TIMEOUT)]);
    }

    #[test]
    fn without_a_slave_nobody_waits_and_everybody_is_told() {
        let (topics, groups) = files();
        let files = Files { topics: &topics, groups: &groups };
        let mut acks = Acks::default();
        acks.park(ack(1, 10, Safety::Visible, None));
        acks.park(ack(2, 20, Safety::Visible, None));
        acks.park(ack(3, 20, Safety::Written, None));
        let marks = Watermarks { written: 20, flushed: 20, visible: 20, acknowledged: Some(10) };
        let mut sent = vec![];
        acks.release(at(0), marks, files, |conn, reply| sent.push((conn.0, reply.code)));
        assert_eq!(sent, [(3, 0), (1, 0), (2, response_code::SLAVE_NOT_AVAILABLE)]);
    }

    #[test]
    fn an_answer_waits_for_the_file_that_it_speaks_of() {
        let (mut topics, mut groups) = files();
        let changes = [Change::Topics(topics.touch()), Change::Groups(groups.touch())];
        let mut acks = Acks::default();
        acks.park(ack(1, 10, Safety::Visible, Some(changes[0])));
        acks.park(ack(2, 0, Safety::Written, Some(changes[1])));
        acks.park(ack(3, 20, Safety::Visible, None));
        let now = Files { topics: &topics, groups: &groups };
        assert_eq!(release(&mut acks, 0, (20, 20, 20), now), [(3, 0)], "nobody waits behind them");
        make_durable(&mut topics, SyncId(1));
        let now = Files { topics: &topics, groups: &groups };
        assert_eq!(release(&mut acks, 0, (20, 20, 0), now), []);
        assert_eq!(release(&mut acks, 0, (20, 20, 20), now), [(1, 0)]);
        make_durable(&mut groups, SyncId(2));
        let now = Files { topics: &topics, groups: &groups };
        assert_eq!(release(&mut acks, 0, (20, 20, 20), now), [(2, 0)]);
    }

    fn make_durable(file: &mut ConfigFile, sync: SyncId) {
        let mut out: Vec<Effect<()>> = vec![];
        file.begin(sync, vec![], &mut out);
        assert_eq!(file.on_synced(at(0), sync, Ok(())), Some(Ok(())));
    }
}
