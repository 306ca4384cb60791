//! What the tool prints: failures with the command that replays them, and the closing summary.
//!
//! Here alone real time is read: how long worlds took, and how much of the processors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use gantry_core::probe::Probe;
use gantry_core::time::Instant;
use gantry_sim::fault::FaultKind;
use gantry_sim::plan::Plan;
use gantry_sim::probe::FaultProbe;
use gantry_sim::run::Outcome;
use gantry_sim::why::Story;
use gantry_sim::world::Violation;
use rustix::time::{ClockId, clock_gettime};

use crate::work::{Done, Named};

/// The commit of the tree that this program was built in, with a mark when files were changed since: as it was when the program began,
/// for a long run outlives what somebody does there meanwhile.
pub(crate) fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let git = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
            .output();
        let text = git.ok().filter(|output| output.status.success());
        text.map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    })
}

/// A violation in one line.
pub(crate) fn violation_line(at: Instant, violation: &Violation) -> String {
    format!("{:?} violation ({}) at {at:?}: {}", violation.kind, violation.checker, violation.what)
}

/// A failure in words: what, under which faults, and how to see it again.
pub(crate) fn failure(named: &Named, outcome: &Outcome) -> String {
    let Some((at, violation)) = &outcome.violation else { return String::new() };
    let (seed, name) = (outcome.seed, &named.name);
    let mut text = format!("seed {seed} of {name} fails: {}\n", violation_line(*at, violation));
    for line in Plan::draw(&named.scenario, seed).describe() {
        let _ = writeln!(text, "    {line}");
    }
    let _ = writeln!(
        text,
        "    commit {}, scenario {:016x}; replay it with:  {}",
        commit(),
        named.scenario.hash(),
        replay_command(named, seed)
    );
    let _ = writeln!(text, "    what led to it:  cargo sim why {name} --seed {seed}");
    let _ = write!(
        text,
        "    make it small with:  cargo sim shrink {name} --seed {seed} --out scenarios/regress/seed-{seed}.toml"
    );
    text
}

/// How a step begins that is a line of a machine's log, and how many of those that say the same are shown.
const LOG_LINE: &str = "log:";
const ALIKE_SHOWN: u64 = 3;

/// What led to a violation, a line for each step.
pub(crate) fn print_story(story: &Story) {
    println!("commit {}, seed {}", commit(), story.outcome.seed);
    println!(
        "about: {}",
        if story.subjects.is_empty() { "no message".to_owned() } else { story.subjects.join(", ") }
    );
    let mut alike: BTreeMap<(&str, String), (u64, Instant)> = BTreeMap::new();
    for step in &story.steps {
        let host = step.host.as_deref().unwrap_or("**");
        if step.what.starts_with(LOG_LINE) {
            let (count, last) = alike.entry((host, without_digits(&step.what))).or_insert((0, step.at));
            (*count, *last) = (*count + 1, step.at);
            if *count > ALIKE_SHOWN {
                continue;
            }
        }
        println!("{:>14} {host:<12} {}", seconds(step.at), step.what);
    }
    for ((host, what), (count, last)) in alike.into_iter().filter(|(_, (count, _))| *count > ALIKE_SHOWN) {
        println!(
            "{:>14} {host:<12} {} more like it, this is the last: {what}",
            seconds(last),
            count - ALIKE_SHOWN
        );
    }
    for loss in &story.losses {
        println!("lost: {loss}");
    }
    for end in &story.ends {
        println!("in the end: {end}");
    }
    if let Some((at, violation)) = &story.outcome.violation {
        println!("{}", violation_line(*at, violation));
    }
}

