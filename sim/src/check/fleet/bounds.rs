//! Verifies: an application never holds more deliveries of its consumer, nor more messages in one, than it asked for; and none of a
//! queue that is not its own when it is handed over. (The machine's own bounds are asserted by it after every turn: see
//! `Consumer::check_invariants` in `core/src/client/consumer.rs`.)
//!
//! Does not verify: what the process takes in memory beyond what the machine counts.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::client::DeliveryId;
use gantry_core::wire::body::MessageQueue;

use super::{Case, Judged, unsafe_at};
use crate::workload::client::ClientReport;
use crate::world::HostId;

pub(super) const NAME: &str = "bounds";

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut shares: BTreeMap<(HostId, u32, String), BTreeSet<MessageQueue>> = BTreeMap::new();
    let mut held: BTreeMap<(HostId, u32), BTreeMap<DeliveryId, MessageQueue>> = BTreeMap::new();
    for (event, report) in case.told() {
        let Some((_, group)) = case.group_of(event.host) else { continue };
        let life = (event.host, event.life);
        match report {
            ClientReport::Assigned { topic, queues } => {
                let share: BTreeSet<MessageQueue> = queues.iter().cloned().collect();
                // What it held of queues that are gone is its application's business, and no longer counted.
                held.entry(life)
                    .or_default()
                    .retain(|_, queue| queue.topic != *topic || share.contains(queue));
                shares.insert((event.host, event.life, topic.clone()), share);
            }
            ClientReport::Settled { delivery, .. } => {
                held.entry(life).or_default().remove(delivery);
            }
            ClientReport::Delivered { delivery, queue, messages } => {
                looked += 1;
                let mine = held.entry(life).or_default();
                mine.insert(*delivery, queue.clone());
                let share = shares.get(&(event.host, event.life, queue.topic.clone()));
                let is_own = share.is_some_and(|share| share.contains(queue));
                if !is_own {
                    let what = format!(
                        "host {} of {} got messages of {queue:?}, which is not its own",
                        event.host.0, group.name
                    );
                    return unsafe_at(event.at, NAME, what);
                }
                if messages.len() > group.delivery_messages_max || messages.is_empty() {
                    let what = format!("host {} got {} messages at once", event.host.0, messages.len());
                    return unsafe_at(event.at, NAME, what);
                }
            }
            ClientReport::Began { .. }
            | ClientReport::SendBegun { .. }
            | ClientReport::SendEnded { .. }
            | ClientReport::AllSent { .. }
            | ClientReport::Committed { .. }
            | ClientReport::Sought { .. }
            | ClientReport::Stopping
            | ClientReport::Stopped
            | ClientReport::Failing { .. } => {}
        }
    }
    Ok(looked)
}
