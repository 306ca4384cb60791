//! The world: hosts on a network, one event heap, virtual time.
//!
//! A host is an address, a disk and at most one living [`Process`]. The death of a process, the loss of power and a cut
//! cable are three different things here, with three different outcomes for what was sent and what was written:
//!
//! | | its peers see | its disk | its clocks |
//! |---|---|---|---|
//! | process death | FIN or RST at once | keeps everything written | go on |
//! | power loss | silence, until it is back and answers with RST | loses what was not synced | go on |
//! | cut cable | silence; what was sent arrives after the cut | keeps everything | go on |
//! | pause | accepted bytes and no answer | keeps everything | jump |
//!
//! Random draws come from streams of their own for each host and concern, so that a change in one place does not move the
//! draws of another; faults are a list fixed before the run (see [`crate::fault`]).
//!
//! Absent on purpose: packet loss, duplication and reordering within a connection (TCP hides them), threads, real time.

mod faults;
mod network;
mod payload;
mod trace;
mod turns;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gantry_core::io::{ConnId, DiskError, Machine, Now, Protocol};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant, WallMs};
use gantry_core::wire::{Command, Packet};
use gantry_disk::{CAPACITY_DEFAULT_BYTES, MemoryDisk, Ticket};
use serde::{Deserialize, Serialize};

use crate::clock::Skew;
use crate::digest::Digest;
use crate::engine::Engine;
use crate::fault::{Death, FaultEntry};
use crate::history::{Halt, Report, Tell};
use crate::log::Line;
use crate::process::{ProbeOptions, Process, Running, Seen};

pub use network::{IDLE_LIMIT_S, NetworkOptions};
pub(crate) use trace::describe;

/// A host, by its place in the world's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct HostId(pub usize);

/// What a new life is made from.
pub struct Life {
    /// What its host's clocks show.
    pub now: Now,
    /// What earlier lives left.
    pub disk: MemoryDisk,
    /// Its chance.
    pub rng: Rng,
    /// To be given to [`Running::new`].
    pub options: ProbeOptions,
    /// 1 for the first.
    pub number: u32,
    /// When it begins, in the world's time.
    pub at: Instant,
}

impl Life {
    /// Lets `machine` live it.
    pub fn run<M>(self, machine: M) -> Box<dyn Process>
    where
        M: Machine<MemoryDisk> + 'static,
        M::Event: Tell,
        M::Command: Halt,
    {
        Box::new(Running::new(machine, self.options, self.now, self.disk, self.rng))
    }
}

/// A host to be.
pub struct HostPlan {
    /// For people.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Ports it listens on, and what is spoken there by the accepting side.
    pub listens: Vec<(u16, Protocol)>,
    /// When its process starts.
    pub starts: Instant,
    /// Whether what enters and leaves it is shown to the observer.
    pub tapped: bool,
    /// Of a thousand reads of old data, how many find it not in memory.
    pub cold_per_mille: u32,
    /// The size of its disk; as good as endless when none is given.
    pub disk_bytes: Option<u64>,
    /// Makes a life.
    pub spawn: Box<dyn Fn(Life) -> Box<dyn Process>>,
}

impl HostPlan {
    fn new_disk(&self, rng: Rng) -> MemoryDisk {
        let mut disk = MemoryDisk::new(rng);
        disk.set_cold_ratio(self.cold_per_mille);
        disk.set_capacity(self.disk_bytes.unwrap_or(CAPACITY_DEFAULT_BYTES));
        disk
    }
}

