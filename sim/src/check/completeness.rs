//! Verifies, in the end: the consumer group has been handed everything that is in the queues, and was never led past
//! anything: each queue offset that the auditor finds has reached the group at least once. The excuse is an offset whose
//! former message the group had read before a power loss took it.
//!
//! Does not verify: how often something was handed to the group.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{MessageId, Queue, Reader, Report};
use crate::world::Fact;

const NAME: &str = "completeness";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Completeness {
    group: BTreeSet<(Queue, i64)>,
    audit: BTreeMap<(Queue, i64), Option<MessageId>>,
    looked: u64,
}

impl Checker for Completeness {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, _cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
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
        Ok(())
    }

    fn finish(&mut self, _cx: &Cx<'_>) -> Verdict {
        for ((queue, offset), message) in &self.audit {
            self.looked += 1;
            if !self.group.contains(&(*queue, *offset)) {
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
