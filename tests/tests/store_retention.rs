//! Retention: what goes and when, what stays, and what readers are told of what went.
//!
//! Crashes at arbitrary points are in `store.rs`, whose model knows retention; here each rule is met by itself.

mod kit;

use std::time::Duration;

use gantry_core::broker::store::{
    AppendError, KeyKind, KeyQuery, QueryStep, ReadLimits, ReadOutcome, StoreConfig, parse_hours,
};
use gantry_core::io::{Disk, DiskError};
use gantry_core::rng::Rng;
use kit::{Bench, START_MS, draft, small};

const HOUR_MS: u64 = 3_600_000;
/// The hour of the day, UTC, at which a bench begins.
const START_HOUR: u8 = (START_MS / HOUR_MS as i64 % 24) as u8;

fn retaining() -> StoreConfig {
    StoreConfig {
        file_reserved: Duration::from_secs(72 * 3600),
        delete_hours: vec![START_HOUR],
        clean_interval: Duration::from_secs(10),
        ..small()
    }
}

/// A store with several segments, all of them in a checkpoint.
fn filled(config: StoreConfig, messages: u64) -> Bench {
    let mut bench = Bench::new(config, 1);
    for at in 0..messages {
        let properties = format!("KEYS\x01k{at}\x02");
        bench.append("T", 0, 0, properties.as_bytes(), &[at as u8; 600]);
    }
    settle(&mut bench);
    bench
}

fn settle(bench: &mut Bench) {
    for _ in 0..2 {
        bench.pass(10_000);
        bench.turns(100);
    }
}

fn segments(bench: &mut Bench) -> usize {
    bench.disk.list("commitlog").expect("a directory").len()
}

/// Sets what part of the disk is used.
fn use_per_mille(bench: &mut Bench, per_mille: u64) {
    let used: u64 = bench.disk.files().map(|(_, len)| len.next_multiple_of(4096)).sum();
    bench.disk.set_capacity(used * 1000 / per_mille);
}

#[test]
fn what_is_past_its_time_goes_when_rocketmq_lets_it_go() {
    // (hours until the look, deleteWhen, per mille of the disk used, asked for by hand, whether old segments go)
    for (hours, hour, used, asked, goes) in [
        (24, START_HOUR, 100, false, false),
        (72, START_HOUR, 100, false, true),
        (72, START_HOUR + 1, 100, false, false),
        (73, START_HOUR + 1, 100, false, true),
        (72, START_HOUR + 1, 760, false, true),
        (72, START_HOUR + 1, 740, false, false),
        (24, START_HOUR, 760, false, false),
        (72, START_HOUR + 1, 100, true, true),
        (24, START_HOUR + 1, 100, true, false),
    ] {
        let mut bench = filled(StoreConfig { delete_hours: vec![hour % 24], ..retaining() }, 30);
        let before = segments(&mut bench);
        assert!(before > 4, "enough to remove");
        bench.pass(hours * HOUR_MS);
        use_per_mille(&mut bench, used);
        if asked {
            bench.store.remove_expired();
        }
        bench.turns(100);
        let after = segments(&mut bench);
        assert_eq!(
            after < before,
            goes,
            "{hours} hours, at {hour}, {used} used, asked {asked}: {after} of {before}"
        );
        let name = bench.disk.list("commitlog").expect("a directory")[0].name.clone();
        assert_eq!(name, format!("{:020}", bench.store.log_min()));
    }
}

#[test]
fn readers_are_led_past_what_went() {
    let mut bench = filled(retaining(), 40);
    let queue = bench.queue("T", 0);
    bench.pass(72 * HOUR_MS);
    bench.turns(200);
    settle(&mut bench);
    let (min, max, log_min) =
        (bench.store.min_offset(queue), bench.store.max_offset(queue), bench.store.log_min());
    assert!(log_min > 0 && 0 < min && min < max && max == 40, "{min}..{max}, the log from {log_min}");
    // Queue files of ten entries each: the one with the minimum is the first.
    let files: Vec<String> = bench
        .disk
        .list("consumequeue/T/0")
        .expect("a directory")
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert!(files[0] >= format!("{:020}", (min - min % 10 - 10).max(0) * 20), "{min}: {files:?}");
    assert!(files[0] > format!("{:020}", 0), "{files:?}");

    let limits = ReadLimits { messages_max: 1, bytes_max: 1 };
    let read = |bench: &mut Bench, from| {
        bench.store.read_messages(queue, from, limits, |_| true, &mut bench.disk, &mut Vec::new())
    };
    assert_eq!(read(&mut bench, min - 1), Ok(ReadOutcome::TooSmall));
    assert_eq!(read(&mut bench, min), Ok(ReadOutcome::Found { next: min + 1, messages: 1 }));
    assert_eq!(
        bench.store.read_log(log_min - 1, 100, &mut bench.disk, &mut Vec::new()),
        Err(DiskError::OutOfRange)
    );
    for (at, is_there) in [(0, false), (min - 1, false), (min, true), (max - 1, true)] {
        let mut query = KeyQuery::new("T", &format!("k{at}"), KeyKind::Key, (0, i64::MAX), 9, u64::MAX);
        while bench.store.query(&mut query, &mut bench.disk).expect("no fault") != QueryStep::Done {}
        assert_eq!(query.messages(), u32::from(is_there), "k{at}");
    }
    // And so they are after every way to come back.
    for way in 0..3 {
        match way {
            0 => bench.stop(),
            1 => bench.disk.kill(),
            _ => bench.disk.power_loss(&mut Rng::from_seed(3)),
        }
        bench.disk.revive();
        bench.open();
        let queue = bench.queue("T", 0);
        assert_eq!((bench.store.min_offset(queue), bench.store.max_offset(queue)), (min, max), "way {way}");
    }
    assert_eq!(bench.append("T", 0, 0, b"", b"next").queue_offset, max);
}

