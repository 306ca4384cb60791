//! Damaged stores: recovery ends at the last valid record before a flipped bit, a queue offset that cannot be right among them; a
//! missing segment and files that are not the store's are named, and nothing is removed. What follows damage is kept aside.

mod kit;

use gantry_core::broker::store::{ReadLimits, ReadOutcome, Store};
use gantry_core::io::{Disk, Effect, Env, FileKind};
use gantry_core::rng::Rng;
use kit::{Bench, small};

/// A store that was killed before its second checkpoint, with a message of 600 bytes every 700 or so.
fn killed(messages: u8) -> (Bench, Vec<u64>) {
    let mut bench = Bench::new(small(), 1);
    let starts = (0..messages).map(|at| bench.append("T", 0, 0, b"", &[at; 600]).physical_offset).collect();
    bench.turns(3);
    bench.disk.kill();
    bench.disk.revive();
    (bench, starts)
}

/// What a start says that cannot go on.
fn refusal(bench: &mut Bench) -> Option<String> {
    bench.store = Store::new(bench.config.clone());
    let (mut out, mut rng) = (Vec::new(), Rng::from_seed(1));
    bench.store.start(bench.now, &mut Env::<_, ()> { disk: &mut bench.disk, out: &mut out, rng: &mut rng });
    out.into_iter().find_map(|effect| match effect {
        Effect::Fail { reason, restart: false } => Some(reason),
        Effect::Dial { .. }
        | Effect::Send { .. }
        | Effect::Close { .. }
        | Effect::Sync { .. }
        | Effect::Replace { .. }
        | Effect::Fetch { .. }
        | Effect::Fail { .. }
        | Effect::Emit(()) => None,
    })
}

#[test]
fn recovery_ends_at_the_last_valid_record_before_the_damage() {
    // (message, byte of it, whether that is found: only the body has a checksum, and the head is checked against itself)
    for (message, byte, is_found) in [
        (0, 3, true),
        (2, 6, true),
        (3, 100, true),
        (3, 30, true),
        (4, 20, false),
        (7, 500, true),
        (9, 0, true),
    ] {
        let (mut bench, starts) = killed(10);
        let at = starts[message] + byte;
        let segment = at - at % 4096;
        assert!(bench.disk.flip_bit(&format!("commitlog/{segment:020}"), at - segment, 2));
        bench.open();
        let queue = bench.queue("T", 0);
        let kept = if is_found { message as i64 } else { bench.store.max_offset(queue) };
        assert_eq!(bench.store.max_offset(queue), kept, "byte {byte} of message {message}");
        let mut out = Vec::new();
        let limits = ReadLimits { messages_max: 32, bytes_max: 1 << 20 };
        let read = bench.store.read_messages(queue, 0, limits, |_| true, &mut bench.disk, &mut out);
        if kept > 0 {
            assert!(matches!(read, Ok(ReadOutcome::Found { .. })), "{read:?}");
        }
        assert_eq!(bench.append("T", 0, 0, b"", b"next").queue_offset, kept, "it goes on behind them");
    }
}

#[test]
fn a_damaged_record_is_not_handed_out_and_what_comes_behind_it_is() {
    // In its body, its length, its place, its checksum.
    for byte in [300, 3, 30, 10] {
        let (mut bench, starts) = killed(5);
        bench.open();
        let at = starts[2] + byte;
        let segment = at - at % 4096;
        assert!(bench.disk.flip_bit(&format!("commitlog/{segment:020}"), at - segment, 2));
        let queue = bench.queue("T", 0);
        let limits = ReadLimits { messages_max: 32, bytes_max: 1 << 20 };
        let mut read = |from| {
            let mut out = Vec::new();
            let read = bench.store.read_messages(queue, from, limits, |_| true, &mut bench.disk, &mut out);
            (read, out.len() as u64 / (starts[1] - starts[0]))
        };
        assert_eq!(read(0), (Ok(ReadOutcome::Found { next: 2, messages: 2 }), 2), "byte {byte}");
        assert_eq!(read(2), (Ok(ReadOutcome::NoMatch { next: 3 }), 0), "byte {byte}");
        assert_eq!(read(3), (Ok(ReadOutcome::Found { next: 5, messages: 2 }), 2), "byte {byte}");
    }
}

/// The file with what was cut off, and what it holds.
fn kept_aside(bench: &mut Bench) -> Option<(String, Vec<u8>)> {
    let entry = bench.disk.list("damaged").expect("a directory or none").pop()?;
    let bytes = bench.disk.peek(&format!("damaged/{}", entry.name)).expect("it is there");
    Some((entry.name, bytes))
}

/// The log's bytes from `from` to `upto`.
fn log_bytes(bench: &Bench, from: u64, upto: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from + (bytes.len() as u64) < upto {
        let at = from + bytes.len() as u64;
        let segment = at - at % 4096;
        let len = (upto - at).min(segment + 4096 - at) as usize;
        let path = format!("commitlog/{segment:020}");
        bytes.extend(bench.disk.peek_range(&path, at - segment, len).expect("it is there"));
    }
    bytes
}

