//! What is drawn for an application: its roles, its sends, how it consumes.

use std::collections::BTreeMap;

use gantry_core::client::{Batching, ConsumerConfig, Filter, ProducerConfig, RoomNames, Start, Strategy};
use gantry_core::time::Duration;
use gantry_core::wire::body::{MessageModel, MessageQueue};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Pace;

/// One application.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AppPlan {
    /// It is not in this world; its host is.
    #[serde(default)]
    pub left_out: bool,
    /// Of its own chance.
    pub seed: u64,
    /// When it starts, in ns from the beginning of the world.
    pub starts_ns: u64,
    /// Each life has another instance name.
    pub renames: bool,
    /// Its machine room, where queues are divided by rooms.
    pub room: Option<String>,
    /// Its place in the list of groups.
    pub group: Option<usize>,
    /// Brokers that were slow are left alone.
    pub avoids_slow: bool,
    /// Messages are gathered into batches by the machine.
    pub gathers: bool,
    /// Each message is to be stored once, however often the machine tries.
    #[serde(default)]
    pub stores_once: bool,
    /// What it sends.
    pub sends: Vec<FleetSend>,
    /// When it goes back in what it reads.
    #[serde(default)]
    pub seeks: Vec<FleetSeek>,
}

/// An application goes back in one of its queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FleetSeek {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// Chooses among the queues it has then.
    pub choice: u64,
    /// Where to: the beginning of the queue, or before it.
    pub offset: i64,
}

/// A send of an application.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FleetSend {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// The number of its first message.
    pub first: u32,
    /// Where to, by the topic's number.
    pub topic: u8,
    /// How.
    pub way: Way,
}

/// How messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// One queue after the other.
    RoundRobin,
    /// Any queue.
    Random,
    /// By a key's hash.
    Key(u8),
    /// So many as one.
    Batch(u8),
    /// Later, by this level.
    Delay(u8),
}

impl Way {
    /// How many messages.
    pub fn count(self) -> u32 {
        match self {
            Way::Batch(count) => u32::from(count),
            Way::RoundRobin | Way::Random | Way::Key(_) | Way::Delay(_) => 1,
        }
    }
}

/// How a group's queues are divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dividing {
    /// See [`Strategy::Averagely`].
    Averagely,
    /// See [`Strategy::AveragelyByCircle`].
    Circle,
    /// See [`Strategy::ConsistentHash`].
    Hash,
    /// See [`Strategy::MachineRoomNearby`].
    Rooms,
}

/// What a group wants of its topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Everything.
    All,
    /// Two tags of the three that there are.
    TwoTags,
}

/// A consumer group.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Its topics, by number.
    pub topics: Vec<u8>,
    /// Each member gets everything.
    pub broadcast: bool,
    /// In order, under locks.
    pub orderly: bool,
    /// What it wants.
    pub asked: Asked,
    /// How queues are divided.
    pub dividing: Dividing,
    /// Of a thousand messages so many fail at first.
    pub fail_per_mille: u32,
    /// Those fail up to so many times.
    pub fails_max: i32,
    /// See [`ConsumerConfig::reconsume_max`].
    pub reconsume_max: Option<i32>,
    /// Messages of a delivery at most.
    pub delivery_messages_max: usize,
    /// Deliveries at a time.
    pub deliveries_max: usize,
    /// Messages of a pull.
    pub pull_messages_max: i32,
    /// Messages of a queue here at most.
    pub queue_messages_max: usize,
    /// Bytes of a queue here at most.
    pub queue_bytes_max: usize,
    /// From the oldest to the newest message here at most.
    pub queue_span_max: i64,
    /// A delivery that takes longer comes again.
    pub consume_timeout: Duration,
    /// How long the application takes.
    pub pace: Pace,
}

/// What the topics of a fleet are called.
pub fn topic_of(number: u8) -> String {
    format!("fleet-{number}")
}

/// The tag of a message.
pub fn tag_of(message: u32) -> String {
    format!("t{}", message % 3)
}

impl AppPlan {
    pub(super) fn producer(&self) -> Option<ProducerConfig> {
        let mut config = ProducerConfig::new("fleet-producers");
        config.avoid_slow_brokers = self.avoids_slow;
        config.batching = self.gathers.then(Batching::default);
        config.idempotent = self.stores_once;
        (!self.sends.is_empty()).then_some(config)
    }
}

impl GroupPlan {
    /// Whether the group wants a message.
    pub fn wants(&self, message: u32) -> bool {
        match self.asked {
            Asked::All => true,
            Asked::TwoTags => !message.is_multiple_of(3),
        }
    }

    /// Whether a message fails when it has come back so often: the same answer whenever it is asked.
    pub fn fails(&self, message: u32, times: i32) -> bool {
        let mut hash = u64::from(message) ^ 0x9E37_79B9_7F4A_7C15;
        for byte in self.name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        hash = (hash ^ (hash >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let is_bad = (hash >> 40) % 1000 < u64::from(self.fail_per_mille);
        let often = 1 + ((hash >> 20) % u64::from(self.fails_max.unsigned_abs().max(1))) as i32;
        is_bad && times < often
    }

    pub(super) fn consumer(&self, offsets: BTreeMap<MessageQueue, i64>) -> ConsumerConfig {
        let filter = match self.asked {
            Asked::All => Filter::all(),
            Asked::TwoTags => Filter::Tags("t1 || t2".into()),
        };
        let rooms = || Strategy::MachineRoomNearby {
            inner: Arc::new(Strategy::Averagely),
            rooms: RoomNames::BeforeDash,
        };
        let model = if self.broadcast { MessageModel::Broadcasting } else { MessageModel::Clustering };
        ConsumerConfig {
            model,
            start: Start::First,
            subscriptions: self.topics.iter().map(|topic| (topic_of(*topic), filter.clone())).collect(),
            strategy: match self.dividing {
                Dividing::Averagely => Strategy::Averagely,
                Dividing::Circle => Strategy::AveragelyByCircle,
                Dividing::Hash => {
                    Strategy::ConsistentHash { virtual_nodes: gantry_core::client::VIRTUAL_NODES }
                }
                Dividing::Rooms => rooms(),
            },
            orderly: self.orderly,
            delivery_messages_max: self.delivery_messages_max,
            deliveries_max: self.deliveries_max,
            pull_messages_max: self.pull_messages_max,
            queue_messages_max: self.queue_messages_max,
            queue_bytes_max: self.queue_bytes_max,
            queue_span_max: self.queue_span_max,
            reconsume_max: self.reconsume_max,
            consume_timeout: self.consume_timeout,
            offsets,
            ..ConsumerConfig::new(self.name.clone())
        }
    }
}
