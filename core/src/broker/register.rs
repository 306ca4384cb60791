//! This broker at its name servers.
//!
//! To each server one connection, dialled again with growing pauses for ever. On each new connection the server is asked for
//! the version of this broker's table that it has (QUERY_DATA_VERSION), by which it says what it understands, and then gets the
//! whole table. After that every [`super::BrokerConfig::register_interval`] the same question is the sign of life, a few hundred
//! bytes, and what is changed in between goes at once, alone:
//!
//! | server | a change | when its version is another |
//! |---|---|---|
//! | Gantry | with the version that it builds on, and the names of deleted topics | the whole table, compressed JSON |
//! | RocketMQ | as the changed topics alone (`registerIncrementBrokerData`), which every name server merges | the whole table, in RocketMQ's compressed form where that says everything |
//!
//! A Gantry server also says that its version is another when somebody else changed the topics of this broker, and it refuses
//! a change that does not build on what it has. So a change that is lost, comes twice or late never leaves it wrong: whatever the
//! broker cannot account for ends in the whole table. At most one request is under way a server; changes made meanwhile go into
//! the next.
//!
//! A slave registers without topics, each time: name servers take none from it, and it learns its master from the answer. One that
//! knows no master takes none away, and is asked again soon: it may have started after the slave and before the master.
//!
//! Absent on purpose: REGISTER_TOPIC_IN_NAMESRV for changes (`enableSingleTopicRegister`), `enableSplitRegistration`, and the
//! order configuration in the answers, which RocketMQ's brokers copy into their topics and do not use.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::BrokerEvent;
use super::config::BrokerConfig;
use super::persist::Generation;
use super::topic::Topics;
use crate::io::{ConnId, Effect, Env, Now, Peer, Protocol};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{
    self, DataVersion, RegisterBrokerBody, RegistrationChange, TopicConfig, TopicConfigSerializeWrapper,
};
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{
    Header, QueryDataVersionRequest, QueryDataVersionResponse, RegisterBrokerRequest, RegisterBrokerResponse,
    UnRegisterBrokerRequest,
};
use crate::wire::{Command, Packet};

const READ_WRITE: i32 = body::perm::READ | body::perm::WRITE;
/// RocketMQ's checksum takes the top bit off.
const CHECKSUM_MASK: u32 = 0x7FFF_FFFF;
/// The `brokerId` of a master.
pub(super) const MASTER_ID: i64 = 0;
/// RocketMQ 5.0.0; name servers before it do not read the compressed form of brokers after it.
const VERSION_5_0_0: i32 = 413;
/// How often a slave asks for its master while none is there: as often as it would dial it.
const MASTER_ASK_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    /// No connection; dialled again at this time.
    Down {
        dial_at: Instant,
    },
    Dialling {
        conn: ConnId,
    },
    Up(Session),
}

/// A connection and what goes over it.
#[derive(Debug)]
struct Session {
    conn: ConnId,
    under_way: Option<UnderWay>,
    kind: Kind,
    /// When the whole table is to be sent, if it is.
    table_at: Option<Instant>,
    /// When it is to hear of this broker again.
    next_beat: Instant,
}

/// What a server understands, as it said over this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Not asked yet.
    Unknown,
    /// Changes that name what they build on.
    Gantry,
    /// RocketMQ's forms.
    Plain {
        /// It answers QUERY_DATA_VERSION.
        tells_version: bool,
        /// It reads the compressed form.
        inflates: bool,
    },
}

/// What a server is told or asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    /// Which version it has.
    Version,
    /// All topics; of a slave, none.
    Table,
    /// What changed since then.
    Change(Known),
    /// Goodbye.
    Farewell,
}

/// A request that the server has not answered.
#[derive(Debug)]
struct UnderWay {
    opaque: i32,
    deadline: Instant,
    ask: Ask,
    /// What the server knows once it has agreed.
    then: Known,
}

