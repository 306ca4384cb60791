//! Clients written as raw protocol drivers: machines themselves, so that they live, pause and die like everything else.
//!
//! They speak RocketMQ's remoting protocol as an independent reader of it: headers are written field by field and replies
//! are taken apart by hand, so that a mistake in the project's own typed headers shows.
//!
//! Absent on purpose: cleverness. A driver does what RocketMQ's client does on the wire and reports all it sees; folding
//! retries into one success, or filtering duplicates, is left to the checkers.

pub mod administrator;
pub mod consumer;
pub mod delayer;
pub mod desk;
pub mod operator;
pub mod ordered;
pub mod producer;
pub mod record;
pub mod requests;
pub mod retrier;
pub mod route;
pub mod rpc;
pub mod watcher;

use std::sync::Arc;

use gantry_core::time::Duration;

/// What every client knows.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The name server, `ip:port`.
    pub name_server: Arc<str>,
    /// The client's id, as in heartbeats.
    pub client_id: String,
}

/// Routes are asked for again after this (`pollNameServerInterval`).
pub const ROUTE_INTERVAL: Duration = Duration::from_secs(30);
/// Heartbeats are sent this often (`heartbeatBrokerInterval`).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// A request without a reply is given up after this (`sendMsgTimeout`, `timeoutMillis`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
