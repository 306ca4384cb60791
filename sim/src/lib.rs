//! Gantry's machines in a seeded world.
//!
//! A [`world::World`] runs the machines of production, unchanged, over a simulated network, clock and disk, and lets a
//! list of faults happen to them. Workloads talk RocketMQ's protocol to them and report what they see; checkers compare
//! that with what the project promises. Commit and seed name a run, byte for byte.
//!
//! | | |
//! |---|---|
//! | [`engine`] | the event heap and virtual time |
//! | [`clock`] | a host's view of it |
//! | [`process`] | a running machine, tapped |
//! | [`world`] | hosts, network, deaths |
//! | [`fleet`] | worlds of applications over the client machine |
//! | [`fault`] | what goes wrong: a list drawn before the run |
//! | [`history`] | what workloads report |
//! | [`workload`] | clients: raw protocol drivers |
//! | [`probe`] | what faults must have met to be worth drawing |
//! | [`retention`] | when old messages go |
//! | [`commit_log`] | a log as it lies on a disk |
//! | [`shrink`] | a failing world made small |
//! | [`why`] | what led to a violation |
//! | [`check`] | what is promised, compared with what happened |

pub mod check;
pub mod clock;
pub mod cluster;
pub mod commit_log;
pub mod digest;
pub mod engine;
pub mod fault;
pub mod fleet;
pub mod history;
pub mod log;
pub mod plan;
pub mod probe;
pub mod process;
pub mod retention;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod why;
pub mod workload;
pub mod world;
