//! How the tables change: registration, unregistration, expiry, administration.
//!
//! The rules are RocketMQ's (`RouteInfoManager`), in its order. Where they leave the tables torn, these do not: a refused
//! registration changes nothing, an address that another one replaces under its id is forgotten at once, and so is what an
//! address was before it came back under another name.
//!
//! Gantry's brokers send a change alone, with the version that it builds on. It is taken only over the connection that
//! brought the whole table and only on top of that version, so that no history of lost or repeated messages leads elsewhere.
//! Whatever else changes the topics of a broker (an administrator, another address of its name) has its whole table asked for.
//!
//! One rule is stronger: a registration whose version is the known one still corrects queue counts that differ. RocketMQ's
//! brokers send a change as a registration of one topic with the new version, and if an earlier one got lost, the full
//! registration that follows carries the same version and would be passed over.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use tracing::{debug, info, warn};

use super::tables::{Live, MASTER_ID, Queues, Tables};
use crate::io::ConnId;
use crate::time::{Duration, Instant};
use crate::wire::body::{
    BrokerData, DataVersion, QueueData, RegisterBrokerBody, RegistrationChange, TopicConfig, perm,
};
use crate::wire::request::{RegisterBrokerRequest, RegisterBrokerResponse};

/// For how long a broker may be silent, unless it says otherwise (`DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`).
pub(crate) const BROKER_SILENCE_MAX: Duration = Duration::from_secs(120);

/// A broker registers.
pub(crate) struct Registration<'a> {
    pub(crate) header: &'a RegisterBrokerRequest,
    pub(crate) zone_name: Option<String>,
    pub(crate) body: RegisterBrokerBody,
    pub(crate) conn: ConnId,
    pub(crate) now: Instant,
    /// Setting `deleteTopicWithBrokerRegistration`.
    pub(crate) delete_missing_topics: bool,
}

impl Registration<'_> {
    fn topics(&self) -> &BTreeMap<String, TopicConfig> {
        &self.body.topic_config_serialize_wrapper.topic_config_table
    }

    fn version(&self) -> DataVersion {
        self.body.topic_config_serialize_wrapper.data_version
    }
}

/// Why a registration is not taken: all topics must come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// A single topic came from a broker that is not registered yet.
    NotRegistered,
    /// A change builds on something else than what is here.
    UnknownBase,
}

impl Tables {
    /// Takes a registration and answers with the master's addresses, for a slave.
    pub(crate) fn register(
        &mut self,
        registration: Registration<'_>,
    ) -> Result<RegisterBrokerResponse, Refused> {
        if let Some(change) = &registration.body.gantry_change {
            return self.register_change(&registration, change);
        }
        let header = registration.header;
        let version = registration.version();
        let known = self
            .brokers
            .get(&header.broker_name)
            .and_then(|b| b.broker_addrs.get(&header.broker_id))
            .cloned();
        if let Some(holder) = known.as_ref().filter(|holder| **holder != header.broker_addr)
            && self
                .live
                .get(holder)
                .is_some_and(|live| live.data_version.state_version > version.state_version)
        {
            warn!(
                broker = header.broker_name,
                holder,
                refused = header.broker_addr,
                "an older broker is ignored"
            );
            self.forget(&header.broker_addr);
            return Ok(RegisterBrokerResponse::default());
        }
        if known.is_none() && registration.topics().len() == 1 {
            return Err(Refused::NotRegistered);
        }
        let previous = self.take_place(&registration, known);
        let first = previous.is_none();
        let changed = previous.is_none_or(|live| live.data_version != version);
        self.merge_topics(&registration, first, changed);
        self.live.insert(
            header.broker_addr.clone(),
            Live {
                broker_name: header.broker_name.clone(),
                broker_id: header.broker_id,
                heard: registration.now,
                timeout: silence_max(header),
                data_version: version,
                conn: registration.conn,
                ha_server_addr: header.ha_server_addr.clone(),
                is_astray: false,
            },
        );
        if first {
            info!(
                broker = header.broker_name,
                id = header.broker_id,
                addr = header.broker_addr,
                "broker registered"
            );
        }
        if registration.body.filter_server_list.is_empty() {
            self.filter_servers.remove(&header.broker_addr);
        } else {
            self.filter_servers.insert(header.broker_addr.clone(), registration.body.filter_server_list);
        }
        Ok(self.master_for(header))
    }

