//! The broker: stores, delivers and replicates messages.
//!
//! [`Broker`] is one machine. This file only takes inputs apart and says in which order a turn ends; what a request does is in
//! `handle/`, one file a family of codes, and what the broker knows is in one file a concern beside it.
//!
//! A turn ends in a fixed order: the store writes what was appended and moves its watermarks; pulls that wait are woken;
//! answers are released; commits go to their journal; changed tables to their files; name servers hear of changes. All of it
//! happens before any effect leaves, so nothing is answered that the page cache does not hold.

mod ack;
mod calls;
mod carry;
mod config;
mod conns;
mod consumer;
mod delay;
mod deletion;
mod ends;
mod filter;
mod group;
pub mod ha;
mod handle;
mod hold;
mod journal;
mod load;
mod lock;
mod names;
mod offset;
mod once;
mod persist;
mod producer;
mod promote;
mod put;
mod register;
mod replication;
mod reply;
mod settings;
mod stats;
pub mod store;
mod take_back;
mod topic;
mod upstream;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::io::{
    CloseReason, ConnId, Disk, DiskError, Effect, Env, FetchId, Input, Machine, Now, Protocol, SyncId,
};
use crate::liveness::Scan;
use crate::time::{Instant, Soonest};
use crate::wire::body::{self, TopicConfig};
use crate::wire::{Command, Packet};
use ack::{Acks, Watermarks};
use calls::Calls;
use carry::Carry;
pub use config::BrokerConfig;
use conns::Conns;
use consumer::Consumers;
pub use delay::DELIVERY;
use delay::Delays;
use group::Groups;
use ha::cut::Cut;
use ha::epochs::Epochs;
use ha::home::{Arrival, Home};
use ha::known::KnownSlaves;
use handle::ColdRequest;
use handle::search::Searches;
use hold::{Holds, Pull};
use lock::Locks;
use offset::Offsets;
use once::Once;
use persist::{ConfigFile, Generation};
use producer::Producers;
use promote::Promotion;
use register::Register;
pub use replication::BrokerRole;
use replication::Replication;
pub use settings::{SettingError, Taken};
use stats::Stats;
use store::{FlushMode, QueueIx, Store};
use take_back::TakenBack;
use topic::Topics;
use upstream::Upstream;

/// Look-ups by name. Never iterated: its order is nobody's.
type NameMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// The top byte of this module's sync and fetch ids.
const ID_SPACE: u64 = 2 << 56;

/// What a host may ask of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerCommand {
    /// Tell the name servers, make everything durable, and stop: [`BrokerEvent::Stopped`] follows.
    Stop,
}

/// What a broker tells its host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerEvent {
    /// The store recovers; bytes of log done and in all. Once a turn while it lasts.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Requests are served from now on.
    Ready,
    /// A name server has taken the registration of this broker, for the first time on its connection.
    Registered {
        /// Its address, as configured.
        namesrv: Arc<str>,
    },
    /// A request has changed these settings, which the host writes to the file that they came from. The answer leaves
    /// after this.
    SettingsChanged {
        /// Names and values.
        settings: Vec<(String, String)>,
    },
    /// A clean stop is complete.
    Stopped,
}

/// Where a broker is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing read yet.
    New,
    /// The store recovers.
    Recovering,
    Ready,
    /// Name servers hear that it goes away.
    Leaving {
        until: Instant,
    },
    /// Everything becomes durable.
    Stopping,
    Stopped,
}

/// Names of syncs and fetches.
#[derive(Debug, Default)]
struct Ids {
    last: u64,
}

impl Ids {
    fn next(&mut self) -> u64 {
        self.last += 1;
        ID_SPACE | self.last
    }
}

