//! Name servers that are gone, and topics that nobody knows.

use std::sync::Arc;
use std::time::Duration;

use gantry_net::client::{
    AskError, ConsumeError, Consumer, Message, Producer, PullConsumer, SendError, Start,
};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{Cluster, SOON, send, take};
use crate::{Fault, Outcome, ensure};

/// A door to the name server that can be shut.
struct Door {
    address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Door {
    async fn open(address: &str, to: &str) -> Result<Door, Fault> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?.to_string();
        let to = to.to_owned();
        let task = tokio::spawn(async move {
            // The connections end with this task.
            let mut through = tokio::task::JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                if let Ok(mut there) = TcpStream::connect(&to).await {
                    through.spawn(async move {
                        // Either side may end it.
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    });
                }
            }
        });
        Ok(Door { address, task })
    }

    async fn shut(self) -> String {
        self.task.abort();
        // It was aborted, which is what was wanted.
        let _ = self.task.await;
        self.address
    }
}

pub(crate) async fn running_clients_outlive_the_name_server(cluster: Arc<Cluster>) -> Outcome {
    let (topic, group) = (cluster.name("outlive"), cluster.name("outlive"));
    let door = Door::open("127.0.0.1:0", &cluster.namesrv).await?;
    let producers = Producer::builder().group(cluster.name("producers")).name_servers(&door.address);
    let consumers = Consumer::builder().group(&group).name_servers(&door.address);
    let consumers = consumers.subscribe(&topic, "*").start(Start::First);
    let producer = producers.clone().build().await?;
    send(&producer, Message::new(&topic, "0")).await?;
    let mut consumer = consumers.build().await?;
    take(&mut consumer, [0]).await?;
    let address = door.shut().await;
    for number in 1..8 {
        producer.send(Message::new(&topic, number.to_string())).await?;
    }
    take(&mut consumer, 1..8).await?;
    let newcomer = producers.build().await?;
    let refused = newcomer.send(Message::new(&topic, "x")).await;
    ensure!(matches!(&refused, Err(SendError::NoNameServer(at)) if *at == address), "{refused:?}");
    let door = Door::open(&address, &cluster.namesrv).await?;
    send(&newcomer, Message::new(&topic, "8")).await?;
    take(&mut consumer, [8]).await?;
    for producer in [producer, newcomer] {
        producer.stop().await;
    }
    consumer.stop().await;
    door.shut().await;
    Ok(())
}

pub(crate) async fn an_unknown_topic_is_named(cluster: Arc<Cluster>) -> Outcome {
    let topic = cluster.name("nowhere");
    let puller = PullConsumer::builder().group(&topic).name_servers(&cluster.namesrv).build().await?;
    let found = puller.queues(&topic).await;
    ensure!(found == Err(AskError::UnknownTopic(topic.clone())), "{found:?}");
    puller.stop().await;
    let mut strict = cluster.consumer(&topic, &topic).wait_for_topics(false).build().await?;
    let found = tokio::time::timeout(SOON, strict.recv()).await?;
    ensure!(matches!(&found, Err(ConsumeError::UnknownTopic(name)) if *name == topic), "{found:?}");
    strict.stop().await;
    // Who waits is served once the topic is there.
    let mut patient = cluster.consumer(&topic, &topic).build().await?;
    let early = tokio::time::timeout(Duration::from_secs(1), patient.recv()).await;
    ensure!(early.is_err(), "{early:?}");
    cluster.send(&topic, [1]).await?;
    take(&mut patient, [1]).await?;
    patient.stop().await;
    Ok(())
}
