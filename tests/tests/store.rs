//! The store against a small model: arbitrary appends, turns, syncs, crashes and reopenings over the disk with faults.
//!
//! The model is a list of messages per queue with how safe each was known to be. After a reopening the store must hold, in each
//! queue, a prefix of what was appended that covers everything the flush mode promised; what it holds must read back byte for
//! byte; and nothing that was visible may have changed. Each held message is found by its keys, each lost one is not.
//! A topic is deleted, and the list of deletions becomes durable some time later: then its queues begin at 0, with nothing of before.
//! Where retention is on, whole segments go from the beginning of the log, and each queue begins at its first message behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::broker::store::{
    AppendError, FlushMode, KeyKind, KeyQuery, QueryStep, QueueIx, ReadLimits, ReadOutcome, Store,
    StoreConfig,
};
use gantry_core::io::{Disk, Done, Effect, Env, FetchId, FileKind, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::message::{Draft, Entry};
use gantry_disk::MemoryDisk;
use proptest::prelude::*;

const QUEUES: i32 = 3;
/// Every message has one of so many keys in common with others.
const GROUPS: u64 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Append messages of such body sizes to queues, in one turn.
    Append(Vec<(i32, usize)>),
    /// A turn without appends.
    Turn,
    /// Time passes.
    Pass(u64),
    /// Complete some of the pending syncs, in some order.
    Complete(u64),
    /// Process death.
    Kill,
    /// Process death at the n-th disk operation from now on.
    KillAt(u64),
    /// Power loss.
    Power,
    /// Clean stop and start.
    Restart,
    /// Read all queues.
    Read,
    /// Delete the topic.
    Delete,
    /// The list of deleted topics becomes durable.
    Durable,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec((0..QUEUES, 0..600usize), 1..8).prop_map(Op::Append),
        2 => Just(Op::Turn),
        2 => (1..3000u64).prop_map(Op::Pass),
        4 => any::<u64>().prop_map(Op::Complete),
        1 => Just(Op::Kill),
        1 => (0..12u64).prop_map(Op::KillAt),
        1 => Just(Op::Power),
        1 => Just(Op::Restart),
        1 => Just(Op::Read),
        1 => Just(Op::Delete),
        2 => Just(Op::Durable),
    ]
}

struct World {
    store: Store,
    disk: MemoryDisk,
    config: StoreConfig,
    now: Now,
    rng: Rng,
    out: Vec<Effect<()>>,
    /// Bodies per queue, in order.
    sent: BTreeMap<i32, Vec<Message>>,
    serial: u64,
    failed: bool,
    /// Up to where the durable list says that the topic was deleted.
    deleted: Option<u64>,
    /// The same of a deletion that is not durable yet.
    deleting: Option<u64>,
    /// Whether the list waits for the log to be synced.
    is_careful: bool,
}

#[derive(Clone, Debug)]
struct Message {
    body: Vec<u8>,
    start: u64,
    end: u64,
    promised: bool,
}

fn serial_of(message: &Message) -> u64 {
    u64::from_be_bytes(*message.body.first_chunk().expect("a serial number"))
}

fn config(flush: FlushMode, retains: bool) -> StoreConfig {
    StoreConfig {
        segment_bytes: 4096,
        queue_file_entries: 10,
        flush,
        flush_interval: Duration::from_millis(500),
        checkpoint_interval: Duration::from_millis(2000),
        spill_entries: 4,
        body_bytes_max: 2048,
        recover_slice_bytes: 1000,
        index_slots: 32,
        index_entries: 60,
        index_batch_entries: 8,
        file_reserved: Duration::from_secs(if retains { 3 } else { 3_600_000 }),
        delete_hours: (0..24).collect(),
        clean_interval: Duration::from_secs(1),
        ..StoreConfig::default()
    }
}

impl World {
    fn new(flush: FlushMode, retains: bool, seed: u64, cold: u32) -> World {
        let mut disk = MemoryDisk::new(Rng::from_seed(seed));
        disk.set_cold_ratio(cold);
        let config = config(flush, retains);
        let now = Now { mono: Instant::ZERO, wall: WallMs(1_700_000_000_000) };
        let mut world = World {
            store: Store::new(config.clone()),
            disk,
            config,
            now,
            rng: Rng::from_seed(seed ^ 1),
            out: Vec::new(),
            sent: BTreeMap::new(),
            serial: 0,
            failed: false,
            deleted: None,
            deleting: None,
            is_careful: !seed.is_multiple_of(4),
        };
        world.open();
        world
    }

