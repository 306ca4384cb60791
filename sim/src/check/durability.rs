//! Verifies, in the end: everything that the master acknowledged or handed out is where it said, as the auditor reads it
//! from the queues' beginnings. What may be missing is derived from flush mode and faults by [`super::ledger`]: under
//! synchronous flush and for the death of processes nothing, under asynchronous flush what no sync covered before a power
//! loss.
//!
//! Does not verify: a lost disk (no follower takes over yet).

use std::collections::BTreeMap;

use super::ledger::Promise;
use super::{Checker, Cx, Verdict, secs, unsafe_because};
use crate::history::{MessageId, Queue, Reader, Report};
use crate::world::Fact;

const NAME: &str = "durability";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Durability {
    audit: BTreeMap<(Queue, i64), Option<MessageId>>,
    looked: u64,
}

impl Durability {
    fn check(&self, queue: Queue, offset: i64, promise: &Promise, cx: &Cx<'_>) -> Verdict {
        let found = self.audit.get(&(queue, offset));
        if found == Some(&Some(promise.message)) {
            return Ok(());
        }
        let found = match found {
            None => "nothing is there".to_owned(),
            Some(other) => format!("{other:?} is there"),
        };
        let losses: Vec<String> = cx
            .ledger
            .power_losses()
            .iter()
            .map(|(host, at)| format!("{} on {}", secs(*at), host.0))
            .collect();
        let what = format!(
            "{:?} was vouched for at {} as {queue:?} offset {offset}, log {}; {found} (power losses: {losses:?})",
            promise.message,
            secs(promise.at),
            promise.physical
        );
        unsafe_because(NAME, what)
    }
}

impl Checker for Durability {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, _cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Report(report) = fact else { return Ok(()) };
        if let Report::Delivered { reader: Reader::Auditor, queue, offset, message, .. } = report {
            self.audit.insert((*queue, *offset), *message);
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        // A world that was made short ends before anybody audits it.
        if cx.setup.audit_at >= cx.setup.ends_at {
            return Ok(());
        }
        for (queue, offset, promise) in cx.ledger.promises() {
            // What retention took it was allowed to take: [`super::removal`].
            let removed = cx.ending.is_some_and(|ending| promise.physical < ending.log_start);
            if promise.excused.is_some() || removed {
                continue;
            }
            self.looked += 1;
            self.check(queue, offset, promise, cx)?;
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
