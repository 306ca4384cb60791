//! POP consumption.

use alloc::string::String;

use super::header::headers;

headers! {
    /// POP_MESSAGE (200050).
    PopMessageRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        invisible_time: i64 = "invisibleTime",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        init_mode: i32 = "initMode",
        exp_type: Option<String> = "expType",
        exp: Option<String> = "exp",
        order: Option<bool> = "order",
        attempt_id: Option<String> = "attemptId",
    }
    /// Answer to POP_MESSAGE (200050).
    PopMessageResponse {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum",
        start_offset_info: Option<String> = "startOffsetInfo",
        msg_offset_info: Option<String> = "msgOffsetInfo",
        order_count_info: Option<String> = "orderCountInfo",
    }
    /// ACK_MESSAGE (200051).
    AckMessageRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        lite_topic: Option<String> = "liteTopic",
    }
    /// CHANGE_MESSAGE_INVISIBLETIME (200053).
    ChangeInvisibleTimeRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        invisible_time: i64 = "invisibleTime",
        lite_topic: Option<String> = "liteTopic",
        suspend: Option<bool> = "suspend",
    }
    /// Answer to CHANGE_MESSAGE_INVISIBLETIME (200053).
    ChangeInvisibleTimeResponse {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
    }
    /// PEEK_MESSAGE (200052).
    PeekMessageRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        consumer_group: String = "consumerGroup",
    }
    /// NOTIFICATION (200054).
    NotificationRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        order: Option<bool> = "order",
        attempt_id: Option<String> = "attemptId",
        exp_type: Option<String> = "expType",
        exp: Option<String> = "exp",
    }
    /// Answer to NOTIFICATION (200054).
    NotificationResponse {
        has_msg: bool = "hasMsg",
        polling_full: Option<bool> = "pollingFull",
    }
    /// POLLING_INFO (200055).
    PollingInfoRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }
    /// Answer to POLLING_INFO (200055).
    PollingInfoResponse {
        polling_num: i32 = "pollingNum",
    }
}
