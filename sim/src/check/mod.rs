//! Checkers: what the project promises, compared with what happened.
//!
//! What enters and leaves the master is first turned into [`told::Told`], the [`ledger`] keeps what was promised and works
//! out what faults excuse, and each checker judges one promise. Every file opens with what it verifies and what it does not.
//! A checker that never looked is worth nothing: each counts what it judged, and the closing summary shows the counts.

pub mod acknowledge;
pub mod administration;
pub mod carried;
pub mod checkpointed;
pub mod completeness;
pub mod crash;
pub mod delays;
pub mod durability;
pub mod ending;
pub mod fleet;
pub mod follows;
pub mod kept;
pub mod ledger;
pub mod liveness;
pub mod lives;
pub mod locks;
pub mod loss;
pub mod members;
pub mod names;
pub mod offsets;
pub mod once;
pub mod one_value;
pub mod order;
pub mod ordered;
pub mod outside;
pub mod phantom;
pub mod queries;
pub mod reach;
pub mod registered;
pub mod removal;
pub mod replica;
pub mod resets;
pub mod retries;
pub mod routes;
pub mod settled;
pub mod told;
pub mod wake;

use gantry_core::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, FaultEntry};
use crate::retention::Retention;
use crate::world::{Fact, HostId, Kind, Observer, Violation};
use ending::Ending;
use ledger::Ledger;
use told::{BrokerView, Told};

/// Whether an acknowledgement waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// It does not: a power loss may take what was not synced.
    Async,
    /// It does.
    Sync,
}

/// Whether an acknowledgement waits for a slave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// It does not.
    Async,
    /// It does.
    Sync,
}

/// Who is who.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The name server.
    pub name_server: HostId,
    /// The master.
    pub master: HostId,
    /// Its follower.
    pub follower: HostId,
    /// Sends.
    pub producer: HostId,
    /// Consumes.
    pub consumer: HostId,
    /// Reads everything in the end.
    pub auditor: HostId,
}

/// What the checkers know of a world before it begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who is who.
    pub cast: Cast,
    /// The name servers, of which the cast names the first.
    pub name_servers: Vec<HostId>,
    /// Whether the master has a follower.
    pub has_follower: bool,
    /// Flush mode of the master.
    pub flush: Flush,
    /// Replication mode of the master.
    pub replication: Replication,
    /// Bytes of a commit-log segment.
    pub segment_bytes: u64,
    /// What goes wrong.
    pub faults: Vec<FaultEntry>,
    /// All is mended by then.
    pub healed_at: Instant,
    /// The last thing that happens.
    pub ends_at: Instant,
    /// When the auditor begins.
    pub audit_at: Instant,
    /// Whether a slave takes the master's place: then only what holds of whoever is the master is judged.
    pub takeover: bool,
    /// Whether slaves poll for their tables.
    pub polls_tables: bool,
    /// The second slave, where there is one.
    pub second: Option<HostId>,
    /// When old messages go.
    pub retention: Option<Retention>,
    /// How many topics there are.
    pub topics: u8,
    /// The clients beside the usual ones.
    pub clients: Vec<ClientKind>,
    /// The delay of each level.
    pub delays: Vec<Duration>,
    /// A message that came back so often is dead.
    pub times_max: i32,
}

/// Clients that a scenario may have beside the usual ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// See [`crate::workload::delayer`].
    Delayer,
    /// See [`crate::workload::retrier`].
    Retrier,
    /// See [`crate::workload::ordered`].
    Ordered,
    /// See [`crate::workload::asker`].
    Asker,
    /// See [`crate::workload::manager`].
    Manager,
    /// The same, for whom lives of topics are all there is.
    Recreator,
    /// See [`crate::workload::administrator`].
    Administrator,
    /// An administrator who resets the offsets of the group under test: see [`crate::workload::janitor`].
    Resetter,
    /// See [`crate::workload::insister`].
    Insister,
    /// See [`crate::workload::babbler`].
    Babbler,
}

impl ClientKind {
    /// Whether it writes to a name server what it then reads from whichever it asks.
    pub fn tells_name_servers(self) -> bool {
        match self {
            ClientKind::Manager | ClientKind::Recreator | ClientKind::Administrator => true,
            ClientKind::Delayer
            | ClientKind::Retrier
            | ClientKind::Ordered
            | ClientKind::Asker
            | ClientKind::Resetter
            | ClientKind::Insister
            | ClientKind::Babbler => false,
        }
    }
}

/// An operation that failed at the very end of a fault is told of, and its process started again, within this.
const AFTERMATH: Duration = Duration::from_secs(30);

