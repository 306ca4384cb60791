//! Consumer groups: settings, offsets, progress.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{DataVersion, MessageQueue, MqMap, ObjectWriter, SubscriptionData, bodies, wire_enum};

wire_enum! {
    /// How the waits between tries grow.
    GroupRetryPolicyType {
        /// By a power.
        Exponential = "EXPONENTIAL",
        /// By a list.
        #[default]
        Customized = "CUSTOMIZED",
    }
}

/// Waits that grow by a power.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExponentialRetryPolicy {
    /// First wait, ms.
    pub initial: i64,
    /// Longest wait, ms.
    pub max: i64,
    /// Growth of each wait over the one before.
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    fn default() -> Self {
        ExponentialRetryPolicy { initial: 5_000, max: 7_200_000, multiplier: 2 }
    }
}

bodies! {
    /// Waits by a list.
    #[derive(Eq)]
    CustomizedRetryPolicy {
        /// Waits in ms; the last one for all further tries.
        next: Vec<i64>,
    }
    /// The waits between tries.
    #[derive(Eq)]
    GroupRetryPolicy {
        #[serde(skip_serializing_if = "Option::is_none")]
        customized_retry_policy: Option<CustomizedRetryPolicy>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exponential_retry_policy: Option<ExponentialRetryPolicy>,
        #[serde(rename = "type")]
        kind: GroupRetryPolicyType,
    }
    /// What a group should be subscribed to.
    #[derive(Eq)]
    SimpleSubscriptionData {
        expression: String,
        expression_type: String,
        topic: String,
        version: i64,
    }
}

/// A consumer group of a broker, RocketMQ's `SubscriptionGroupConfig`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupConfig {
    /// `lite.…`, `priority.factor`
    pub attributes: BTreeMap<String, String>,
    /// Broker to pull from.
    pub broker_id: i64,
    /// Whether broadcasting is allowed.
    pub consume_broadcast_enable: bool,
    /// Whether consuming is allowed.
    pub consume_enable: bool,
    /// Whether a new group may begin at the lowest offset.
    pub consume_from_min_enable: bool,
    /// Whether messages are consumed in order.
    pub consume_message_orderly: bool,
    /// Time to consume a message, minutes.
    pub consume_timeout_minute: i32,
    /// Its name.
    pub group_name: String,
    /// Waits between tries.
    pub group_retry_policy: GroupRetryPolicy,
    /// Bits for clients.
    pub group_sys_flag: i32,
    /// Whether members are told of changes.
    pub notify_consumer_ids_changed_enable: bool,
    /// Tries before the dead-letter queue.
    pub retry_max_times: i32,
    /// Queues of the retry topic.
    pub retry_queue_nums: i32,
    /// What it should be subscribed to, if that is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    /// Broker suggested to a group that lags.
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        SubscriptionGroupConfig {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

bodies! {
    /// A broker's groups with their version: the answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG, and `subscriptionGroup.json`.
    #[derive(Eq)]
    SubscriptionGroupWrapper {
        data_version: DataVersion,
        /// By group, then topic.
        forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    }
    /// The body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
    #[derive(Eq)]
    SubscriptionGroupList {
        group_config_list: Vec<SubscriptionGroupConfig>,
    }
    /// The answer to UPDATE_AND_GET_GROUP_FORBIDDEN.
    #[derive(Eq)]
    GroupForbidden {
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        readable: Option<bool>,
        topic: String,
    }
    /// Committed offsets by `topic@group`, then queue: the answer to GET_ALL_CONSUMER_OFFSET, and `consumerOffset.json`.
    #[derive(Eq)]
    ConsumerOffsetSerializeWrapper {
        #[serde(skip_serializing_if = "Option::is_none")]
        data_version: Option<DataVersion>,
        offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    }
    /// Where a group stands in a queue.
    #[derive(Copy, Eq)]
    OffsetWrapper {
        /// End of the queue.
        broker_offset: i64,
        consumer_offset: i64,
        /// Store time of the last message consumed, ms since the epoch.
        last_timestamp: i64,
        pull_offset: i64,
    }
    /// A span of consuming.
    #[derive(Eq)]
    QueueTimeSpan {
        consume_time_stamp: i64,
        delay_time: i64,
        max_time_stamp: i64,
        message_queue: MessageQueue,
        min_time_stamp: i64,
    }
    /// The answer to QUERY_CONSUME_TIME_SPAN.
    #[derive(Eq)]
    QueryConsumeTimeSpanBody {
        consume_time_span_set: Vec<QueueTimeSpan>,
    }
    /// The answer to QUERY_CORRECTION_OFFSET, by queue.
    #[derive(Eq)]
    QueryCorrectionOffsetBody {
        correction_offsets: BTreeMap<i32, i64>,
    }
    /// The answer to QUERY_SUBSCRIPTION_BY_CONSUMER.
    #[derive(Eq)]
    QuerySubscriptionResponseBody {
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data: Option<SubscriptionData>,
        topic: String,
    }
    /// A queue's offset in [`ResetOffsetBodyForC`].
    #[derive(Eq)]
    MessageQueueForC {
        broker_name: String,
        offset: i64,
        queue_id: i32,
        topic: String,
    }
    /// The body of RESET_CONSUMER_CLIENT_OFFSET to a C++ client, which cannot read objects as keys.
    #[derive(Eq)]
    ResetOffsetBodyForC {
        offset_table: Vec<MessageQueueForC>,
    }
}

/// The answer to GET_CONSUME_STATS.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages a second.
    pub consume_tps: f64,
    /// Progress by queue.
    pub offset_table: MqMap<OffsetWrapper>,
}

