//! Sends a message if, and only if, a change of one's own came off: `cargo run -p gantry-net --example transaction -- 127.0.0.1:9876`
//!
//! Brokers that do not serve transactions say so before anything is done, and the example then does nothing.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_net::client::{Message, Producer, Received, Resolution, TransactionError};

/// In place of a database: what is in it says how a transaction ended, also after this process has died.
#[derive(Clone, Default)]
struct Shop(Arc<Mutex<BTreeSet<String>>>);

impl Shop {
    async fn has(&self, order: &str) -> Result<bool, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(order))
    }

    async fn insert(&self, order: &str) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(order.to_owned());
        Ok(())
    }
}

/// What brokers are told that have not heard of a transaction's end.
async fn check(shop: Shop, message: Received) -> Resolution {
    match shop.has(message.keys().next().unwrap_or_default()).await {
        Ok(true) => Resolution::Commit,
        // Nothing of it is there, and no insert takes as long as a broker waits before it asks.
        Ok(false) => Resolution::RollBack,
        Err(_) => Resolution::Unknown,
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let shop = Shop::default();
    let looked_up = shop.clone();
    let builder = Producer::builder().group("orders").name_servers(name_servers);
    let producer = builder.transactional(move |message| check(looked_up.clone(), message)).build().await?;

    // Stored, and seen by nobody yet.
    let message = Message::new("Orders", "one pizza").with_tag("food").with_key("order-8");
    match producer.begin(message).await {
        Ok(transaction) => match shop.insert("order-8").await {
            Ok(()) => {
                transaction.commit();
                println!("ordered");
            }
            Err(error) => {
                transaction.roll_back();
                return Err(error.into());
            }
        },
        // Nothing is stored and nothing to be undone. Another broker may serve them; sending an ordinary message after the insert
        // is the way without, for who can bear that a crash between the two loses it.
        Err(TransactionError::NotServed { broker, reason }) => {
            println!("{broker} does not serve transactions: {reason}");
        }
        // The broker asks `check` about one that may be stored.
        Err(error) => return Err(error.into()),
    }
    producer.stop().await;
    Ok(())
}
