//! Proves that a seed names its run: two processes run the same worlds and must tell the same hashes.
//!
//! Two processes, because what differs between them (addresses, the seeds of hash tables, the order of threads) is what a
//! machine must not depend on. With another build in the second place it shows the same of targets and profiles.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use gantry_sim::plan::Plan;
use gantry_sim::run;
use indicatif::ProgressBar;

use crate::work;

/// Prints a line for each world: scenario, seed, events, hash.
pub(crate) fn digests(scenarios: &[PathBuf], seeds: Range<u64>) -> Result<ExitCode, String> {
    let scenarios = work::load_all(scenarios)?;
    let mut out = std::io::stdout().lock();
    for seed in seeds {
        for named in &scenarios {
            let outcome = run::run(&Plan::draw(&named.scenario, seed));
            let (events, digest) = (outcome.stats.events, outcome.digest);
            writeln!(out, "{} --seed {seed} gives {events} events, {digest:016x}", named.name)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// See the [module](self).
pub(crate) fn verify(
    scenarios: &[PathBuf],
    seeds: &Range<u64>,
    against: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let worlds = work::load_all(scenarios)?.len() as u64 * (seeds.end - seeds.start);
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let other = against.unwrap_or_else(|| this.clone());
    let mut arguments =
        vec!["digests".into(), "--seeds".into(), format!("{}..{}", seeds.start, seeds.end).into()];
    arguments.extend(scenarios.iter().map(|name| name.as_os_str().to_owned()));
    let [mut one, mut two] = [Half::begin(&this, &arguments)?, Half::begin(&other, &arguments)?];
    let progress = ProgressBar::new(worlds);
    for _ in 0..worlds {
        let (left, right) = (one.line()?, two.line()?);
        if left != right {
            progress.finish_and_clear();
            println!("two runs of one world differ:\n  {left}\n  {right}");
            let world = left.split(" gives ").next().unwrap_or_default().to_owned();
            name_difference(&this, &other, &world)?;
            return Ok(ExitCode::from(crate::EXIT_NOT_DETERMINISTIC));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!("{worlds} worlds, each the same in two processes");
    Ok(ExitCode::SUCCESS)
}

/// Runs both again with a line for each input and effect, and prints the first that differs, with those before it.
fn name_difference(this: &Path, other: &Path, world: &str) -> Result<(), String> {
    let mut arguments = vec!["replay".into()];
    arguments.extend(world.split(' ').map(Into::into));
    arguments.push("--trace".into());
    let [mut one, mut two] = [Half::begin(this, &arguments)?, Half::begin(other, &arguments)?];
    let mut before = std::collections::VecDeque::new();
    for number in 1_u64.. {
        let (left, right) = (one.line().ok(), two.line().ok());
        if left != right {
            println!("line {number} of their traces is the first that differs, after");
            before.iter().for_each(|line| println!("    {line}"));
            for side in [left, right] {
                println!("  {}", side.unwrap_or_else(|| "(the end)".to_owned()));
            }
            return Ok(());
        }
        let Some(line) = left else { break };
        before.push_back(line);
        if before.len() > 5 {
            before.pop_front();
        }
    }
    println!("their traces are the same: what differs shows on the disks only");
    Ok(())
}

/// A process whose lines are read.
struct Half {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Half {
    fn begin(program: &Path, arguments: &[std::ffi::OsString]) -> Result<Half, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", program.display());
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let output = child.stdout.take().ok_or_else(|| failed(&"no output"))?;
        Ok(Half { child, lines: BufReader::new(output).lines() })
    }

    fn line(&mut self) -> Result<String, String> {
        match self.lines.next() {
            Some(Ok(line)) => Ok(line),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("a process ended before all its worlds were run".to_owned()),
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
