//! Verifies: what a producer was told is stored lies where it was told. Every message that is stored in a topic and wanted by a
//! group that shares its queues out was handed to a member of it that was content with it, or is in the group's dead-letter
//! queue; and there only after it had come as often as the group allows. Of a broadcast each member that is in the world had
//! every message. Where a group is still at work on a queue in the end, the rest of it may be to come: what piled up while a broker stood
//! still takes its time.
//!
//! Does not verify: how often something came twice, and how soon it came; nor what a message went through on its way back.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{Case, HeldNow, Judged, Reader, reader, stuck_at, unsafe_at};
use crate::history::MessageId;
use crate::workload::client::{ClientReport, SendEnd, topic_of};

pub(super) const NAME: &str = "delivered";

/// A group that settled something so shortly before the end is at work.
const AT_WORK: Duration = Duration::from_secs(15);
/// Tries before a message is dead, where the group says nothing.
const TRIES_MAX: i32 = 16;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut looked = acknowledged(case)?;
    let mut held = HeldNow::default();
    let mut consumed: BTreeMap<Reader, BTreeSet<MessageId>> = BTreeMap::new();
    let mut times: BTreeMap<(usize, MessageId), i32> = BTreeMap::new();
    let mut last_settled: BTreeMap<(usize, MessageQueue), Instant> = BTreeMap::new();
    for (event, report) in case.told() {
        let Some(group) = case.group_of(event.host) else { continue };
        let Some(settled) = held.take(event, report) else { continue };
        last_settled.insert((group.0, settled.queue.clone()), event.at);
        let is_consumed = matches!(report, ClientReport::Settled { consumed: true, .. });
        for handed in settled.messages {
            let Some(id) = handed.id else {
                let what = format!("{:?} holds a strange message at {}", settled.queue, handed.offset);
                return unsafe_at(event.at, NAME, what);
            };
            let most = times.entry((group.0, id)).or_default();
            *most = (*most).max(handed.times);
            // A broadcast does not come again, whatever became of it.
            if is_consumed || group.1.broadcast {
                consumed.entry(reader(group, event.host)).or_default().insert(id);
            }
        }
    }
    let ends = case.plan.ends_at;
    for (at, group) in case.fleet.groups.iter().enumerate() {
        let members: Vec<usize> = case.fleet.members(at).collect();
        let readers: Vec<Reader> = if group.broadcast {
            members.iter().map(|member| (at, Some(case.layout.app(*member)))).collect()
        } else {
            members.iter().take(1).map(|_| (at, None)).collect()
        };
        let dead = case.truth.dead(group);
        for id in &dead {
            looked += 1;
            let most = times.get(&(at, *id)).copied().unwrap_or(-1);
            let allowed = group.reconsume_max.unwrap_or(TRIES_MAX);
            if most < allowed {
                let what =
                    format!("{id:?} is dead for {}, which had it with {most} tries of {allowed}", group.name);
                return unsafe_at(ends, NAME, what);
            }
        }
        for topic in &group.topics {
            let topic = topic_of(*topic);
            for (queue, stored) in case.truth.of_topic(&topic) {
                let last = last_settled.get(&(at, queue.clone()));
                if last.is_some_and(|last| *last + AT_WORK > ends) {
                    continue;
                }
                for (offset, (id, _)) in stored.iter().filter(|(_, (id, _))| group.wants(id.message)) {
                    for reader in &readers {
                        looked += 1;
                        let has_it = consumed.get(reader).is_some_and(|consumed| consumed.contains(id));
                        if !has_it && !dead.contains(id) {
                            let who = reader.1.map_or(String::new(), |host| format!(" of host {}", host.0));
                            let what =
                                format!("{}{who} never consumed {id:?} of {queue:?} at {offset}", group.name);
                            return stuck_at(ends, NAME, what);
                        }
                    }
                }
            }
        }
    }
    Ok(looked)
}

fn acknowledged(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut begun = BTreeMap::new();
    let mut stored_ids: BTreeSet<MessageId> = BTreeSet::new();
    for (queue, stored) in &case.truth.stored {
        if queue.topic.starts_with("fleet-") {
            stored_ids.extend(stored.values().map(|(id, _)| *id));
        }
    }
    for (event, report) in case.told() {
        match report {
            ClientReport::SendBegun { send, topic, messages } => {
                begun.insert((event.host, event.life, *send), (topic, messages));
            }
            ClientReport::SendEnded { send, how: SendEnd::Ok(places) } => {
                let Some((topic, messages)) = begun.remove(&(event.host, event.life, *send)) else {
                    continue;
                };
                if places.len() != messages.len() {
                    let what = format!("a send of {} messages got {} receipts", messages.len(), places.len());
                    return unsafe_at(event.at, NAME, what);
                }
                for ((queue, offset), id) in places.iter().zip(messages) {
                    looked += 1;
                    let found = case.truth.stored.get(queue).and_then(|stored| stored.get(offset));
                    let is_there = found.is_some_and(|(found, _)| found == id);
                    // A delayed one lies elsewhere first, and its receipt says that place.
                    if queue.topic != *topic || (!is_there && !stored_ids.contains(id)) {
                        let what =
                            format!("{id:?} was acknowledged as {queue:?} at {offset}; there is {found:?}");
                        return unsafe_at(event.at, NAME, what);
                    }
                }
            }
            ClientReport::SendEnded { .. }
            | ClientReport::Began { .. }
            | ClientReport::AllSent { .. }
            | ClientReport::Delivered { .. }
            | ClientReport::Settled { .. }
            | ClientReport::Assigned { .. }
            | ClientReport::Committed { .. }
            | ClientReport::Stopping
            | ClientReport::Stopped
            | ClientReport::Failing { .. } => {}
        }
    }
    Ok(looked)
}
