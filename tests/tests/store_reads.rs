//! What a pull is handed: as many messages as its limits allow, exactly, and always one.

mod kit;

use gantry_core::broker::store::{ReadLimits, ReadOutcome};
use kit::{Bench, small};

#[test]
fn a_reply_ends_at_its_limits_and_not_before() {
    let mut bench = Bench::new(small(), 1);
    let starts: Vec<u64> =
        (0..4_u8).map(|at| bench.append("T", 0, 0, b"", &[at; 300]).physical_offset).collect();
    bench.turns(3);
    let record = starts[1] - starts[0];
    let queue = bench.queue("T", 0);
    // (messages at most, bytes at most, messages that come)
    for (messages_max, bytes_max, expect) in [
        (32, 4 * record, 4),
        (32, 4 * record - 1, 3),
        (32, 2 * record, 2),
        (32, 2 * record - 1, 1),
        (32, 1, 1),
        (3, 4 * record, 3),
        (1, 4 * record, 1),
    ] {
        let mut out = Vec::new();
        let limits = ReadLimits { messages_max, bytes_max };
        let read = bench.store.read_messages(queue, 0, limits, |_| true, &mut bench.disk, &mut out);
        let found = ReadOutcome::Found { next: i64::from(expect), messages: expect };
        assert_eq!(read, Ok(found), "{messages_max} messages, {bytes_max} bytes");
        assert_eq!(out.len() as u64, u64::from(expect) * record);
    }
}

#[test]
fn messages_that_a_filter_does_not_want_cost_nothing_of_a_limit() {
    let mut bench = Bench::new(small(), 1);
    let mut starts = Vec::new();
    for at in 0..6_u8 {
        let tag: &[u8] = if at % 2 == 0 { b"TAGS\x01a\x02" } else { b"TAGS\x01b\x02" };
        starts.push(bench.append("T", 0, 0, tag, &[at; 100]).physical_offset);
    }
    bench.turns(3);
    let record = starts[1] - starts[0];
    let queue = bench.queue("T", 0);
    let entries =
        bench.store.read_entries(queue, 0, 6, &mut bench.disk).expect("no fault").expect("in memory");
    let wanted = entries.expect("six entries")[0].tags_code;
    let limits = ReadLimits { messages_max: 2, bytes_max: 2 * record };
    let mut out = Vec::new();
    let read = bench.store.read_messages(queue, 1, limits, |tags| tags == wanted, &mut bench.disk, &mut out);
    assert_eq!(read, Ok(ReadOutcome::Found { next: 5, messages: 2 }));
    assert_eq!(out.len() as u64, 2 * record);
}
