//! Consumer groups of a broker.

use alloc::string::String;

use super::header::headers;

headers! {
    /// DELETE_SUBSCRIPTIONGROUP (207).
    DeleteSubscriptionGroupRequest {
        group_name: String = "groupName",
        clean_offset: Option<bool> = "cleanOffset",
    }
    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201).
    GetAllSubscriptionGroupRequest {
        group_seq: Option<i32> = "groupSeq",
        data_version: Option<String> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }
    /// Answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201).
    GetAllSubscriptionGroupResponse {
        total_group_num: i32 = "totalGroupNum",
    }
    /// GET_SUBSCRIPTIONGROUP_CONFIG (352).
    GetSubscriptionGroupConfigRequest {
        group: String = "group",
    }
    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    UpdateGroupForbiddenRequest {
        group: String = "group",
        topic: String = "topic",
        readable: Option<bool> = "readable",
    }
    /// QUERY_TOPICS_BY_CONSUMER (343).
    QueryTopicsByConsumerRequest {
        group: String = "group",
    }
    /// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    QuerySubscriptionByConsumerRequest {
        group: String = "group",
        topic: Option<String> = "topic",
    }
    /// GET_CONSUME_STATS (208).
    GetConsumeStatsRequest {
        consumer_group: String = "consumerGroup",
        topic: Option<String> = "topic",
        topic_list: Option<String> = "topicList",
    }
    /// GET_BROKER_CONSUME_STATS (317).
    GetConsumeStatsInBroker {
        is_order: bool = "isOrder",
    }
    /// QUERY_CONSUME_TIME_SPAN (303).
    QueryConsumeTimeSpanRequest {
        topic: String = "topic",
        group: String = "group",
    }
}
