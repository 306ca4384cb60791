//! Messages that consumers see only once their transaction is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_net::client::{
    Message, MessageError, Producer, Received, Resolution, SendError, Transaction, TransactionError,
    TransactionProducer,
};
use tokio::sync::mpsc;

use crate::cluster::{Cluster, SOON, number, take, take_for};
use crate::{Fault, Outcome, ensure, refused};

/// A broker asks every 30 s (`transactionCheckInterval`; RocketMQ 4: 60 s) about half messages older than 6 s, for which it
/// stores them anew each time, and a first question may find the second one still to be stored.
const CHECKED: Duration = Duration::from_secs(110);

/// A producer whose checker answers by `judge`, and what it is asked.
async fn producer(
    cluster: &Cluster,
    group: &str,
    judge: impl Fn(&Received) -> Resolution + Send + Sync + 'static,
) -> Result<(TransactionProducer, mpsc::UnboundedReceiver<Received>), Fault> {
    let (tell, told) = mpsc::unbounded_channel();
    let judge = Arc::new(judge);
    let checker = move |message: Received| {
        let (tell, judge) = (tell.clone(), Arc::clone(&judge));
        async move {
            let resolution = judge(&message);
            // The case may be over.
            let _ = tell.send(message);
            resolution
        }
    };
    let builder = Producer::builder().group(group).name_servers(&cluster.namesrv);
    Ok((builder.transactional(checker).build().await?, told))
}

async fn begin(producer: &TransactionProducer, message: Message) -> Result<Transaction, Fault> {
    for _ in 0..5 {
        match producer.begin(message.clone()).await {
            Ok(transaction) => return Ok(transaction),
            Err(TransactionError::NotServed { reason, .. }) => return Err(refused(&reason)),
            Err(TransactionError::Send(SendError::Failed { .. } | SendError::Refused { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(Fault::Failed("no half message can be sent".into()))
}

pub(crate) async fn a_committed_message_comes_and_one_rolled_back_does_not(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("transactions"), cluster.name("transactions"));
    cluster.send(&topic, [0]).await?;
    let mut consumer = cluster.consumer(&group, &topic).build().await?;
    take(&mut consumer, [0]).await?;
    let (producer, _asked) = producer(&cluster, &group, |_| Resolution::Unknown).await?;
    let delayed = producer.begin(Message::new(&topic, "x").with_delay_level(1)).await;
    let expect = TransactionError::Send(SendError::Message(MessageError::DelayedHalf));
    ensure!(delayed.as_ref().err() == Some(&expect), "{delayed:?}");
    let (mut ids, mut open) = (Vec::new(), Vec::new());
    for number in 1..=6 {
        let message = Message::new(&topic, number.to_string()).with_tag("t").with_key("k");
        let transaction = begin(&producer, message).await?;
        ids.push(transaction.receipt().message_id.clone());
        open.push(transaction);
    }
    let early = take_for(&mut consumer, Duration::from_secs(2)).await?;
    ensure!(early.is_empty(), "{early:?} is seen before its end");
    for (transaction, number) in open.into_iter().zip(1..) {
        if number % 2 == 0 { transaction.commit() } else { transaction.roll_back() }
    }
    let mut came = Vec::new();
    while came.len() < 3 {
        let message = tokio::time::timeout(SOON, consumer.recv()).await??;
        let number = number(&message);
        ensure!(message.id() == ids[number as usize - 1], "{message:?} has another id");
        ensure!(message.tag() == Some("t") && message.keys().eq(["k"]), "{message:?}");
        came.push(number);
        message.ack();
    }
    came.extend(take_for(&mut consumer, Duration::from_secs(3)).await?);
    came.sort_unstable();
    ensure!(came == [2, 4, 6], "{came:?}");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn an_open_transaction_is_asked_about_until_its_end_is_known(
    cluster: Arc<Cluster>,
) -> Outcome {
    let (topic, group) = (cluster.name("checked"), cluster.name("checked"));
    cluster.send(&topic, [0]).await?;
    let mut consumer = cluster.consumer(&group, &topic).build().await?;
    take(&mut consumer, [0]).await?;
    // Of message 3 the end is known at the second question only.
    let questions = Arc::new(AtomicU32::new(0));
    let asked_before = Arc::clone(&questions);
    let judge = move |message: &Received| match &message.body[..] {
        b"1" => Resolution::Commit,
        b"2" => Resolution::RollBack,
        _ if asked_before.fetch_add(1, Ordering::SeqCst) == 0 => Resolution::Unknown,
        _ => Resolution::Commit,
    };
    let (producer, mut asked) = producer(&cluster, &group, judge).await?;
    let mut ids = Vec::new();
    for number in 1..=3 {
        let message = Message::new(&topic, number.to_string()).with_key("k");
        let transaction = begin(&producer, message).await?;
        ids.push(transaction.receipt().message_id.clone());
        // To say that it is not known changes nothing, and neither does to say nothing.
        if number == 3 { transaction.end(Resolution::Unknown) } else { drop(transaction) }
    }
    let mut came = Vec::new();
    let end = Instant::now() + CHECKED;
    while came.len() < 2 {
        ensure!(Instant::now() < end, "only {came:?} comes, after {questions:?} questions about 3");
        came.extend(take_for(&mut consumer, Duration::from_secs(1)).await?);
    }
    came.extend(take_for(&mut consumer, Duration::from_secs(3)).await?);
    came.sort_unstable();
    ensure!(came == [1, 3], "{came:?}");
    let mut of_each = [0; 3];
    while let Ok(message) = asked.try_recv() {
        let number: usize = std::str::from_utf8(&message.body)?.parse()?;
        ensure!(message.topic == topic && message.id() == ids[number - 1], "{message:?}");
        ensure!(message.keys().eq(["k"]), "{message:?}");
        of_each[number - 1] += 1;
    }
    ensure!(of_each[0] == 1 && of_each[1] == 1 && of_each[2] == 2, "{of_each:?} questions");
    consumer.stop().await;
    producer.stop().await;
    Ok(())
}

pub(crate) async fn another_process_of_the_group_ends_what_one_left_open(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("left"), cluster.name("left"));
    cluster.send(&topic, [0]).await?;
    let mut consumer = cluster.consumer(&group, &topic).build().await?;
    take(&mut consumer, [0]).await?;
    let (first, mut asked_first) = producer(&cluster, &group, |_| Resolution::RollBack).await?;
    drop(begin(&first, Message::new(&topic, "1")).await?);
    first.stop().await;
    // It sends nothing, and is found all the same.
    let (second, mut asked) = producer(&cluster, &group, |_| Resolution::Commit).await?;
    let message = tokio::time::timeout(CHECKED, asked.recv()).await?;
    ensure!(message.as_ref().is_some_and(|message| message.body == "1"), "{message:?}");
    take(&mut consumer, [1]).await?;
    ensure!(asked_first.try_recv().is_err(), "the one that stopped was asked");
    consumer.stop().await;
    second.stop().await;
    Ok(())
}
