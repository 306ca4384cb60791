//! An operator who finds the master gone: looks whether a slave serves, and after a while makes one the master: of several, once
//! all have told what they hold, one of those that hold the most.

use gantry_core::broker::ha::compare::{Lead, lead};
use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::{self, EpochEntryCache};
use gantry_core::wire::{Command, Ext};
use gantry_disk::MemoryDisk;

use super::requests::{self, Pull, code, reply};
use super::rpc::{ClientEnv, Event, Rpc};
use super::{ClientOptions, REQUEST_TIMEOUT};
use crate::history::{Report, topic_name};

/// Between two looks, and two attempts to promote.
const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Tag {
    Look,
    Compare(usize),
    Promote,
}

/// What the operator is to do, counted from the start of its only life.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The slaves.
    pub slaves: Vec<std::sync::Arc<str>>,
    /// Until then one is only looked at.
    pub promote_after: Duration,
}

/// See the [module](self).
pub struct Operator {
    options: ClientOptions,
    orders: Orders,
    promote_at: Instant,
    next: Instant,
    asking: bool,
    is_done: bool,
    /// What each slave holds, as far as it was told.
    held: Vec<Option<EpochEntryCache>>,
    rpc: Rpc<Tag>,
}

impl Operator {
    /// Its life: from when the master is gone.
    pub fn new(options: ClientOptions, orders: Orders, now: Now) -> Operator {
        let promote_at = now.mono + orders.promote_after;
        let held = vec![None; orders.slaves.len()];
        Operator {
            options,
            orders,
            held,
            promote_at,
            next: now.mono + INTERVAL,
            asking: false,
            is_done: false,
            rpc: Rpc::default(),
        }
    }

    fn on_end(&mut self, tag: &Tag, command: Option<&Command>, env: &mut ClientEnv<'_>) {
        self.asking = false;
        match (tag, command.map(|command| command.code)) {
            (Tag::Promote, Some(reply::SUCCESS)) => self.is_done = true,
            (Tag::Promote, _) => {}
            (Tag::Compare(slave), Some(reply::SUCCESS)) => {
                self.held[*slave] = command.and_then(|command| body::decode(&command.body).ok());
            }
            (Tag::Compare(_), _) => {}
            (
                Tag::Look,
                Some(
                    reply::SUCCESS
                    | reply::PULL_NOT_FOUND
                    | reply::PULL_RETRY_IMMEDIATELY
                    | reply::PULL_OFFSET_MOVED
                    | reply::TOPIC_NOT_EXIST,
                ),
            ) => env.out.push(Effect::Emit(Report::SlaveServed)),
            (Tag::Look, code) => {
                let client = &self.options.client_id;
                let what =
                    format!("{client}: with its master gone the slave does not serve a pull: {code:?}");
                env.out.push(Effect::Emit(Report::Broken { what }));
            }
        }
    }

    /// The first slave of which no other holds more.
    fn best(&self) -> usize {
        let known: Vec<&EpochEntryCache> = self.held.iter().flatten().collect();
        let is_best = |this: &&EpochEntryCache| known.iter().all(|other| lead(this, other) == Lead::None);
        known.iter().position(is_best).unwrap_or(0)
    }

    fn take_events(&mut self, env: &mut ClientEnv<'_>) {
        for event in self.rpc.take_events() {
            match event {
                Event::Reply(tag, command) => self.on_end(&tag, Some(&command), env),
                Event::Lost(tag) | Event::NotSent(tag) => self.on_end(&tag, None, env),
                Event::Request(_) => {}
            }
        }
    }
}

impl Machine<MemoryDisk> for Operator {
    type Command = ();
    type Event = Report;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        self.take_events(env);
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        self.take_events(env);
        if self.is_done || self.asking || now.mono < self.next {
            return;
        }
        self.next = now.mono + INTERVAL;
        self.asking = true;
        let unknown = self.held.iter().position(Option::is_none).filter(|_| self.held.len() > 1);
        let mut slave = self.orders.slaves[0].clone();
        let (command, tag) = if now.mono >= self.promote_at && unknown.is_some() {
            let at = unknown.unwrap_or(0);
            slave = self.orders.slaves[at].clone();
            (Command::request(code::GET_BROKER_EPOCH_CACHE, Ext::None), Tag::Compare(at))
        } else if now.mono >= self.promote_at {
            slave = self.orders.slaves[self.best()].clone();
            let change = Command::request(code::UPDATE_BROKER_CONFIG, Ext::None);
            (change.with_body("brokerRole=SYNC_MASTER\n".to_owned()), Tag::Promote)
        } else {
            let topic = topic_name(0);
            let pull = Pull {
                group: "operators",
                topic: &topic,
                queue: 0,
                offset: 0,
                messages_max: 1,
                commit: None,
                suspend_ms: 0,
            };
            (requests::pull(&pull), Tag::Look)
        };
        self.rpc.call(now, env, &slave, command, REQUEST_TIMEOUT, tag);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let own = (!self.is_done && !self.asking).then_some(self.next);
        [own, self.rpc.deadline()].into_iter().flatten().min().map(|at| (at, "the slave"))
    }
}
