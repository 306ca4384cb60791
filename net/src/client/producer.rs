//! [`Producer`]: sends messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::client::{
    Batching, ClientCommand, Message, ProducerConfig, Receipt, Received, Request, RequestError, Resolution,
    Send as SendCommand, SendError, Target,
};
use gantry_core::wire::body::MessageQueue;

use super::BuildError;
use super::compress::{Compression, compress, decompress};
use super::host::{Common, Host, Roles, trace};
use super::transaction::TransactionProducerBuilder;

/// Sends messages. Cheap to clone; all clones share one client, which stops with the last of them.
///
#[doc = concat!("```no_run\n", include_str!("../../examples/produce.rs"), "```")]
#[derive(Clone)]
pub struct Producer {
    pub(super) host: Arc<Host>,
    pub(super) compression: Option<(Compression, usize)>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("client_id", &self.host.client_id()).finish_non_exhaustive()
    }
}

/// How one send differs from the others of its producer. A [`Target`] is one by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    target: Target,
    timeout: Option<Duration>,
}

impl SendOptions {
    /// To the queue that `target` chooses.
    pub fn to(target: Target) -> SendOptions {
        SendOptions { target, timeout: None }
    }

    /// All its tries end within this time, in place of [`ProducerBuilder::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl From<Target> for SendOptions {
    fn from(target: Target) -> SendOptions {
        SendOptions::to(target)
    }
}

/// Makes a [`Producer`].
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    pub(super) common: Common,
    pub(super) config: ProducerConfig,
    pub(super) compression: Option<(Compression, usize)>,
}

/// Bodies are compressed from this size on (`compressMsgBodyOverHowmuch`).
const COMPRESS_OVER: usize = 4096;

