//! Typed headers of requests and responses, by family.

use alloc::string::String;

use bytes::Bytes;

/// Answer to SEND_MESSAGE (10, 310, 320, 36 none).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SendMessageResponse {
    /// Offset message ids, already joined by commas for a batch.
    pub msg_id: String,
    /// Queue.
    pub queue_id: i32,
    /// First queue offset.
    pub queue_offset: i64,
    /// The message's UNIQ_KEY, UTF-8.
    pub transaction_id: Bytes,
}

/// Answer to PULL_MESSAGE (11, 361).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PullMessageResponse {
    /// Broker to pull from next.
    pub suggest_which_broker_id: i64,
    /// Queue offset to pull next.
    pub next_begin_offset: i64,
    /// Lowest queue offset.
    pub min_offset: i64,
    /// One past the highest queue offset.
    pub max_offset: i64,
}
