//! What a service has done, counted for whoever measures it.
//!
//! The thread of the service is the only writer, so counting is a plain addition; any thread may look.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n as u64), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts since the start of a service.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) turns: Count,
    pub(crate) packets_in: Count,
    pub(crate) packets_out: Count,
    pub(crate) reads: Count,
    pub(crate) writes: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
}

impl Counters {
    /// The counts as they stand.
    pub fn read(&self) -> Reading {
        Reading {
            turns: self.turns.get(),
            packets_in: self.packets_in.get(),
            packets_out: self.packets_out.get(),
            reads: self.reads.get(),
            writes: self.writes.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }
}

/// [`Counters`] at one moment. Its text is what `gantry` logs at SIGUSR1: `name=count` words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Turns of the machine.
    pub turns: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Writes that took bytes.
    pub writes: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { turns, packets_in, packets_out, reads, writes, bytes_in, bytes_out } = self;
        write!(
            f,
            "turns={turns} packets_in={packets_in} packets_out={packets_out} reads={reads} writes={writes} \
             bytes_in={bytes_in} bytes_out={bytes_out}"
        )
    }
}