impl Producer {
    /// Begins to make one.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder {
            common: Common::default(),
            config: ProducerConfig::new(""),
            compression: Some((Compression::Zlib, COMPRESS_OVER)),
        }
    }

    /// Sends a message and waits until it is as safe as its broker promises. Tries other brokers within the time.
    ///
    /// Dropped, the message is sent all the same, with all its tries, and nobody learns whether it is stored.
    ///
    /// # Errors
    /// [`SendError`] says whether the message may be stored all the same, and what to do.
    pub async fn send(&self, message: Message) -> Result<Receipt, SendError> {
        self.send_to(message, Target::RoundRobin).await
    }

    /// The same to a queue that `target` chooses, also when it is dropped.
    ///
    /// # Errors
    /// See [`Producer::send`].
    pub async fn send_to(&self, message: Message, target: Target) -> Result<Receipt, SendError> {
        self.send_with(message, target).await
    }

    /// The same with options of this send's own.
    ///
    /// ```no_run
    /// # async fn example(producer: gantry_net::client::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use gantry_net::client::{Message, SendOptions, Target};
    ///
    /// let options = SendOptions::to(Target::Hash("order-7".into())).timeout(Duration::from_secs(10));
    /// producer.send_with(Message::new("Orders", "paid"), options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Producer::send`].
    pub async fn send_with(
        &self,
        message: Message,
        options: impl Into<SendOptions>,
    ) -> Result<Receipt, SendError> {
        let mut receipts = self.post(vec![message], options.into(), false).await?;
        receipts.pop().ok_or(SendError::Stopped)
    }

    /// The same to the queue that the caller chooses among those of the topic that may be written, which are sorted.
    ///
    /// ```no_run
    /// # async fn example(producer: gantry_net::client::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use gantry_net::client::Message;
    ///
    /// let customer = 7;
    /// let message = Message::new("Orders", "paid");
    /// producer.send_by(message, |queues| queues.get(customer % queues.len())).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Producer::send`]; [`SendError::NoQueue`] when it chooses none.
    pub async fn send_by(
        &self,
        message: Message,
        choose: impl FnOnce(&[MessageQueue]) -> Option<&MessageQueue>,
    ) -> Result<Receipt, SendError> {
        let target = self.choose(&message.topic, choose).await?;
        self.send_with(message, target).await
    }

    /// The queue that the caller chooses, as [`Producer::send_by`] asks: for batches, oneway sends and requests.
    ///
    /// # Errors
    /// When no name server answers or the topic does not exist; [`SendError::NoQueue`] when it chooses none.
    pub async fn choose(
        &self,
        topic: &str,
        choose: impl FnOnce(&[MessageQueue]) -> Option<&MessageQueue>,
    ) -> Result<Target, SendError> {
        let queues = self.queues(topic).await?;
        let none = || SendError::NoQueue(format!("the caller's choice for topic {topic}"));
        choose(&queues).cloned().map(Target::Queue).ok_or_else(none)
    }

    /// Stores messages of one topic one behind the other in one queue, all or none: one receipt each.
    ///
    /// Dropped, the batch is sent all the same, and is still stored as a whole or not at all.
    ///
    /// # Errors
    /// See [`Producer::send`]; also when the messages make no batch ([`super::MessageError::Batch`]).
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, SendError> {
        self.send_batch_with(messages, SendOptions::default()).await
    }

    /// The same with options of this send's own.
    ///
    /// # Errors
    /// See [`Producer::send_batch`].
    pub async fn send_batch_with(
        &self,
        messages: Vec<Message>,
        options: impl Into<SendOptions>,
    ) -> Result<Vec<Receipt>, SendError> {
        self.post(messages, options.into(), false).await
    }

    /// Sends a message without an answer: it returns once the message is on its way, and nobody knows whether it arrives.
    ///
    /// Dropped, it leaves all the same.
    ///
    /// # Errors
    /// When it cannot even leave.
    pub async fn send_oneway(&self, message: Message) -> Result<(), SendError> {
        self.send_oneway_with(message, SendOptions::default()).await
    }

    /// The same with options of this send's own.
    ///
    /// # Errors
    /// When it cannot even leave.
    pub async fn send_oneway_with(
        &self,
        message: Message,
        options: impl Into<SendOptions>,
    ) -> Result<(), SendError> {
        self.post(vec![message], options.into(), true).await.map(drop)
    }

    /// Sends a message and waits so long for a reply to it, which whoever consumes it makes with [`Producer::reply`].
    ///
    /// Dropped, the question is asked all the same: whoever answers cannot tell, and the reply is thrown away when it comes. The replies
    /// to other requests are not touched.
    ///
    #[doc = concat!("```no_run\n", include_str!("../../examples/request_reply.rs"), "```")]
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, message: Message, timeout: Duration) -> Result<Received, RequestError> {
        self.request_to(message, Target::RoundRobin, timeout).await
    }

    /// The same to a queue that `target` chooses.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request_to(
        &self,
        mut message: Message,
        target: Target,
        timeout: Duration,
    ) -> Result<Received, RequestError> {
        if let Some((kind, over)) = self.compression {
            compress(&mut message, kind, over);
        }
        let request = |id| ClientCommand::Request(Request { id, message, target, timeout });
        let mut reply = self.host.replied(request).await?;
        decompress(&mut reply);
        Ok(reply)
    }

    /// Answers a request; the topic of `message` does not matter.
    ///
    /// Dropped, the reply is sent all the same.
    ///
    /// # Errors
    /// See [`Producer::send`]; [`super::MessageError::NoRequest`] when nobody waits for a reply to it.
    pub async fn reply(&self, request: &Received, message: Message) -> Result<Receipt, SendError> {
        self.send(message.into_reply(request).map_err(SendError::Message)?).await
    }

    async fn post(
        &self,
        mut messages: Vec<Message>,
        options: SendOptions,
        oneway: bool,
    ) -> Result<Vec<Receipt>, SendError> {
        // The messages of a batch stay as they are: brokers know one flag for all of it.
        if let ([message], Some((kind, over))) = (&mut messages[..], self.compression) {
            compress(message, kind, over);
        }
        let SendOptions { target, timeout } = options;
        let send = |id| ClientCommand::Send(SendCommand { id, messages, target, oneway, timeout });
        self.host.sent(send).await
    }

    /// The queues of a topic that may be written, sorted: for [`Target::Queue`]. Dropped, nothing has changed.
    ///
    /// # Errors
    /// When no name server answers or the topic does not exist.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, SendError> {
        self.host.queues(topic).await
    }

    /// What brokers and tools call this client.
    pub fn client_id(&self) -> &str {
        self.host.client_id()
    }

    /// Waits for what is under way and leaves the brokers. Later sends fail with [`SendError::Stopped`]. Dropping the last
    /// clone does the same in the background.
    ///
    /// Dropped, the client stops all the same, and what is under way ends as it would have; only nobody waits for it, so that a process
    /// that ends now may cut it off. Called again, it waits again.
    pub async fn stop(&self) {
        self.host.stop().await;
    }
}

