//! Clients written as raw protocol drivers: machines themselves, so that they live, pause and die like everything else.
//!
//! They speak RocketMQ's remoting protocol as an independent reader of it: headers are written field by field and replies
//! are taken apart by hand, so that a mistake in the project's own typed headers shows.
//!
//! Absent on purpose: cleverness. A driver does what RocketMQ's client does on the wire and reports all it sees; folding
//! retries into one success, or filtering duplicates, is left to the checkers.

pub mod administrator;
pub mod asker;
pub mod babbler;
pub mod client;
pub mod consumer;
pub mod delayer;
pub mod desk;
pub mod insister;
pub mod janitor;
pub mod manager;
pub mod operator;
pub mod ordered;
pub mod producer;
pub mod record;
pub mod requests;
pub mod retrier;
pub mod route;
pub mod rpc;
pub mod script;
pub mod steward;
pub mod watcher;

use std::sync::Arc;

use gantry_core::time::Duration;

/// What every client knows.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The name servers.
    pub names: Names,
    /// The client's id, as in heartbeats.
    pub client_id: String,
}

/// The name servers that a client knows: it asks one of them, and the next one from when that did not answer.
#[derive(Clone, Debug)]
pub struct Names {
    all: Vec<Arc<str>>,
    at: usize,
}

impl Names {
    /// Of `ip:port` each; the one asked first.
    pub fn new(all: Vec<Arc<str>>, first: usize) -> Names {
        let at = first % all.len().max(1);
        Names { all, at }
    }

    /// The one that is asked now.
    pub fn asked(&self) -> &Arc<str> {
        &self.all[self.at]
    }

    /// It did not answer.
    pub fn ask_next(&mut self) {
        self.at = (self.at + 1) % self.all.len();
    }

    /// Every one.
    pub fn all(&self) -> &[Arc<str>] {
        &self.all
    }
}

/// Routes are asked for again after this (`pollNameServerInterval`).
pub const ROUTE_INTERVAL: Duration = Duration::from_secs(30);
/// Heartbeats are sent this often (`heartbeatBrokerInterval`).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// A request without a reply is given up after this (`sendMsgTimeout`, `timeoutMillis`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
