//! Topics and their versions.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MqMap, ObjectWriter, bodies, wire_enum};

/// Bits of a topic's `perm` (RocketMQ's `PermName`).
pub mod perm {
    /// New topics may take their settings from this one.
    pub const INHERIT: i32 = 1;
    /// Messages may be sent.
    pub const WRITE: i32 = 2;
    /// Messages may be consumed.
    pub const READ: i32 = 4;
    /// Priority.
    pub const PRIORITY: i32 = 8;
}

/// Bits of a topic's `topicSysFlag`.
pub mod topic_sys_flag {
    /// A unit topic.
    pub const UNIT: i32 = 1;
    /// Subscribed by units.
    pub const UNIT_SUB: i32 = 2;
}

bodies! {
    /// The version of a table, RocketMQ's `DataVersion`. In order of state version, counter and time.
    #[derive(Copy, Eq)]
    DataVersion {
        counter: i64,
        /// Term of the store that made the change; RocketMQ 4.9 has none.
        state_version: i64,
        /// ms since the epoch
        timestamp: i64,
    }
}

impl Ord for DataVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &DataVersion| (version.state_version, version.counter, version.timestamp);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for DataVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

wire_enum! {
    /// Whether messages of a topic carry one tag or several.
    TopicFilterType {
        #[default]
        SingleTag = "SINGLE_TAG",
        MultiTag = "MULTI_TAG",
    }
}

/// A topic of a broker, RocketMQ's `TopicConfig`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    /// `queue.type`, `message.type`, `cleanup.policy`, …
    pub attributes: BTreeMap<String, String>,
    /// Ordered: sends to a broker that may not be written are refused, not moved.
    pub order: bool,
    /// Bits of [`perm`].
    pub perm: i32,
    /// Queues that may be consumed.
    pub read_queue_nums: i32,
    /// Tags a message may carry.
    pub topic_filter_type: TopicFilterType,
    /// Its name.
    pub topic_name: String,
    /// Bits of [`topic_sys_flag`].
    pub topic_sys_flag: i32,
    /// Queues that may be written.
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig {
            attributes: BTreeMap::new(),
            order: false,
            perm: perm::READ | perm::WRITE,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

/// By topic and queue: how far the queue went, and where in the log that was told.
pub type QueueEnds = BTreeMap<String, BTreeMap<i32, (u64, u64)>>;

bodies! {
    /// A broker's topics with their version: in registrations, as the answer to GET_ALL_TOPIC_CONFIG, and in `topics.json`
    /// without the mappings. RocketMQ's `TopicConfigAndMappingSerializeWrapper`.
    #[derive(Eq)]
    TopicConfigSerializeWrapper {
        data_version: DataVersion,
        /// Gantry's own: deleted topics, and up to where in the log their records do not count.
        #[serde(skip_serializing_if = "Option::is_none")]
        gantry_deleted_topics: Option<BTreeMap<String, u64>>,
        /// Gantry's own: queues whose messages were gone before this log began. How far they went, and where in the log that was
        /// told.
        #[serde(skip_serializing_if = "Option::is_none")]
        gantry_queue_ends: Option<QueueEnds>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mapping_data_version: Option<DataVersion>,
        topic_config_table: BTreeMap<String, TopicConfig>,
        /// Static topics in full, carried through as they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_queue_mapping_detail_map: Option<BTreeMap<String, Value>>,
        /// Static topics in short, carried through as they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_queue_mapping_info_map: Option<BTreeMap<String, Value>>,
    }
    /// The body of UPDATE_AND_CREATE_TOPIC_LIST.
    #[derive(Eq)]
    CreateTopicListRequestBody {
        topic_config_list: Vec<TopicConfig>,
    }
    /// The ends of a queue.
    #[derive(Copy, Eq)]
    TopicOffset {
        last_update_timestamp: i64,
        max_offset: i64,
        min_offset: i64,
    }
    /// Names of consumer groups: the answer to QUERY_TOPIC_CONSUME_BY_WHO.
    #[derive(Eq)]
    GroupList {
        group_list: Vec<String>,
    }
}

/// The answer to GET_TOPIC_STATS_INFO.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicStatsTable {
    /// Ends by queue.
    pub offset_table: MqMap<TopicOffset>,
    /// Messages a second.
    pub topic_put_tps: f64,
}

impl TopicStatsTable {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |body| {
            body.member_with("offsetTable", |out| self.offset_table.write_plain(out));
            body.member("topicPutTps", &self.topic_put_tps);
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;
    use crate::wire::body::MessageQueue;

    #[test]
    fn topics_are_written_as_java_writes_them() {
        let topic = TopicConfig { topic_name: "T".into(), write_queue_nums: 8, ..TopicConfig::default() };
        let text = br#"{"attributes":{},"order":false,"perm":6,"readQueueNums":16,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":8}"#;
        assert_eq!(body::encode(&topic), text);
        assert_eq!(body::decode(text), Ok(topic.clone()));
        // What is absent or null is as in a new object.
        assert_eq!(body::decode(br#"{"attributes":null,"topicName":"T","writeQueueNums":8}"#), Ok(topic));
        assert!(body::decode::<TopicConfig>(br#"{"topicFilterType":"NO_TAG"}"#).is_err());
    }

    #[test]
    fn versions_are_compared_by_state_then_counter() {
        let version = |state_version, counter, timestamp| DataVersion { counter, state_version, timestamp };
        assert!(version(1, 0, 0) > version(0, 9, 9));
        assert!(version(1, 2, 0) > version(1, 1, 9));
        assert!(version(1, 2, 3) > version(1, 2, 2));
        assert_eq!(
            body::decode(br#"{"counter":5,"timestamp":7}"#),
            Ok(version(0, 5, 7)),
            "as RocketMQ 4.9 writes it"
        );
    }

    #[test]
    fn topic_stats_have_queues_as_keys() {
        let stats = TopicStatsTable {
            offset_table: MqMap(BTreeMap::from([(
                MessageQueue::new("T", "b", 0),
                TopicOffset { last_update_timestamp: 3, max_offset: 2, min_offset: 1 },
            )])),
            topic_put_tps: 0.0,
        };
        let text = br#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:{"lastUpdateTimestamp":3,"maxOffset":2,"minOffset":1}},"topicPutTps":0.0}"#;
        assert_eq!(stats.encode(), text);
        assert_eq!(body::decode(text), Ok(stats));
    }
}
