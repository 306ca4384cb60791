//! Verifies: every send ends, within its three seconds and what a turn takes, unless its process stood still, died or was ended;
//! and when all is healed every producer has got everything stored that it still had to send.
//!
//! Does not verify: by which broker, nor how many tries that took.

use std::collections::BTreeMap;

use gantry_core::time::{Duration, Instant};

use super::{Case, Judged, What, stuck_at};
use crate::workload::client::ClientReport;
use crate::world::HostId;

pub(super) const NAME: &str = "sends";

/// The machine's budget, and a turn that comes late.
const ENDS_WITHIN: Duration = Duration::from_millis(3_200);

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut begun: BTreeMap<(HostId, u32, u64), Instant> = BTreeMap::new();
    let mut all_sent: BTreeMap<HostId, u32> = BTreeMap::new();
    for event in &case.story.events {
        match &event.what {
            What::Started => drop(all_sent.remove(&event.host)),
            // What was under way in a process that dies or stands still is not judged.
            What::Died | What::Paused => begun.retain(|(host, _, _), _| *host != event.host),
            What::Told(ClientReport::SendBegun { send, .. }) => {
                begun.insert((event.host, event.life, *send), event.at);
            }
            What::Told(ClientReport::SendEnded { send, .. }) => {
                let Some(since) = begun.remove(&(event.host, event.life, *send)) else { continue };
                looked += 1;
                if event.at > since + ENDS_WITHIN {
                    let what = format!("a send of host {} took {:?}", event.host.0, event.at - since);
                    return stuck_at(event.at, NAME, what);
                }
            }
            What::Told(ClientReport::AllSent { given_up }) => {
                all_sent.insert(event.host, *given_up);
            }
            What::AskedToStop | What::Resumed | What::Told(_) => {}
        }
    }
    let ends = case.plan.ends_at;
    if let Some(((host, _, send), since)) = begun.iter().find(|(_, since)| **since + ENDS_WITHIN < ends) {
        return stuck_at(ends, NAME, format!("send {send} of host {} never ended, begun {since:?}", host.0));
    }
    for (at, app) in case.fleet.apps.iter().enumerate() {
        if app.left_out || app.sends.is_empty() {
            continue;
        }
        let host = case.layout.app(at);
        match all_sent.get(&host) {
            Some(0) => looked += 1,
            Some(count) => return stuck_at(ends, NAME, format!("host {} gave {count} sends up", host.0)),
            None => return stuck_at(ends, NAME, format!("host {} is not through with its sends", host.0)),
        }
    }
    Ok(looked)
}
