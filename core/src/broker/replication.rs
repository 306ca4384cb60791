//! Which side of replication this broker is on, and what that means for acknowledgements.
//!
//! A synchronous master answers SEND_OK only for what a slave holds. While no slave counts, nothing waits for one: messages are
//! seen as soon as this disk allows, and senders are told SLAVE_NOT_AVAILABLE. A slave takes no messages from clients.

use alloc::format;
use core::net::SocketAddr;

use super::ha::epochs::Epochs;
use super::ha::{Block, HaConfig, MasterLog, Primary, Replica, Verdict};
use super::register::MasterAddress;
use super::store::{FlushMode, Store};
use crate::io::{CloseReason, ConnId, Disk, DiskError, Effect, Env, FetchId, Now, Protocol};
use crate::time::Instant;
use crate::wire::Packet;
use crate::wire::body::HARuntimeInfo;

/// Names of connections to a master; those to name servers are others.
const MASTER_CONNS: u64 = 2 << 56;

/// `brokerRole`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BrokerRole {
    /// `ASYNC_MASTER`: slaves follow, nobody waits for them.
    #[default]
    AsyncMaster,
    /// `SYNC_MASTER`: an acknowledged message is on a slave too.
    SyncMaster,
    /// `SLAVE`
    Slave,
}

/// Both sides of replication; one of them has work.
#[derive(Debug)]
pub(super) struct Replication {
    role: BrokerRole,
    primary: Primary,
    replica: Replica,
    /// Whether the configuration says where the master is; else name servers do.
    is_master_fixed: bool,
    /// End of what enough slaves have ever acknowledged.
    acknowledged: u64,
    next_conn: u64,
    /// The slave is on its way to be the master.
    has_left: bool,
    /// As far as it can be told from where its replication port is.
    master_guess: Option<alloc::string::String>,
}

impl Replication {
    pub(super) fn new(
        role: BrokerRole,
        ha: &HaConfig,
        flush: FlushMode,
        master: Option<alloc::sync::Arc<str>>,
    ) -> Replication {
        Replication {
            role,
            primary: Primary::new(ha.clone(), flush),
            is_master_fixed: master.is_some(),
            master_guess: master.as_deref().and_then(port_of_clients),
            replica: Replica::new(ha.clone(), flush, master),
            acknowledged: 0,
            next_conn: 0,
            has_left: false,
        }
    }

    pub(super) fn is_slave(&self) -> bool {
        self.role == BrokerRole::Slave
    }

    /// Whether the master is being heard.
    pub(super) fn is_following(&self) -> bool {
        self.replica.is_connected()
    }

    /// Whether a slow group may be served by a slave: there is one, or this is one.
    pub(super) fn has_reader(&self) -> bool {
        self.is_slave() || self.primary.has_slaves()
    }

    /// End of what slaves hold, when senders are promised that.
    pub(super) fn acknowledged(&self) -> Option<u64> {
        self.is_sync().then_some(self.acknowledged)
    }

    /// Whether senders are promised that slaves hold what they sent.
    pub(super) fn is_sync(&self) -> bool {
        self.role == BrokerRole::SyncMaster && self.primary.is_demanded()
    }

    /// `inSyncReplicas` was changed.
    pub(super) fn set_replicas_min(&mut self, replicas_min: usize) {
        self.primary.set_replicas_min(replicas_min);
    }

