//! What goes wrong in a world: a list, drawn before the run, each entry on its own.
//!
//! An entry says everything about its fault, and what a fault does by chance (which pages a power loss takes) comes from a
//! stream of that entry's index. So any subset of a list can be run, and the rest happens as before: that is what makes a
//! failure small by hand, or by a program.

mod draw;
mod moment;

use std::fmt;

use gantry_core::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

pub use draw::{FaultPlan, Target, draw};
pub use moment::Moment;

use crate::plan::CAST;
use crate::world::HostId;

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Death {
    /// The process is gone, the kernel and its page cache are there.
    Process,
    /// The power is gone.
    Power,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Death::Process => "process death",
            Death::Power => "power loss",
        })
    }
}

/// Which way a cable is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Nothing gets through.
    Both,
    /// What the first sends does not reach the second.
    Forward,
}

/// A kind of fault, by the word that names it in scenarios and summaries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// [`Fault::ProcessDeath`].
    ProcessDeath,
    /// [`Fault::PowerLoss`] of one host.
    PowerLoss,
    /// [`Fault::PowerLoss`] of several.
    RackPowerLoss,
    /// [`Fault::Reset`].
    Reset,
    /// [`Fault::Partition`].
    Partition,
    /// [`Fault::Isolation`].
    Isolation,
    /// [`Fault::Pause`].
    Pause,
    /// [`Fault::CleanStop`].
    CleanStop,
    /// [`Fault::Latency`].
    Latency,
    /// [`Fault::SlowDisk`].
    SlowDisk,
    /// [`Fault::FullDisk`].
    FullDisk,
    /// [`Fault::FullDisk`] of the last slave's.
    FullSlaveDisk,
    /// [`Fault::FailedSync`].
    FailedSync,
    /// [`Fault::DiskLoss`].
    DiskLoss,
    /// [`Fault::LyingSyncs`] of the last slave's.
    LyingSlaveDisk,
    /// [`Fault::LyingSyncs`] of the master's.
    LyingMasterDisk,
    /// [`Fault::BitFlips`] of the last slave's.
    FlippedSlaveDisk,
    /// [`Fault::DamagedBody`] of the master's.
    DamagedBody,
    /// [`Fault::DiskErrors`] of writes.
    WriteError,
    /// [`Fault::DiskErrors`] of reads.
    ReadError,
    /// [`Fault::JointDeath`].
    JointDeath,
    /// [`Fault::HalfOpen`].
    HalfOpen,
    /// [`Fault::DialRefusal`].
    DialRefusal,
    /// [`Fault::Clogging`].
    Clogging,
    /// [`Fault::Bandwidth`].
    Bandwidth,
    /// [`Fault::Deafness`].
    Deafness,
    /// [`Fault::ClockJump`].
    ClockJump,
    /// [`Fault::ClockDrift`].
    ClockDrift,
    /// [`Fault::NoDescriptors`].
    NoDescriptors,
    /// [`Fault::AtMoment`] of a process.
    DeathAtMoment,
    /// [`Fault::AtMoment`] of the power.
    PowerLossAtMoment,
}

impl FaultKind {
    /// Every kind that a scenario has which names none. The others are for scenarios whose checkers know what they take.
    pub const USUAL: &[FaultKind] = &[
        FaultKind::ProcessDeath,
        FaultKind::PowerLoss,
        FaultKind::RackPowerLoss,
        FaultKind::Reset,
        FaultKind::Partition,
        FaultKind::Isolation,
        FaultKind::Pause,
        FaultKind::Latency,
        FaultKind::SlowDisk,
    ];

