//! Clients: their registration, their groups, and what is asked of them.

use alloc::string::String;

use super::header::headers;

headers! {
    /// UNREGISTER_CLIENT (35).
    UnregisterClientRequest {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
    }
    /// GET_CONSUMER_LIST_BY_GROUP (38).
    GetConsumerListByGroupRequest {
        consumer_group: String = "consumerGroup",
    }
    /// NOTIFY_CONSUMER_IDS_CHANGED (40).
    NotifyConsumerIdsChangedRequest {
        consumer_group: String = "consumerGroup",
    }
    /// GET_CONSUMER_CONNECTION_LIST (203).
    GetConsumerConnectionListRequest {
        consumer_group: String = "consumerGroup",
    }
    /// GET_PRODUCER_CONNECTION_LIST (204).
    GetProducerConnectionListRequest {
        producer_group: String = "producerGroup",
    }
    /// GET_CONSUMER_RUNNING_INFO (307).
    GetConsumerRunningInfoRequest {
        consumer_group: String = "consumerGroup",
        client_id: String = "clientId",
        jstack_enable: Option<bool> = "jstackEnable",
    }
    /// CONSUME_MESSAGE_DIRECTLY (309).
    ConsumeMessageDirectlyResultRequest {
        consumer_group: String = "consumerGroup",
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
        broker_name: Option<String> = "brokerName",
        topic: Option<String> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
    /// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
    GetConsumerStatusRequest {
        topic: String = "topic",
        group: String = "group",
        client_addr: Option<String> = "clientAddr",
    }
}
