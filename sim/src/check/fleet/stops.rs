//! Verifies: an application that stops its client in a calm world is through with that within [`LEAVES_WITHIN`], and others of its
//! group have taken over its queues within [`TAKEN_WITHIN`].
//!
//! Does not verify: stops while something else goes wrong, or shortly after.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{Case, Event, Judged, What, stuck_at};
use crate::workload::client::ClientReport;
use crate::world::HostId;

pub(super) const NAME: &str = "stops";

/// From the wish to the last word of the client. A send under way has three seconds, and brokers have one to answer.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// From the wish to the moment when nothing lies idle. A round trip or two, but a member whose list was a moment too old
/// looks again a second later.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// Routes are known again, queues shared out again, and ghosts forgotten by then.
const SETTLED_AFTER: Duration = Duration::from_secs(160);

struct Stop {
    at: Instant,
    host: HostId,
    left: BTreeMap<String, BTreeSet<MessageQueue>>,
}

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut shares = super::owners::Shares::new();
    let mut stops: Vec<Stop> = Vec::new();
    let mut stopped: BTreeMap<HostId, Instant> = BTreeMap::new();
    for event in &case.story.events {
        for stop in stops.extract_if(.., |stop| event.at > stop.at + TAKEN_WITHIN) {
            looked += 1;
            judge_one(case, &stop, &shares, stopped.get(&stop.host).copied())?;
        }
        match &event.what {
            What::AskedToStop if is_calm(case, event) => {
                let mine = shares.iter().filter(|((host, _), _)| *host == event.host);
                let left = mine.map(|((_, topic), queues)| (topic.clone(), queues.clone())).collect();
                stops.push(Stop { at: event.at, host: event.host, left });
            }
            What::Told(ClientReport::Stopped) => {
                stopped.insert(event.host, event.at);
                shares.retain(|(host, _), _| *host != event.host);
            }
            What::Told(ClientReport::Assigned { topic, queues }) => {
                shares.insert((event.host, topic.clone()), queues.iter().cloned().collect());
            }
            What::Died => shares.retain(|(host, _), _| *host != event.host),
            What::AskedToStop | What::Started | What::Paused | What::Resumed | What::Told(_) => {}
        }
    }
    Ok(looked)
}

fn is_calm(case: &Case<'_>, event: &Event) -> bool {
    let from = event.at.as_nanos().saturating_sub(SETTLED_AFTER.as_nanos() as u64);
    let is_own = |index: usize| case.plan.faults[index].at == event.at;
    let is_app = case.layout.app_at(event.host).is_some();
    is_app && case.is_calm(Instant::from_nanos(from), event.at + TAKEN_WITHIN, is_own)
}

fn judge_one(
    case: &Case<'_>,
    stop: &Stop,
    shares: &super::owners::Shares,
    stopped: Option<Instant>,
) -> Judged {
    if stopped.is_none_or(|at| at < stop.at || at > stop.at + LEAVES_WITHIN) {
        return stuck_at(stop.at, NAME, format!("host {} did not leave in time", stop.host.0));
    }
    let Some((group, plan)) = case.group_of(stop.host) else { return Ok(1) };
    let others: Vec<HostId> =
        case.fleet.members(group).map(|app| case.layout.app(app)).filter(|host| *host != stop.host).collect();
    let has_others = others.iter().any(|host| shares.keys().any(|(owner, _)| owner == host));
    if plan.broadcast || !has_others {
        return Ok(1);
    }
    for (topic, queues) in &stop.left {
        let taken: BTreeSet<&MessageQueue> =
            others.iter().filter_map(|host| shares.get(&(*host, topic.clone()))).flatten().collect();
        if let Some(idle) = queues.iter().find(|queue| !taken.contains(queue)) {
            let what = format!(
                "{TAKEN_WITHIN:?} after host {} stopped, nobody of {} has {idle:?}",
                stop.host.0, plan.name
            );
            return stuck_at(stop.at, NAME, what);
        }
    }
    Ok(1)
}
