//! Verifies, of groups that consume in order: a message is handed over only when every message before it in its queue that the
//! group wants was consumed, or is dead. So no key, whose messages lie in one queue, is ever reordered or skipped: what comes
//! again after a crash starts over, and never ahead. One application is never handed messages of a queue while it holds others of
//! it, whatever happened in between; and while nothing goes wrong anywhere, no two members hold messages of one queue at once.
//!
//! Does not verify: two holders while something goes wrong or shortly after. A member that stands still, or cannot reach the
//! broker, loses its lock to another and has what it has.

use std::collections::BTreeMap;

use gantry_core::client::DeliveryId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{Case, Event, Frontier, HeldNow, Judged, Reader, What, reader, unsafe_at};
use crate::history::MessageId;
use crate::workload::client::{ClientReport, GroupPlan, Handed};

pub(super) const NAME: &str = "in order";

/// After so long a lock of whoever lost its broker, and a broker's memory of who it lost, are gone.
const LOCK_FORGOTTEN: Duration = Duration::from_secs(150);

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut held = HeldNow::default();
    let mut frontiers: BTreeMap<(Reader, &MessageQueue), Frontier> = BTreeMap::new();
    for (event, report) in case.told() {
        let Some(group) = case.group_of(event.host).filter(|(_, group)| group.orderly) else { continue };
        let settled = held.take(event, report);
        let (queue, messages) = match (report, settled) {
            (ClientReport::Delivered { queue, messages, .. }, _) => (queue, messages.as_slice()),
            (_, Some(settled)) => (settled.queue, settled.messages),
            (_, None) => continue,
        };
        if !queue.topic.starts_with("fleet-") {
            continue;
        }
        let frontier = frontiers.entry((reader(group, event.host), queue)).or_insert_with(|| {
            let mut frontier = Frontier::new(case.wanted(group.1, queue));
            frontier.pass_all(&case.truth.dead(group.1));
            frontier
        });
        if let ClientReport::Settled { consumed, .. } = report {
            if *consumed || group.1.broadcast {
                messages.iter().for_each(|handed| frontier.pass(handed.offset));
            }
            continue;
        }
        looked += 1;
        if let Some((skipped, id)) = first_skipped(frontier, messages) {
            let ahead: Vec<i64> = messages.iter().map(|handed| handed.offset).collect();
            let what = format!(
                "host {} of {} got {ahead:?} of {queue:?} before {skipped} ({id:?}) was consumed",
                event.host.0, group.1.name
            );
            return unsafe_at(event.at, NAME, what);
        }
        looked += alone(case, event, group, queue, &held)?;
    }
    Ok(looked)
}

/// The first message before the last of these that is neither consumed nor among them.
fn first_skipped(frontier: &Frontier, messages: &[Handed]) -> Option<(i64, MessageId)> {
    let last = messages.iter().map(|handed| handed.offset).max()?;
    let is_among = |offset: i64| messages.iter().any(|handed| handed.offset == offset);
    frontier.wanted[frontier.at.min(frontier.wanted.len())..]
        .iter()
        .take_while(|(offset, _)| *offset < last)
        .find(|(offset, _)| !frontier.through.contains(offset) && !is_among(*offset))
        .copied()
}

fn alone(
    case: &Case<'_>,
    event: &Event,
    group: (usize, &GroupPlan),
    queue: &MessageQueue,
    held: &HeldNow<'_>,
) -> Judged {
    let others = held.held.iter().filter(|((host, life, id), other)| {
        let is_this = (*host, *life) == (event.host, event.life);
        let is_new = is_this && other.at == event.at && Some(*id) == delivery_of(event);
        other.queue == queue && !is_new && case.story.lives_at(*host, event.at) == Some(*life)
    });
    for ((host, _, _), other) in others {
        let is_this = *host == event.host;
        if !is_this {
            let is_member = case.group_of(*host).is_some_and(|(other, _)| other == group.0);
            let from = event.at.as_nanos().saturating_sub(LOCK_FORGOTTEN.as_nanos() as u64);
            let is_excused = !case.is_without_faults(Instant::from_nanos(from), event.at);
            if group.1.broadcast || !is_member || is_excused || case.story.is_leaving(*host, event.at) {
                continue;
            }
        }
        let what = format!(
            "host {} got messages of {queue:?} while host {} of {} holds some since {:?}",
            event.host.0, host.0, group.1.name, other.at
        );
        return unsafe_at(event.at, NAME, what);
    }
    Ok(1)
}

fn delivery_of(event: &Event) -> Option<DeliveryId> {
    match &event.what {
        What::Told(ClientReport::Delivered { delivery, .. }) => Some(*delivery),
        What::Told(_) | What::Started | What::Died | What::AskedToStop | What::Paused | What::Resumed => None,
    }
}
