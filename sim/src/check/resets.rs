//! Verifies, at the master's door, of offsets that an administrator resets while their group consumes: the next answer to a pull of
//! the group from such a queue, after the reset was acknowledged at the latest, sends the reader to where it was put, and it is told so
//! once. (That the reader then gets everything from there is for [`super::completeness`] and [`super::liveness`] to say.)
//!
//! Does not verify: that the place is right for the time that was asked for ([`super::queries`] looks at the same search), nor resets
//! across the death of the master, which only the committed offset outlives.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::io::ConnId;
use gantry_core::wire::Command;

use super::told::{RequestKey, Told};
use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{Queue, Reader};
use crate::process::Seen;
use crate::workload::requests::{code, reply};
use crate::world::Fact;

const NAME: &str = "resets";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Resets {
    /// Requests under way.
    asked: Vec<RequestKey>,
    /// Connections that closed in this turn. What came by them is carried out all the same.
    gone: Vec<ConnId>,
    /// Readers that were sent elsewhere since the oldest of them was taken.
    moved: Vec<(Queue, i64)>,
    /// Pulls under way.
    pulls: BTreeMap<RequestKey, Queue>,
    /// Whose reader may have been sent elsewhere by an answer that its connection did not live to take.
    unheard: BTreeSet<Queue>,
    /// Where the next pull is to be sent.
    owed: BTreeMap<Queue, i64>,
    looked: u64,
}

/// The offsets in the answer, whose keys are objects: `{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:5}}`.
pub fn offsets_of(body: &[u8]) -> Vec<(Queue, i64)> {
    let text = String::from_utf8_lossy(body);
    let after = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(name)?;
        Some(rest.chars().take_while(|c| !",}\"".contains(*c)).collect())
    };
    let entry = |part: &str| {
        let topic = after(part, "\"topic\":\"topic-")?.parse().ok()?;
        let id = after(part, "\"queueId\":")?.parse().ok()?;
        let offset = after(part, "}:")?.parse().ok()?;
        Some((Queue { topic, id }, offset))
    };
    text.split("{\"brokerName\"").skip(1).filter_map(entry).collect()
}

impl Resets {
    /// Whether a request that was not answered in the turn that took its connection is carried out, nobody is told.
    fn forget_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let before = self.asked.len();
        let gone = std::mem::take(&mut self.gone);
        self.asked.retain(|asked| !gone.contains(&asked.conn));
        if self.asked.len() < before {
            self.owed.clear();
        }
        self.end_round();
    }

    fn on_answer(&mut self, conn: ConnId, command: &Command) {
        let key = RequestKey { conn, opaque: command.opaque };
        let Some(at) = self.asked.iter().position(|asked| *asked == key) else { return };
        self.asked.remove(at);
        if command.code == reply::SUCCESS {
            for (queue, offset) in offsets_of(&command.body) {
                // A pull that was held has been answered before.
                let is_told = self.moved.contains(&(queue, offset));
                self.looked += u64::from(is_told);
                if is_told || self.unheard.contains(&queue) {
                    self.owed.remove(&queue);
                } else {
                    self.owed.insert(queue, offset);
                }
            }
        }
        self.end_round();
    }

    /// What was noted while resets were under way counts no more when none is.
    fn end_round(&mut self) {
        if self.asked.is_empty() {
            self.moved.clear();
            self.unheard.clear();
        }
    }
}

impl Checker for Resets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_told(&mut self, _cx: &Cx<'_>, told: &Told) -> Verdict {
        match told {
            Told::PullTaken { key, queue, .. } => {
                self.pulls.insert(*key, *queue);
            }
            Told::PullGone { key } => {
                let Some(queue) = self.pulls.remove(key) else { return Ok(()) };
                // A pull that came in the turn in which its connection closed was answered, and its reader has not heard.
                self.owed.remove(&queue);
                if !self.asked.is_empty() {
                    self.unheard.insert(queue);
                }
            }
            Told::PullAnswered { key, reader: Some(Reader::Group), queue, code, next, .. } => {
                self.pulls.remove(key);
                let is_moved = *code == reply::PULL_OFFSET_MOVED;
                if is_moved && !self.asked.is_empty() {
                    self.moved.push((*queue, *next));
                    self.owed.remove(queue);
                }
                let is_served = is_moved
                    || [reply::SUCCESS, reply::PULL_NOT_FOUND, reply::PULL_RETRY_IMMEDIATELY].contains(code);
                // Another reset under way may have taken the place of this one.
                if !is_served || !self.asked.is_empty() {
                    return Ok(());
                }
                let Some(owed) = self.owed.remove(queue) else { return Ok(()) };
                self.looked += 1;
                if !is_moved || *next != owed {
                    let what = format!(
                        "{queue:?} was reset to {owed}, and the next pull of its group was answered with {code}, to go on at {next}"
                    );
                    return unsafe_because(NAME, what);
                }
            }
            Told::Forgotten => *self = Resets { looked: self.looked, ..Resets::default() },
            Told::PullAnswered { key, .. } => {
                self.pulls.remove(key);
            }
            Told::Stored { .. }
            | Told::NotStored { .. }
            | Told::OffsetTaken { .. }
            | Told::OffsetTold { .. }
            | Told::SlaveReported { .. }
            | Told::SlaveGone { .. } => {}
        }
        Ok(())
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if let Some((conn, command)) = fact.asked()
            && command.code == code::INVOKE_BROKER_TO_RESET_OFFSET
        {
            self.asked.push(RequestKey { conn, opaque: command.opaque });
        } else if let Some((conn, command)) = fact.answered() {
            self.on_answer(conn, command);
        } else if let Fact::Seen(Seen::Closed { conn, .. }) = fact {
            self.gone.push(*conn);
        } else if let Fact::TurnEnded { .. } = fact {
            self.forget_gone();
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_from_fastjsons_maps() {
        let body = br#"{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"topic-1"}:15,{"brokerName":"b","queueId":0,"topic":"topic-1"}:0}}"#;
        let queue = |id| Queue { topic: 1, id };
        assert_eq!(offsets_of(body), [(queue(3), 15), (queue(0), 0)]);
    }
}