impl Setup {
    /// Whether a host is a slave of the master's.
    pub fn is_slave(&self, host: HostId) -> bool {
        host == self.cast.follower || Some(host) == self.second
    }

    /// Whether the group may be led past messages: because they are about to go, or because an administrator wants it.
    pub fn leads_past(&self) -> bool {
        self.retention.is_some() || self.clients.contains(&ClientKind::Resetter)
    }

    /// The delay of a level, which counts from 1; those beyond the last one are the last one.
    pub fn delay(&self, level: i32) -> Duration {
        let at = usize::try_from(level - 1).unwrap_or(0).min(self.delays.len().saturating_sub(1));
        self.delays.get(at).copied().unwrap_or_default()
    }

    /// Whether no fault touches a stretch of time.
    pub fn is_calm(&self, from: Instant, until: Instant) -> bool {
        self.faults.iter().all(|entry| {
            let mut ends = entry.at + entry.fault.lasts();
            if let Fault::SlowDisk { extra, .. } = &entry.fault {
                ends = ends + *extra;
            }
            entry.disabled || entry.at > until || ends < from
        })
    }

    /// Whether `host`'s disk refuses something, or did so lately: what its process says and does then has a reason.
    pub fn is_disk_broken(&self, host: HostId, at: Instant) -> bool {
        self.faults.iter().any(|entry| {
            let refuses = entry.fault.refuses() == Some(host);
            refuses && !entry.disabled && entry.at <= at && at <= entry.at + entry.fault.lasts() + AFTERMATH
        })
    }

    /// Whether a broker refuses to start on a log that power loss has damaged, because its disk has no room for what lies behind the
    /// damage. It says what to do, and nobody here does.
    pub fn lacks_room_to_keep(&self, reason: &str) -> bool {
        let is_bounded = self.retention.as_ref().is_some_and(|retention| retention.disk_bytes.is_some());
        is_bounded && reason.contains("could not be kept aside") && reason.contains("make room")
    }

    /// Whether nothing but want of descriptors lets `host`'s disk refuse something.
    pub fn lacks_descriptors_only(&self, host: HostId, at: Instant) -> bool {
        let mut refuses = false;
        for entry in self.faults.iter().filter(|entry| entry.fault.refuses() == Some(host) && !entry.disabled)
        {
            if entry.at <= at && at <= entry.at + entry.fault.lasts() + AFTERMATH {
                if !matches!(entry.fault, Fault::NoDescriptors { .. }) {
                    return false;
                }
                refuses = true;
            }
        }
        refuses
    }

    /// Whether `host`'s disk has said that it synced what it had not, or forgot what it had: from then on what the host keeps is
    /// worth nothing alone.
    pub fn has_lied(&self, host: HostId, at: Instant) -> bool {
        self.faults.iter().any(|entry| {
            let is_lie = matches!(
                &entry.fault,
                Fault::LyingSyncs { host: liar, .. } | Fault::BitFlips { host: liar, .. } | Fault::DamagedBody { host: liar }
                    if *liar == host
            );
            is_lie && !entry.disabled && entry.at <= at
        })
    }

    /// Whether `host`'s disk says now that it syncs, and does not.
    pub fn is_lying(&self, host: HostId, at: Instant) -> bool {
        self.faults.iter().any(|entry| {
            let Fault::LyingSyncs { host: liar, lasts } = &entry.fault else { return false };
            *liar == host && !entry.disabled && entry.at <= at && at <= entry.at + *lasts
        })
    }

    /// By how much a host's clock may measure a stretch of time wrong.
    pub fn drift(&self, span: Duration) -> Duration {
        let mut all_ppm = 0;
        for entry in self.faults.iter().filter(|entry| !entry.disabled) {
            if let Fault::ClockDrift { by_ppm, .. } = &entry.fault {
                all_ppm += by_ppm.unsigned_abs();
            }
        }
        Duration::from_nanos(span.as_nanos() as u64 / 1_000_000 * all_ppm)
    }

    /// Whether a fault that slows or stops `host`'s disk overlaps a stretch of time.
    pub fn is_disk_slow(&self, host: HostId, from: Instant, until: Instant) -> bool {
        self.disk_slow_until(host, from, until).is_some()
    }