impl ConsumeStats {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        ObjectWriter::write(out, |body| {
            body.member("consumeTps", &self.consume_tps);
            body.member_with("offsetTable", |out| self.offset_table.write_plain(out));
        });
    }
}

/// The answer to GET_BROKER_CONSUME_STATS.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStatsList {
    /// Who answers, `ip:port`.
    pub broker_addr: String,
    /// A group's progress by topic, one map a group.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages not yet committed.
    pub total_diff: i64,
    /// Messages pulled and not yet committed.
    pub total_inflight_diff: i64,
}

impl ConsumeStatsList {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |body| {
            body.member("brokerAddr", &self.broker_addr);
            body.member_with("consumeStatsList", |out| {
                write_list(out, &self.consume_stats_list, |groups, out| {
                    ObjectWriter::write(out, |object| {
                        for (group, stats) in groups {
                            object.member_with(group, |out| write_list(out, stats, ConsumeStats::write));
                        }
                    });
                });
            });
            body.member("totalDiff", &self.total_diff);
            body.member("totalInflightDiff", &self.total_inflight_diff);
        });
        out
    }
}

fn write_list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, value) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        item(value, out);
    }
    out.push(b']');
}

/// The answer to INVOKE_BROKER_TO_RESET_OFFSET, and the body of RESET_CONSUMER_CLIENT_OFFSET.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsetBody {
    /// New offsets by queue.
    pub offset_table: MqMap<i64>,
}

impl ResetOffsetBody {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |body| {
            body.member_with("offsetTable", |out| self.offset_table.write_plain(out));
        });
        out
    }
}

/// Where a broadcasting client has come: the file `offsets.json` that it keeps (RocketMQ's `OffsetSerializeWrapper`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalOffsets {
    /// The next offset by queue.
    pub offset_table: MqMap<i64>,
}

impl LocalOffsets {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        ResetOffsetBody { offset_table: self.offset_table.clone() }.encode()
    }
}

/// The answer to GET_CONSUMER_STATUS_FROM_CLIENT (the second table) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GetConsumerStatusBody {
    /// Offsets by client id and queue.
    pub consumer_table: BTreeMap<String, MqMap<i64>>,
    /// Offsets by queue.
    pub message_queue_table: MqMap<i64>,
}

impl GetConsumerStatusBody {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |body| {
            body.member_with("consumerTable", |out| {
                ObjectWriter::write(out, |clients| {
                    for (client, offsets) in &self.consumer_table {
                        clients.member_with(client, |out| offsets.write_plain(out));
                    }
                });
            });
            body.member_with("messageQueueTable", |out| self.message_queue_table.write_plain(out));
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;

    #[test]
    fn a_group_is_written_as_java_writes_it() {
        let group = SubscriptionGroupConfig { group_name: "G".into(), ..SubscriptionGroupConfig::default() };
        let text = br#"{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"G","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}"#;
        assert_eq!(body::encode(&group), text);
        assert_eq!(body::decode(text), Ok(group.clone()));
        assert_eq!(body::decode(br#"{"groupName":"G","groupRetryPolicy":null}"#), Ok(group));
    }

    #[test]
    fn progress_has_queues_as_keys() {
        let stats = ConsumeStats {
            consume_tps: 1.5,
            offset_table: MqMap(BTreeMap::from([(MessageQueue::new("T", "b", 0), OffsetWrapper::default())])),
        };
        let inner = r#"{"consumeTps":1.5,"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:{"brokerOffset":0,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}"#;
        assert_eq!(stats.encode(), inner.as_bytes());
        let list = ConsumeStatsList {
            broker_addr: "a:1".into(),
            consume_stats_list: Vec::from([BTreeMap::from([(
                "G".into(),
                Vec::from([stats.clone(), stats]),
            )])]),
            total_diff: 1,
            total_inflight_diff: 2,
        };
        let text = alloc::format!(
            r#"{{"brokerAddr":"a:1","consumeStatsList":[{{"G":[{inner},{inner}]}}],"totalDiff":1,"totalInflightDiff":2}}"#
        );
        assert_eq!(list.encode(), text.as_bytes());
        assert_eq!(body::decode(text.as_bytes()), Ok(list));
    }

    #[test]
    fn consumer_status_has_queues_as_keys() {
        let offsets = MqMap(BTreeMap::from([(MessageQueue::new("T", "b", 0), 7)]));
        let body = GetConsumerStatusBody {
            consumer_table: BTreeMap::from([("c@1".into(), offsets.clone())]),
            message_queue_table: MqMap::default(),
        };
        let text = br#"{"consumerTable":{"c@1":{{"brokerName":"b","queueId":0,"topic":"T"}:7}},"messageQueueTable":{}}"#;
        assert_eq!(body.encode(), text);
        assert_eq!(body::decode(text), Ok(body));
        let reset = ResetOffsetBody { offset_table: offsets };
        assert_eq!(body::decode(&reset.encode()), Ok(reset));
    }

    #[test]
    fn offsets_with_bare_keys_are_read() {
        let table = BTreeMap::from([("T@G".into(), BTreeMap::from([(0, 12), (1, 40)]))]);
        let expect = ConsumerOffsetSerializeWrapper { data_version: None, offset_table: table };
        assert_eq!(body::decode(br#"{"offsetTable":{"T@G":{0:12,1:40}}}"#), Ok(expect.clone()));
        assert_eq!(body::encode(&expect), br#"{"offsetTable":{"T@G":{"0":12,"1":40}}}"#);
    }
}
