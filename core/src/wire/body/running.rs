//! What a consumer tells about itself: the answer to GET_CONSUMER_RUNNING_INFO.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{MqMap, ObjectWriter, SubscriptionData};

/// One queue of a consumer, as it is there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProcessQueueInfo {
    /// Messages that are here and not consumed.
    pub cached_msg_count: i32,
    /// The newest of them.
    pub cached_msg_max_offset: i64,
    /// The oldest of them.
    pub cached_msg_min_offset: i64,
    /// Their bodies.
    pub cached_msg_size_in_mi_b: i32,
    /// All below is consumed.
    pub commit_offset: i64,
    /// It is no longer this member's.
    pub droped: bool,
    /// When a message of it was last handed to the application, ms.
    pub last_consume_timestamp: i64,
    /// When its lock was last renewed, ms.
    pub last_lock_timestamp: i64,
    /// When it was last pulled, ms.
    pub last_pull_timestamp: i64,
    /// Its lock is this member's.
    pub locked: bool,
    /// Messages of an ordered queue that are with the application.
    pub transaction_msg_count: i32,
    /// The newest of them.
    pub transaction_msg_max_offset: i64,
    /// The oldest of them.
    pub transaction_msg_min_offset: i64,
    /// How often its lock could not be given back.
    pub try_unlock_times: i64,
}

/// The answer to GET_CONSUMER_RUNNING_INFO. RocketMQ's also has rates by topic (`statusTable`), which stay empty here.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerRunningInfo {
    /// What it was told, and `PROP_…`.
    pub properties: BTreeMap<String, String>,
    /// To what it subscribes.
    pub subscription_set: Vec<SubscriptionData>,
    /// Its queues.
    pub mq_table: MqMap<ProcessQueueInfo>,
}

impl ConsumerRunningInfo {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, |body| {
            body.member_with("mqPopTable", |out| out.extend_from_slice(b"{}"));
            body.member_with("mqTable", |out| self.mq_table.write_plain(out));
            body.member("properties", &self.properties);
            body.member_with("statusTable", |out| out.extend_from_slice(b"{}"));
            body.member("subscriptionSet", &self.subscription_set);
            body.member_with("userConsumerInfo", |out| out.extend_from_slice(b"{}"));
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body::{MessageQueue, decode};

    #[test]
    fn it_is_written_as_rocketmq_reads_it() {
        let info = ConsumerRunningInfo {
            properties: BTreeMap::from([("PROP_CONSUMEORDERLY".into(), "false".into())]),
            subscription_set: Vec::new(),
            mq_table: MqMap(BTreeMap::from([(
                MessageQueue::new("T", "b", 1),
                ProcessQueueInfo { commit_offset: 7, ..ProcessQueueInfo::default() },
            )])),
        };
        let text = r#"{"mqPopTable":{},"mqTable":{{"brokerName":"b","queueId":1,"topic":"T"}:{"cachedMsgCount":0,"cachedMsgMaxOffset":0,"cachedMsgMinOffset":0,"cachedMsgSizeInMiB":0,"commitOffset":7,"droped":false,"lastConsumeTimestamp":0,"lastLockTimestamp":0,"lastPullTimestamp":0,"locked":false,"transactionMsgCount":0,"transactionMsgMaxOffset":0,"transactionMsgMinOffset":0,"tryUnlockTimes":0}},"properties":{"PROP_CONSUMEORDERLY":"false"},"statusTable":{},"subscriptionSet":[],"userConsumerInfo":{}}"#;
        assert_eq!(core::str::from_utf8(&info.encode()), Ok(text));
        assert_eq!(decode(text.as_bytes()), Ok(info));
    }
}
