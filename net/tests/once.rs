//! Effects of consumed messages in a SQLite database, once each: with consumers that die between effect and commit, and between commit
//! and acknowledgement, against `gantry standalone`'s parts over loopback.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gantry_net::client::once::{KEEP, KEEP_MIN, OnceTransaction, SqliteOnceError, prepare_sqlite};
use gantry_net::client::{Consumer, Message, Producer, Start};
use program::{Gantry, free_broker_port, free_port, gantry, start};
use rusqlite::{Connection, TransactionBehavior};

const MESSAGES: usize = 60;
/// How many consumers die.
const ROUNDS: u32 = 12;
/// New messages that each sees before.
const EACH: u32 = 4;
/// Set in the processes that consume.
const CHILD: &str = "GANTRY_TEST_ONCE_CONSUMER";

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    prepare_sqlite(&connection).unwrap();
    connection.execute("CREATE TABLE IF NOT EXISTS effects (body TEXT NOT NULL)", ()).unwrap();
    connection
}

fn count(connection: &Connection, what: &str) -> usize {
    connection.query_row(&format!("SELECT {what} FROM effects"), (), |row| row.get(0)).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn standalone(home: &Path) -> (Gantry, String) {
    let (namesrv, broker) = (free_port(), free_broker_port());
    let mut command = gantry(["standalone", "--namesrv-port", &namesrv.to_string()]);
    command.args(["--broker-port", &broker.to_string(), "--data"]).arg(home).stderr(Stdio::null());
    (start(command, 2), format!("127.0.0.1:{namesrv}"))
}

/// A consumer process: the round says where it dies; the last one does not.
#[test]
fn consumer_process() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (names, rest) = task.split_once(' ').unwrap();
    let (round, path) = rest.split_once(' ').unwrap();
    let round: u32 = round.parse().unwrap();
    let mut connection = open(Path::new(path));
    block_on(async {
        let builder = Consumer::builder().group("kitchen").name_servers(names);
        let mut consumer = builder.subscribe("Orders", "*").start(Start::First).build().await.unwrap();
        let mut seen = 0;
        while count(&connection, "COUNT(DISTINCT body)") < MESSAGES {
            let order = consumer.recv().await.unwrap();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            let mut transaction = transaction.unwrap();
            let is_first = transaction.is_first("kitchen", &order).unwrap();
            if is_first {
                let body = String::from_utf8_lossy(&order.body);
                transaction.execute("INSERT INTO effects VALUES (?1)", [body]).unwrap();
                seen += 1;
            }
            let dies = seen == EACH && round < ROUNDS;
            if dies && round.is_multiple_of(2) {
                std::process::abort();
            }
            transaction.commit().unwrap();
            if dies {
                std::process::abort();
            }
            order.ack();
        }
    });
}

#[test]
fn effects_happen_once_whenever_consumers_die() {
    let home = tempfile::tempdir().unwrap();
    let (_cluster, names) = standalone(&home.path().join("data"));
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&names).idempotent(true);
        let producer = producer.timeout(Duration::from_secs(30)).build().await.unwrap();
        for n in 0..MESSAGES {
            let mut tries = 0;
            while let Err(error) = producer.send(Message::new("Orders", format!("{n}"))).await {
                tries += 1;
                assert!(tries < 100, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let path = home.path().join("effects.db");
    let connection = open(&path);
    for round in 0..=ROUNDS {
        let task = format!("{names} {round} {}", path.display());
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["consumer_process", "--exact"]).env(CHILD, task);
        let output = child.stdin(Stdio::null()).output().unwrap();
        let died = !output.status.success();
        assert_eq!(died, round < ROUNDS, "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(count(&connection, "COUNT(*)"), count(&connection, "COUNT(DISTINCT body)"), "{round}");
    }
    assert_eq!(count(&connection, "COUNT(*)"), MESSAGES);
}

#[test]
fn what_is_rolled_back_was_not_processed() {
    let mut connection = Connection::open_in_memory().unwrap();
    prepare_sqlite(&connection).unwrap();
    prepare_sqlite(&connection).unwrap();
    let mut transaction = connection.transaction().unwrap();
    assert!(transaction.is_first("kitchen", "order-7").unwrap());
    assert!(!transaction.is_first("kitchen", "order-7").unwrap());
    transaction.rollback().unwrap();
    let mut transaction = connection.transaction().unwrap();
    assert!(transaction.is_first("kitchen", "order-7").unwrap());
    assert!(transaction.is_first("bar", "order-7").unwrap(), "another group's");
    transaction.commit().unwrap();
    let mut transaction = connection.transaction().unwrap();
    assert!(!transaction.is_first("kitchen", "order-7").unwrap());
    assert!(matches!(transaction.is_first("kitchen", ""), Err(SqliteOnceError::EmptyKey)));
}

#[test]
fn old_keys_go_and_young_ones_stay() {
    let mut connection = Connection::open_in_memory().unwrap();
    prepare_sqlite(&connection).unwrap();
    let mut transaction = connection.transaction().unwrap();
    for key in ["old", "young"] {
        transaction.is_first("kitchen", key).unwrap();
    }
    let past = format!(
        "UPDATE gantry_processed SET processed_at = unixepoch() - {} WHERE message_key = 'old'",
        KEEP.as_secs() + 60
    );
    transaction.execute(&past, ()).unwrap();
    let short = transaction.prune(KEEP_MIN - Duration::from_secs(1));
    assert!(matches!(short, Err(SqliteOnceError::KeepsTooShort { least }) if least == KEEP_MIN));
    assert_eq!(transaction.prune(KEEP).unwrap(), 1);
    assert!(!transaction.is_first("kitchen", "young").unwrap());
    assert!(transaction.is_first("kitchen", "old").unwrap());
}

#[test]
fn errors_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("effects.db");
    let mut first = Connection::open(&path).unwrap();
    let missing = first.transaction().unwrap().is_first("kitchen", "order-7").unwrap_err();
    assert!(matches!(missing, SqliteOnceError::NotPrepared), "{missing}");
    prepare_sqlite(&first).unwrap();
    let mut second = Connection::open(&path).unwrap();
    second.busy_timeout(Duration::ZERO).unwrap();
    let mut holds = first.transaction().unwrap();
    assert!(holds.is_first("kitchen", "order-7").unwrap());
    let mut waits = second.transaction().unwrap();
    let busy = waits.is_first("kitchen", "order-7").unwrap_err();
    assert!(matches!(busy, SqliteOnceError::Busy), "{busy}");
}
