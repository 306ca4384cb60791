//! The shell around Gantry's machines: sockets, clocks, settings and the `gantry` program.
//!
//! One thread hosts one machine ([`driver::run`]): it owns the machine's sockets, and it alone calls
//! [`gantry_core::node::Node::turn`]. Readers only decode and enqueue; the turn task takes everything that has arrived in
//! one turn and writes each connection's replies at once. More cores are used by more machines, each on its own thread.
//!
//! Absent on purpose: protocol decisions (they are the machines'), channels between reader and machine, and a
//! multi-threaded runtime.

mod accept;
mod alarm;
mod bell;
pub mod client;
pub mod config;
mod conn;
mod counters;
mod dial;
pub mod driver;
mod shell;
mod socket;
pub mod system;

pub use bell::Mailbox;
pub use counters::{Counters, Reading};
