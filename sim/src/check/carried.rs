//! Verifies, after every turn of a slave whose tables come from the log: no group has committed more of a queue than the queue has
//! there, and nothing that its master had taken [`LATE_MAX`] before it wrote the end of the slave's log is missing. As a slave
//! becomes the master, it has what its log holds, at once. Where slaves poll for their tables only one thing is verified: a slave that
//! has become the master knows of no commit beyond the end of a queue.
//!
//! Does not verify: queues for which a client has committed something at the slave itself, as clients do that take it for the
//! master still; topics, groups and delay levels, which go the same way; slaves that have not met whole tables in their log
//! yet, but in the end all have; commits during which the master stood still, died, or had a slow disk or one without room.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::broker::Broker;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::code::request_code;
use gantry_core::wire::request::pull_sys_flag;
use gantry_core::wire::{Command, Packet};

use super::{Checker, Cx, Verdict, secs, stuck_because, unsafe_because};
use crate::history::{Queue, Reader, topic_name};
use crate::process::Seen;
use crate::workload::producer::QUEUES;
use crate::world::{Fact, HostId};

const NAME: &str = "carried";
/// A change goes into the log within a tenth of a second, or when the next segment is there.
const LATE_MAX: Duration = Duration::from_secs(3);
/// What the log has brought is read within this, were it cold.
const READ_MAX: Duration = Duration::from_secs(3);

/// A broker's life as its group's master.
#[derive(Debug, Default)]
struct Writer {
    /// Where its log ended, from when on.
    ends: Vec<(Instant, u64)>,
    /// In the order taken.
    commits: BTreeMap<Queue, Vec<(Instant, i64)>>,
    changes: Option<u64>,
    seen_at: Instant,
    /// It stood still, or had no room for anything in its log.
    stops: Vec<Instant>,
}

impl Writer {
    /// The end of its log at a time.
    fn end_at(&self, at: Instant) -> Option<u64> {
        if at > self.seen_at {
            return None;
        }
        let after = self.ends.partition_point(|(since, _)| *since <= at);
        self.ends.get(after.checked_sub(1)?).map(|(_, end)| *end)
    }
}

/// A broker's life as a slave.
#[derive(Debug, Default)]
struct Slave {
    /// How far its log reached while it followed, from when on.
    reached: Vec<(Instant, u64)>,
    changes: Option<u64>,
    /// It follows, and its tables do not come from the log.
    lacks_tables: bool,
    /// Clients have committed something there.
    touched: BTreeSet<Queue>,
    /// It follows a life of its master that is over, and has not found that out: its log may be another one than that of the next life.
    outlived: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Carried {
    writers: BTreeMap<HostId, Writer>,
    slaves: BTreeMap<HostId, Slave>,
    masters: BTreeSet<HostId>,
    /// What clients committed beyond the end of their master's queue: any value is taken.
    beyond: BTreeSet<(Queue, i64)>,
    looked: u64,
}

fn queues(cx: &Cx<'_>) -> impl Iterator<Item = Queue> + use<> {
    let topics = cx.setup.topics;
    (0..topics).flat_map(|topic| (0..QUEUES as i32).map(move |id| Queue { topic, id }))
}

fn committed(broker: &Broker, queue: Queue) -> Option<i64> {
    broker.committed_offset(Reader::Group.group(), &topic_name(queue.topic), queue.id)
}

fn end_of(broker: &Broker, queue: Queue) -> i64 {
    let found = broker.store().find_queue(&topic_name(queue.topic), queue.id);
    found.map_or(0, |found| broker.store().max_offset(found))
}

impl Carried {
    fn on_master(&mut self, cx: &Cx<'_>, broker: &Broker) {
        let writer = self.writers.entry(cx.host).or_default();
        writer.seen_at = cx.at;
        // Nor does it take anything while its key index waits for what slaves have not confirmed, where little may wait.
        if broker.store().is_short_of_room() || !broker.store().takes_raw() {
            writer.stops.push(cx.at);
        }
        let end = broker.store().log_end();
        if writer.ends.last().is_none_or(|(_, last)| *last != end) {
            writer.ends.push((cx.at, end));
        }
        if writer.changes.replace(broker.offset_changes()) == Some(broker.offset_changes()) {
            return;
        }
        for queue in queues(cx) {
            let Some(value) = committed(broker, queue) else { continue };
            let commits = writer.commits.entry(queue).or_default();
            if commits.last().is_none_or(|(_, last)| *last != value) {
                commits.push((cx.at, value));
            }
        }
        self.note_beyond(cx, broker);
    }

