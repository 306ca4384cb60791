//! What name servers answer.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::bodies;

bodies! {
    /// A topic's queues on one broker.
    #[derive(Eq)]
    QueueData {
        broker_name: String,
        /// Bits of [`super::perm`].
        perm: i32,
        read_queue_nums: i32,
        topic_sys_flag: i32,
        write_queue_nums: i32,
    }
    /// The addresses of one broker name.
    #[derive(Eq)]
    BrokerData {
        /// By broker id; 0 is the master.
        broker_addrs: BTreeMap<i64, String>,
        broker_name: String,
        cluster: String,
        enable_acting_master: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        zone_name: Option<String>,
    }
    /// Where a topic is: the answer to GET_ROUTEINFO_BY_TOPIC.
    #[derive(Eq)]
    TopicRouteData {
        broker_datas: Vec<BrokerData>,
        filter_server_table: BTreeMap<String, Vec<String>>,
        /// `broker:queues;…`; there only for ordered topics.
        #[serde(skip_serializing_if = "Option::is_none")]
        order_topic_conf: Option<String>,
        queue_datas: Vec<QueueData>,
        /// Static topics only, as registered.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_queue_mapping_by_broker: Option<BTreeMap<String, Value>>,
    }
    /// All brokers: the answer to GET_BROKER_CLUSTER_INFO.
    #[derive(Eq)]
    ClusterInfo {
        broker_addr_table: BTreeMap<String, BrokerData>,
        cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
    }
    /// Names of topics.
    #[derive(Eq)]
    TopicList {
        #[serde(skip_serializing_if = "Option::is_none")]
        broker_addr: Option<String>,
        topic_list: Vec<String>,
    }
    /// Names and values.
    #[derive(Eq)]
    KVTable {
        table: BTreeMap<String, String>,
    }
    /// The members of one broker name.
    #[derive(Eq)]
    BrokerMemberGroup {
        broker_addrs: BTreeMap<i64, String>,
        broker_name: String,
        cluster: String,
    }
    /// The answer to GET_BROKER_MEMBER_GROUP.
    #[derive(Eq)]
    GetBrokerMemberGroupResponseBody {
        #[serde(skip_serializing_if = "Option::is_none")]
        broker_member_group: Option<BrokerMemberGroup>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;

    #[test]
    fn a_route_is_written_as_java_writes_it() {
        let route = TopicRouteData {
            broker_datas: Vec::from([BrokerData {
                broker_addrs: BTreeMap::from([(0, "127.0.0.1:10911".into())]),
                broker_name: "broker-a".into(),
                cluster: "DefaultCluster".into(),
                ..BrokerData::default()
            }]),
            queue_datas: Vec::from([QueueData {
                broker_name: "broker-a".into(),
                perm: 6,
                read_queue_nums: 4,
                topic_sys_flag: 0,
                write_queue_nums: 4,
            }]),
            ..TopicRouteData::default()
        };
        let text = br#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
        assert_eq!(body::encode(&route), text);
        assert_eq!(body::decode(text), Ok(route.clone()));
        let old = br#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false,"zoneName":null}],"filterServerTable":{},"later":{1:[]},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSynFlag":0,"writeQueueNums":4}]}"#;
        assert_eq!(body::decode(old), Ok(route));
    }
}
