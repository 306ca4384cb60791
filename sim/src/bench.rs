//! `bench`: what a world costs, in processor time of one thread, so that figures of two machines or two days can be compared.
//!
//! Scenarios take turns in rounds: what a noisy machine does to one of them it does to the others. The median round counts. What
//! is checked, and how much, is as in `run`.

use std::ops::Range;

use gantry_sim::plan::Plan;
use gantry_sim::run;
use serde_json::json;

use crate::report::{self, cpu_time};
use crate::work::Named;

/// One scenario in one round.
#[derive(Clone, Copy, Default)]
struct Round {
    cpu_s: f64,
    worlds: u64,
    simulated_s: f64,
    events: u64,
    turns: u64,
}

impl Round {
    fn worlds_a_minute(&self) -> f64 {
        self.worlds as f64 * 60.0 / self.cpu_s
    }

    fn simulated_a_second(&self) -> f64 {
        self.simulated_s / self.cpu_s
    }

    fn events_a_second(&self) -> f64 {
        self.events as f64 / self.cpu_s
    }
}

/// Runs the worlds of each scenario in each round and prints a table, or one JSON object a scenario.
///
/// # Errors
/// A world fails: its cost says nothing.
pub(crate) fn bench(
    scenarios: &[Named],
    seeds: &Range<u64>,
    rounds: usize,
    json: bool,
) -> Result<(), String> {
    let mut measured: Vec<Vec<Round>> = vec![Vec::new(); scenarios.len()];
    for number in 0..rounds {
        for (at, named) in scenarios.iter().enumerate() {
            eprint!("\rround {} of {rounds}: {:<30}", number + 1, named.name);
            measured[at].push(measure(named, seeds)?);
        }
    }
    eprintln!("\r{:<60}", "");
    if !json {
        println!(
            "{:<22} {:>17} {:>15} {:>20} {:>16}",
            "scenario", "worlds a minute", "lowest, highest", "simulated s a second", "events a second"
        );
    }
    for (named, mut rounds) in scenarios.iter().zip(measured) {
        rounds.sort_by(|a, b| a.worlds_a_minute().total_cmp(&b.worlds_a_minute()));
        let (median, lowest, highest) = (rounds[rounds.len() / 2], rounds[0], rounds[rounds.len() - 1]);
        if json {
            println!(
                "{}",
                json!({
                    "event": "bench",
                    "commit": report::commit(),
                    "scenario": named.name,
                    "worlds_a_cpu_minute": median.worlds_a_minute(),
                    "lowest": lowest.worlds_a_minute(),
                    "highest": highest.worlds_a_minute(),
                    "simulated_s_a_cpu_s": median.simulated_a_second(),
                    "events_a_cpu_s": median.events_a_second(),
                    "messages_a_world": named.scenario.messages,
                    "events_a_world": median.events / median.worlds,
                    "turns_a_world": median.turns / median.worlds,
                })
            );
        } else {
            println!(
                "{:<22} {:>17.0} {:>15} {:>20.0} {:>16.0}",
                named.name,
                median.worlds_a_minute(),
                format!("{:.0}, {:.0}", lowest.worlds_a_minute(), highest.worlds_a_minute()),
                median.simulated_a_second(),
                median.events_a_second()
            );
        }
    }
    Ok(())
}

fn measure(named: &Named, seeds: &Range<u64>) -> Result<Round, String> {
    let before = cpu_time();
    let mut round = Round::default();
    for seed in seeds.clone() {
        let plan = Plan::draw(&named.scenario, seed);
        let outcome = run::run(&plan);
        if outcome.violation.is_some() {
            return Err(report::failure(named, &outcome));
        }
        round.worlds += 1;
        round.simulated_s += named.scenario.of_seed(seed).ends_at().as_nanos() as f64 / 1e9;
        round.events += outcome.stats.events;
        round.turns += outcome.stats.turns;
    }
    round.cpu_s = (cpu_time() - before).as_secs_f64().max(1e-9);
    Ok(round)
}