impl ProducerBuilder {
    /// The producer group. Must be set.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.common.group = group.into();
        self
    }

    /// Name servers, `host:port`, several with `;`. Without this, the environment's NAMESRV_ADDR.
    #[must_use]
    pub fn name_servers(mut self, addresses: impl Into<String>) -> Self {
        self.common.name_servers.push(addresses.into());
        self
    }

    /// The second half of the client id, in place of process id and time, for which `DEFAULT` stands. Two clients of one machine
    /// must differ in it.
    #[must_use]
    pub fn instance_name(mut self, name: impl Into<String>) -> Self {
        self.common.instance = Some(name.into());
        self
    }

    /// A last part of the client id (`unitName`).
    #[must_use]
    pub fn unit_name(mut self, name: impl Into<String>) -> Self {
        self.common.unit = Some(name.into());
        self
    }

    /// The time of a send with all its tries; 3 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    /// Further tries at other brokers; 2 unless set.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.retries = retries;
        self
    }

    /// Gathers sends to one topic into batches. Each send still has its own result.
    #[must_use]
    pub fn batching(mut self, batching: Batching) -> Self {
        self.config.batching = Some(batching);
        self
    }

    /// Has Gantry brokers store each message once, however often it is tried: what has an unknown outcome is tried at the same broker
    /// again, also while that restarts, and at others only in the last third of the time. RocketMQ's brokers store it as ever. Off
    /// unless set, because a broker that dies then delays the sends that it had; with [`Target::Hash`] and [`Target::Queue`], which
    /// have no other broker, it makes sends survive a restart.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.config.idempotent = idempotent;
        self
    }

    /// Leaves brokers alone for a while that were slow or failed (`sendLatencyFaultEnable`).
    #[must_use]
    pub fn avoid_slow_brokers(mut self, avoid: bool) -> Self {
        self.config.avoid_slow_brokers = avoid;
        self
    }

    /// Compresses bodies of at least so many bytes (`compressType`, `compressMsgBodyOverHowmuch`); with zlib from 4096 bytes on
    /// unless set. Consumers of version 4 know zlib alone.
    #[must_use]
    pub fn compression(mut self, kind: Compression, over_bytes: usize) -> Self {
        self.compression = Some((kind, over_bytes));
        self
    }

    /// Leaves bodies as they are.
    #[must_use]
    pub fn no_compression(mut self) -> Self {
        self.compression = None;
        self
    }

    /// Tells a topic what was sent, for RocketMQ's tools (`enableTrace`; `mqadmin queryMsgTraceById` shows it): `RMQ_SYS_TRACE_TOPIC`,
    /// or another one (`customizedTraceTopic`). The topic must be there, or brokers must make topics by themselves. Traces go in
    /// batches, up to 5 s later; one that cannot be sent is lost, and holds up nothing.
    #[must_use]
    pub fn trace(mut self, topic: Option<&str>) -> Self {
        self.config.trace = Some(trace(topic));
        self
    }

    /// A producer of transactions. Brokers ask `checker` about those whose end they were not told; it finds out from the message what
    /// became of the caller's part, for instance whether the order that the message names is in the database.
    ///
    /// See [`super::TransactionProducer`] for an example.
    pub fn transactional<C, F>(self, checker: C) -> TransactionProducerBuilder
    where
        C: Fn(Received) -> F + Send + Sync + 'static,
        F: Future<Output = Resolution> + Send + 'static,
    {
        TransactionProducerBuilder::new(self, checker)
    }

    /// Starts it. Name servers and brokers are first spoken to by the first send.
    ///
    /// # Errors
    /// [`BuildError`]: a setting that is missing or wrong, or no thread.
    pub async fn build(mut self) -> Result<Producer, BuildError> {
        self.config.group.clone_from(&self.common.group);
        let roles = Roles { producer: Some(self.config), ..Roles::default() };
        let host = Arc::new(Host::start(&self.common, roles).await?);
        Ok(Producer { host, compression: self.compression })
    }
}