/// Two lines of a log that differ in their numbers only say the same.
fn without_digits(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

fn seconds(at: Instant) -> String {
    format!("{}.{:09}", at.as_nanos() / 1_000_000_000, at.as_nanos() % 1_000_000_000)
}

/// [`print_story`] for scripts.
pub(crate) fn story_json(story: &Story) -> serde_json::Value {
    let steps = story
        .steps
        .iter()
        .map(|step| serde_json::json!({ "at_ns": step.at.as_nanos(), "host": step.host, "what": step.what }));
    let violation = story.outcome.violation.as_ref();
    serde_json::json!({
        "seed": story.outcome.seed,
        "commit": commit(),
        "checker": violation.map(|(_, violation)| violation.checker),
        "what": violation.map(|(_, violation)| &violation.what),
        "about": story.subjects,
        "steps": steps.collect::<Vec<_>>(),
        "lost": story.losses,
        "in_the_end": story.ends,
    })
}

fn replay_command(named: &Named, seed: u64) -> String {
    format!("cargo sim replay {} --seed {seed} --trace", named.name)
}

/// A failure for scripts.
pub(crate) fn failure_json(named: &Named, outcome: &Outcome) -> serde_json::Value {
    let Some((at, violation)) = &outcome.violation else { return serde_json::Value::Null };
    serde_json::json!({
        "event": "failure",
        "scenario": named.name,
        "scenario_hash": format!("{:016x}", named.scenario.hash()),
        "commit": commit(),
        "seed": outcome.seed,
        "kind": format!("{:?}", violation.kind).to_lowercase(),
        "checker": violation.checker,
        "at_ns": at.as_nanos(),
        "what": violation.what,
        "replay": replay_command(named, outcome.seed),
    })
}

/// Every probe, and how often this program reached it.
fn probes() -> Vec<(&'static str, u64)> {
    let machines = Probe::ALL.iter().map(|probe| (probe.text(), probe.count()));
    machines.chain(FaultProbe::ALL.iter().map(|probe| (probe.text(), probe.count()))).collect()
}

/// The probes that were never reached.
pub(crate) fn never_reached() -> Vec<&'static str> {
    probes().into_iter().filter(|(_, count)| *count == 0).map(|(text, _)| text).collect()
}

/// Sums over worlds.
pub(crate) struct Summary {
    simulated: Duration,
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

/// Processor time of this process; only differences mean something.
pub(crate) fn cpu_time() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

/// Time that passes for people; only differences mean something.
pub(crate) fn real_time() -> Duration {
    read_clock(ClockId::Monotonic)
}

fn read_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Summary {
    pub(crate) fn begin() -> Summary {
        Summary {
            simulated: Duration::ZERO,
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

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    pub(crate) fn add(&mut self, named: &Named, done: &Done) {
        let Done { outcome, faults, .. } = done;
        self.worlds += 1;
        self.simulated += Duration::from_nanos(named.scenario.of_seed(outcome.seed).ends_at().as_nanos());
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

    /// Processor time, worlds a minute of it, simulated seconds a second of it.
    fn rates(&self) -> (f64, f64, f64) {
        let cpu = (cpu_time() - self.cpu_before).as_secs_f64().max(1e-9);
        (cpu, self.worlds as f64 * 60.0 / cpu, self.simulated.as_secs_f64() / cpu)
    }

    /// Checkers that had nothing to judge.
    fn silent(&self) -> Vec<&'static str> {
        self.looked.iter().filter(|(_, count)| **count == 0).map(|(checker, _)| *checker).collect()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let (cpu_s, worlds_a_cpu_minute, simulated_s_a_cpu_s) = self.rates();
        let faults: BTreeMap<String, u64> =
            self.faults.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
        serde_json::json!({
            "event": "summary",
            "commit": commit(),
            "worlds": self.worlds,
            "failures": self.failures,
            "simulated_s": self.simulated.as_secs_f64(),
            "cpu_s": cpu_s,
            "worlds_a_cpu_minute": worlds_a_cpu_minute,
            "simulated_s_a_cpu_s": simulated_s_a_cpu_s,
            "faults": faults,
            "judged": self.looked,
            "silent_checkers": self.silent(),
            "probes": probes().into_iter().collect::<BTreeMap<_, _>>(),
            "excused_promises": self.excused,
            "excused_worlds": self.worlds_excused,
        })
    }

    pub(crate) fn print(&self) {
        let (cpu, per_cpu_minute, per_cpu_second) = self.rates();
        println!(
            "{} worlds, {} failures, {:.1} simulated hours in {cpu:.1} s of processor time: {per_cpu_minute:.0} worlds a minute, {per_cpu_second:.0} simulated seconds a second",
            self.worlds,
            self.failures,
            self.simulated.as_secs_f64() / 3600.0,
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
        let (all, never) = (probes().len(), never_reached());
        println!("probes: {} of {all} reached", all - never.len());
        for probe in never {
            println!("    never: {probe}");
        }
        let silent = self.silent();
        if !silent.is_empty() {
            println!("these checkers never judged anything: {}", silent.join(", "));
        }
    }
}
