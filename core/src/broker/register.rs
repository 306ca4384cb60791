//! This broker at its name servers.
//!
//! To each server one connection, dialled again with growing pauses for ever. The whole table is registered on every new
//! connection and every [`super::BrokerConfig::register_interval`]; a change in between goes at once, as the changed topics
//! alone (RocketMQ's `registerIncrementBrokerData`, which every name server merges). At most one registration is under way
//! a server; changes made meanwhile go into the next.
//!
//! Absent on purpose: QUERY_DATA_VERSION before registering (RocketMQ's `forceRegister=false`).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::BrokerEvent;
use super::config::BrokerConfig;
use super::persist::Generation;
use super::topic::Topics;
use crate::io::{ConnId, Effect, Env, Now, Peer, Protocol};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper};
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{Header, RegisterBrokerRequest, RegisterBrokerResponse, UnRegisterBrokerRequest};
use crate::wire::{Command, Packet};

const READ_WRITE: i32 = body::perm::READ | body::perm::WRITE;
/// RocketMQ's checksum takes the top bit off.
const CHECKSUM_MASK: u32 = 0x7FFF_FFFF;

#[derive(Debug)]
enum State {
    /// No connection; dialled again at this time.
    Down {
        dial_at: Instant,
    },
    Dialling {
        conn: ConnId,
    },
    Up {
        conn: ConnId,
        under_way: Option<UnderWay>,
        next_full: Instant,
    },
}

/// A request that the server has not answered.
#[derive(Debug)]
struct UnderWay {
    opaque: i32,
    deadline: Instant,
    /// What the server knows once it has answered; none for the farewell.
    generation: Option<Generation>,
}

