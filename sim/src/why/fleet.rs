//! [`super::why`] for fleets: what applications did with the messages, queues and groups that a violation names, what their
//! brokers were told of them, and where they lie in the end.
//!
//! A violation names messages as `m12.3`, a queue as its `MessageQueue`, a group by its name and a host by its number. What is
//! told of others is left out, so are the lives of those who have nothing to do with it.
//!
//! What it cannot tell: what happened within a broker; a delayed message is seen again where it is handed out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use gantry_core::client::DeliveryId;
use gantry_core::io::ConnId;
use gantry_core::time::Instant;
use gantry_core::wire::body::MessageQueue;
use gantry_core::wire::code::request_code;
use gantry_core::wire::{Command, Packet};
use tracing::Level;

use super::{Step, Story, fault_steps, message_of, words_of};
use crate::check::fleet::{Truth, Watch};
use crate::check::told::ids_of;
use crate::fleet::{FleetPlan, Layout, broker_name};
use crate::history::{MessageId, Report};
use crate::plan::Plan;
use crate::process::Seen;
use crate::run::{self, FleetJudge, Outcome};
use crate::workload::client::{ClientReport, SendEnd};
use crate::workload::record;
use crate::world::{Fact, HostId, Observer, Violation, describe};

/// Runs a fleet's world that fails, and runs it again to see why.
pub(super) fn why(plan: &Plan, fleet: &FleetPlan) -> Option<Story> {
    let (outcome, kept) = chronicle(plan, fleet, Subjects::default());
    let (_, violation) = outcome.violation?;
    let mut subjects = Subjects::read(&violation.what, fleet);
    subjects.complete(plan, fleet, &kept.places);
    Some(tell(plan, fleet, subjects))
}

fn tell(plan: &Plan, fleet: &FleetPlan, subjects: Subjects) -> Story {
    let names = subjects.names();
    let (outcome, kept) = chronicle(plan, fleet, subjects);
    let mut steps = kept.steps;
    steps.extend(fault_steps(plan, &outcome));
    steps.sort_by_key(|step| step.at);
    Story { outcome, subjects: names, steps, losses: Vec::new(), ends: kept.ends }
}

fn chronicle(plan: &Plan, fleet: &FleetPlan, subjects: Subjects) -> (Outcome, Kept) {
    let kept = Rc::new(RefCell::new(Kept::default()));
    let chronicle = Chronicle {
        watch: Watch::new(plan, fleet),
        layout: Layout::new(plan.name_servers, fleet),
        hosts: plan.names(),
        groups: (0..fleet.apps.len()).map(|app| group_of(fleet, app)).collect(),
        subjects,
        followed: Followed::default(),
        kept: Rc::clone(&kept),
    };
    let outcome = run::run_fleet(plan, fleet, true, chronicle);
    (outcome, kept.take())
}

fn group_of(fleet: &FleetPlan, app: usize) -> Option<String> {
    let group = fleet.apps.get(app)?.group?;
    fleet.groups.get(group).map(|group| group.name.clone())
}

/// Where messages lie: which one, and how often it had come back.
type Places = BTreeMap<(MessageQueue, i64), (MessageId, i32)>;

/// What a violation is about.
#[derive(Clone, Default, Debug)]
struct Subjects {
    messages: BTreeSet<MessageId>,
    queues: BTreeSet<MessageQueue>,
    groups: BTreeSet<String>,
    hosts: BTreeSet<HostId>,
    /// Where the messages lie in the end.
    places: Places,
}

impl Subjects {
    /// Finds them in the words of a checker.
    fn read(what: &str, fleet: &FleetPlan) -> Subjects {
        let mut subjects = Subjects { queues: queues_of(what), ..Subjects::default() };
        let words = words_of(what);
        for (at, word) in words.iter().enumerate() {
            subjects.messages.extend(message_of(word));
            if fleet.groups.iter().any(|group| group.name == *word) {
                subjects.groups.insert((*word).to_owned());
            }
            if ["host", "HostId"].contains(word) {
                let number = words.get(at + 1).and_then(|word| word.parse().ok());
                subjects.hosts.extend(number.map(HostId));
            }
        }
        subjects
    }