/// What a server knows: this broker as this id, with its topics after this change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    broker_id: i64,
    generation: Generation,
    version: DataVersion,
}

#[derive(Debug)]
struct Server {
    address: Arc<str>,
    state: State,
    pause: Duration,
    /// None until it has taken the whole table over this connection.
    knows: Option<Known>,
}

/// Where slaves find their master, as a name server tells them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct MasterAddress {
    pub(super) master_addr: Option<String>,
    pub(super) ha_server_addr: Option<String>,
}

/// All name servers.
#[derive(Debug)]
pub(super) struct Register {
    servers: Vec<Server>,
    next_opaque: i32,
    next_conn: u64,
    leaving: bool,
    /// The latest that a name server told.
    pub(super) master: MasterAddress,
}

impl Register {
    pub(super) fn new(config: &BrokerConfig) -> Register {
        let server = |address: &Arc<str>| Server {
            address: address.clone(),
            state: State::Down { dial_at: Instant::ZERO },
            pause: config.redial_min,
            knows: None,
        };
        Register {
            servers: config.namesrv_addrs.iter().map(server).collect(),
            next_opaque: 0,
            next_conn: 0,
            leaving: false,
            master: MasterAddress::default(),
        }
    }

    fn server(&mut self, conn: ConnId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| match &server.state {
            State::Down { .. } => false,
            State::Dialling { conn: ours } | State::Up(Session { conn: ours, .. }) => *ours == conn,
        })
    }

    /// A dial succeeded; false when it is not one of these.
    pub(super) fn on_opened(&mut self, now: Instant, conn: ConnId) -> bool {
        let Some(server) = self.server(conn) else { return false };
        server.state = State::Up(Session {
            conn,
            under_way: None,
            kind: Kind::Unknown,
            table_at: Some(now),
            next_beat: now,
        });
        true
    }

    /// A connection ended or could not be made; false when it is not one of these.
    pub(super) fn on_closed(&mut self, now: Instant, conn: ConnId, config: &BrokerConfig) -> bool {
        let Some(server) = self.server(conn) else { return false };
        if matches!(server.state, State::Up(_)) {
            Probe::NameServerLost.reached();
            tracing::warn!(namesrv = &*server.address, "connection to the name server lost");
        }
        server.state = State::Down { dial_at: now + server.pause };
        server.pause = (server.pause * 2).min(config.redial_max);
        server.knows = None;
        true
    }

    /// A packet from a connection of this side's making; false when it is no answer to a registration.
    pub(super) fn on_response<D>(
        &mut self,
        now: Instant,
        conn: ConnId,
        response: &Command,
        config: &BrokerConfig,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(server) = self.server(conn) else { return false };
        let State::Up(session) = &mut server.state else { return false };
        let Some(request) = session.under_way.take_if(|request| request.opaque == response.opaque) else {
            return false;
        };
        match request.ask {
            Ask::Version => {
                session.on_version(now, response);
                return true;
            }
            Ask::Farewell => return true,
            Ask::Table | Ask::Change(_) => {}
        }
        if response.code != response_code::SUCCESS {
            server.knows = None;
            session.on_refusal(now, request.ask, config);
            let (code, remark) = (response.code, response.remark.as_deref().unwrap_or_default());
            tracing::warn!(
                namesrv = &*server.address,
                code,
                remark,
                "the name server refused the registration"
            );
            return true;
        }
        if server.knows.is_none() {
            env.out.push(Effect::Emit(BrokerEvent::Registered { namesrv: server.address.clone() }));
        }
        server.pause = config.redial_min;
        server.knows = Some(request.then);
        if config.broker_id == MASTER_ID {
            return true;
        }
        match RegisterBrokerResponse::decode(&response.ext) {
            Ok(header) if header.ha_server_addr.as_deref().is_some_and(|address| !address.is_empty()) => {
                self.master =
                    MasterAddress { master_addr: header.master_addr, ha_server_addr: header.ha_server_addr };
            }
            Ok(_) | Err(_) => {
                Probe::MasterUnknown.reached();
                session.table_at = Some(now + MASTER_ASK_INTERVAL);
            }
        }
        true
    }

    /// Dials, registers and gives up, as is due.
    pub(super) fn settle<D>(
        &mut self,
        now: Now,
        topics: &Topics,
        config: &BrokerConfig,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        for server in &mut self.servers {
            let next = server.next(topics, config);
            match &mut server.state {
                State::Down { dial_at } if *dial_at <= now.mono && !self.leaving => {
                    let conn = ConnId::dialled(NAMESRV_CONNS | self.next_conn);
                    self.next_conn += 1;
                    let peer = Peer { address: server.address.clone(), protocol: Protocol::Remoting };
                    env.out.push(Effect::Dial { conn, peer });
                    server.state = State::Dialling { conn };
                }
                State::Down { .. } | State::Dialling { .. } => {}
                State::Up(Session { conn, under_way: Some(request), .. }) => {
                    if request.deadline <= now.mono {
                        Probe::NameServerSilent.reached();
                        tracing::warn!(namesrv = &*server.address, "the name server does not answer");
                        env.out.push(Effect::Close { conn: *conn });
                        // Closed follows; until then nothing more is asked of it.
                        request.deadline = now.mono + config.register_timeout;
                    }
                }
                State::Up(session) => {
                    let Some((_, ask)) = next.filter(|(due, _)| *due <= now.mono && !self.leaving) else {
                        continue;
                    };
                    self.next_opaque = self.next_opaque.wrapping_add(1);
                    let request = session.ask(now.mono, ask, self.next_opaque, topics, config);
                    env.send(session.conn, Packet::Command(request));
                }
            }
        }
    }

    /// Tells every server that this broker goes away.
    pub(super) fn leave<D>(
        &mut self,
        now: Instant,
        topics: &Topics,
        config: &BrokerConfig,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        self.leaving = true;
        for server in &mut self.servers {
            let State::Up(session) = &mut server.state else { continue };
            self.next_opaque = self.next_opaque.wrapping_add(1);
            let request = session.ask(now, Ask::Farewell, self.next_opaque, topics, config);
            env.send(session.conn, Packet::Command(request));
        }
    }

    /// Every server is told of all topics at once.
    pub(super) fn register_all(&mut self, now: Instant) {
        for server in &mut self.servers {
            if let State::Up(session) = &mut server.state {
                session.table_at = Some(now);
            }
        }
    }

    /// Whether every server that could be told has heard of it.
    pub(super) fn has_left(&self) -> bool {
        let waits = |server: &Server| matches!(&server.state, State::Up(Session { under_way: Some(_), .. }));
        self.leaving && !self.servers.iter().any(waits)
    }

    /// When something is due, were nothing to happen.
    pub(super) fn deadline(&self, topics: &Topics, config: &BrokerConfig) -> Option<Instant> {
        let due = |server: &Server| match &server.state {
            State::Down { dial_at } => (!self.leaving).then_some(*dial_at),
            State::Dialling { .. } => None,
            State::Up(Session { under_way: Some(request), .. }) => Some(request.deadline),
            State::Up(_) if self.leaving => None,
            State::Up(_) => server.next(topics, config).map(|(due, _)| due),
        };
        self.servers.iter().filter_map(due).min()
    }
}

