//! Looking for messages.

use alloc::string::String;

use super::header::headers;

headers! {
    /// QUERY_MESSAGE (12).
    QueryMessageRequest {
        topic: String = "topic",
        key: String = "key",
        max_num: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
        index_type: Option<String> = "indexType",
        last_key: Option<String> = "lastKey",
    }
    /// Answer to QUERY_MESSAGE (12).
    QueryMessageResponse {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }
    /// VIEW_MESSAGE_BY_ID (33).
    ViewMessageRequest {
        topic: Option<String> = "topic",
        offset: i64 = "offset",
    }
    /// QUERY_CONSUME_QUEUE (321).
    QueryConsumeQueueRequest {
        topic: Option<String> = "topic",
        queue_id: Option<i32> = "queueId",
        index: Option<i64> = "index",
        count: Option<i32> = "count",
        consumer_group: Option<String> = "consumerGroup",
    }
}
