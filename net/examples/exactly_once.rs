//! Consumes with effects that happen once:
//! `cargo run -p gantry-net --features sqlite --example exactly_once -- 127.0.0.1:9876 effects.db`
//!
//! Kill it and start it again as often as you like: each message is in the table once.

use std::error::Error;
use std::pin::pin;

use gantry_net::client::once::{KEEP, OnceTransaction, prepare_sqlite};
use gantry_net::client::{ConsumeError, Consumer, Received, Start};
use rusqlite::{Connection, TransactionBehavior};

/// The effect and the note that it happened, both or neither; whether it was the first time.
fn book(database: &mut Connection, order: &Received) -> Result<bool, Box<dyn Error>> {
    let mut transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_first = transaction.is_first("accounting", order)?;
    if is_first {
        transaction.execute("INSERT INTO sold VALUES (?1)", [&order.body[..]])?;
    }
    transaction.commit()?;
    Ok(is_first)
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let path = std::env::args().nth(2).ok_or("give a database's path, as effects.db")?;
    let mut database = Connection::open(path)?;
    prepare_sqlite(&database)?;
    database.execute("CREATE TABLE IF NOT EXISTS sold (what TEXT)", ())?;
    let mut transaction = database.transaction()?;
    transaction.prune(KEEP)?;
    transaction.commit()?;

    let builder = Consumer::builder().group("accounting").name_servers(name_servers);
    let mut orders = builder.subscribe("Orders", "*").start(Start::First).build().await?;
    let mut interruption = pin!(tokio::signal::ctrl_c());
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = &mut interruption => break,
        };
        match order {
            Ok(order) => match book(&mut database, &order) {
                Ok(is_first) => {
                    println!("{} {}", order.id(), if is_first { "is booked" } else { "was booked before" });
                    // Only now: who dies before gets it again, and finds that it is booked.
                    order.ack();
                }
                Err(error) => {
                    eprintln!("not booked: {error}");
                    order.retry_later(0);
                }
            },
            Err(ConsumeError::Stopped) => break,
            Err(error) => eprintln!("somebody must act: {error}"),
        }
    }
    orders.stop().await;
    Ok(())
}