    /// Who has to do with them.
    fn complete(&mut self, plan: &Plan, fleet: &FleetPlan, places: &Places) {
        let layout = Layout::new(plan.name_servers, fleet);
        let of_them = places.iter().filter(|(_, (id, _))| self.messages.contains(id));
        self.places = of_them.map(|(place, stored)| (place.clone(), *stored)).collect();
        if self.groups.is_empty() {
            let apps = self.hosts.iter().filter_map(|host| layout.app_at(*host));
            self.groups = apps.filter_map(|app| group_of(fleet, app)).collect();
        }
        let is_member = |app: &usize| group_of(fleet, *app).is_some_and(|group| self.groups.contains(&group));
        let members = (0..fleet.apps.len()).filter(is_member).map(|app| layout.app(app));
        let names = self.queues.iter().chain(self.places.keys().map(|(queue, _)| queue));
        let names: BTreeSet<&str> = names.map(|queue| queue.broker_name.as_str()).collect();
        let brokers = (0..fleet.brokers.len()).filter(|at| names.contains(broker_name(*at).as_str()));
        self.hosts.extend(members.chain(brokers.flat_map(|at| [layout.master(at), layout.slave(at)])));
    }

    fn names(&self) -> Vec<String> {
        let messages = self.messages.iter().map(|message| format!("{message:?}"));
        messages.chain(self.queues.iter().map(place_name)).chain(self.groups.iter().cloned()).collect()
    }

    /// Whether the queue is named, or one of the messages lies there.
    fn has_queue(&self, queue: &MessageQueue) -> bool {
        self.queues.contains(queue) || self.places.keys().any(|(of, _)| of == queue)
    }

    fn are_sent_by(&self, command: &Command) -> bool {
        ids_of(command).iter().any(|id| self.messages.contains(id))
    }
}

/// The queues in the words of a checker.
fn queues_of(what: &str) -> BTreeSet<MessageQueue> {
    let field = |text: &str, name: &str| {
        let (_, rest) = text.split_once(name)?;
        Some(rest.trim_start_matches('"').split(['"', ',', ' ']).next()?.to_owned())
    };
    let parts = what.split("MessageQueue {").skip(1).filter_map(|part| {
        let id = field(part, "queue_id: ")?.parse().ok()?;
        Some(MessageQueue::new(field(part, "topic: ")?, field(part, "broker_name: ")?, id))
    });
    parts.collect()
}

fn place_name(queue: &MessageQueue) -> String {
    format!("{} {}/{}", queue.broker_name, queue.topic, queue.queue_id)
}

#[derive(Debug, Default)]
struct Kept {
    steps: Vec<Step>,
    /// Where everything lies in the end.
    places: Places,
    /// What is to be said of the subjects' places.
    ends: Vec<String>,
}

/// What is under way.
#[derive(Debug, Default)]
struct Followed {
    sends: BTreeSet<(HostId, u32, u64)>,
    deliveries: BTreeSet<(HostId, u32, DeliveryId)>,
    owned: BTreeSet<(HostId, MessageQueue)>,
    /// By broker group: places in its log where a subject was read.
    logs: BTreeSet<(usize, u64)>,
    asked: BTreeSet<(HostId, ConnId, i32)>,
    /// Commits beyond a subject that were told.
    passed: BTreeSet<(HostId, u32, MessageQueue, i64)>,
    /// What a group committed last.
    committed: BTreeMap<(String, MessageQueue), i64>,
    lives: BTreeMap<HostId, u32>,
}

/// A [`Watch`], and somebody who writes down what concerns the subjects.
struct Chronicle {
    watch: Watch,
    layout: Layout,
    hosts: Vec<String>,
    /// The group of each application.
    groups: Vec<Option<String>>,
    subjects: Subjects,
    followed: Followed,
    kept: Rc<RefCell<Kept>>,
}

impl FleetJudge for Chronicle {
    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn taps(&self) -> bool {
        !self.subjects.messages.is_empty()
    }