    /// What the network does beside: harder to live with, and no checker has to know of it.
    pub const NETWORK: &[FaultKind] = &[
        FaultKind::JointDeath,
        FaultKind::HalfOpen,
        FaultKind::DialRefusal,
        FaultKind::Clogging,
        FaultKind::Bandwidth,
        FaultKind::Deafness,
    ];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::ProcessDeath => "process-death",
            FaultKind::PowerLoss => "power-loss",
            FaultKind::RackPowerLoss => "rack-power-loss",
            FaultKind::Reset => "reset",
            FaultKind::Partition => "partition",
            FaultKind::Isolation => "isolation",
            FaultKind::Pause => "pause",
            FaultKind::CleanStop => "clean-stop",
            FaultKind::Latency => "latency",
            FaultKind::SlowDisk => "slow-disk",
            FaultKind::FullDisk => "full-disk",
            FaultKind::FullSlaveDisk => "full-slave-disk",
            FaultKind::FailedSync => "failed-sync",
            FaultKind::DiskLoss => "disk-loss",
            FaultKind::LyingSlaveDisk => "lying-slave-disk",
            FaultKind::LyingMasterDisk => "lying-master-disk",
            FaultKind::FlippedSlaveDisk => "flipped-slave-disk",
            FaultKind::DamagedBody => "damaged-body",
            FaultKind::WriteError => "write-error",
            FaultKind::ReadError => "read-error",
            FaultKind::JointDeath => "joint-death",
            FaultKind::HalfOpen => "half-open",
            FaultKind::DialRefusal => "dial-refusal",
            FaultKind::Clogging => "clogging",
            FaultKind::Bandwidth => "bandwidth",
            FaultKind::Deafness => "deafness",
            FaultKind::ClockJump => "clock-jump",
            FaultKind::ClockDrift => "clock-drift",
            FaultKind::NoDescriptors => "no-descriptors",
            FaultKind::DeathAtMoment => "death-at-moment",
            FaultKind::PowerLossAtMoment => "power-loss-at-moment",
        })
    }
}

