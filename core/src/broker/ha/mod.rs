//! Replication: RocketMQ's classic protocol, the master pushing raw commit-log bytes, the slave reporting how far it has got.
//!
//! The slave's first report is where it wants to begin; every later one acknowledges. The broker hands over what happens on
//! connections of [`crate::io::Protocol::HaMaster`] and [`crate::io::Protocol::HaSlave`], and calls `settle` after the store's.
//!
//! Between Gantry peers the slave asks for its master's epochs before a byte is sent (see [`epochs`]), over the port of the
//! clients; other masters do not know them, and are followed as far as the end of the slave's log is found in theirs.
//!
//! Absent on purpose: any change of role (see `promote.rs` beside this folder).

pub mod compare;
pub(crate) mod cut;
pub(crate) mod epochs;
mod flow;
pub(crate) mod home;
pub(crate) mod known;
mod primary;
mod replica;

use core::time::Duration;

pub use primary::Primary;
pub use replica::Replica;
pub(crate) use replica::{Block, MasterLog, Verdict};

/// Limits of replication.
#[derive(Clone, Debug)]
pub struct HaConfig {
    /// `haTransferBatchSize`: bytes of a block.
    pub block_bytes_max: u64,
    /// `haSendHeartbeatInterval`: silence after which a report or an empty block is sent.
    pub heartbeat_interval: Duration,
    /// `haHousekeepingInterval`: silence after which a connection is given up.
    pub housekeeping_interval: Duration,
    /// How long a slave waits before it dials again.
    pub reconnect_interval: Duration,
    /// `haMaxGapNotInSync` (`haSlaveFallbehindMax` in 4.9): bytes by which a slave may be behind and still count.
    pub gap_bytes_max: u64,
    /// `inSyncReplicas`, without the master that RocketMQ counts too: how many slaves must hold a message before a
    /// SYNC_MASTER acknowledges it. One when nothing is set; RocketMQ's default is none.
    pub replicas_min: usize,
    /// A slave that joins, or has fallen behind, counts again once it has acknowledged within this time what the log held at
    /// its beginning: it keeps up.
    pub catch_up_max: Duration,
    /// `haMaxTimeSlaveNotCatchup`: how long a master waits at its start for slaves that may hold what it has lost.
    pub tail_wait: Duration,
}

impl Default for HaConfig {
    fn default() -> HaConfig {
        HaConfig {
            block_bytes_max: 32 * 1024,
            heartbeat_interval: Duration::from_secs(5),
            housekeeping_interval: Duration::from_secs(20),
            reconnect_interval: Duration::from_secs(5),
            gap_bytes_max: 256 << 20,
            replicas_min: 1,
            catch_up_max: Duration::from_secs(1),
            tail_wait: Duration::from_secs(60),
        }
    }
}

/// The top byte of this module's fetch ids.
const ID_SPACE: u64 = 3 << 56;
