//! Verifies: what a producer was told is stored lies where it was told. Every message that is stored in a topic and wanted by a
//! group that shares its queues out was handed to a member of it that was content with it, or is in the group's dead-letter
//! queue; and there only after it had come as often as the group allows. Of a broadcast each member that is in the world had
//! every message. Where a group is still at work on a queue in the end, the rest of it may be to come: what piled up while a broker stood
//! still takes its time, and more of it where an application has its hands full or one of the queue's messages in them. So it is with
//! what an application gave back: it may wait for its delay, or in a retry queue that the group is at work on.
//!
//! Does not verify: how often something came twice, and how soon it came; nor what a message went through on its way back.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::MessageQueue;

use super::{Case, Event, Held, HeldNow, Judged, Reader, reader, stuck_at, unsafe_at};
use crate::history::MessageId;
use crate::workload::client::{ClientReport, SendEnd, topic_of};
use crate::world::HostId;

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
    let mut work = Work::default();
    for (event, report) in case.told() {
        let Some(group) = case.group_of(event.host) else { continue };
        // A machine gives back by itself what its application holds for too long.
        if let ClientReport::Delivered { messages, .. } = report {
            for handed in messages {
                let Some(id) = handed.id else { continue };
                let most = times.entry((group.0, id)).or_default();
                *most = (*most).max(handed.times);
            }
        }
        if let ClientReport::Committed { queue, offset } = report
            && group.1.broadcast
        {
            // What an application holds for too long does not come again either: the group goes past it.
            let long = group.1.consume_timeout * 9 / 10;
            let passed = held.of(event).filter(|held| held.queue == queue && held.at + long <= event.at);
            let passed = passed.flat_map(|held| held.messages).filter(|handed| handed.offset < *offset);
            let consumed = consumed.entry(reader(group, event.host)).or_default();
            consumed.extend(passed.filter_map(|handed| handed.id));
        }
        let Some(settled) = held.take(event, report) else { continue };
        let is_consumed = matches!(report, ClientReport::Settled { consumed: true, .. });
        work.take(group.0, event, settled, is_consumed);
        for handed in settled.messages {
            let Some(id) = handed.id else {
                let what = format!("{:?} holds a strange message at {}", settled.queue, handed.offset);
                return unsafe_at(event.at, NAME, what);
            };
            // A broadcast does not come again, whatever became of it.
            if is_consumed || group.1.broadcast {
                consumed.entry(reader(group, event.host)).or_default().insert(id);
            }
        }
    }
    let ends = case.plan.ends_at;
    work.hold(case, &held);
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
                if work.is_on(at, queue, ends) {
                    continue;
                }
                for (offset, (id, _)) in stored.iter().filter(|(_, (id, _))| group.wants(id.message)) {
                    for reader in &readers {
                        looked += 1;
                        let has_it = consumed.get(reader).is_some_and(|consumed| consumed.contains(id));
                        if !has_it && !dead.contains(id) && !work.may_come(case, (at, *id)) {
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

/// What groups were at in the end.
#[derive(Debug, Default)]
struct Work<'a> {
    /// When a group last settled something of a queue, and on which host.
    settled: BTreeMap<(usize, &'a MessageQueue), (Instant, HostId)>,
    /// Hosts whose applications have their hands full, and for how long that may be.
    full: BTreeMap<HostId, Duration>,
    /// Until when something of a queue may be in a hand that is at work: its queue may be full of what comes behind it.
    in_hand: BTreeMap<(usize, &'a MessageQueue), Instant>,
    /// What it has settled there.
    through: BTreeSet<(usize, &'a MessageQueue, i64)>,
    /// When it last gave a message back.
    back: BTreeMap<(usize, MessageId), Instant>,
    /// Since when it has one in its hands.
    held: BTreeMap<(usize, MessageId), Instant>,
}

impl<'a> Work<'a> {
    fn take(&mut self, group: usize, event: &Event, settled: Held<'a>, is_consumed: bool) {
        let at = event.at;
        self.settled.insert((group, settled.queue), (at, event.host));
        for handed in settled.messages {
            self.through.insert((group, settled.queue, handed.offset));
            if let Some(id) = handed.id.filter(|_| !is_consumed) {
                self.back.insert((group, id), at);
            }
        }
    }

    /// Takes what nobody has settled.
    fn hold(&mut self, case: &Case<'_>, held: &HeldNow<'a>) {
        let mut deliveries: BTreeMap<HostId, usize> = BTreeMap::new();
        for ((host, life, _), held) in &held.held {
            let Some((group, group_plan)) = case.group_of(*host) else { continue };
            if case.story.lives_at(*host, case.plan.ends_at) == Some(*life) {
                let slow = group_plan.pace.slow;
                let until = self.in_hand.entry((group, held.queue)).or_default();
                *until = (held.at + slow).max(*until);
                let count = deliveries.entry(*host).or_default();
                *count += 1;
                if *count >= group_plan.deliveries_max {
                    self.full.insert(*host, slow);
                }
            }
            for id in held.messages.iter().filter_map(|handed| handed.id) {
                let since = self.held.entry((group, id)).or_insert(held.at);
                *since = held.at.max(*since);
            }
        }
    }

    fn is_on(&self, group: usize, queue: &MessageQueue, ends: Instant) -> bool {
        if self.in_hand.get(&(group, queue)).is_some_and(|until| *until + AT_WORK > ends) {
            return true;
        }
        // Who has his hands full takes nothing of a queue until the slowest of it is done.
        let full = |host| self.full.get(host).copied().unwrap_or(Duration::ZERO);
        self.settled.get(&(group, queue)).is_some_and(|(last, host)| *last + AT_WORK + full(host) > ends)
    }

    /// Whether a message is on its way to a group that had it once.
    fn may_come(&self, case: &Case<'_>, (at, id): (usize, MessageId)) -> bool {
        let Some(group) = case.fleet.groups.get(at) else { return false };
        let ends = case.plan.ends_at;
        if self.held.get(&(at, id)).is_some_and(|since| *since + group.pace.slow + AT_WORK > ends) {
            return true;
        }
        let Some(back) = self.back.get(&(at, id)) else { return false };
        let longest = case.plan.delays_s.iter().copied().max().unwrap_or(0);
        if *back + Duration::from_secs(longest) + AT_WORK > ends {
            return true;
        }
        let retry_topic = format!("%RETRY%{}", group.name);
        case.truth.of_topic(&retry_topic).any(|(queue, stored)| {
            let is_to_come = |(offset, (of, _)): (&i64, &(MessageId, i32))| {
                *of == id && !self.through.contains(&(at, queue, *offset))
            };
            self.is_on(at, queue, ends) && stored.iter().any(is_to_come)
        })
    }
}

fn acknowledged(case: &Case<'_>) -> Judged {
    let mut looked = 0;
    let mut begun = BTreeMap::new();
    let mut delayed: BTreeSet<MessageId> = BTreeSet::new();
    for (queue, stored) in &case.truth.stored {
        if queue.topic.starts_with("fleet-") {
            let ids = stored.values().map(|(id, _)| *id);
            delayed.extend(ids.filter(|id| case.is_delayed(id.message)));
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
                    if queue.topic != *topic || (!is_there && !delayed.contains(id)) {
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
            | ClientReport::Sought { .. }
            | ClientReport::Stopping
            | ClientReport::Stopped
            | ClientReport::Failing { .. } => {}
        }
    }
    Ok(looked)
}
