//! One world from its seed to its verdict.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gantry_core::broker::Broker;
use gantry_core::namesrv::NameServer;
use gantry_core::time::Instant;
use gantry_disk::MemoryDisk;

use crate::check::ending::Ending;
use crate::check::fleet::{Truth, Watch};
use crate::check::{Checkers, ClientKind, checkpointed, lives, registered, replica};
use crate::cluster;
use crate::commit_log::Log;
use crate::fleet::{self, FleetPlan};
use crate::log;
use crate::plan::{CAST, Plan};
use crate::world::{HostId, Kind, Observer, Stats, Violation, World};

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What went wrong, and when.
    pub violation: Option<(Instant, Violation)>,
    /// A hash of everything that happened.
    pub digest: u64,
    /// Figures.
    pub stats: Stats,
    /// What each checker judged.
    pub looked: Vec<(&'static str, u64)>,
    /// Promises that a power loss may have taken.
    pub excused: u64,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the place of a panic for the report, instead of printing it. To be called once in a program.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with(|panic| *panic.borrow_mut() = Some(info.to_string()));
    }));
}

/// Who looks at a world and judges it.
pub(crate) trait Judge: Observer {
    /// The checkers.
    fn checkers(&mut self) -> &mut Checkers;
}

impl Judge for Checkers {
    fn checkers(&mut self) -> &mut Checkers {
        self
    }
}

/// Who looks at a fleet's world and judges it.
pub(crate) trait FleetJudge: Observer {
    /// The checkers.
    fn watch(&self) -> &Watch;

    /// Whether it wants to see what enters and leaves machines.
    fn taps(&self) -> bool;

    /// The world has ended, and this is what the brokers have.
    fn on_truth(&mut self, truth: &Truth);
}

impl FleetJudge for Watch {
    fn watch(&self) -> &Watch {
        self
    }

    fn taps(&self) -> bool {
        false
    }

    fn on_truth(&mut self, _truth: &Truth) {}
}

/// Runs a world. A panic in it is a verdict like others.
pub fn run(plan: &Plan) -> Outcome {
    run_with(plan, plan.options.trace, Checkers::new(plan.setup()))
}

/// [`run`], judged by `judge`, who sees all lines of the machines' logs if it is to be `verbose`. A fleet's world has checkers of
/// its own.
pub(crate) fn run_with(plan: &Plan, verbose: bool, judge: impl Judge) -> Outcome {
    match &plan.fleet {
        Some(fleet) => run_fleet(plan, fleet, verbose, Watch::new(plan, fleet)),
        None => guarded(plan, verbose, || run_to_end(plan, judge)),
    }
}

/// Runs a fleet's world, judged by `judge`.
pub(crate) fn run_fleet(plan: &Plan, fleet: &FleetPlan, verbose: bool, judge: impl FleetJudge) -> Outcome {
    guarded(plan, verbose, || run_fleet_to_end(plan, fleet, judge))
}

fn guarded(plan: &Plan, verbose: bool, body: impl FnOnce() -> Outcome) -> Outcome {
    let body = || log::with_log(verbose, body);
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(outcome) => outcome,
        Err(payload) => {
            let kept = PANIC.with(RefCell::take);
            let text = payload.downcast_ref::<String>().cloned();
            let what =
                kept.or(text).or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = what.unwrap_or_else(|| "a panic without words".to_owned());
            Outcome {
                seed: plan.seed,
                violation: Some((
                    Instant::ZERO,
                    Violation { kind: Kind::Crash, checker: "panic", what: what.replace('\n', " ") },
                )),
                digest: 0,
                stats: Stats::default(),
                looked: Vec::new(),
                excused: 0,
            }
        }
    }
}

fn run_to_end<J: Judge>(plan: &Plan, judge: J) -> Outcome {
    let hosts = cluster::hosts(plan);
    let mut world = World::new(plan.seed, hosts, plan.faults.clone(), plan.options.clone(), judge);
    let (mut violation, to_cover) = until_checkpoints_are_owed(plan, &mut world);
    violation = violation.or_else(|| world.run(before_the_end(plan)).cloned());
    // What the master has now, its follower must have in the end.
    let master = master_of(plan, &world);
    let owed = log_end(plan, world.disk(master));
    violation = violation.or_else(|| world.run(plan.ends_at).cloned());
    if violation.is_none() {
        let disk = world.disk(CAST.master).clone();
        let master = world.machine(CAST.master).and_then(|machine| machine.downcast_ref::<Broker>());
        let ending = Ending::read(&plan.setup(), &disk, master);
        violation = world.observer().checkers().finish(&ending);
    }
    let checkers = world.observer().checkers();
    let (mut looked, excused) = (checkers.looked(), checkers.ledger().excused());
    let checkers_may_judge = !checkers.refused() && checkers.ledger().betrayed().is_none();
    if violation.is_none() {
        for follower in plan.brokers().into_iter().filter(|broker| *broker != master) {
            match compare_logs(plan, &mut world, (master, follower), owed) {
                Ok(records) => looked.push(("replica", records)),
                Err(found) => violation = violation.or(Some(found)),
            }
        }
    }
    if violation.is_none() && checkers_may_judge {
        for owed in to_cover {
            match checkpointed::compare(owed, world.disk(owed.0)) {
                Ok(bytes) => looked.push(("checkpointed", bytes)),
                Err(found) => violation = violation.or(Some(found)),
            }
        }
    }
    if violation.is_none() && plan.clients.contains(&ClientKind::Recreator) {
        for slave in plan.brokers().into_iter().filter(|broker| *broker != master) {
            match compare_lives(&world, master, slave) {
                Ok(queues) => looked.push(("lives of a slave", queues)),
                Err(found) => violation = violation.or(Some(found)),
            }
        }
    }
    if violation.is_none() && plan.clients.contains(&ClientKind::Administrator) {
        match compare_topics(&world) {
            Ok(topics) => looked.push(("registered", topics)),
            Err(found) => violation = Some(found),
        }
    }
    let at = world.now();
    Outcome {
        seed: plan.seed,
        violation: violation.map(|violation| (at, violation)),
        digest: world.digest(),
        stats: world.stats(),
        looked,
        excused,
    }
}