#[test]
fn a_queue_without_any_message_left_goes_on_counting() {
    let mut bench = Bench::new(retaining(), 1);
    for _ in 0..23 {
        bench.append("Old", 0, 0, b"", b"old");
    }
    for at in 0..30 {
        bench.append("T", 0, 0, b"", &[at; 600]);
    }
    settle(&mut bench);
    bench.pass(72 * HOUR_MS);
    bench.turns(200);
    let old = bench.queue("Old", 0);
    assert_eq!((bench.store.min_offset(old), bench.store.max_offset(old)), (23, 23));
    bench.disk.power_loss(&mut Rng::from_seed(5));
    bench.open();
    let old = bench.queue("Old", 0);
    assert_eq!((bench.store.min_offset(old), bench.store.max_offset(old)), (23, 23));
    assert_eq!(bench.append("Old", 0, 0, b"", b"new").queue_offset, 23);
}

#[test]
fn a_full_disk_makes_room_by_force_and_takes_messages_again() {
    let mut bench = filled(retaining(), 60);
    let before = segments(&mut bench);
    use_per_mille(&mut bench, 950);
    bench.pass(10_000);
    bench.turns(1);
    let refused = bench.turn(|store, disk, now| {
        let queue = store.queue("T", 1);
        store.append(now, queue, &draft("T", 1, 0, b"", b"x"), disk).map(|_| ())
    });
    assert_eq!(refused, Err(AppendError::DiskWarning));
    // Nothing is past its time, and still what must goes; no more than that.
    for _ in 0..30 {
        bench.pass(10_000);
        bench.turns(20);
    }
    let after = segments(&mut bench);
    let space = bench.disk.space().expect("no fault");
    assert!((space.total - space.free) * 100 <= space.total * 85, "there is room again");
    assert!(after < before && after >= before / 2, "{after} of {before} segments are left");
    assert_eq!(bench.append("T", 1, 0, b"", b"x").queue_offset, 0);

    // Unless that is switched off.
    let mut bench = filled(StoreConfig { cleans_forcibly: false, ..retaining() }, 60);
    let before = segments(&mut bench);
    use_per_mille(&mut bench, 950);
    for _ in 0..5 {
        bench.pass(10_000);
        bench.turns(20);
    }
    assert_eq!(segments(&mut bench), before);
}

#[test]
fn the_last_segment_stays_and_so_does_what_no_checkpoint_covers() {
    let config = StoreConfig {
        file_reserved: Duration::ZERO,
        delete_hours: (0..24).collect(),
        checkpoint_interval: Duration::from_secs(1_000_000),
        ..retaining()
    };
    let mut bench = Bench::new(config, 1);
    for at in 0..30 {
        bench.append("T", 0, 0, b"", &[at; 600]);
    }
    bench.pass(20_000);
    bench.turns(50);
    assert_eq!(bench.store.log_min(), 0, "recovery would begin there");
    bench.pass(1_000_000_000);
    for _ in 0..5 {
        bench.pass(10_000);
        bench.turns(100);
    }
    let end = bench.store.log_end();
    assert_eq!(bench.store.log_min(), end - end % 4096, "all but the last went");
    assert_eq!(bench.append("T", 0, 0, b"", b"next").queue_offset, 30);
}

#[test]
fn hours_are_read_as_rocketmq_writes_them() {
    for (text, expect) in [
        ("04", Some(vec![4])),
        ("4;16", Some(vec![4, 16])),
        (" 04 ; 23;", Some(vec![4, 23])),
        ("", Some(vec![])),
        ("24", None),
        ("04:00", None),
    ] {
        assert_eq!(parse_hours(text), expect, "{text:?}");
    }
}
