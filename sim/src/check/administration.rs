//! Verifies, of what a manager sets: topics, groups, and keys of the name server's configuration are what they were last
//! acknowledged to be, or what a request without an answer would make of them, whatever dies (power losses included, in either
//! flush mode); in the end the route of each topic says what the broker's configuration says, and that of a deleted one is gone;
//! from WIPE_WRITE_PERM_OF_BROKER on no route of the broker's lets clients write, until it registers again or the permission is
//! given back; and a message acknowledged in a topic is read from its queue until the topic is deleted, however often the
//! topic's queues become fewer and more, as long as the queue may be read.
//!
//! Does not verify: how long after a request without an answer it may still take effect; what a topic that was deleted and made
//! again holds of its former life ([`super::lives`] does); who may administer.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::RegisterBrokerBody;
use gantry_core::wire::{Command, Packet};
use serde_json::Value;

use super::{Checker, ClientKind, Cx, Verdict, secs, stuck_because, unsafe_because};
use crate::history::{AdminReport, MessageId, Outcome, Report};
use crate::process::Seen;
use crate::workload::manager::{route_register, topic_register};
use crate::workload::requests::{code, reply};
use crate::world::Fact;

const NAME: &str = "administration";
/// A route follows the broker's configuration within this: a full registration every 30 s, and a look every few.
const ROUTE_WITHIN: Duration = Duration::from_secs(60);

type Setting = Option<String>;

/// What is known of one setting.
#[derive(Debug, Default)]
struct Register {
    /// Last acknowledged; it was not there at first.
    value: Setting,
    at: Instant,
    /// Requests whose end nobody knows, and those under way.
    open: Vec<Setting>,
}

impl Register {
    fn close(&mut self, value: &Setting) {
        if let Some(at) = self.open.iter().position(|open| open == value) {
            self.open.swap_remove(at);
        }
    }
}

