//! Every limit and switch of a broker, with RocketMQ's property name beside it where there is one.
//!
//! Defaults are RocketMQ 5.5.0's. What the store alone uses is in [`StoreConfig`].

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::ha::HaConfig;
use super::replication::BrokerRole;
use super::store::StoreConfig;
use crate::wire::body::perm;

/// [`BrokerConfig::memory_bytes`] of a broker that was not told: nothing of its log counts as far from the end.
pub(super) const MEMORY_UNKNOWN: u64 = u64::MAX;

/// Configuration of a broker.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `brokerClusterName`
    pub cluster_name: String,
    /// `brokerName`
    pub broker_name: String,
    /// `brokerId`: 0 is the master.
    pub broker_id: i64,
    /// `brokerIP1:listenPort`: the address clients are told, also written into every record.
    pub store_host: SocketAddr,
    /// `brokerIP2:haListenPort`: the address slaves are told.
    pub ha_addr: String,
    /// `namesrvAddr`, one entry a server.
    pub namesrv_addrs: Vec<Arc<str>>,
    /// `brokerRole`
    pub role: BrokerRole,
    /// Everything about replication.
    pub ha: HaConfig,
    /// `haMasterAddress`: where a slave's master sends its log; name servers tell it when this does not.
    pub ha_master_addr: Option<Arc<str>>,
    /// `slaveReadEnable`: whether slaves serve pulls, and masters may send slow groups to them. RocketMQ's default is false, so
    /// that nothing is read while its master is down.
    pub slave_read: bool,
    /// How often a slave asks for its master's tables (fixed in RocketMQ's `SlaveSynchronize`).
    pub slave_sync_interval: Duration,
    /// `gantryMetadataInLog`: whether a master with Gantry slaves carries the changes of its tables to them in the log. Else they
    /// poll, as RocketMQ's do.
    pub metadata_in_log: bool,
    /// `gantryMetadataInterval`: between two messages that carry changes, at least.
    pub metadata_interval: Duration,
    /// RAM of the machine in bytes; [`u64::MAX`] when it is not known. A group farther behind the end of the log than
    /// [`BrokerConfig::memory_percent`] of it is sent to a slave.
    pub memory_bytes: u64,
    /// `accessMessageInMemoryMaxRatio`
    pub memory_percent: u64,
    /// Everything about the store.
    pub store: StoreConfig,

    /// `brokerPermission`: bits of [`perm`], masks the permission of every topic registered.
    pub permission: i32,
    /// `autoCreateTopicEnable`
    pub auto_create_topic: bool,
    /// `autoCreateSubscriptionGroup`
    pub auto_create_group: bool,
    /// `defaultTopicQueueNums`: queues of TBW102, so at most of a topic made by a send.
    pub default_topic_queues: i32,
    /// Queues that a topic may have at most.
    pub topic_queues_max: i32,
    /// `clusterTopicEnable`
    pub cluster_topic: bool,
    /// `brokerTopicEnable`
    pub broker_topic: bool,
    /// `traceTopicEnable`
    pub trace_topic: bool,
    /// `msgTraceTopicName`
    pub trace_topic_name: String,
    /// `reviveQueueNum`
    pub revive_queues: i32,
    /// `rejectTransactionMessage`
    pub reject_transactions: bool,
    /// `enablePropertyFilter`: SQL92 filters.
    pub property_filter: bool,
    /// `notifyConsumerIdsChangedEnable`
    pub notify_consumer_ids_changed: bool,

    /// `registerNameServerPeriod`
    pub register_interval: Duration,
    /// `registerBrokerTimeoutMills`
    pub register_timeout: Duration,
    /// `forceRegister`: sends the whole table every time. RocketMQ's default is true: tens of megabytes with many topics.
    pub force_register: bool,
    /// `compressedRegister`: whole tables go compressed. RocketMQ's default is false, and what its brokers then send its own name
    /// servers refuse.
    pub compressed_register: bool,
    /// How long to wait before the first and at most before every later attempt to reach a name server again.
    pub redial_min: Duration,
    /// See [`BrokerConfig::redial_min`].
    pub redial_max: Duration,
    /// `flushConsumerOffsetInterval`
    pub offset_flush_interval: Duration,
    /// How often clients are scanned (fixed in RocketMQ's `ClientHousekeepingService`).
    pub client_scan_interval: Duration,
    /// How long a client lives without a heartbeat (fixed in RocketMQ).
    pub client_expiry: Duration,
    /// `rebalanceLockMaxLiveTime` (`rocketmq.broker.rebalance.lockMaxLiveTime`)
    pub lock_expiry: Duration,
    /// `syncFlushTimeout`: then a send is answered FLUSH_DISK_TIMEOUT.
    pub flush_timeout: Duration,
    /// `slaveTimeout`: then a send is answered FLUSH_SLAVE_TIMEOUT.
    pub slave_timeout: Duration,

    /// `longPollingEnable`
    pub long_polling: bool,
    /// `shortPollingTimeMills`: how long a pull is held when long polling is off.
    pub short_polling: Duration,
    /// No pull is held longer, whatever it asks for.
    pub hold_max: Duration,
    /// Pulls held or waiting for the disk at a time; RocketMQ's nearest is `pullThreadPoolQueueCapacity`.
    pub pulls_waiting_max: usize,
    /// `maxTransferCountOnMessageInMemory`
    pub pull_messages_max: u32,
    /// `maxTransferBytesOnMessageInMemory`
    pub pull_bytes_max: u64,

    /// `gantryOnceWindow`: how long after a message was stored another attempt to send it is known for one. Ten minutes: longer than
    /// a broker's restart or its slave's promotion, and far longer than the three seconds in which clients try again.
    pub once_window: Duration,
    /// `gantryOnceKeys`: keys remembered at most that a later attempt has stored, because the first one may still come. Some
    /// 200 bytes each; only attempts after the first count.
    pub once_keys_max: usize,

    /// How long a clean stop waits for name servers to hear of it.
    pub unregister_timeout: Duration,

    /// What GET_BROKER_CONFIG shows beside all this: what the host decides, and what has no effect.
    pub shown: BTreeMap<String, String>,
}

