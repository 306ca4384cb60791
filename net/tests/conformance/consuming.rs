//! Consuming by one member: which messages come, when, and how often.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gantry_net::client::{ConsumeError, Filter, Message, MessageQueue, Start};

use crate::cluster::{Cluster, SOON, number, send, take, take_for};
use crate::{Outcome, ensure, not_sent, refused};

fn now_ms() -> i64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) async fn tags_choose(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("tags");
    let producer = cluster.producer().await?;
    for number in 0..30 {
        let tag = ["a", "b", "c"][number % 3];
        send(&producer, Message::new(&topic, number.to_string()).with_tag(tag)).await?;
    }
    let builder = cluster.consumer(&cluster.name("tags"), &topic).subscribe(&topic, "a || c");
    let mut consumer = builder.build().await?;
    let came = take(&mut consumer, (0..30).filter(|number| number % 3 != 1)).await?;
    ensure!(came.iter().all(|number| number % 3 != 1), "{came:?}");
    let more = take_for(&mut consumer, Duration::from_secs(1)).await?;
    ensure!(more.is_empty(), "{more:?} comes too");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn an_expression_chooses(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("sql");
    let producer = cluster.producer().await?;
    for number in 0..10 {
        let message = Message::new(&topic, number.to_string()).with_property("n", number.to_string());
        send(&producer, message).await?;
    }
    let builder = cluster.consumer(&cluster.name("sql"), &topic);
    let mut consumer = builder.subscribe_by(&topic, Filter::Sql("n > 6".into())).build().await?;
    let mut came = BTreeSet::new();
    while came.len() < 3 {
        match tokio::time::timeout(SOON, consumer.recv()).await? {
            Ok(message) => {
                came.insert(number(&message));
                message.ack();
            }
            Err(ConsumeError::Refused { reason, .. }) => return Err(refused(&reason)),
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(came == BTreeSet::from([7, 8, 9]), "{came:?}");
    let puller = cluster.puller(&cluster.name("sql-pulls")).await?;
    let mut pulled = BTreeSet::new();
    for queue in puller.queues(&topic).await? {
        let (mut next, max) = (0, puller.max_offset(&queue).await?);
        while next < max {
            let found = puller.pull_by(&queue, next, Filter::Sql("n < 3".into()), Duration::ZERO).await?;
            pulled.extend(found.messages.iter().map(|message| message.body.clone()));
            next = found.next_offset;
        }
    }
    ensure!(pulled == BTreeSet::from(["0".into(), "1".into(), "2".into()]), "{pulled:?}");
    puller.stop().await;
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn a_delay_level_delays(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("delayed");
    cluster.send(&topic, [0]).await?;
    let mut consumer = cluster.consumer(&cluster.name("delayed"), &topic).build().await?;
    take(&mut consumer, [0]).await?;
    let producer = cluster.producer().await?;
    let sent = Instant::now();
    // 5 s.
    send(&producer, Message::new(&topic, "1").with_delay_level(2)).await?;
    take(&mut consumer, [1]).await?;
    let took = sent.elapsed();
    ensure!(took >= Duration::from_millis(4_900) && took < Duration::from_secs(20), "after {took:?}");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn a_message_is_delivered_at_its_time(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("timed");
    cluster.send(&topic, [0]).await?;
    let mut consumer = cluster.consumer(&cluster.name("timed"), &topic).build().await?;
    take(&mut consumer, [0]).await?;
    let producer = cluster.producer().await?;
    let due = now_ms() + 3_000;
    let message = Message::new(&topic, "1").with_delivery_at(due);
    producer.send(message).await.map_err(not_sent)?;
    take(&mut consumer, [1]).await?;
    let late_ms = now_ms() - due;
    // RocketMQ's wheel turns once a second.
    ensure!((-1_000..15_000).contains(&late_ms), "{late_ms} ms late");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn a_dropped_message_comes_again_and_ends_in_the_dead_letter_queue(
    cluster: Arc<Cluster>,
) -> Outcome {
    let (topic, group) = (cluster.name("retries"), cluster.name("retries"));
    cluster.send(&topic, 0..4).await?;
    let mut consumer = cluster.consumer(&group, &topic).reconsume_max(2).build().await?;
    let (mut tries, mut others) = (Vec::new(), 0);
    while tries.len() < 3 || others < 3 {
        let message = tokio::time::timeout(SOON, consumer.recv()).await??;
        ensure!(message.topic == topic, "it comes as of topic {}", message.topic);
        if number(&message) != 3 {
            others += 1;
            message.ack();
            continue;
        }
        tries.push(message.reconsume_times);
        match tries.len() {
            // At the broker's choice, which is 10 s the first time.
            1 => drop(message),
            _ => message.retry_later(1),
        }
    }
    ensure!(tries == [0, 1, 2] && others == 3, "tries {tries:?}, {others} others");
    let puller = cluster.puller(&group).await?;
    let end = Instant::now() + SOON;
    loop {
        if let Ok(queues) = puller.queues(&format!("%DLQ%{group}")).await {
            let pulled = puller.pull(&queues[0], 0, "*", Duration::from_secs(5)).await?;
            if let [message] = &pulled.messages[..] {
                ensure!(message.body == "3", "{message:?}");
                break;
            }
        }
        ensure!(Instant::now() < end, "it is not in the dead-letter queue");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    consumer.stop().await;
    puller.stop().await;
    Ok(())
}

pub(crate) async fn a_restarted_member_goes_on(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("restarts"), cluster.name("restarts"));
    cluster.send(&topic, 0..20).await?;
    let mut consumer = cluster.consumer(&group, &topic).build().await?;
    take(&mut consumer, 0..20).await?;
    // What it has and does not acknowledge comes again.
    cluster.send(&topic, [20]).await?;
    let held = tokio::time::timeout(SOON, consumer.recv()).await??;
    ensure!(number(&held) == 20, "{held:?}");
    consumer.stop().await;
    drop(held);
    cluster.send(&topic, 21..25).await?;
    let mut consumer = cluster.consumer(&group, &topic).build().await?;
    let came = take(&mut consumer, 20..25).await?;
    ensure!(came.iter().all(|number| *number >= 20), "{came:?}");
    consumer.stop().await;
    Ok(())
}

pub(crate) async fn groups_begin_where_they_are_told(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("starts");
    cluster.send(&topic, 0..4).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let middle = now_ms();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.send(&topic, 4..8).await?;
    let mut first = cluster.consumer(&cluster.name("starts-first"), &topic).build().await?;
    take(&mut first, 0..8).await?;
    first.stop().await;
    // Who shares a young queue may be begun at its beginning by the broker; who gets a broadcast asks for itself.
    let dir = tempfile::tempdir()?;
    let begin = |stem: &str, start| {
        let builder = cluster.consumer(&cluster.name(stem), &topic).start(start);
        builder.broadcasting().instance_name(stem).offset_dir(dir.path())
    };
    let mut timed = begin("starts-timed", Start::Time(middle)).build().await?;
    let came = take(&mut timed, 4..8).await?;
    ensure!(came.iter().all(|number| *number >= 4), "from a time: {came:?}");
    timed.stop().await;
    let mut last = begin("starts-last", Start::Last).build().await?;
    let came = take_for(&mut last, Duration::from_secs(3)).await?;
    ensure!(came.is_empty(), "from the end: {came:?}");
    cluster.send(&topic, 8..12).await?;
    take(&mut last, 8..12).await?;
    last.stop().await;
    Ok(())
}

/// Brokers answer a new group 0 for a young queue, unless they are asked not to.
pub(crate) async fn a_shared_group_begins_at_its_time(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("timed-group");
    cluster.send(&topic, 0..8).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let middle = now_ms();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.send(&topic, 8..16).await?;
    let builder = cluster.consumer(&cluster.name("timed-group"), &topic).start(Start::Time(middle));
    let mut consumer = builder.build().await?;
    let mut came = take(&mut consumer, 8..16).await?;
    came.extend(take_for(&mut consumer, Duration::from_secs(2)).await?);
    ensure!(came.iter().all(|number| *number >= 8), "from a time: {came:?}");
    consumer.stop().await;
    Ok(())
}

pub(crate) async fn a_member_goes_back_to_a_time(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("rewind");
    cluster.send(&topic, 0..4).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let middle = now_ms();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.send(&topic, 4..8).await?;
    let mut consumer = cluster.consumer(&cluster.name("rewind"), &topic).build().await?;
    take(&mut consumer, 0..8).await?;
    consumer.seek_to_time(&topic, middle).await?;
    let mut came = take(&mut consumer, 4..8).await?;
    came.sort_unstable();
    ensure!(came == [4, 5, 6, 7], "from a time: {came:?}");
    consumer.seek_to_time(&topic, 0).await?;
    let came = take(&mut consumer, 0..8).await?;
    ensure!(came.len() == 8, "from the beginning: {came:?}");
    consumer.stop().await;
    Ok(())
}

pub(crate) async fn queues_are_pulled_and_offsets_committed_by_hand(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("pulls"), cluster.name("pulls"));
    let receipts = cluster.send(&topic, 0..40).await?;
    let puller = cluster.puller(&group).await?;
    let queues = puller.queues(&topic).await?;
    let mut came = Vec::new();
    for queue in &queues {
        let (min, max) = (puller.min_offset(queue).await?, puller.max_offset(queue).await?);
        let sent = receipts.iter().filter(|receipt| receipt.queue == *queue).count();
        ensure!(min == 0 && max == sent as i64, "{queue:?}: {min} to {max}, {sent} were sent");
        let mut next = min;
        while next < max {
            let pulled = puller.pull(queue, next, "*", Duration::ZERO).await?;
            came.extend(pulled.messages.iter().map(|message| message.body.clone()));
            next = pulled.next_offset;
        }
        puller.commit(queue, next).await?;
        ensure!(puller.committed(queue).await? == Some(max), "{queue:?} is not committed");
        ensure!(puller.offset_at(queue, 0).await? == 0, "{queue:?}: the first offset");
    }
    came.sort();
    came.dedup();
    ensure!(came.len() == 40, "{} of 40 messages", came.len());
    // A pull waits for a message.
    let queue = &queues[0];
    let max = puller.max_offset(queue).await?;
    let producer = cluster.producer().await?;
    let target = gantry_net::client::Target::Queue(queue.clone());
    let (pulled, sent) = tokio::join!(puller.pull(queue, max, "*", Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        producer.send_to(Message::new(&topic, "late"), target).await
    });
    sent?;
    ensure!(pulled?.messages.len() == 1, "a held pull is not answered by the next message");
    producer.stop().await;
    puller.stop().await;
    Ok(())
}

pub(crate) async fn chosen_queues_are_read_from_chosen_places(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("chosen"), cluster.name("chosen"));
    let receipts = cluster.send(&topic, 0..40).await?;
    let puller = cluster.puller(&group).await?;
    let queues = puller.queues(&topic).await?;
    let of_queue = |queue: &MessageQueue| {
        let numbers = (0u32..).zip(&receipts).filter(|(_, receipt)| receipt.queue == *queue);
        numbers.map(|(number, _)| number).collect::<Vec<u32>>()
    };
    let (one, two) = (of_queue(&queues[0]), of_queue(&queues[1]));
    ensure!(one.len() > 2 && two.len() > 2, "{one:?} and {two:?}");
    let builder = cluster.consumer(&group, &topic).assign([queues[0].clone()]);
    let mut consumer = builder.build().await?;
    let came = take(&mut consumer, one.clone()).await?;
    ensure!(came == one, "of the first queue came {came:?}, not {one:?}");
    consumer.seek(&queues[0], 1);
    let came = take(&mut consumer, one[1..].iter().copied()).await?;
    ensure!(came == one[1..], "from the second one came {came:?}");
    consumer.assign([queues[1].clone()]);
    let came = take(&mut consumer, two.clone()).await?;
    ensure!(came == two, "of the second queue came {came:?}, not {two:?}");
    consumer.stop().await;
    let committed = puller.committed(&queues[1]).await?;
    ensure!(committed == Some(two.len() as i64), "{committed:?} is committed of {}", two.len());
    puller.stop().await;
    Ok(())
}
