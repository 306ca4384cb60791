//! What producers and consumers tell of messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_net::client::{Message, Producer};

use crate::cluster::{Cluster, SOON, number, send, take};
use crate::{Outcome, ensure};

pub(crate) async fn what_is_sent_and_consumed_is_traced(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group, traces) = (cluster.name("traced"), cluster.name("traced"), cluster.name("traces"));
    cluster.send(&topic, [0]).await?;
    cluster.send(&traces, [0]).await?;
    let builder = Producer::builder().group(&group).name_servers(&cluster.namesrv);
    let producer = builder.trace(Some(&traces)).build().await?;
    let mut consumer = cluster.consumer(&group, &topic).trace(Some(&traces)).build().await?;
    take(&mut consumer, [0]).await?;
    let message = Message::new(&topic, "1").with_tag("t").with_key("k");
    let receipt = send(&producer, message).await?;
    let message = tokio::time::timeout(SOON, consumer.recv()).await??;
    ensure!(number(&message) == 1, "{message:?}");
    message.ack();
    producer.stop().await;
    consumer.stop().await;
    // A member of a traced group that reads the traces leaves none of them.
    let mut reader = cluster.consumer(&traces, &traces).trace(Some(&traces)).build().await?;
    let id = &receipt.message_id;
    let (mut about, mut all) = (Vec::new(), 0);
    let end = Instant::now() + SOON;
    while about.len() < 3 {
        ensure!(Instant::now() < end, "only {about:?}");
        let Ok(message) = tokio::time::timeout(Duration::from_secs(1), reader.recv()).await else { continue };
        let message = message?;
        all += 1;
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let of_message = text.split('\u{2}').filter(|note| note.split('\u{1}').any(|field| field == id));
        about.extend(of_message.map(|note| note.split('\u{1}').map(str::to_owned).collect::<Vec<_>>()));
        if text.contains(id.as_str()) {
            ensure!(
                message.keys().any(|key| key == id) && message.keys().any(|key| key == "k"),
                "{message:?}"
            );
        }
        message.ack();
    }
    let note = |kind: &str| about.iter().find(|note| note[0] == kind).cloned().unwrap_or_default();
    let (sent, before, after) = (note("Pub"), note("SubBefore"), note("SubAfter"));
    ensure!(sent.len() == 14 && sent[3..8] == [&group, &topic, id, "t", "k"], "{sent:?}");
    ensure!(sent[12] == receipt.offset_id && sent[13] == "true", "{sent:?}");
    ensure!(before.len() == 8 && before[3] == group && before[6..8] == ["0", "k"], "{before:?}");
    ensure!(
        after.len() == 9 && after[1] == before[4] && after[4] == "true" && after[8] == group,
        "{after:?}"
    );
    // Longer than a note waits.
    tokio::time::sleep(Duration::from_secs(6)).await;
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), reader.recv()).await {
        message?.ack();
        all += 1;
    }
    ensure!(all <= 4, "{all} messages of traces: they trace each other");
    reader.stop().await;
    Ok(())
}
