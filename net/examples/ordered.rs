//! Consumes each queue in order, until it is interrupted: `cargo run -p gantry-net --example ordered -- 127.0.0.1:9876`

use std::error::Error;
use std::pin::pin;

use gantry_net::client::{ConsumeError, Consumer, Start};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;
    let builder = Consumer::builder().group("tracker").name_servers(name_servers).orderly();
    let mut steps = builder.subscribe("Steps", "*").start(Start::First).build().await?;
    let mut interruption = pin!(tokio::signal::ctrl_c());
    loop {
        let step = tokio::select! {
            step = steps.recv() => step,
            _ = &mut interruption => break,
        };
        match step {
            Ok(step) => {
                let order = step.keys().next().unwrap_or("?").to_owned();
                println!("{order}: {}", String::from_utf8_lossy(&step.body));
                // Its queue waits until this; `retry_later` would have it come again, and the queue wait for that.
                step.ack();
            }
            Err(ConsumeError::Stopped) => break,
            Err(error) => eprintln!("somebody must act: {error}"),
        }
    }
    steps.stop().await;
    Ok(())
}
