//! Verifies: nothing is handed out that was never sent, that was sent to another queue, or whose sender was refused; an
//! acknowledgement that arrives says what the master wrote down; the messages of a batch stand next to each other.
//!
//! A message that is torn anywhere in its body, or has lost properties that were sent, counts as never sent.
//!
//! Does not verify: the other fields of a stored message.

use super::told::Told;
use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{Outcome, Report};
use crate::world::Fact;

const NAME: &str = "phantom";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Phantom {
    looked: u64,
}

impl Checker for Phantom {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, cx: &Cx<'_>, told: &Told) -> Verdict {
        let Told::PullAnswered { queue, from, messages, .. } = told else { return Ok(()) };
        // Where a lying disk left holes in a queue, a pull is led past them.
        let has_holes = cx.ledger.betrayed().is_some();
        let mut expected = *from;
        for handed in messages {
            self.looked += 1;
            let at = format!("{queue:?} offset {} at log {}", handed.offset, handed.physical);
            let is_next = handed.offset == expected || has_holes && handed.offset > expected;
            if !is_next {
                return unsafe_because(
                    NAME,
                    format!("{at} was handed out where {expected} should have been"),
                );
            }
            expected = handed.offset + 1;
            let Some(message) = handed.message else {
                return unsafe_because(NAME, format!("{at} holds no whole message of ours"));
            };
            let Some(attempt) = cx.ledger.attempt(message) else {
                return unsafe_because(NAME, format!("{at} holds {message:?}, which was never sent"));
            };
            if attempt.queue != *queue {
                return unsafe_because(NAME, format!("{at} holds {message:?}, sent to {:?}", attempt.queue));
            }
            if let Some(Outcome::Refused { code }) = attempt.outcome {
                return unsafe_because(
                    NAME,
                    format!("{at} holds {message:?}, which was refused with {code}"),
                );
            }
            if let Some(Outcome::Ok { offset, .. }) = attempt.outcome {
                let place = attempt.messages.iter().position(|other| *other == message).unwrap_or(0) as i64;
                if offset + place != handed.offset {
                    let what =
                        format!("{at} holds {message:?}, which was acknowledged at {}", offset + place);
                    return unsafe_because(NAME, what);
                }
            }
        }
        Ok(())
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Report(report) = fact else { return Ok(()) };
        if let Report::Broken { what } = report {
            return unsafe_because(NAME, what.clone());
        }
        let Report::SendEnded { request, outcome: Outcome::Ok { offset, physical } } = report else {
            return Ok(());
        };
        self.looked += 1;
        let Some(attempt) = cx.ledger.attempt_of(*request) else { return Ok(()) };
        for ((message, physical), offset) in attempt.messages.iter().zip(physical).zip(*offset..) {
            let promise = cx.ledger.promise(attempt.queue, offset);
            let same =
                promise.is_some_and(|promise| promise.message == *message && promise.physical == *physical);
            // Of a promise that a power loss took, the place may have another message by now.
            if !same && cx.ledger.excused() == 0 {
                let what =
                    format!("{message:?} was acknowledged at {offset}, where the master had {promise:?}");
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
