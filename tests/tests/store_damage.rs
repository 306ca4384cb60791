//! Damaged stores: recovery ends at the last valid record before a flipped bit, a queue offset that cannot be right among them; a
//! missing segment and files that are not the store's are named, and nothing is removed.

mod kit;

use gantry_core::broker::store::{ReadLimits, ReadOutcome, Store};
use gantry_core::io::{Disk, Effect, Env};
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
