#![no_std]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod broker;
pub mod client;
pub mod io;
pub mod liveness;
pub mod namesrv;
pub mod node;
pub mod probe;
pub mod rng;
pub mod settings;
pub mod time;
pub mod wire;
