//! The slave's side of replication: dials the master, appends what it sends, reports how far it has got.
//!
//! A report is an acknowledgement, so it names only what is as durable here as the flush mode makes it. A block that does not
//! continue this log, or that does not hold records where records must be, is refused and the connection closed: a replica never
//! changes what it has.

use alloc::sync::Arc;

use bytes::Bytes;

use super::HaConfig;
use crate::broker::store::{AppendError, FlushMode, Store};
use crate::io::{CloseReason, ConnId, Disk, Effect, Env, Now, Peer, Protocol};
use crate::time::{Duration, Instant};
use crate::wire::Packet;

/// How soon a dial is tried again that had to wait for this broker's own disk.
const DIAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum State {
    /// Dials at this time.
    Waiting {
        dial_at: Instant,
    },
    Dialling(ConnId),
    Connected {
        conn: ConnId,
        heard_at: Instant,
        reported: u64,
        reported_at: Instant,
    },
}

/// The stream from the master.
#[derive(Debug)]
pub struct Replica {
    config: HaConfig,
    flush: FlushMode,
    master: Option<Arc<str>>,
    state: State,
}

impl Replica {
    /// A slave of the master whose replication port is `master`, or of none that is known yet.
    pub fn new(config: HaConfig, flush: FlushMode, master: Option<Arc<str>>) -> Replica {
        Replica { config, flush, master, state: State::Waiting { dial_at: Instant::ZERO } }
    }

    /// Learns where the master's replication port is.
    pub fn set_master(&mut self, master: Option<Arc<str>>) {
        self.master = master;
    }

    /// Whether the connection is this stream's.
    pub fn owns(&self, conn: ConnId) -> bool {
        match &self.state {
            State::Waiting { .. } => false,
            State::Dialling(own) | State::Connected { conn: own, .. } => *own == conn,
        }
    }

    /// Whether the master is being heard.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// The dial succeeded: says where this log ends.
    pub fn on_opened<D: Disk, E>(&mut self, now: Now, conn: ConnId, store: &Store, env: &mut Env<'_, D, E>) {
        if !matches!(self.state, State::Dialling(own) if own == conn) {
            return;
        }
        // At the first report nothing is being appended, so the end is what recovery or the last stream left.
        let offset = self.durable(store);
        self.state = State::Connected { conn, heard_at: now.mono, reported: offset, reported_at: now.mono };
        env.send(conn, Packet::HaReport { offset });
        tracing::info!(offset, "following the master");
    }

    /// A piece of the master's log.
    pub fn on_block<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        offset: u64,
        body: &Bytes,
        store: &mut Store,
        env: &mut Env<'_, D, E>,
    ) {
        let State::Connected { conn: own, heard_at, .. } = &mut self.state else { return };
        if *own != conn {
            return;
        }
        *heard_at = now.mono;
        if body.is_empty() {
            return;
        }
        match store.append_raw(offset, body, env.disk) {
            Ok(()) => {}
            Err(AppendError::NotReady) => self.give_up(now, env),
            Err(
                error @ (AppendError::Disk(_)
                | AppendError::DiskWarning
                | AppendError::TooLarge
                | AppendError::NotARecord),
            ) => {
                tracing::warn!(
                    ?error,
                    offset,
                    end = store.log_end(),
                    "a block of the master does not continue this log"
                );
                self.give_up(now, env);
            }
        }
    }

    /// The connection ended, or the dial failed.
    pub fn on_closed(&mut self, now: Now, conn: ConnId, why: CloseReason) {
        if self.owns(conn) {
            tracing::info!(?why, "the master is not heard");
            self.state = State::Waiting { dial_at: now.mono + self.config.reconnect_interval };
        }
    }

    fn give_up<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        match self.state {
            State::Connected { conn, .. } | State::Dialling(conn) => env.out.push(Effect::Close { conn }),
            State::Waiting { .. } => {}
        }
        self.state = State::Waiting { dial_at: now.mono + self.config.reconnect_interval };
    }

    fn durable(&self, store: &Store) -> u64 {
        match self.flush {
            FlushMode::Async => store.written(),
            FlushMode::Sync => store.synced(),
        }
    }

    /// Dials, reports, and gives up a master that fell silent. Call after the store's `settle`; `next_conn` names a new
    /// connection.
    pub fn settle<D: Disk, E>(
        &mut self,
        now: Now,
        store: &Store,
        next_conn: impl FnOnce() -> ConnId,
        env: &mut Env<'_, D, E>,
    ) {
        let durable = self.durable(store);
        // What is on its way to the disk must not be asked for again.
        let may_dial = store.is_ready() && durable == store.log_end();
        match &mut self.state {
            State::Waiting { dial_at } if now.mono >= *dial_at && !may_dial => {
                *dial_at = now.mono + DIAL_CHECK_INTERVAL
            }
            State::Waiting { dial_at } => {
                if let Some(master) = &self.master
                    && now.mono >= *dial_at
                {
                    let conn = next_conn();
                    let peer = Peer { address: master.clone(), protocol: Protocol::HaSlave };
                    env.out.push(Effect::Dial { conn, peer });
                    self.state = State::Dialling(conn);
                }
            }
            State::Dialling(_) => {}
            State::Connected { conn, heard_at, reported, reported_at } => {
                if now.mono >= *heard_at + self.config.housekeeping_interval {
                    self.give_up(now, env);
                } else if durable > *reported || now.mono >= *reported_at + self.config.heartbeat_interval {
                    (*reported, *reported_at) = (durable, now.mono);
                    env.send(*conn, Packet::HaReport { offset: durable });
                }
            }
        }
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Waiting { dial_at } => self.master.as_ref().map(|_| (*dial_at, "HA dial")),
            State::Dialling(_) => None,
            State::Connected { heard_at, reported_at, .. } => Some(
                (*reported_at + self.config.heartbeat_interval, "HA report")
                    .min((*heard_at + self.config.housekeeping_interval, "HA housekeeping")),
            ),
        }
    }
}