    fn on_truth(&mut self, truth: &Truth) {
        let mut kept = self.kept.borrow_mut();
        kept.places =
            truth.places().map(|(queue, offset, stored)| ((queue.clone(), offset), stored)).collect();
        for ((queue, offset), (id, times)) in &self.subjects.places {
            let mut what =
                format!("{id:?} lies at {} offset {offset}, sent back {times} times", place_name(queue));
            let is_there = |((_, of), _): &(&(String, MessageQueue), &i64)| of == queue;
            for ((group, _), offset) in self.followed.committed.iter().filter(is_there) {
                what += &format!("; {group} has committed {offset} there");
            }
            kept.ends.push(what);
        }
    }
}

impl Observer for Chronicle {
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation> {
        let violation = self.watch.observe(at, host, fact);
        match &fact {
            Fact::Started { life } => {
                self.followed.lives.insert(host, *life);
                if *life > 1 {
                    self.step_of(at, host, format!("starts (life {life})"));
                }
            }
            Fact::Died(death) => {
                self.followed.owned.retain(|(owner, _)| *owner != host);
                self.followed.asked.retain(|(asked, _, _)| *asked != host);
                self.step_of(at, host, format!("ends: {death:?}"));
            }
            Fact::PowerLost => {
                self.step_of(at, host, "loses what was not synced: the power failed".to_owned())
            }
            Fact::Failed { reason, .. } => self.step_of(at, host, format!("gives up: {reason}")),
            Fact::AskedToStop { .. } => self.step_of(at, host, "is asked to stop".to_owned()),
            Fact::Paused => self.step_of(at, host, "stands still".to_owned()),
            Fact::Resumed => self.step_of(at, host, "goes on".to_owned()),
            Fact::BodyDamaged { physical } => {
                self.step_of(at, host, format!("the body at {physical} of its log is damaged"));
            }
            Fact::Log(line) if line.level <= Level::WARN => {
                self.step_of(at, host, format!("log: {}", line.text));
            }
            Fact::Seen(seen) => self.on_seen(at, host, seen),
            Fact::Report(Report::Client(report)) => self.on_told(at, host, report),
            Fact::Report(_) | Fact::TurnEnded { .. } | Fact::DiskCompleted { .. } | Fact::Log(_) => {}
        }
        violation
    }
}

impl Chronicle {
    fn step(&self, at: Instant, host: HostId, what: String) {
        let host = self.hosts.get(host.0).cloned();
        self.kept.borrow_mut().steps.push(Step { at, host, what });
    }

    /// Something that concerns everybody who has to do with the subjects.
    fn step_of(&self, at: Instant, host: HostId, what: String) {
        if self.subjects.hosts.contains(&host) {
            self.step(at, host, what);
        }
    }

    fn group(&self, host: HostId) -> Option<&str> {
        self.groups.get(self.layout.app_at(host)?)?.as_deref()
    }

    /// Whether what a consumer tells is about the groups in question.
    fn is_of_group(&self, host: HostId) -> bool {
        self.subjects.groups.is_empty()
            || self.group(host).is_some_and(|group| self.subjects.groups.contains(group))
    }

