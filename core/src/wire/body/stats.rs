//! Figures of a broker.

use alloc::string::String;
use alloc::vec::Vec;

use super::{SubscriptionData, bodies};

bodies! {
    /// A figure over a time.
    BrokerStatsItem {
        /// Average a call.
        avgpt: f64,
        sum: i64,
        /// A second.
        tps: f64,
    }
    /// The answer to VIEW_BROKER_STATS_DATA.
    BrokerStatsData {
        stats_day: BrokerStatsItem,
        stats_hour: BrokerStatsItem,
        stats_minute: BrokerStatsItem,
    }
    /// An entry of a consume queue.
    #[derive(Eq)]
    ConsumeQueueData {
        #[serde(skip_serializing_if = "Option::is_none")]
        bit_map: Option<String>,
        eval: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        extend_data_json: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        msg: Option<String>,
        /// Spelt as RocketMQ spells it.
        physic_offset: i64,
        physic_size: i32,
        tags_code: i64,
    }
    /// The answer to QUERY_CONSUME_QUEUE.
    #[derive(Eq)]
    QueryConsumeQueueResponseBody {
        #[serde(skip_serializing_if = "Option::is_none")]
        filter_data: Option<String>,
        max_queue_index: i64,
        min_queue_index: i64,
        queue_data: Vec<ConsumeQueueData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data: Option<SubscriptionData>,
    }
    /// A slave as its master sees it.
    #[derive(Eq)]
    HAConnectionRuntimeInfo {
        addr: String,
        diff: i64,
        in_sync: bool,
        slave_ack_offset: i64,
        transfer_from_where: i64,
        transferred_byte_in_second: i64,
    }
    /// A slave as it sees itself.
    #[derive(Eq)]
    HAClientRuntimeInfo {
        last_read_timestamp: i64,
        last_write_timestamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        master_addr: Option<String>,
        master_flush_offset: i64,
        max_offset: i64,
        transferred_byte_in_second: i64,
    }
    /// The answer to GET_BROKER_HA_STATUS.
    #[derive(Eq)]
    HARuntimeInfo {
        ha_client_runtime_info: HAClientRuntimeInfo,
        ha_connection_info: Vec<HAConnectionRuntimeInfo>,
        in_sync_slave_nums: i32,
        master: bool,
        master_commit_log_max_offset: i64,
    }
}