impl Server {
    /// What it is to be told or asked next, and when.
    fn next(&self, topics: &Topics, config: &BrokerConfig) -> Option<(Instant, Ask)> {
        let State::Up(session) = &self.state else { return None };
        let is_slave = config.broker_id != MASTER_ID;
        if session.kind == Kind::Unknown && !is_slave {
            return Some((Instant::ZERO, Ask::Version));
        }
        let table = session.table_at.map(|at| (at, Ask::Table));
        let Some(known) = self.knows.filter(|known| known.broker_id == config.broker_id) else {
            return Some(table.unwrap_or((Instant::ZERO, Ask::Table)));
        };
        if table.is_none() && !is_slave && known.version != topics.version() {
            return Some((Instant::ZERO, Ask::Change(known)));
        }
        let tells_version = match session.kind {
            Kind::Unknown => false,
            Kind::Gantry => true,
            Kind::Plain { tells_version, .. } => tells_version,
        };
        let beat =
            if tells_version && !is_slave && !config.force_register { Ask::Version } else { Ask::Table };
        // The table is a sign of life too.
        let beat = (session.next_beat, beat);
        Some(table.filter(|(at, _)| *at <= beat.0).unwrap_or(beat))
    }
}

impl Session {
    /// The request for `ask`, which is then under way.
    fn ask(
        &mut self,
        now: Instant,
        ask: Ask,
        opaque: i32,
        topics: &Topics,
        config: &BrokerConfig,
    ) -> Command {
        let timeout = match ask {
            Ask::Version | Ask::Table | Ask::Change(_) => config.register_timeout,
            Ask::Farewell => config.unregister_timeout,
        };
        let request = match ask {
            Ask::Version => query(topics, config),
            Ask::Table => table(topics, self.kind, config),
            Ask::Change(since) => change(topics, self.kind, since, config),
            Ask::Farewell => farewell(config),
        };
        match ask {
            Ask::Table => (self.table_at, self.next_beat) = (None, now + config.register_interval),
            // The first question is part of registering.
            Ask::Version if self.kind != Kind::Unknown => self.next_beat = now + config.register_interval,
            Ask::Version | Ask::Change(_) | Ask::Farewell => {}
        }
        let then = Known {
            broker_id: config.broker_id,
            generation: topics.file.generation(),
            version: topics.version(),
        };
        self.under_way = Some(UnderWay { opaque, deadline: now + timeout, ask, then });
        Command { opaque, ..request }
    }

