//! The broker: stores, delivers and replicates messages.

pub mod store;