#[derive(Debug)]
struct Stored {
    id: MessageId,
    topic: String,
    queue: i32,
    offset: i64,
    physical: u64,
    at: Instant,
    lost: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Administration {
    registers: BTreeMap<String, Register>,
    /// What was last read of each route, and when.
    routes: BTreeMap<String, (Setting, Instant)>,
    begun: BTreeMap<MessageId, Instant>,
    stored: Vec<Stored>,
    came: BTreeMap<MessageId, Instant>,
    drained: BTreeMap<(String, i32), Instant>,
    /// When the master last took a deletion of a topic, be it one that its sender had given up.
    deleted: BTreeMap<String, Instant>,
    /// When the name server last heard of a topic's deletion.
    told_names: BTreeMap<String, Instant>,
    /// Read past, where old messages go.
    passed: BTreeSet<MessageId>,
    /// By the name server's connections: requests for routes under way, and whether they must not be writable.
    asked: BTreeMap<(ConnId, i32), bool>,
    wiping: BTreeMap<(ConnId, i32), bool>,
    wiped: bool,
    looked: u64,
}

impl Administration {
    fn on_report(&mut self, cx: &Cx<'_>, report: &AdminReport) -> Verdict {
        match report {
            AdminReport::Begun { register, value } => {
                self.registers.entry(register.clone()).or_default().open.push(value.clone());
                if value.is_none() {
                    self.stored.retain(|stored| topic_register(&stored.topic) != *register);
                    self.drained.retain(|(topic, _), _| topic_register(topic) != *register);
                }
            }
            AdminReport::Done { register, value } => {
                let known = self.registers.entry(register.clone()).or_default();
                known.close(value);
                (known.value, known.at) = (value.clone(), cx.at);
            }
            AdminReport::NotDone { register, value } => {
                self.registers.entry(register.clone()).or_default().close(value);
            }
            AdminReport::Read { register, value } => return self.on_read(cx, register, value),
            AdminReport::SendBegun { id, .. } => {
                self.begun.insert(*id, cx.at);
            }
            AdminReport::SendEnded { id, topic, queue, outcome } => {
                if let Outcome::Ok { offset, physical } = outcome {
                    let (topic, physical) = (topic.clone(), physical.first().copied().unwrap_or(0));
                    let fresh = Stored {
                        id: *id,
                        topic,
                        queue: *queue,
                        offset: *offset,
                        physical,
                        at: cx.at,
                        lost: false,
                    };
                    // An answer that was under way when the power failed tells of what may be gone.
                    let begun = self.begun.get(id).copied().unwrap_or(cx.at);
                    let deleted = self.deleted.get(&fresh.topic).is_some_and(|at| *at >= begun);
                    let lost = |(host, at): &(_, Instant)| *host == cx.setup.cast.master && *at >= begun;
                    if !deleted && !cx.ledger.power_losses().iter().any(lost) {
                        self.stored.push(fresh);
                    }
                }
            }
            AdminReport::Came { topic, queue, offset, id } => {
                let Some(id) = id.filter(|id| self.begun.contains_key(id)) else {
                    return unsafe_because(NAME, format!("{id:?} in {topic}/{queue} was never sent"));
                };
                self.came.insert(id, cx.at);
                let here = |stored: &&Stored| {
                    !stored.lost
                        && stored.topic == *topic
                        && stored.queue == *queue
                        && stored.offset == *offset
                };
                self.looked += 1;
                if let Some(other) = self.stored.iter().find(here).filter(|other| other.id != id) {
                    let what =
                        format!("{id:?} is at {topic}/{queue} offset {offset}, where {other:?} was stored");
                    return unsafe_because(NAME, what);
                }
            }
            AdminReport::Drained { topic, queue } => {
                self.drained.insert((topic.clone(), *queue), cx.at);
                for stored in &self.stored {
                    let here = stored.topic == *topic && stored.queue == *queue && !stored.lost;
                    // The pull left a little before.
                    if !here || stored.at + Duration::from_secs(4) > cx.at {
                        continue;
                    }
                    self.looked += 1;
                    if self.came.contains_key(&stored.id) {
                        continue;
                    }
                    if cx.setup.retention.is_some() {
                        self.passed.insert(stored.id);
                    } else {
                        return unsafe_because(NAME, format!("{stored:?} was passed over"));
                    }
                }
            }
        }
        Ok(())
    }

    fn on_read(&mut self, cx: &Cx<'_>, register: &str, value: &Setting) -> Verdict {
        if register.starts_with("route ") {
            self.routes.insert(register.to_owned(), (value.clone(), cx.at));
            return Ok(());
        }
        let known = self.registers.entry(register.to_owned()).or_default();
        self.looked += 1;
        if known.value != *value && !known.open.contains(value) {
            let what = format!(
                "{register} is {value:?}; it was acknowledged as {:?} at {}, and {:?} got no answer",
                known.value,
                secs(known.at),
                known.open
            );
            return unsafe_because(NAME, what);
        }
        Ok(())
    }

    fn on_name_server(&mut self, at: Instant, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Started { .. } | Fact::Died(_) => {
                self.asked.clear();
                self.wiping.clear();
                self.wiped = false;
            }
            Fact::Seen(Seen::Received { conn, packet: Packet::Command(command) }) => {
                let key = (*conn, command.opaque);
                if command.code == code::REGISTER_BROKER {
                    self.forget_told(command);
                }
                match command.code {
                    // It is answered in this turn, and what else the turn takes may come before or after.
                    code::REGISTER_BROKER | code::ADD_WRITE_PERM_OF_BROKER => {
                        self.wiped = false;
                        self.asked.values_mut().for_each(|wiped| *wiped = false);
                        self.wiping.values_mut().for_each(|wiped| *wiped = false);
                    }
                    code::WIPE_WRITE_PERM_OF_BROKER => drop(self.wiping.insert(key, true)),
                    code::DELETE_TOPIC_IN_NAMESRV => {
                        let topic = command.ext.get("topic").unwrap_or_default().into_owned();
                        self.told_names.insert(topic, at);
                    }
                    code::GET_ROUTEINFO_BY_TOPIC => drop(self.asked.insert(key, self.wiped)),
                    _ => {}
                }
            }
            Fact::Seen(Seen::Send { conn, packet: Packet::Command(command) }) if command.is_response() => {
                let key = (*conn, command.opaque);
                if let Some(stays) = self.wiping.remove(&key) {
                    self.wiped |= stays && command.code == reply::SUCCESS;
                }
                if let Some(true) = self.asked.remove(&key) {
                    return self.on_wiped_route(command);
                }
            }
            Fact::Seen(_)
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => {}
        }
        Ok(())
    }

