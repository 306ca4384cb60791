//! The broker: stores, delivers and replicates messages.

pub mod ha;
pub mod store;