    /// Takes what changed since the version that it builds on.
    fn register_change(
        &mut self,
        registration: &Registration<'_>,
        change: &RegistrationChange,
    ) -> Result<RegisterBrokerResponse, Refused> {
        let header = registration.header;
        let is_base = self.live_of(&header.cluster_name, &header.broker_addr).is_some_and(|live| {
            let is_same = live.broker_name == header.broker_name && live.broker_id == header.broker_id;
            is_same && live.conn == registration.conn && live.data_version == change.base
        });
        if !is_base {
            return Err(Refused::UnknownBase);
        }
        if let Some(read_only) = self.counts(header) {
            for topic in change.gone.iter().filter(|_| registration.delete_missing_topics) {
                self.drop_queues(topic, &header.broker_name);
            }
            for (topic, config) in registration.topics() {
                self.merge_topic(&header.broker_name, topic, config, read_only, true);
            }
        }
        if let Some(live) = self.live.get_mut(&header.broker_addr) {
            live.heard = registration.now;
            live.data_version = registration.version();
            live.ha_server_addr = header.ha_server_addr.clone();
        }
        Ok(self.master_for(header))
    }

    /// Whether a registered broker's topics are taken, and then whether for reading only: those of a master, or of the slave
    /// with the lowest id (5.x: it may act as master).
    fn counts(&self, header: &RegisterBrokerRequest) -> Option<bool> {
        let broker = self.brokers.get(&header.broker_name)?;
        if header.broker_id == MASTER_ID {
            return Some(false);
        }
        let lowest = broker.broker_addrs.keys().next() == Some(&header.broker_id);
        (header.enable_acting_master.is_some() && lowest).then_some(broker.enable_acting_master)
    }

    /// Makes `header`'s address the one of its name and id, and nothing else; what that address was before, if it was the
    /// same broker.
    fn take_place(&mut self, registration: &Registration<'_>, holder: Option<String>) -> Option<Live> {
        let header = registration.header;
        let mut previous = self.live.get(&header.broker_addr).cloned();
        if previous.as_ref().is_some_and(|live| live.broker_name != header.broker_name) {
            self.forget(&header.broker_addr);
            previous = None;
        }
        let broker = self.brokers.entry(header.broker_name.clone()).or_insert_with(|| BrokerData {
            broker_name: header.broker_name.clone(),
            cluster: header.cluster_name.clone(),
            ..BrokerData::default()
        });
        broker.enable_acting_master = header.enable_acting_master.unwrap_or_default();
        broker.zone_name = registration.zone_name.clone();
        // One that changes its role keeps its address under the new id only.
        broker.broker_addrs.retain(|id, addr| *id == header.broker_id || *addr != header.broker_addr);
        let replaced = broker.broker_addrs.insert(header.broker_id, header.broker_addr.clone());
        debug_assert_eq!(replaced, holder);
        let moved_from = core::mem::replace(&mut broker.cluster, header.cluster_name.clone());
        if moved_from != header.cluster_name {
            self.leave_cluster(&moved_from, &header.broker_name);
        }
        self.clusters.entry(header.cluster_name.clone()).or_default().insert(header.broker_name.clone());
        if let Some(replaced) = replaced.filter(|replaced| *replaced != header.broker_addr) {
            info!(
                broker = header.broker_name,
                replaced,
                by = header.broker_addr,
                "broker moved to another address"
            );
            self.live.remove(&replaced);
            self.filter_servers.remove(&replaced);
        }
        previous.filter(|live| live.broker_id == header.broker_id)
    }

