//! Who is connected, and how much each may still be pushed.
//!
//! Answers are always sent: a peer has at most as many as it asked for, and the shell stops reading from one that does not
//! take them. What the broker sends of its own accord stops at the credit of a connection; what was held back is remembered
//! as the names of groups whose members changed, a set no larger than the groups of that client.

use alloc::collections::BTreeSet;
use alloc::string::String;
use core::net::SocketAddr;

use super::NameMap;
use crate::io::{CREDIT_BYTES, ConnId, Env};
use crate::wire::{Command, Packet};

/// One connection.
#[derive(Debug)]
struct Conn {
    peer: SocketAddr,
    /// Sent since the last time everything had left, by [`Packet::cost`].
    sent_bytes: u64,
    /// Groups whose change its client has not been told.
    owed: BTreeSet<String>,
}

/// All connections that speak remoting.
#[derive(Debug, Default)]
pub(super) struct Conns {
    /// Never iterated.
    table: NameMap<ConnId, Conn>,
}

impl Conns {
    pub(super) fn opened(&mut self, conn: ConnId, peer: SocketAddr) {
        self.table.insert(conn, Conn { peer, sent_bytes: 0, owed: BTreeSet::new() });
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        self.table.remove(&conn);
    }

    /// The other end of a connection that is open.
    pub(super) fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.table.get(&conn).map(|conn| conn.peer)
    }

    /// Sends an answer; nothing when the connection is gone.
    pub(super) fn send<D, E>(&mut self, conn: ConnId, command: Command, env: &mut Env<'_, D, E>) {
        if let Some(state) = self.table.get_mut(&conn) {
            let packet = Packet::Command(command);
            state.sent_bytes += packet.cost();
            env.send(conn, packet);
        }
    }

    /// Sends what nobody asked for, when the credit allows; else keeps `owed` for [`Conns::drained`].
    pub(super) fn push<D, E>(
        &mut self,
        conn: ConnId,
        owed: &str,
        command: impl FnOnce() -> Command,
        env: &mut Env<'_, D, E>,
    ) {
        let Some(state) = self.table.get_mut(&conn) else { return };
        if state.sent_bytes >= CREDIT_BYTES {
            state.owed.insert(owed.into());
            return;
        }
        self.send(conn, command(), env);
    }

    /// The credit is fresh again: what was held back meanwhile.
    pub(super) fn drained(&mut self, conn: ConnId) -> BTreeSet<String> {
        self.table.get_mut(&conn).map_or_else(BTreeSet::new, |state| {
            state.sent_bytes = 0;
            core::mem::take(&mut state.owed)
        })
    }
}