    /// What a client has committed beyond the end of a queue goes to slaves as it is.
    fn note_beyond(&mut self, cx: &Cx<'_>, broker: &Broker) {
        for queue in queues(cx).filter(|_| broker.is_master()) {
            let value = committed(broker, queue).filter(|value| *value > end_of(broker, queue));
            self.beyond.extend(value.map(|value| (queue, value)));
        }
    }

    fn on_slave(&mut self, cx: &Cx<'_>, broker: &Broker) -> Verdict {
        let slave = self.slaves.entry(cx.host).or_default();
        slave.lacks_tables = broker.is_following() && !broker.has_carried_tables();
        if slave.changes.replace(broker.offset_changes()) != Some(broker.offset_changes()) {
            for queue in queues(cx) {
                let Some(value) = committed(broker, queue).filter(|_| !slave.touched.contains(&queue)) else {
                    continue;
                };
                if cx.setup.polls_tables {
                    continue;
                }
                self.looked += 1;
                let end = end_of(broker, queue);
                // A slave that came after retention never had what the queue held.
                let knows_queue = end > 0 || broker.store().log_min() == 0;
                if value > end && knows_queue && !self.beyond.contains(&(queue, value)) {
                    let what = format!("a slave has {queue:?} up to {end}, and knows of a commit of {value}");
                    return unsafe_because(NAME, what);
                }
            }
        }
        slave.outlived &= broker.is_following();
        if slave.outlived || !broker.is_following() || !broker.has_carried_tables() {
            slave.reached.clear();
            return Ok(());
        }
        let reach = broker.store().visible();
        if slave.reached.last().is_none_or(|(_, last)| *last != reach) {
            slave.reached.push((cx.at, reach));
        }
        let read = slave.reached.partition_point(|(since, _)| *since + READ_MAX <= cx.at);
        let Some((since, reach)) = read.checked_sub(1).map(|at| slave.reached[at]) else { return Ok(()) };
        slave.reached.drain(..read - 1);
        if cx.setup.is_disk_slow(cx.host, since, cx.at) {
            return Ok(());
        }
        let touched = slave.touched.clone();
        self.compare(cx, broker, reach, &touched)
    }

