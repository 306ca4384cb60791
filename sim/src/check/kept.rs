//! Verifies, for worlds in which a slave takes the master's place: every message whose producer was told SEND_OK is where it was
//! said to be, as the auditor reads it in the end from whoever is the master then. The world's faults take no synced and no
//! acknowledged byte but those of one disk, so nothing is excused. And that the slave served while its master was gone.
//!
//! Does not verify: what was stored without a promise (it may be there or not), nor how fast it goes on. Where old messages go, what
//! the auditor does not find may have gone, and only that no offset is given twice remains. And what the old master promised, where its
//! slave lost its disk and was then overtaken by retention: it is made the master although it had not followed any more.

use std::collections::BTreeMap;

use gantry_core::broker::Broker;

use super::{Checker, Cx, Verdict, stuck_because, unsafe_because};
use crate::history::{MessageId, Outcome, Queue, Reader, Report};
use crate::world::Fact;

const NAME: &str = "kept";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Kept {
    promised: BTreeMap<(Queue, i64), MessageId>,
    audit: BTreeMap<(Queue, i64), Option<MessageId>>,
    /// Where the master's log begins, and where its slave's ends, until the slave is the master.
    master_min: u64,
    slave_end: u64,
    is_taken_over: bool,
    served: u64,
    all_sent: bool,
    looked: u64,
}

impl Kept {
    fn on_broker(&mut self, cx: &Cx<'_>, broker: &Broker) {
        if cx.host == cx.setup.cast.master && broker.is_master() {
            self.master_min = broker.store().log_min();
        } else if cx.host == cx.setup.cast.follower && !broker.is_master() {
            self.slave_end = broker.store().log_end();
        } else if cx.host == cx.setup.cast.follower {
            self.is_taken_over = true;
            if self.slave_end < self.master_min {
                self.promised.clear();
            }
        }
    }
}

impl Checker for Kept {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if let Fact::TurnEnded { kept: true, machine, .. } = fact
            && let Some(broker) = machine.downcast_ref::<Broker>()
            && broker.is_ready()
            && !self.is_taken_over
            && cx.setup.retention.is_some()
        {
            self.on_broker(cx, broker);
        }
        let Fact::Report(report) = fact else { return Ok(()) };
        match report {
            Report::SendEnded { request, outcome: Outcome::Ok { offset, .. } } => {
                let Some(attempt) = cx.ledger.attempt_of(*request) else { return Ok(()) };
                for (message, offset) in attempt.messages.iter().zip(*offset..) {
                    let before = self.promised.insert((attempt.queue, offset), *message);
                    if before.is_some_and(|before| before != *message) {
                        let what = format!(
                            "{:?} offset {offset} was acknowledged for {before:?} and for {message:?}",
                            attempt.queue
                        );
                        return unsafe_because(NAME, what);
                    }
                }
            }
            Report::Delivered { reader: Reader::Auditor, queue, offset, message, .. } => {
                self.audit.insert((*queue, *offset), *message);
            }
            Report::SlaveServed => self.served += 1,
            Report::AllSent => self.all_sent = true,
            Report::SendBegun { .. }
            | Report::SendEnded { .. }
            | Report::GaveUp { .. }
            | Report::ReadFrom { .. }
            | Report::Moved { .. }
            | Report::Delivered { .. }
            | Report::Pulled { .. }
            | Report::Began { .. }
            | Report::Route { .. }
            | Report::Broken { .. }
            | Report::Delay(_)
            | Report::Retry(_)
            | Report::Ordered(_)
            | Report::Ask(_)
            | Report::Admin(_)
            | Report::Client(_)
            | Report::Insist(_) => {}
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        if !self.all_sent {
            return stuck_because(NAME, "the producer is not done".to_owned());
        }
        if self.served == 0 {
            return stuck_because(NAME, "the slave never served while its master was gone".to_owned());
        }
        for ((queue, offset), message) in &self.promised {
            self.looked += 1;
            let found = self.audit.get(&(*queue, *offset));
            if found.is_none() && cx.setup.retention.is_some() {
                continue;
            }
            if found != Some(&Some(*message)) {
                let what =
                    format!("{message:?} was acknowledged as {queue:?} offset {offset}; found is {found:?}");
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