    /// When a fault that slows or stops `host`'s disk, and overlaps a stretch of time, is over.
    pub fn disk_slow_until(&self, host: HostId, from: Instant, until: Instant) -> Option<Instant> {
        self.faults.iter().find_map(|entry| {
            let end = entry.at + entry.fault.lasts();
            let end = if matches!(&entry.fault, Fault::SlowDisk { host: slow, .. } if *slow == host) {
                // What was begun during the fault completes after it.
                end + self.slower_by(host, entry.at, end) + Duration::from_nanos(1)
            } else if entry.fault.refuses() == Some(host) {
                end + AFTERMATH
            } else {
                return None;
            };
            let overlaps = entry.at <= until && end > from;
            (!entry.disabled && overlaps).then_some(end)
        })
    }

    /// By how much a host's disk is slower at most within a stretch of time: faults add up.
    fn slower_by(&self, host: HostId, from: Instant, until: Instant) -> Duration {
        let extras = self.faults.iter().filter_map(|entry| {
            let Fault::SlowDisk { host: slow, extra, .. } = &entry.fault else { return None };
            let overlaps = entry.at <= until && entry.at + entry.fault.lasts() >= from;
            (*slow == host && !entry.disabled && overlaps).then_some(*extra)
        });
        extras.sum()
    }
}

/// What a checker sees.
pub struct Cx<'a> {
    /// The world's plan.
    pub setup: &'a Setup,
    /// What was promised so far.
    pub ledger: &'a Ledger,
    /// Now.
    pub at: Instant,
    /// Whom it happened to.
    pub host: HostId,
    /// What the master's disk holds, once the world has ended.
    pub ending: Option<&'a Ending>,
}

/// Nothing wrong, or what.
pub type Verdict = Result<(), Violation>;

/// A safety violation.
pub fn unsafe_because(checker: &'static str, what: String) -> Verdict {
    Err(Violation { kind: Kind::Safety, checker, what })
}

/// A liveness violation.
pub fn stuck_because(checker: &'static str, what: String) -> Verdict {
    Err(Violation { kind: Kind::Liveness, checker, what })
}

/// Judges one promise.
pub trait Checker {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Something happened somewhere.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_fact(&mut self, _cx: &Cx<'_>, _fact: &Fact<'_>) -> Verdict {
        Ok(())
    }

    /// The master took or told something. The ledger has it already.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_told(&mut self, _cx: &Cx<'_>, _told: &Told) -> Verdict {
        Ok(())
    }

    /// The world has ended.
    ///
    /// # Errors
    /// The promise is broken.
    fn finish(&mut self, _cx: &Cx<'_>) -> Verdict {
        Ok(())
    }

    /// How many things it judged.
    fn looked(&self) -> u64;
}

/// Where promises are read from.
enum View {
    /// What enters and leaves the master.
    Master(BrokerView),
    /// What clients learn of it.
    Clients(outside::Clients),
}

/// All checkers of a world.
pub struct Checkers {
    setup: Setup,
    view: View,
    ledger: Ledger,
    told: Vec<Told>,
    checkers: Vec<Box<dyn Checker>>,
    /// The master has refused what a lying disk left it, or a broker what it cannot keep aside: nothing more is to be expected of this
    /// world.
    refused: bool,
}

