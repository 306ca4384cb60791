//! A watcher: asks every name server for routes again and again, so that the moment at which a route goes shows.

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_disk::MemoryDisk;

use super::rpc::Rpc;
use super::{ClientOptions, REQUEST_TIMEOUT, requests};
use crate::history::{Report, topic_name};

/// See the [module](self).
pub struct Watcher {
    options: ClientOptions,
    topics: u8,
    interval: Duration,
    asked: u64,
    next: Instant,
    rpc: Rpc<()>,
}

impl Watcher {
    /// A life.
    pub fn new(options: ClientOptions, topics: u8, interval: Duration, now: Now) -> Watcher {
        Watcher { options, topics, interval, asked: 0, next: now.mono, rpc: Rpc::default() }
    }
}

impl Machine<MemoryDisk> for Watcher {
    type Command = ();
    type Event = Report;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        self.rpc.take_events();
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        self.rpc.take_events();
        if self.next <= now.mono {
            self.next = now.mono + self.interval;
            let topic = topic_name((self.asked % u64::from(self.topics.max(1))) as u8);
            self.asked += 1;
            for address in self.options.names.all() {
                self.rpc.call(now, env, address, requests::route(&topic), REQUEST_TIMEOUT, ());
            }
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let at = self.rpc.deadline().map_or(self.next, |deadline| deadline.min(self.next));
        Some((at, "watch"))
    }
}
