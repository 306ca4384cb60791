//! The key index: which messages a query gives, with full files, many blocks of slots, RocketMQ's limits and cold disks.
//!
//! Crashes at arbitrary points of everything are in `store.rs`; here power is lost in the middle of merges only.

mod kit;

use gantry_core::broker::store::{KeyKind, KeyQuery, QueryStep, StoreConfig};
use gantry_core::io::{Disk, FetchId};
use gantry_core::rng::Rng;
use gantry_core::wire::message::{Entry, sys_flag};
use kit::{Bench, START_MS, small};

const ALL: (i64, i64) = (0, i64::MAX);

/// Physical offsets found, newest first.
fn find(bench: &mut Bench, key: &str, kind: KeyKind, times: (i64, i64), max: u32) -> Vec<u64> {
    let mut query = KeyQuery::new("T", key, kind, times, max, u64::MAX);
    let mut fetch = 4 << 56;
    loop {
        match bench.store.query(&mut query, &mut bench.disk).expect("no fault") {
            QueryStep::Done => break,
            QueryStep::More => {}
            QueryStep::Cold(extent) => {
                fetch += 1;
                bench.disk.fetch(FetchId(fetch), extent);
                bench.disk.complete_all();
                bench.turn(|_, _, _| {});
            }
        }
    }
    let mut found = Vec::new();
    let mut rest = query.records();
    while !rest.is_empty() {
        let Ok(Entry::Message(record)) = Entry::decode(rest) else { panic!("not a record") };
        found.push(record.physical_offset as u64);
        rest = &rest[record.size as usize..];
    }
    found
}

/// Lets everything reach the index files.
fn merge(bench: &mut Bench) {
    for _ in 0..3 {
        bench.pass(10_000);
        bench.turns(300);
    }
    let left = bench.store.deadline().filter(|(_, why)| *why != "retention");
    assert_eq!(left, None, "nothing is left to do");
}

#[test]
fn every_kind_of_key_is_found_on_the_heap_and_in_files() {
    let mut bench = Bench::new(small(), 1);
    let mut at = Vec::new();
    for properties in [
        &b"UNIQ_KEY\x01u0\x02KEYS\x01a  b\x02TAGS\x01tag\x02"[..],
        b"KEYS\x01b\x02",
        b"",
        b"KEYS\x01\xc3\xa4 c\x02TAGS\x01a\x02",
    ] {
        at.push(bench.append("T", 0, 0, properties, &[1; 200]).physical_offset);
    }
    let half =
        bench.append("T", 0, sys_flag::TRANSACTION_PREPARED, b"KEYS\x01half\x02", b"h").physical_offset;
    bench.append("T", 0, sys_flag::TRANSACTION_ROLLBACK, b"KEYS\x01rolled\x02", b"r");
    bench.append("Other", 0, 0, b"KEYS\x01a b\x02", b"o");
    bench.turns(2);
    for place in ["heap", "files", "files, again open"] {
        let mut check = |key: &str, kind, expected: &[u64]| {
            assert_eq!(find(&mut bench, key, kind, ALL, 64), expected, "{key} {kind:?} in {place}");
        };
        check("u0", KeyKind::Key, &[at[0]]);
        check("a", KeyKind::Key, &[at[0]]);
        check("b", KeyKind::Key, &[at[1], at[0]]);
        check("\u{e4}", KeyKind::Key, &[at[3]]);
        check("tag", KeyKind::Tags, &[at[0]]);
        check("a", KeyKind::Tags, &[at[3]]);
        check("half", KeyKind::Key, &[half]);
        for missing in ["tag", "rolled", "x", ""] {
            check(missing, KeyKind::Key, &[]);
        }
        if place == "heap" {
            merge(&mut bench);
        } else {
            bench.stop();
            bench.open();
        }
    }
}

/// Many files of RocketMQ's layout, some of them full, with a cold disk if asked for.
fn check_many(config: StoreConfig, messages: usize, cold: u32) {
    let mut bench = Bench::new(config, 9);
    bench.disk.set_cold_ratio(cold);
    let mut at = Vec::new();
    for serial in 0..messages {
        bench.pass(700);
        let properties = format!("UNIQ_KEY\x01u{serial}\x02KEYS\x01even{}\x02", serial % 2);
        at.push(bench.append("T", 0, 0, properties.as_bytes(), &[1; 100]).physical_offset);
    }
    for round in 0..2 {
        for (serial, physical) in at.iter().enumerate() {
            assert_eq!(
                find(&mut bench, &format!("u{serial}"), KeyKind::Key, ALL, 64),
                [*physical],
                "{round}"
            );
        }
        let even: Vec<u64> = at.iter().step_by(2).rev().copied().collect();
        assert_eq!(find(&mut bench, "even0", KeyKind::Key, ALL, 10_000), even);
        assert_eq!(find(&mut bench, "even0", KeyKind::Key, ALL, 3), even[..3]);
        // Message n was stored at 700 (n + 1) ms; times count to the second.
        let (from, upto) = (START_MS + 700 * 11, START_MS + 700 * 15);
        let found = find(&mut bench, "even0", KeyKind::Key, (from, upto), 64);
        for inside in [at[10], at[12], at[14]] {
            assert!(found.contains(&inside), "{found:?}");
        }
        assert!(!found.contains(&at[6]) && !found.contains(&at[18]), "{found:?}");
        merge(&mut bench);
    }
}

