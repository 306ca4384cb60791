//! The producers of each group, as their heartbeats tell. Needed to ask one of them about a transaction, and to hand replies
//! to requesters.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::io::ConnId;
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::Language;

/// A client as its heartbeat names it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) language: Language,
    pub(super) version: i32,
    /// Its last heartbeat.
    pub(super) seen: Instant,
}

/// All producers.
#[derive(Debug, Default)]
pub(super) struct Producers {
    groups: BTreeMap<String, BTreeMap<ConnId, Client>>,
    by_conn: BTreeMap<ConnId, BTreeSet<String>>,
}

impl Producers {
    /// Takes a heartbeat.
    pub(super) fn register(&mut self, group: &str, conn: ConnId, client: Client) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.into(), BTreeMap::new());
        }
        let clients = self.groups.get_mut(group).expect("just made");
        if clients.insert(conn, client).is_none() {
            self.by_conn.entry(conn).or_default().insert(group.into());
        }
    }

    /// A client leaves a group.
    pub(super) fn unregister(&mut self, group: &str, conn: ConnId) {
        if let Some(clients) = self.groups.get_mut(group) {
            clients.remove(&conn);
            if clients.is_empty() {
                self.groups.remove(group);
            }
        }
        if let Some(groups) = self.by_conn.get_mut(&conn) {
            groups.remove(group);
            if groups.is_empty() {
                self.by_conn.remove(&conn);
            }
        }
    }

    /// A connection is gone, and with it all its producers.
    pub(super) fn closed(&mut self, conn: ConnId) {
        for group in self.by_conn.remove(&conn).unwrap_or_default() {
            self.unregister(&group, conn);
        }
    }

    /// Removes who has been silent for too long; their connections, to be closed.
    pub(super) fn expire(&mut self, now: Instant, expiry: Duration) -> Vec<ConnId> {
        let mut silent = Vec::new();
        for (group, clients) in &self.groups {
            for (conn, client) in clients {
                if now.since(client.seen) > expiry {
                    Probe::ProducerExpired.reached();
                    tracing::warn!(group, client = client.id, "producer expired");
                    silent.push((group.clone(), *conn));
                }
            }
        }
        let conns = silent.iter().map(|(_, conn)| *conn).collect();
        for (group, conn) in silent {
            self.unregister(&group, conn);
        }
        conns
    }

    /// The members of a group.
    pub(super) fn clients(&self, group: &str) -> impl Iterator<Item = (ConnId, &Client)> {
        self.groups.get(group).into_iter().flatten().map(|(conn, client)| (*conn, client))
    }

    /// Every member of every group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, ConnId, &Client)> {
        self.groups
            .iter()
            .flat_map(|(group, clients)| clients.iter().map(|(conn, client)| (group.as_str(), *conn, client)))
    }

    /// The connection of a client, whatever its group.
    pub(super) fn find_client(&self, client_id: &str) -> Option<ConnId> {
        self.iter().filter(|(_, _, client)| client.id == client_id).map(|(_, conn, _)| conn).max()
    }

    pub(super) fn check_invariants(&self) {
        let members: usize = self.groups.values().map(BTreeMap::len).sum();
        let listed: usize = self.by_conn.values().map(BTreeSet::len).sum();
        assert_eq!(members, listed, "both tables of producers list the same");
    }
}
