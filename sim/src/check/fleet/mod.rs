//! Checkers of fleets: what applications told of their client machines, compared with what lies in the brokers' logs in the end.
//!
//! Everything that applications tell is kept as one [`Story`], in the order in which it happened. When the world has ended, the
//! logs of the masters say what was stored where ([`Truth`]), and each file here judges one promise over the whole story.
//!
//! Does not verify: what goes over the wires, and what brokers answer; worlds with one broker group do that.

mod bounds;
mod commits;
mod delivered;
mod in_order;
mod owners;
mod sends;
mod stops;
mod stored_once;

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::broker::Broker;
use gantry_core::client::DeliveryId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::{MessageQueue, perm};

use super::crash::Crash;
use super::ledger::Ledger;
use super::{Checker, Cx, Setup};
use crate::commit_log::Log;
use crate::fault::Fault;
use crate::fleet::{FleetPlan, Layout, broker_name};
use crate::history::{MessageId, Report};
use crate::plan::Plan;
use crate::workload::client::{ClientReport, GroupPlan, Handed, Way, topic_of};
use crate::workload::record;
use crate::world::{Fact, HostId, Kind, Observer, Violation, World};

/// Something that happened to a host, or that an application told.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// To whom.
    pub host: HostId,
    /// In which of its lives.
    pub life: u32,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Clone, Debug)]
pub enum What {
    /// A life begins.
    Started,
    /// It ends.
    Died,
    /// Its host wants it to end.
    AskedToStop,
    /// It stands still.
    Paused,
    /// It goes on.
    Resumed,
    /// The application tells something.
    Told(ClientReport),
}

/// All of it, in the order of time.
#[derive(Debug, Default)]
pub struct Story {
    events: Vec<Event>,
    /// The last life of each host.
    lives: BTreeMap<HostId, u32>,
    /// When lives of each host began and ended, the latter as `None`.
    changes: BTreeMap<HostId, Vec<(Instant, Option<u32>)>>,
}

impl Story {
    fn add(&mut self, at: Instant, host: HostId, what: What) {
        let life = self.lives.get(&host).copied().unwrap_or(0);
        match what {
            What::Started => self.changes.entry(host).or_default().push((at, Some(life))),
            What::Died => self.changes.entry(host).or_default().push((at, None)),
            What::AskedToStop | What::Paused | What::Resumed | What::Told(_) => {}
        }
        self.events.push(Event { at, host, life, what });
    }

    /// The life of a host that is under way at a time.
    fn lives_at(&self, host: HostId, at: Instant) -> Option<u32> {
        self.changes.get(&host)?.iter().rfind(|(changed, _)| *changed <= at)?.1
    }

    /// Whether an application is on its way out: it gives its queues back whatever it still holds.
    fn is_leaving(&self, host: HostId, at: Instant) -> bool {
        let last = self.events.iter().rev().filter(|event| event.host == host && event.at <= at);
        last.take_while(|event| !matches!(event.what, What::Started))
            .any(|event| matches!(event.what, What::Told(ClientReport::Stopping)))
    }
}

/// What is judged with.
struct Case<'a> {
    plan: &'a Plan,
    fleet: &'a FleetPlan,
    layout: Layout,
    story: &'a Story,
    truth: &'a Truth,
    /// Messages that are sent to be delivered later.
    delayed: BTreeSet<u32>,
}

/// How many things were judged, or what is wrong and when it was.
type Judged = Result<u64, (Instant, Violation)>;

fn unsafe_at(at: Instant, checker: &'static str, what: String) -> Judged {
    Err((at, Violation { kind: Kind::Safety, checker, what }))
}

fn stuck_at(at: Instant, checker: &'static str, what: String) -> Judged {
    Err((at, Violation { kind: Kind::Liveness, checker, what }))
}

