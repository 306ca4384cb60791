//! The master's side of replication: one stream per slave, each stopped by its connection's credit.
//!
//! A slave is sent what is as durable here as the flush mode makes it: with synchronous flush nothing reaches it that power
//! loss could take back, so a master never comes back shorter than its slave.
//!
//! A fresh slave (its first report is 0) begins at the log's minimum. One that asks for bytes this log does not have, before
//! its minimum or behind its end, is refused: it holds another log.
//!
//! A slave *counts* for synchronous replication once it holds this log from its minimum on, up to what is being written. It
//! catches up in rounds: a round ends when it has acknowledged what the log held as the round began; a round short enough
//! ([`HaConfig::catch_up_max`]) shows that it keeps up. So a slave that joins far behind never holds a sender up, and one that
//! falls behind by [`HaConfig::gap_bytes_max`] counts no more. A Gantry slave whose log begins behind this one's minimum
//! acknowledges nothing, and so never counts; of others it is not known.
//!
//! Invariants: `acked <= next <= end` for each slave; at most one fetch a slave is under way.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::flow::Flow;
use super::{HaConfig, ID_SPACE};
use crate::broker::store::{FlushMode, Store};
use crate::io::{CREDIT_BYTES, ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::probe::Probe;
use crate::time::Instant;
use crate::wire::Packet;
use crate::wire::body::{HAConnectionRuntimeInfo, HARuntimeInfo};

#[derive(Debug)]
struct Slave {
    peer: SocketAddr,
    flow: Flow,
    /// Where its log ends, as it said last; none before its first report.
    acked: Option<u64>,
    /// Whether it counts for synchronous replication; else the round in which it catches up.
    standing: Standing,
    /// First byte not sent yet.
    next: u64,
    /// Bytes sent since the connection last ran dry.
    unpaid: u64,
    fetching: Option<FetchId>,
    sent_at: Instant,
    heard_at: Instant,
}

/// How a slave stands to the log's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It is to acknowledge this end, which the log had at that time.
    CatchesUp {
        end: u64,
        since: Instant,
    },
    Counts,
}

impl Slave {
    /// It has acknowledged something, or joined.
    fn judge(&mut self, now: Instant, end: u64, config: &HaConfig) {
        let acked = self.acked.unwrap_or(0);
        match self.standing {
            Standing::Counts => {
                if end.saturating_sub(acked) >= config.gap_bytes_max {
                    Probe::SlaveFallsBehind.reached();
                    self.standing = Standing::CatchesUp { end, since: now };
                }
            }
            Standing::CatchesUp { end: owed, since } if acked >= owed => {
                self.standing = if acked == end || now <= since + config.catch_up_max {
                    Probe::SlaveCounts.reached();
                    Standing::Counts
                } else {
                    Standing::CatchesUp { end, since: now }
                };
            }
            Standing::CatchesUp { .. } => {}
        }
    }
}

/// The streams to all slaves.
#[derive(Debug)]
pub struct Primary {
    config: HaConfig,
    flush: FlushMode,
    slaves: BTreeMap<ConnId, Slave>,
    fetches: u64,
}

impl Primary {
    /// A master without slaves.
    pub fn new(config: HaConfig, flush: FlushMode) -> Primary {
        Primary { config, flush, slaves: BTreeMap::new(), fetches: 0 }
    }

    /// A slave connected.
    pub fn on_opened(&mut self, now: Now, conn: ConnId, peer: SocketAddr) {
        let slave = Slave {
            peer,
            flow: Flow::default(),
            acked: None,
            standing: Standing::CatchesUp { end: u64::MAX, since: now.mono },
            next: 0,
            unpaid: 0,
            fetching: None,
            sent_at: now.mono,
            heard_at: now.mono,
        };
        self.slaves.insert(conn, slave);
    }

