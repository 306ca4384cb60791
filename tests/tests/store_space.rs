//! A disk that is nearly full refuses messages, serves them, and takes them again once there is room.

mod kit;

use gantry_core::broker::store::{AppendError, ReadLimits, ReadOutcome, StoreConfig};
use kit::{Bench, draft, small};

#[test]
fn above_the_warning_ratio_messages_are_refused_and_read() {
    let mut bench = Bench::new(small(), 1);
    bench.append("T", 0, 0, b"KEYS\x01k\x02", b"first");
    // (per mille of the disk used, how it goes on)
    for (used_per_mille, expected) in
        [(901, Err(AppendError::DiskWarning)), (890, Ok(())), (999, Err(AppendError::DiskWarning))]
    {
        bench.disk.set_capacity(1 << 30);
        bench.pass(10_000);
        bench.turns(50);
        let used: u64 = bench.disk.files().map(|(_, len)| len.next_multiple_of(4096)).sum();
        bench.disk.set_capacity(used * 1000 / used_per_mille);
        bench.pass(10_000);
        bench.turns(1);
        let appended = bench.turn(|store, disk, now| {
            let queue = store.queue("T", 1);
            store.append(now, queue, &draft("T", 1, 0, b"", b"next"), disk).map(|_| ())
        });
        assert_eq!(appended, expected, "{used_per_mille} per mille");
        let queue = bench.queue("T", 0);
        let limits = ReadLimits { messages_max: 1, bytes_max: 1 };
        let read = bench.store.read_messages(queue, 0, limits, |_| true, &mut bench.disk, &mut Vec::new());
        assert_eq!(read, Ok(ReadOutcome::Found { next: 1, messages: 1 }));
    }
    bench.disk.set_capacity(1 << 30);
    bench.stop();
}

#[test]
fn a_checkpoint_waits_for_room_and_nothing_else_does() {
    let mut bench = Bench::new(small(), 1);
    bench.append("T", 0, 0, b"", b"first");
    bench.pass(3000);
    bench.turns(10);
    let checkpoint = bench.disk.peek("checkpoint").expect("written");
    bench.append("T", 0, 0, b"", b"second");
    let used: u64 = bench.disk.files().map(|(_, len)| len.next_multiple_of(4096)).sum();
    bench.disk.set_capacity(used);
    bench.pass(3000);
    // A failure here would end the test.
    bench.turns(20);
    assert_eq!(bench.disk.peek("checkpoint").as_ref(), Some(&checkpoint), "there was no room for it");
    let queue = bench.queue("T", 0);
    let limits = ReadLimits { messages_max: 1, bytes_max: 1 };
    let read = bench.store.read_messages(queue, 1, limits, |_| true, &mut bench.disk, &mut Vec::new());
    assert_eq!(read, Ok(ReadOutcome::Found { next: 2, messages: 1 }));
    bench.disk.set_capacity(1 << 30);
    bench.pass(3000);
    bench.turns(20);
    assert_ne!(bench.disk.peek("checkpoint"), Some(checkpoint), "it was written later");
    bench.stop();
}

#[test]
fn a_burst_between_two_looks_does_not_fill_the_disk() {
    let mut bench = Bench::new(small(), 1);
    bench.append("T", 0, 0, b"", b"first");
    bench.turns(5);
    // Half of it is used, and no time passes.
    let used: u64 = bench.disk.files().map(|(_, len)| len.next_multiple_of(4096)).sum();
    let room = used + 40 * bench.config.segment_bytes;
    bench.disk.set_capacity(room);
    let mut refused = None;
    for at in 0..10_000 {
        let appended = bench.turn(|store, disk, now| {
            let queue = store.queue("T", 0);
            store.append(now, queue, &draft("T", 0, 0, b"", &[at as u8; 600]), disk)
        });
        bench.disk.complete_all();
        match appended {
            Ok(_) | Err(AppendError::NotReady) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused, Some(AppendError::DiskWarning));
    assert!(bench.disk.used() < room, "there is room left to serve and to spill");
}

/// A store of which segments may go for want of room, with a reserve, and a disk that others have filled to the last byte while a
/// checkpoint was due.
fn full_disk(reserve_bytes: u64) -> Bench {
    let mut bench = Bench::new(StoreConfig { reserve_bytes, ..small() }, 1);
    // Queues enough that their entries need room, too.
    for at in 0..60_u8 {
        bench.append("T", i32::from(at % 5), 0, b"KEYS\x01k\x02", &[at; 600]);
        bench.turns(3);
    }
    let used = bench.disk.used();
    bench.disk.set_capacity(used);
    bench.pass(10_000);
    bench.turns(3);
    bench
}

fn has_reserve(bench: &Bench) -> bool {
    bench.disk.files().any(|(name, _)| name == "gantryReserve")
}

fn append(bench: &mut Bench) -> Result<(), AppendError> {
    bench.turn(|store, disk, now| {
        let queue = store.queue("T", 1);
        store.append(now, queue, &draft("T", 1, 0, b"", &[7; 600]), disk).map(|_| ())
    })
}

#[test]
fn the_reserve_lets_a_full_disk_make_room_for_itself() {
    let mut bench = full_disk(20 * 4096);
    assert!(!has_reserve(&bench), "it is given up");
    assert_eq!(append(&mut bench), Err(AppendError::DiskWarning), "what it gave is not for messages");
    let before = bench.store.log_min();
    for _ in 0..20 {
        bench.pass(10_000);
        bench.turns(40);
    }
    assert!(bench.store.log_min() > before, "the oldest messages have gone");
    assert!(has_reserve(&bench), "there is room for it again");
    assert_eq!(append(&mut bench), Ok(()));
    bench.stop();
}

#[test]
fn without_a_reserve_a_full_disk_stays_full() {
    let mut bench = full_disk(0);
    let before = bench.store.log_min();
    for _ in 0..20 {
        bench.pass(10_000);
        bench.turns(40);
    }
    assert_eq!(bench.store.log_min(), before);
    assert!(append(&mut bench).is_err());
}

#[test]
fn a_broker_that_starts_on_a_full_disk_uses_its_reserve_first() {
    let mut bench = Bench::new(StoreConfig { reserve_bytes: 20 * 4096, ..small() }, 1);
    bench.append("T", 0, 0, b"", b"first");
    bench.stop();
    let used = bench.disk.used();
    bench.disk.set_capacity(used);
    bench.open();
    assert!(!has_reserve(&bench));
    bench.disk.set_capacity(1 << 30);
    bench.pass(10_000);
    bench.turns(5);
    assert!(has_reserve(&bench));
    bench.stop();
    // Another length is wanted from then on.
    bench.config.reserve_bytes = 4096;
    bench.open();
    assert_eq!(bench.disk.files().find(|(name, _)| name == "gantryReserve").map(|(_, len)| len), Some(4096));
    bench.config.reserve_bytes = 0;
    bench.stop();
    bench.open();
    assert!(!has_reserve(&bench));
}