/// Runs to where it is known what checkpoints have to cover in the end.
fn until_checkpoints_are_owed<J: Judge>(
    plan: &Plan,
    world: &mut World<J>,
) -> (Option<Violation>, Vec<(HostId, u64)>) {
    let Some(at) = checkpointed::looks_at(plan) else { return (None, Vec::new()) };
    let violation = world.run(at).cloned();
    let owed = plan.brokers().into_iter().filter_map(|host| {
        let broker = world.machine(host).and_then(|machine| machine.downcast_ref::<Broker>())?;
        checkpointed::owed(host, broker)
    });
    (violation, owed.collect())
}

/// Who is the master: after a takeover, who says so.
fn master_of<J: Judge>(plan: &Plan, world: &World<J>) -> HostId {
    let is_master = |host: &HostId| {
        let machine = world.machine(*host).and_then(|machine| machine.downcast_ref::<Broker>());
        machine.is_some_and(Broker::is_master)
    };
    let took_over = plan.takeover.and_then(|_| plan.brokers().into_iter().skip(1).find(is_master));
    took_over.unwrap_or(CAST.master)
}

fn run_fleet_to_end<J: FleetJudge>(plan: &Plan, fleet: &FleetPlan, judge: J) -> Outcome {
    let mut hosts = fleet::hosts(plan, fleet);
    hosts.iter_mut().for_each(|host| host.tapped |= judge.taps());
    let mut world = World::new(plan.seed, hosts, plan.faults.clone(), plan.options.clone(), judge);
    let mut violation = world.run(plan.ends_at).cloned();
    let mut looked = Vec::new();
    if violation.is_none() {
        let truth = Truth::read(plan, fleet, &mut world);
        world.observer().on_truth(&truth);
        match world.observer().watch().judge(plan, fleet, &truth) {
            Ok(judged) => looked = judged,
            Err((at, found)) => {
                let (seed, digest, stats) = (plan.seed, world.digest(), world.stats());
                return Outcome { seed, violation: Some((at, found)), digest, stats, looked, excused: 0 };
            }
        }
    }
    let at = world.now();
    Outcome {
        seed: plan.seed,
        violation: violation.take().map(|violation| (at, violation)),
        digest: world.digest(),
        stats: world.stats(),
        looked,
        excused: 0,
    }
}

fn log_end(plan: &Plan, disk: &MemoryDisk) -> u64 {
    Log { disk, segment_bytes: plan.sizes.segment_bytes }.end()
}

fn before_the_end(plan: &Plan) -> Instant {
    let ends = plan.ends_at.as_nanos().saturating_sub(replica::BEHIND_MAX.as_nanos() as u64);
    Instant::from_nanos(ends)
}

fn compare_logs<J: Judge>(
    plan: &Plan,
    world: &mut World<J>,
    (master, follower): (HostId, HostId),
    owed: u64,
) -> Result<u64, Violation> {
    let setup = plan.setup();
    if setup.has_lied(follower, plan.ends_at) {
        return Ok(0);
    }
    let checkers = world.observer().checkers();
    if checkers.refused() {
        return Ok(0);
    }
    let betrayed = checkers.ledger().betrayed().map(|kept| (kept, checkers.ledger().entrusted().clone()));
    let master = world.disk(master).clone();
    let follower = world.disk(follower).clone();
    if let Some((kept, entrusted)) = betrayed {
        return replica::compare_betrayed(&setup, &master, &follower, (kept, &entrusted));
    }
    replica::compare(&setup, &master, &follower, owed)
}

fn compare_lives<J: Judge>(world: &World<J>, master: HostId, slave: HostId) -> Result<u64, Violation> {
    let broker = |host| world.machine(host).and_then(|machine| machine.downcast_ref::<Broker>());
    let (Some(master), Some(slave)) = (broker(master), broker(slave)) else { return Ok(0) };
    lives::compare(master, slave)
}

fn compare_topics<J: Judge>(world: &World<J>) -> Result<u64, Violation> {
    let name_server =
        world.machine(CAST.name_server).and_then(|machine| machine.downcast_ref::<NameServer>());
    let master = world.machine(CAST.master).and_then(|machine| machine.downcast_ref::<Broker>());
    // That both live is for other checkers to say.
    let (Some(name_server), Some(master)) = (name_server, master) else { return Ok(0) };
    registered::compare(name_server, master)
}