    /// A slave has become the master.
    fn on_promoted(&mut self, cx: &Cx<'_>, slave: &Slave, broker: &Broker) -> Verdict {
        for queue in queues(cx).filter(|queue| !slave.touched.contains(queue)) {
            let Some(value) = committed(broker, queue) else { continue };
            self.looked += 1;
            let end = end_of(broker, queue);
            if value > end {
                let what =
                    format!("the new master has {queue:?} up to {end}, and knows of a commit of {value}");
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    /// A client commits something at a slave.
    fn on_request(&mut self, cx: &Cx<'_>, command: &Command) {
        let field = |name: &str| command.ext.get(name);
        let commits = match command.code {
            request_code::PULL_MESSAGE => {
                let flags = field("sysFlag").and_then(|flags| flags.parse::<i32>().ok());
                flags.is_some_and(|flags| flags & pull_sys_flag::COMMIT_OFFSET != 0)
            }
            request_code::UPDATE_CONSUMER_OFFSET => true,
            _ => false,
        };
        if !commits || self.masters.contains(&cx.host) {
            return;
        }
        let queue = queues(cx).find(|queue| {
            field("topic").is_some_and(|topic| topic == topic_name(queue.topic))
                && field("queueId").is_some_and(|id| id == queue.id.to_string())
        });
        self.slaves.entry(cx.host).or_default().touched.extend(queue);
    }

    /// What a slave whose log reaches so far must know.
    fn compare(&mut self, cx: &Cx<'_>, broker: &Broker, reach: u64, touched: &BTreeSet<Queue>) -> Verdict {
        let Some(writer) = self.master_of(cx).and_then(|host| self.writers.get(&host)) else { return Ok(()) };
        let master = self.master_of(cx).unwrap_or(cx.setup.cast.master);
        let is_owed = |at: Instant| {
            let late = at + LATE_MAX;
            let stopped = writer.stops.iter().any(|stop| *stop >= at && *stop <= late);
            writer.end_at(late).is_some_and(|end| end <= reach)
                && !stopped
                && !cx.setup.is_disk_slow(master, at, late)
        };
        let commits = writer.commits.iter().filter(|(queue, _)| !touched.contains(queue));
        for (queue, commits) in commits {
            let Some(owed) = commits.iter().rposition(|(at, _)| is_owed(*at)) else { continue };
            // What a client committed beyond its queue, a broker that starts cuts to the end.
            if self.beyond.contains(&(*queue, commits[owed].1)) {
                continue;
            }
            self.looked += 1;
            let known = committed(broker, *queue);
            if !commits[owed..].iter().any(|(_, value)| Some(*value) == known) {
                let (at, value) = commits[owed];
                let what = format!(
                    "a slave whose log reaches to {reach} knows {known:?} as the commit of {queue:?}; its master took {value} at {}",
                    secs(at)
                );
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    /// Whom a slave follows.
    fn master_of(&self, cx: &Cx<'_>) -> Option<HostId> {
        let mut others = self.masters.iter().filter(|host| **host != cx.host);
        match (others.next(), others.next()) {
            (Some(master), None) => Some(*master),
            // One of them is cut off.
            (Some(_), Some(_)) | (None, _) => None,
        }
    }
}

impl Checker for Carried {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if matches!(fact, Fact::Started { .. }) {
            self.writers.remove(&cx.host);
            self.slaves.remove(&cx.host);
            if self.masters.remove(&cx.host) {
                self.slaves.values_mut().for_each(|slave| slave.outlived = true);
            }
        }
        if matches!(fact, Fact::Paused | Fact::Resumed) {
            if let Some(writer) = self.writers.get_mut(&cx.host) {
                writer.stops.push(cx.at);
            }
            if let Some(slave) = self.slaves.get_mut(&cx.host) {
                slave.reached.clear();
            }
        }
        if let Fact::Seen(Seen::Received { packet: Packet::Command(command), .. }) = fact {
            self.on_request(cx, command);
        }
        let Fact::TurnEnded { kept, machine, .. } = fact else { return Ok(()) };
        if !kept {
            // What a master wrote in the turn in which it died may be in its log all the same.
            machine.downcast_ref::<Broker>().into_iter().for_each(|broker| self.note_beyond(cx, broker));
            return Ok(());
        }
        // A master that was asked to stop takes what still comes, and its slaves hear of it.
        let counts =
            |broker: &&Broker| broker.is_ready() || broker.is_master() && self.masters.contains(&cx.host);
        let Some(broker) = machine.downcast_ref::<Broker>().filter(counts) else { return Ok(()) };
        let is_master = cx.host == cx.setup.cast.master;
        if cx.ledger.betrayed().is_some() || !is_master && cx.setup.has_lied(cx.host, cx.at) {
            return Ok(());
        }
        if !broker.is_master() {
            return self.on_slave(cx, broker);
        }
        let promoted = self.slaves.remove(&cx.host);
        if let Some(slave) = promoted {
            self.on_promoted(cx, &slave, broker)?;
            if let Some((_, reach)) = slave.reached.last() {
                self.compare(cx, broker, *reach, &slave.touched)?;
            }
        }
        self.masters.insert(cx.host);
        self.on_master(cx, broker);
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        if cx.setup.polls_tables || cx.ledger.betrayed().is_some() {
            return Ok(());
        }
        match self.slaves.iter().find(|(_, slave)| slave.lacks_tables) {
            Some((host, _)) => {
                stuck_because(NAME, format!("host {} never met its master's tables in the log", host.0))
            }
            None => Ok(()),
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
