//! Several members of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_net::client::{ConsumeError, Consumer, Message, MessageQueue, Target};
use tokio::sync::mpsc;

use crate::cluster::{Cluster, SOON, number, send, take, take_for};
use crate::{Fault, Outcome, ensure};

/// Waits until these members have all queues of a topic, each one once.
async fn settled(topic: &str, members: &[&Consumer], limit: Duration) -> Result<(), Fault> {
    let end = Instant::now() + limit;
    loop {
        let shares: Vec<Vec<MessageQueue>> =
            members.iter().map(|member| member.assigned().remove(topic).unwrap_or_default()).collect();
        let all: BTreeSet<&MessageQueue> = shares.iter().flatten().collect();
        let count: usize = shares.iter().map(Vec::len).sum();
        if all.len() == 4 && count == 4 && shares.iter().all(|share| share.len() >= 4 / members.len()) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the queues are not shared out: {shares:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn two_members_share_and_a_stop_gives_back_at_once(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("shared"), cluster.name("shared"));
    cluster.send(&topic, 0..8).await?;
    let mut one = cluster.consumer(&group, &topic).build().await?;
    take(&mut one, 0..8).await?;
    let mut two = cluster.consumer(&group, &topic).build().await?;
    settled(&topic, &[&one, &two], SOON).await?;
    // What was on its way while the queues moved may come twice; from now on nothing does.
    take_for(&mut one, Duration::from_secs(2)).await?;
    take_for(&mut two, Duration::from_secs(2)).await?;
    cluster.send(&topic, 8..48).await?;
    let (ours, theirs) =
        tokio::join!(take_for(&mut one, Duration::from_secs(5)), take_for(&mut two, Duration::from_secs(5)));
    let (ours, theirs) = (ours?, theirs?);
    let mut all = [&ours[..], &theirs[..]].concat();
    all.sort_unstable();
    ensure!(all == (8..48).collect::<Vec<_>>(), "{ours:?} and {theirs:?}");
    ensure!(!ours.is_empty() && !theirs.is_empty(), "one has all: {ours:?} and {theirs:?}");
    two.stop().await;
    let left = Instant::now();
    settled(&topic, &[&one], SOON).await?;
    ensure!(left.elapsed() < Duration::from_secs(3), "the queues come back after {:?}", left.elapsed());
    cluster.send(&topic, 48..68).await?;
    let came = take(&mut one, 48..68).await?;
    ensure!(came.iter().all(|number| *number >= 48), "what the other acknowledged comes again: {came:?}");
    one.stop().await;
    Ok(())
}

pub(crate) async fn an_ordered_group_keeps_order_while_members_come_and_go(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("ordered"), cluster.name("ordered"));
    let producer = cluster.producer().await?;
    send(&producer, Message::new(&topic, "0")).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let member = async |name: &str| -> Result<_, Fault> {
        let mut consumer = cluster.consumer(&group, &topic).orderly().instance_name(name).build().await?;
        let tell = tell.clone();
        let (stop, mut stopped) = mpsc::channel::<()>(1);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = consumer.recv() => {
                        let Ok(message) = message else { return };
                        let number = number(&message);
                        // Each seventh is tried twice, and nothing of its queue may overtake it.
                        if number.is_multiple_of(7) && message.reconsume_times == 0 {
                            message.retry_later(0);
                        } else {
                            // The case may be over.
                            let _ = tell.send((message.queue.clone(), number));
                            message.ack();
                        }
                    }
                    _ = stopped.recv() => return consumer.stop().await,
                }
            }
        });
        Ok((stop, task))
    };
    let mut first = Some(member("one").await?);
    let mut second = None;
    for number in 1..=240 {
        let message = Message::new(&topic, number.to_string());
        producer.send_to(message, Target::Hash((number % 8).to_string())).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        match number {
            60 => second = Some(member("two").await?),
            // One leaves and gives its queues back.
            120 => drop(first.take()),
            180 => first = Some(member("three").await?),
            _ => {}
        }
    }
    let mut seen: BTreeMap<MessageQueue, Vec<u32>> = BTreeMap::new();
    let mut missing: BTreeSet<u32> = (0..=240).collect();
    while !missing.is_empty() {
        let Ok(Some((queue, number))) = tokio::time::timeout(2 * SOON, told.recv()).await else {
            return Err(Fault::Failed(format!("{missing:?} do not come")));
        };
        missing.remove(&number);
        seen.entry(queue).or_default().push(number);
    }
    for (queue, numbers) in &seen {
        // One whose acknowledgement was not committed before its member left may come again, with all behind it.
        let mut firsts = BTreeSet::new();
        let order: Vec<u32> = numbers.iter().copied().filter(|number| firsts.insert(*number)).collect();
        ensure!(order.is_sorted(), "queue {}: {numbers:?}", queue.queue_id);
    }
    for (stop, task) in [first, second].into_iter().flatten() {
        drop(stop);
        task.await?;
    }
    producer.stop().await;
    Ok(())
}

pub(crate) async fn two_members_of_one_id_are_named(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("twins"), cluster.name("twins"));
    cluster.send(&topic, 0..4).await?;
    let twin = || cluster.consumer(&group, &topic).instance_name("the-same").build();
    let mut one = twin().await?;
    take(&mut one, 0..4).await?;
    let mut two = twin().await?;
    for consumer in [&mut one, &mut two] {
        loop {
            match tokio::time::timeout(SOON, consumer.recv()).await? {
                Ok(message) => message.ack(),
                Err(ConsumeError::DuplicateId { client_id, .. }) => {
                    ensure!(client_id == consumer.client_id(), "{client_id}");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    one.stop().await;
    two.stop().await;
    Ok(())
}

pub(crate) async fn a_broadcast_reaches_all_and_goes_on_after_a_restart(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("broadcast"), cluster.name("broadcast"));
    cluster.send(&topic, 0..8).await?;
    let dir = tempfile::tempdir()?;
    let member = |name: &str| {
        let builder = cluster.consumer(&group, &topic).broadcasting();
        builder.instance_name(name).offset_dir(dir.path()).build()
    };
    let (mut one, mut two) = (member("one").await?, member("two").await?);
    take(&mut one, 0..8).await?;
    take(&mut two, 0..8).await?;
    one.stop().await;
    cluster.send(&topic, 8..12).await?;
    take(&mut two, 8..12).await?;
    let mut one = member("one").await?;
    let came = take(&mut one, 8..12).await?;
    ensure!(came.iter().all(|number| *number >= 8), "what it had comes again: {came:?}");
    one.stop().await;
    two.stop().await;
    Ok(())
}
