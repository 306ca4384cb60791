//! Clients: heartbeats, subscriptions, connections, queue locks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{MessageQueue, bodies, quoted_number, quoted_numbers, wire_enum};

wire_enum! {
    /// How a consumer gets its messages.
    ConsumeType {
        /// It pulls.
        Actively = "CONSUME_ACTIVELY",
        /// Messages are handed to a listener.
        #[default]
        Passively = "CONSUME_PASSIVELY",
        /// It pops.
        Pop = "CONSUME_POP",
    }
}

wire_enum! {
    /// Who of a group gets a message.
    MessageModel {
        /// Everybody.
        Broadcasting = "BROADCASTING",
        /// One.
        #[default]
        Clustering = "CLUSTERING",
        /// Lite topics, since 5.5.
        LiteSelective = "LITE_SELECTIVE",
    }
}

wire_enum! {
    /// Where a new group begins.
    ConsumeFromWhere {
        /// The end.
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        /// As the end.
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// As the end.
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        /// As the end.
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        /// The beginning.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        /// A time.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

/// What a group wants of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionData {
    /// Filter by an uploaded class; obsolete.
    pub class_filter_mode: bool,
    /// Java's string hash of each tag.
    #[serde(deserialize_with = "quoted_numbers")]
    pub code_set: BTreeSet<i32>,
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    /// The expression as written; `*` or empty wants all.
    pub sub_string: String,
    /// When it was made, ms since the epoch; a larger one replaces a smaller one.
    #[serde(deserialize_with = "quoted_number")]
    pub sub_version: i64,
    /// The tags; none wants all.
    pub tags_set: BTreeSet<String>,
    /// The topic.
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        SubscriptionData {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: "TAG".into(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}

bodies! {
    /// A consumer of a client.
    #[derive(Eq)]
    ConsumerData {
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        group_name: String,
        message_model: MessageModel,
        subscription_data_set: Vec<SubscriptionData>,
        unit_mode: bool,
    }
    /// A producer of a client.
    #[derive(Eq)]
    ProducerData {
        group_name: String,
    }
    /// The body of HEART_BEAT.
    #[derive(Eq)]
    HeartbeatData {
        #[serde(rename = "clientID")]
        client_id: String,
        consumer_data_set: Vec<ConsumerData>,
        /// Java's string hash of the heartbeat; 0 when the client does not use it.
        #[serde(deserialize_with = "quoted_number")]
        heartbeat_fingerprint: i32,
        producer_data_set: Vec<ProducerData>,
        /// The subscriptions are those of the last heartbeat with this fingerprint.
        without_sub: bool,
    }
    /// The answer to GET_CONSUMER_LIST_BY_GROUP.
    #[derive(Eq)]
    GetConsumerListByGroupResponseBody {
        consumer_id_list: Vec<String>,
    }
    /// The body of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ.
    #[derive(Eq)]
    LockBatchRequestBody {
        client_id: String,
        consumer_group: String,
        mq_set: BTreeSet<MessageQueue>,
        only_this_broker: bool,
    }
    /// The answer to LOCK_BATCH_MQ.
    #[derive(Eq)]
    LockBatchResponseBody {
        #[serde(rename = "lockOKMQSet")]
        lock_ok_mq_set: BTreeSet<MessageQueue>,
    }
    /// The body of CHECK_CLIENT_CONFIG.
    #[derive(Eq)]
    CheckClientRequestBody {
        client_id: String,
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        subscription_data: SubscriptionData,
    }
    /// A client's connection.
    #[derive(Eq)]
    Connection {
        /// `ip:port`
        client_addr: String,
        client_id: String,
        /// RocketMQ's name of a [`crate::wire::Language`].
        language: String,
        version: i32,
    }
    /// The answer to GET_CONSUMER_CONNECTION_LIST.
    #[derive(Eq)]
    ConsumerConnection {
        connection_set: Vec<Connection>,
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        message_model: MessageModel,
        /// By topic.
        subscription_table: BTreeMap<String, SubscriptionData>,
    }
    /// The answer to GET_PRODUCER_CONNECTION_LIST.
    #[derive(Eq)]
    ProducerConnection {
        connection_set: Vec<Connection>,
    }
    /// A producer as GET_ALL_PRODUCER_INFO lists it.
    #[derive(Eq)]
    ProducerInfo {
        client_id: String,
        language: String,
        last_update_timestamp: i64,
        #[serde(rename = "remoteIP")]
        remote_ip: String,
        version: i32,
    }
    /// The answer to GET_ALL_PRODUCER_INFO, by group.
    #[derive(Eq)]
    ProducerTableInfo {
        data: BTreeMap<String, Vec<ProducerInfo>>,
    }
    /// A client's answer to CONSUME_MESSAGE_DIRECTLY.
    #[derive(Eq)]
    ConsumeMessageDirectlyResult {
        auto_commit: bool,
        /// `CR_SUCCESS`, `CR_LATER`, …
        #[serde(skip_serializing_if = "Option::is_none")]
        consume_result: Option<String>,
        order: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
        spent_time_mills: i64,
    }
    /// The body of QUERY_ASSIGNMENT.
    #[derive(Eq)]
    QueryAssignmentRequestBody {
        client_id: String,
        consumer_group: String,
        message_model: MessageModel,
        strategy_name: String,
        topic: String,
    }
    /// A queue and how to consume it.
    #[derive(Eq)]
    MessageQueueAssignment {
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        attachments: BTreeMap<String, String>,
        message_queue: MessageQueue,
        /// `PULL` or `POP`.
        mode: String,
    }
    /// The answer to QUERY_ASSIGNMENT.
    #[derive(Eq)]
    QueryAssignmentResponseBody {
        message_queue_assignments: Vec<MessageQueueAssignment>,
    }
    /// The body of SET_MESSAGE_REQUEST_MODE.
    #[derive(Eq)]
    SetMessageRequestModeRequestBody {
        consumer_group: String,
        /// `PULL` or `POP`.
        mode: String,
        pop_share_queue_num: i32,
        topic: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;

    fn sample() -> HeartbeatData {
        HeartbeatData {
            client_id: "10.0.0.1@DEFAULT".into(),
            consumer_data_set: Vec::from([ConsumerData {
                group_name: "G".into(),
                subscription_data_set: Vec::from([SubscriptionData {
                    code_set: BTreeSet::from([2_598_919]),
                    sub_string: "TagA".into(),
                    sub_version: 1_700_000_000_000,
                    tags_set: BTreeSet::from(["TagA".into()]),
                    topic: "T".into(),
                    ..SubscriptionData::default()
                }]),
                ..ConsumerData::default()
            }]),
            producer_data_set: Vec::from([ProducerData { group_name: "P".into() }]),
            ..HeartbeatData::default()
        }
    }

    #[test]
    fn heartbeats_of_all_clients_are_read() {
        let java = r#"{"clientID":"10.0.0.1@DEFAULT","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"G","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1700000000000,"tagsSet":["TagA"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"P"}],"withoutSub":false}"#;
        let cpp = r#"{"clientID":"10.0.0.1@DEFAULT","consumerDataSet":[{"consumeFromWhere":0,"consumeType":1,"groupName":"G","messageModel":1,"subscriptionDataSet":[{"codeSet":[2598919],"subString":"TagA","subVersion":"1700000000000","tagsSet":["TagA"],"topic":"T"}]}],"producerDataSet":[{"groupName":"P"}]}"#;
        let go = r#"{"clientID":"10.0.0.1@DEFAULT","producerDataSet":[{"groupName":"P"}],"consumerDataSet":[{"groupName":"G","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{"classFilterMode":false,"topic":"T","subString":"TagA","tagsSet":["TagA"],"codeSet":["2598919"],"subVersion":1700000000000,"expressionType":"TAG"}],"unitMode":false}]}"#;
        assert_eq!(body::decode(java.as_bytes()), Ok(sample()));
        assert_eq!(body::decode(go.as_bytes()), Ok(sample()));
        assert_eq!(body::decode(cpp.as_bytes()), Ok(sample()));
        assert_eq!(body::encode(&sample()), java.as_bytes());
        let bare: Result<HeartbeatData, _> = body::decode(br#"{"clientID":"c","consumerDataSet":null}"#);
        assert_eq!(bare, Ok(HeartbeatData { client_id: "c".into(), ..HeartbeatData::default() }));
    }

    #[test]
    fn enums_have_names_and_places() {
        for (text, expect) in [
            ("\"CONSUME_FROM_TIMESTAMP\"", Some(ConsumeFromWhere::Timestamp)),
            ("5", Some(ConsumeFromWhere::Timestamp)),
            ("6", None),
            ("-1", None),
            ("\"LATER\"", None),
            ("true", None),
        ] {
            assert_eq!(body::decode(text.as_bytes()).ok(), expect, "{text}");
        }
    }

    #[test]
    fn locks_name_queues() {
        let body = LockBatchResponseBody { lock_ok_mq_set: BTreeSet::from([MessageQueue::new("T", "b", 1)]) };
        let text = br#"{"lockOKMQSet":[{"brokerName":"b","queueId":1,"topic":"T"}]}"#;
        assert_eq!(body::encode(&body), text);
        assert_eq!(body::decode(text), Ok(body));
    }
}
