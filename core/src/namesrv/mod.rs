//! The name server: routes of topics to brokers, in five tables that expire.
//!
//! Brokers register themselves and their topics every 30 s with every name server; name servers know nothing of each other. A
//! broker is removed the moment the connection that registered it closes, or 120 s after its last word, found by a scan
//! every 10 s. After a pause of this process the first scan removes nobody ([`crate::liveness`]).
//!
//! [`tables`] holds the state, [`register`] changes it, `handle/` answers requests by family. Nothing of the routes is on
//! disk: they come back with the brokers' next registrations. The key-value configuration and settings changed online are, and
//! a change of them is answered when it is durable.
//!
//! Absent on purpose: the controller's requests, NOTIFY_MIN_BROKER_ID_CHANGE, and RocketMQ's queue of unregistrations (a
//! turn takes all that arrived at once anyway).

mod config;
mod handle;
mod kv;
mod register;
mod save;
mod tables;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tracing::{info, warn};

pub use config::{NameServerConfig, SettingError};

use crate::io::{CloseReason, ConnId, Disk, DiskError, Effect, Env, Input, Machine, Now};
use crate::liveness::{Scan, Verdict};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::QueueData;
use crate::wire::{self, Packet};
use kv::KvConfig;
use save::{File, Saves};
use tables::Tables;

/// How often the key-value configuration is written to the log.
const KV_LOG_INTERVAL: Duration = Duration::from_secs(600);

/// The longest file read at start.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What the host asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// End: [`Event::Stopped`] follows when everything is on disk.
    Stop,
}

/// What the host is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Files are read: requests are served.
    Started,
    /// A request has changed these settings, and the host keeps them. The answer leaves after this.
    SettingsChanged {
        /// Names and values.
        settings: Vec<(String, String)>,
    },
    /// Nothing is under way any more.
    Stopped,
}

/// Where a life of the machine stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    New,
    Serving,
    Stopping,
    Stopped,
}

/// The machine.
#[derive(Debug)]
pub struct NameServer {
    config: NameServerConfig,
    /// What UPDATE_NAMESRV_CONFIG changed, this life or before: the content of `namesrv.properties`.
    changed_settings: BTreeMap<String, String>,
    /// What the host is to be told of them as the turn ends.
    told: Vec<(String, String)>,
    tables: Tables,
    kv: KvConfig,
    saves: Saves,
    phase: Phase,
    started: Instant,
    /// There while a broker is registered.
    scan: Option<Scan>,
    /// There while there is something to log.
    kv_log_due: Option<Instant>,
}

impl NameServer {
    /// A name server with these settings. Those that were changed online before are read from the disk on top of them.
    pub fn new(config: NameServerConfig) -> NameServer {
        NameServer {
            config,
            changed_settings: BTreeMap::new(),
            told: Vec::new(),
            tables: Tables::default(),
            kv: KvConfig::default(),
            saves: Saves::default(),
            phase: Phase::New,
            started: Instant::ZERO,
            scan: None,
            kv_log_due: None,
        }
    }

    /// The settings in effect.
    pub fn config(&self) -> &NameServerConfig {
        &self.config
    }

    /// Live brokers, as `(name, id, address)`, by address.
    pub fn live_brokers(&self) -> impl Iterator<Item = (&str, i64, &str)> {
        self.tables.live.iter().map(|(addr, live)| (live.broker_name.as_str(), live.broker_id, addr.as_str()))
    }

    /// Topics on a broker name with their queues as they are served, by topic.
    pub fn topics_of(&self, broker_name: &str) -> impl Iterator<Item = (&str, QueueData)> {
        self.tables.topics.iter().filter_map(move |(topic, on_brokers)| {
            let queues = on_brokers.get(broker_name)?;
            Some((topic.as_str(), QueueData { perm: queues.perm, ..queues.registered.clone() }))
        })
    }