/// What the brokers have in the end.
#[derive(Debug, Default)]
pub struct Truth {
    /// By queue and offset: which message, and how often it had come back.
    stored: BTreeMap<MessageQueue, BTreeMap<i64, (MessageId, i32)>>,
    /// The queues of each topic that may be read.
    readable: BTreeMap<String, BTreeSet<MessageQueue>>,
}

impl Truth {
    /// Reads logs and topics of all masters.
    pub fn read<O: Observer>(plan: &Plan, fleet: &FleetPlan, world: &mut World<O>) -> Truth {
        let layout = Layout::new(plan.name_servers, fleet);
        let mut truth = Truth::default();
        for at in 0..fleet.brokers.len() {
            let host = layout.master(at);
            truth.read_log(plan.sizes.segment_bytes, &broker_name(at), world.disk(host));
            let broker = world.machine(host).and_then(|machine| machine.downcast_ref::<Broker>());
            for topic in broker.into_iter().flat_map(Broker::topics) {
                if topic.perm & perm::READ != 0 {
                    let name = topic.topic_name.as_str();
                    let queues =
                        (0..topic.read_queue_nums).map(|id| MessageQueue::new(name, broker_name(at), id));
                    truth.readable.entry(name.to_owned()).or_default().extend(queues);
                }
            }
        }
        truth
    }

    fn read_log(&mut self, segment_bytes: u64, broker: &str, disk: &gantry_disk::MemoryDisk) {
        let log = Log { disk, segment_bytes };
        let mut at = 0;
        while let Some((bytes, next)) = log.record(at) {
            at = next;
            for record in record::split(&bytes).unwrap_or_default() {
                let Some(id) = MessageId::from_body(record.body) else { continue };
                let topic = String::from_utf8_lossy(record.topic).into_owned();
                let queue = MessageQueue::new(topic, broker, record.queue_id);
                let place = self.stored.entry(queue).or_default();
                place.insert(record.queue_offset, (id, record.reconsume_times));
            }
        }
    }

    /// Where messages lie: each queue and offset, with the message and how often it had come back.
    pub fn places(&self) -> impl Iterator<Item = (&MessageQueue, i64, (MessageId, i32))> {
        self.stored.iter().flat_map(|(queue, stored)| {
            stored.iter().map(move |(offset, message)| (queue, *offset, *message))
        })
    }

    fn of_topic<'a>(
        &'a self,
        topic: &'a str,
    ) -> impl Iterator<Item = (&'a MessageQueue, &'a BTreeMap<i64, (MessageId, i32)>)> {
        self.stored.iter().filter(move |(queue, _)| queue.topic == topic)
    }

    /// The messages of a group's dead-letter queues.
    fn dead(&self, group: &GroupPlan) -> BTreeSet<MessageId> {
        let topic = format!("%DLQ%{}", group.name);
        self.of_topic(&topic).flat_map(|(_, stored)| stored.values().map(|(id, _)| *id)).collect()
    }
}

/// Looks on, and judges in the end.
pub struct Watch {
    setup: Setup,
    ledger: Ledger,
    crash: Crash,
    story: Story,
}

impl Watch {
    /// Of a world.
    pub fn new(plan: &Plan, _fleet: &FleetPlan) -> Watch {
        let setup = plan.setup();
        Watch { ledger: Ledger::new(&setup), setup, crash: Crash::default(), story: Story::default() }
    }