    pub(super) fn on_opened<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        (protocol, peer): (Protocol, SocketAddr),
        is_serving: bool,
        env: &mut Env<'_, D, E>,
    ) {
        // A slave streams too: to a master that has lost what it has (see `ha::home`).
        if protocol == Protocol::HaMaster && is_serving {
            self.primary.on_opened(now, conn, peer);
        } else if protocol == Protocol::HaSlave && self.replica.owns(conn) {
            self.replica.on_opened(now, conn);
        } else {
            env.out.push(Effect::Close { conn });
        }
    }

    /// Takes what is not a remoting command.
    pub(super) fn on_packet<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        packet: &Packet,
        epochs: &mut Epochs,
        store: &mut Store,
        env: &mut Env<'_, D, E>,
    ) {
        match packet {
            Packet::HaReport { offset } => self.primary.on_report(now, conn, *offset, store, env),
            Packet::HaBlock { offset, body } => {
                self.replica.on_block(now, conn, Block { offset: *offset, body }, epochs, store, env);
            }
            Packet::Command(_) => unreachable!("the caller takes commands"),
        }
    }

    pub(super) fn on_drained(&mut self, conn: ConnId) {
        self.primary.on_drained(conn);
    }

    pub(super) fn on_closed(&mut self, now: Now, conn: ConnId, why: CloseReason) {
        self.primary.on_closed(conn);
        self.replica.on_closed(now, conn, why);
    }

    /// False when it is somebody else's.
    pub(super) fn on_fetched(&mut self, now: Now, id: FetchId, result: Result<(), DiskError>) -> bool {
        self.replica.on_fetched(now, id, result) || self.primary.on_fetched(id, result)
    }

    /// What the master's former life sent is not taken any more.
    pub(super) fn end_stream<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        if self.is_slave() {
            self.replica.leave(now, env);
        }
    }

    /// Says how far slaves are and whether the master may still ask for what is old, before the store settles.
    pub(super) fn before_store(&mut self, now: Now, store: &mut Store) {
        let replicated = if self.is_sync() { self.primary.replicated(now, store) } else { None };
        self.acknowledged = self.acknowledged.max(replicated.unwrap_or(0));
        store.set_replicated(replicated);
        store.keep_aged(self.is_slave() && !self.is_following());
    }

    /// Streams on, after the store has settled.
    pub(super) fn settle<D: Disk, E>(
        &mut self,
        now: Now,
        master: &MasterAddress,
        epochs: &Epochs,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) {
        self.primary.settle(now, store, env);
        if !self.is_slave() || self.has_left {
            return;
        }
        if !self.is_master_fixed {
            let address = master.ha_server_addr.as_deref().filter(|address| !address.is_empty());
            self.replica.set_master(now, address, env);
        }
        let next = &mut self.next_conn;
        let next_conn = || {
            *next += 1;
            ConnId::dialled(MASTER_CONNS | *next)
        };
        self.replica.settle(now, epochs, store, next_conn, env);
    }

    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let replica = self.replica.deadline().filter(|_| self.is_slave() && !self.has_left);
        [replica, self.primary.deadline()].into_iter().flatten().min()
    }

    /// Whether the master is to be asked for its epochs.
    pub(super) fn wants_epochs(&mut self, now: Now) -> bool {
        self.is_slave() && self.replica.wants_epochs(now)
    }

    /// The slave follows nobody any more.
    pub(super) fn leave_master<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        self.replica.leave(now, env);
        self.has_left = true;
    }

    /// The slave that left its master is the master.
    pub(super) fn become_master(&mut self, role: BrokerRole) {
        assert!(self.has_left && role != BrokerRole::Slave, "it has left its master");
        self.role = role;
    }

    /// The master's epochs.
    pub(super) fn on_epochs<D: Disk, E>(
        &mut self,
        now: Now,
        master: MasterLog,
        epochs: &mut Epochs,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) -> Verdict {
        self.replica.on_epochs(now, master, epochs, store, env)
    }

    /// The master does not tell its epochs now.
    pub(super) fn on_no_epochs<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        self.replica.on_no_epochs(now, env);
    }

    /// Where the master serves clients: as the name servers say, or one below its replication port, which is RocketMQ's
    /// default.
    pub(super) fn master_addr<'a>(&'a self, told: &'a MasterAddress) -> Option<&'a str> {
        let told = told.master_addr.as_deref().filter(|address| !address.is_empty());
        told.or(self.master_guess.as_deref())
    }

    /// What `GET_BROKER_HA_STATUS` tells.
    pub(super) fn status(&self, now: Now, store: &Store) -> HARuntimeInfo {
        if self.is_slave() { self.replica.status(now, store) } else { self.primary.status(now, store) }
    }

    pub(super) fn check_invariants(&self) {
        self.primary.check_invariants();
    }

    /// Why a slave takes no message, for people.
    pub(super) fn refusal(&self, master: &MasterAddress) -> alloc::string::String {
        let known = master.master_addr.as_deref().filter(|address| !address.is_empty());
        let heard = if self.is_following() { "is followed" } else { "is not reached" };
        format!(
            "[REJECTREQUEST]this broker is a slave: send to its master {}, which {heard}",
            known.unwrap_or("(unknown)")
        )
    }
}

fn port_of_clients(ha_addr: &str) -> Option<alloc::string::String> {
    let (host, port) = ha_addr.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    Some(format!("{host}:{}", port.checked_sub(1)?))
}
