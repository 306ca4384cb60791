//! Which worlds a command runs: every scenario with every seed, in a fixed order, a share of it, for a time.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use gantry_sim::fault::FaultKind;
use gantry_sim::plan::Plan;
use gantry_sim::run::{self, Outcome};
use gantry_sim::scenario::Scenario;

use crate::report;

/// A scenario and what it is called.
pub(crate) struct Named {
    /// As the command line takes it.
    pub(crate) name: String,
    pub(crate) scenario: Scenario,
}

/// Where the shipped scenarios lie.
fn shelf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// A file by its path, or a shipped scenario by its name.
fn find(name: &Path) -> PathBuf {
    let shipped = shelf().join(name).with_extension("toml");
    if !name.is_file() && name.components().count() == 1 && shipped.exists() {
        return shipped;
    }
    name.to_owned()
}

pub(crate) fn read(name: &Path) -> Result<String, String> {
    std::fs::read_to_string(find(name)).map_err(|error| {
        format!("{}: {error}; `gantry-sim list` names the scenarios that there are", name.display())
    })
}

pub(crate) fn load(name: &Path) -> Result<Named, String> {
    let scenario = Scenario::parse_any(&read(name)?, |member| read(Path::new(member)))
        .map_err(|error| format!("{}: {error}", name.display()))?;
    Ok(Named { name: name.display().to_string(), scenario })
}

/// The scenarios named, or the skeleton when none is.
pub(crate) fn load_all(names: &[PathBuf]) -> Result<Vec<Named>, String> {
    let skeleton = [PathBuf::from("skeleton")];
    let names = if names.is_empty() { &skeleton } else { names };
    names.iter().map(|name| load(name)).collect()
}

/// The shipped scenarios, by name.
pub(crate) fn shipped() -> Result<Vec<Named>, String> {
    let shelf = shelf();
    let entries = std::fs::read_dir(&shelf).map_err(|error| format!("{}: {error}", shelf.display()))?;
    let mut names: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| path.file_stem().map(PathBuf::from))
        .collect();
    names.sort();
    names.iter().map(|name| load(name)).collect()
}

/// One of `count` shares: those seeds whose place leaves `index`.
#[derive(Clone, Copy)]
pub(crate) struct Shard {
    pub(crate) index: u64,
    pub(crate) count: u64,
}

pub(crate) fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are written A..B, or A.. with --time")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let from = number(from)?;
    let range = from..if to.is_empty() { u64::MAX } else { number(to)? };
    if range.is_empty() { Err("there is no seed in this range".to_owned()) } else { Ok(range) }
}

pub(crate) fn parse_shard(text: &str) -> Result<Shard, String> {
    let (index, count) = text.split_once('/').ok_or("a share is written I/N, with I from 0")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let shard = Shard { index: number(index)?, count: number(count)? };
    if shard.index < shard.count { Ok(shard) } else { Err(format!("there is no share {text}")) }
}

pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|error| format!("{text:?}: {error}"))?;
    match unit {
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("{text:?}: a time is written 30s, 10m or 2h")),
    }
}

/// What is to be run.
pub(crate) struct Work {
    pub(crate) scenarios: Vec<Named>,
    pub(crate) seeds: Range<u64>,
    pub(crate) shard: Shard,
    pub(crate) jobs: usize,
    /// No world begins later than this after the first.
    pub(crate) time: Option<Duration>,
    pub(crate) keep_going: bool,
}

/// A world that was run.
pub(crate) struct Done {
    /// Its scenario's place in [`Work::scenarios`].
    pub(crate) scenario: usize,
    pub(crate) outcome: Outcome,
    pub(crate) faults: Vec<FaultKind>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Work {
    /// Worlds at most.
    pub(crate) fn len(&self) -> u64 {
        let seeds = self.seeds.end - self.seeds.start;
        let mine = seeds / self.shard.count + u64::from(seeds % self.shard.count > self.shard.index);
        mine.saturating_mul(self.scenarios.len() as u64)
    }

    /// The world of a place: all scenarios with a seed, before the next seed.
    fn at(&self, place: u64) -> Option<(usize, u64)> {
        if place >= self.len() {
            return None;
        }
        let scenarios = self.scenarios.len() as u64;
        let seed = self.seeds.start + (place / scenarios) * self.shard.count + self.shard.index;
        Some(((place % scenarios) as usize, seed))
    }

    /// Runs everything; `each` is told of each world as it ends.
    pub(crate) fn run(&self, mut each: impl FnMut(Done)) {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let begun = report::real_time();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (next, stop, sender) = (&next, &stop, sender.clone());
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed)
                        && self.time.is_none_or(|time| report::real_time() - begun < time)
                    {
                        let Some(world) = self.at(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        if sender.send(self.run_one(world)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for done in receiver {
                if done.outcome.violation.is_some() {
                    stop.fetch_or(!self.keep_going, Ordering::Relaxed);
                }
                each(done);
            }
        });
    }

    fn run_one(&self, (scenario, seed): (usize, u64)) -> Done {
        let begun = report::real_time();
        let plan = Plan::draw(&self.scenarios[scenario].scenario, seed);
        let faults = plan.faults.iter().map(|entry| entry.fault.kind()).collect();
        Done { scenario, outcome: run::run(&plan), faults, took: report::real_time() - begun }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worlds(seeds: &str, shard: &str) -> Vec<(usize, u64)> {
        let scenarios = ["quiet", "delay"].map(|name| load(Path::new(name)).expect("shipped")).into();
        let (seeds, shard) = (parse_seeds(seeds).expect("a range"), parse_shard(shard).expect("a share"));
        let work = Work { scenarios, seeds, shard, jobs: 1, time: None, keep_going: false };
        (0..).map_while(|place| work.at(place)).collect()
    }

    #[test]
    fn shares_are_disjoint_and_leave_nothing_out() {
        assert_eq!(worlds("7..9", "0/1"), [(0, 7), (1, 7), (0, 8), (1, 8)]);
        let mut all: Vec<_> =
            ["0/3", "1/3", "2/3"].iter().flat_map(|shard| worlds("10..17", shard)).collect();
        all.sort_by_key(|(scenario, seed)| (*seed, *scenario));
        assert_eq!(all, worlds("10..17", "0/1"));
    }

    #[test]
    fn what_is_not_a_range_a_share_or_a_time_is_refused() {
        assert!(parse_seeds("7").is_err() && parse_seeds("7..7").is_err() && parse_seeds("a..9").is_err());
        assert!(parse_shard("3/3").is_err() && parse_shard("1").is_err() && parse_shard("0/0").is_err());
        assert!(parse_time("10x").is_err() && parse_time("m").is_err());
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
    }

    #[test]
    fn every_shipped_scenario_is_read() {
        let names: Vec<String> =
            shipped().expect("all of them").into_iter().map(|named| named.name).collect();
        assert!(names.contains(&"skeleton".to_owned()) && names.is_sorted());
    }
}
