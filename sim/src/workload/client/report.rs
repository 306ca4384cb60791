//! What a simulated application tells the checkers of its client machine.

use gantry_core::client::DeliveryId;
use gantry_core::time::Duration;
use gantry_core::wire::body::MessageQueue;

use crate::history::MessageId;

/// See the [module](self). Of which client it is told, the host says.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientReport {
    /// A life begins under this client id.
    Began {
        /// See [`gantry_core::client::client_id`].
        client_id: String,
    },
    /// Messages are given to the machine, as one send.
    SendBegun {
        /// Names the send within its life.
        send: u64,
        /// Where to.
        topic: String,
        /// Which.
        messages: Vec<MessageId>,
    },
    /// The machine says how a send ended.
    SendEnded {
        /// Which.
        send: u64,
        /// How.
        how: SendEnd,
    },
    /// Nothing more is to be sent, and nothing is under way.
    AllSent {
        /// Sends that were given up after all their tries.
        given_up: u32,
    },
    /// The machine handed messages over.
    Delivered {
        /// To be settled by.
        delivery: DeliveryId,
        /// From where.
        queue: MessageQueue,
        /// What.
        messages: Vec<Handed>,
    },
    /// The application has settled a delivery.
    Settled {
        /// Which.
        delivery: DeliveryId,
        /// Done, or to come again.
        consumed: bool,
    },
    /// The machine says which queues of a topic are its own.
    Assigned {
        /// Which topic.
        topic: String,
        /// All of it.
        queues: Vec<MessageQueue>,
    },
    /// The application goes on elsewhere in one of its queues.
    Sought {
        /// Which queue.
        queue: MessageQueue,
        /// Where.
        offset: i64,
    },
    /// A commit leaves for a broker, or for the file of a broadcast.
    Committed {
        /// Of which queue.
        queue: MessageQueue,
        /// Up to here.
        offset: i64,
    },
    /// The application stops its client.
    Stopping,
    /// The client has left.
    Stopped,
    /// The machine says that it cannot do its work.
    Failing {
        /// Its words.
        what: String,
    },
}

/// A message as the application got it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed {
    /// Which; `None` when it is none of ours.
    pub id: Option<MessageId>,
    /// Its place in the queue.
    pub offset: i64,
    /// How often it had come back.
    pub times: i32,
}

/// How a send ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendEnd {
    /// SEND_OK; where each message lies.
    Ok(Vec<(MessageQueue, i64)>),
    /// It is stored less safely than asked, or left without an answer wanted.
    Weak,
    /// It is stored nowhere.
    Refused(String),
    /// It may be stored.
    Unknown(String),
}

impl SendEnd {
    /// Whether the application is content with it.
    pub fn is_stored(&self) -> bool {
        matches!(self, SendEnd::Ok(_) | SendEnd::Weak)
    }
}

/// What an application is to do is spread over time: most of it quick, some of it slow.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Pace {
    /// Most settlements take up to this.
    pub usual: Duration,
    /// One of so many takes up to [`Pace::slow`].
    pub slow_one_in: u64,
    /// See [`Pace::slow_one_in`].
    pub slow: Duration,
}
