//! Verifies: the members of a group that consumes in order take the messages of each queue one after another: each either has
//! been taken before or is the next one, whoever takes it. In the end all of them have been taken.
//!
//! Does not verify: how often a message is taken again after a change of members or a restart of the master.

use std::collections::BTreeMap;

use gantry_core::time::Duration;

use super::{Checker, Cx, Verdict, stuck_because, unsafe_because};
use crate::history::{OrderedReport, Queue, Report};
use crate::world::Fact;

const NAME: &str = "ordered";
/// What was stored so shortly before the end may be waiting for a lock to expire.
const END: Duration = Duration::from_secs(100);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Ordered {
    /// One past the highest that was taken.
    taken: BTreeMap<Queue, i64>,
    looked: u64,
}

impl Checker for Ordered {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, _cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Report(Report::Ordered(report)) = fact else { return Ok(()) };
        let OrderedReport::Took { queue, offset } = *report;
        self.looked += 1;
        let next = self.taken.entry(queue).or_default();
        if offset > *next {
            return unsafe_because(NAME, format!("{queue:?}: {offset} was taken before {next}"));
        }
        *next = (*next).max(offset + 1);
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        for (queue, offset, promise) in cx.ledger.promises() {
            if promise.excused.is_some() || promise.at + END > cx.setup.ends_at {
                continue;
            }
            self.looked += 1;
            let taken = self.taken.get(&queue).copied().unwrap_or(0);
            if taken <= offset {
                return stuck_because(NAME, format!("{queue:?} was taken up to {taken} only, not {offset}"));
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