    /// A slave says where its log ends.
    pub fn on_report<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        offset: u64,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) {
        let sendable = self.sendable(store);
        let Some(slave) = self.slaves.get_mut(&conn) else { return };
        slave.heard_at = now.mono;
        if slave.acked.is_some() {
            // More than was sent is no acknowledgement of ours.
            if offset <= slave.next {
                slave.acked = slave.acked.max(Some(offset));
                slave.judge(now.mono, sendable, &self.config);
            } else {
                tracing::warn!(
                    ?conn,
                    offset,
                    sent = slave.next,
                    "a slave acknowledges more than it was sent; closing"
                );
                self.refuse(conn, env);
            }
            return;
        }
        let begin = if offset == 0 { store.log_min() } else { offset };
        if begin < store.log_min() || begin > sendable {
            Probe::SlaveRefused.reached();
            tracing::warn!(
                ?conn,
                offset,
                log_min = store.log_min(),
                log_end = sendable,
                "a slave's log does not continue in this one; it holds another history and is refused"
            );
            self.refuse(conn, env);
            return;
        }
        slave.next = begin;
        slave.acked = Some(offset);
        Probe::SlaveJoined.reached();
        slave.standing = Standing::CatchesUp { end: sendable, since: now.mono };
        slave.judge(now.mono, sendable, &self.config);
        tracing::info!(?conn, from = begin, "slave joined");
    }

    fn refuse<D: Disk, E>(&mut self, conn: ConnId, env: &mut Env<'_, D, E>) {
        self.slaves.remove(&conn);
        env.out.push(Effect::Close { conn });
    }

    /// A slave's connection ran dry.
    pub fn on_drained(&mut self, conn: ConnId) {
        if let Some(slave) = self.slaves.get_mut(&conn) {
            slave.unpaid = 0;
        }
    }

    /// A slave's connection ended.
    pub fn on_closed(&mut self, conn: ConnId) {
        self.slaves.remove(&conn);
    }

    /// A fetch completed; false when it is somebody else's. The stream goes on in `settle`.
    pub fn on_fetched(&mut self, id: FetchId, result: Result<(), DiskError>) -> bool {
        if id.0 & (0xFF << 56) != ID_SPACE {
            return false;
        }
        for (conn, slave) in &mut self.slaves {
            if slave.fetching == Some(id) {
                slave.fetching = None;
                if let Err(error) = result {
                    tracing::warn!(?conn, %error, at = slave.next, "commit log not read for a slave");
                }
            }
        }
        true
    }

    /// What `GET_BROKER_HA_STATUS` tells.
    pub(crate) fn status(&self, now: Now, store: &Store) -> HARuntimeInfo {
        let end = store.log_end();
        let connection = |slave: &Slave| {
            let acked = slave.acked.map_or(-1, |acked| acked as i64);
            HAConnectionRuntimeInfo {
                addr: slave.peer.to_string(),
                diff: end as i64 - acked,
                in_sync: (end as i64 - acked) < self.config.gap_bytes_max as i64,
                slave_ack_offset: acked,
                transfer_from_where: slave.acked.map_or(-1, |_| slave.next as i64),
                transferred_byte_in_second: slave.flow.last_second(now.mono) as i64,
            }
        };
        let connections: Vec<HAConnectionRuntimeInfo> = self.slaves.values().map(connection).collect();
        HARuntimeInfo {
            in_sync_slave_nums: connections.iter().filter(|slave| slave.in_sync).count() as i32,
            ha_connection_info: connections,
            master: true,
            master_commit_log_max_offset: end as i64,
            ..HARuntimeInfo::default()
        }
    }

    /// Where the log ends for slaves.
    fn sendable(&self, store: &Store) -> u64 {
        match self.flush {
            FlushMode::Async => store.written(),
            FlushMode::Sync => store.synced(),
        }
    }

    /// Whether a slave follows.
    pub fn has_slaves(&self) -> bool {
        self.slaves.values().any(|slave| slave.acked.is_some())
    }

    /// End of what enough slaves hold; none when not enough of them count, or none is demanded.
    pub fn replicated(&mut self, now: Now, store: &Store) -> Option<u64> {
        let end = self.sendable(store);
        let mut acked: Vec<u64> = Vec::new();
        for slave in self.slaves.values_mut() {
            slave.judge(now.mono, end, &self.config);
            acked.extend(slave.acked.filter(|_| slave.standing == Standing::Counts));
        }
        acked.sort_unstable_by(|a, b| b.cmp(a));
        acked.get(self.config.replicas_min.checked_sub(1)?).copied()
    }

    /// How many slaves must hold a message before it is acknowledged.
    pub fn set_replicas_min(&mut self, replicas_min: usize) {
        self.config.replicas_min = replicas_min;
    }

    /// Whether senders are promised that a slave has what they sent.
    pub fn is_demanded(&self) -> bool {
        self.config.replicas_min > 0
    }

    /// Sends each slave what it may have, and gives up those that fell silent. Call after the store's `settle`.
    pub fn settle<D: Disk, E>(&mut self, now: Now, store: &Store, env: &mut Env<'_, D, E>) {
        let end = self.sendable(store);
        let mut silent = Vec::new();
        for (conn, slave) in &mut self.slaves {
            if now.mono >= slave.heard_at + self.config.housekeeping_interval {
                silent.push(*conn);
            } else if slave.acked.is_some() && slave.fetching.is_none() {
                stream(&self.config, &mut self.fetches, now, *conn, slave, end, store, env);
            }
        }
        for conn in silent {
            Probe::SlaveSilent.reached();
            tracing::info!(?conn, "slave silent; connection given up");
            self.refuse(conn, env);
        }
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.slaves
            .values()
            .flat_map(|slave| {
                // One that waits for the disk or takes nothing gets no heartbeat: to be woken for it would be a busy loop.
                let heartbeat = slave
                    .acked
                    .filter(|_| slave.fetching.is_none() && slave.unpaid < CREDIT_BYTES)
                    .map(|_| (slave.sent_at + self.config.heartbeat_interval, "HA heartbeat"));
                [heartbeat, Some((slave.heard_at + self.config.housekeeping_interval, "HA housekeeping"))]
            })
            .flatten()
            .min()
    }

    /// Asserts what must always hold.
    pub fn check_invariants(&self) {
        for slave in self.slaves.values() {
            assert!(
                slave.acked.is_none_or(|acked| acked <= slave.next),
                "nobody acknowledges what was not sent"
            );
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one borrow of Primary")]
fn stream<D: Disk, E>(
    config: &HaConfig,
    fetches: &mut u64,
    now: Now,
    conn: ConnId,
    slave: &mut Slave,
    end: u64,
    store: &Store,
    env: &mut Env<'_, D, E>,
) {
    while slave.next < end && slave.unpaid < CREDIT_BYTES {
        let mut body = Vec::new();
        let len = config.block_bytes_max.min(end - slave.next);
        match store.read_log(slave.next, len, env.disk, &mut body) {
            Ok(Ok(())) => send(now, conn, slave, body, env),
            Ok(Err(cold)) => {
                *fetches += 1;
                let id = FetchId(ID_SPACE | *fetches);
                slave.fetching = Some(id);
                env.out.push(Effect::Fetch { id, at: cold });
                return;
            }
            Err(error) => {
                tracing::warn!(?conn, %error, at = slave.next, "commit log not read for a slave; closing");
                env.out.push(Effect::Close { conn });
                return;
            }
        }
    }
    if now.mono >= slave.sent_at + config.heartbeat_interval && slave.unpaid < CREDIT_BYTES {
        send(now, conn, slave, Vec::new(), env);
    }
}

fn send<D: Disk, E>(now: Now, conn: ConnId, slave: &mut Slave, body: Vec<u8>, env: &mut Env<'_, D, E>) {
    let offset = slave.next;
    slave.next += body.len() as u64;
    slave.sent_at = now.mono;
    slave.flow.add(now.mono, body.len() as u64);
    let packet = Packet::HaBlock { offset, body: body.into() };
    slave.unpaid += packet.cost();
    env.out.push(Effect::Send { conn, packet });
}
