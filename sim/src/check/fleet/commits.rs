//! Verifies: a commit that leaves a client, for a broker or for the file of a broadcast, lies behind no message that the group
//! (of a broadcast, the member) wants and no application has settled yet. One that an application holds for longer than
//! `consumeTimeout` counts as settled: the machine has sent it back.
//!
//! Does not verify: that a commit is as far as it could be; that what was settled as "later" comes again is for "delivered".

use std::collections::BTreeMap;

use gantry_core::wire::body::MessageQueue;

use super::{Case, Frontier, HeldNow, Judged, Reader, SECOND, reader, unsafe_at};
use crate::workload::client::ClientReport;

pub(super) const NAME: &str = "commits";

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut held = HeldNow::default();
    let mut frontiers: BTreeMap<(Reader, &MessageQueue), Frontier> = BTreeMap::new();
    for (event, report) in case.told() {
        let Some(group) = case.group_of(event.host) else { continue };
        let reader = reader(group, event.host);
        if let Some(settled) = held.take(event, report) {
            let entry = frontiers.entry((reader, settled.queue));
            let frontier = entry.or_insert_with(|| Frontier::new(case.wanted(group.1, settled.queue)));
            settled.messages.iter().for_each(|handed| frontier.pass(handed.offset));
            continue;
        }
        let ClientReport::Committed { queue, offset } = report else { continue };
        looked += 1;
        let entry = frontiers.entry((reader, queue));
        let frontier = entry.or_insert_with(|| Frontier::new(case.wanted(group.1, queue)));
        while let Some((first, id)) = frontier.first().filter(|(first, _)| first < offset) {
            let is_late = |at| event.at + SECOND >= at + group.1.consume_timeout;
            let is_in = |other: &super::Held<'_>| {
                other.queue == queue && other.messages.iter().any(|handed| handed.offset == first)
            };
            let was_late = held.held.values().any(|other| is_in(other) && is_late(other.at));
            if was_late && !group.1.orderly {
                frontier.pass(first);
                continue;
            }
            let what = format!(
                "host {} of {} commits {offset} of {queue:?}, and nobody has settled {first} ({id:?})",
                event.host.0, group.1.name
            );
            return unsafe_at(event.at, NAME, what);
        }
    }
    Ok(looked)
}
