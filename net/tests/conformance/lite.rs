//! What an application decides by itself, as with RocketMQ's lite pull: which queue, when, from where, and what is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_net::client::{Message, MessageQueue, SendError, SendOptions, Target};

use crate::cluster::{Cluster, SOON, number, send, take, take_for};
use crate::{Outcome, ensure};

/// A topic whose queues are in the routes, and those.
async fn queues_of(cluster: &Cluster, topic: &str) -> Result<Vec<MessageQueue>, crate::Fault> {
    cluster.send(topic, [0]).await?;
    let puller = cluster.puller(&cluster.name("readers")).await?;
    let queues = puller.queues(topic).await?;
    puller.stop().await;
    ensure!(queues.len() > 2, "{queues:?}");
    Ok(queues)
}

pub(crate) async fn a_send_has_options_of_its_own(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("options");
    let queues = queues_of(&cluster, &topic).await?;
    let producer = cluster.producer().await?;
    let to = |number: usize| Target::Queue(queues[number].clone());
    let message = |number: u32| Message::new(&topic, number.to_string());
    let options = SendOptions::to(to(1)).timeout(Duration::from_secs(20));
    let single = producer.send_with(message(1), options).await?;
    ensure!(single.queue == queues[1], "{single:?}");
    let batch = producer.send_batch_with(vec![message(2), message(3)], to(2)).await?;
    ensure!(batch.iter().all(|receipt| receipt.queue == queues[2]), "{batch:?}");
    producer.send_oneway_with(message(4), to(2)).await?;
    let chosen = producer.send_by(message(5), |queues| queues.last()).await?;
    ensure!(Some(&chosen.queue) == queues.last(), "{chosen:?}");
    let none = producer.send_by(message(6), |_| None).await;
    ensure!(matches!(none, Err(SendError::NoQueue(_))), "{none:?}");
    // The time of one send is not that of the others.
    let begin = Instant::now();
    let nowhere = MessageQueue::new(topic.as_str(), "nobody", 0);
    let hasty = SendOptions::to(Target::Queue(nowhere)).timeout(Duration::from_millis(100));
    ensure!(producer.send_with(message(7), hasty).await.is_err(), "a broker that is not there takes it");
    ensure!(begin.elapsed() < Duration::from_secs(2), "after {:?}", begin.elapsed());
    let builder = cluster.consumer(&cluster.name("options"), &topic).assign([queues[2].clone()]);
    let mut consumer = builder.build().await?;
    let expect = [2, 3, 4].into_iter().chain((queues.len() == 3).then_some(5));
    let came = take(&mut consumer, expect).await?;
    ensure!(came.starts_with(&[2, 3, 4]) || came.starts_with(&[0, 2, 3, 4]), "{came:?}");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn a_rejected_message_is_in_the_dead_letter_queue_at_once(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("rejected");
    let queues = queues_of(&cluster, &topic).await?;
    let producer = cluster.producer().await?;
    for number in 1..10 {
        producer.send_to(Message::new(&topic, number.to_string()), Target::Queue(queues[0].clone())).await?;
    }
    producer.stop().await;
    for kind in ["shared", "ordered", "assigned"] {
        let group = cluster.name(&format!("rejected-{kind}"));
        let builder = cluster.consumer(&group, &topic).queue_span_max(100);
        let builder = match kind {
            "ordered" => builder.orderly(),
            "assigned" => builder.assign([queues[0].clone()]),
            _ => builder,
        };
        let mut consumer = builder.build().await?;
        let mut came = Vec::new();
        while came.len() < 9 {
            let message = tokio::time::timeout(SOON, consumer.recv()).await??;
            match number(&message) {
                0 => message.ack(),
                5 => {
                    came.push(5);
                    message.reject();
                }
                other => {
                    came.push(other);
                    message.ack();
                }
            }
        }
        let more = take_for(&mut consumer, Duration::from_secs(1)).await?;
        ensure!(
            came == (1..10).collect::<Vec<u32>>() && !more.contains(&5),
            "{kind}: {came:?}, then {more:?}"
        );
        consumer.stop().await;
        let puller = cluster.puller(&group).await?;
        let end = Instant::now() + SOON;
        let dead = loop {
            match puller.queues(&format!("%DLQ%{group}")).await {
                Ok(queues) => break queues,
                Err(error) => ensure!(Instant::now() < end, "{kind}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let pulled = puller.pull(&dead[0], 0, "*", Duration::from_secs(5)).await?;
        ensure!(pulled.messages.len() == 1 && pulled.messages[0].body == "5", "{kind}: {pulled:?}");
        let left = puller.committed(&queues[0]).await?;
        let end = puller.max_offset(&queues[0]).await?;
        ensure!(left == Some(end), "{kind}: {left:?} is committed of {end}");
        puller.stop().await;
    }
    Ok(())
}

pub(crate) async fn queues_pause_and_places_are_chosen(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("paused");
    let queues = queues_of(&cluster, &topic).await?;
    let producer = cluster.producer().await?;
    let to = |number: usize| Target::Queue(queues[number].clone());
    let builder = cluster.consumer(&cluster.name("paused"), &topic).assign([]);
    let mut consumer = builder.build().await?;
    let mut assignments = consumer.assignments();
    consumer.assign(queues.iter().take(2).cloned());
    let told = tokio::time::timeout(SOON, async {
        while let Some(told) = assignments.changed().await {
            if told.get(&topic).is_some_and(|own| *own == queues[..2]) {
                return true;
            }
        }
        false
    });
    ensure!(told.await?, "the consumer stopped");
    ensure!(consumer.assigned() == BTreeMap::from([(topic.clone(), queues[..2].to_vec())]), "{consumer:?}");
    consumer.pause([queues[0].clone()]);
    for number in 1..5 {
        producer.send_to(Message::new(&topic, number.to_string()), to(0)).await?;
        producer.send_to(Message::new(&topic, (number + 10).to_string()), to(1)).await?;
    }
    let mut came = take(&mut consumer, 11..15).await?;
    came.extend(take_for(&mut consumer, Duration::from_secs(2)).await?);
    ensure!(came.iter().all(|number| *number > 10 || *number == 0), "{came:?} comes of a paused queue");
    consumer.resume([queues[0].clone()]);
    take(&mut consumer, 1..5).await?;
    consumer.seek_to_begin(&queues[0]).await?;
    take(&mut consumer, 1..5).await?;
    // What lies between is passed over.
    consumer.pause([queues[1].clone()]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    producer.send_to(Message::new(&topic, "20"), to(1)).await?;
    consumer.seek_to_end(&queues[1]).await?;
    consumer.resume([queues[1].clone()]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    producer.send_to(Message::new(&topic, "21"), to(1)).await?;
    let came = take(&mut consumer, [21]).await?;
    ensure!(came == [21], "{came:?}");
    consumer.stop().await;
    ensure!(tokio::time::timeout(SOON, assignments.changed()).await?.is_none(), "it has stopped");
    producer.stop().await;
    Ok(())
}

pub(crate) async fn what_is_committed_is_the_applications_to_say(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("by-hand"), cluster.name("by-hand"));
    let queues = queues_of(&cluster, &topic).await?;
    let producer = cluster.producer().await?;
    for number in 1..5 {
        producer.send_to(Message::new(&topic, number.to_string()), Target::Queue(queues[1].clone())).await?;
    }
    // The group begins at its start position, and not with what another case left.
    let member = async || {
        let builder = cluster.consumer(&group, &topic).auto_commit(false);
        builder.assign([queues[1].clone()]).build().await
    };
    let mut consumer = member().await?;
    take(&mut consumer, 1..5).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    ensure!(consumer.committed(&queues[1]).await?.is_none(), "{:?}", consumer.committed(&queues[1]).await);
    consumer.stop().await;
    let mut consumer = member().await?;
    take(&mut consumer, 1..5).await?;
    let end = queues_end(&cluster, &queues[1]).await?;
    consumer.commit_offsets([(queues[1].clone(), end - 2)]).await?;
    ensure!(
        consumer.committed(&queues[1]).await? == Some(end - 2),
        "{:?}",
        consumer.committed(&queues[1]).await
    );
    consumer.stop().await;
    let mut consumer = member().await?;
    let came = take(&mut consumer, 3..5).await?;
    ensure!(came == [3, 4], "{came:?}");
    consumer.commit();
    let until = Instant::now() + SOON;
    while consumer.committed(&queues[1]).await? != Some(end) {
        ensure!(Instant::now() < until, "what is acknowledged is never committed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    consumer.stop().await;
    let mut consumer = member().await?;
    send(&producer, Message::new(&topic, "elsewhere")).await?;
    producer.send_to(Message::new(&topic, "5"), Target::Queue(queues[1].clone())).await?;
    let came = take(&mut consumer, [5]).await?;
    ensure!(!came.contains(&4), "{came:?}");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

async fn queues_end(cluster: &Cluster, queue: &MessageQueue) -> Result<i64, crate::Fault> {
    let puller = cluster.puller(&cluster.name("readers")).await?;
    let end = puller.max_offset(queue).await?;
    puller.stop().await;
    Ok(end)
}