    /// The server told its version of the table, or does not know the question.
    fn on_version(&mut self, now: Instant, response: &Command) {
        let told = QueryDataVersionResponse::decode(&response.ext)
            .ok()
            .filter(|_| response.code == response_code::SUCCESS);
        if self.kind == Kind::Unknown {
            self.kind = match &told {
                Some(told) if told.takes_changes == Some(true) => Kind::Gantry,
                Some(_) => Kind::Plain { tells_version: true, inflates: response.version >= VERSION_5_0_0 },
                None => Kind::Plain { tells_version: false, inflates: false },
            };
        }
        if told.is_none_or(|told| told.changed) {
            self.table_at = Some(now);
        }
    }

    /// The server does not take what it was sent.
    fn on_refusal(&mut self, now: Instant, ask: Ask, config: &BrokerConfig) {
        let again = match (ask, &mut self.kind) {
            (Ask::Table, Kind::Plain { inflates, .. }) if *inflates => {
                *inflates = false;
                now
            }
            (Ask::Table, Kind::Unknown | Kind::Gantry | Kind::Plain { .. }) => now + config.register_interval,
            (Ask::Change(_) | Ask::Version | Ask::Farewell, _) => now,
        };
        self.table_at = Some(again);
    }
}

/// Names of connections to name servers; replication uses others.
const NAMESRV_CONNS: u64 = 1 << 56;

/// `brokerIP1:listenPort`
fn broker_addr(config: &BrokerConfig) -> String {
    config.store_host.to_string()
}

/// QUERY_DATA_VERSION, which counts as a sign of life.
fn query(topics: &Topics, config: &BrokerConfig) -> Command {
    let header = QueryDataVersionRequest {
        broker_name: config.broker_name.clone(),
        broker_addr: broker_addr(config),
        cluster_name: config.cluster_name.clone(),
        broker_id: config.broker_id,
    };
    let request = Command::request(request_code::QUERY_DATA_VERSION, header.to_ext());
    request.with_body(body::encode(&topics.version()))
}

