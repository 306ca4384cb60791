//! Verifies: what a producer wants stored once lies once on each broker in the end, however many tries its machine needed and
//! whatever died between them.
//!
//! Two brokers may have a copy each: the last third of a send's time belongs to brokers that cannot know of each other. What is
//! delayed is left out: a broker that dies as it delivers may deliver twice.
//!
//! Does not verify: the same of an application's own second try, which is another message to the machine; where producers were told
//! that it lies (`delivered` does).

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Judged, unsafe_at};
use crate::history::MessageId;
use crate::workload::client::{ClientReport, topic_of};

pub(super) const NAME: &str = "stored once by clients";

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut once: BTreeSet<MessageId> = BTreeSet::new();
    for (event, report) in case.told() {
        let app = case.layout.app_at(event.host).and_then(|app| case.fleet.apps.get(app));
        if let (Some(app), ClientReport::SendBegun { messages, .. }) = (app, report)
            && app.stores_once
        {
            once.extend(messages.iter().filter(|id| !case.is_delayed(id.message)));
        }
    }
    let topics: BTreeSet<String> = (0..case.fleet.topics).map(topic_of).collect();
    let mut copies: BTreeMap<(&str, MessageId), (i32, i64)> = BTreeMap::new();
    for (queue, offset, (id, _)) in case.truth.places() {
        if !topics.contains(&queue.topic) || !once.contains(&id) {
            continue;
        }
        let broker = queue.broker_name.as_str();
        if let Some((other, at)) = copies.insert((broker, id), (queue.queue_id, offset)) {
            let what =
                format!("{id:?} is twice on {broker}: in queue {other} at {at}, in {queue:?} at {offset}");
            return unsafe_at(case.plan.ends_at, NAME, what);
        }
    }
    Ok(copies.len() as u64)
}