/// The broker. See the module's head.
#[derive(Debug)]
pub struct Broker {
    config: BrokerConfig,
    phase: Phase,
    store: Store,
    topics: Topics,
    groups: Groups,
    offsets: Offsets,
    consumers: Consumers,
    producers: Producers,
    locks: Locks,
    conns: Conns,
    holds: Holds,
    /// Requests that wait for the disk.
    cold: BTreeMap<FetchId, ColdRequest>,
    /// Store times that the request being served has read.
    times: BTreeMap<(QueueIx, i64), Option<i64>>,
    searches: Searches,
    once: Once,
    calls: Calls,
    stats: Stats,
    started: Option<Now>,
    acks: Acks,
    delays: Delays,
    /// The change of the delay levels' file by which one went back.
    delays_back: Generation,
    carry: Carry,
    register: Register,
    replication: Replication,
    upstream: Upstream,
    epochs: Epochs,
    /// Whether this life's epoch was begun; only writers begin one.
    is_epoch_begun: bool,
    /// What this life's log has taken back from the tables beside it.
    taken_back: Option<TakenBack>,
    /// Slaves that may hold what this log could lose.
    known: KnownSlaves,
    /// What they have is being brought home, before this broker writes.
    home: Option<Home>,
    /// Whether that is over.
    is_home: bool,
    promotion: Option<Promotion>,
    /// This log is on its way back to where it is the master's.
    cut: Option<Cut>,
    /// The change of the topics' file by which the log's end is known to lie before deletions.
    shorter: Option<Generation>,
    /// None before the start.
    scan: Option<Scan>,
    /// Whether topics that only the store knows are made again at the start.
    adopts_topics: bool,
    ids: Ids,
    /// Of requests that the broker makes of its clients.
    next_opaque: i32,
    woken: Vec<Pull>,
    scratch: Vec<u8>,
}

impl Broker {
    /// A broker that has not looked at its disk yet.
    pub fn new(config: BrokerConfig) -> Broker {
        Broker {
            phase: Phase::New,
            store: Store::new(config.store.clone()),
            topics: Topics::new(&config),
            groups: Groups::new(),
            offsets: Offsets::new(config.offset_flush_interval),
            consumers: Consumers::default(),
            producers: Producers::default(),
            locks: Locks::new(config.lock_expiry),
            conns: Conns::default(),
            holds: Holds::default(),
            cold: BTreeMap::new(),
            times: BTreeMap::new(),
            searches: Searches::default(),
            once: Once::default(),
            calls: Calls::default(),
            stats: Stats::default(),
            started: None,
            delays: Delays::new(config.store.delay_levels.len()),
            delays_back: Generation::default(),
            carry: Carry::default(),
            acks: Acks::default(),
            register: Register::new(&config),
            replication: Replication::new(
                config.role,
                &config.ha,
                config.store.flush,
                config.ha_master_addr.clone(),
            ),
            upstream: Upstream::new([config.store_host.to_string(), config.ha_addr.clone()]),
            known: KnownSlaves::new(),
            home: None,
            is_home: false,
            promotion: None,
            epochs: Epochs::new(),
            is_epoch_begun: false,
            taken_back: None,
            cut: None,
            shorter: None,
            scan: None,
            adopts_topics: false,
            ids: Ids::default(),
            next_opaque: 0,
            woken: Vec::new(),
            scratch: Vec::new(),
            config,
        }
    }

    /// Whether requests are served.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether it is its group's master.
    pub fn is_master(&self) -> bool {
        !self.replication.is_slave()
    }