    /// Judges the whole story. What each checker judged.
    ///
    /// # Errors
    /// The first promise that was broken, and when.
    pub fn judge(
        &self,
        plan: &Plan,
        fleet: &FleetPlan,
        truth: &Truth,
    ) -> Result<Vec<(&'static str, u64)>, (Instant, Violation)> {
        let layout = Layout::new(plan.name_servers, fleet);
        let sends = fleet.apps.iter().flat_map(|app| &app.sends);
        let delayed = sends.filter(|send| matches!(send.way, Way::Delay(_))).map(|send| send.first).collect();
        let case = Case { plan, fleet, layout, story: &self.story, truth, delayed };
        type Judge = fn(&Case<'_>) -> Judged;
        let judges: [(&'static str, Judge); 8] = [
            (in_order::NAME, in_order::judge),
            (commits::NAME, commits::judge),
            (sends::NAME, sends::judge),
            (delivered::NAME, delivered::judge),
            (owners::NAME, owners::judge),
            (stops::NAME, stops::judge),
            (bounds::NAME, bounds::judge),
            (stored_once::NAME, stored_once::judge),
        ];
        let mut judged = vec![("crash", self.crash.looked())];
        for (name, judge) in judges {
            judged.push((name, judge(&case)?));
        }
        Ok(judged)
    }
}

impl Observer for Watch {
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation> {
        let what = match &fact {
            Fact::Started { life } => {
                self.story.lives.insert(host, *life);
                Some(What::Started)
            }
            Fact::Died(_) => Some(What::Died),
            Fact::AskedToStop { .. } => Some(What::AskedToStop),
            Fact::Paused => Some(What::Paused),
            Fact::Resumed => Some(What::Resumed),
            Fact::Report(Report::Client(report)) => Some(What::Told(report.clone())),
            Fact::Report(_)
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::Seen(_)
            | Fact::TurnEnded { .. }
            | Fact::BodyDamaged { .. }
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => None,
        };
        if let Some(what) = what {
            self.story.add(at, host, what);
        }
        let cx = Cx { setup: &self.setup, ledger: &self.ledger, at, host, ending: None };
        self.crash.on_fact(&cx, &fact).err()
    }
}

impl Case<'_> {
    /// The group of the application on a host.
    fn group_of(&self, host: HostId) -> Option<(usize, &GroupPlan)> {
        let app = self.fleet.apps.get(self.layout.app_at(host)?)?;
        Some((app.group?, self.fleet.groups.get(app.group?)?))
    }

    /// What the applications told, with who told it.
    fn told(&self) -> impl Iterator<Item = (&Event, &ClientReport)> {
        self.story.events.iter().filter_map(|event| match &event.what {
            What::Told(report) => Some((event, report)),
            What::Started | What::Died | What::AskedToStop | What::Paused | What::Resumed => None,
        })
    }

    /// Whether a message is sent to be delivered later.
    fn is_delayed(&self, message: u32) -> bool {
        self.delayed.contains(&message)
    }

    /// The offsets of a queue that a group wants, in order.
    fn wanted(&self, group: &GroupPlan, queue: &MessageQueue) -> Vec<(i64, MessageId)> {
        // What comes back was wanted before.
        let is_own = group.topics.iter().any(|topic| topic_of(*topic) == queue.topic);
        let stored = self.truth.stored.get(queue).into_iter().flatten();
        stored
            .filter(|(_, (id, _))| !is_own || group.wants(id.message))
            .map(|(offset, (id, _))| (*offset, *id))
            .collect()
    }

    /// Whether nothing goes wrong within a stretch of time.
    fn is_without_faults(&self, from: Instant, until: Instant) -> bool {
        self.plan.faults.iter().all(|entry| {
            let ends = entry.at + entry.fault.lasts();
            let is_stop =
                matches!(&entry.fault, Fault::CleanStop { host, .. } if self.layout.app_at(*host).is_some());
            entry.disabled || is_stop || entry.at > until || ends < from
        })
    }

    /// Whether no fault, no growth and no start of a process touches a stretch of time, but for some entries of the list.
    fn is_calm(&self, from: Instant, until: Instant, but: impl Fn(usize) -> bool) -> bool {
        let mut faults = self.plan.faults.iter().enumerate();
        let is_quiet = faults.all(|(index, entry)| {
            let ends = entry.at + entry.fault.lasts();
            // Of an application that stopped nothing is left but its share, which the others take.
            let is_stop =
                matches!(&entry.fault, Fault::CleanStop { host, .. } if self.layout.app_at(*host).is_some());
            let is_over = ends < from || (is_stop && ends + SHARED_OUT < until);
            entry.disabled || but(index) || entry.at > until || is_over
        });
        let outside = |at_ns: u64| {
            let at = Instant::from_nanos(at_ns);
            at > until || at < from
        };
        is_quiet
            && self.fleet.growth.iter().all(|growth| outside(growth.at_ns))
            && self.fleet.brokers.iter().all(|broker| outside(broker.starts_ns))
            && self.fleet.apps.iter().all(|app| app.left_out || outside(app.starts_ns))
            && (self.plan.names_start < from || self.plan.names_start > until)
    }
}

/// A delivery, until it is settled.
#[derive(Clone, Copy, Debug)]
struct Held<'a> {
    at: Instant,
    queue: &'a MessageQueue,
    messages: &'a [Handed],
}

