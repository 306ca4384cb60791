//! Requests whose sender waits for a reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_net::client::{Message, MessageError, RequestError, SendError, Target};

use crate::cluster::{Cluster, SOON, send};
use crate::{Fault, Outcome, ensure};

pub(crate) async fn a_request_is_answered(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("requests"), cluster.name("requests"));
    let (asker, answerer) = (cluster.producer().await?, cluster.producer().await?);
    send(&answerer, Message::new(&topic, "0").with_tag("request")).await?;
    let mut consumer = cluster.consumer(&group, &topic).subscribe(&topic, "request").build().await?;
    let plain = tokio::time::timeout(SOON, consumer.recv()).await??;
    let refused = answerer.reply(&plain, Message::new("", "x")).await;
    ensure!(refused == Err(SendError::Message(MessageError::NoRequest)), "{refused:?}");
    plain.ack();
    let answers = tokio::spawn(async move {
        while let Ok(request) = consumer.recv().await {
            let reply = Message::new("", [&b"reply to "[..], &request.body].concat()).with_property("p", "v");
            let reply = reply.with_property("queue", request.queue.queue_id.to_string());
            if answerer.reply(&request, reply).await.is_err() {
                return;
            }
            request.ack();
        }
    });
    for number in 0..10 {
        let question = Message::new(&topic, number.to_string()).with_tag("request");
        let reply = asker.request(question, Duration::from_secs(30)).await?;
        ensure!(reply.body == format!("reply to {number}"), "{reply:?}");
        ensure!(reply.property("p") == Some("v"), "{reply:?}");
    }
    let target = asker.choose(&topic, |queues| queues.last()).await?;
    let Target::Queue(queue) = target.clone() else { return Err(Fault::Failed(format!("{target:?}"))) };
    let question = Message::new(&topic, "there").with_tag("request");
    let reply = asker.request_to(question, target, Duration::from_secs(30)).await?;
    ensure!(reply.property("queue") == Some(queue.queue_id.to_string().as_str()), "{reply:?} of {queue:?}");
    let long = "x".repeat(100_000);
    let question = Message::new(&topic, long.clone()).with_tag("request");
    let reply = asker.request(question, Duration::from_secs(30)).await?;
    ensure!(reply.body == format!("reply to {long}"), "{} bytes come back", reply.body.len());
    let begin = Instant::now();
    let limit = Duration::from_millis(1_500);
    let unheard = asker.request(Message::new(&topic, "x").with_tag("nobody"), limit).await;
    ensure!(unheard == Err(RequestError::NoReply(limit)), "{unheard:?}");
    ensure!(begin.elapsed() >= limit, "it gave up after {:?}", begin.elapsed());
    answers.abort();
    asker.stop().await;
    Ok(())
}
