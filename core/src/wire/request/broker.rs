//! A broker itself: configuration, figures, replication.

use alloc::string::String;

use super::header::headers;

headers! {
    /// Answer to GET_BROKER_CONFIG (26).
    GetBrokerConfigResponse {
        version: String = "version",
    }
    /// VIEW_BROKER_STATS_DATA (315).
    ViewBrokerStatsDataRequest {
        stats_name: String = "statsName",
        stats_key: String = "statsKey",
    }
    /// EXCHANGE_BROKER_HA_INFO (906).
    ExchangeHAInfoRequest {
        master_ha_address: Option<String> = "masterHaAddress",
        master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<String> = "masterAddress",
    }
    /// Answer to EXCHANGE_BROKER_HA_INFO (906).
    ExchangeHAInfoResponse {
        master_ha_address: Option<String> = "masterHaAddress",
        master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<String> = "masterAddress",
    }
    /// RESET_MASTER_FLUSH_OFFSET (908).
    ResetMasterFlushOffset {
        master_flush_offset: i64 = "masterFlushOffset",
    }
    /// NOTIFY_MIN_BROKER_ID_CHANGE (905).
    NotifyMinBrokerIdChangeRequest {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<String> = "brokerName",
        min_broker_addr: Option<String> = "minBrokerAddr",
        offline_broker_addr: Option<String> = "offlineBrokerAddr",
        ha_broker_addr: Option<String> = "haBrokerAddr",
    }
}
