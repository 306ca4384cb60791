//! Every scenario that is shipped, over a few hundred seeds; a failure prints the command that replays it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use gantry_sim::plan::Plan;
use gantry_sim::run::{self, Outcome};
use gantry_sim::scenario::Scenario;

const SKELETON: &str = include_str!("../../scenarios/skeleton.toml");
const DELAY: &str = include_str!("../../scenarios/delay.toml");
const RETRY: &str = include_str!("../../scenarios/retry.toml");
const ORDERLY: &str = include_str!("../../scenarios/orderly.toml");
const REGISTRATION: &str = include_str!("../../scenarios/registration.toml");
const REPLICATION: &str = include_str!("../../scenarios/replication.toml");
const TAKEOVER: &str = include_str!("../../scenarios/takeover.toml");
const QUERIES: &str = include_str!("../../scenarios/queries.toml");
const ADMINISTRATION: &str = include_str!("../../scenarios/administration.toml");
const NAMES: &str = include_str!("../../scenarios/names.toml");
const CLIENTS: &str = include_str!("../../scenarios/clients.toml");
const CROWD: &str = include_str!("../../scenarios/crowd.toml");
const QUIET: &str = include_str!("../../scenarios/quiet.toml");
const THREADS: usize = 2;

fn check(text: &str, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let scenario = Scenario::parse(text).expect("shipped");
    let next = AtomicU64::new(seeds.start);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (scenario, next, sender, end) = (&scenario, &next, sender.clone(), seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    sender.send(run::run(&Plan::draw(scenario, seed))).expect("collected below");
                }
            });
        }
    });
    drop(sender);
    let outcomes: Vec<Outcome> = receiver.into_iter().collect();
    for outcome in &outcomes {
        if let Some((at, violation)) = &outcome.violation {
            let seed = outcome.seed;
            panic!("{violation:?} at {at:?}\nreplay it with:  cargo sim replay --seed {seed} --trace");
        }
    }
    outcomes
}

/// Runs worlds and sees that every checker judged more than `least` things.
fn check_with_all_eyes(text: &str, seeds: std::ops::Range<u64>, least: u64) {
    let mut judged = std::collections::BTreeMap::new();
    for outcome in &check(text, seeds) {
        for (checker, looked) in &outcome.looked {
            *judged.entry(*checker).or_insert(0) += looked;
        }
    }
    assert!(
        judged.values().all(|looked| *looked > least),
        "a checker that is silent is worth nothing: {judged:?}"
    );
}

#[test]
fn a_broker_group_keeps_its_promises_under_every_fault() {
    check_with_all_eyes(SKELETON, 0..200, 300);
}

#[test]
fn delayed_messages_come_in_time_and_once() {
    check_with_all_eyes(DELAY, 0..60, 60);
}

#[test]
fn what_was_not_consumed_comes_back() {
    check_with_all_eyes(RETRY, 0..60, 60);
}

#[test]
fn queues_are_locked_and_consumed_in_order() {
    check_with_all_eyes(ORDERLY, 0..60, 60);
}

#[test]
fn the_name_server_has_the_topics_of_its_broker() {
    check_with_all_eyes(REGISTRATION, 0..60, 60);
}

#[test]
fn what_is_acknowledged_outlives_the_masters_power() {
    check_with_all_eyes(REPLICATION, 0..60, 60);
}

#[test]
fn a_slave_takes_the_masters_place() {
    check_with_all_eyes(TAKEOVER, 0..60, 60);
}

#[test]
fn messages_are_found() {
    check_with_all_eyes(QUERIES, 0..60, 60);
}

#[test]
fn what_a_manager_sets_stays_set() {
    check_with_all_eyes(ADMINISTRATION, 0..60, 60);
}

#[test]
fn nobody_minds_the_loss_of_name_servers() {
    check_with_all_eyes(NAMES, 0..60, 60);
}

#[test]
fn applications_keep_what_their_clients_promise() {
    check_with_all_eyes(CLIENTS, 0..60, 10);
}

#[test]
fn a_crowd_of_applications_settles() {
    check(CROWD, 0..1);
}

#[test]
fn nothing_fails_by_itself() {
    check(QUIET, 0..100);
}

#[test]
fn no_bug_that_was_found_comes_back() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/regress");
    for entry in std::fs::read_dir(dir).expect("shipped") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let plan = Plan::from_toml(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let violation = run::run(&plan).violation;
        assert_eq!(violation, None, "replay it with:  cargo sim replay {}", path.display());
    }
}

#[test]
fn a_plan_is_the_same_world_after_a_file() {
    let texts =
        [SKELETON, DELAY, RETRY, ORDERLY, REGISTRATION, TAKEOVER, QUERIES, ADMINISTRATION, NAMES, CLIENTS];
    for (text, seed) in texts.into_iter().zip(7..) {
        let plan = Plan::draw(&Scenario::parse(text).expect("shipped"), seed);
        let again = Plan::from_toml(&plan.to_toml()).expect("just written");
        assert_eq!(run::run(&again).digest, run::run(&plan).digest, "seed {seed}");
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let scenario = Scenario::parse(SKELETON).expect("shipped");
    for seed in 1_000..1_020 {
        let [one, two] = [(); 2].map(|()| run::run(&Plan::draw(&scenario, seed)));
        assert_eq!((one.digest, one.stats.events), (two.digest, two.stats.events), "seed {seed}");
    }
}

/// Each file under `scenarios/` is read and lives through a few worlds, the next one too.
#[test]
fn every_scenario_that_is_shipped_runs() {
    let shelf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let read = |name: &str| {
        std::fs::read_to_string(shelf.join(name).with_extension("toml")).map_err(|error| error.to_string())
    };
    let mut ran = 0;
    for entry in std::fs::read_dir(&shelf).expect("it is there") {
        let path = entry.expect("it is there").path();
        // The largest one has a test of its own.
        let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|ends| ends == "toml"))
        else {
            continue;
        };
        let name = name.to_str().expect("a name");
        let text = read(name).expect("it is there");
        let scenario = Scenario::parse_any(&text, read).unwrap_or_else(|error| panic!("{name}: {error}"));
        for seed in 0..if name == "crowd" { 0 } else { 6 } {
            let outcome = run::run(&Plan::draw(&scenario, seed));
            assert!(outcome.violation.is_none(), "{name}, seed {seed}: {:?}", outcome.violation);
            ran += 1;
        }
    }
    assert!(ran >= 30 * 6, "there are thirty scenarios: {ran}");
}
