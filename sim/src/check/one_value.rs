//! Verifies: a place of a queue has one value for ever, and an attempt to send has one place: whatever the master
//! acknowledged or handed out at a queue offset, it never again names another message there. The one excuse is a power loss
//! under asynchronous flush, for what was not synced (see [`super::ledger`]).
//!
//! Does not verify: places that nobody was ever told of.

use super::ledger::Promise;
use super::told::Told;
use super::{Checker, Cx, Verdict, secs};
use crate::history::{MessageId, Queue};
use crate::world::{Kind, Violation};

const NAME: &str = "one value per offset";

/// Counts; the ledger itself finds a second value when it is about to write it down.
#[derive(Debug, Default)]
pub struct OneValue {
    looked: u64,
}

impl Checker for OneValue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, _cx: &Cx<'_>, told: &Told) -> Verdict {
        if let Told::Stored { messages, .. } = told {
            self.looked += messages.len() as u64;
        } else if let Told::PullAnswered { messages, .. } = told {
            self.looked += messages.len() as u64;
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

pub(super) fn second_value(queue: Queue, offset: i64, old: &Promise, new: &Promise) -> Option<Violation> {
    let what = format!(
        "{queue:?} offset {offset} was {:?} at log {} (since {}), and is now {:?} at log {}",
        old.message,
        old.physical,
        secs(old.at),
        new.message,
        new.physical
    );
    Some(Violation { kind: Kind::Safety, checker: NAME, what })
}

pub(super) fn second_place(message: MessageId, old: (Queue, i64), new: (Queue, i64)) -> Violation {
    let what = format!(
        "{message:?} was sent once and is at {:?} offset {} and at {:?} offset {}",
        old.0, old.1, new.0, new.1
    );
    Violation { kind: Kind::Safety, checker: NAME, what }
}
