//! Pulling.

use alloc::borrow::Cow;

use super::header::headers;

headers! {
    /// PULL_MESSAGE (11), LITE_PULL_MESSAGE (361).
    PullMessageRequest<'a> {
        consumer_group: Cow<'a, str> = "consumerGroup",
        topic: Cow<'a, str> = "topic",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        max_msg_nums: i32 = "maxMsgNums",
        /// Bits: [`pull_sys_flag`].
        sys_flag: i32 = "sysFlag",
        /// Where the group stands; counts with [`pull_sys_flag::COMMIT_OFFSET`] only.
        commit_offset: i64 = "commitOffset",
        suspend_timeout_millis: i64 = "suspendTimeoutMillis",
        subscription: Option<Cow<'a, str>> = "subscription",
        sub_version: i64 = "subVersion",
        expression_type: Option<Cow<'a, str>> = "expressionType",
        max_msg_bytes: Option<i32> = "maxMsgBytes",
        request_source: Option<i32> = "requestSource",
        /// Spelt as RocketMQ spells it.
        proxy_froward_client_id: Option<Cow<'a, str>> = "proxyFrowardClientId",
        lite_topic: Option<Cow<'a, str>> = "liteTopic",
    }
    /// Answer to PULL_MESSAGE (11, 361). All of it must be there, whatever the code.
    PullMessageResponse {
        /// Broker to pull from next.
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        /// Queue offset to pull next.
        next_begin_offset: i64 = "nextBeginOffset",
        /// Lowest queue offset.
        min_offset: i64 = "minOffset",
        /// One past the highest queue offset.
        max_offset: i64 = "maxOffset",
    }
}

/// Bits of [`PullMessageRequest::sys_flag`] (RocketMQ's `PullSysFlag`).
pub mod pull_sys_flag {
    /// `commitOffset` is to be stored as the group's.
    pub const COMMIT_OFFSET: i32 = 1;
    /// Hold the request while there is nothing.
    pub const SUSPEND: i32 = 2;
    /// The subscription fields carry the filter; else the heartbeat's subscription does.
    pub const SUBSCRIPTION: i32 = 4;
    /// A filter class; obsolete.
    pub const CLASS_FILTER: i32 = 8;
    /// A lite pull consumer.
    pub const LITE_PULL: i32 = 16;
}
