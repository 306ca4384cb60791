//! Sends messages: `cargo run -p gantry-net --example produce -- 127.0.0.1:9876`

use std::error::Error;

use gantry_net::client::{Message, Producer, Target};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let producer = Producer::builder().group("shop").name_servers(name_servers).build().await?;

    let pizza = Message::new("Orders", "one pizza").with_tag("food").with_key("order-7");
    let receipt = producer.send(pizza).await?;
    println!("stored in queue {} at {}", receipt.queue.queue_id, receipt.queue_offset);

    // All or none, one behind the other.
    let drinks = ["water", "juice"].map(|drink| Message::new("Orders", drink).with_tag("drinks"));
    let receipts = producer.send_batch(drinks.into()).await?;
    println!("stored {} drinks", receipts.len());

    // Messages of one key go to one queue, and keep their order there.
    for step in ["ordered", "paid", "delivered"] {
        let message = Message::new("Steps", step).with_key("order-7");
        match producer.send_to(message, Target::Hash("order-7".into())).await {
            Ok(receipt) => println!("{step}: {}", receipt.message_id),
            // The brokers have had their tries: one more may store it twice.
            Err(error) if error.may_be_stored() => {
                return Err(format!("look before you send it again: {error}").into());
            }
            Err(error) => return Err(format!("not stored: {error}").into()),
        }
    }

    // Waits for what is under way.
    producer.stop().await;
    Ok(())
}