fn farewell(config: &BrokerConfig) -> Command {
    let header = UnRegisterBrokerRequest {
        broker_name: config.broker_name.clone(),
        broker_addr: broker_addr(config),
        cluster_name: config.cluster_name.clone(),
        broker_id: config.broker_id,
    };
    Command::request(request_code::UNREGISTER_BROKER, header.to_ext())
}

/// REGISTER_BROKER with the whole table; of a slave, with none of it.
fn table(topics: &Topics, kind: Kind, config: &BrokerConfig) -> Command {
    let is_slave = config.broker_id != MASTER_ID;
    let body = registration(topics.wrapper_of(|_| !is_slave), None, config);
    let (compressed, bytes) = match kind {
        Kind::Gantry if config.compressed_register => (true, body.encode_compressed_json()),
        Kind::Plain { inflates: true, .. } if config.compressed_register && body.fits_compressed() => {
            (true, body.encode_compressed())
        }
        Kind::Unknown | Kind::Gantry | Kind::Plain { .. } => (false, body::encode(&body)),
    };
    register(bytes, compressed, config)
}

/// REGISTER_BROKER with what changed.
fn change(topics: &Topics, kind: Kind, since: Known, config: &BrokerConfig) -> Command {
    let deleted = topics.deleted_since(since.generation);
    let change = match (kind, deleted) {
        (Kind::Gantry, Some(gone)) => {
            let gone = gone.into_iter().map(String::from).collect();
            Some(RegistrationChange { base: since.version, gone })
        }
        // More were deleted than are remembered.
        (Kind::Gantry, None) => return table(topics, kind, config),
        (Kind::Unknown | Kind::Plain { .. }, _) => None,
    };
    let changed = topics.wrapper_of(|topic| topic.changed > since.generation);
    if change.is_none() && changed.topic_config_table.is_empty() {
        // RocketMQ's are not told of deletions, and with `deleteTopicWithBrokerRegistration` an empty table deletes everything.
        return table(topics, kind, config);
    }
    register(body::encode(&registration(changed, change, config)), false, config)
}

fn registration(
    wrapper: TopicConfigSerializeWrapper,
    change: Option<RegistrationChange>,
    config: &BrokerConfig,
) -> RegisterBrokerBody {
    let masked = |(name, topic): (String, TopicConfig)| {
        // Only a permission that takes something away is applied, as in RocketMQ.
        let perm = if config.permission & READ_WRITE == READ_WRITE {
            topic.perm
        } else {
            topic.perm & config.permission
        };
        (name, TopicConfig { perm, ..topic })
    };
    let wrapper = TopicConfigSerializeWrapper {
        topic_config_table: wrapper.topic_config_table.into_iter().map(masked).collect(),
        topic_queue_mapping_detail_map: Some(BTreeMap::new()),
        topic_queue_mapping_info_map: Some(BTreeMap::new()),
        ..wrapper
    };
    RegisterBrokerBody {
        filter_server_list: Vec::new(),
        gantry_change: change,
        topic_config_serialize_wrapper: wrapper,
    }
}

fn register(body: Vec<u8>, compressed: bool, config: &BrokerConfig) -> Command {
    let header = RegisterBrokerRequest {
        broker_name: config.broker_name.clone(),
        broker_addr: broker_addr(config),
        cluster_name: config.cluster_name.clone(),
        ha_server_addr: config.ha_addr.clone(),
        broker_id: config.broker_id,
        heartbeat_timeout_millis: None,
        enable_acting_master: None,
        compressed: Some(compressed),
        body_crc32: Some((crc32fast::hash(&body) & CHECKSUM_MASK) as i32),
    };
    Command::request(request_code::REGISTER_BROKER, header.to_ext()).with_body(body)
}
