//! Sending: what is stored, and where.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gantry_net::client::{
    Batching, Compression, Message, MessageError, Producer, Received, SendError, SendStatus, Target,
};

use crate::cluster::{Cluster, send, take};
use crate::{Fault, Outcome, ensure};

/// Incompressible, and the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 16) as u8
    };
    (0..bytes).map(next).collect()
}

/// The message at the place of a receipt.
async fn read(cluster: &Cluster, receipt: &gantry_net::client::Receipt) -> Result<Received, Fault> {
    let puller = cluster.puller(&cluster.name("readers")).await?;
    let pulled = puller.pull(&receipt.queue, receipt.queue_offset, "*", Duration::from_secs(2)).await?;
    puller.stop().await;
    pulled.messages.into_iter().next().ok_or_else(|| Fault::Failed(format!("nothing at {receipt:?}")))
}

pub(crate) async fn a_message_is_stored_as_it_was_sent(cluster: Arc<Cluster>) -> Outcome {
    let producer = cluster.producer().await?;
    let message = Message::new(cluster.name("plain"), "größer")
        .with_tag("tag")
        .with_key("one")
        .with_key("two")
        .with_property("p", "a value");
    let receipt = send(&producer, message).await?;
    ensure!(receipt.status == SendStatus::Ok, "{receipt:?}");
    let found = read(&cluster, &receipt).await?;
    ensure!(found.body == "größer", "{found:?}");
    ensure!(found.tag() == Some("tag") && found.property("p") == Some("a value"), "{found:?}");
    ensure!(found.keys().collect::<Vec<_>>() == ["one", "two"], "{found:?}");
    ensure!(
        found.id() == receipt.message_id && found.offset_id() == receipt.offset_id,
        "{found:?} {receipt:?}"
    );
    producer.stop().await;
    ensure!(
        producer.send(Message::new(cluster.name("plain"), "x")).await == Err(SendError::Stopped),
        "a stopped producer sends"
    );
    Ok(())
}

pub(crate) async fn many_sends_at_once_have_a_place_each(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("many");
    let builder = Producer::builder().group(cluster.name("producers")).name_servers(&cluster.namesrv);
    for producer in [builder.clone().build().await?, builder.batching(Batching::default()).build().await?] {
        send(&producer, Message::new(&topic, "first")).await?;
        let sends: Vec<_> = (0..200)
            .map(|number| {
                let (producer, topic) = (producer.clone(), topic.clone());
                tokio::spawn(async move { send(&producer, Message::new(topic, number.to_string())).await })
            })
            .collect();
        let mut places = BTreeSet::new();
        for send in sends {
            let receipt = send.await??;
            places.insert((receipt.queue, receipt.queue_offset));
        }
        ensure!(places.len() == 200, "only {} places", places.len());
        producer.stop().await;
    }
    Ok(())
}