#[test]
fn keys_are_found_over_many_small_files() {
    check_many(small(), 200, 0);
}

#[test]
fn keys_are_found_on_a_cold_disk() {
    check_many(small(), 60, 400);
}

#[test]
fn keys_are_found_in_a_file_of_rocketmqs_size() {
    check_many(StoreConfig { index_batch_entries: 100, ..StoreConfig::default() }, 200, 0);
}

/// Power is lost some turns into a merge, with some of its syncs complete, and again in the repetition.
#[test]
fn power_loss_in_a_merge_loses_no_key() {
    // Header, slots and entries lie in pages of their own.
    let config = || StoreConfig { index_slots: 3_100, index_entries: 400, ..small() };
    for seed in 0..2_000 {
        let mut bench = Bench::new(config(), seed);
        let mut chance = Rng::from_seed(seed);
        let mut last = 0;
        for round in 0..3 {
            for _ in 0..12 {
                last += 1;
                let properties = format!("UNIQ_KEY\x01u{last}\x02KEYS\x01all\x02");
                bench.append("T", 0, 0, properties.as_bytes(), &[1; 20]);
            }
            if round == 0 {
                merge(&mut bench);
                continue;
            }
            bench.pass(10_000);
            for _ in 0..chance.below(10) {
                bench.turn(|_, _, _| {});
                let tickets: Vec<_> = bench.disk.pending().map(|pending| pending.ticket).collect();
                for ticket in tickets {
                    if chance.one_in(4) {
                        bench.disk.complete(ticket, Ok(()));
                    }
                }
            }
            bench.disk.power_loss(&mut chance);
            bench.open();
            let queue = bench.queue("T", 0);
            last = bench.store.max_offset(queue);
            for serial in 1..=last {
                let found = find(&mut bench, &format!("u{serial}"), KeyKind::Key, ALL, 64);
                assert_eq!(found.len(), 1, "u{serial} of {last}, seed {seed}, round {round}");
            }
            let all = find(&mut bench, "all", KeyKind::Key, ALL, 64);
            assert_eq!(all.len() as i64, last, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn a_file_has_rocketmqs_bytes() {
    let config = StoreConfig { time_zone_offset_ms: 8 * 3_600_000, index_batch_entries: 1 << 18, ..small() };
    let mut bench = Bench::new(config, 1);
    let first = bench.append("T", 0, 0, b"KEYS\x01k k\x02", b"1");
    bench.pass(2500);
    let second = bench.append("T", 0, 0, b"KEYS\x01k\x02", b"2");
    merge(&mut bench);
    let files: Vec<_> = bench.disk.files().filter(|(path, _)| path.starts_with("index/")).collect();
    // 2023-11-14 22:13:20 UTC and the 2.5 s until the checkpoint.
    assert_eq!(files, [("index/20231115061322500".to_owned(), 40 + 64 * 4 + 50 * 20)]);
    let bytes = bench.disk.peek(&files[0].0).expect("it is there");
    let hash = 81_916u32;
    let mut expected = Vec::new();
    for time in [START_MS, START_MS + 2500] {
        expected.extend(time.to_be_bytes());
    }
    for physical in [first.physical_offset, second.physical_offset] {
        expected.extend(physical.to_be_bytes());
    }
    expected.extend(1u32.to_be_bytes());
    expected.extend(4u32.to_be_bytes());
    assert_eq!(bytes[..40], expected);
    let slot = 40 + (hash % 64) as usize * 4;
    assert_eq!(bytes[slot..slot + 4], 3u32.to_be_bytes());
    for (number, physical, seconds, previous) in
        [(1u32, first, 0u32, 0u32), (2, first, 0, 1), (3, second, 2, 2)]
    {
        let at = 40 + 64 * 4 + number as usize * 20;
        let mut entry = hash.to_be_bytes().to_vec();
        entry.extend(physical.physical_offset.to_be_bytes());
        entry.extend(seconds.to_be_bytes());
        entry.extend(previous.to_be_bytes());
        assert_eq!(bytes[at..at + 20], entry, "entry {number}");
    }
}

#[test]
fn a_failing_index_does_not_stop_messages() {
    let mut bench = Bench::new(small(), 1);
    bench.append("T", 0, 0, b"KEYS\x01k\x02", b"1");
    merge(&mut bench);
    let (path, _) = bench.disk.files().find(|(path, _)| path.starts_with("index/")).expect("a file");
    assert!(bench.disk.damage_sector(&path, 40));
    bench.append("T", 0, 0, b"KEYS\x01k\x02", b"2");
    merge(&mut bench);
    let last = bench.append("T", 0, 0, b"KEYS\x01k\x02", b"3");
    assert_eq!(last.queue_offset, 2);
    bench.stop();
}