/// What happened, for the observer.
#[derive(Clone, Copy)]
pub enum Fact<'a> {
    /// A life began.
    Started {
        /// 1 for the first.
        life: u32,
    },
    /// A life ended.
    Died(Death),
    /// The power failed: what was not synced may be gone. Also told of a host on which no process lived.
    PowerLost,
    /// The machine gave itself up.
    Failed {
        /// Its reason.
        reason: &'a str,
        /// Whether it is to be started again.
        restart: bool,
    },
    /// Its host was asked to end it cleanly, and does so within [`crate::fault::STOP_WINDOW`].
    AskedToStop {
        /// From its end to the next life.
        down: Duration,
    },
    /// The process stands still.
    Paused,
    /// It goes on.
    Resumed,
    /// Something entered or left the machine. What left in a turn that ended in death is not shown.
    Seen(&'a Seen),
    /// A turn ended.
    TurnEnded {
        /// Whether its effects took place: they do not when the process died in it.
        kept: bool,
        /// The machine.
        machine: &'a dyn Any,
        /// Its disk.
        disk: &'a MemoryDisk,
        /// What its host's wall clock showed.
        wall: WallMs,
    },
    /// The body of the message that lies in its log at this place is no more what was stored.
    BodyDamaged {
        /// Offset in the log.
        physical: u64,
    },
    /// The machine told its host something.
    Report(&'a Report),
    /// The device completed something.
    DiskCompleted {
        /// What.
        ticket: Ticket,
        /// How.
        result: Result<(), DiskError>,
    },
    /// The machine wrote a line to its log.
    Log(&'a Line),
}

impl<'a> Fact<'a> {
    /// The request that came in, and over which connection.
    pub fn asked(&self) -> Option<(ConnId, &'a Command)> {
        let Fact::Seen(Seen::Received { conn, packet: Packet::Command(command) }) = self else { return None };
        (!command.is_response()).then_some((*conn, command))
    }

    /// The answer that went out.
    pub fn answered(&self) -> Option<(ConnId, &'a Command)> {
        let Fact::Seen(Seen::Send { conn, packet: Packet::Command(command) }) = self else { return None };
        command.is_response().then_some((*conn, command))
    }
}

/// Looks at everything that happens.
pub trait Observer {
    /// Something happened. An answer ends the run.
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation>;
}

/// What kind of promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something happened that must never happen.
    Safety,
    /// Something did not happen that must happen in the end.
    Liveness,
    /// A machine stopped, or nearly so.
    Crash,
}

/// A broken promise.
#[derive(Clone, PartialEq, Debug)]
pub struct Violation {
    /// Of which kind.
    pub kind: Kind,
    /// Found by.
    pub checker: &'static str,
    /// What.
    pub what: String,
}

/// Options of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorldOptions {
    /// How the network behaves.
    pub network: NetworkOptions,
    /// Call `check_invariants` after every turn, rather than after one in 64.
    pub check_invariants: bool,
    /// The most inputs of a turn, drawn from 1 up to this.
    pub turn_inputs_max: u64,
    /// Print every input and effect.
    pub trace: bool,
}

/// What is scheduled.
#[derive(Debug)]
enum Event {
    Start { host: HostId },
    Alarm { host: HostId },
    DiskDone { host: HostId, life: u32, ticket: Ticket },
    Network(network::NetworkEvent),
    FaultBegins { index: usize },
    FaultEnds { index: usize },
}

/// Figures of a run, to see that it did something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Events taken.
    pub events: u64,
    /// Turns taken.
    pub turns: u64,
    /// Connections that came about.
    pub connections: u64,
    /// Bytes that arrived.
    pub bytes: u64,
}

struct Host {
    plan: HostPlan,
    skew: Skew,
    process: Option<Box<dyn Process>>,
    /// Where it is while no process lives.
    disk: Option<MemoryDisk>,
    /// The kernel runs: ports refuse instead of keeping silent.
    powered: bool,
    dark_since: Instant,
    dark_until: Instant,
    paused: bool,
    paused_until: Instant,
    /// Faults under way that let it read nothing, and that let it take no connections.
    deafness: u32,
    refusals: u32,
    /// Faults under way that leave it without descriptors.
    without_descriptors: u32,
    life: u32,
    doom: Option<faults::Doom>,
    /// Deaths that wait for a moment of its protocol.
    traps: Vec<faults::Trap>,
    /// Its last process wants nobody but people to start it again.
    gave_up: bool,
    turn_at: Option<Instant>,
    /// When the heap wakes it, latest first: at `turn_at` or before. An alarm that comes too early sets another.
    alarms: Vec<Instant>,
    /// Turns in a row in which its deadline had passed and nothing was done.
    spins: u32,
    conns: BTreeMap<ConnId, network::EndId>,
    accepted: u64,
    known_tickets: Vec<Ticket>,
    /// Added to every completion of the disk.
    disk_delay_nanos: u64,
    /// So many syncs fail from now on.
    failing_syncs: u32,
    machine_rng: Rng,
    turn_rng: Rng,
    disk_rng: Rng,
    network_rng: Rng,
}

/// See the [module](self).
pub struct World<O> {
    engine: Engine<Event>,
    hosts: Vec<Host>,
    network: network::Network,
    faults: Vec<FaultEntry>,
    fault_rng: Rng,
    /// What each fault found when it began, for its end.
    fault_marks: Vec<faults::Mark>,
    /// How many hosts of its list each power loss has reached.
    fault_places: Vec<usize>,
    options: WorldOptions,
    observer: O,
    violation: Option<Violation>,
    digest: Digest,
    stats: Stats,
    seen: Vec<Seen>,
    reports: Vec<Report>,
    tracer: Option<trace::Tracer>,
}