pub(crate) async fn oneway_sends_arrive(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("oneway");
    let producer = cluster.producer().await?;
    send(&producer, Message::new(&topic, "0")).await?;
    for number in 1..20 {
        producer.send_oneway(Message::new(&topic, number.to_string())).await?;
    }
    let mut consumer = cluster.consumer(&cluster.name("oneway"), &topic).build().await?;
    take(&mut consumer, 0..20).await?;
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn a_batch_lies_in_one_queue(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("batch");
    let producer = cluster.producer().await?;
    send(&producer, Message::new(&topic, "first")).await?;
    let messages = (0..10).map(|number| Message::new(&topic, number.to_string()).with_tag("t")).collect();
    let receipts = producer.send_batch(messages).await?;
    for (number, receipt) in receipts.iter().enumerate() {
        ensure!(receipt.queue == receipts[0].queue, "{receipts:?}");
        ensure!(receipt.queue_offset == receipts[0].queue_offset + number as i64, "{receipts:?}");
        let found = read(&cluster, receipt).await?;
        ensure!(found.body == number.to_string() && found.tag() == Some("t"), "{found:?}");
        ensure!(found.id() == receipt.message_id, "{found:?} {receipt:?}");
    }
    let mixed = vec![Message::new(&topic, "a"), Message::new(cluster.name("plain"), "b")];
    let refused = producer.send_batch(mixed).await;
    ensure!(matches!(refused, Err(SendError::Message(MessageError::Batch(_)))), "{refused:?}");
    producer.stop().await;
    Ok(())
}

pub(crate) async fn bodies_up_to_the_limit_pass(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("bodies");
    let limit = 4 * 1024 * 1024;
    let builder = Producer::builder().group(cluster.name("producers")).name_servers(&cluster.namesrv);
    let producer = builder.no_compression().timeout(Duration::from_secs(20)).build().await?;
    for bytes in [1, 4095, 1024 * 1024, limit - 1024] {
        let receipt = send(&producer, Message::new(&topic, noise(bytes))).await?;
        let found = read(&cluster, &receipt).await?;
        ensure!(found.body == noise(bytes), "{} bytes come back as {}", bytes, found.body.len());
    }
    let refused = producer.send(Message::new(&topic, noise(limit + 1))).await;
    ensure!(matches!(refused, Err(SendError::Message(MessageError::Body(_)))), "{refused:?}");
    producer.stop().await;
    Ok(())
}

pub(crate) async fn compressed_bodies_come_back_whole(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("compressed");
    let text = "a line of text that comes again and again\n".repeat(3000);
    for kind in [Compression::Zlib, Compression::Lz4, Compression::Zstd] {
        let builder = Producer::builder().group(cluster.name("producers")).name_servers(&cluster.namesrv);
        let producer = builder.compression(kind, 4096).build().await?;
        for body in [text.clone().into_bytes(), noise(10_000), b"short".to_vec()] {
            let receipt = send(&producer, Message::new(&topic, body.clone())).await?;
            let found = read(&cluster, &receipt).await?;
            ensure!(found.body == body, "{kind:?}: {} bytes for {}", found.body.len(), body.len());
            ensure!(found.sys_flag & 1 == 0, "{kind:?}: the flag stays");
        }
        producer.stop().await;
    }
    Ok(())
}

pub(crate) async fn a_key_keeps_to_its_queue(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("keyed");
    let producer = cluster.producer().await?;
    send(&producer, Message::new(&topic, "first")).await?;
    let mut last = None;
    for number in 0..10 {
        let message = Message::new(&topic, number.to_string());
        let receipt = producer.send_to(message, Target::Hash("order-7".into())).await?;
        if let Some((queue, offset)) = &last {
            ensure!(*queue == receipt.queue && *offset < receipt.queue_offset, "{last:?} {receipt:?}");
        }
        last = Some((receipt.queue, receipt.queue_offset));
    }
    producer.stop().await;
    Ok(())
}

/// What brokers that know nothing of it must not stumble over. Each message is sent once here; what a broker that knows of it does with
/// further attempts is tested where its process is killed.
pub(crate) async fn an_idempotent_producer_stores_each_message(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("once");
    let builder = Producer::builder().group(cluster.name("producers")).name_servers(&cluster.namesrv);
    let producer = builder.idempotent(true).build().await?;
    let single = send(&producer, Message::new(&topic, "single").with_tag("tag")).await?;
    let found = read(&cluster, &single).await?;
    ensure!(found.body == "single" && found.id() == single.message_id, "{found:?} {single:?}");
    ensure!(found.tag() == Some("tag"), "{found:?}");
    let batch = producer.send_batch((0..3).map(|n| Message::new(&topic, n.to_string())).collect()).await?;
    for (number, receipt) in batch.iter().enumerate() {
        let found = read(&cluster, receipt).await?;
        ensure!(
            found.body == number.to_string() && found.id() == receipt.message_id,
            "{found:?} {receipt:?}"
        );
    }
    producer.stop().await;
    Ok(())
}
