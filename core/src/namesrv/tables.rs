//! The five tables, and what is read from them.
//!
//! ```text
//! topics          topic -> broker name -> queues
//! brokers         broker name -> cluster, addresses by broker id
//! clusters        cluster -> broker names
//! live            broker address -> who it is, when it was last heard
//! filter servers  broker address -> filter servers
//! ```
//! Invariants, see [`Tables::check_invariants`]: an address stands in `live` exactly when it stands under one name and id in
//! `brokers`; a name stands in `brokers` exactly when it stands in its cluster; every name that a topic has stands in
//! `brokers`; nothing is kept that is empty. RocketMQ keeps some leftovers (an address that another one replaced, mappings of
//! a broker that is gone); nobody can see those but in growing memory.
//!
//! How they change is in [`super::register`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use crate::io::ConnId;
use crate::time::{Duration, Instant};
use crate::wire::body::{
    BrokerData, BrokerMemberGroup, ClusterInfo, DataVersion, QueueData, TopicList, TopicRouteData, perm,
    topic_sys_flag,
};

/// The id of a master.
pub(crate) const MASTER_ID: i64 = 0;

/// A topic's queues on one broker name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Queues {
    /// As the broker registered them.
    pub(crate) registered: QueueData,
    /// The permission that is served: an administrator may take writing away until the broker's next change.
    pub(crate) perm: i32,
}