#[test]
fn what_follows_damage_is_kept_aside_before_it_is_cut_off() {
    // Within a segment, up to the last byte of the log, over three segments, and by a lost page.
    for (messages, damaged, byte) in [(5, 1, 3), (5, 3, 100), (16, 2, 20), (16, 2, 6), (5, 3, 8)] {
        let (mut bench, starts) = killed(messages);
        let at = starts[damaged] + byte;
        let segment = at - at % 4096;
        assert!(bench.disk.flip_bit(&format!("commitlog/{segment:020}"), at - segment, 0));
        let end = starts.last().expect("messages") + (starts[1] - starts[0]);
        let before = log_bytes(&bench, starts[damaged], end);
        bench.disk.set_cold_ratio(300);
        bench.open();
        let queue = bench.queue("T", 0);
        if bench.store.max_offset(queue) == i64::from(messages) {
            assert_eq!(byte, 20, "only the head says that");
            continue;
        }
        assert_eq!(bench.store.max_offset(queue), damaged as i64);
        let (name, kept) = kept_aside(&mut bench).expect("it is kept");
        assert!(name.starts_with(&format!("{:020}-", starts[damaged])), "{name}");
        // The last byte of a record may be a zero, which nobody misses.
        assert!(before.starts_with(&kept) && before[kept.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(bench.append("T", 0, 0, b"", b"next").queue_offset, damaged as i64);
        // It is durable before the cut.
        let seed = u64::from(messages) + byte;
        bench.disk.power_loss(&mut Rng::from_seed(seed));
        bench.disk.revive();
        assert_eq!(kept_aside(&mut bench), Some((name, kept)));
    }
}

#[test]
fn a_torn_end_is_cut_off_without_ado() {
    let (mut bench, starts) = killed(5);
    let at = starts[4] + 300;
    let path = format!("commitlog/{:020}", at - at % 4096);
    assert!(bench.disk.flip_bit(&path, at % 4096, 2));
    bench.open();
    let queue = bench.queue("T", 0);
    assert_eq!((bench.store.max_offset(queue), kept_aside(&mut bench)), (4, None));
}

#[test]
fn without_room_to_keep_it_aside_nothing_is_cut_off() {
    let (mut bench, starts) = killed(16);
    assert!(bench.disk.flip_bit(&format!("commitlog/{:020}", 0), starts[1] + 3, 0));
    let before = log_bytes(&bench, 0, starts[15]);
    let used = bench.disk.space().map(|space| space.total - space.free).expect("a figure");
    let reason = loop_until_refused(&mut bench, used / 2);
    assert!(reason.contains("commitlog/00000000000000000000 at byte"), "{reason}");
    assert!(reason.contains("no space left") && reason.contains("damaged/"), "{reason}");
    assert_eq!(log_bytes(&bench, 0, starts[15]), before, "nothing was changed");
    assert_eq!(kept_aside(&mut bench), None, "and no room is taken");
    bench.disk.kill();
    bench.disk.revive();
    bench.disk.set_capacity(u64::MAX);
    bench.open();
    let queue = bench.queue("T", 0);
    assert_eq!(bench.store.max_offset(queue), 1);
    assert!(kept_aside(&mut bench).is_some());
}

/// What a start says, turn by turn, on a disk of so many bytes.
fn loop_until_refused(bench: &mut Bench, capacity: u64) -> String {
    bench.disk.set_capacity(capacity);
    if let Some(reason) = refusal(bench) {
        return reason;
    }
    for _ in 0..1000 {
        let (mut out, mut done) = (Vec::new(), Vec::new());
        bench.disk.reap(&mut done);
        let mut env = Env::<_, ()> { disk: &mut bench.disk, out: &mut out, rng: &mut bench.rng };
        bench.store.settle(bench.now, &mut env);
        for effect in out {
            match effect {
                Effect::Fail { reason, restart: false } => return reason,
                Effect::Sync { .. } | Effect::Replace { .. } => panic!("it asks for a sync"),
                Effect::Fetch { .. }
                | Effect::Fail { .. }
                | Effect::Dial { .. }
                | Effect::Send { .. }
                | Effect::Close { .. }
                | Effect::Emit(()) => {}
            }
        }
    }
    panic!("it starts");
}

#[test]
fn a_missing_segment_is_named_and_nothing_is_removed() {
    let (mut bench, _) = killed(30);
    bench.disk.delete("commitlog/00000000000000008192").expect("it is there");
    let names = |bench: &mut Bench| bench.disk.list("commitlog").expect("a directory");
    let before = names(&mut bench);
    let reason = refusal(&mut bench).expect("it does not start");
    assert!(reason.contains("commitlog/00000000000000012288") && reason.contains("8192"), "{reason}");
    assert_eq!(names(&mut bench), before);
}

#[test]
fn what_is_no_file_of_the_store_is_named() {
    for path in ["commitlog/notes.txt", "consumequeue/T/0/notes.txt", "consumequeue/T/x/00000000000000000000"]
    {
        let (mut bench, _) = killed(5);
        let file = bench.disk.create(path, 10, gantry_core::io::FileKind::Table).expect("room");
        bench.disk.close(file);
        let reason = refusal(&mut bench).expect("it does not start");
        assert!(reason.contains(path.trim_end_matches("/00000000000000000000")), "{reason}");
    }
}

#[test]
fn a_queue_with_a_file_missing_or_short_in_the_middle_is_read_from_the_log_again() {
    for (harm, cold) in [("missing", 0), ("missing", 300), ("short", 0)] {
        let (mut bench, _) = killed(1);
        bench.open();
        for at in 1..60u8 {
            bench.append("T", 0, 0, b"", &[at; 40]);
            bench.append("U", 0, 0, b"", &[at; 40]);
        }
        bench.pass(3000);
        bench.turns(10);
        bench.stop();
        let path = "consumequeue/T/0/00000000000000000400";
        if harm == "missing" {
            bench.disk.delete(path).expect("it is there");
        } else {
            let file = bench.disk.open(path, gantry_core::io::FileKind::Table).expect("it is there");
            bench.disk.truncate(file, 60).expect("room");
            bench.disk.close(file);
        }
        bench.disk.set_cold_ratio(cold);
        bench.disk.kill_at_operation(u64::from(cold / 20));
        bench.open();
        bench.disk.kill_at_operation(0);
        for (topic, count) in [("T", 60), ("U", 59)] {
            let queue = bench.queue(topic, 0);
            assert_eq!((bench.store.min_offset(queue), bench.store.max_offset(queue)), (0, count), "{harm}");
            for offset in 0..count {
                let time = bench.warm(|store, disk| store.store_timestamp(queue, offset, disk));
                assert!(time.is_some(), "{topic} {offset} is there");
            }
        }
        assert_eq!(bench.append("T", 0, 0, b"", b"next").queue_offset, 60);
        bench.pass(3000);
        bench.turns(10);
        bench.disk.power_loss(&mut Rng::from_seed(5));
        bench.disk.revive();
        bench.open();
        let queue = bench.queue("T", 0);
        assert_eq!(bench.store.max_offset(queue), 61);
    }
}

#[test]
fn a_truncated_index_file_does_not_stop_the_store() {
    for len in [0, 10, 40, 500] {
        let (mut bench, _) = killed(1);
        bench.open();
        for at in 0..40u8 {
            bench.append("T", 0, 0, format!("KEYS\x01k{at}\x02").as_bytes(), b"m");
        }
        bench.pass(3000);
        bench.turns(20);
        let names = bench.disk.list("index").expect("a directory");
        let path = format!("index/{}", names.first().expect("a file of keys").name);
        bench.disk.kill();
        bench.disk.revive();
        let file = bench.disk.open(&path, gantry_core::io::FileKind::Table).expect("it is there");
        bench.disk.truncate(file, len).expect("room");
        bench.disk.close(file);
        bench.open();
        let queue = bench.queue("T", 0);
        assert_eq!(bench.store.max_offset(queue), 41);
        assert_eq!(bench.append("T", 0, 0, b"KEYS\x01new\x02", b"m").queue_offset, 41);
    }
}

#[test]
fn entries_behind_a_lost_end_of_the_log_never_come_true() {
    let (mut bench, _) = killed(1);
    bench.open();
    for at in 0..30u8 {
        bench.append("T", 0, 0, b"", &[at; 600]);
    }
    bench.pass(3000);
    bench.turns(10);
    bench.stop();
    // Somebody removed the newest segments after a clean stop.
    let names: Vec<String> =
        bench.disk.list("commitlog").expect("a directory").into_iter().map(|entry| entry.name).collect();
    for name in &names[1..] {
        bench.disk.delete(&format!("commitlog/{name}")).expect("it is there");
    }
    bench.open();
    let queue = bench.queue("T", 0);
    let left = bench.store.max_offset(queue);
    assert!((1..10).contains(&left), "{left}");
    // The log grows beyond where those entries point, and dies.
    for at in 0..60u8 {
        bench.append("U", 0, 0, b"", &[at; 600]);
    }
    bench.pass(3000);
    bench.turns(10);
    bench.disk.kill();
    bench.disk.revive();
    bench.open();
    let queue = bench.queue("T", 0);
    assert_eq!(bench.store.max_offset(queue), left);
}

#[test]
fn a_place_of_the_cut_within_a_record_ends_the_log_before_that_record() {
    let (mut bench, _) = killed(1);
    bench.open();
    let starts: Vec<u64> =
        (0..30u8).map(|at| bench.append("T", 0, 0, b"", &[at; 600]).physical_offset).collect();
    bench.pass(3000);
    bench.turns(10);
    bench.stop();
    // The checkpoint lies behind the place, so that recovery would begin there.
    let file = bench.disk.create("cutLogTo", 0, FileKind::Journal).expect("room");
    bench.disk.write(file, 0, (starts[20] + 100).to_string().as_bytes()).expect("room");
    bench.open();
    assert_eq!(bench.store.log_end(), starts[20]);
    let queue = bench.queue("T", 0);
    assert_eq!(bench.store.max_offset(queue), 21, "the one before the thirty, and twenty of them");
    assert_eq!(bench.append("T", 0, 0, b"", b"next").physical_offset, starts[20]);
}
