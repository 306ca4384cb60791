//! Search by time, against what a look at every message says.

mod kit;

use gantry_core::broker::store::Boundary;
use kit::{Bench, START_MS, small};

/// Times of a queue's messages after the start, ms, with ties.
const TIMES: [i64; 25] =
    [5, 5, 5, 9, 20, 20, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 40, 41, 42, 43, 60, 60, 60, 99];

fn bench(cold: u32) -> Bench {
    let mut bench = Bench::new(small(), 3);
    for (at, time) in TIMES.iter().enumerate() {
        bench.pass((START_MS + time - bench.now.wall.0) as u64);
        // Another queue's messages lie between.
        bench.append("T", 1, 0, b"", b"other");
        let appended = bench.append("T", 0, 0, b"TAGS\x01a\x02", &[7; 300]);
        assert_eq!((appended.queue_offset, appended.store_timestamp), (at as i64, START_MS + time));
    }
    bench.turns(3);
    bench.disk.set_cold_ratio(cold);
    bench
}

fn expected(time: i64, boundary: Boundary) -> i64 {
    let before = |limit: fn(i64, i64) -> bool| TIMES.iter().take_while(|at| limit(**at, time)).count() as i64;
    match boundary {
        Boundary::Lower => before(|at, time| at < time),
        Boundary::Upper => (before(|at, time| at <= time) - 1).max(0),
    }
}

fn check(cold: u32) {
    let mut bench = bench(cold);
    let queue = bench.queue("T", 0);
    for time in -1..120 {
        for boundary in [Boundary::Lower, Boundary::Upper] {
            let found =
                bench.warm(|store, disk| store.offset_by_time(queue, START_MS + time, boundary, disk));
            assert_eq!(found, expected(time, boundary), "{time} {boundary:?}");
        }
    }
    for (at, time) in TIMES.iter().enumerate() {
        let stored = bench.warm(|store, disk| store.store_timestamp(queue, at as i64, disk));
        assert_eq!(stored, Some(START_MS + time));
    }
    for outside in [-1, TIMES.len() as i64] {
        assert_eq!(bench.warm(|store, disk| store.store_timestamp(queue, outside, disk)), None);
    }
}

#[test]
fn a_time_is_found_in_memory() {
    check(0);
}

#[test]
fn a_time_is_found_on_a_cold_disk() {
    check(600);
}

#[test]
fn an_empty_queue_answers_its_beginning() {
    let mut bench = Bench::new(small(), 3);
    let queue = bench.queue("T", 0);
    for boundary in [Boundary::Lower, Boundary::Upper] {
        assert_eq!(bench.warm(|store, disk| store.offset_by_time(queue, START_MS, boundary, disk)), 0);
    }
}

#[test]
fn messages_that_arrive_while_a_search_waits_are_searched_too() {
    let mut bench = bench(1000);
    let queue = bench.queue("T", 0);
    let late = START_MS + 200;
    let mut cold = Ok(0);
    while cold.is_ok() {
        cold = bench.store.offset_by_time(queue, late, Boundary::Lower, &mut bench.disk).expect("no fault");
    }
    bench.disk.set_cold_ratio(0);
    bench.pass(50);
    bench.append("T", 0, 0, b"", b"before");
    bench.pass(150);
    bench.append("T", 0, 0, b"", b"after");
    let found = bench.warm(|store, disk| store.offset_by_time(queue, late, Boundary::Lower, disk));
    assert_eq!(found, TIMES.len() as i64 + 1);
}
