//! The disks behind [`gantry_core::io::Disk`].
//!
//! [`MemoryDisk`] is for the simulator: deterministic, with everything that can go wrong with a disk. One conformance
//! suite (`tests/conformance.rs`) runs on every disk here, so that what the simulator shows holds in production.

mod memory;
mod path;

pub use memory::{MemoryDisk, PendingKind, PendingOperation, Ticket};

// Switches `crc32fast/std` on for the whole program (see Cargo.toml); nothing here computes a checksum.
use crc32fast as _;