impl<O: Observer> World<O> {
    /// A world in which nothing has happened yet. Disabled faults do not happen.
    pub fn new(
        seed: u64,
        plans: Vec<HostPlan>,
        faults: Vec<FaultEntry>,
        options: WorldOptions,
        observer: O,
    ) -> World<O> {
        let root = Rng::from_seed(seed);
        let mut world = World {
            engine: Engine::default(),
            hosts: Vec::new(),
            network: network::Network::new(plans.len(), &options.network, &root),
            fault_marks: vec![faults::Mark::default(); faults.len()],
            fault_places: vec![0; faults.len()],
            faults,
            fault_rng: root.fork("fault effects"),
            tracer: options.trace.then(trace::Tracer::default),
            options,
            observer,
            violation: None,
            digest: Digest::default(),
            stats: Stats::default(),
            seen: Vec::new(),
            reports: Vec::new(),
        };
        for (index, plan) in plans.into_iter().enumerate() {
            let stream = |concern: &str| root.fork(&format!("{concern} of {}", plan.name));
            let disk = plan.new_disk(stream("disk"));
            world.engine.schedule(plan.starts, Event::Start { host: HostId(index) });
            world.hosts.push(Host {
                skew: Skew::draw(&mut stream("clock")),
                process: None,
                disk: Some(disk),
                powered: true,
                dark_since: Instant::ZERO,
                dark_until: Instant::ZERO,
                paused: false,
                paused_until: Instant::ZERO,
                deafness: 0,
                refusals: 0,
                without_descriptors: 0,
                life: 0,
                doom: None,
                traps: Vec::new(),
                gave_up: false,
                turn_at: None,
                alarms: Vec::new(),
                spins: 0,
                conns: BTreeMap::new(),
                accepted: 0,
                known_tickets: Vec::new(),
                disk_delay_nanos: 0,
                failing_syncs: 0,
                machine_rng: stream("machine"),
                turn_rng: stream("turns"),
                disk_rng: stream("completions"),
                network_rng: stream("network"),
                plan,
            });
        }
        for (index, entry) in world.faults.iter().enumerate() {
            if !entry.disabled {
                world.engine.schedule(entry.at, Event::FaultBegins { index });
            }
        }
        world
    }

    /// Lets everything happen up to `until`, or up to the first violation.
    pub fn run(&mut self, until: Instant) -> Option<&Violation> {
        while self.violation.is_none() {
            let Some(event) = self.engine.next(until) else { break };
            self.stats.events += 1;
            match event {
                Event::Start { host } => self.start(host),
                Event::Alarm { host } => self.on_alarm(host),
                Event::DiskDone { host, life, ticket } => self.on_disk_done(host, life, ticket),
                Event::Network(event) => self.on_network(event),
                Event::FaultBegins { index } => self.on_fault(index),
                Event::FaultEnds { index } => self.on_fault_ends(index),
            }
        }
        self.violation.as_ref()
    }

    /// The present time.
    pub fn now(&self) -> Instant {
        self.engine.now()
    }

    /// What looks on.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// A host's disk.
    pub fn disk(&mut self, host: HostId) -> &mut MemoryDisk {
        let host = &mut self.hosts[host.0];
        match (&mut host.process, &mut host.disk) {
            (Some(process), _) => process.disk(),
            (None, Some(disk)) => disk,
            (None, None) => unreachable!("a host's disk is with its process or by itself"),
        }
    }

    /// A host's machine, if one lives there.
    pub fn machine(&self, host: HostId) -> Option<&dyn std::any::Any> {
        self.hosts[host.0].process.as_deref().map(Process::machine)
    }

    /// Figures of the run so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A hash of everything that happened and of what the disks hold.
    pub fn digest(&mut self) -> u64 {
        let mut digest = self.digest;
        for host in 0..self.hosts.len() {
            digest.word(self.disk(HostId(host)).digest());
        }
        digest.value()
    }

    /// What a host's clocks show.
    fn host_now(&self, host: HostId) -> Now {
        self.hosts[host.0].skew.now(self.engine.now())
    }

    fn tell(&mut self, host: HostId, fact: Fact<'_>) {
        if self.violation.is_none() {
            self.violation = self.observer.observe(self.engine.now(), host, fact);
        }
    }

    /// Which host has an address.
    fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        let at = self.hosts.iter().position(|host| IpAddr::V4(host.plan.ip) == address.ip())?;
        Some(HostId(at))
    }
}
