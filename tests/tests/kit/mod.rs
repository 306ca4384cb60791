//! A store with its disk and clock, driven by hand: what the tests of single features of the store share.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::time::Duration;

use gantry_core::broker::store::{Appended, QueueIx, Store, StoreConfig};
use gantry_core::io::{Disk, Done, Effect, Env, Extent, FetchId, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::message::Draft;
use gantry_disk::MemoryDisk;

pub const START_MS: i64 = 1_700_000_000_000;

pub struct Bench {
    pub store: Store,
    pub disk: MemoryDisk,
    pub config: StoreConfig,
    pub now: Now,
    pub rng: Rng,
    pub out: Vec<Effect<()>>,
    fetches: u64,
}

impl Bench {
    pub fn new(config: StoreConfig, seed: u64) -> Bench {
        let mut bench = Bench::on(MemoryDisk::new(Rng::from_seed(seed)), config);
        bench.open();
        bench
    }

    /// On a disk that holds something; not opened yet.
    pub fn on(disk: MemoryDisk, config: StoreConfig) -> Bench {
        Bench {
            store: Store::new(config.clone()),
            disk,
            config,
            now: Now { mono: Instant::ZERO, wall: WallMs(START_MS) },
            rng: Rng::from_seed(7),
            out: Vec::new(),
            fetches: 3 << 56,
        }
    }

    /// Starts a store on the disk as it is.
    pub fn open(&mut self) {
        self.store = Store::new(self.config.clone());
        self.out.clear();
        let mut env = Env { disk: &mut self.disk, out: &mut self.out, rng: &mut self.rng };
        self.store.start(self.now, &mut env);
        for _ in 0..100_000 {
            if self.store.is_ready() {
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

    pub fn turn<R>(&mut self, body: impl FnOnce(&mut Store, &mut MemoryDisk, Now) -> R) -> R {
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
                    // Fetches of the test's own reads are none of the store's.
                    self.store.on_fetched(self.now, id, result, &mut env);
                }
            }
        }
        let result = body(&mut self.store, env.disk, self.now);
        self.store.settle(self.now, &mut env);
        for id in taken {
            self.disk.release(id);
        }
        if self.disk.is_dead() {
            // The process is gone: nothing of this turn leaves it.
            self.out.clear();
            return result;
        }
        for effect in self.out.drain(..) {
            match effect {
                Effect::Sync { id, target } => self.disk.sync(id, target),
                Effect::Replace { id, path, bytes } => self.disk.replace(id, &path, bytes),
                Effect::Fetch { id, at } => self.disk.fetch(id, at),
                Effect::Fail { reason, .. } => panic!("{reason}"),
                Effect::Dial { .. } | Effect::Send { .. } | Effect::Close { .. } | Effect::Emit(()) => {
                    unreachable!("a store has no connections")
                }
            }
        }
        self.store.check_invariants();
        result
    }

    /// Turns in which everything pending completes.
    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn(|_, _, _| {});
            self.disk.complete_all();
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
        self.now.wall = WallMs(self.now.wall.0 + ms as i64);
    }

    pub fn queue(&mut self, topic: &str, id: i32) -> QueueIx {
        self.store.queue(topic, id)
    }

    /// Appends a message and ends the turn.
    pub fn append(
        &mut self,
        topic: &str,
        queue_id: i32,
        sys_flag: i32,
        properties: &[u8],
        body: &[u8],
    ) -> Appended {
        for _ in 0..10 {
            let appended = self.turn(|store, disk, now| {
                let queue = store.queue(topic, queue_id);
                store.append(now, queue, &draft(topic, queue_id, sys_flag, properties, body), disk)
            });
            self.disk.complete_all();
            if let Ok(appended) = appended {
                return appended;
            }
        }
        panic!("nothing can be appended");
    }

    /// Asks until the answer is not cold, fetching in between.
    pub fn warm<R>(
        &mut self,
        mut ask: impl FnMut(&mut Store, &mut MemoryDisk) -> Result<Result<R, Extent>, gantry_core::io::DiskError>,
    ) -> R {
        for _ in 0..10_000 {
            match ask(&mut self.store, &mut self.disk).expect("the disk is well") {
                Ok(found) => return found,
                Err(extent) => {
                    self.fetches += 1;
                    self.disk.fetch(FetchId(self.fetches), extent);
                    self.disk.complete_all();
                    self.turn(|_, _, _| {});
                }
            }
        }
        panic!("it never gets warm");
    }

    pub fn stop(&mut self) {
        let mut env = Env { disk: &mut self.disk, out: &mut self.out, rng: &mut self.rng };
        self.store.stop(self.now, &mut env);
        for _ in 0..1000 {
            if self.store.is_stopped() {
                return;
            }
            self.turns(1);
        }
        panic!("a stop ends");
    }
}

pub fn draft<'a>(
    topic: &'a str,
    queue_id: i32,
    sys_flag: i32,
    properties: &'a [u8],
    body: &'a [u8],
) -> Draft<'a> {
    let host = "127.0.0.1:1".parse().expect("address");
    Draft {
        topic,
        queue_id,
        flag: 0,
        sys_flag,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        properties,
    }
}

/// Small files, so that every limit is met.
pub fn small() -> StoreConfig {
    StoreConfig {
        segment_bytes: 4096,
        queue_file_entries: 10,
        checkpoint_interval: Duration::from_millis(2000),
        spill_entries: 4,
        body_bytes_max: 2048,
        recover_slice_bytes: 1000,
        index_slots: 64,
        index_entries: 50,
        index_batch_entries: 16,
        reserve_bytes: 0,
        ..StoreConfig::default()
    }
}
