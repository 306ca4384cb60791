//! Verifies: a message that was acknowledged before a question left is found by it: by its sender's key, by its unique key, and
//! at its place in the log; what is found is what was asked for, once; and an offset that is asked for by time parts the messages
//! stored before that time from those stored then or later. Restarts, and recovery of the key index with them, change nothing.
//!
//! A power loss under asynchronous flush excuses what no completed sync of the log covers, until it is seen again.
//!
//! Does not verify: limits of time and number in a question by key, nor the files of the index by themselves: what an index
//! built anew from the log would hold is known here by what was acknowledged.

use std::collections::BTreeMap;

use gantry_core::time::Instant;

use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{AskReport, Found, MessageId, Question, Report};
use crate::world::Fact;

const NAME: &str = "queries";

/// A message that is known to be stored.
#[derive(Debug)]
struct Kept {
    copy: Found,
    at: Instant,
    /// A power loss may have taken it, and it was not seen since.
    lost: bool,
    /// It was seen after such a loss.
    durable: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Queries {
    begun: BTreeMap<MessageId, Instant>,
    kept: BTreeMap<MessageId, Kept>,
    looked: u64,
}

impl Queries {
    fn on_seen(&mut self, cx: &Cx<'_>, id: MessageId, copy: Found) -> Verdict {
        if !self.begun.contains_key(&id) {
            return unsafe_because(NAME, format!("{id:?} at {copy:?} was never sent"));
        }
        let fresh = Kept { copy, at: cx.at, lost: false, durable: false };
        let kept = self.kept.entry(id).or_insert(fresh);
        let is_same = (kept.copy.queue, kept.copy.offset, kept.copy.physical)
            == (copy.queue, copy.offset, copy.physical);
        if !is_same && !kept.lost {
            return unsafe_because(NAME, format!("{id:?} is at {copy:?}, and was at {:?}", kept.copy));
        }
        if kept.copy.store_ms != 0 && is_same && copy.store_ms != 0 && kept.copy.store_ms != copy.store_ms {
            return unsafe_because(NAME, format!("{id:?} has got another time: {:?}, {copy:?}", kept.copy));
        }
        kept.durable |= kept.lost && is_same;
        kept.lost = false;
        let store_ms = copy.store_ms.max(if is_same { kept.copy.store_ms } else { 0 });
        kept.copy = Found { store_ms, ..copy };
        Ok(())
    }

    /// Whether a message must be found by a question that left at a time.
    fn is_owed(kept: &Kept, asked: Instant) -> bool {
        !kept.lost && kept.at < asked
    }

    fn on_answered(
        &mut self,
        cx: &Cx<'_>,
        question: Question,
        asked: Instant,
        found: &[(MessageId, Found)],
    ) -> Verdict {
        for (index, (id, copy)) in found.iter().enumerate() {
            let fits = match question {
                Question::Key { message } => id.message == message,
                Question::Unique { id: wanted } => *id == wanted,
                Question::Place { physical } => copy.physical == physical,
            };
            if !fits || found[..index].iter().any(|(other, _)| other == id) {
                return unsafe_because(NAME, format!("{question:?} found {found:?}"));
            }
        }
        for (id, kept) in &self.kept {
            let fits = match question {
                Question::Key { message } => id.message == message,
                Question::Unique { id: wanted } => *id == wanted,
                Question::Place { physical } => kept.copy.physical == physical,
            };
            if !fits || !Queries::is_owed(kept, asked) {
                continue;
            }
            self.looked += 1;
            if !found.iter().any(|(other, _)| other == id) {
                let what = format!("{question:?} did not find {id:?} of {:?}", kept.copy);
                return unsafe_because(NAME, what);
            }
        }
        for (id, copy) in found {
            self.on_seen(cx, *id, *copy)?;
        }
        Ok(())
    }

    fn on_searched(&mut self, queue: i32, at_ms: i64, asked: Instant, offset: i64) -> Verdict {
        for (id, kept) in &self.kept {
            let copy = kept.copy;
            if copy.queue != queue || copy.store_ms == 0 || !Queries::is_owed(kept, asked) {
                continue;
            }
            self.looked += 1;
            if (copy.store_ms < at_ms) != (copy.offset < offset) {
                let what = format!(
                    "the messages of queue {queue} from {at_ms} ms on begin at offset {offset}, and {id:?} is {copy:?}"
                );
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }
}

impl Checker for Queries {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::PowerLost) {
            for kept in self.kept.values_mut().filter(|kept| !kept.durable) {
                kept.lost |= !cx.ledger.has_survived(cx.setup, kept.copy.physical, kept.at);
            }
        }
        let Fact::Report(Report::Ask(report)) = fact else { return Ok(()) };
        match report {
            AskReport::Begun { id } => {
                self.begun.insert(*id, cx.at);
                Ok(())
            }
            // An answer that was under way when the power failed tells of what may be gone.
            AskReport::Stored { id, copy } => {
                let begun = self.begun.get(id).copied().unwrap_or(cx.at);
                let losses = cx.ledger.power_losses();
                let is_old = losses.iter().any(|(host, at)| *host == cx.setup.cast.master && *at >= begun);
                if is_old { Ok(()) } else { self.on_seen(cx, *id, *copy) }
            }
            AskReport::Answered { question, asked, found } => {
                let losses = cx.ledger.power_losses();
                if losses.iter().any(|(host, at)| *host == cx.setup.cast.master && *at >= *asked) {
                    return Ok(());
                }
                self.on_answered(cx, *question, *asked, found)
            }
            AskReport::Searched { queue, at_ms, asked, offset } => {
                self.on_searched(*queue, *at_ms, *asked, *offset)
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