    fn turn(&mut self, body: impl FnOnce(&mut Store, &mut MemoryDisk, Now)) {
        let mut done = Vec::new();
        self.disk.set_wall(self.now.wall);
        self.disk.reap(&mut done);
        let mut taken = Vec::new();
        let mut env = Env { disk: &mut self.disk, out: &mut self.out, rng: &mut self.rng };
        for done in done {
            match done {
                Done::Synced(id, result) => assert!(self.store.on_synced(self.now, id, result, &mut env)),
                Done::Fetched(id, result) => {
                    taken.push(id);
                    // Fetches of this test's own reads are none of the store's.
                    self.store.on_fetched(self.now, id, result, &mut env);
                }
            }
        }
        body(&mut self.store, env.disk, self.now);
        self.store.settle(self.now, &mut env);
        for id in taken {
            self.disk.release(id);
        }
        if self.disk.is_dead() {
            // The process is gone: nothing of this turn leaves it.
            self.out.clear();
            return;
        }
        self.failed |= self.out.iter().any(|effect| matches!(effect, Effect::Fail { .. }));
        for effect in self.out.drain(..) {
            match effect {
                Effect::Sync { id, target } => self.disk.sync(id, target),
                Effect::Replace { id, path, bytes } => self.disk.replace(id, &path, bytes),
                Effect::Fetch { id, at } => self.disk.fetch(id, at),
                Effect::Fail { reason, .. } => panic!("{reason}"),
                Effect::Dial { .. } | Effect::Send { .. } | Effect::Close { .. } | Effect::Emit(()) => {
                    unreachable!()
                }
            }
        }
        self.store.check_invariants();
        self.promise();
    }

    /// What the flush mode promises from now on.
    fn promise(&mut self) {
        let visible = self.store.visible();
        for message in self.sent.values_mut().flatten() {
            message.promised |= message.end <= visible;
        }
    }

    fn open(&mut self) {
        self.store = Store::new(self.config.clone());
        self.out.clear();
        self.store.set_deleted(self.deleted.map(|upto| ("T", upto)));
        let mut env = Env { disk: &mut self.disk, out: &mut self.out, rng: &mut self.rng };
        self.store.start(self.now, &mut env);
        for _ in 0..100_000 {
            if self.store.is_ready() {
                for (_, upto) in self.store.clamp_deleted() {
                    assert!(!self.is_careful, "the list was durable after the log");
                    self.deleted = Some(upto);
                }
                return;
            }
            self.turn(|_, _, _| {});
            if self.disk.is_dead() {
                self.disk.revive();
                return self.open();
            }
            self.disk.complete_all();
        }
        panic!("recovery does not end: {:?}", self.store.progress());
    }

    fn reopen(&mut self, power: bool) {
        // The list was on its way: it may have arrived.
        if let Some(upto) = self.deleting.take()
            && self.list_may_be_written(upto)
            && self.rng.one_in(2)
        {
            self.forget(upto);
        }
        self.open();
        self.disk.kill_at_operation(0);
        self.check(power);
    }

    fn list_may_be_written(&self, upto: u64) -> bool {
        !self.is_careful || self.store.synced() >= upto
    }

    /// The deletion is durable: what was sent before is gone.
    fn forget(&mut self, upto: u64) {
        self.deleted = Some(upto);
        self.sent.clear();
    }

    fn append(&mut self, messages: &[(i32, usize)]) {
        let mut appended = Vec::new();
        let serial = &mut self.serial;
        let mut made = Vec::new();
        for (queue_id, bytes) in messages {
            *serial += 1;
            let mut body = serial.to_be_bytes().to_vec();
            body.resize(8 + bytes, *serial as u8);
            let group = *serial % GROUPS;
            let properties = format!("TAGS\x01a\x02KEYS\x01k{serial} g{group}\x02UNIQ_KEY\x01u{serial}\x02");
            made.push((*queue_id, body, properties));
        }
        self.turn(|store, disk, now| {
            for (queue_id, body, properties) in made {
                let queue = store.queue("T", queue_id);
                let host = "127.0.0.1:1".parse().expect("address");
                let draft = Draft {
                    topic: "T",
                    queue_id,
                    flag: 0,
                    sys_flag: 0,
                    born_timestamp: 1,
                    born_host: host,
                    store_host: host,
                    reconsume_times: 0,
                    prepared_transaction_offset: 0,
                    body: &body,
                    properties: properties.as_bytes(),
                };
                match store.append(now, queue, &draft, disk) {
                    Ok(at) => appended.push((queue_id, body, at)),
                    // A new segment whose entry is not durable yet: the sender tries again later.
                    Err(AppendError::NotReady) => {}
                    Err(error) => assert!(disk.is_dead(), "{error:?}"),
                }
            }
        });
        for (queue_id, body, at) in appended {
            let queue = self.sent.entry(queue_id).or_default();
            assert_eq!(at.queue_offset, queue.len() as i64, "queue offsets follow on");
            queue.push(Message { body, start: at.physical_offset, end: at.end, promised: false });
        }
        if !self.disk.is_dead() {
            self.promise();
        }
    }