    fn on_told(&mut self, at: Instant, host: HostId, report: &ClientReport) {
        let life = self.followed.lives.get(&host).copied().unwrap_or(0);
        let subjects = &self.subjects;
        match report {
            ClientReport::SendBegun { send, topic, messages } => {
                let sent: Vec<_> = messages.iter().filter(|id| subjects.messages.contains(id)).collect();
                if !sent.is_empty() {
                    self.followed.sends.insert((host, life, *send));
                    self.step(at, host, format!("sends {sent:?} to {topic} (send {send})"));
                }
            }
            ClientReport::SendEnded { send, how } => {
                if self.followed.sends.remove(&(host, life, *send)) {
                    let how = match how {
                        SendEnd::Ok(places) => {
                            let places =
                                places.iter().map(|(queue, at)| format!("{} offset {at}", place_name(queue)));
                            format!("stored at {}", places.collect::<Vec<_>>().join(", "))
                        }
                        SendEnd::Weak => "stored, with less than was asked".to_owned(),
                        SendEnd::Refused(why) => format!("refused: {why}"),
                        SendEnd::Unknown(why) => format!("unknown: {why}"),
                    };
                    self.step(at, host, format!("send {send} ends: {how}"));
                }
            }
            ClientReport::Delivered { delivery, queue, messages } => {
                let handed = messages.iter().filter_map(|handed| {
                    let id = handed.id.filter(|id| subjects.messages.contains(id))?;
                    Some(format!("{id:?} (offset {}, sent back {} times)", handed.offset, handed.times))
                });
                let handed: Vec<String> = handed.collect();
                if !handed.is_empty() && self.is_of_group(host) {
                    self.followed.deliveries.insert((host, life, *delivery));
                    let (handed, place) = (handed.join(", "), place_name(queue));
                    self.step(at, host, format!("is handed {handed} of {place} as delivery {}", delivery.0));
                }
            }
            ClientReport::Settled { delivery, consumed } => {
                if self.followed.deliveries.remove(&(host, life, *delivery)) {
                    let what = if *consumed { "is done with" } else { "gives back" };
                    self.step(at, host, format!("{what} delivery {}", delivery.0));
                }
            }
            ClientReport::Assigned { topic, queues } => self.on_assigned(at, host, topic, queues),
            ClientReport::Committed { queue, offset } => self.on_committed(at, (host, life), queue, *offset),
            ClientReport::Sought { queue, offset } => {
                self.step_of(at, host, format!("goes on at {offset} of {}", place_name(queue)));
            }
            ClientReport::Stopping => self.step_of(at, host, "stops".to_owned()),
            ClientReport::Stopped => self.step_of(at, host, "has stopped".to_owned()),
            ClientReport::Failing { what } => self.step_of(at, host, format!("is told: {what}")),
            ClientReport::Began { .. } | ClientReport::AllSent { .. } => {}
        }
    }

    fn on_assigned(&mut self, at: Instant, host: HostId, topic: &str, queues: &[MessageQueue]) {
        if !self.is_of_group(host) {
            return;
        }
        let meant = self.subjects.queues.iter().chain(self.subjects.places.keys().map(|(queue, _)| queue));
        let meant: BTreeSet<MessageQueue> = meant.filter(|queue| queue.topic == topic).cloned().collect();
        for queue in meant {
            let name = place_name(&queue);
            if queues.contains(&queue) && self.followed.owned.insert((host, queue.clone())) {
                self.step(at, host, format!("takes {name} as its own"));
            } else if !queues.contains(&queue) && self.followed.owned.remove(&(host, queue)) {
                self.step(at, host, format!("gives {name} up"));
            }
        }
    }

    fn on_committed(&mut self, at: Instant, (host, life): (HostId, u32), queue: &MessageQueue, offset: i64) {
        if !self.subjects.has_queue(queue) || !self.is_of_group(host) {
            return;
        }
        let Some(group) = self.group(host).map(str::to_owned) else { return };
        self.followed.committed.insert((group, queue.clone()), offset);
        let below = self.subjects.places.keys().filter(|(of, place)| of == queue && *place < offset);
        let below: Vec<i64> = below.map(|(_, place)| *place).collect();
        for place in below {
            if self.followed.passed.insert((host, life, queue.clone(), place)) {
                self.step(at, host, format!("commits {offset} of {}, beyond {place}", place_name(queue)));
            }
        }
    }

    /// What brokers are asked and answer.
    fn on_seen(&mut self, at: Instant, host: HostId, seen: &Seen) {
        let (conn, packet, leaves) = match seen {
            Seen::Received { conn, packet } => (*conn, packet, false),
            Seen::Send { conn, packet } => (*conn, packet, true),
            Seen::Start
            | Seen::Opened { .. }
            | Seen::Drained { .. }
            | Seen::Closed { .. }
            | Seen::Synced { .. }
            | Seen::Fetched { .. }
            | Seen::Wake { .. }
            | Seen::Command
            | Seen::Settled
            | Seen::Dial { .. }
            | Seen::Close { .. }
            | Seen::Sync { .. }
            | Seen::Replace { .. }
            | Seen::Fetch { .. }
            | Seen::Fail { .. } => return,
        };
        let (Some(broker), Packet::Command(command)) = (self.layout.broker_at(host), packet) else { return };
        let key = (host, conn, command.opaque);
        let concerns = match (leaves, command.is_response()) {
            (false, false) if self.subjects.are_sent_by(command) || self.goes_back(broker, command) => {
                self.followed.asked.insert(key)
            }
            (true, true) => {
                self.learn_places(broker, command);
                self.followed.asked.remove(&key)
            }
            (false, false) | (false, true) | (true, false) => false,
        };
        if concerns {
            let mut words = String::new();
            describe(seen, &mut words);
            self.step(at, host, words);
        }
    }

