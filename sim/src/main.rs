//! `gantry-sim`: runs worlds, replays one, and proves that a seed names its run.
//!
//! Exit codes: 0 all is well, 1 a safety violation, 2 wrong usage, 3 a liveness violation, 4 a crash of a machine, 5 two runs
//! of one seed differ, 6 nothing failed but a probe was never reached.

mod bench;
mod junit;
mod report;
mod verify;
mod work;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gantry_sim::plan::Plan;
use gantry_sim::run::{self, Outcome};
use gantry_sim::world::Kind;
use gantry_sim::{shrink, why};
use indicatif::{ProgressBar, ProgressStyle};
use junit::Suite;
use report::Summary;
use work::{Done, Shard, Work};

#[cfg(target_env = "gnu")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_SAFETY: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_LIVENESS: u8 = 3;
const EXIT_CRASH: u8 = 4;
const EXIT_NOT_DETERMINISTIC: u8 = 5;
const EXIT_PROBES: u8 = 6;

/// Runs Gantry's machines in seeded worlds of faults.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run many worlds; stop at the first that fails, and say how to replay it.
    Run(RunArguments),
    /// Run one world again.
    Replay {
        /// A scenario with --seed, or a plan of `scenarios/regress/` without; `skeleton` when left out.
        #[arg(required_unless_present = "seed")]
        scenario: Option<PathBuf>,
        /// Its seed.
        #[arg(long)]
        seed: Option<u64>,
        /// Print one line for each input and effect.
        #[arg(long)]
        trace: bool,
        /// Only these faults, by their numbers, separated by commas.
        #[arg(long, value_delimiter = ',')]
        only_faults: Option<Vec<usize>>,
    },
    /// Say what led to a failure: what happened to the messages that it names, and who lost them.
    Why {
        /// A scenario with --seed, or a plan of `scenarios/regress/` without; `skeleton` when left out.
        #[arg(required_unless_present = "seed")]
        scenario: Option<PathBuf>,
        /// Its seed.
        #[arg(long)]
        seed: Option<u64>,
        /// Print one JSON object instead.
        #[arg(long)]
        json: bool,
    },
    /// Make a failing world small, and write it as a plan that needs no seed.
    Shrink {
        /// A scenario; `skeleton` when left out.
        scenario: Option<PathBuf>,
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// Where to write the plan.
        #[arg(long)]
        out: PathBuf,
    },
    /// Run each world in two processes and compare the hash of everything that happened.
    Verify {
        #[command(flatten)]
        worlds: Worlds,
        /// Another build of this program for the second process: of another target, or another profile.
        #[arg(long)]
        against: Option<PathBuf>,
    },
    /// Print the hash of each world: one half of `verify`.
    #[command(hide = true)]
    Digests {
        #[command(flatten)]
        worlds: Worlds,
    },
    /// Measure what worlds cost: the default cluster and a small one, or others.
    Bench {
        /// Scenarios, by their file or their name; `default` and `skeleton` when left out.
        scenarios: Vec<PathBuf>,
        /// Which seeds in each round: A..B, without B.
        #[arg(long, value_parser = work::parse_seeds, default_value = "0..40")]
        seeds: Range<u64>,
        /// How many rounds, of which the median counts.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Print one JSON object a line instead.
        #[arg(long)]
        json: bool,
    },
    /// Name the scenarios that there are.
    List,
}

