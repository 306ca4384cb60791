//! How a list of faults is drawn.
//!
//! Times are in nanoseconds, never on a grid: faults in phase with the machines' timers find nothing. Each world draws
//! which kinds it has at all, so that rare kinds meet each other; durations are spread over their orders of magnitude.

use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};

use super::{DEATH_WINDOW, Death, DiskOperation, Fault, FaultEntry, FaultKind, Moment, Way};
use crate::world::HostId;

/// A host that things can happen to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Which.
    pub host: HostId,
    /// Whether it keeps something on its disk.
    pub has_disk: bool,
}

/// What may be drawn.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// How many faults at most.
    pub count_max: u64,
    /// And as many, of every kind.
    pub exact: bool,
    /// None begins before this.
    pub from: Instant,
    /// All is mended by then.
    pub until: Instant,
    /// Which kinds.
    pub kinds: Vec<FaultKind>,
    /// At which moments brokers die, where they die at moments.
    pub moments: Vec<Moment>,
    /// To whom.
    pub targets: Vec<Target>,
    /// Whoever may be at the other end of a target's cable.
    pub peers: Vec<HostId>,
}

const PAUSE_MAX: Duration = Duration::from_secs(300);
const PARTITION_MAX: Duration = Duration::from_secs(200);
const DOWN_MAX: Duration = Duration::from_secs(150);
const DOWN_SHORT_MAX: Duration = Duration::from_secs(2);
const SLOW_MAX: Duration = Duration::from_secs(60);
const SLOW_EXTRA_MAX: Duration = Duration::from_secs(8);
/// Hosts of one rack lose their power within this.
const RACK_APART_MAX: Duration = Duration::from_millis(50);
const SPARE_BYTES_MAX: u64 = 256 << 10;
/// Hosts are clogged one after another within this.
const CLOGS_APART_MAX: Duration = Duration::from_secs(10);
/// A link that is this slow takes seconds for what is usual.
const BYTES_PER_S_MIN: u64 = 2 << 10;
const BYTES_PER_S_MAX: u64 = 256 << 10;
/// Clocks jump by a moment, or by an hour as when somebody mistakes summer time.
const JUMP_MAX: Duration = Duration::from_secs(3_600);
/// Quartz is off by some tens; a virtual machine that is moved, by more.
const DRIFT_PPM_MAX: u64 = 1_000;
/// One error alone and several in a row are different things.
const ERRORS_MAX: u64 = 4;
const FLIPS_MAX: u64 = 12;
const OPERATION_MAX: u64 = 40;
const MOMENTS_MAX: u64 = 12;
/// Of so many deaths one comes at once, and the others in a disk operation: while something is written, not yet synced.
const AT_ONCE_IN: u64 = 3;