    /// Takes over the topics, if they count.
    fn merge_topics(&mut self, registration: &Registration<'_>, first: bool, changed: bool) {
        let header = registration.header;
        let Some(read_only) = self.counts(header) else { return };
        let name = header.broker_name.clone();
        let mappings = registration.body.topic_config_serialize_wrapper.topic_queue_mapping_info_map.as_ref();
        if registration.delete_missing_topics && mappings.is_none_or(BTreeMap::is_empty) {
            self.keep_topics_of(&name, registration.topics());
        }
        for (topic, config) in registration.topics() {
            self.merge_topic(&name, topic, config, read_only, first || changed);
        }
        if first || changed {
            self.merge_mappings(mappings);
        }
    }

    fn merge_topic(&mut self, name: &str, topic: &str, config: &TopicConfig, read_only: bool, changed: bool) {
        // The key and the name inside are the same in every registration; an empty name is nobody's topic.
        if topic.is_empty() {
            return;
        }
        let offered = if read_only { config.perm & !perm::WRITE } else { config.perm };
        let data = QueueData {
            broker_name: name.into(),
            perm: offered,
            read_queue_nums: config.read_queue_nums,
            topic_sys_flag: config.topic_sys_flag,
            write_queue_nums: config.write_queue_nums,
        };
        let on_brokers = self.topics.entry(topic.into()).or_default();
        match on_brokers.get_mut(name) {
            Some(queues) => {
                if changed || queues.registered.perm != data.perm {
                    queues.perm = data.perm;
                }
                queues.registered = data;
            }
            None => {
                debug!(topic, broker = name, "topic registered");
                on_brokers.insert(name.into(), Queues { perm: data.perm, registered: data });
            }
        }
    }

    fn merge_mappings(&mut self, mappings: Option<&BTreeMap<String, Value>>) {
        for (topic, mapping) in mappings.into_iter().flatten() {
            let Some(name) = mapping.get("bname").and_then(Value::as_str) else { continue };
            if self.brokers.contains_key(name) {
                self.mappings.entry(topic.clone()).or_default().insert(name.into(), mapping.clone());
            }
        }
    }

    /// What a slave is told of its master.
    fn master_for(&self, header: &RegisterBrokerRequest) -> RegisterBrokerResponse {
        let broker = self.brokers.get(&header.broker_name).filter(|_| header.broker_id != MASTER_ID);
        let Some(addr) = broker.and_then(|broker| broker.broker_addrs.get(&MASTER_ID)) else {
            return RegisterBrokerResponse::default();
        };
        let ha_server_addr = self.live.get(addr).map(|live| live.ha_server_addr.clone());
        RegisterBrokerResponse { ha_server_addr, master_addr: Some(addr.clone()) }
    }

    /// Removes a broker that says goodbye, if the address is that broker's.
    pub(crate) fn unregister(&mut self, name: &str, addr: &str) {
        if self.live.get(addr).is_some_and(|live| live.broker_name == name) {
            self.forget(addr);
        }
    }

    /// Removes an address and everything that stands on it alone: its broker name, the cluster, queues, topics.
    pub(crate) fn forget(&mut self, addr: &str) {
        let Some(live) = self.live.remove(addr) else { return };
        self.filter_servers.remove(addr);
        info!(broker = live.broker_name, id = live.broker_id, addr, "broker removed");
        let name = live.broker_name;
        let Some(broker) = self.brokers.get_mut(&name) else { return };
        broker.broker_addrs.retain(|_, held| held != addr);
        if broker.broker_addrs.is_empty() {
            let cluster = core::mem::take(&mut broker.cluster);
            self.brokers.remove(&name);
            self.leave_cluster(&cluster, &name);
            retain_without(&mut self.topics, &name);
            retain_without(&mut self.mappings, &name);
        } else if broker.enable_acting_master && !broker.broker_addrs.contains_key(&MASTER_ID) {
            for queues in self.topics.values_mut().filter_map(|on_brokers| on_brokers.get_mut(&name)) {
                queues.perm &= !perm::WRITE;
            }
        }
        // The slave with the lowest id may be another one now.
        self.want_tables(|whose| whose == name);
    }