    fn on_start<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, Event>) {
        match self.load(env.disk) {
            Ok(()) => {
                self.phase = Phase::Serving;
                self.started = now.mono;
                info!("name server started");
                env.out.push(Effect::Emit(Event::Started));
            }
            Err(reason) => env.out.push(Effect::Fail { reason, restart: false }),
        }
    }

    fn load(&mut self, disk: &mut impl Disk) -> Result<(), String> {
        if let Some(content) = read(disk, File::Kv)? {
            self.kv = KvConfig::decode(&content)
                .map_err(|error| format!("{}: {error}; repair it or move it away", File::Kv.path()))?;
        }
        if !self.config.host_keeps_changes
            && let Some(content) = read(disk, File::Properties)?
        {
            let path = File::Properties.path();
            let text = core::str::from_utf8(&content).map_err(|error| format!("{path}: {error}"))?;
            for (name, value) in config::parse_properties(text) {
                match self.config.set(name, value) {
                    Ok(()) => {
                        info!(name, value, "setting changed online before");
                        self.changed_settings.insert(name.into(), value.into());
                    }
                    Err(SettingError::Unknown) => warn!(name, "unknown setting in {path} is ignored"),
                    Err(SettingError::Invalid(why)) => return Err(format!("{path}: {why}")),
                }
            }
        }
        Ok(())
    }

    fn on_packet<D: Disk, E>(&mut self, now: Now, conn: ConnId, packet: &Packet, env: &mut Env<'_, D, E>) {
        match packet {
            // A name server asks nobody anything: an answer is to nothing.
            Packet::Command(command) if command.is_response() => {}
            Packet::Command(request) => {
                if let Some(answer) = self.answer(now, conn, request) {
                    respond(conn, request, answer, env);
                }
            }
            Packet::HaReport { .. } | Packet::HaBlock { .. } => env.out.push(Effect::Close { conn }),
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: CloseReason) {
        for addr in self.tables.addresses_of(conn) {
            Probe::BrokerConnectionClosed.reached();
            info!(addr, ?why, "connection of a broker closed");
            self.tables.forget(&addr);
        }
    }

    fn on_wake<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        match self.scan.as_mut().and_then(|scan| scan.take(now.mono)) {
            Some(Verdict::Expire) => self.expire(now, env),
            Some(Verdict::WaitOneMore) => {
                warn!("this process was paused; brokers get one more scan to be heard")
            }
            None => {}
        }
        if self.kv_log_due.is_some_and(|due| due <= now.mono) {
            self.kv.log();
            self.kv_log_due = None;
        }
    }

    fn expire<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        for (addr, conn) in self.tables.silent(now.mono) {
            Probe::BrokerExpired.reached();
            warn!(addr, "broker not heard of for too long");
            self.tables.forget(&addr);
            env.out.push(Effect::Close { conn });
        }
    }

    /// Deadlines that the state wants.
    fn arm(&mut self, now: Now) {
        if self.tables.live.is_empty() {
            self.scan = None;
        } else if self.scan.is_none() {
            let interval = self.config.scan_not_active_broker_interval_ms.max(SCAN_INTERVAL_MS_MIN);
            self.scan = Some(Scan::new(now.mono, Duration::from_millis(interval)));
        }
        if self.kv.is_empty() {
            self.kv_log_due = None;
        } else if self.kv_log_due.is_none() {
            self.kv_log_due = Some(now.mono + KV_LOG_INTERVAL);
        }
    }
}

/// A scan without a pause would be a busy loop.
const SCAN_INTERVAL_MS_MIN: u64 = 100;

fn read(disk: &mut impl Disk, file: File) -> Result<Option<alloc::vec::Vec<u8>>, String> {
    match disk.read_small(file.path(), FILE_BYTES_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(format!("{}: {error}", file.path())),
    }
}

/// Sends an answer, unless none is wanted.
fn respond<D, E>(conn: ConnId, request: &wire::Command, answer: wire::Command, env: &mut Env<'_, D, E>) {
    if !request.is_oneway() {
        env.send(conn, answer);
    }
}

impl<D: Disk> Machine<D> for NameServer {
    type Command = Command;
    type Event = Event;

    fn step(&mut self, now: Now, input: Input<Command>, env: &mut Env<'_, D, Event>) {
        match input {
            Input::Start => self.on_start(now, env),
            Input::Received { conn, packet } => self.on_packet(now, conn, &packet, env),
            Input::Closed { conn, why } => self.on_closed(conn, why),
            Input::Synced { id, result } => {
                for (conn, answer) in self.saves.end(id, result) {
                    env.send(conn, answer);
                }
            }
            Input::Wake => self.on_wake(now, env),
            Input::Command(Command::Stop) => self.phase = Phase::Stopping,
            Input::Opened { .. } | Input::Drained { .. } | Input::Fetched { .. } => {}
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, D, Event>) {
        for file in File::ALL {
            if self.saves.is_changed(file) {
                let content = match file {
                    File::Kv => self.kv.encode(),
                    File::Properties => config::format_properties(&self.changed_settings).into_bytes(),
                };
                self.saves.begin(file, content, env.out);
            }
        }
        if !self.told.is_empty() {
            let settings = core::mem::take(&mut self.told);
            env.out.push(Effect::Emit(Event::SettingsChanged { settings }));
        }
        self.arm(now);
        if self.phase == Phase::Stopping && self.saves.is_idle() {
            self.phase = Phase::Stopped;
            env.out.push(Effect::Emit(Event::Stopped));
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let scan = self.scan.as_ref().map(|scan| (scan.due(), "scan for silent brokers"));
        let kv_log = self.kv_log_due.map(|due| (due, "log the key-value configuration"));
        [scan, kv_log].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn check_invariants(&self) {
        self.tables.check_invariants();
        assert!(self.tables.live.is_empty() || self.scan.is_some(), "live brokers are scanned");
    }
}
