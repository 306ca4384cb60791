//! The disks behind [`gantry_core::io::Disk`].
//!
//! [`MappedDisk`] is for production: files of the operating system. [`MemoryDisk`] is for the simulator: deterministic, with everything that can go wrong with a disk. One conformance
//! suite (`tests/conformance.rs`) runs on every disk here, so that what the simulator shows holds in production.

#[cfg(unix)]
#[allow(unsafe_code)] // the one file that may: it says why
mod map;
#[cfg(unix)]
mod mapped;
mod memory;
mod path;

#[cfg(unix)]
pub use mapped::{LogWrite, MappedDisk, MappedOptions, OpenError};
pub use memory::{CAPACITY_DEFAULT_BYTES, MemoryDisk, PendingKind, PendingOperation, Ticket};

// Switches `crc32fast/std` on for the whole program (see Cargo.toml); nothing here computes a checksum.
use crc32fast as _;
