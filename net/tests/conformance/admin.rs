//! What an administrator does to consumers at work.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::io::Protocol;
use gantry_core::wire::body::{self, ConsumerRunningInfo, TopicRouteData};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetRouteInfoRequest, Header,
    ResetOffsetRequest,
};
use gantry_core::wire::{Command, Link, Packet};
use gantry_net::client::Consumer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, SOON, number, take, take_for};
use crate::{Fault, Outcome, ensure};

async fn ask(address: &str, request: Command) -> Result<Command, Fault> {
    let mut stream = TcpStream::connect(address).await?;
    let mut bytes = Vec::new();
    Link::encode(&request.into(), &mut bytes);
    stream.write_all(&bytes).await?;
    let mut link = Link::new(Protocol::Remoting);
    loop {
        let mut chunk = [0; 4096];
        let count = tokio::time::timeout(SOON, stream.read(&mut chunk)).await??;
        ensure!(count > 0, "{address} ends the connection");
        link.incoming().extend_from_slice(&chunk[..count]);
        if let Some(Packet::Command(reply)) = link.decode()? {
            return Ok(reply);
        }
    }
}

/// The masters of a topic.
async fn masters(cluster: &Cluster, topic: &str) -> Result<Vec<String>, Fault> {
    let header = GetRouteInfoRequest { topic: topic.into(), accept_standard_json_only: Some(true) };
    let request = Command::request(request_code::GET_ROUTEINFO_BY_TOPIC, header.to_ext());
    let route: TopicRouteData = body::decode(&ask(&cluster.namesrv, request).await?.body)?;
    Ok(route.broker_datas.iter().filter_map(|broker| broker.broker_addrs.get(&0).cloned()).collect())
}

async fn reset(cluster: &Cluster, topic: &str, group: &str, timestamp: i64) -> Outcome {
    for master in masters(cluster, topic).await? {
        let header = ResetOffsetRequest {
            group: group.into(),
            topic: topic.into(),
            queue_id: None,
            offset: None,
            timestamp,
            is_force: true,
        };
        let request = Command::request(request_code::INVOKE_BROKER_TO_RESET_OFFSET, header.to_ext());
        let reply = ask(&master, request).await?;
        ensure!(reply.code == response_code::SUCCESS, "{master} refuses: {} {:?}", reply.code, reply.remark);
    }
    Ok(())
}

/// A consumer of eight messages that it has consumed, and whose offsets are committed.
async fn settled(cluster: &Cluster, topic: &str, group: &str, orderly: bool) -> Result<Consumer, Fault> {
    cluster.send(topic, 0..8).await?;
    let builder = cluster.consumer(group, topic);
    let builder = if orderly { builder.orderly() } else { builder };
    let mut consumer = builder.build().await?;
    take(&mut consumer, 0..8).await?;
    consumer.commit();
    // What is committed is told oneway.
    let more = take_for(&mut consumer, Duration::from_secs(1)).await?;
    ensure!(more.is_empty(), "{more:?} comes too");
    Ok(consumer)
}

pub(crate) async fn an_administrator_puts_a_group_elsewhere(cluster: Arc<Cluster>) -> Outcome {
    for (stem, orderly) in [("reset", false), ("reset-ordered", true)] {
        let (topic, group) = (cluster.name(stem), cluster.name(stem));
        let mut consumer = settled(&cluster, &topic, &group, orderly).await?;
        reset(&cluster, &topic, &group, 0).await?;
        let came = take(&mut consumer, 0..8).await?;
        ensure!(came.len() == 8, "{came:?} come again");
        // To the end: what is not consumed yet is passed over, and what follows is not.
        cluster.send(&topic, 8..12).await?;
        take(&mut consumer, 8..12).await?;
        reset(&cluster, &topic, &group, -1).await?;
        let came = take_for(&mut consumer, Duration::from_secs(2)).await?;
        ensure!(came.is_empty(), "{came:?} comes behind the end");
        cluster.send(&topic, 12..16).await?;
        let came = take(&mut consumer, 12..16).await?;
        ensure!(came.iter().all(|number| *number >= 12), "{came:?}");
        // Commits are told oneway, and a broker of many threads may take the last two of a queue the other way round.
        consumer.commit();
        tokio::time::sleep(Duration::from_secs(1)).await;
        consumer.stop().await;
        // Its next life goes on there.
        let mut consumer = cluster.consumer(&group, &topic).build().await?;
        cluster.send(&topic, [16]).await?;
        let came = take(&mut consumer, [16]).await?;
        ensure!(came == [16], "{came:?}");
        consumer.stop().await;
    }
    Ok(())
}

pub(crate) async fn a_consumer_answers_for_itself(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("asked"), cluster.name("asked"));
    let mut consumer = settled(&cluster, &topic, &group, false).await?;
    let master = masters(&cluster, &topic).await?.remove(0);
    let header = GetConsumerRunningInfoRequest {
        consumer_group: group.clone(),
        client_id: consumer.client_id().to_owned(),
        jstack_enable: None,
    };
    let request = Command::request(request_code::GET_CONSUMER_RUNNING_INFO, header.to_ext());
    let reply = ask(&master, request).await?;
    ensure!(reply.code == response_code::SUCCESS, "{} {:?}", reply.code, reply.remark);
    let info: ConsumerRunningInfo = body::decode(&reply.body)?;
    let of_topic: Vec<i64> = info
        .mq_table
        .0
        .iter()
        .filter(|(queue, _)| queue.topic == topic)
        .map(|(_, queue)| queue.commit_offset)
        .collect();
    ensure!(of_topic.len() == 4 && of_topic.iter().sum::<i64>() == 8, "{info:?}");
    // A message that was consumed is consumed once more, on request.
    let receipt = cluster.send(&topic, [8]).await?.remove(0);
    take(&mut consumer, [8]).await?;
    let header = ConsumeMessageDirectlyResultRequest {
        consumer_group: group.clone(),
        client_id: Some(consumer.client_id().to_owned()),
        msg_id: Some(receipt.offset_id),
        broker_name: Some(receipt.queue.broker_name),
        topic: None,
        topic_sys_flag: None,
        group_sys_flag: None,
    };
    let request = Command::request(request_code::CONSUME_MESSAGE_DIRECTLY, header.to_ext());
    let asked = tokio::spawn(async move { ask(&master, request).await });
    let message = tokio::time::timeout(SOON, consumer.recv()).await??;
    ensure!(number(&message) == 8 && message.topic == topic, "{message:?}");
    message.ack();
    let reply = asked.await??;
    let told = String::from_utf8_lossy(&reply.body).into_owned();
    ensure!(reply.code == response_code::SUCCESS && told.contains("CR_SUCCESS"), "{} {told}", reply.code);
    consumer.stop().await;
    Ok(())
}