impl BrokerConfig {
    /// A master at `store_host`, alone in `DefaultCluster`, with RocketMQ's defaults.
    pub fn new(broker_name: impl Into<String>, store_host: SocketAddr) -> BrokerConfig {
        BrokerConfig {
            cluster_name: "DefaultCluster".into(),
            broker_name: broker_name.into(),
            broker_id: 0,
            store_host,
            ha_addr: String::new(),
            namesrv_addrs: Vec::new(),
            role: BrokerRole::default(),
            ha: HaConfig::default(),
            ha_master_addr: None,
            slave_read: true,
            slave_sync_interval: Duration::from_secs(10),
            metadata_in_log: true,
            metadata_interval: Duration::from_millis(100),
            memory_bytes: MEMORY_UNKNOWN,
            memory_percent: 40,
            store: StoreConfig::default(),
            permission: perm::READ | perm::WRITE,
            auto_create_topic: true,
            auto_create_group: true,
            default_topic_queues: 8,
            topic_queues_max: 65_536,
            cluster_topic: true,
            broker_topic: true,
            trace_topic: false,
            trace_topic_name: "RMQ_SYS_TRACE_TOPIC".into(),
            revive_queues: 8,
            reject_transactions: false,
            property_filter: false,
            notify_consumer_ids_changed: true,
            register_interval: Duration::from_secs(30),
            register_timeout: Duration::from_secs(24),
            force_register: false,
            compressed_register: true,
            redial_min: Duration::from_millis(200),
            redial_max: Duration::from_secs(10),
            offset_flush_interval: Duration::from_secs(5),
            client_scan_interval: Duration::from_secs(10),
            client_expiry: Duration::from_secs(120),
            lock_expiry: Duration::from_secs(60),
            flush_timeout: Duration::from_secs(5),
            slave_timeout: Duration::from_secs(3),
            long_polling: true,
            short_polling: Duration::from_secs(1),
            hold_max: Duration::from_secs(600),
            pulls_waiting_max: 100_000,
            pull_messages_max: 32,
            pull_bytes_max: 256 * 1024,
            once_window: Duration::from_secs(600),
            once_keys_max: 100_000,
            unregister_timeout: Duration::from_secs(3),
            shown: BTreeMap::new(),
        }
    }
}