    /// Its store, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.broker_name
    }

    /// All its topics.
    pub fn topics(&self) -> impl Iterator<Item = &TopicConfig> {
        self.topics.iter().map(|topic| &topic.config)
    }

    /// What a group has committed for a queue.
    pub fn committed_offset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.offsets.look_up(group, topic, queue_id)
    }

    /// How often a committed offset has changed in this life.
    pub fn offset_changes(&self) -> u64 {
        self.offsets.changes()
    }

    /// Whether a slave hears its master.
    pub fn is_following(&self) -> bool {
        self.replication.is_following()
    }

    /// Whether its tables are what the log carries of them (see `carry.rs`).
    pub fn has_carried_tables(&self) -> bool {
        self.carry.is_based()
    }

    /// Whether the store may be read and written for clients. A broker that leaves serves until it stops.
    fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Leaving { .. })
    }

    /// Whether delayed messages are delivered: only a master does.
    fn delivers(&self) -> bool {
        self.is_serving() && !self.replication.is_slave()
    }

    fn on_start<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if let Err(reason) = self.load(now, env.disk) {
            env.out.push(Effect::Fail { reason, restart: false });
            return;
        }
        self.started = Some(now);
        self.scan = Some(Scan::new(now.mono, self.config.client_scan_interval));
        self.phase = Phase::Recovering;
        self.store.start(now, env);
    }

    fn on_received<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        packet: Packet,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        match &packet {
            Packet::Command(command) if command.is_response() => self.on_response(now, conn, command, env),
            Packet::Command(command) => self.on_request(now, conn, command, env),
            Packet::HaBlock { offset, body } if self.home.is_some() => {
                if let Some(home) = &mut self.home {
                    home.on_block(now, conn, (*offset, body), &mut self.store, env);
                }
            }
            Packet::HaReport { .. } | Packet::HaBlock { .. } => {
                self.replication.on_packet(now, conn, &packet, &mut self.epochs, &mut self.store, env);
            }
        }
    }

    fn on_response<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        response: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        let is_taken = if conn.is_dialled() {
            self.register.on_response(now.mono, conn, response, &self.config, env)
                || self.on_master_answer(now, conn, response, env)
                || self.on_slave_answer(now, conn, response, env)
        } else {
            self.on_client_answer(now, conn, response, env)
        };
        if !is_taken {
            // Late, or to a request that wanted no answer.
            tracing::debug!(?conn, response.opaque, "an answer that nobody waits for");
        }
    }

    fn on_opened<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: core::net::SocketAddr,
        protocol: Protocol,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if self.home.as_mut().is_some_and(|home| home.on_opened(conn, &self.store, env)) {
            return;
        }
        match protocol {
            Protocol::Remoting if conn.is_dialled() => {
                if !self.register.on_opened(now.mono, conn) && !self.upstream.on_opened(conn) {
                    env.out.push(Effect::Close { conn });
                }
            }
            Protocol::Remoting => self.conns.opened(conn, peer),
            Protocol::HaSlave | Protocol::HaMaster => {
                self.replication.on_opened(now, conn, (protocol, peer), self.is_serving(), env);
            }
        }
    }

    fn on_closed<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        why: CloseReason,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        tracing::debug!(?conn, ?why, "connection closed");
        if self.home.as_mut().is_some_and(|home| home.on_closed(now, conn)) {
            return;
        }
        self.replication.on_closed(now, conn, why);
        if !self.register.on_closed(now.mono, conn, &self.config) && !self.upstream.on_closed(now.mono, conn)
        {
            self.on_client_closed(now, conn, env);
        }
    }

    fn on_synced<D: Disk>(
        &mut self,
        now: Now,
        id: SyncId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if self.store.on_synced(now, id, result, env) || self.on_cut_synced(id, result, env) {
            return;
        }
        let (path, taken) = if let Some(taken) = self.topics.file.on_synced(now.mono, id, result) {
            (self.topics.file.path(), taken)
        } else if let Some(taken) = self.groups.file.on_synced(now.mono, id, result) {
            (self.groups.file.path(), taken)
        } else if let Some(taken) = self.delays.file.on_synced(now.mono, id, result) {
            (self.delays.file.path(), taken)
        } else if let Some(taken) = self.epochs.file.on_synced(now.mono, id, result) {
            (self.epochs.file.path(), taken)
        } else if let Some(taken) = self.epochs.own_file.on_synced(now.mono, id, result) {
            (self.epochs.own_file.path(), taken)
        } else if let Some(taken) = self.known.file.on_synced(now.mono, id, result) {
            (self.known.file.path(), taken)
        } else if let Some(taken) = self.offsets.on_synced(now.mono, id, result, env.disk) {
            (self.offsets.file.path(), taken)
        } else {
            return;
        };
        if let Err(error) = taken {
            let reason = format!("{path}: not written: {error}; starting again from the disk");
            env.out.push(Effect::Fail { reason, restart: true });
        }
    }

    fn on_command(&mut self, command: BrokerCommand) {
        match (command, self.phase) {
            (BrokerCommand::Stop, Phase::Ready) => self.phase = Phase::Leaving { until: Instant::ZERO },
            (BrokerCommand::Stop, Phase::New | Phase::Recovering) => self.phase = Phase::Stopping,
            (BrokerCommand::Stop, Phase::Leaving { .. } | Phase::Stopping | Phase::Stopped) => {}
        }
    }

    /// A stop goes on.
    fn advance_stop<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        match self.phase {
            Phase::New | Phase::Recovering | Phase::Ready | Phase::Stopped => {}
            Phase::Leaving { until } if until == Instant::ZERO => {
                self.register.leave(now.mono, &self.topics, &self.config, env);
                self.phase = Phase::Leaving { until: now.mono + self.config.unregister_timeout };
                self.advance_stop(now, env);
            }
            Phase::Leaving { until } => {
                if self.register.has_left() || until <= now.mono {
                    let is_carried = self.carry_last(now, env);
                    if !is_carried && now.mono < until {
                        return;
                    }
                    self.release_pulls(now, env);
                    self.offsets.flush_now();
                    self.delays.flush_now();
                    self.store.stop(now, env);
                    self.phase = Phase::Stopping;
                }
            }
            Phase::Stopping => {
                self.store.stop(now, env);
                self.delays.flush_now();
                let clean = self.topics.file.is_clean()
                    && self.groups.file.is_clean()
                    && self.delays.is_durable()
                    && self.epochs.is_durable()
                    && self.known.file.is_clean()
                    && self.offsets.file.is_clean();
                if self.store.is_stopped() && clean && self.acks.len() == 0 {
                    self.phase = Phase::Stopped;
                    env.out.push(Effect::Emit(BrokerEvent::Stopped));
                }
            }
        }
    }

    /// Recovery goes on, and ends.
    fn advance_recovery<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if self.phase != Phase::Recovering {
            return;
        }
        if let Some((done, total)) = self.store.progress() {
            env.out.push(Effect::Emit(BrokerEvent::Progress { done, total }));
        }
        if self.store.is_ready() {
            self.begin_emptied();
            let begins = !self.is_epoch_begun && !self.replication.is_slave();
            if begins && !self.bring_home(now, env) {
                return;
            }
            if !self.replication.is_slave() && !self.settle_shorter_log(now, env.out) {
                return;
            }
            if begins {
                self.epochs.begin(self.store.log_end(), &mut env.rng.fork("epoch"));
                self.is_epoch_begun = true;
            }
            if self.is_epoch_begun && !self.epochs.is_durable() {
                return;
            }
            self.begin_carried();
            if !self.is_carried(now, env) {
                return;
            }
            if self.taken_back.is_none() {
                if self.adopts_topics {
                    self.topics.adopt_queues(now.wall, &self.store);
                }
                self.take_back();
            }
            if !self.is_taken_back(now, env) {
                return;
            }
            self.phase = Phase::Ready;
            env.out.push(Effect::Emit(BrokerEvent::Ready));
        }
    }

    fn topics_deadline(&self) -> Option<Instant> {
        let follows_log = || self.topics.deletions.may_write(self.store.synced());
        let may_write = match self.phase {
            Phase::New | Phase::Recovering | Phase::Stopped => {
                self.shorter.is_some() || self.is_taking_back() && follows_log()
            }
            Phase::Ready | Phase::Leaving { .. } | Phase::Stopping => follows_log(),
        };
        self.topics.file.deadline().filter(|_| may_write)
    }

    /// Brings home what only slaves have; whether that is over.
    fn bring_home<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) -> bool {
        if !self.is_home && self.home.is_none() {
            let may_lack = self.store.was_unclean()
                && self.replication.is_sync()
                && self.config.store.flush == FlushMode::Async;
            if may_lack && !self.known.all().is_empty() {
                let wait = self.config.ha.tail_wait;
                self.home = Some(Home::begin(now, self.known.all(), wait, self.store.log_end()));
            }
            self.is_home = self.home.is_none();
        }
        if let Some(home) = &mut self.home {
            match home.settle(now, &self.store, env) {
                Arrival::Waits => return false,
                Arrival::Done { unheard } => {
                    self.known.forget(&unheard);
                    (self.home, self.is_home) = (None, true);
                    self.store.drop_partial();
                }
            }
        }
        true
    }

    /// A slave's answer while what it has is looked for; false when nobody asked for it.
    fn on_slave_answer<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        answer: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(home) = &mut self.home else { return false };
        match home.on_answer(now, (conn, answer), &self.epochs, &self.store, env) {
            None => return false,
            Some(Ok(())) => {}
            Some(Err(reason)) => env.out.push(Effect::Fail { reason, restart: false }),
        }
        true
    }

    fn upstream_deadline(&self) -> Option<(Instant, &'static str)> {
        let due = self.upstream.deadline(self.store.queue_count())?;
        self.is_serving().then_some((due, "the master's tables"))
    }

    fn watermarks(&self) -> Watermarks {
        let written = self.store.written();
        let flushed = match self.config.store.flush {
            FlushMode::Async => written,
            FlushMode::Sync => self.store.synced(),
        };
        Watermarks {
            written,
            flushed,
            visible: self.store.visible(),
            acknowledged: self.replication.acknowledged(),
        }
    }

    fn release_acks<D>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let marks = self.watermarks();
        let conns = &mut self.conns;
        let files = ack::Files { topics: &self.topics.file, groups: &self.groups.file };
        self.acks.release(now.mono, marks, files, |conn, reply| conns.send(conn, reply, env));
    }

    /// Writes the epochs, without which nothing is written or followed.
    fn settle_epochs<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if self.epochs.file.is_due(now.mono) {
            let bytes = self.epochs.to_text();
            self.epochs.file.begin(SyncId(self.ids.next()), bytes, env.out);
        }
        if self.known.file.is_due(now.mono) {
            let bytes = self.known.to_json();
            self.known.file.begin(SyncId(self.ids.next()), bytes, env.out);
        }
        if self.epochs.own_file.is_due(now.mono) {
            let bytes = self.epochs.own_json();
            self.epochs.own_file.begin(SyncId(self.ids.next()), bytes, env.out);
        }
    }

    /// Writes the tables that changed.
    fn settle_files<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let begin =
            |file: &mut ConfigFile, ids: &mut Ids, bytes: Vec<u8>, out: &mut Vec<Effect<BrokerEvent>>| {
                file.begin(SyncId(ids.next()), bytes, out);
            };
        self.settle_topics(now, env.out);
        if self.groups.file.is_due(now.mono) {
            let bytes = body::encode(&self.groups.wrapper());
            begin(&mut self.groups.file, &mut self.ids, bytes, env.out);
        }
        self.settle_progress(now, env);
    }

    /// Writes how far groups and delay levels are.
    fn settle_progress<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let (delays, offsets) = (&mut self.delays, &mut self.offsets);
        let (visible, synced) = (self.store.visible(), self.store.synced());
        delays.settle_safe(visible, synced, |level, offset, end| offsets.note_delay(level, offset, end));
        if self.delays.is_flush_due(now.mono) {
            let bytes = self.delays.take_json(now.mono);
            self.delays.file.begin(SyncId(self.ids.next()), bytes, env.out);
        }
        let ids = &mut self.ids;
        self.offsets.settle(now.mono, || SyncId(ids.next()), env.disk, env.out);
    }
}

