//! Asks and is answered: `cargo run -p gantry-net --example request_reply -- 127.0.0.1:9876`

use std::error::Error;
use std::time::Duration;

use gantry_net::client::{Consumer, Message, Producer, RequestError, Start};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name_servers = std::env::args().nth(1).ok_or("give a name server's address, as 127.0.0.1:9876")?;

    // Who answers, as a rule in another process.
    let answerer = Producer::builder().group("prices").name_servers(&name_servers).build().await?;
    let builder = Consumer::builder().group("prices").name_servers(&name_servers);
    let mut questions = builder.subscribe("Prices", "*").start(Start::First).build().await?;
    let answers = tokio::spawn(async move {
        while let Ok(question) = questions.recv().await {
            let price = if question.body == "pizza" { "9" } else { "unknown" };
            // The topic of a reply does not matter: it goes to who asks.
            if let Err(error) = answerer.reply(&question, Message::new("", price)).await {
                eprintln!("not answered: {error}");
            }
            question.ack();
        }
    });

    let asker = Producer::builder().group("guests").name_servers(&name_servers).build().await?;
    match asker.request(Message::new("Prices", "pizza"), Duration::from_secs(30)).await {
        Ok(reply) => println!("a pizza costs {}", String::from_utf8_lossy(&reply.body)),
        Err(RequestError::NoReply(time)) => return Err(format!("nobody answers for {time:?}").into()),
        Err(error) => return Err(error.into()),
    }
    asker.stop().await;
    answers.abort();
    Ok(())
}
