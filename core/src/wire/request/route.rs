//! Routes, at a name server.

use alloc::string::String;

use super::header::headers;

headers! {
    /// GET_ROUTEINFO_BY_TOPIC (105).
    GetRouteInfoRequest {
        topic: String = "topic",
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }
    /// GET_TOPICS_BY_CLUSTER (224).
    GetTopicsByClusterRequest {
        cluster: String = "cluster",
    }
    /// DELETE_TOPIC_IN_NAMESRV (216).
    DeleteTopicFromNamesrvRequest {
        topic: String = "topic",
        cluster_name: Option<String> = "clusterName",
    }
    /// REGISTER_TOPIC_IN_NAMESRV (217).
    RegisterTopicRequest {
        topic: String = "topic",
    }
    /// GET_BROKER_MEMBER_GROUP (901).
    GetBrokerMemberGroupRequest {
        cluster_name: String = "clusterName",
        broker_name: String = "brokerName",
    }
    /// WIPE_WRITE_PERM_OF_BROKER (205).
    WipeWritePermOfBrokerRequest {
        broker_name: String = "brokerName",
    }
    /// Answer to WIPE_WRITE_PERM_OF_BROKER (205).
    WipeWritePermOfBrokerResponse {
        wipe_topic_count: i32 = "wipeTopicCount",
    }
    /// ADD_WRITE_PERM_OF_BROKER (327).
    AddWritePermOfBrokerRequest {
        broker_name: String = "brokerName",
    }
    /// Answer to ADD_WRITE_PERM_OF_BROKER (327).
    AddWritePermOfBrokerResponse {
        add_topic_count: i32 = "addTopicCount",
    }
}
