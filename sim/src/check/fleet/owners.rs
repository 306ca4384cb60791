//! Verifies, from the time on at which everything has long been healed and settled until the end: every queue that brokers have
//! of a topic has exactly one owner in each group that shares its queues out, the queues of the group's retry topic too, and
//! each member of a broadcast has all. Nobody's share changes any more. And no member is told that it has a twin, as none has,
//! unless a broker may still count a connection of an earlier life.
//!
//! Does not verify: who the owner is; the strategies' results are compared with RocketMQ's in the tests of the machine.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{Case, Event, Judged, stuck_at, unsafe_at};
use crate::workload::client::{ClientReport, topic_of};
use crate::world::HostId;

pub(super) const NAME: &str = "owners";

/// What each member has of each topic, as of the end or of a time.
pub(super) type Shares = BTreeMap<(HostId, String), BTreeSet<MessageQueue>>;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut shares = Shares::new();
    for (event, report) in case.told() {
        if let ClientReport::Began { .. } = report {
            shares.retain(|(host, _), _| *host != event.host);
        }
        if let ClientReport::Failing { what } = report {
            is_false_alarm(case, event, what)?;
        }
        if let ClientReport::Assigned { topic, queues } = report {
            if event.at > case.plan.audit_at {
                let what = format!("host {} takes another share of {topic}: {queues:?}", event.host.0);
                return stuck_at(event.at, NAME, what);
            }
            shares.insert((event.host, topic.clone()), queues.iter().cloned().collect());
        }
    }
    let mut looked = 0;
    for (at, group) in case.fleet.groups.iter().enumerate() {
        let members: Vec<HostId> = case.fleet.members(at).map(|app| case.layout.app(app)).collect();
        if members.is_empty() {
            continue;
        }
        let mut topics: Vec<String> = group.topics.iter().map(|topic| topic_of(*topic)).collect();
        if !group.broadcast {
            topics.push(format!("%RETRY%{}", group.name));
        }
        for topic in topics {
            let all = case.truth.readable.get(&topic).cloned().unwrap_or_default();
            let share_of = |host: HostId| shares.get(&(host, topic.clone())).cloned().unwrap_or_default();
            if group.broadcast {
                for host in &members {
                    looked += 1;
                    if share_of(*host) != all {
                        let (has, name) = (share_of(*host), &group.name);
                        let what = format!("host {} of {name} has {has:?} of {topic}, not {all:?}", host.0);
                        return stuck_at(case.plan.ends_at, NAME, what);
                    }
                }
                continue;
            }
            let mut owners: BTreeMap<MessageQueue, Vec<usize>> =
                all.iter().map(|queue| (queue.clone(), Vec::new())).collect();
            for host in &members {
                for queue in share_of(*host) {
                    owners.entry(queue).or_default().push(host.0);
                }
            }
            for (queue, owners) in owners {
                looked += 1;
                let what = format!("{queue:?} belongs to hosts {owners:?} of {}", group.name);
                match owners.len() {
                    0 => return stuck_at(case.plan.ends_at, NAME, what),
                    1 if all.contains(&queue) => {}
                    1 => return stuck_at(case.plan.ends_at, NAME, format!("{what}, and is not there")),
                    _ => return unsafe_at(case.plan.ends_at, NAME, what),
                }
            }
        }
    }
    Ok(looked)
}

/// A connection that ended unseen is forgotten by then, and whoever it belonged to is believed again.
const GHOSTS_GONE: Duration = Duration::from_secs(160);

fn is_false_alarm(case: &Case<'_>, event: &Event, what: &str) -> Judged {
    let from = event.at.as_nanos().saturating_sub(GHOSTS_GONE.as_nanos() as u64);
    let is_about_twins = what.starts_with("two members of group");
    if is_about_twins && case.is_without_faults(Instant::from_nanos(from), event.at) {
        return unsafe_at(event.at, NAME, format!("host {} is told: {what}", event.host.0));
    }
    Ok(1)
}
