//! Topics of a broker.

use alloc::string::String;

use super::header::headers;

headers! {
    /// UPDATE_AND_CREATE_TOPIC (17).
    CreateTopicRequest {
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: String = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order",
        attributes: Option<String> = "attributes",
        force: Option<bool> = "force",
    }
    /// DELETE_TOPIC_IN_BROKER (215).
    DeleteTopicRequest {
        topic: String = "topic",
    }
    /// GET_ALL_TOPIC_CONFIG (21).
    GetAllTopicConfigRequest {
        topic_seq: Option<i32> = "topicSeq",
        data_version: Option<String> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }
    /// Answer to GET_ALL_TOPIC_CONFIG (21).
    GetAllTopicConfigResponse {
        total_topic_num: Option<i32> = "totalTopicNum",
    }
    /// GET_TOPIC_CONFIG (351).
    GetTopicConfigRequest {
        topic: String = "topic",
    }
    /// GET_TOPIC_STATS_INFO (202).
    GetTopicStatsInfoRequest {
        topic: String = "topic",
    }
    /// QUERY_TOPIC_CONSUME_BY_WHO (300).
    QueryTopicConsumeByWhoRequest {
        topic: String = "topic",
    }
}