    fn goes_back(&self, broker: usize, command: &Command) -> bool {
        let place = || command.ext.get("offset").and_then(|offset| offset.parse().ok());
        command.code == request_code::CONSUMER_SEND_MSG_BACK
            && place().is_some_and(|place| self.followed.logs.contains(&(broker, place)))
    }

    /// Where subjects lie in a log, as soon as they are read.
    fn learn_places(&mut self, broker: usize, command: &Command) {
        for record in record::split(&command.body).unwrap_or_default() {
            if MessageId::from_body(record.body).is_some_and(|id| self.subjects.messages.contains(&id)) {
                self.followed.logs.insert((broker, record.physical_offset));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn subjects_of_a_fleet_are_read_from_the_words_of_its_checkers() {
        let scenario =
            Scenario::parse(include_str!("../../../scenarios/clients.toml")).expect("it is shipped");
        let plan = Plan::draw(&scenario, 1);
        let fleet = plan.fleet.as_ref().expect("a fleet");
        let queue = MessageQueue::new("fleet-0", "r0-broker-0", 3);
        let what =
            format!("group-0 of host 12 never consumed m22.3 of {queue:?} at 9; hosts {{HostId(4)}} do");
        let subjects = Subjects::read(&what, fleet);
        assert_eq!(subjects.names(), ["m22.3", "r0-broker-0 fleet-0/3", "group-0"]);
        assert_eq!(subjects.hosts, BTreeSet::from([HostId(4), HostId(12)]));
    }

    /// No violation is needed for a story: what a group does with a message that came back is one.
    #[test]
    fn a_fleets_story_goes_from_the_sending_to_the_consuming() {
        let scenario =
            Scenario::parse(include_str!("../../../scenarios/clients.toml")).expect("it is shipped");
        let story = (0..50).find_map(|seed| {
            let plan = Plan::draw(&scenario, seed);
            let fleet = plan.fleet.as_ref()?;
            let (_, kept) = chronicle(&plan, fleet, Subjects::default());
            let ((queue, _), (id, _)) =
                kept.places.iter().find(|((queue, _), _)| queue.topic.starts_with("%RETRY%"))?;
            let groups = BTreeSet::from([queue.topic.trim_start_matches("%RETRY%").to_owned()]);
            let mut subjects = Subjects { messages: BTreeSet::from([*id]), groups, ..Subjects::default() };
            subjects.complete(&plan, fleet, &kept.places);
            Some(tell(&plan, fleet, subjects))
        });
        let story = story.expect("some message comes back");
        let first = |needle: &str| {
            let at = story.steps.iter().position(|step| step.what.contains(needle));
            at.unwrap_or_else(|| panic!("{needle}: {:#?}", story.steps))
        };
        let chain = ["sends [m", "is handed m", "gives back delivery", "CONSUMER_SEND_MSG_BACK"].map(first);
        assert!(chain.is_sorted(), "{chain:?}: {:#?}", story.steps);
        // The queue that it comes back from may have had its owner before.
        let comes_again = story.steps[chain[3]..].iter().any(|step| step.what.contains("%RETRY%"));
        assert!(comes_again, "{:#?}", story.steps);
        let is_told = |what: &String| what.contains("%RETRY%") && what.contains("has committed");
        assert!(story.ends.iter().any(is_told), "{:?}", story.ends);
        assert!(story.steps.len() < 200, "it is short: {}", story.steps.len());
    }
}