/// The deliveries that applications hold, followed through the story.
#[derive(Debug, Default)]
struct HeldNow<'a> {
    held: BTreeMap<(HostId, u32, DeliveryId), Held<'a>>,
}

impl<'a> HeldNow<'a> {
    /// What the application whose word it is holds.
    fn of(&self, event: &Event) -> impl Iterator<Item = &Held<'a>> {
        let key = |delivery| (event.host, event.life, DeliveryId(delivery));
        self.held.range(key(0)..=key(u64::MAX)).map(|(_, held)| held)
    }

    /// Takes what is told; gives the delivery that is settled by it.
    fn take(&mut self, event: &Event, report: &'a ClientReport) -> Option<Held<'a>> {
        match report {
            ClientReport::Delivered { delivery, queue, messages } => {
                let held = Held { at: event.at, queue, messages };
                self.held.insert((event.host, event.life, *delivery), held);
                None
            }
            ClientReport::Settled { delivery, .. } => self.held.remove(&(event.host, event.life, *delivery)),
            ClientReport::Began { .. }
            | ClientReport::SendBegun { .. }
            | ClientReport::SendEnded { .. }
            | ClientReport::AllSent { .. }
            | ClientReport::Assigned { .. }
            | ClientReport::Committed { .. }
            | ClientReport::Sought { .. }
            | ClientReport::Stopping
            | ClientReport::Stopped
            | ClientReport::Failing { .. } => None,
        }
    }
}

/// How far a reader of a queue has come: the first offset that it wants and is not through with.
#[derive(Clone, Debug, Default)]
struct Frontier {
    wanted: Vec<(i64, MessageId)>,
    through: BTreeSet<i64>,
    at: usize,
}

impl Frontier {
    fn new(wanted: Vec<(i64, MessageId)>) -> Frontier {
        Frontier { wanted, ..Frontier::default() }
    }

    fn pass(&mut self, offset: i64) {
        self.through.insert(offset);
        self.advance();
    }

    fn pass_all(&mut self, ids: &BTreeSet<MessageId>) {
        let offsets = self.wanted.iter().filter(|(_, id)| ids.contains(id)).map(|(offset, _)| *offset);
        self.through.extend(offsets);
        self.advance();
    }

    fn advance(&mut self) {
        while self.wanted.get(self.at).is_some_and(|(offset, _)| self.through.contains(offset)) {
            self.at += 1;
        }
    }

    /// The first one that is not passed.
    fn first(&self) -> Option<(i64, MessageId)> {
        self.wanted.get(self.at).copied()
    }
}

/// Whose progress a queue's is: the group's, or of a broadcast each member's own.
type Reader = (usize, Option<HostId>);

fn reader(group: (usize, &GroupPlan), host: HostId) -> Reader {
    (group.0, group.1.broadcast.then_some(host))
}

/// Within this a group has shared its queues out again after somebody came (`rebalanceInterval`, and a bit).
const SHARED_OUT: Duration = Duration::from_secs(25);

const SECOND: Duration = Duration::from_secs(1);