/// A broker that is alive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Live {
    pub(crate) broker_name: String,
    pub(crate) broker_id: i64,
    pub(crate) heard: Instant,
    pub(crate) timeout: Duration,
    pub(crate) data_version: DataVersion,
    pub(crate) conn: ConnId,
    pub(crate) ha_server_addr: String,
    /// Somebody else has changed what this broker registered, or what of it counts: the whole table is wanted.
    pub(crate) is_astray: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) topics: BTreeMap<String, BTreeMap<String, Queues>>,
    pub(crate) brokers: BTreeMap<String, BrokerData>,
    pub(crate) clusters: BTreeMap<String, BTreeSet<String>>,
    pub(crate) live: BTreeMap<String, Live>,
    pub(crate) filter_servers: BTreeMap<String, Vec<String>>,
    /// Static topics: topic -> broker name -> mapping as registered.
    pub(crate) mappings: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Tables {
    /// A live broker of that cluster and address.
    pub(crate) fn live_of(&self, cluster: &str, addr: &str) -> Option<&Live> {
        let live = self.live.get(addr)?;
        let broker = self.brokers.get(&live.broker_name)?;
        (broker.cluster == cluster).then_some(live)
    }

    /// Notes that the broker was heard of.
    pub(crate) fn hear(&mut self, cluster: &str, addr: &str, now: Instant) {
        if self.live_of(cluster, addr).is_some()
            && let Some(live) = self.live.get_mut(addr)
        {
            live.heard = now;
        }
    }

    /// Has the whole table of brokers asked for, with their next sign of life.
    pub(crate) fn want_tables(&mut self, whose: impl Fn(&str) -> bool) {
        for live in self.live.values_mut().filter(|live| whose(&live.broker_name)) {
            live.is_astray = true;
        }
    }

    /// The route of a topic, if any broker has it.
    pub(crate) fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let mut route = TopicRouteData {
            topic_queue_mapping_by_broker: self.mappings.get(topic).cloned(),
            ..TopicRouteData::default()
        };
        for (name, queues) in queues {
            route.queue_datas.push(QueueData { perm: queues.perm, ..queues.registered.clone() });
            let Some(broker) = self.brokers.get(name) else { continue };
            let mut broker = broker.clone();
            for addr in broker.broker_addrs.values() {
                if let Some(servers) = self.filter_servers.get(addr) {
                    route.filter_server_table.insert(addr.clone(), servers.clone());
                }
            }
            if acting_master && queues.perm & perm::WRITE == 0 {
                show_acting_master(&mut broker);
            }
            route.broker_datas.push(broker);
        }
        Some(route)
    }

    /// All brokers.
    pub(crate) fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo { broker_addr_table: self.brokers.clone(), cluster_addr_table: self.clusters.clone() }
    }

    /// The members of a broker name; none if it is unknown.
    pub(crate) fn member_group(&self, cluster: &str, name: &str) -> BrokerMemberGroup {
        BrokerMemberGroup {
            broker_addrs: self
                .brokers
                .get(name)
                .map(|broker| broker.broker_addrs.clone())
                .unwrap_or_default(),
            broker_name: name.into(),
            cluster: cluster.into(),
        }
    }

    /// All topics.
    pub(crate) fn topic_list(&self) -> TopicList {
        TopicList { broker_addr: None, topic_list: self.topics.keys().cloned().collect() }
    }

    /// The topics of a cluster.
    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let Some(names) = self.clusters.get(cluster) else { return TopicList::default() };
        self.topics_that(|queues| queues.keys().any(|name| names.contains(name)))
    }

    /// Cluster and broker names, which stand for system topics, and the address of some broker.
    pub(crate) fn system_topic_list(&self) -> TopicList {
        let names: BTreeSet<&String> =
            self.clusters.iter().flat_map(|(cluster, names)| names.iter().chain([cluster])).collect();
        TopicList {
            broker_addr: self
                .brokers
                .values()
                .find_map(|broker| broker.broker_addrs.values().next().cloned()),
            topic_list: names.into_iter().cloned().collect(),
        }
    }

    /// Topics whose unit flags are as asked. Like RocketMQ it looks at one broker's flags only.
    pub(crate) fn unit_topics(&self, unit: Option<bool>, unit_sub: Option<bool>) -> TopicList {
        self.topics_that(|queues| {
            let flag = queues.values().next().map_or(0, |queues| queues.registered.topic_sys_flag);
            let is = |want: Option<bool>, bit: i32| want.is_none_or(|want| (flag & bit != 0) == want);
            is(unit, topic_sys_flag::UNIT) && is(unit_sub, topic_sys_flag::UNIT_SUB)
        })
    }

    fn topics_that(&self, wanted: impl Fn(&BTreeMap<String, Queues>) -> bool) -> TopicList {
        let topics = self.topics.iter().filter(|(_, queues)| wanted(queues));
        TopicList { broker_addr: None, topic_list: topics.map(|(topic, _)| topic.clone()).collect() }
    }

    /// Asserts what the head of this file says.
    pub(crate) fn check_invariants(&self) {
        for (addr, live) in &self.live {
            let broker = self.brokers.get(&live.broker_name).expect("a live broker has a name");
            assert_eq!(
                broker.broker_addrs.get(&live.broker_id),
                Some(addr),
                "a live address stands under its id"
            );
        }
        let addresses: usize = self.brokers.values().map(|broker| broker.broker_addrs.len()).sum();
        assert_eq!(addresses, self.live.len(), "every address is live, once");
        for (name, broker) in &self.brokers {
            assert!(!broker.broker_addrs.is_empty(), "{name} has an address");
            assert!(
                self.clusters.get(&broker.cluster).is_some_and(|names| names.contains(name)),
                "{name} has its cluster"
            );
        }
        let names: usize = self.clusters.values().map(BTreeSet::len).sum();
        assert_eq!(names, self.brokers.len(), "clusters hold each broker name once");
        assert!(self.clusters.values().all(|names| !names.is_empty()), "no cluster is empty");
        for (topic, queues) in &self.topics {
            assert!(!queues.is_empty(), "{topic} has queues");
            assert!(queues.keys().all(|name| self.brokers.contains_key(name)), "{topic} is on known brokers");
        }
        assert!(
            self.filter_servers.keys().all(|addr| self.live.contains_key(addr)),
            "filter servers are of live brokers"
        );
        for mappings in self.mappings.values() {
            assert!(!mappings.is_empty() && mappings.keys().all(|name| self.brokers.contains_key(name)));
        }
    }
}

/// Shows the first slave as the master, for reading: enableActingMaster says that it will serve as one.
fn show_acting_master(broker: &mut BrokerData) {
    if !broker.enable_acting_master || broker.broker_addrs.contains_key(&MASTER_ID) {
        return;
    }
    if let Some((_, addr)) = broker.broker_addrs.pop_first() {
        broker.broker_addrs.insert(MASTER_ID, addr);
    }
}
