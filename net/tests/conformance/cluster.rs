//! The cluster under test, and what most cases do with it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gantry_net::client::{
    Consumer, ConsumerBuilder, Incoming, Message, Producer, PullConsumer, Receipt, SendError, Start,
};

use crate::Fault;

/// How long a message may take to arrive when nothing delays it.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// A cluster, by its name server.
pub(crate) struct Cluster {
    pub(crate) namesrv: String,
    /// Ends the names of this run's topics and groups, so that the next run finds none of them.
    suffix: String,
    /// The programs of another language's client: a command, word by word.
    pub(crate) peer: Vec<String>,
}

impl Cluster {
    pub(crate) fn new(namesrv: &str, peer: Vec<String>) -> Cluster {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Cluster { namesrv: namesrv.to_owned(), suffix: format!("{:x}", time.as_millis()), peer }
    }

    /// Waits for the first send to succeed: a broker may take a moment to be in the routes.
    pub(crate) async fn is_ready(&self) {
        let producer = self.producer().await.expect("its settings are right");
        for _ in 0..300 {
            if producer.send(Message::new(self.name("ready"), "x")).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the cluster of {} never takes a message", self.namesrv);
    }

    /// A topic or group of this run.
    pub(crate) fn name(&self, stem: &str) -> String {
        format!("conformance-{stem}-{}", self.suffix)
    }

    pub(crate) async fn producer(&self) -> Result<Producer, Fault> {
        Ok(Producer::builder().group(self.name("producers")).name_servers(&self.namesrv).build().await?)
    }

    pub(crate) async fn puller(&self, group: &str) -> Result<PullConsumer, Fault> {
        Ok(PullConsumer::builder().group(group).name_servers(&self.namesrv).build().await?)
    }

    /// A consumer of all of a topic, from its beginning.
    pub(crate) fn consumer(&self, group: &str, topic: &str) -> ConsumerBuilder {
        let builder = Consumer::builder().group(group).name_servers(&self.namesrv);
        builder.subscribe(topic, "*").start(Start::First)
    }

    /// Sends a message with each of these bodies.
    pub(crate) async fn send(
        &self,
        topic: &str,
        bodies: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<Receipt>, Fault> {
        let producer = self.producer().await?;
        let mut receipts = Vec::new();
        for body in bodies {
            receipts.push(send(&producer, Message::new(topic, body.to_string())).await?);
        }
        producer.stop().await;
        Ok(receipts)
    }
}

/// Sends, again if the broker is too busy.
pub(crate) async fn send(producer: &Producer, message: Message) -> Result<Receipt, SendError> {
    let mut last = SendError::Stopped;
    for _ in 0..5 {
        match producer.send(message.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(last)
}

pub(crate) fn number(message: &Incoming) -> u32 {
    std::str::from_utf8(&message.body).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
}

/// Acknowledges messages until all these numbers have come; what came, in order.
pub(crate) async fn take(
    consumer: &mut Consumer,
    expected: impl IntoIterator<Item = u32>,
) -> Result<Vec<u32>, Fault> {
    let mut missing: BTreeSet<u32> = expected.into_iter().collect();
    let mut came = Vec::new();
    while !missing.is_empty() {
        let Ok(message) = tokio::time::timeout(SOON, consumer.recv()).await else {
            return Err(Fault::Failed(format!("{missing:?} do not come, only {came:?}")));
        };
        let message = message?;
        let number = number(&message);
        missing.remove(&number);
        came.push(number);
        message.ack();
    }
    Ok(came)
}

/// Acknowledges what comes in this time.
pub(crate) async fn take_for(consumer: &mut Consumer, time: Duration) -> Result<Vec<u32>, Fault> {
    let mut came = Vec::new();
    let end = tokio::time::Instant::now() + time;
    while let Ok(message) = tokio::time::timeout_at(end, consumer.recv()).await {
        let message = message?;
        came.push(number(&message));
        message.ack();
    }
    Ok(came)
}

/// Gantry in a process of its own, killed when dropped.
pub(crate) struct Standalone {
    child: Child,
    pub(crate) namesrv: String,
    _data: tempfile::TempDir,
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Standalone {
    /// Ports that were free a moment ago may be taken: it is tried again.
    pub(crate) fn start() -> Standalone {
        (0..10).find_map(|_| Standalone::try_start()).expect("gantry starts")
    }

    fn try_start() -> Option<Standalone> {
        let data = tempfile::tempdir().unwrap();
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A broker listens on the two ports beside its own too.
        let broker = (0..100).map(|_| port()).find(|port| {
            let near = [port.checked_sub(2), port.checked_add(1)];
            near.into_iter().all(|port| port.is_some_and(is_free))
        })?;
        let namesrv = port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command.args(["standalone", "--namesrv-port", &namesrv.to_string()]);
        command.args(["--broker-port", &broker.to_string()]).arg("--data").arg(data.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(2).count();
        let standalone = Standalone { child, namesrv: format!("127.0.0.1:{namesrv}"), _data: data };
        (lines == 2).then_some(standalone)
    }
}
