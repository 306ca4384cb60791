//! A disk that is nearly full refuses messages, serves them, and takes them again once there is room.

mod kit;

use gantry_core::broker::store::{AppendError, ReadLimits, ReadOutcome};
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