impl Checkers {
    /// For a world.
    pub fn new(setup: Setup) -> Checkers {
        if setup.takeover {
            let mut checkers: Vec<Box<dyn Checker>> = vec![
                Box::new(crash::Crash::default()),
                Box::new(kept::Kept::default()),
                Box::new(reach::Reach::new(setup.topics)),
                Box::new(carried::Carried::default()),
            ];
            if setup.clients.contains(&ClientKind::Delayer) {
                checkers.push(Box::new(delays::Delays::default()));
            }
            if setup.clients.contains(&ClientKind::Insister) {
                checkers.push(Box::new(once::Once::default()));
            }
            let (view, ledger) = (View::Master(BrokerView::default()), Ledger::new(&setup));
            return Checkers { view, ledger, told: Vec::new(), checkers, setup, refused: false };
        }
        let mut checkers: Vec<Box<dyn Checker>> = vec![
            Box::new(crash::Crash::default()),
            Box::new(acknowledge::Acknowledge::default()),
            Box::new(one_value::OneValue::default()),
            Box::new(phantom::Phantom::default()),
            Box::new(order::Order::default()),
            Box::new(wake::Wake::default()),
            Box::new(offsets::Offsets::default()),
            Box::new(completeness::Completeness::default()),
            Box::new(liveness::Liveness::default()),
            Box::new(durability::Durability::default()),
            Box::new(reach::Reach::new(setup.topics)),
        ];
        if setup.has_follower {
            checkers.push(Box::new(carried::Carried::default()));
        }
        if follows::Follows::fits(&setup) {
            checkers.push(Box::new(follows::Follows::default()));
        }
        for server in &setup.name_servers {
            checkers.push(Box::new(routes::Routes::new(*server)));
        }
        if setup.name_servers.len() > 1 {
            checkers.push(Box::new(names::Names::new(&setup)));
        }
        if let Some(retention) = &setup.retention {
            checkers.push(Box::new(removal::Removal::new(retention.clone())));
        }
        for client in &setup.clients {
            match client {
                ClientKind::Insister => checkers.push(Box::new(once::Once::default())),
                ClientKind::Asker => checkers.push(Box::new(queries::Queries::default())),
                ClientKind::Manager | ClientKind::Recreator => {
                    checkers.push(Box::new(administration::Administration::default()));
                    checkers.push(Box::new(lives::Lives::default()));
                    checkers.push(Box::new(settled::Settled::default()));
                }
                ClientKind::Resetter => checkers.push(Box::new(resets::Resets::default())),
                ClientKind::Delayer => checkers.push(Box::new(delays::Delays::default())),
                // What is left is compared in the end: [`registered`]. And of nonsense nothing may come.
                ClientKind::Administrator | ClientKind::Babbler => {}
                ClientKind::Retrier => checkers.push(Box::new(retries::Retries::default())),
                ClientKind::Ordered => {
                    checkers.push(Box::new(ordered::Ordered::default()));
                    checkers.push(Box::new(locks::Locks::default()));
                    checkers.push(Box::new(members::Members::default()));
                }
            }
        }
        Checkers {
            view: View::Master(BrokerView::default()),
            ledger: Ledger::new(&setup),
            told: Vec::new(),
            checkers,
            setup,
            refused: false,
        }
    }

    /// What was promised.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a broker has refused what its disk left it.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// What is known of the world.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The world has ended: what must be true in the end.
    pub fn finish(&mut self, ending: &Ending) -> Option<Violation> {
        self.finish_with(Some(ending))
    }

    fn finish_with(&mut self, ending: Option<&Ending>) -> Option<Violation> {
        if self.refused {
            return None;
        }
        let Checkers { setup, ledger, checkers, .. } = self;
        let cx = Cx { setup, ledger, at: setup.ends_at, host: setup.cast.master, ending };
        checkers.iter_mut().find_map(|checker| checker.finish(&cx).err())
    }

    fn judge_told(&mut self, at: Instant, host: HostId) -> Option<Violation> {
        let Checkers { setup, ledger, told, checkers, .. } = self;
        for told in told.drain(..) {
            let broken = ledger.on_told(setup, at, &told);
            let cx = Cx { setup, ledger, at, host, ending: None };
            if let Some(violation) = broken {
                return Some(violation);
            }
            for checker in checkers.iter_mut() {
                if let Err(violation) = checker.on_told(&cx, &told) {
                    return Some(violation);
                }
            }
        }
        None
    }

    /// What each checker judged.
    pub fn looked(&self) -> Vec<(&'static str, u64)> {
        self.checkers.iter().map(|checker| (checker.name(), checker.looked())).collect()
    }
}

impl Observer for Checkers {
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation> {
        if let Fact::Failed { restart: false, reason } = &fact {
            let is_betrayed = host == self.setup.cast.master && self.ledger.betrayed().is_some();
            self.refused |= is_betrayed || self.setup.lacks_room_to_keep(reason);
        }
        if self.refused {
            return None;
        }
        match &mut self.view {
            View::Master(view) => {
                if host == self.setup.cast.master && !self.setup.takeover {
                    view.on_fact(at, &fact, &mut self.told);
                }
                self.ledger.on_fact(&self.setup, at, host, &fact);
            }
            View::Clients(view) => view.on_fact(at, &fact, &mut self.told),
        }
        if let Some(violation) = self.judge_told(at, host) {
            return Some(violation);
        }
        let Checkers { setup, view, ledger, checkers, .. } = self;
        // The end of a send rests on the promise that it tells of.
        if let View::Clients(_) = view {
            ledger.on_fact(setup, at, host, &fact);
        }
        let cx = Cx { setup, ledger, at, host, ending: None };
        checkers.iter_mut().find_map(|checker| checker.on_fact(&cx, &fact).err())
    }
}

/// Seconds, for messages to people.
pub(crate) fn secs(at: Instant) -> String {
    let nanos = at.as_nanos();
    format!("{}.{:03} s", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000)
}

/// From one time to another, for messages to people.
pub(crate) fn span(from: Instant, to: Instant) -> String {
    let span: Duration = to - from;
    format!("{}.{:03} s", span.as_secs(), span.subsec_millis())
}
