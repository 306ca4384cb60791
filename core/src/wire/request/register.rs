//! Brokers at a name server.

use alloc::string::String;

use super::header::headers;

headers! {
    /// REGISTER_BROKER (103).
    RegisterBrokerRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        ha_server_addr: String = "haServerAddr",
        broker_id: i64 = "brokerId",
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: Option<bool> = "compressed",
        body_crc32: Option<i32> = "bodyCrc32",
    }
    /// Answer to REGISTER_BROKER (103).
    RegisterBrokerResponse {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }
    /// UNREGISTER_BROKER (104).
    UnRegisterBrokerRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }
    /// QUERY_DATA_VERSION (322).
    QueryDataVersionRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }
    /// Answer to QUERY_DATA_VERSION (322).
    QueryDataVersionResponse {
        changed: bool = "changed",
        takes_changes: Option<bool> = "gantryTakesChanges",
    }
    /// BROKER_HEARTBEAT (904).
    BrokerHeartbeatRequest {
        cluster_name: String = "clusterName",
        broker_addr: String = "brokerAddr",
        broker_name: String = "brokerName",
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_mills: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }
}
