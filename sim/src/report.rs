//! What the tool prints: failures with the command that replays them, and the closing summary.
//!
//! Here alone real time is read: the processor time that the worlds took.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use gantry_core::time::Instant;
use gantry_sim::fault::FaultKind;
use gantry_sim::plan::Plan;
use gantry_sim::run::Outcome;
use gantry_sim::scenario::Scenario;
use gantry_sim::world::Violation;
use rustix::time::{ClockId, clock_gettime};

/// The commit of the tree that this program was built in, with a mark when files were changed since.
pub(crate) fn commit() -> String {
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let text = git.ok().filter(|output| output.status.success());
    text.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// A violation in one line.
pub(crate) fn violation_line(at: Instant, violation: &Violation) -> String {
    format!("{:?} violation ({}) at {at:?}: {}", violation.kind, violation.checker, violation.what)
}

/// Prints a failure: what, under which faults, and how to see it again.
pub(crate) fn failure(scenario: &Scenario, outcome: &Outcome, path: Option<&PathBuf>) {
    let Some((at, violation)) = &outcome.violation else { return };
    println!("seed {} fails: {}", outcome.seed, violation_line(*at, violation));
    for line in Plan::draw(scenario, outcome.seed).describe() {
        println!("    {line}");
    }
    let named = path.map(|path| format!(" --scenario {}", path.display())).unwrap_or_default();
    println!(
        "    commit {}; replay it with:  cargo sim replay --seed {}{named} --trace",
        commit(),
        outcome.seed
    );
    let seed = outcome.seed;
    println!(
        "    make it small with:  cargo sim shrink --seed {seed}{named} --out scenarios/regress/seed-{seed}.toml"
    );
}

/// Sums over worlds.
pub(crate) struct Summary {
    world: Duration,
    cpu_before: Duration,
    worlds: u64,
    failures: u64,
    events: u64,
    turns: u64,
    connections: u64,
    bytes: u64,
    excused: u64,
    worlds_excused: u64,
    faults: BTreeMap<FaultKind, u64>,
    looked: BTreeMap<&'static str, u64>,
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Summary {
    pub(crate) fn begin(scenario: &Scenario) -> Summary {
        Summary {
            world: Duration::from_nanos(scenario.ends_at().as_nanos()),
            cpu_before: cpu_time(),
            worlds: 0,
            failures: 0,
            events: 0,
            turns: 0,
            connections: 0,
            bytes: 0,
            excused: 0,
            worlds_excused: 0,
            faults: BTreeMap::new(),
            looked: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, outcome: &Outcome, faults: &[FaultKind]) {
        self.worlds += 1;
        self.failures += u64::from(outcome.violation.is_some());
        self.events += outcome.stats.events;
        self.turns += outcome.stats.turns;
        self.connections += outcome.stats.connections;
        self.bytes += outcome.stats.bytes;
        self.excused += outcome.excused;
        self.worlds_excused += u64::from(outcome.excused > 0);
        for kind in faults {
            *self.faults.entry(*kind).or_default() += 1;
        }
        for (checker, looked) in &outcome.looked {
            *self.looked.entry(checker).or_default() += looked;
        }
    }

    pub(crate) fn print(&self) {
        let cpu = cpu_time() - self.cpu_before;
        let simulated = self.world * u32::try_from(self.worlds).unwrap_or(u32::MAX);
        let per_cpu_minute = self.worlds as f64 * 60.0 / cpu.as_secs_f64().max(1e-9);
        println!(
            "{} worlds, {} failures, {:.1} simulated hours in {:.1} s of processor time: {per_cpu_minute:.0} worlds a minute, {:.0} simulated seconds a second",
            self.worlds,
            self.failures,
            simulated.as_secs_f64() / 3600.0,
            cpu.as_secs_f64(),
            simulated.as_secs_f64() / cpu.as_secs_f64().max(1e-9),
        );
        let each = |sum: u64| sum / self.worlds.max(1);
        println!(
            "each world: {} events, {} turns, {} connections, {} KiB on the wires",
            each(self.events),
            each(self.turns),
            each(self.connections),
            each(self.bytes) / 1024
        );
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
        let looked: Vec<String> =
            self.looked.iter().map(|(checker, count)| format!("{checker} {count}")).collect();
        println!("judged: {}", looked.join(", "));
        println!(
            "excused: {} promises in {} worlds, for power losses under asynchronous flush",
            self.excused, self.worlds_excused
        );
        let silent: Vec<&str> =
            self.looked.iter().filter(|(_, count)| **count == 0).map(|(checker, _)| *checker).collect();
        if !silent.is_empty() {
            println!("these checkers never judged anything: {}", silent.join(", "));
        }
    }
}