impl<D: Disk> Machine<D> for Broker {
    type Command = BrokerCommand;
    type Event = BrokerEvent;

    fn step(&mut self, now: Now, input: Input<BrokerCommand>, env: &mut Env<'_, D, BrokerEvent>) {
        match input {
            Input::Start => self.on_start(now, env),
            Input::Opened { conn, peer, protocol } => self.on_opened(now, conn, peer, protocol, env),
            Input::Received { conn, packet } => self.on_received(now, conn, packet, env),
            Input::Drained { conn } => {
                self.replication.on_drained(conn);
                self.on_drained(conn, env);
            }
            Input::Closed { conn, why } => self.on_closed(now, conn, why, env),
            Input::Synced { id, result } => self.on_synced(now, id, result, env),
            Input::Fetched { id, result } => {
                let _ = self.store.on_fetched(now, id, result, env)
                    || self.cut.as_mut().is_some_and(|cut| cut.on_fetched(id))
                    || self.replication.on_fetched(now, id, result)
                    || self.delays.on_fetched(id, result)
                    || self.carry.on_fetched(now, id, result)
                    || self.on_pull_fetched(now, id, result, env)
                    || self.on_request_fetched(now, id, result, env)
                    || self.on_search_fetched(now, id, result, env)
                    || self.on_once_fetched(now, id, result, env);
            }
            // Everything that is due is done as the turn ends.
            Input::Wake => {}
            Input::Command(command) => self.on_command(command),
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if self.phase == Phase::New {
            return;
        }
        self.advance_stop(now, env);
        self.settle_delays(now, env);
        self.settle_carrying(now, env);
        self.settle_once(now, env);
        self.replication.before_store(now, &mut self.store);
        self.store.settle(now, env);
        if self.cut.is_none() {
            self.replication.settle(now, &self.register.master, &self.epochs, &self.store, env);
        }
        self.advance_recovery(now, env);
        self.settle_carried(now, env);
        if self.phase != Phase::Recovering {
            self.settle_deletions();
        }
        self.settle_promotion(now, env);
        self.settle_upstream(now, env);
        self.settle_cut(env);
        self.settle_epochs(now, env);
        self.settle_calls(now, env);
        self.settle_searches(env);
        self.settle_pulls(now, env);
        self.release_acks(now, env);
        self.scan_clients(now, env);
        if self.phase != Phase::Recovering {
            self.settle_files(now, env);
            self.register.settle(now, &self.topics, &self.config, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        if matches!(self.phase, Phase::New | Phase::Stopped) {
            return None;
        }
        let leaving = match self.phase {
            Phase::Leaving { until } => Some((until, "stop")),
            Phase::New | Phase::Recovering | Phase::Ready | Phase::Stopping | Phase::Stopped => None,
        };
        let serving = self.phase != Phase::Recovering;
        let writes_progress = serving || self.is_taking_back();
        let at_once = |is_due: bool| is_due.then_some(Instant::ZERO);
        let mut soonest = Soonest(leaving);
        soonest.take(self.store.deadline());
        if self.cut.is_none() {
            soonest.take(self.replication.deadline());
        }
        soonest.at(at_once(self.cut.as_ref().is_some_and(Cut::is_runnable)), "copy of a parted tail");
        soonest.at(self.epochs.file.deadline(), "epochFileCheckpoint");
        soonest.at(self.epochs.own_file.deadline(), "gantryEpochs.json");
        soonest.at(self.known.file.deadline(), "gantrySlaves.json");
        soonest.at(self.home.as_ref().map(Home::deadline), "what slaves have kept");
        soonest.at(at_once(self.searches.is_runnable()), "search by key");
        soonest.at(at_once(self.once.is_runnable()), "a send that may be stored already");
        soonest.at(self.calls.deadline(), "answer of a client");
        soonest.at(self.holds.deadline(), "end of a long poll");
        if self.acks.len() > 0 {
            soonest.at(self.acks.deadline(self.watermarks()), "flush timeout");
        }
        soonest.at(self.scan.as_ref().map(Scan::due), "client scan");
        soonest.at(self.topics_deadline(), "topics.json");
        if serving {
            soonest.at(self.groups.file.deadline(), "subscriptionGroup.json");
            soonest.at(self.register.deadline(&self.topics, &self.config), "registration");
        }
        if writes_progress {
            soonest.at(self.offsets.deadline(), "consumerOffset.json");
            soonest.at(self.delays.file_deadline(), "delayOffset.json");
        }
        if self.delivers() {
            soonest.at(self.delays.deadline(), DELIVERY);
        }
        soonest.take(self.upstream_deadline());
        soonest.take(self.carry_deadline());
        soonest.0
    }

    fn check_invariants(&self) {
        self.store.check_invariants();
        self.topics.check_invariants();
        self.offsets.check_invariants();
        self.consumers.check_invariants();
        self.producers.check_invariants();
        self.holds.check_invariants();
        self.calls.check_invariants();
        self.once.check_invariants();
        self.acks.check_invariants();
        self.replication.check_invariants();
        self.epochs.check_invariants();
        self.delays.check_invariants();
    }
}