/// One thing that goes wrong.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A process dies: at once, or in the `operation`-th mutating disk operation from then on (inside a turn, whose
    /// effects are lost), at the latest after [`DEATH_WINDOW`].
    ProcessDeath {
        /// Whose.
        host: HostId,
        /// 0: at once.
        operation: u64,
        /// Until it is started again.
        down: Duration,
    },
    /// The power of some hosts fails, of each a little after the one before: at once, or when the first of them is in its
    /// `operation`-th mutating disk operation from then on, at the latest after [`DEATH_WINDOW`].
    PowerLoss {
        /// Whose.
        hosts: Vec<HostId>,
        /// 0: at once.
        operation: u64,
        /// Between one and the next.
        apart: Duration,
        /// Until each is back.
        down: Duration,
    },
    /// All connections between two hosts are reset.
    Reset {
        /// One.
        a: HostId,
        /// The other.
        b: HostId,
    },
    /// A cable is cut.
    Partition {
        /// One.
        a: HostId,
        /// The other.
        b: HostId,
        /// Which way.
        way: Way,
        /// For how long.
        lasts: Duration,
    },
    /// A host is cut off from all others.
    Isolation {
        /// Which.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// A process stands still.
    Pause {
        /// Which.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// A process is asked to stop, has [`STOP_WINDOW`] for it, and is started again later: what an operator does.
    CleanStop {
        /// Which.
        host: HostId,
        /// From its end to its next start.
        down: Duration,
    },
    /// A link becomes slow.
    Latency {
        /// One end.
        a: HostId,
        /// The other.
        b: HostId,
        /// Added each way.
        extra: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A disk becomes slow.
    SlowDisk {
        /// Whose.
        host: HostId,
        /// Added to everything it completes.
        extra: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A disk has room for a little more, and then none.
    FullDisk {
        /// Whose.
        host: HostId,
        /// How much fits.
        spare_bytes: u64,
        /// For how long.
        lasts: Duration,
    },
    /// A disk says that it has synced, and has not: what comes by then is durable by the next honest sync, or lost with the power.
    LyingSyncs {
        /// Whose.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// Bits of files turn over where they lie.
    BitFlips {
        /// Whose.
        host: HostId,
        /// How many.
        count: u32,
    },
    /// A bit of the body of a message turns over where it lies in the log.
    DamagedBody {
        /// Whose.
        host: HostId,
    },
    /// Operations of a disk fail. Afterwards a process that gave itself up for it is started again.
    DiskErrors {
        /// Whose.
        host: HostId,
        /// Which.
        operation: DiskOperation,
        /// So many in a row.
        count: u32,
        /// Those that did not come by then do not fail any more.
        lasts: Duration,
    },
    /// A process is out of file descriptors: of what has to open a file a share fails, and nobody is dialled and taken.
    NoDescriptors {
        /// Whose.
        host: HostId,
        /// Of a thousand.
        per_mille: u32,
        /// For how long.
        lasts: Duration,
    },
    /// The next syncs fail, those of [`FAILED_SYNC_WINDOW`]: what they were to make durable may not be.
    FailedSync {
        /// Whose.
        host: HostId,
        /// How many.
        count: u32,
    },
    /// Several processes die in one instant, as if they were one that holds them all.
    JointDeath {
        /// Whose.
        hosts: Vec<HostId>,
        /// Until they are started again, one after another in no time.
        down: Duration,
    },
    /// The connections between two hosts end at one of them, and the other has not heard: a router forgot them, or a kernel gave them
    /// up. Whoever sends on one is told then.
    HalfOpen {
        /// Where they are still open.
        open: HostId,
        /// Where they are not.
        gone: HostId,
    },
    /// A host takes no new connections: its backlog is full, or its process is out of file descriptors.
    DialRefusal {
        /// Which.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// Hosts are cut off from all others, one after another, and come back the last one first.
    Clogging {
        /// Which, in the order of their cuts.
        hosts: Vec<HostId>,
        /// Between one and the next.
        apart: Duration,
        /// From the last cut to the first return.
        lasts: Duration,
    },
    /// A link carries little, each way.
    Bandwidth {
        /// One end.
        a: HostId,
        /// The other.
        b: HostId,
        /// So much.
        bytes_per_s: u64,
        /// For how long.
        lasts: Duration,
    },
    /// A process reads nothing from its connections, and does everything else.
    Deafness {
        /// Which.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// A wall clock jumps, and back again.
    ClockJump {
        /// Whose.
        host: HostId,
        /// By so many ms.
        by_ms: i64,
        /// For how long.
        lasts: Duration,
    },
    /// Both clocks of a host gain or lose.
    ClockDrift {
        /// Whose.
        host: HostId,
        /// So many millionths.
        by_ppm: i64,
        /// For how long.
        lasts: Duration,
    },
    /// A host dies at a moment of its protocol, if that comes within [`DEATH_WINDOW`].
    AtMoment {
        /// Which.
        host: HostId,
        /// When.
        moment: Moment,
        /// At which of them, from 1.
        nth: u32,
        /// What left in that turn is lost with it.
        mid_turn: bool,
        /// How.
        death: Death,
        /// Until it is started again.
        down: Duration,
    },
    /// A host dies and comes back with an empty disk.
    DiskLoss {
        /// Which.
        host: HostId,
        /// Until it is back.
        down: Duration,
    },
}

/// What a disk refuses to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskOperation {
    /// To write, after any part of the bytes.
    Write,
    /// To read.
    Read,
}

/// Within this the syncs come that are to fail.
pub const FAILED_SYNC_WINDOW: Duration = Duration::from_secs(20);

/// A process that was asked to stop is ended after this, whether it has stopped by itself or not.
pub const STOP_WINDOW: Duration = Duration::from_secs(10);

/// Within this whoever has not heard of the end of a connection sends on it: HA reports every 5 s, pulls every 15 s, heartbeats and
/// registrations every 30 s.
pub const HALF_OPEN_WINDOW: Duration = Duration::from_secs(60);

/// A death at a disk operation that does not come about within this happens between two turns.
pub const DEATH_WINDOW: Duration = Duration::from_secs(20);

/// A fault and its time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FaultEntry {
    /// When it begins.
    #[serde(with = "crate::plan::nanos")]
    pub at: Instant,
    /// What.
    pub fault: Fault,
    /// Left out of this run.
    #[serde(default)]
    pub disabled: bool,
}

impl Fault {
    /// From its beginning to the moment when everything it broke may work again, the restart of processes included.
    pub fn lasts(&self) -> Duration {
        match self {
            Fault::ProcessDeath { operation: 0, down, .. } => *down,
            Fault::ProcessDeath { down, .. } => DEATH_WINDOW + *down,
            Fault::PowerLoss { hosts, operation, apart, down } => {
                let window = if *operation > 0 { DEATH_WINDOW } else { Duration::ZERO };
                window + *apart * hosts.len() as u32 + *down
            }
            Fault::DiskLoss { down, .. } | Fault::JointDeath { down, .. } => *down,
            Fault::HalfOpen { .. } => HALF_OPEN_WINDOW,
            // The returns are as far apart as the cuts.
            Fault::Clogging { hosts, apart, lasts } => *apart * (2 * hosts.len() as u32) + *lasts,
            Fault::CleanStop { down, .. } => STOP_WINDOW + *down,
            // Before the moments of a recovery comes another death.
            Fault::AtMoment { down, .. } => *down + DEATH_WINDOW + *down,
            Fault::FailedSync { .. } => FAILED_SYNC_WINDOW,
            Fault::Reset { .. } | Fault::BitFlips { .. } | Fault::DamagedBody { .. } => Duration::ZERO,
            Fault::Partition { lasts, .. }
            | Fault::Isolation { lasts, .. }
            | Fault::Pause { lasts, .. }
            | Fault::Latency { lasts, .. }
            | Fault::SlowDisk { lasts, .. }
            | Fault::FullDisk { lasts, .. }
            | Fault::LyingSyncs { lasts, .. }
            | Fault::DialRefusal { lasts, .. }
            | Fault::NoDescriptors { lasts, .. }
            | Fault::Bandwidth { lasts, .. }
            | Fault::Deafness { lasts, .. }
            | Fault::ClockJump { lasts, .. }
            | Fault::ClockDrift { lasts, .. }
            | Fault::DiskErrors { lasts, .. } => *lasts,
        }
    }

    /// Whether it harms none but some hosts and their cables.
    pub fn spares_all_but(&self, some: &[HostId]) -> bool {
        match self {
            Fault::ProcessDeath { host, .. }
            | Fault::Isolation { host, .. }
            | Fault::Pause { host, .. }
            | Fault::CleanStop { host, .. }
            | Fault::FullDisk { host, .. }
            | Fault::FailedSync { host, .. }
            | Fault::DiskErrors { host, .. }
            | Fault::DiskLoss { host, .. }
            | Fault::AtMoment { host, .. }
            | Fault::LyingSyncs { host, .. }
            | Fault::BitFlips { host, .. }
            | Fault::DamagedBody { host }
            | Fault::DialRefusal { host, .. }
            | Fault::NoDescriptors { host, .. }
            | Fault::Deafness { host, .. }
            | Fault::ClockJump { host, .. }
            | Fault::ClockDrift { host, .. }
            | Fault::SlowDisk { host, .. } => some.contains(host),
            Fault::PowerLoss { hosts, .. }
            | Fault::JointDeath { hosts, .. }
            | Fault::Clogging { hosts, .. } => hosts.iter().all(|host| some.contains(host)),
            Fault::Reset { a, b }
            | Fault::Partition { a, b, .. }
            | Fault::Latency { a, b, .. }
            | Fault::Bandwidth { a, b, .. }
            | Fault::HalfOpen { open: a, gone: b } => some.contains(a) || some.contains(b),
        }
    }

    /// Whether it ends lives.
    pub fn is_death(&self) -> bool {
        matches!(
            self,
            Fault::ProcessDeath { .. }
                | Fault::JointDeath { .. }
                | Fault::PowerLoss { .. }
                | Fault::DiskLoss { .. }
                | Fault::AtMoment { .. }
        )
    }

    /// Whose disk refuses something.
    pub fn refuses(&self) -> Option<HostId> {
        match self {
            Fault::FullDisk { host, .. }
            | Fault::FailedSync { host, .. }
            | Fault::NoDescriptors { host, .. }
            | Fault::DiskErrors { host, .. } => Some(*host),
            Fault::ProcessDeath { .. }
            | Fault::PowerLoss { .. }
            | Fault::Reset { .. }
            | Fault::Partition { .. }
            | Fault::Isolation { .. }
            | Fault::Pause { .. }
            | Fault::CleanStop { .. }
            | Fault::Latency { .. }
            | Fault::SlowDisk { .. }
            | Fault::AtMoment { .. }
            | Fault::JointDeath { .. }
            | Fault::LyingSyncs { .. }
            | Fault::BitFlips { .. }
            | Fault::DamagedBody { .. }
            | Fault::HalfOpen { .. }
            | Fault::DialRefusal { .. }
            | Fault::Clogging { .. }
            | Fault::Bandwidth { .. }
            | Fault::Deafness { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. }
            | Fault::DiskLoss { .. } => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::ProcessDeath { .. } => FaultKind::ProcessDeath,
            Fault::PowerLoss { hosts, .. } if hosts.len() > 1 => FaultKind::RackPowerLoss,
            Fault::PowerLoss { .. } => FaultKind::PowerLoss,
            Fault::Reset { .. } => FaultKind::Reset,
            Fault::Partition { .. } => FaultKind::Partition,
            Fault::Isolation { .. } => FaultKind::Isolation,
            Fault::Pause { .. } => FaultKind::Pause,
            Fault::CleanStop { .. } => FaultKind::CleanStop,
            Fault::Latency { .. } => FaultKind::Latency,
            Fault::SlowDisk { .. } => FaultKind::SlowDisk,
            Fault::FullDisk { .. } => FaultKind::FullDisk,
            Fault::FailedSync { .. } => FaultKind::FailedSync,
            Fault::DiskLoss { .. } => FaultKind::DiskLoss,
            Fault::LyingSyncs { host, .. } if *host == CAST.master => FaultKind::LyingMasterDisk,
            Fault::LyingSyncs { .. } => FaultKind::LyingSlaveDisk,
            Fault::BitFlips { .. } => FaultKind::FlippedSlaveDisk,
            Fault::DamagedBody { .. } => FaultKind::DamagedBody,
            Fault::DiskErrors { operation: DiskOperation::Write, .. } => FaultKind::WriteError,
            Fault::DiskErrors { operation: DiskOperation::Read, .. } => FaultKind::ReadError,
            Fault::JointDeath { .. } => FaultKind::JointDeath,
            Fault::HalfOpen { .. } => FaultKind::HalfOpen,
            Fault::DialRefusal { .. } => FaultKind::DialRefusal,
            Fault::NoDescriptors { .. } => FaultKind::NoDescriptors,
            Fault::Clogging { .. } => FaultKind::Clogging,
            Fault::Bandwidth { .. } => FaultKind::Bandwidth,
            Fault::Deafness { .. } => FaultKind::Deafness,
            Fault::ClockJump { .. } => FaultKind::ClockJump,
            Fault::ClockDrift { .. } => FaultKind::ClockDrift,
            Fault::AtMoment { death: Death::Process, .. } => FaultKind::DeathAtMoment,
            Fault::AtMoment { death: Death::Power, .. } => FaultKind::PowerLossAtMoment,
        }
    }

    /// One line, with the hosts by their names.
    pub fn describe(&self, names: &[&str]) -> String {
        let name = |host: &HostId| names.get(host.0).copied().unwrap_or("?");
        let all = |hosts: &[HostId]| hosts.iter().map(name).collect::<Vec<_>>().join(" and ");
        match self {
            Fault::ProcessDeath { host, operation: 0, down } => {
                format!("process death of {}, back after {down:?}", name(host))
            }
            Fault::ProcessDeath { host, operation, down } => {
                format!("process death of {} in disk operation {operation}, back after {down:?}", name(host))
            }
            Fault::PowerLoss { hosts, operation, apart, down } => {
                let apart = if hosts.len() > 1 { format!(" ({apart:?} apart)") } else { String::new() };
                let place =
                    if *operation > 0 { format!(" in disk operation {operation}") } else { String::new() };
                format!("power loss of {}{apart}{place}, back after {down:?}", all(hosts))
            }
            Fault::Reset { a, b } => format!("reset between {} and {}", name(a), name(b)),
            Fault::Partition { a, b, way, lasts } => {
                let arrow = match way {
                    Way::Both => "and",
                    Way::Forward => "to",
                };
                format!("cut from {} {arrow} {} for {lasts:?}", name(a), name(b))
            }
            Fault::Isolation { host, lasts } => format!("isolation of {} for {lasts:?}", name(host)),
            Fault::Pause { host, lasts } => format!("pause of {} for {lasts:?}", name(host)),
            Fault::CleanStop { host, down } => format!("clean stop of {}, back after {down:?}", name(host)),
            Fault::Latency { a, b, extra, lasts } => {
                format!("{extra:?} more latency between {} and {} for {lasts:?}", name(a), name(b))
            }
            Fault::JointDeath { hosts, down } => {
                format!("process death of {} in one instant, back after {down:?}", all(hosts))
            }
            Fault::HalfOpen { open, gone } => {
                format!("connections of {} to {} end there unheard", name(open), name(gone))
            }
            Fault::DialRefusal { host, lasts } => {
                format!("{} takes no new connections for {lasts:?}", name(host))
            }
            Fault::Clogging { hosts, apart, lasts } => {
                format!("isolation of {} ({apart:?} apart), {lasts:?} after that back in reverse", all(hosts))
            }
            Fault::Bandwidth { a, b, bytes_per_s, lasts } => {
                format!("{bytes_per_s} bytes a second between {} and {} for {lasts:?}", name(a), name(b))
            }
            Fault::Deafness { host, lasts } => format!("{} reads nothing for {lasts:?}", name(host)),
            Fault::ClockJump { host, by_ms, lasts } => {
                format!("wall clock of {} off by {by_ms} ms more for {lasts:?}", name(host))
            }
            Fault::ClockDrift { host, by_ppm, lasts } => {
                format!("clocks of {} gain {by_ppm} millionths for {lasts:?}", name(host))
            }
            Fault::FailedSync { host, count } => format!("{count} syncs of {} fail", name(host)),
            Fault::DiskLoss { host, down } => {
                format!("{} dies and loses its disk, back after {down:?}", name(host))
            }
            Fault::AtMoment { host, moment, nth, mid_turn, death, down } => {
                let (name, words) = (name(host), moment.words());
                let place = if *mid_turn { "in that turn" } else { "after that turn" };
                format!("{death} of {name} {words} (number {nth}, {place}), back after {down:?}")
            }
            Fault::SlowDisk { host, extra, lasts } => {
                format!("disk of {} slower by {extra:?} for {lasts:?}", name(host))
            }
            Fault::FullDisk { host, spare_bytes, lasts } => {
                format!("disk of {} full after {spare_bytes} bytes more for {lasts:?}", name(host))
            }
            Fault::LyingSyncs { host, lasts } => {
                format!("disk of {} says that it syncs, and does not, for {lasts:?}", name(host))
            }
            Fault::NoDescriptors { host, per_mille, lasts } => {
                format!(
                    "{} is out of descriptors ({per_mille} of 1000 openings fail) for {lasts:?}",
                    name(host)
                )
            }
            Fault::BitFlips { host, count } => {
                format!("{count} bits turn over on the disk of {}", name(host))
            }
            Fault::DamagedBody { host } => {
                format!("a bit of a message's body turns over on the disk of {}", name(host))
            }
            Fault::DiskErrors { host, operation, count, lasts } => {
                format!("disk of {}: the next {count} {operation:?}s fail, for {lasts:?}", name(host))
            }
        }
    }
}
