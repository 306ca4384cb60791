//! Reads a topic from its beginning to its end: `cargo run -p gantry-net --example pull -- 127.0.0.1:9876`

use std::error::Error;
use std::time::Duration;

use gantry_net::client::PullConsumer;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let consumer = PullConsumer::builder().group("audit").name_servers(name_servers).build().await?;
    for queue in consumer.queues("Orders").await? {
        let (mut next, end) = (consumer.min_offset(&queue).await?, consumer.max_offset(&queue).await?);
        while next < end {
            let pulled = consumer.pull(&queue, next, "*", Duration::ZERO).await?;
            for message in pulled.messages {
                println!("{} {}: {:?}", queue.queue_id, message.queue_offset, message.body);
            }
            next = pulled.next_offset;
        }
        // Only for who wants to go on here another time: nobody else keeps it.
        consumer.commit(&queue, next).await?;
    }
    consumer.stop().await;
    Ok(())
}