    /// Drops a broker name's queues of one topic.
    fn drop_queues(&mut self, topic: &str, name: &str) {
        let Some(on_brokers) = self.topics.get_mut(topic) else { return };
        on_brokers.remove(name);
        if on_brokers.is_empty() {
            self.topics.remove(topic);
        }
    }

    fn leave_cluster(&mut self, cluster: &str, name: &str) {
        if let Some(names) = self.clusters.get_mut(cluster) {
            names.remove(name);
            if names.is_empty() {
                self.clusters.remove(cluster);
            }
        }
    }

    /// Addresses that registered over `conn`.
    pub(crate) fn addresses_of(&self, conn: ConnId) -> Vec<String> {
        self.live.iter().filter(|(_, live)| live.conn == conn).map(|(addr, _)| addr.clone()).collect()
    }

    /// Addresses not heard of for longer than they said they would be.
    pub(crate) fn silent(&self, now: Instant) -> Vec<(String, ConnId)> {
        let silent = self.live.iter().filter(|(_, live)| now.since(live.heard) > live.timeout);
        silent.map(|(addr, live)| (addr.clone(), live.conn)).collect()
    }

    /// Drops queues of `name` for topics that it no longer has.
    fn keep_topics_of(&mut self, name: &str, kept: &BTreeMap<String, TopicConfig>) {
        self.topics.retain(|topic, on_brokers| {
            if !kept.contains_key(topic) {
                on_brokers.remove(name);
            }
            !on_brokers.is_empty()
        });
    }

    /// Deletes a topic, of one cluster or of all.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(on_brokers) = self.topics.get_mut(topic) else { return };
        let names = cluster.map(|cluster| self.clusters.get(cluster));
        let is_deleted = |name: &String| names.is_none_or(|of| of.is_some_and(|of| of.contains(name)));
        let deleted: Vec<String> = on_brokers.keys().filter(|name| is_deleted(name)).cloned().collect();
        for name in deleted {
            self.drop_queues(topic, &name);
            // It comes back, if the broker still has it.
            self.want_tables(|whose| whose == name);
        }
    }

    /// Sets a topic's queues as an administrator wishes; nothing, if one of the brokers is unknown.
    pub(crate) fn register_topic(&mut self, topic: &str, queue_datas: Vec<QueueData>) {
        if topic.is_empty() || queue_datas.is_empty() {
            return;
        }
        if let Some(unknown) = queue_datas.iter().find(|data| !self.brokers.contains_key(&data.broker_name)) {
            warn!(topic, broker = unknown.broker_name, "a topic for an unknown broker is ignored");
            return;
        }
        let on_brokers = self.topics.entry(topic.into()).or_default();
        for data in queue_datas {
            for live in self.live.values_mut().filter(|live| live.broker_name == data.broker_name) {
                live.is_astray = true;
            }
            on_brokers.insert(data.broker_name.clone(), Queues { perm: data.perm, registered: data });
        }
    }

    /// Changes the permission of all topics on a broker name until it registers a change; how many there are.
    pub(crate) fn change_perm(&mut self, name: &str, change: impl Fn(i32) -> i32) -> i32 {
        let mut count = 0;
        for queues in self.topics.values_mut().filter_map(|on_brokers| on_brokers.get_mut(name)) {
            queues.perm = change(queues.perm);
            count += 1;
        }
        count
    }
}

fn silence_max(header: &RegisterBrokerRequest) -> Duration {
    let millis = header.heartbeat_timeout_millis.and_then(|millis| u64::try_from(millis).ok());
    millis.map_or(BROKER_SILENCE_MAX, Duration::from_millis)
}

fn retain_without<T>(table: &mut BTreeMap<String, BTreeMap<String, T>>, name: &str) {
    table.retain(|_, by_name| {
        by_name.remove(name);
        !by_name.is_empty()
    });
}
