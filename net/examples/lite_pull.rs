//! Reads chosen queues by a stream: `cargo run -p gantry-net --example lite_pull -- 127.0.0.1:9876`

use std::collections::BTreeMap;
use std::error::Error;

use gantry_net::client::{Consumer, PullConsumer, Start};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let asker = PullConsumer::builder().group("books").name_servers(&name_servers).build().await?;
    let queues = asker.queues("Orders").await?;
    let mut ends = BTreeMap::new();
    for queue in &queues {
        // A group that has been here before goes on where it was.
        let begin = match asker.committed(queue).await? {
            Some(committed) => committed,
            None => asker.min_offset(queue).await?,
        };
        let end = asker.max_offset(queue).await?;
        if begin < end {
            ends.insert(queue.clone(), end);
        }
    }

    let builder = Consumer::builder().group("books").name_servers(&name_servers);
    let builder = builder.subscribe("Orders", "*").assign(queues).start(Start::First);
    let mut consumer = builder.build().await?;
    while !ends.is_empty() {
        let order = consumer.recv().await?;
        println!("{} {}: {:?}", order.queue.queue_id, order.queue_offset, order.body);
        if ends.get(&order.queue).is_some_and(|end| order.queue_offset + 1 >= *end) {
            ends.remove(&order.queue);
        }
        order.ack();
    }
    // Commits what is acknowledged.
    consumer.stop().await;
    Ok(())
}