    /// Reads everything visible of a queue.
    fn read(&mut self, queue: QueueIx) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let mut from = self.store.min_offset(queue);
        let mut fetch = 3 << 56;
        loop {
            let mut out = Vec::new();
            let limits = ReadLimits { messages_max: 5, bytes_max: 1500 };
            let outcome = self.store.read_messages(queue, from, limits, |_| true, &mut self.disk, &mut out);
            match outcome.expect("the disk is well") {
                ReadOutcome::Found { next, messages } => {
                    let mut rest = &out[..];
                    for at in from..next {
                        let Ok(Entry::Message(record)) = Entry::decode(rest) else {
                            panic!("not a record at {at}")
                        };
                        assert_eq!(
                            (record.queue_offset, record.verify(record.physical_offset)),
                            (at, Ok(()))
                        );
                        bodies.push(record.body.to_vec());
                        rest = &rest[record.size as usize..];
                    }
                    assert!(rest.is_empty() && i64::from(messages) == next - from);
                    from = next;
                }
                ReadOutcome::Empty => return bodies,
                // Retention went on while the read waited.
                ReadOutcome::TooSmall if self.config.file_reserved < Duration::from_secs(3600) => {
                    from = self.store.min_offset(queue);
                    bodies.clear();
                }
                ReadOutcome::Cold(extent) => {
                    assert!(out.is_empty());
                    fetch += 1;
                    self.disk.fetch(FetchId(fetch), extent);
                    self.disk.complete_all();
                    // As in production: the bytes are pinned while the read is tried again; syncs that completed wait.
                    self.turn(|_, _, _| {});
                }
                other @ (ReadOutcome::NoMatch { .. } | ReadOutcome::Beyond | ReadOutcome::TooSmall) => {
                    panic!("{other:?} at {from}")
                }
            }
        }
    }

    /// What is removed at once is removed before anything is compared; its crashes are those of the other operations.
    fn finish_removal(&mut self) {
        for _ in 0..1000 {
            if !self.store.is_removing() {
                break;
            }
            self.turn(|_, _, _| {});
            self.disk.complete_all();
        }
    }

    /// Compares the store with the model, and lets the model forget what was lost with reason.
    fn check(&mut self, power: bool) {
        for queue_id in 0..QUEUES {
            let queue = self.store.queue("T", queue_id);
            let mut known = self.sent.remove(&queue_id).unwrap_or_default();
            let (min, held) = loop {
                self.finish_removal();
                let min = self.store.min_offset(queue) as usize;
                let removed = known.iter().filter(|message| message.start < self.store.log_min()).count();
                assert_eq!(min, removed, "queue {queue_id} begins with the log, at {}", self.store.log_min());
                let held = self.read(queue);
                // What is cold takes turns, in which more may begin to go.
                if self.store.min_offset(queue) as usize == min {
                    break (min, held);
                }
            };
            let must = match (power, self.config.flush) {
                (true, FlushMode::Async) => 0,
                (true, FlushMode::Sync) | (false, _) => {
                    known.iter().take_while(|message| message.promised).count()
                }
            };
            assert!(
                min + held.len() >= must,
                "queue {queue_id}: {} of {must} promised messages are there",
                min + held.len()
            );
            assert!(min + held.len() <= known.len(), "queue {queue_id}: more messages than were sent");
            same(queue_id, min, &held, &known);
            known.truncate(min + held.len());
            self.sent.insert(queue_id, known);
        }
        self.promise();
        self.check_keys();
    }

    /// Every held message is found by its keys, once; nothing else is.
    fn check_keys(&mut self) {
        let log_min = self.store.log_min();
        let there = self.sent.values().flatten().filter(|message| message.start >= log_min);
        let mut held: Vec<u64> = there.map(serial_of).collect();
        held.sort_unstable();
        for group in 0..GROUPS {
            let expected: Vec<u64> = held.iter().copied().filter(|at| at % GROUPS == group).collect();
            assert_eq!(self.find(&format!("g{group}"), KeyKind::Key), expected, "group {group}");
        }
        assert_eq!(self.find("a", KeyKind::Tags), held);
        for serial in self.serial.saturating_sub(10)..=self.serial {
            let expected: Vec<u64> = held.iter().copied().filter(|at| *at == serial).collect();
            for kind in ["k", "u"] {
                assert_eq!(self.find(&format!("{kind}{serial}"), KeyKind::Key), expected, "{kind}{serial}");
            }
        }
    }

    /// Serial numbers of the messages with a key, in order.
    fn find(&mut self, key: &str, kind: KeyKind) -> Vec<u64> {
        let mut query = KeyQuery::new("T", key, kind, (0, i64::MAX), 10_000, u64::MAX);
        let mut fetch = 4 << 56;
        loop {
            match self.store.query(&mut query, &mut self.disk).expect("the disk is well") {
                QueryStep::Done => break,
                QueryStep::More => {}
                QueryStep::Cold(extent) => {
                    fetch += 1;
                    self.disk.fetch(FetchId(fetch), extent);
                    self.disk.complete_all();
                    self.turn(|_, _, _| {});
                }
            }
        }
        let mut found = Vec::new();
        let mut rest = query.records();
        while !rest.is_empty() {
            let Ok(Entry::Message(record)) = Entry::decode(rest) else { panic!("not a record") };
            found.push(u64::from_be_bytes(*record.body.first_chunk().expect("a serial number")));
            rest = &rest[record.size as usize..];
        }
        assert_eq!(found.len(), query.messages() as usize);
        found.reverse();
        found
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(messages) => self.append(messages),
            Op::Turn => self.turn(|_, _, _| {}),
            Op::Pass(ms) => {
                self.now.mono = self.now.mono + Duration::from_millis(*ms);
                self.now.wall = WallMs(self.now.wall.0 + *ms as i64);
            }
            Op::Complete(mask) => {
                let tickets: Vec<_> = self.disk.pending().map(|pending| pending.ticket).collect();
                let order: Vec<_> = if mask % 2 == 0 { tickets.into_iter().rev().collect() } else { tickets };
                for (at, ticket) in order.into_iter().enumerate() {
                    if mask >> (at % 60 + 1) & 1 == 1 {
                        self.disk.complete(ticket, Ok(()));
                    }
                }
                self.turn(|_, _, _| {});
            }
            Op::Kill => {
                self.disk.kill();
                self.disk.revive();
                self.reopen(false);
            }
            Op::KillAt(n) => self.disk.kill_at_operation(*n),
            Op::Power => {
                let mut rng = self.rng.fork(&format!("power {}", self.serial));
                self.disk.power_loss(&mut rng);
                self.reopen(true);
            }
            Op::Restart => {
                let mut env = Env { disk: &mut self.disk, out: &mut self.out, rng: &mut self.rng };
                self.store.stop(self.now, &mut env);
                for _ in 0..1000 {
                    if self.store.is_stopped() || self.disk.is_dead() {
                        break;
                    }
                    self.turn(|_, _, _| {});
                    self.disk.complete_all();
                }
                assert!(self.store.is_stopped() || self.disk.is_dead(), "a stop ends");
                if !self.disk.is_dead() {
                    assert_eq!(self.disk.peek("abort"), None, "a clean stop leaves no abort file");
                }
                self.disk.revive();
                self.reopen(false);
            }
            Op::Delete => {
                let mut upto = 0;
                self.turn(|store, _, _| upto = store.close_topic("T"));
                if !self.disk.is_dead() {
                    self.deleting = Some(upto);
                }
            }
            Op::Durable => {
                if let Some(upto) = self.deleting
                    && self.list_may_be_written(upto)
                {
                    self.deleting = None;
                    self.forget(upto);
                    self.turn(|store, _, _| store.bury_topic("T", upto));
                }
            }
            Op::Read => {
                self.disk.kill_at_operation(0);
                for queue_id in 0..QUEUES {
                    let queue = self.store.queue("T", queue_id);
                    let (held, known) = (self.read(queue), self.sent.entry(queue_id).or_default().clone());
                    let from = self.store.max_offset(queue) as usize - held.len();
                    same(queue_id, from, &held, &known);
                }
            }
        }
        if self.disk.is_dead() {
            self.disk.revive();
            self.reopen(false);
        }
    }
}

