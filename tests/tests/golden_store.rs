//! A store that RocketMQ 5.5.0 wrote is opened by Gantry's store: every message of every queue, and the queues' ends.
//!
//! The store lies in `golden/store`, without its zeros (see `golden/sparse.py`). Both ends of a store are tried: as the clean stop
//! left it, and with an `abort` file, as after a crash. Not covered: what Gantry's broker makes of `config/`.

use std::fs;
use std::path::{Path, PathBuf};

use gantry_core::broker::store::{
    FlushMode, KeyKind, KeyQuery, QueryStep, ReadLimits, ReadOutcome, Store, StoreConfig,
};
use gantry_core::io::{Disk, Done, Effect, Env, FileKind, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::message::{Entry, Record, property};
use gantry_disk::MemoryDisk;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/store/java-5.5.0-json")
}

/// The golden store on a disk in memory.
fn load() -> MemoryDisk {
    let mut disk = MemoryDisk::new(Rng::from_seed(1));
    let index = fs::read(golden().join("index.json")).expect("the golden store is there");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    for file in index.as_array().expect("a list") {
        let path = file["path"].as_str().expect("a path");
        let size = file["size"].as_u64().expect("a size");
        let bytes = fs::read(golden().join(path)).expect("its bytes are there");
        let id = disk.create(path, size, FileKind::Table).expect("room in memory");
        let mut rest = &bytes[..];
        for run in file["runs"].as_array().expect("runs") {
            let (offset, len) = (run[0].as_u64().expect("offset"), run[1].as_u64().expect("length"));
            let (now, later) = rest.split_at(len as usize);
            disk.write(id, offset, now).expect("within the file");
            rest = later;
        }
        assert!(rest.is_empty(), "{path}");
        disk.close(id);
    }
    disk
}

struct Opened {
    store: Store,
    disk: MemoryDisk,
}

fn open(mut disk: MemoryDisk) -> Opened {
    let mut store = Store::new(StoreConfig { flush: FlushMode::Async, ..StoreConfig::default() });
    let now = Now { mono: Instant::ZERO, wall: WallMs(1_800_000_000_000) };
    let (mut out, mut rng): (Vec<Effect<()>>, Rng) = (Vec::new(), Rng::from_seed(2));
    let mut env = Env { disk: &mut disk, out: &mut out, rng: &mut rng };
    store.start(now, &mut env);
    for _ in 0..1000 {
        let mut done = Vec::new();
        env.disk.complete_all();
        env.disk.reap(&mut done);
        for done in done {
            let Done::Synced(id, result) = done else { panic!("nothing is cold") };
            store.on_synced(now, id, result, &mut env);
        }
        store.settle(now, &mut env);
        for effect in env.out.drain(..) {
            let Effect::Sync { id, target } = effect else { panic!("{effect:?}") };
            env.disk.sync(id, target);
        }
        if store.is_ready() {
            return Opened { store, disk };
        }
    }
    panic!("recovery does not end");
}

/// The record is found by each of its keys.
fn check_keys(record: &Record<'_>, store: &Store, disk: &mut MemoryDisk) {
    let texts = |name: &[u8]| {
        let text = String::from_utf8(property(record.properties, name).unwrap_or_default().to_vec());
        text.expect("text").split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let keys = [texts(b"UNIQ_KEY"), texts(b"KEYS")].concat().into_iter().map(|key| (key, KeyKind::Key));
    for (key, kind) in keys.chain(texts(b"TAGS").into_iter().map(|tags| (tags, KeyKind::Tags))) {
        let mut query = KeyQuery::new(record.topic, &key, kind, (0, i64::MAX), 10_000, u64::MAX);
        while store.query(&mut query, disk).expect("no fault") != QueryStep::Done {}
        let mut found = 0;
        let mut rest = query.records();
        while !rest.is_empty() {
            let Ok(Entry::Message(other)) = Entry::decode(rest) else { panic!("not a record") };
            found += u32::from(other.physical_offset == record.physical_offset);
            rest = &rest[other.size as usize..];
        }
        assert_eq!(found, 1, "{} {key} {kind:?}", record.topic);
    }
}

/// Topic, queue and how many messages, as the consume-queue files say by their length.
fn check(mut opened: Opened) {
    let mut queues = Vec::new();
    opened.store.for_each_queue(|topic, id, queue| queues.push((topic.to_string(), id, queue)));
    let mut messages = 0;
    for (topic, id, queue) in &queues {
        let limits = ReadLimits { messages_max: 32, bytes_max: 1 << 20 };
        let mut from = opened.store.min_offset(*queue);
        loop {
            let mut out = Vec::new();
            let read = opened.store.read_messages(*queue, from, limits, |_| true, &mut opened.disk, &mut out);
            let ReadOutcome::Found { next, .. } = read.expect("no fault") else { break };
            let mut rest = &out[..];
            for at in from..next {
                let Ok(Entry::Message(record)) = Entry::decode(rest) else { panic!("{topic} {id} {at}") };
                assert_eq!((record.topic, record.queue_id, record.queue_offset), (topic.as_str(), *id, at));
                record.verify(record.physical_offset).expect("as Java wrote it");
                check_keys(&record, &opened.store, &mut opened.disk);
                rest = &rest[record.size as usize..];
                messages += 1;
            }
            from = next;
        }
        assert_eq!(from, opened.store.max_offset(*queue));
    }
    let traffic: i64 = queues
        .iter()
        .filter(|(topic, _, _)| topic == "Traffic")
        .map(|(_, _, queue)| opened.store.max_offset(*queue))
        .sum();
    assert!(traffic > 15, "the messages of the captured run are there: {traffic}");
    assert!(messages > 100, "{messages}");
    // 75346 bytes of records, and what Java keeps zero at the end of the last one's header.
    assert_eq!(opened.store.log_end(), 75_348);
}

#[test]
fn a_store_that_java_closed_is_opened() {
    check(open(load()));
}

#[test]
fn a_store_that_java_left_is_recovered() {
    let mut disk = load();
    disk.create("abort", 0, FileKind::Journal).expect("room");
    check(open(disk));
}

#[test]
fn a_store_without_its_checkpoint_is_recovered_from_the_log() {
    let mut disk = load();
    disk.create("abort", 0, FileKind::Journal).expect("room");
    disk.delete("checkpoint").expect("it is there");
    check(open(disk));
}
