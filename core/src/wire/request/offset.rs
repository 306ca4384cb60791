//! Offsets of queues and groups.

use alloc::borrow::Cow;

use super::header::headers;

headers! {
    /// QUERY_CONSUMER_OFFSET (14).
    QueryConsumerOffsetRequest<'a> {
        consumer_group: Cow<'a, str> = "consumerGroup",
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
    /// Answer to QUERY_CONSUMER_OFFSET (14).
    QueryConsumerOffsetResponse {
        offset: i64 = "offset",
    }
    /// UPDATE_CONSUMER_OFFSET (15).
    UpdateConsumerOffsetRequest<'a> {
        consumer_group: Cow<'a, str> = "consumerGroup",
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
        commit_offset: i64 = "commitOffset",
    }
    /// GET_MAX_OFFSET (30).
    GetMaxOffsetRequest<'a> {
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
        committed: Option<bool> = "committed",
    }
    /// Answer to GET_MAX_OFFSET (30).
    GetMaxOffsetResponse {
        offset: i64 = "offset",
    }
    /// GET_MIN_OFFSET (31).
    GetMinOffsetRequest<'a> {
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
    }
    /// Answer to GET_MIN_OFFSET (31).
    GetMinOffsetResponse {
        offset: i64 = "offset",
    }
    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    SearchOffsetRequest<'a> {
        topic: Cow<'a, str> = "topic",
        lite_topic: Option<Cow<'a, str>> = "liteTopic",
        queue_id: i32 = "queueId",
        timestamp: i64 = "timestamp",
        boundary_type: Option<Cow<'a, str>> = "boundaryType",
    }
    /// Answer to SEARCH_OFFSET_BY_TIMESTAMP (29).
    SearchOffsetResponse {
        offset: i64 = "offset",
    }
    /// GET_EARLIEST_MSG_STORETIME (32).
    GetEarliestMsgStoretimeRequest<'a> {
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
    }
    /// Answer to GET_EARLIEST_MSG_STORETIME (32).
    GetEarliestMsgStoretimeResponse {
        timestamp: i64 = "timestamp",
    }
    /// INVOKE_BROKER_TO_RESET_OFFSET (222).
    ResetOffsetRequest<'a> {
        group: Cow<'a, str> = "group",
        topic: Cow<'a, str> = "topic",
        queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset",
        timestamp: i64 = "timestamp",
        is_force: bool = "isForce",
    }
    /// CLONE_GROUP_OFFSET (314).
    CloneGroupOffsetRequest<'a> {
        src_group: Cow<'a, str> = "srcGroup",
        dest_group: Cow<'a, str> = "destGroup",
        topic: Option<Cow<'a, str>> = "topic",
        offline: Option<bool> = "offline",
    }
    /// QUERY_CORRECTION_OFFSET (308).
    QueryCorrectionOffset<'a> {
        filter_groups: Option<Cow<'a, str>> = "filterGroups",
        compare_group: Cow<'a, str> = "compareGroup",
        topic: Cow<'a, str> = "topic",
    }
}
