//! Verifies, in the end: the consumer group has been handed everything that is in the queues, and was never led past
//! anything: each queue offset that the auditor finds has reached the group at least once. The excuse is an offset whose
//! former message the group had read before a power loss took it, or one that retention was about to
//! take, or that an administrator had the group pass over.
//!
//! Does not verify: how often something was handed to the group.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Checker, ClientKind, Cx, Verdict, unsafe_because};
use crate::history::{MessageId, Queue, Reader, Report};
use crate::world::Fact;

const NAME: &str = "completeness";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Completeness {
    group: BTreeSet<(Queue, i64)>,
    audit: BTreeMap<(Queue, i64), Option<MessageId>>,
    /// Where the group was sent on because what it asked for was about to go, or an administrator wanted it: [`super::removal`] and
    /// [`super::resets`] judge that.
    moved: Vec<(Queue, Range<i64>)>,
    /// How far the group has come.
    read_to: BTreeMap<Queue, i64>,
    looked: u64,
}

impl Completeness {
    /// A group that begins to read where it was put passes over what lies before.
    fn follow(&mut self, fact: &Fact<'_>) {
        let Fact::Report(report) = fact else { return };
        match report {
            Report::ReadFrom { reader: Reader::Group, queue, committed } => {
                let from = committed.unwrap_or(0);
                let before = self.read_to.insert(*queue, from).unwrap_or(0);
                if before < from {
                    self.moved.push((*queue, before..from));
                }
            }
            Report::Moved { reader: Reader::Group, queue, to: next, .. }
            | Report::Pulled { reader: Reader::Group, queue, next, .. } => {
                self.read_to.insert(*queue, *next);
            }
            Report::ReadFrom { .. }
            | Report::Moved { .. }
            | Report::Pulled { .. }
            | Report::SlaveServed
            | Report::SendBegun { .. }
            | Report::SendEnded { .. }
            | Report::GaveUp { .. }
            | Report::AllSent
            | Report::Delivered { .. }
            | Report::Began { .. }
            | Report::Route { .. }
            | Report::Broken { .. }
            | Report::Delay(_)
            | Report::Client(_)
            | Report::Insist(_)
            | Report::Retry(_)
            | Report::Ordered(_)
            | Report::Ask(_)
            | Report::Admin(_) => {}
        }
    }
}

impl Checker for Completeness {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if let Fact::Report(Report::Delivered { reader, queue, offset, message, .. }) = fact {
            match reader {
                Reader::Group => {
                    self.group.insert((*queue, *offset));
                }
                Reader::Auditor => {
                    self.audit.insert((*queue, *offset), *message);
                }
            }
        }
        if let Fact::Report(Report::Moved { reader: Reader::Group, queue, from, to, .. }) = fact
            && cx.setup.leads_past()
        {
            self.moved.push((*queue, *from..*to));
        }
        if cx.setup.clients.contains(&ClientKind::Resetter) {
            self.follow(fact);
        }
        Ok(())
    }

    fn finish(&mut self, _cx: &Cx<'_>) -> Verdict {
        for ((queue, offset), message) in &self.audit {
            self.looked += 1;
            let was_moved = self.moved.iter().any(|(of, range)| of == queue && range.contains(offset));
            if !self.group.contains(&(*queue, *offset)) && !was_moved {
                let what =
                    format!("{message:?} at {queue:?} offset {offset} never reached the consumer group");
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
