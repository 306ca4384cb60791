//! Consumes as a member of a group, until it is interrupted: `cargo run -p gantry-net --example consume -- 127.0.0.1:9876`

use std::error::Error;
use std::pin::pin;

use futures_util::StreamExt;
use gantry_net::client::{Consumer, Received, Start};
use tokio::task::JoinSet;

async fn cook(order: &Received) -> Result<(), String> {
    println!("{} {}", order.id(), String::from_utf8_lossy(&order.body));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let builder = Consumer::builder().group("kitchen").name_servers(name_servers);
    let mut orders = builder.subscribe("Orders", "food || drinks").start(Start::First).build().await?;
    let mut cooking = JoinSet::new();
    let mut interruption = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            order = orders.next() => match order {
                // Each in a task of its own: as many at once as `in_flight_max` says.
                Some(Ok(order)) => drop(cooking.spawn(async move {
                    match cook(&order).await {
                        Ok(()) => order.ack(),
                        // It comes again in 10 s. So it does when this task panics and drops it, only later.
                        Err(_) => order.retry_later(3),
                    }
                })),
                Some(Err(error)) => eprintln!("somebody must act: {error}"),
                None => break,
            },
            Some(_) = cooking.join_next() => {}
            _ = &mut interruption => break,
        }
    }
    while cooking.join_next().await.is_some() {}
    // The others of the group have the queues at once, and nothing that is acknowledged comes again.
    orders.stop().await;
    Ok(())
}