/// The bodies of a queue from offset `from` on are what was sent.
fn same(queue_id: i32, from: usize, held: &[Vec<u8>], known: &[Message]) {
    for (at, body) in held.iter().enumerate() {
        let sent = &known[from + at].body;
        let (head, sent_head) = (&body[..8], &sent[..8]);
        assert!(body == sent, "queue {queue_id} offset {}: {head:?} is not {sent_head:?}", from + at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_keeps_its_promises(
        sync in any::<bool>(),
        retains in any::<bool>(),
        seed in any::<u64>(),
        cold in prop_oneof![3 => Just(0u32), 1 => Just(300)],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let flush = if sync { FlushMode::Sync } else { FlushMode::Async };
        let mut world = World::new(flush, retains, seed, cold);
        for op in &ops {
            world.apply(op);
        }
        world.apply(&Op::Kill);
    }
}

/// Retention has removed every message, and the power took the length of the segment that was to be next.
#[test]
fn a_log_of_which_only_the_name_of_a_segment_is_left_goes_on_there() {
    let mut world = World::new(FlushMode::Sync, false, 1, 0);
    world.disk.create("commitlog/00000000000000008192", 0, FileKind::Log).expect("there is room");
    world.open();
    assert_eq!((world.store.log_min(), world.store.log_end()), (8192, 8192));
    world.apply(&Op::Append(vec![(0, 0)]));
    world.apply(&Op::Kill);
    assert!(world.store.log_end() > 8192);
}

/// A queue that lost its file with the power, after retention had taken its beginning, is written anew with fillers in front;
/// a clean stop and start must not take them for messages.
#[test]
fn a_queue_does_not_begin_with_the_fillers_of_what_was_removed() {
    let append = |sizes: &[(i32, usize)]| Op::Append(sizes.to_vec());
    let ops = [
        append(&[(0, 0), (2, 0), (2, 0)]),
        append(&[(1, 0), (2, 0), (1, 0), (2, 197), (2, 478), (2, 463), (2, 486)]),
        Op::Restart,
        append(&[(0, 328), (1, 571), (2, 499), (0, 459), (1, 464), (2, 331)]),
        append(&[(0, 56), (1, 212), (0, 261)]),
        append(&[(2, 48), (1, 209)]),
        append(&[(0, 233), (1, 129), (2, 434), (0, 168), (2, 251)]),
        Op::Pass(1360),
        Op::Pass(1640),
        append(&[(1, 219), (2, 390), (0, 0)]),
        Op::Restart,
        append(&[(2, 301), (1, 255)]),
        append(&[(1, 283), (2, 529), (1, 339), (2, 169)]),
        Op::Power,
        append(&[(0, 0); 2]),
        append(&[(0, 0); 6]),
        append(&[(0, 0); 5]),
        Op::Kill,
        append(&[(0, 0); 2]),
        Op::Kill,
        append(&[(0, 0)]),
        append(&[(0, 0)]),
        Op::KillAt(1),
        Op::Power,
        append(&[(0, 0)]),
        append(&[(0, 0)]),
        Op::Restart,
    ];
    let mut world = World::new(FlushMode::Async, true, 10_692_158_144_349_784_269, 0);
    for op in &ops {
        world.apply(op);
    }
}

/// What recovery takes from a queue's files is not durable at once, and neither is the removal of a buried queue's: old files may come
/// back after the power is lost, with entries that point behind the end that the log had, or with a gap before them.
#[test]
fn what_was_taken_from_a_queue_does_not_come_back_with_the_power() {
    let append = |sizes: &[(i32, usize)]| Op::Append(sizes.to_vec());
    let cases = [
        (
            false,
            5_971_213_715_988_156_529,
            0,
            vec![
                append(&[(0, 0)]),
                Op::Pass(2000),
                append(&[(2, 0)]),
                Op::Power,
                Op::KillAt(1),
                append(&[(0, 0); 2]),
                Op::Delete,
                append(&[(0, 0); 4]),
                Op::Durable,
                append(&[(0, 0); 7]),
                Op::Restart,
                append(&[(0, 0); 3]),
                append(&[(0, 0); 2]),
                append(&[(0, 0); 5]),
                Op::Power,
            ],
        ),
        (
            false,
            2_513_438_359_304_040_860,
            0,
            vec![
                append(&[(0, 0), (0, 79), (0, 0), (0, 338), (0, 294)]),
                append(&[(0, 463), (0, 353), (0, 171), (0, 528), (0, 561)]),
                Op::Kill,
                append(&[(0, 0); 7]),
                Op::Pass(500),
                append(&[(0, 0)]),
                Op::Pass(1500),
                append(&[(0, 0), (1, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Complete(5_661_240_990_411_084_774),
                append(&[(0, 0); 3]),
                append(&[(0, 0)]),
                Op::Power,
                Op::Delete,
                Op::Durable,
                append(&[(1, 0)]),
                append(&[(1, 0), (1, 0), (1, 0), (0, 0), (0, 0)]),
                append(&[(0, 0); 4]),
                Op::Restart,
                Op::Power,
            ],
        ),
        (
            false,
            3_955_765_928_607_345_304,
            0,
            vec![
                append(&[(0, 0), (0, 0), (0, 0), (0, 0)]),
                append(&[(1, 0), (0, 0), (0, 0)]),
                append(&[(0, 0), (0, 180)]),
                append(&[(1, 0), (2, 0), (1, 0)]),
                Op::Turn,
                Op::Pass(2000),
                append(&[(0, 0), (0, 0), (1, 0)]),
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                append(&[(0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Delete,
                Op::Durable,
                Op::Complete(14782392633836462819),
                append(&[(0, 0)]),
                Op::Power,
                append(&[(0, 0), (0, 219)]),
                append(&[(0, 322), (0, 545)]),
                Op::Restart,
                Op::Power,
            ],
        ),
        (
            true,
            5_893_399_793_604_410_588,
            300,
            vec![
                append(&[(0, 0), (1, 0), (1, 350)]),
                Op::Pass(2000),
                Op::Complete(0),
                Op::Turn,
                append(&[(0, 291), (1, 300)]),
                append(&[(1, 5), (1, 303), (2, 375)]),
                Op::Restart,
                append(&[(2, 372), (0, 91), (1, 568), (1, 24), (2, 357), (1, 454), (1, 407)]),
                append(&[(0, 513), (0, 292), (2, 418)]),
                Op::Restart,
                append(&[(2, 0), (0, 0), (1, 0)]),
                Op::Pass(1114),
                append(&[(1, 381), (1, 511)]),
                append(&[(0, 522), (1, 492), (1, 577), (0, 0), (1, 0), (0, 158)]),
                append(&[(0, 88), (1, 464)]),
                append(&[(1, 507), (1, 284), (1, 446), (0, 245)]),
                Op::Pass(1886),
                append(&[(0, 245), (0, 245), (1, 0), (0, 113)]),
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Power,
                append(&[(0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Power,
            ],
        ),
        (
            false,
            7_472_634_995_218_769_124,
            0,
            vec![
                append(&[(0, 0)]),
                Op::Turn,
                append(&[(1, 0), (2, 0), (0, 0), (1, 0), (0, 0), (1, 0)]),
                Op::Delete,
                append(&[(0, 0), (0, 0)]),
                Op::Pass(2000),
                Op::Turn,
                Op::Durable,
                append(&[(0, 0)]),
                Op::Power,
                append(&[(2, 0), (0, 0), (2, 0), (0, 0)]),
                Op::Restart,
                Op::Power,
            ],
        ),
        (
            false,
            3_137_013_040_906_601_275,
            0,
            vec![
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                append(&[(1, 0), (0, 79), (1, 520), (1, 127), (0, 48), (1, 257), (2, 251)]),
                append(&[(0, 166), (0, 212), (0, 335), (0, 335)]),
                Op::Delete,
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Restart,
                Op::Pass(2000),
                append(&[(1, 0), (1, 0), (2, 0), (1, 0), (1, 0), (1, 0)]),
                Op::Complete(9365560319026300966),
                Op::Power,
                append(&[(0, 0)]),
                Op::Restart,
                append(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                Op::Power,
            ],
        ),
    ];
    for (retains, seed, cold, ops) in cases {
        let mut world = World::new(FlushMode::Async, retains, seed, cold);
        for op in &ops {
            world.apply(op);
        }
    }
}