    /// What a broker registers there is again, if it was on its way when the name server was told to delete it: as with RocketMQ,
    /// a broker takes nothing back.
    fn forget_told(&mut self, command: &Command) {
        let compressed = command.ext.get("compressed").is_some_and(|word| word == "true");
        let Ok(body) = RegisterBrokerBody::decode(&command.body, compressed) else { return };
        for topic in body.topic_config_serialize_wrapper.topic_config_table.keys() {
            self.told_names.remove(topic.as_str());
        }
    }

    fn on_wiped_route(&mut self, command: &Command) -> Verdict {
        const WRITE: i64 = 2;
        let route = serde_json::from_slice::<Value>(&command.body).unwrap_or_default();
        for queues in route["queueDatas"].as_array().into_iter().flatten() {
            self.looked += 1;
            if queues["perm"].as_i64().unwrap_or(0) & WRITE != 0 {
                return unsafe_because(NAME, format!("after its permission was wiped: {queues}"));
            }
        }
        Ok(())
    }
}

impl Checker for Administration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host == cx.setup.cast.name_server {
            return self.on_name_server(cx.at, fact);
        }
        if cx.host == cx.setup.cast.master && matches!(fact, Fact::PowerLost) {
            for stored in &mut self.stored {
                // One that was read after an earlier loss may be marked again: a weaker look, never a wrong one.
                stored.lost |= !cx.ledger.has_survived(cx.setup, stored.physical, stored.at);
            }
        }
        if cx.host == cx.setup.cast.master
            && let Fact::Seen(Seen::Received { packet: Packet::Command(command), .. }) = fact
            && command.code == code::DELETE_TOPIC_IN_BROKER
            && let Some(topic) = command.ext.get("topic")
        {
            self.stored.retain(|stored| stored.topic != topic);
            self.drained.retain(|(of, _), _| *of != topic);
            self.deleted.insert(topic.into_owned(), cx.at);
        }
        let Fact::Report(Report::Admin(report)) = fact else { return Ok(()) };
        self.on_report(cx, report)
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        let log_start = cx.ending.map_or(0, |ending| ending.log_start);
        let passed = self.stored.iter().find(|stored| {
            let is_there = stored.physical >= log_start && !stored.lost;
            is_there && self.passed.contains(&stored.id) && !self.came.contains_key(&stored.id)
        });
        if let Some(stored) = passed {
            return unsafe_because(NAME, format!("{stored:?} was passed over and is not gone"));
        }
        for (register, known) in &self.registers {
            let Some(topic) = register.strip_prefix("topic ") else { continue };
            let Some((route, seen)) = self.routes.get(&route_register(topic)) else { continue };
            let since = known.at.max(cx.setup.healed_at);
            // A life that ends between the two deletions leaves the route: of whom deletes all the time that is not asked, and of the
            // manager when the name server never heard of the last deletion, or was told of the topic once more by the broker.
            let is_left = cx.setup.clients.contains(&ClientKind::Recreator)
                || self.deleted.get(topic) > self.told_names.get(topic);
            let settled =
                known.open.is_empty() && *seen > since + ROUTE_WITHIN && !(known.value.is_none() && is_left);
            if !settled || known.at == Instant::ZERO {
                continue;
            }
            self.looked += 1;
            if *route != known.value {
                let what = format!(
                    "{topic} is {:?} since {}, and its route says {route:?} at {}",
                    known.value,
                    secs(known.at),
                    secs(*seen)
                );
                return stuck_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