/// Draws a list in the order of time.
pub fn draw(rng: &mut Rng, plan: &FaultPlan) -> Vec<FaultEntry> {
    let drawn: Vec<FaultKind> = plan.kinds.iter().copied().filter(|_| rng.one_in(2)).collect();
    let count = rng.below(plan.count_max + 1);
    let (kinds, count) = if plan.exact { (plan.kinds.clone(), plan.count_max) } else { (drawn, count) };
    let mut entries = Vec::new();
    for _ in 0..count {
        let Some(&kind) = pick(rng, &kinds) else { break };
        let Some(fault) = draw_one(rng, plan, kind) else { continue };
        let room = (plan.until - plan.from).saturating_sub(fault.lasts());
        if room.is_zero() {
            continue;
        }
        let at = plan.from + Duration::from_nanos(rng.below(room.as_nanos() as u64));
        let slow = slow_beginning(rng, &fault).map(|fault| FaultEntry { at, fault, disabled: false });
        entries.extend(slow);
        entries.push(FaultEntry { at, fault, disabled: false });
    }
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// Until a fast disk has what a life begins with, hardly anybody has asked for anything.
fn slow_beginning(rng: &mut Rng, fault: &Fault) -> Option<Fault> {
    let &Fault::AtMoment { host, moment: Moment::Begun, down, .. } = fault else { return None };
    let extra = Duration::from_nanos(rng.below(SLOW_EXTRA_MAX.as_nanos() as u64));
    Some(Fault::SlowDisk { host, extra, lasts: down + DEATH_WINDOW })
}

fn draw_one(rng: &mut Rng, plan: &FaultPlan, kind: FaultKind) -> Option<Fault> {
    let targets = &plan.targets;
    let disks: Vec<Target> = targets.iter().copied().filter(|target| target.has_disk).collect();
    Some(match kind {
        FaultKind::ProcessDeath => {
            let target = *pick(rng, targets)?;
            Fault::ProcessDeath {
                host: target.host,
                operation: operation(rng, target),
                down: spread(rng, DOWN_MAX),
            }
        }
        FaultKind::PowerLoss => {
            let target = *pick(rng, targets)?;
            let (hosts, operation) = (vec![target.host], operation(rng, target));
            Fault::PowerLoss { hosts, operation, apart: Duration::ZERO, down: spread(rng, DOWN_MAX) }
        }
        FaultKind::RackPowerLoss => {
            let mut hosts: Vec<HostId> = disks.iter().map(|target| target.host).collect();
            // A target may be listed twice, to be hit more often.
            hosts.dedup();
            if rng.one_in(2) {
                hosts.reverse();
            }
            let apart = Duration::from_nanos(rng.below(RACK_APART_MAX.as_nanos() as u64));
            let operation = operation(rng, *disks.first()?);
            Fault::PowerLoss { hosts, operation, apart, down: spread(rng, DOWN_MAX) }
        }
        FaultKind::Reset => {
            let (a, b) = pair(rng, plan)?;
            Fault::Reset { a, b }
        }
        FaultKind::Partition => {
            let (a, b) = pair(rng, plan)?;
            let way = if rng.one_in(2) { Way::Both } else { Way::Forward };
            Fault::Partition { a, b, way, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::Pause => Fault::Pause { host: pick(rng, targets)?.host, lasts: spread(rng, PAUSE_MAX) },
        FaultKind::CleanStop => {
            Fault::CleanStop { host: pick(rng, targets)?.host, down: spread(rng, DOWN_MAX) }
        }
        FaultKind::Latency => {
            let (a, b) = pair(rng, plan)?;
            let extra = spread(rng, Duration::from_secs(2));
            Fault::Latency { a, b, extra, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::Isolation => {
            Fault::Isolation { host: pick(rng, targets)?.host, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::SlowDisk => {
            let extra = spread(rng, SLOW_EXTRA_MAX);
            Fault::SlowDisk { host: pick(rng, &disks)?.host, extra, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::FullDisk => {
            let host = pick(rng, &disks)?.host;
            full_disk(rng, host)
        }
        // A master without room refuses what is sent, for as long; a slave must hold nobody up.
        FaultKind::FullSlaveDisk => full_disk(rng, disks.last()?.host),
        FaultKind::FailedSync => {
            Fault::FailedSync { host: pick(rng, &disks)?.host, count: 1 + rng.below(3) as u32 }
        }
        FaultKind::DiskLoss => Fault::DiskLoss { host: disks.last()?.host, down: spread(rng, DOWN_MAX) },
        FaultKind::LyingSlaveDisk => {
            Fault::LyingSyncs { host: disks.last()?.host, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::LyingMasterDisk => {
            Fault::LyingSyncs { host: disks.first()?.host, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::FlippedSlaveDisk => {
            Fault::BitFlips { host: disks.last()?.host, count: 1 + rng.below(FLIPS_MAX) as u32 }
        }
        FaultKind::DamagedBody => Fault::DamagedBody { host: disks.first()?.host },
        FaultKind::WriteError => disk_errors(rng, &disks, DiskOperation::Write)?,
        FaultKind::ReadError => disk_errors(rng, &disks, DiskOperation::Read)?,
        FaultKind::JointDeath => {
            Fault::JointDeath { hosts: several(rng, plan)?, down: spread(rng, DOWN_MAX) }
        }
        FaultKind::HalfOpen => {
            let (open, gone) = pair(rng, plan)?;
            Fault::HalfOpen { open, gone }
        }
        FaultKind::DialRefusal => {
            Fault::DialRefusal { host: pick(rng, targets)?.host, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::Clogging => {
            let (hosts, apart) = (several(rng, plan)?, spread(rng, CLOGS_APART_MAX));
            Fault::Clogging { hosts, apart, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::Bandwidth => {
            let (a, b) = pair(rng, plan)?;
            let bytes_per_s = BYTES_PER_S_MIN + rng.below(BYTES_PER_S_MAX);
            Fault::Bandwidth { a, b, bytes_per_s, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::Deafness => {
            Fault::Deafness { host: pick(rng, targets)?.host, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::ClockJump => {
            let by_ms = spread(rng, JUMP_MAX).as_millis() as i64;
            let by_ms = if rng.one_in(2) { by_ms } else { -by_ms };
            Fault::ClockJump { host: pick(rng, targets)?.host, by_ms, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::ClockDrift => {
            let by_ppm = rng.below(2 * DRIFT_PPM_MAX) as i64 - DRIFT_PPM_MAX as i64;
            Fault::ClockDrift { host: pick(rng, targets)?.host, by_ppm, lasts: spread(rng, PARTITION_MAX) }
        }
        FaultKind::NoDescriptors => {
            // All of them, or so few that a process goes on for a while.
            let per_mille = if rng.one_in(3) { 1000 } else { 1 + rng.below(999) as u32 };
            Fault::NoDescriptors { host: pick(rng, &disks)?.host, per_mille, lasts: spread(rng, SLOW_MAX) }
        }
        FaultKind::DeathAtMoment => at_moment(rng, plan, &disks, Death::Process)?,
        FaultKind::PowerLossAtMoment => at_moment(rng, plan, &disks, Death::Power)?,
    })
}

fn full_disk(rng: &mut Rng, host: HostId) -> Fault {
    Fault::FullDisk { host, spare_bytes: rng.below(SPARE_BYTES_MAX), lasts: spread(rng, SLOW_MAX) }
}

fn disk_errors(rng: &mut Rng, disks: &[Target], operation: DiskOperation) -> Option<Fault> {
    let (host, count) = (pick(rng, disks)?.host, 1 + rng.below(ERRORS_MAX) as u32);
    Some(Fault::DiskErrors { host, operation, count, lasts: spread(rng, SLOW_MAX) })
}

fn at_moment(rng: &mut Rng, plan: &FaultPlan, disks: &[Target], death: Death) -> Option<Fault> {
    let (host, moment) = (pick(rng, disks)?.host, *pick(rng, &plan.moments)?);
    let nth = 1 + rng.below(MOMENTS_MAX) as u32;
    // Whoever is away for long meets nobody who goes on where he was.
    let down_max = if moment == Moment::Begun { DOWN_SHORT_MAX } else { DOWN_MAX };
    Some(Fault::AtMoment { host, moment, nth, mid_turn: rng.one_in(2), death, down: spread(rng, down_max) })
}

/// In which disk operation, or 0 for at once.
fn operation(rng: &mut Rng, target: Target) -> u64 {
    if target.has_disk && !rng.one_in(AT_ONCE_IN) { 1 + rng.below(OPERATION_MAX) } else { 0 }
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> Option<&'a T> {
    from.get(rng.below(from.len() as u64) as usize)
}

/// Either of the two may come first: what is cut one way is cut either way.
fn pair(rng: &mut Rng, plan: &FaultPlan) -> Option<(HostId, HostId)> {
    let (a, b) = (pick(rng, &plan.targets)?.host, *pick(rng, &plan.peers)?);
    let (a, b) = if rng.one_in(2) { (a, b) } else { (b, a) };
    (a != b).then_some((a, b))
}

/// Two or more of the targets, in any order.
fn several(rng: &mut Rng, plan: &FaultPlan) -> Option<Vec<HostId>> {
    let mut hosts: Vec<HostId> = plan.targets.iter().map(|target| target.host).collect();
    // A target may be listed twice, to be hit more often.
    hosts.sort_by_key(|host| host.0);
    hosts.dedup();
    let count = 2 + rng.below(hosts.len().saturating_sub(1) as u64) as usize;
    while hosts.len() > count {
        hosts.swap_remove(rng.below(hosts.len() as u64) as usize);
    }
    (hosts.len() >= 2).then_some(hosts)
}

/// From a hundredth of a second up to `max`, every order of magnitude alike.
fn spread(rng: &mut Rng, max: Duration) -> Duration {
    const MIN_NANOS: u64 = 10_000_000;
    let max = max.as_nanos() as u64;
    let mut top = MIN_NANOS;
    let orders = max.ilog2() - MIN_NANOS.ilog2() + 1;
    for _ in 0..rng.below(u64::from(orders) + 1) {
        top = (top * 2).min(max);
    }
    Duration::from_nanos(top / 2 + rng.below(top / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FaultPlan {
        let target = |host, has_disk| Target { host: HostId(host), has_disk };
        FaultPlan {
            count_max: 12,
            exact: false,
            from: Instant::from_nanos(1_000_000_000),
            until: Instant::from_nanos(400_000_000_000),
            kinds: [
                FaultKind::USUAL,
                &[FaultKind::FullDisk, FaultKind::WriteError, FaultKind::ReadError, FaultKind::NoDescriptors],
                &[
                    FaultKind::DeathAtMoment,
                    FaultKind::PowerLossAtMoment,
                    FaultKind::ClockJump,
                    FaultKind::ClockDrift,
                ],
                FaultKind::NETWORK,
            ]
            .concat(),
            moments: Moment::ALL.to_vec(),
            targets: vec![target(0, false), target(1, true), target(2, true)],
            peers: vec![HostId(0), HostId(1), HostId(2)],
        }
    }

    #[test]
    fn faults_lie_within_their_window_and_in_order() {
        let plan = plan();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let list = draw(&mut Rng::from_seed(seed), &plan);
            assert!(list.is_sorted_by_key(|entry| entry.at));
            for entry in &list {
                assert!(entry.at >= plan.from && entry.at + entry.fault.lasts() <= plan.until, "{entry:?}");
                kinds.insert(entry.fault.kind());
            }
        }
        assert_eq!(kinds.len(), 23, "every kind is drawn: {kinds:?}");
    }

    #[test]
    fn durations_reach_from_hundredths_of_a_second_to_their_limit() {
        let mut rng = Rng::from_seed(1);
        let drawn: Vec<Duration> = (0..2_000).map(|_| spread(&mut rng, PAUSE_MAX)).collect();
        assert!(drawn.iter().all(|lasts| *lasts <= PAUSE_MAX && *lasts >= Duration::from_millis(5)));
        let long = drawn.iter().filter(|lasts| **lasts > Duration::from_secs(125)).count();
        assert!(long > 60, "pauses past the 120 s expiry are common enough: {long}");
    }
}
