//! Which side of replication this broker is on, and what that means for acknowledgements.
//!
//! A synchronous master answers SEND_OK only for what a slave holds. While no slave counts, nothing waits for one: messages are
//! seen as soon as this disk allows, and senders are told SLAVE_NOT_AVAILABLE. A slave takes no messages from clients.

use alloc::format;

use super::ha::{HaConfig, Primary, Replica};
use super::register::MasterAddress;
use super::store::{FlushMode, Store};
use crate::io::{CloseReason, ConnId, Disk, DiskError, Effect, Env, FetchId, Now, Protocol};
use crate::time::Instant;
use crate::wire::Packet;

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
            replica: Replica::new(ha.clone(), flush, master),
            acknowledged: 0,
            next_conn: 0,
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
        (self.role == BrokerRole::SyncMaster).then_some(self.acknowledged)
    }

    pub(super) fn on_opened<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        protocol: Protocol,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) {
        if protocol == Protocol::HaMaster && !self.is_slave() && store.is_ready() {
            self.primary.on_opened(now, conn);
        } else if protocol == Protocol::HaSlave && self.replica.owns(conn) {
            self.replica.on_opened(now, conn, env);
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
        store: &mut Store,
        env: &mut Env<'_, D, E>,
    ) {
        match packet {
            Packet::HaReport { offset } => self.primary.on_report(now, conn, *offset, store, env),
            Packet::HaBlock { offset, body } => self.replica.on_block(now, conn, *offset, body, store, env),
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

    /// Says how far slaves are, before the store settles.
    pub(super) fn before_store(&mut self, store: &mut Store) {
        if self.role == BrokerRole::SyncMaster {
            let replicated = self.primary.replicated(store);
            self.acknowledged = self.acknowledged.max(replicated.unwrap_or(0));
            store.set_replicated(replicated);
        }
    }

    /// Streams on, after the store has settled.
    pub(super) fn settle<D: Disk, E>(
        &mut self,
        now: Now,
        master: &MasterAddress,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) {
        if !self.is_slave() {
            self.primary.settle(now, store, env);
            return;
        }
        if !self.is_master_fixed {
            let address = master.ha_server_addr.as_deref().filter(|address| !address.is_empty());
            self.replica.set_master(address.map(Into::into));
        }
        let next = &mut self.next_conn;
        let next_conn = || {
            *next += 1;
            ConnId::dialled(MASTER_CONNS | *next)
        };
        self.replica.settle(now, store, next_conn, env);
    }

    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        if self.is_slave() { self.replica.deadline() } else { self.primary.deadline() }
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
