//! Verifies, as a broker begins to serve as a master, by its start or by a promotion: no group has committed more of a queue than
//! the queue has, though the log came back shorter, or the offsets came from a master that had more than it gave away (#4771).
//!
//! Does not verify: what clients commit afterwards (any value is taken), nor slaves, which take their master's offsets as they
//! are.

use std::collections::BTreeSet;

use gantry_core::broker::Broker;

use super::{Checker, Cx, Verdict, unsafe_because};
use crate::history::{Reader, topic_name};
use crate::workload::producer::QUEUES;
use crate::world::{Fact, HostId};

const NAME: &str = "reach";

/// See the [module](self).
#[derive(Debug)]
pub struct Reach {
    topics: Vec<String>,
    /// Who served as a master after its last turn.
    masters: BTreeSet<HostId>,
    looked: u64,
}

impl Reach {
    /// For a world of so many topics.
    pub fn new(topics: u8) -> Reach {
        Reach { topics: (0..topics).map(topic_name).collect(), masters: BTreeSet::new(), looked: 0 }
    }
}

impl Checker for Reach {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if let Fact::Died(_) = fact {
            self.masters.remove(&cx.host);
        }
        let Fact::TurnEnded { kept: true, machine, .. } = fact else { return Ok(()) };
        let Some(broker) = machine.downcast_ref::<Broker>() else { return Ok(()) };
        if !broker.is_ready() || !broker.is_master() || !self.masters.insert(cx.host) {
            return Ok(());
        }
        let group = Reader::Group.group();
        for topic in &self.topics {
            for queue_id in 0..QUEUES as i32 {
                let Some(offset) = broker.committed_offset(group, topic, queue_id) else { continue };
                let queue = broker.store().find_queue(topic, queue_id);
                let end = queue.map_or(0, |queue| broker.store().max_offset(queue));
                self.looked += 1;
                if offset > end {
                    let what =
                        format!("{topic}/{queue_id} ends at {end}, and the group has committed {offset}");
                    return unsafe_because(NAME, what);
                }
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
