//! Sending to and consuming from a cluster: an async library over [`gantry_core::client`].
//!
//! | to do | with | example (`net/examples`, `cargo run -p gantry-net --example NAME -- 127.0.0.1:9876`) |
//! |---|---|---|
//! | send | [`Producer`] | `produce` |
//! | consume as a member of a group | [`Consumer`] | `consume`; in order: [`ordered`](ConsumerBuilder::orderly) |
//! | read queues of one's own choice | [`PullConsumer`]; as a stream: [`ConsumerBuilder::assign`] | `pull`; `lite_pull` |
//! | ask, and wait for the reply | [`Producer::request`] | `request_reply` |
//! | send if a change of one's own comes off | [`TransactionProducer`] | `transaction` |
//! | have effects that happen once | [`once`] | `exactly_once` |
//!
//! Every client has a thread of its own, on which its machine and its sockets live; its handles can be used from any thread
//! and any async runtime. An error says what to do ([`SendError`], [`BuildError`]).
//!
//! **Cancellation.** A future does nothing before it is polled for the first time. Then its request is the client's, and a future that
//! is dropped gives up the answer and not the request: a message that `send` has taken is sent all the same. Each method says
//! what that comes to. `build` never waits: it is done when it was polled once.
//!
//! Messages come at least once: [`once`] makes their effects in a database happen once, and [`ProducerBuilder::idempotent`] keeps
//! retried sends from being stored twice.
//!
//! Absent on purpose: retries of one's own making around `send`. The machine has tried other brokers already when it
//! reports an error, and [`SendError::may_be_stored`] says whether another try may store a message twice.

mod compress;
mod consumer;
mod host;
mod offsets;
pub mod once;
mod producer;
mod pull;
mod transaction;

use std::fmt;

pub use compress::Compression;
pub use consumer::{Assignments, Consumer, ConsumerBuilder, Incoming};
pub use gantry_core::client::{
    AskError, Batching, ConsumeError, Filter, Message, MessageError, Properties, Pulled, Receipt, Received,
    RequestError, Resolution, RoomNames, RoomResolver, SendError, SendStatus, Start, Strategy, Target,
    property,
};
pub use gantry_core::wire::body::MessageQueue;
pub use producer::{Producer, ProducerBuilder, SendOptions};
pub use pull::{PullConsumer, PullConsumerBuilder};
pub use transaction::{Transaction, TransactionError, TransactionProducer, TransactionProducerBuilder};

/// Why a client cannot be made.
#[derive(Debug)]
pub enum BuildError {
    /// No name server was named, and NAMESRV_ADDR is not set: call `name_servers`.
    NoNameServers,
    /// An address that is not `host:port`.
    NameServer(String),
    /// The group's name is empty, too long (120), or has other characters than `%|a-zA-Z0-9_-`.
    Group(String),
    /// A consumer that subscribes to nothing: call `subscribe`.
    NoSubscription,
    /// Where a broadcast had come cannot be read: the file, and why. Without the file it begins at its start position.
    Offsets(std::path::PathBuf, String),
    /// The system refused a thread.
    Thread(std::io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoNameServers => {
                f.write_str("no name server is named: give host:port, or set NAMESRV_ADDR")
            }
            BuildError::NameServer(address) => {
                write!(f, "{address:?} is no name server's address: it must be host:port")
            }
            BuildError::Group(group) => {
                write!(f, "{group:?} is no group's name: up to 120 letters, digits, _, -, % and |")
            }
            BuildError::NoSubscription => f.write_str("the consumer subscribes to no topic: call subscribe"),
            BuildError::Offsets(path, why) => {
                write!(f, "cannot read where the broadcast had come, {}: {why}", path.display())
            }
            BuildError::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}