/// Which worlds.
#[derive(Args)]
struct Worlds {
    /// Scenarios, by their file or their name; `skeleton` when left out.
    scenarios: Vec<PathBuf>,
    /// Which seeds: A..B, without B.
    #[arg(long, value_parser = work::parse_seeds)]
    seeds: Range<u64>,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    worlds: Worlds,
    /// Every scenario that there is.
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    /// Worlds at a time; as many as the machine has processors when left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only the seeds of this share: I/N, with I from 0.
    #[arg(long, value_parser = work::parse_shard, default_value = "0/1")]
    shard: Shard,
    /// Begin no world later than this: 30s, 10m, 2h. Seeds may then be A.., without an end.
    #[arg(long, value_parser = work::parse_time)]
    time: Option<Duration>,
    /// Go on after a failure and report all of them.
    #[arg(long)]
    keep_going: bool,
    /// Write what ran and what failed to this file, as JUnit reports are.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Fail when a probe was never reached: these worlds are too few, or too tame.
    #[arg(long)]
    require_probes: bool,
    /// Print one JSON object a line instead: each failure, and the summary at the end.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run::keep_panics();
    report::commit();
    let done = match arguments.command {
        Verb::Run(arguments) => run_many(&arguments),
        Verb::Replay { scenario, seed, trace, only_faults } => {
            load_plan(scenario.as_deref(), seed).map(|plan| replay(plan, trace, only_faults.as_deref()))
        }
        Verb::Why { scenario, seed, json } => {
            load_plan(scenario.as_deref(), seed).and_then(|plan| explain(&plan, json))
        }
        Verb::Shrink { scenario, seed, out } => {
            load_plan(scenario.as_deref(), Some(seed)).and_then(|plan| shrink_to(&plan, &out))
        }
        Verb::Verify { worlds, against } => verify::verify(&worlds.scenarios, &worlds.seeds, against),
        Verb::Digests { worlds } => verify::digests(&worlds.scenarios, worlds.seeds),
        Verb::Bench { scenarios, seeds, rounds, json } => measure(scenarios, &seeds, rounds, json),
        Verb::List => list(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// A plan drawn by a seed, or stored without one.
fn load_plan(scenario: Option<&Path>, seed: Option<u64>) -> Result<Plan, String> {
    let scenario = scenario.unwrap_or(Path::new("skeleton"));
    if let Some(seed) = seed {
        return work::load(scenario).map(|named| Plan::draw(&named.scenario, seed));
    }
    Plan::from_toml(&work::read(scenario)?).map_err(|error| {
        format!("{}: {error}\n(a scenario needs --seed; only a stored plan goes without)", scenario.display())
    })
}

fn measure(
    mut scenarios: Vec<PathBuf>,
    seeds: &Range<u64>,
    rounds: u16,
    json: bool,
) -> Result<ExitCode, String> {
    if seeds.is_empty() || seeds.end == u64::MAX {
        return Err("a bench needs seeds with an end: --seeds 0..40".to_owned());
    }
    if scenarios.is_empty() {
        scenarios = vec!["default".into(), "skeleton".into()];
    }
    bench::bench(&work::load_all(&scenarios)?, seeds, rounds.into(), json)?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<ExitCode, String> {
    for named in work::shipped()? {
        println!("{:<16} {}", named.name, named.scenario.title);
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome.violation.as_ref().map(|(_, violation)| violation.kind) {
        None => ExitCode::SUCCESS,
        Some(Kind::Safety) => ExitCode::from(EXIT_SAFETY),
        Some(Kind::Liveness) => ExitCode::from(EXIT_LIVENESS),
        Some(Kind::Crash) => ExitCode::from(EXIT_CRASH),
    }
}

fn run_many(arguments: &RunArguments) -> Result<ExitCode, String> {
    let RunArguments { worlds, all, shard, time, keep_going, json, .. } = arguments;
    if worlds.seeds.end == u64::MAX && time.is_none() {
        return Err("seeds without an end need --time".to_owned());
    }
    let scenarios = if *all { work::shipped()? } else { work::load_all(&worlds.scenarios)? };
    let processors = || std::thread::available_parallelism().ok().map(usize::from);
    let jobs = arguments.jobs.or_else(processors).unwrap_or(1).max(1);
    let (seeds, shard, time, keep_going) = (worlds.seeds.clone(), *shard, *time, *keep_going);
    let work = Work { scenarios, seeds, shard, jobs, time, keep_going };
    if let Some(path) = &arguments.junit {
        // Better known now than after hours.
        Suite::default().write(path)?;
    }
    let progress = progress_of(&work);
    let mut summary = Summary::begin();
    let mut suite = Suite::default();
    let mut first: Option<Done> = None;
    work.run(|done| {
        let named = &work.scenarios[done.scenario];
        progress.inc(1);
        summary.add(named, &done);
        suite.add(named, &done);
        if done.outcome.violation.is_none() {
            return;
        }
        progress.set_message(format!("{} ", summary.failures()));
        progress.suspend(|| {
            if *json {
                println!("{}", report::failure_json(named, &done.outcome));
            } else {
                println!("{}", report::failure(named, &done.outcome));
            }
        });
        // The first world in the order of work decides the exit code, whichever thread was faster.
        let place = |done: &Done| (done.outcome.seed, done.scenario);
        if first.as_ref().is_none_or(|before| place(&done) < place(before)) {
            first = Some(done);
        }
    });
    progress.finish_and_clear();
    if *json {
        println!("{}", summary.json());
    } else {
        summary.print();
    }
    if let Some(path) = &arguments.junit {
        suite.write(path)?;
    }
    Ok(match first {
        Some(done) => exit_code(&done.outcome),
        None if arguments.require_probes && !report::never_reached().is_empty() => {
            ExitCode::from(EXIT_PROBES)
        }
        None => ExitCode::SUCCESS,
    })
}

fn progress_of(work: &Work) -> ProgressBar {
    let (progress, template) = if work.seeds.end == u64::MAX {
        (ProgressBar::no_length(), "{spinner} {elapsed}: {pos} worlds, {per_sec}, {msg}failures")
    } else {
        let template = "{bar:30} {pos}/{len} worlds, {per_sec}, {msg}failures, {eta} left";
        (ProgressBar::new(work.len()), template)
    };
    progress
        .set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.set_message("0 ");
    progress
}

fn explain(plan: &Plan, json: bool) -> Result<ExitCode, String> {
    let story = why::why(plan).ok_or_else(|| format!("seed {} does not fail", plan.seed))?;
    if json {
        println!("{}", report::story_json(&story));
    } else {
        report::print_story(&story);
    }
    Ok(exit_code(&story.outcome))
}

fn shrink_to(plan: &Plan, out: &PathBuf) -> Result<ExitCode, String> {
    let shrunk = shrink::shrink(plan, &mut |step| println!("{step}"));
    let (small, runs) = shrunk.ok_or_else(|| format!("seed {} does not fail", plan.seed))?;
    let outcome = run::run(&small);
    let (at, violation) = outcome.violation.as_ref().ok_or("the shrunk plan does not fail any more")?;
    let line = report::violation_line(*at, violation);
    let head = format!("# Found at commit {}: {line}\n", report::commit());
    std::fs::write(out, head + &small.to_toml()).map_err(|error| format!("{}: {error}", out.display()))?;
    println!("{line}");
    println!("{} faults of {}, after {runs} runs: {}", small.faults.len(), plan.faults.len(), out.display());
    println!("replay it with:  cargo sim replay {}", out.display());
    Ok(ExitCode::SUCCESS)
}

fn replay(mut plan: Plan, trace: bool, only_faults: Option<&[usize]>) -> ExitCode {
    if let Some(only) = only_faults {
        plan.keep_faults(only);
    }
    plan.options.trace = trace;
    println!("commit {}, seed {}", report::commit(), plan.seed);
    for line in plan.describe() {
        println!("{line}");
    }
    let outcome = run::run(&plan);
    match &outcome.violation {
        None => println!("no violation; digest {:016x}, {:?}", outcome.digest, outcome.stats),
        Some((at, violation)) => println!("{}", report::violation_line(*at, violation)),
    }
    exit_code(&outcome)
}
