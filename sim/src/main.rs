//! `gantry-sim`: runs worlds, replays one, and proves that a seed names its run.
//!
//! Exit codes: 0 all is well, 1 a safety violation, 2 wrong usage, 3 a liveness violation, 4 a crash of a machine, 5 two runs
//! of one seed differ.

mod report;

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use clap::{Parser, Subcommand};
use gantry_sim::plan::Plan;
use gantry_sim::run::{self, Outcome};
use gantry_sim::scenario::{SKELETON, Scenario};
use gantry_sim::shrink;
use gantry_sim::world::Kind;
use indicatif::{ProgressBar, ProgressStyle};
use report::Summary;

const EXIT_SAFETY: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_LIVENESS: u8 = 3;
const EXIT_CRASH: u8 = 4;
const EXIT_NOT_DETERMINISTIC: u8 = 5;

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
    Run {
        /// Which seeds: A..B, without B.
        #[arg(long, value_parser = parse_seeds)]
        seeds: Range<u64>,
        /// Worlds at a time; as many as the machine has processors when left out.
        #[arg(long)]
        jobs: Option<usize>,
        /// Go on after a failure and report all of them.
        #[arg(long)]
        keep_going: bool,
        /// A scenario file; `scenarios/skeleton.toml` when left out.
        #[arg(long)]
        scenario: Option<PathBuf>,
    },
    /// Run one world again.
    Replay {
        /// A plan of `scenarios/regress/`, instead of a seed.
        #[arg(conflicts_with_all = ["seed", "scenario"], required_unless_present = "seed")]
        plan: Option<PathBuf>,
        /// Its seed.
        #[arg(long)]
        seed: Option<u64>,
        /// Print one line for each input and effect.
        #[arg(long)]
        trace: bool,
        /// Only these faults, by their numbers, separated by commas.
        #[arg(long, value_delimiter = ',')]
        only_faults: Option<Vec<usize>>,
        /// A scenario file; `scenarios/skeleton.toml` when left out.
        #[arg(long)]
        scenario: Option<PathBuf>,
    },
    /// Make a failing world small, and write it as a plan that needs no seed.
    Shrink {
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// A scenario file; `scenarios/skeleton.toml` when left out.
        #[arg(long)]
        scenario: Option<PathBuf>,
        /// Where to write the plan.
        #[arg(long)]
        out: PathBuf,
    },
    /// Run each world twice and compare the hash of everything that happened.
    Verify {
        /// Which seeds: A..B, without B.
        #[arg(long, value_parser = parse_seeds)]
        seeds: Range<u64>,
        /// A scenario file; `scenarios/skeleton.toml` when left out.
        #[arg(long)]
        scenario: Option<PathBuf>,
    },
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are written A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("there is no seed in this range".to_owned()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run::keep_panics();
    let done = match arguments.command {
        Verb::Run { seeds, jobs, keep_going, scenario } => load(scenario.as_ref())
            .map(|loaded| run_many(&loaded, seeds, jobs, keep_going, scenario.as_ref())),
        Verb::Replay { plan, seed, trace, only_faults, scenario } => {
            load_plan(plan.as_ref(), seed, scenario.as_ref())
                .map(|plan| replay(plan, trace, only_faults.as_deref()))
        }
        Verb::Shrink { seed, scenario, out } => {
            load_plan(None, Some(seed), scenario.as_ref()).and_then(|plan| shrink_to(&plan, &out))
        }
        Verb::Verify { seeds, scenario } => load(scenario.as_ref()).map(|loaded| verify(&loaded, seeds)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn load(path: Option<&PathBuf>) -> Result<Scenario, String> {
    let Some(path) = path else { return Scenario::parse(SKELETON).map_err(|error| error.to_string()) };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Scenario::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn load_plan(path: Option<&PathBuf>, seed: Option<u64>, scenario: Option<&PathBuf>) -> Result<Plan, String> {
    let Some(path) = path else {
        return load(scenario).map(|loaded| Plan::draw(&loaded, seed.unwrap_or(0)));
    };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Plan::from_toml(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome.violation.as_ref().map(|(_, violation)| violation.kind) {
        None => ExitCode::SUCCESS,
        Some(Kind::Safety) => ExitCode::from(EXIT_SAFETY),
        Some(Kind::Liveness) => ExitCode::from(EXIT_LIVENESS),
        Some(Kind::Crash) => ExitCode::from(EXIT_CRASH),
    }
}

fn run_many(
    scenario: &Scenario,
    seeds: Range<u64>,
    jobs: Option<usize>,
    keep_going: bool,
    path: Option<&PathBuf>,
) -> ExitCode {
    let jobs =
        jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    let progress = ProgressBar::new(seeds.end - seeds.start);
    let template = "{bar:30} {pos}/{len} worlds, {per_sec}, {msg}failures, {eta} left";
    progress
        .set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.set_message("0 ");
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::begin(scenario);
    let mut first: Option<Outcome> = None;
    let mut failures = 0;
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, stop, sender, seeds) = (&next, &stop, sender.clone(), &seeds);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let plan = Plan::draw(scenario, seed);
                    let faults: Vec<_> = plan.faults.iter().map(|entry| entry.fault.kind()).collect();
                    if sender.send((run::run(&plan), faults)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (outcome, faults) in receiver {
            progress.inc(1);
            summary.add(&outcome, &faults);
            if outcome.violation.is_some() {
                failures += 1;
                progress.set_message(format!("{failures} "));
                progress.suspend(|| report::failure(scenario, &outcome, path));
                stop.fetch_or(!keep_going, Ordering::Relaxed);
                // The smallest seed decides the exit code, whichever thread was faster.
                if first.as_ref().is_none_or(|before| outcome.seed < before.seed) {
                    first = Some(outcome);
                }
            }
        }
    });
    progress.finish_and_clear();
    summary.print();
    first.map_or(ExitCode::SUCCESS, |outcome| exit_code(&outcome))
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

fn verify(scenario: &Scenario, seeds: Range<u64>) -> ExitCode {
    let progress = ProgressBar::new(seeds.end - seeds.start);
    for seed in seeds.clone() {
        let [one, two] = [(); 2].map(|()| run::run(&Plan::draw(scenario, seed)));
        if one.digest != two.digest || one.stats.events != two.stats.events {
            progress.finish_and_clear();
            println!(
                "seed {seed} gave two runs: digests {:016x} and {:016x}, events {} and {}",
                one.digest, two.digest, one.stats.events, two.stats.events
            );
            return ExitCode::from(EXIT_NOT_DETERMINISTIC);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!("{} seeds, each the same twice", seeds.end - seeds.start);
    ExitCode::SUCCESS
}