#[derive(Debug)]
struct Server {
    address: Arc<str>,
    state: State,
    pause: Duration,
    /// What it knows of the topics; none until it has the whole table from this connection.
    knows: Option<Generation>,
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
            State::Dialling { conn: ours } | State::Up { conn: ours, .. } => *ours == conn,
        })
    }

    /// A dial succeeded; false when it is not one of these.
    pub(super) fn on_opened(&mut self, now: Instant, conn: ConnId) -> bool {
        let Some(server) = self.server(conn) else { return false };
        server.state = State::Up { conn, under_way: None, next_full: now };
        true
    }

    /// A connection ended or could not be made; false when it is not one of these.
    pub(super) fn on_closed(&mut self, now: Instant, conn: ConnId, config: &BrokerConfig) -> bool {
        let Some(server) = self.server(conn) else { return false };
        if matches!(server.state, State::Up { .. }) {
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
        conn: ConnId,
        response: &Command,
        config: &BrokerConfig,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(server) = self.server(conn) else { return false };
        let State::Up { under_way, .. } = &mut server.state else { return false };
        if under_way.as_ref().is_none_or(|request| request.opaque != response.opaque) {
            return false;
        }
        let generation = under_way.take().and_then(|request| request.generation);
        if response.code != response_code::SUCCESS {
            tracing::warn!(
                namesrv = &*server.address,
                code = response.code,
                remark = response.remark.as_deref().unwrap_or_default(),
                "the name server refused the registration"
            );
            // The whole table at the next turn of the interval.
            server.knows = None;
            return true;
        }
        let Some(generation) = generation else { return true };
        if server.knows.is_none() {
            env.out.push(Effect::Emit(BrokerEvent::Registered { namesrv: server.address.clone() }));
        }
        server.pause = config.redial_min;
        server.knows = Some(generation);
        if let Ok(header) = RegisterBrokerResponse::decode(&response.ext) {
            self.master =
                MasterAddress { master_addr: header.master_addr, ha_server_addr: header.ha_server_addr };
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
        let generation = topics.file.generation();
        for server in &mut self.servers {
            match &mut server.state {
                State::Down { dial_at } if *dial_at <= now.mono && !self.leaving => {
                    let conn = ConnId::dialled(NAMESRV_CONNS | self.next_conn);
                    self.next_conn += 1;
                    let peer = Peer { address: server.address.clone(), protocol: Protocol::Remoting };
                    env.out.push(Effect::Dial { conn, peer });
                    server.state = State::Dialling { conn };
                }
                State::Down { .. } | State::Dialling { .. } => {}
                State::Up { conn, under_way: Some(request), .. } => {
                    if request.deadline <= now.mono {
                        Probe::NameServerSilent.reached();
                        tracing::warn!(namesrv = &*server.address, "the name server does not answer");
                        env.out.push(Effect::Close { conn: *conn });
                        // Closed follows; until then nothing more is asked of it.
                        request.deadline = now.mono + config.register_timeout;
                    }
                }
                State::Up { conn, under_way, next_full } => {
                    let full = now.mono >= *next_full;
                    let since = server.knows.filter(|_| !full);
                    if self.leaving || (!full && since.is_none_or(|known| known >= generation)) {
                        continue;
                    }
                    if full {
                        *next_full = now.mono + config.register_interval;
                    }
                    self.next_opaque = self.next_opaque.wrapping_add(1);
                    let deadline = now.mono + config.register_timeout;
                    *under_way =
                        Some(UnderWay { opaque: self.next_opaque, deadline, generation: Some(generation) });
                    let request = Command { opaque: self.next_opaque, ..registration(topics, since, config) };
                    env.send(*conn, Packet::Command(request));
                }
            }
        }
    }

    /// Tells every server that this broker goes away.
    pub(super) fn leave<D>(
        &mut self,
        now: Instant,
        config: &BrokerConfig,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        self.leaving = true;
        for server in &mut self.servers {
            let State::Up { conn, under_way, .. } = &mut server.state else { continue };
            self.next_opaque = self.next_opaque.wrapping_add(1);
            let header = UnRegisterBrokerRequest {
                broker_name: config.broker_name.clone(),
                broker_addr: broker_addr(config),
                cluster_name: config.cluster_name.clone(),
                broker_id: config.broker_id,
            };
            let request = Command {
                opaque: self.next_opaque,
                ..Command::request(request_code::UNREGISTER_BROKER, header.to_ext())
            };
            *under_way = Some(UnderWay {
                opaque: self.next_opaque,
                deadline: now + config.unregister_timeout,
                generation: None,
            });
            env.send(*conn, Packet::Command(request));
        }
    }

    /// Every server is told of all topics at once.
    pub(super) fn register_all(&mut self, now: Instant) {
        for server in &mut self.servers {
            if let State::Up { next_full, .. } = &mut server.state {
                *next_full = now;
            }
        }
    }

    /// Whether every server that could be told has heard of it.
    pub(super) fn has_left(&self) -> bool {
        let waits = |server: &Server| matches!(&server.state, State::Up { under_way: Some(_), .. });
        self.leaving && !self.servers.iter().any(waits)
    }

    /// When something is due, were nothing to happen.
    pub(super) fn deadline(&self, topics: &Topics) -> Option<Instant> {
        let generation = topics.file.generation();
        let due = |server: &Server| match &server.state {
            State::Down { dial_at } => (!self.leaving).then_some(*dial_at),
            State::Dialling { .. } => None,
            State::Up { under_way: Some(request), .. } => Some(request.deadline),
            State::Up { .. } if self.leaving => None,
            State::Up { next_full, .. } => {
                let behind = server.knows.is_some_and(|known| known < generation);
                Some(if behind { Instant::ZERO } else { *next_full })
            }
        };
        self.servers.iter().filter_map(due).min()
    }
}

/// Names of connections to name servers; replication uses others.
const NAMESRV_CONNS: u64 = 1 << 56;

/// `brokerIP1:listenPort`
fn broker_addr(config: &BrokerConfig) -> String {
    alloc::format!("{}", config.store_host)
}

/// REGISTER_BROKER with the whole table, or with what changed since.
fn registration(topics: &Topics, since: Option<Generation>, config: &BrokerConfig) -> Command {
    let wrapper = topics.wrapper_of(|topic| since.is_none_or(|since| topic.changed > since));
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
        topic_queue_mapping_detail_map: Some(Default::default()),
        topic_queue_mapping_info_map: Some(Default::default()),
        ..wrapper
    };
    let body = body::encode(&RegisterBrokerBody {
        filter_server_list: Vec::new(),
        topic_config_serialize_wrapper: wrapper,
    });
    let header = RegisterBrokerRequest {
        broker_name: config.broker_name.clone(),
        broker_addr: broker_addr(config),
        cluster_name: config.cluster_name.clone(),
        ha_server_addr: config.ha_addr.clone(),
        broker_id: config.broker_id,
        heartbeat_timeout_millis: None,
        enable_acting_master: None,
        compressed: Some(false),
        body_crc32: Some((crc32fast::hash(&body) & CHECKSUM_MASK) as i32),
    };
    Command::request(request_code::REGISTER_BROKER, header.to_ext()).with_body(body)
}
