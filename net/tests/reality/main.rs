//! Real processes behind faulty proxies: a smaller sibling of the simulator, for the shell that it cannot see.
//!
//! A name server, a synchronous master and its slave are killed with `kill -9`, stand still (SIGSTOP) and lose their connections, as a
//! seed says, while producers, members of a group and others work through the Rust client. In the end the master dies for good and the
//! slave's store takes its place: whatever was acknowledged has to be there. What all of them told is judged by the simulator's own
//! checkers: see `gantry_sim::check::outside`. A seed names the faults, and not the run: threads and the kernel have their say.
//!
//! `REALITY_SEED` (1): which faults. `REALITY_SECONDS` (20): how long they go on. From 150 on the first of them is a broker that stands
//! still for 135 s, so that a name server forgets it, 120 s after it was last heard and not before. No setting makes that shorter.
//! `REALITY_HOME`: an empty directory where stores and logs stay; otherwise they go.
#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod clients;
mod cluster;
mod history;
#[path = "../program/mod.rs"]
mod program;
mod proxy;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clients::World;
use cluster::{Cluster, Fault};
use gantry_core::rng::Rng;
use gantry_sim::check::outside::{self, What};
use gantry_sim::history::{Queue, Reader, Report};
use history::History;

const QUEUES: i32 = 4;
const MEMBERS: u32 = 2;
/// All works again, and everything is read, this long after all was mended.
const RECOVERY: Duration = Duration::from_secs(60);
/// What happens to a process is seen by whoever stands in front of it within this, also on a busy machine.
const LATE: gantry_core::time::Duration = gantry_core::time::Duration::from_secs(2);
/// Longer than a broker is remembered (120 s and a scan of 10 s).
const FORGOTTEN: Duration = Duration::from_secs(135);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the auditor found, and the group has not consumed.
fn unread(history: &History) -> usize {
    let (mut found, mut consumed) = (BTreeSet::<(Queue, i64)>::new(), BTreeSet::new());
    for event in history.events() {
        if let What::Report(Report::Delivered { reader, queue, offset, .. }) = event.what {
            match reader {
                Reader::Auditor => found.insert((queue, offset)),
                Reader::Group => consumed.insert((queue, offset)),
            };
        }
    }
    found.difference(&consumed).count()
}

#[test]
fn promises_hold_for_real_processes() {
    let (seed, seconds) = (setting("REALITY_SEED", 1), setting("REALITY_SECONDS", 20));
    let rng = Rng::from_seed(seed);
    let mut faults = Fault::draw_all(&mut rng.fork("faults"), Duration::from_secs(seconds));
    if seconds > FORGOTTEN.as_secs() + 10 {
        faults = Fault::draw_all(&mut rng.fork("faults"), Duration::from_secs(seconds) - FORGOTTEN);
        faults.insert(0, (Duration::from_secs(1), Fault::StopMaster(FORGOTTEN)));
    }
    println!("REALITY_SEED={seed} REALITY_SECONDS={seconds}: {} faults", faults.len());
    let scratch = tempfile::tempdir().unwrap();
    let home = std::env::var_os("REALITY_HOME").map_or(scratch.path().to_owned(), PathBuf::from);
    let history = History::new();
    let mut cluster = Cluster::start(&home, &history);
    let world = World::new(&history, cluster.names(), cluster.master());
    let stored: Vec<usize> = std::thread::scope(|scope| {
        let world = &world;
        let producers: Vec<_> = (0..QUEUES)
            .map(|queue| {
                let rng = rng.fork(&format!("producer {queue}"));
                scope.spawn(move || clients::produce(world, queue, queue % 2 == 1, rng))
            })
            .collect();
        for member in 0..MEMBERS {
            let rng = rng.fork(&format!("member {member}"));
            scope.spawn(move || clients::consume(world, member, MEMBERS, rng));
        }
        scope.spawn(move || clients::keep_offsets(world));
        scope.spawn(move || clients::watch(world));
        for (pause, fault) in &faults {
            std::thread::sleep(*pause);
            println!("{:?}: {fault:?}", history.now());
            if *fault == Fault::ReplaceMember {
                world.replaced.fetch_add(1, Ordering::Relaxed);
            }
            cluster.suffer(*fault);
        }
        world.is_over.store(true, Ordering::Relaxed);
        println!("{:?}: all is mended", history.now());
        let stored = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        cluster.take_over();
        println!("{:?}: the slave's store is the master's", history.now());
        let read = clients::audit(world);
        println!("{:?}: {read} messages are there", history.now());
        // What members keep and never consume comes to those after them.
        world.replaced.fetch_add(MEMBERS, Ordering::Relaxed);
        let begin = Instant::now();
        while unread(&history) > 0 && begin.elapsed() < RECOVERY {
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("{:?}: the group has them", history.now());
        world.is_read.store(true, Ordering::Relaxed);
        stored
    });
    println!("{:?}: clients are gone", history.now());
    let logs = cluster.stop();
    println!("{:?}: servers are gone", history.now());
    let errors: Vec<&str> =
        logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("ERROR")).collect();
    match outside::judge(&history.events(), LATE) {
        Ok(looked) => {
            println!("judged: {looked:?}");
            assert!(looked.iter().all(|(_, count)| *count > 10), "a checker that never looks sees nothing");
        }
        Err((at, violation)) => {
            let secs = std::time::Duration::from_nanos(at.as_nanos());
            panic!("REALITY_SEED={seed}: at {secs:?}: {violation:?}")
        }
    }
    // Not more: a slave that lost its stream comes back five seconds later, and meanwhile nothing is as safe as it was asked to be.
    assert!(stored.iter().all(|stored| *stored > 10), "every producer stored something: {stored:?}");
    assert!(errors.is_empty(), "no log has an error: {errors:#?}");
}
