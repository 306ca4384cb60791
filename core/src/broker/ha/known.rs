//! Which slaves may hold what this master could lose.
//!
//! Only under synchronous replication and asynchronous flush can a master that lost power lack what it acknowledged, and then a
//! slave has it. So a Gantry slave names itself when it asks for its master's epochs, which it does before it takes a byte, and
//! is written down before it is answered. At the start after a crash the master looks for what they have (see [`super::home`]).
//!
//! ```text
//! config/gantrySlaves.json   {"slaves":[{"address":"HOST:PORT","haAddress":"HOST:PORT"}]}
//! ```
//!
//! Absent on purpose: slaves of other makes, which do not say who they are.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::broker::persist::ConfigFile;
use crate::io::{Disk, DiskError};
use crate::wire::body;

/// Slaves remembered; the oldest are forgotten.
const SLAVES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a slave is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownSlave {
    /// Its port of the clients.
    pub(crate) address: String,
    /// Its replication port.
    pub(crate) ha_address: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Table {
    slaves: Vec<KnownSlave>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct KnownSlaves {
    table: Table,
    pub(in crate::broker) file: ConfigFile,
}

impl KnownSlaves {
    pub(crate) fn new() -> KnownSlaves {
        KnownSlaves { table: Table::default(), file: ConfigFile::new("config/gantrySlaves.json") }
    }

    /// Reads the file. A damaged one is as good as none.
    pub(crate) fn load(&mut self, disk: &mut impl Disk) -> Result<(), DiskError> {
        match disk.read_small(self.file.path(), FILE_BYTES_MAX) {
            Ok(bytes) => {
                self.table = body::decode(&bytes).unwrap_or_else(|error| {
                    tracing::warn!(path = self.file.path(), %error, "not a list of slaves: passed over");
                    Table::default()
                });
                Ok(())
            }
            Err(DiskError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes one down, unless it is.
    pub(crate) fn note(&mut self, slave: KnownSlave) {
        if self.table.slaves.contains(&slave) {
            return;
        }
        self.table.slaves.push(slave);
        let surplus = self.table.slaves.len().saturating_sub(SLAVES_MAX);
        self.table.slaves.drain(..surplus);
        self.file.touch();
    }

    /// One that was waited for in vain is waited for no more.
    pub(crate) fn forget(&mut self, slaves: &[KnownSlave]) {
        let before = self.table.slaves.len();
        self.table.slaves.retain(|slave| !slaves.contains(slave));
        if self.table.slaves.len() < before {
            self.file.touch();
        }
    }

    pub(crate) fn all(&self) -> &[KnownSlave] {
        &self.table.slaves
    }

    /// What the file is to hold.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        body::encode(&self.table)
    }
}
