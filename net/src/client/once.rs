//! Effects that happen once, of messages that may come twice.
//!
//! A broker delivers each message at least once: a consumer that dies after its work and before its acknowledgement gets the
//! message again. If the work is a change of a database, the usual advice is a table of processed messages, written in the same transaction
//! as the change: then either both are there or neither. That is one line here:
//!
#![cfg_attr(
    feature = "sqlite",
    doc = concat!("```no_run\n", include_str!("../../examples/exactly_once.rs"), "```")
)]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = concat!("```ignore\n", include_str!("../../examples/exactly_once.rs"), "```")
)]
//!
//! The same with a key and without a broker, to see what it does:
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gantry_net::client::once::{OnceTransaction, prepare_sqlite};
//!
//! let mut connection = rusqlite::Connection::open_in_memory()?;
//! prepare_sqlite(&connection)?;
//! for is_first in [true, false] {
//!     let mut transaction = connection.transaction()?;
//!     assert_eq!(transaction.is_first("kitchen", "order-7")?, is_first);
//!     transaction.commit()?;
//! }
//! # Ok(())
//! # }
//! # main().expect("runs");
//! # }
//! ```
//!
//! **The key** is the message's id ([`Received::id`]: its sender's UNIQ_KEY, which stays the same when it is delivered again or comes
//! back for another try), or one of the application's own where two messages may mean one thing (an order's number). Groups do
//! not see each other's.
//!
//! **Old keys** are to be pruned now and then ([`OnceTransaction::prune`]), but kept longer than a message may come again: a group's
//! sixteen tries take almost five hours, and a consumer that was away reads what its brokers still have, three days unless
//! `fileReservedTime` says otherwise. [`KEEP`] is longer than that. Who sets a group's offsets back reads older messages anew.
//!
//! Absent on purpose: effects outside of the transaction (a mail that is sent is sent), and a table for every database: the
//! trait has two methods.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use gantry_core::client::{Received, property};

/// How long keys are to be kept unless brokers keep messages longer than RocketMQ's three days.
pub const KEEP: Duration = Duration::from_secs(4 * 24 * 3600);

/// Keys are kept at least so long: all tries of a message that fails take 4 h 46 min.
pub const KEEP_MIN: Duration = Duration::from_secs(5 * 3600);

/// What a message is known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnceKey<'a>(Cow<'a, str>);

impl OnceKey<'_> {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for OnceKey<'a> {
    fn from(key: &'a str) -> Self {
        OnceKey(Cow::Borrowed(key))
    }
}

impl<'a> From<&'a Received> for OnceKey<'a> {
    /// Its sender's id; without one, the id of the place where it was first.
    fn from(message: &'a Received) -> Self {
        let names = [property::UNIQ_KEY, property::ORIGIN_MESSAGE_ID];
        match names.into_iter().find_map(|name| message.property(name)) {
            Some(id) => OnceKey(Cow::Borrowed(id)),
            None => OnceKey(Cow::Owned(message.offset_id())),
        }
    }
}

impl<'a> From<&'a super::Incoming> for OnceKey<'a> {
    fn from(message: &'a super::Incoming) -> Self {
        OnceKey::from(&**message)
    }
}

/// A transaction of the application's own, which remembers the messages whose effects it holds.
pub trait OnceTransaction {
    /// Why it cannot.
    type Error: Error;

    /// Records that a group has processed the message of a key; whether that is the first time. Undone if the transaction is
    /// rolled back.
    ///
    /// # Errors
    /// Nothing is recorded: roll back, and let the message come again.
    fn record(&mut self, group: &str, key: &str) -> Result<bool, Self::Error>;

    /// Removes what was recorded longer ago than `keep`; how many. See [`KEEP`].
    ///
    /// # Errors
    /// Nothing is removed.
    fn prune(&mut self, keep: Duration) -> Result<usize, Self::Error>;

    /// Whether a group processes this message, or the message of this key, for the first time. If so, the effect belongs into
    /// the same transaction; if not, all is done, and the message is to be acknowledged.
    ///
    /// # Errors
    /// See [`OnceTransaction::record`].
    fn is_first<'a>(&mut self, group: &str, key: impl Into<OnceKey<'a>>) -> Result<bool, Self::Error> {
        self.record(group, key.into().as_str())
    }
}

