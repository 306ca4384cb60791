//! Verifies: what a producer sends to a queue after an acknowledgement from that queue gets a higher offset, through
//! retries, deaths and restarts; offsets of a queue rise with places in the commit log.
//!
//! Does not verify: order between producers, between queues, or of requests that were under way together.

use std::collections::BTreeMap;

use super::told::Told;
use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{MessageId, Queue};

const NAME: &str = "order";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Order {
    looked: u64,
}

impl Order {
    fn check(&mut self, cx: &Cx<'_>, queue: Queue, offset: i64, message: MessageId) -> Verdict {
        self.looked += 1;
        let Some(attempt) = cx.ledger.attempt(message) else { return Ok(()) };
        if attempt.queue != queue || offset >= attempt.floor {
            return Ok(());
        }
        // What stood below the floor may have been taken by a power loss since.
        let kept = cx.ledger.promise(queue, attempt.floor - 1).is_some_and(|kept| kept.excused.is_none());
        let since = cx.ledger.power_losses().iter().any(|(_, at)| *at >= attempt.begun);
        if kept && !since {
            let what = format!(
                "{message:?} is at {queue:?} offset {offset}; offset {} had been acknowledged before it was sent",
                attempt.floor - 1
            );
            return unsafe_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Order {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        if let Told::Stored { queue, offset, messages, .. } = told {
            for (message, offset) in messages.iter().zip(*offset..) {
                self.check(cx, *queue, offset, *message)?;
            }
        } else if let Told::PullAnswered { queue, messages, .. } = told {
            for handed in messages {
                let Some(message) = handed.message else { continue };
                self.check(cx, *queue, handed.offset, message)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        let mut last: BTreeMap<Queue, (i64, u64)> = BTreeMap::new();
        for (queue, offset, promise) in cx.ledger.promises() {
            if promise.excused.is_some() {
                continue;
            }
            self.looked += 1;
            if let Some((before, physical)) = last.insert(queue, (offset, promise.physical))
                && physical >= promise.physical
            {
                let what = format!(
                    "{queue:?} offset {before} is at log {physical} and offset {offset} at {}",
                    promise.physical
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
