//! The codec: RocketMQ's bytes to typed packets and back. No machine state, no time.
//!
//! [`Link`] is the small machine of one connection. What it hands over is a [`Packet`]; typed headers are in
//! [`request`], bodies in [`body`], stored messages in [`message`].

mod binary;
pub mod body;
pub mod code;
pub mod command;
mod ext;
mod frame;
mod json;
mod json_header;
mod link;
pub mod message;
pub mod request;

use bytes::Bytes;

pub use command::{Command, Language, SerializeType, VERSION};
pub use ext::{Ext, RawExt};
pub use link::{Link, LinkError};

/// What travels on a connection.
#[derive(Clone, PartialEq, Debug)]
pub enum Packet {
    /// A remoting request or response ([`crate::io::Protocol::Remoting`]).
    Command(Command),
    /// A slave's report: how far its log reaches, in bytes (replication, slave to master).
    HaReport {
        /// End of the slave's commit log.
        offset: u64,
    },
    /// A piece of the master's log (replication, master to slave); an empty body is a heartbeat.
    HaBlock {
        /// Where in the commit log `body` begins.
        offset: u64,
        /// Raw commit-log bytes.
        body: Bytes,
    },
}

impl Packet {
    /// What a packet counts for against the credit of its connection, in bytes. Sender and shell use this same figure.
    pub fn cost(&self) -> u64 {
        const HEADER_BYTES: u64 = 128;
        match self {
            Packet::Command(command) => HEADER_BYTES + command.body.len() as u64,
            Packet::HaReport { .. } => 8,
            Packet::HaBlock { body, .. } => 12 + body.len() as u64,
        }
    }
}

impl From<Command> for Packet {
    fn from(command: Command) -> Packet {
        Packet::Command(command)
    }
}