#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOnceError, prepare_sqlite};

#[cfg(feature = "sqlite")]
mod sqlite {
    //! The table in SQLite: `gantry_processed`, a row a message.

    use std::fmt;
    use std::time::Duration;

    use rusqlite::{Connection, ErrorCode, Transaction, params};

    use super::{KEEP_MIN, OnceTransaction};

    /// Why a message was not recorded in SQLite.
    #[derive(Debug)]
    pub enum SqliteOnceError {
        /// Another connection writes: roll back and let the message come again, or wait longer (`Connection::busy_timeout`). Begin the
        /// transaction as `TransactionBehavior::Immediate`, so that it waits at its beginning.
        Busy,
        /// There is no table: call [`prepare_sqlite`] when the application starts.
        NotPrepared,
        /// A key without a character tells no messages apart.
        EmptyKey,
        /// Keys would be removed while their messages may still come: keep them at least so long.
        KeepsTooShort {
            /// See [`KEEP_MIN`].
            least: Duration,
        },
        /// SQLite's own: roll back.
        Database(rusqlite::Error),
    }

    impl fmt::Display for SqliteOnceError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                SqliteOnceError::Busy => f.write_str(
                    "another connection writes the database: roll back and process the message again",
                ),
                SqliteOnceError::NotPrepared => {
                    f.write_str("there is no table gantry_processed: call prepare_sqlite first")
                }
                SqliteOnceError::EmptyKey => f.write_str("the key is empty: it tells no messages apart"),
                SqliteOnceError::KeepsTooShort { least } => write!(
                    f,
                    "messages may still come again: keep keys for at least {} hours",
                    least.as_secs() / 3600
                ),
                SqliteOnceError::Database(error) => write!(f, "roll back: {error}"),
            }
        }
    }

    impl std::error::Error for SqliteOnceError {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            match self {
                SqliteOnceError::Database(error) => Some(error),
                SqliteOnceError::Busy
                | SqliteOnceError::NotPrepared
                | SqliteOnceError::EmptyKey
                | SqliteOnceError::KeepsTooShort { .. } => None,
            }
        }
    }

    impl From<rusqlite::Error> for SqliteOnceError {
        fn from(error: rusqlite::Error) -> Self {
            match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteOnceError::Busy,
                _ if error.to_string().contains("no such table: gantry_processed") => {
                    SqliteOnceError::NotPrepared
                }
                _ => SqliteOnceError::Database(error),
            }
        }
    }

    /// Makes the table if it is not there.
    ///
    /// # Errors
    /// [`SqliteOnceError`].
    pub fn prepare_sqlite(connection: &Connection) -> Result<(), SqliteOnceError> {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS gantry_processed (
                 consumer_group TEXT NOT NULL,
                 message_key TEXT NOT NULL,
                 processed_at INTEGER NOT NULL, -- seconds since 1970
                 PRIMARY KEY (consumer_group, message_key)
             ) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS gantry_processed_by_age ON gantry_processed (processed_at);",
        )?;
        Ok(())
    }

    impl OnceTransaction for Transaction<'_> {
        type Error = SqliteOnceError;

        fn record(&mut self, group: &str, key: &str) -> Result<bool, SqliteOnceError> {
            if key.is_empty() {
                return Err(SqliteOnceError::EmptyKey);
            }
            let mut insert = self.prepare_cached(
                "INSERT INTO gantry_processed VALUES (?1, ?2, unixepoch()) ON CONFLICT DO NOTHING",
            )?;
            Ok(insert.execute(params![group, key])? == 1)
        }

        fn prune(&mut self, keep: Duration) -> Result<usize, SqliteOnceError> {
            if keep < KEEP_MIN {
                return Err(SqliteOnceError::KeepsTooShort { least: KEEP_MIN });
            }
            let secs = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
            let mut delete =
                self.prepare_cached("DELETE FROM gantry_processed WHERE processed_at < unixepoch() - ?1")?;
            Ok(delete.execute(params![secs])?)
        }
    }
}
