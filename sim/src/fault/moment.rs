//! Moments of the protocol at which a death means most.
//!
//! A time in nanoseconds finds them by luck only: between an append and its sync lie a few milliseconds of ten minutes.

use gantry_core::broker::DELIVERY;
use gantry_core::wire::Packet;
use serde::{Deserialize, Serialize};

use crate::process::Seen;
use crate::workload::requests::code;

/// Where a broker keeps its epochs.
const EPOCH_FILE: &str = "epochFileCheckpoint";

/// A moment in the life of a broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// What was appended waits for its sync.
    Appended,
    /// The sync has come, and what waited for it is answered.
    Synced,
    /// What was appended goes to a slave.
    Replicating,
    /// A slave has taken a part of its master's log.
    Replicated,
    /// A slave has said how far it is, and what waited for it is answered.
    Confirmed,
    /// A consumer's offset has come.
    Committed,
    /// Delayed messages are due, and their copies are written.
    Delivering,
    /// Recovery, or what follows it: one of the first turns of a life.
    Recovering,
    /// Requests come that it serves: the first ones of a life, for which a seed slows its disk.
    Begun,
    /// A slave is asked to be the master, or writes down that its epoch begins.
    Promoting,
}

impl Moment {
    /// Those that come to every broker, where a scenario names none. A promotion comes to one, and once; deliveries come where
    /// somebody sends with a delay; what a broker begins with matters where its disk is slow.
    pub const ALL: &[Moment] = &[
        Moment::Appended,
        Moment::Synced,
        Moment::Replicating,
        Moment::Replicated,
        Moment::Confirmed,
        Moment::Committed,
        Moment::Recovering,
    ];

    /// Those that a scenario names, or the usual ones.
    pub fn or_usual(named: &[Moment]) -> Vec<Moment> {
        if named.is_empty() { Moment::ALL.to_vec() } else { named.to_vec() }
    }

    /// Whether it is one of the life that begins when the host comes back from a death, which comes first then.
    pub fn is_of_next_life(self) -> bool {
        match self {
            Moment::Recovering | Moment::Begun => true,
            Moment::Appended
            | Moment::Synced
            | Moment::Replicating
            | Moment::Replicated
            | Moment::Confirmed
            | Moment::Committed
            | Moment::Delivering
            | Moment::Promoting => false,
        }
    }

    /// Whether a turn has it, by what entered and left in it.
    pub fn is_in(self, turn: &[Seen]) -> bool {
        turn.iter().any(|seen| match (self, seen) {
            (Moment::Appended, Seen::Sync { path, .. }) => path.starts_with("commitlog/"),
            (Moment::Synced, Seen::Synced { result, .. }) => result.is_ok(),
            (Moment::Replicating, Seen::Send { packet: Packet::HaBlock { body, .. }, .. })
            | (Moment::Replicated, Seen::Received { packet: Packet::HaBlock { body, .. }, .. }) => {
                !body.is_empty()
            }
            (Moment::Confirmed, Seen::Received { packet: Packet::HaReport { .. }, .. }) => true,
            (Moment::Committed, Seen::Received { packet: Packet::Command(command), .. }) => {
                !command.is_response() && command.code == code::UPDATE_CONSUMER_OFFSET
            }
            (Moment::Delivering, Seen::Wake { why }) => *why == DELIVERY,
            // Every turn counts.
            (Moment::Recovering, Seen::Settled) => true,
            (Moment::Begun, Seen::Received { packet: Packet::Command(command), .. }) => {
                !command.is_response()
            }
            (Moment::Promoting, Seen::Received { packet: Packet::Command(command), .. }) => {
                !command.is_response() && command.code == code::UPDATE_BROKER_CONFIG
            }
            (Moment::Promoting, Seen::Replace { path, .. }) => path.ends_with(EPOCH_FILE),
            (
                Moment::Appended
                | Moment::Synced
                | Moment::Replicating
                | Moment::Replicated
                | Moment::Confirmed
                | Moment::Committed
                | Moment::Delivering
                | Moment::Recovering
                | Moment::Begun
                | Moment::Promoting,
                _,
            ) => false,
        })
    }

    /// In words, after the name of its host.
    pub fn words(self) -> &'static str {
        match self {
            Moment::Appended => "as it waits for the sync of what it appended",
            Moment::Synced => "as a sync has come",
            Moment::Replicating => "as it sends its log to a slave",
            Moment::Replicated => "as it takes its master's log",
            Moment::Confirmed => "as a slave says how far it is",
            Moment::Committed => "as a consumer commits an offset",
            Moment::Delivering => "as delayed messages are due",
            Moment::Recovering => "as it recovers from another death",
            Moment::Begun => "as it serves for the first time after another death",
            Moment::Promoting => "as it is made the master",
        }
    }
}
