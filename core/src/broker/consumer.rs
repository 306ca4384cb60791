//! The consumers of each group and what they subscribe to, as their heartbeats tell.
//!
//! All members of a group must subscribe to the same; the newest heartbeat decides, as in RocketMQ.
//! Every change of membership is reported to the caller, who tells the members (unlike RocketMQ, which forgets that
//! when a member expires).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::filter::Filter;
pub(super) use super::producer::Client;
use crate::io::ConnId;
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData};

/// What a group takes of a topic.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Subscription {
    pub(super) data: SubscriptionData,
    pub(super) filter: Filter,
}

/// A group of which at least one member is there.
#[derive(Debug)]
pub(super) struct ConsumerGroup {
    pub(super) consume_type: ConsumeType,
    pub(super) message_model: MessageModel,
    pub(super) consume_from_where: ConsumeFromWhere,
    pub(super) clients: BTreeMap<ConnId, Client>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
}

/// All consumers.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    groups: BTreeMap<String, ConsumerGroup>,
    by_conn: BTreeMap<ConnId, BTreeSet<String>>,
}

impl Consumers {
    /// A group, if anybody of it is there.
    pub(super) fn group(&self, group: &str) -> Option<&ConsumerGroup> {
        self.groups.get(group)
    }

    /// Groups that are there and subscribe to a topic, sorted.
    pub(super) fn groups_of(&self, topic: &str) -> impl Iterator<Item = String> {
        let found = self.groups.iter().filter(move |(_, group)| group.subscriptions.contains_key(topic));
        found.map(|(name, _)| name.clone())
    }

    /// Connection and version of a member.
    pub(super) fn find_client(&self, group: &str, client_id: &str) -> Option<(ConnId, i32)> {
        let clients = &self.groups.get(group)?.clients;
        // The newest connection, when a client came back before its old one was seen to end.
        let found = clients.iter().rev().find(|(_, client)| client.id == client_id)?;
        Some((*found.0, found.1.version))
    }

    /// Takes what a heartbeat says of one group; `with_subscriptions` is false when the client says that they are as before.
    /// Whether the members or the topics changed.
    pub(super) fn register(
        &mut self,
        data: &ConsumerData,
        conn: ConnId,
        client: Client,
        with_subscriptions: bool,
    ) -> bool {
        let name = &data.group_name;
        let group = self.groups.entry(name.clone()).or_insert_with(|| ConsumerGroup {
            consume_type: data.consume_type,
            message_model: data.message_model,
            consume_from_where: data.consume_from_where,
            clients: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        });
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        let joined = group.clients.insert(conn, client).is_none();
        if joined {
            self.by_conn.entry(conn).or_default().insert(name.clone());
        }
        let subscribed = with_subscriptions && group.subscribe(name, &data.subscription_data_set);
        joined || subscribed
    }

    /// A member leaves; whether it was one.
    pub(super) fn unregister(&mut self, name: &str, conn: ConnId) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let left = group.clients.remove(&conn).is_some();
        if group.clients.is_empty() {
            tracing::info!(group = name, "last consumer left");
            self.groups.remove(name);
        }
        if let Some(groups) = self.by_conn.get_mut(&conn) {
            groups.remove(name);
            if groups.is_empty() {
                self.by_conn.remove(&conn);
            }
        }
        left
    }

    /// A connection is gone: the groups that lost a member by it.
    pub(super) fn closed(&mut self, conn: ConnId) -> Vec<String> {
        let groups: Vec<String> = self.by_conn.remove(&conn).unwrap_or_default().into_iter().collect();
        for group in &groups {
            self.unregister(group, conn);
        }
        groups
    }

    /// Removes who has been silent for too long: their groups and connections.
    pub(super) fn expire(&mut self, now: Instant, expiry: Duration) -> Vec<(String, ConnId)> {
        let mut silent = Vec::new();
        for (name, group) in &self.groups {
            for (conn, client) in &group.clients {
                if now.since(client.seen) > expiry {
                    Probe::ConsumerExpired.reached();
                    tracing::warn!(group = name, client = client.id, "consumer expired");
                    silent.push((name.clone(), *conn));
                }
            }
        }
        for (group, conn) in &silent {
            self.unregister(group, *conn);
        }
        silent
    }

    pub(super) fn check_invariants(&self) {
        let members: usize = self.groups.values().map(|group| group.clients.len()).sum();
        let listed: usize = self.by_conn.values().map(BTreeSet::len).sum();
        assert_eq!(members, listed, "both tables of consumers list the same");
        assert!(self.groups.values().all(|group| !group.clients.is_empty()), "a group has members");
    }
}

impl ConsumerGroup {
    /// Ids of the members, sorted. A client that came back before its old connection was seen to end counts once.
    pub(super) fn client_ids(&self) -> BTreeSet<&str> {
        self.clients.values().map(|client| client.id.as_str()).collect()
    }

    /// Takes the subscriptions of a heartbeat; whether topics came or went.
    fn subscribe(&mut self, group: &str, set: &[SubscriptionData]) -> bool {
        let mut changed = false;
        for data in set {
            let known = self.subscriptions.get(&data.topic);
            if known.is_some_and(|known| data.sub_version <= known.data.sub_version) {
                continue;
            }
            if known.is_none() {
                tracing::info!(group, topic = data.topic, expression = data.sub_string, "subscription added");
                changed = true;
            }
            let filter = Filter::of_subscription(data);
            self.subscriptions.insert(data.topic.clone(), Subscription { data: data.clone(), filter });
        }
        self.subscriptions.retain(|topic, _| {
            let kept = set.iter().any(|data| data.topic == *topic);
            if !kept {
                tracing::info!(group, topic, "subscription removed");
                changed = true;
            }
            kept
        });
        changed
    }
}
