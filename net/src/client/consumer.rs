//! [`Consumer`]: messages of a group, one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_core::client::{
    AskError, ClientCommand, ClientEvent, ConsumeError, ConsumerConfig, DeliveryId, Filter, Found, Question,
    Received, Start, Strategy, Verdict,
};
use gantry_core::wire::body::{MessageModel, MessageQueue};
use tokio::sync::{mpsc, watch};

use super::BuildError;
use super::compress::decompress_shared;
use super::host::{Common, Host, Roles, trace};
use super::offsets::OffsetStore;
use crate::bell::Mailbox;

/// Messages handed out and not acknowledged, unless said otherwise. RocketMQ's 20 are threads; tasks are cheaper.
const IN_FLIGHT_MAX: usize = 256;

/// Consumes messages as a member of a group. It is a [`futures_core::Stream`] too.
///
/// Each message is to be acknowledged ([`Incoming::ack`]); one that is dropped comes again, after a while, to this member or
/// another. So a task that panics or is cancelled loses nothing. `recv`, and whatever a combinator makes of the stream (`next`),
/// may be dropped at any time: the message that it would have given is given by the next one. What a combinator has taken and holds
/// (`buffered`, `chunks`) is dropped with it, and comes again.
///
#[doc = concat!("```no_run\n", include_str!("../../examples/consume.rs"), "```")]
pub struct Consumer {
    host: Arc<Host>,
    group: String,
    messages: mpsc::UnboundedReceiver<Result<Incoming, ConsumeError>>,
    assigned: watch::Receiver<Assigned>,
}

/// The queues of a [`Consumer`], each time that they change.
#[derive(Clone, Debug)]
pub struct Assignments {
    assigned: watch::Receiver<Assigned>,
}

impl Assignments {
    /// The queues, by topic, once they are others than those that this told last; at first, once there are any. `None` when the
    /// consumer has stopped. It may be cancelled at any time.
    pub async fn changed(&mut self) -> Option<BTreeMap<String, Vec<MessageQueue>>> {
        self.assigned.changed().await.ok()?;
        Some(self.assigned.borrow_and_update().clone())
    }
}

type Assigned = BTreeMap<String, Vec<MessageQueue>>;

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("client_id", &self.host.client_id()).finish_non_exhaustive()
    }
}

/// A message that is to be acknowledged. Dropped without, it comes again as after [`Incoming::retry_later`] with 0.
pub struct Incoming {
    message: Arc<Received>,
    id: DeliveryId,
    mailbox: Mailbox<ClientCommand>,
    verdict: Verdict,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

impl Deref for Incoming {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.message
    }
}

impl Incoming {
    /// It is done, and does not come again.
    pub fn ack(mut self) {
        self.verdict = Verdict::Consumed;
    }

    /// It is to come again, to any member of the group: after the delay of this level (1 to 18), or at 0 at the broker's choice,
    /// later from time to time. After its last try it goes to the dead-letter queue. An ordered queue pauses and goes on with it;
    /// a broadcast has no second try.
    pub fn retry_later(mut self, delay_level: u8) {
        self.verdict = Verdict::Later(delay_level.into());
    }

    /// No try will help: it goes to the group's dead-letter queue at once, and an ordered queue goes on behind it. A broadcast has no
    /// dead-letter queue, and is done with it. Should its broker not take it back, it comes again here.
    pub fn reject(mut self) {
        self.verdict = Verdict::Reject;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.mailbox.post(ClientCommand::Settle(self.id, self.verdict));
    }
}

/// The client thread's end of a consumer.
pub(super) struct Intake {
    messages: mpsc::UnboundedSender<Result<Incoming, ConsumeError>>,
    assigned: watch::Sender<Assigned>,
    waits_for_topics: bool,
    pub(super) offset_dir: Option<PathBuf>,
    pub(super) store: Option<OffsetStore>,
}

impl Intake {
    /// Takes what a machine tells about its consumer.
    pub(super) fn take(&self, event: ClientEvent, mailbox: &Mailbox<ClientCommand>) {
        match event {
            ClientEvent::Delivered(delivery) => {
                // One message a delivery, so that each has its own verdict.
                for mut message in delivery.messages {
                    decompress_shared(&mut message);
                    let (mailbox, verdict) = (mailbox.clone(), Verdict::Later(0));
                    let incoming = Incoming { message, id: delivery.id, mailbox, verdict };
                    // Nobody takes it when the consumer is gone; the machine is about to stop.
                    let _ = self.messages.send(Ok(incoming));
                }
            }
            ClientEvent::Assigned { topic, queues } => {
                self.assigned.send_modify(|assigned| drop(assigned.insert(topic, queues)));
            }
            ClientEvent::Progress(offsets) => {
                if let Some(store) = &self.store {
                    store.save(&offsets);
                }
            }
            ClientEvent::Failing(error) => {
                tracing::warn!(%error, "the consumer cannot do its work");
                let is_awaited =
                    matches!(error, ConsumeError::UnknownTopic(_) | ConsumeError::NoNameServer(_));
                if !(is_awaited && self.waits_for_topics) {
                    let _ = self.messages.send(Err(error));
                }
            }
            ClientEvent::Sent { .. }
            | ClientEvent::Queues { .. }
            | ClientEvent::Replied { .. }
            | ClientEvent::Answered { .. }
            | ClientEvent::Checking { .. }
            | ClientEvent::Problem(_)
            | ClientEvent::Stopped => {}
        }
    }
}

/// Makes a [`Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {
    common: Common,
    config: ConsumerConfig,
    waits_for_topics: bool,
    offset_dir: Option<PathBuf>,
}

impl Consumer {
    /// Begins to make one.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder {
            common: Common::default(),
            config: ConsumerConfig { deliveries_max: IN_FLIGHT_MAX, ..ConsumerConfig::new("") },
            waits_for_topics: true,
            offset_dir: None,
        }
    }

    /// The next message. Of one queue they come in order; with [`ConsumerBuilder::orderly`] the next one of a queue comes when the
    /// one before is acknowledged.
    ///
    /// Dropped, it has taken nothing.
    ///
    /// # Errors
    /// [`ConsumeError::Stopped`] at the end. After any other error it goes on: somebody must act, but need not call again.
    pub async fn recv(&mut self) -> Result<Incoming, ConsumeError> {
        self.messages.recv().await.unwrap_or(Err(ConsumeError::Stopped))
    }

    /// The queues that are this member's now, by topic.
    pub fn assigned(&self) -> BTreeMap<String, Vec<MessageQueue>> {
        self.assigned.borrow().clone()
    }

    /// Its id, by which brokers and tools know it.
    pub fn client_id(&self) -> &str {
        self.host.client_id()
    }

    /// Consumes these queues from now on, of a consumer that was built with [`ConsumerBuilder::assign`], and of its topics.
    pub fn assign(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        self.host.mailbox().post(ClientCommand::Assign(queues.into_iter().collect()));
    }

    /// Goes on at this offset of one of its queues. Messages of it that were taken before may still come, and their
    /// acknowledgement counts no more.
    pub fn seek(&self, queue: &MessageQueue, offset: i64) {
        self.host.mailbox().post(ClientCommand::Seek(queue.clone(), offset));
    }

    /// Goes on at the oldest message of one of its queues.
    ///
    /// # Errors
    /// [`AskError`]: where that is cannot be found out; nothing is moved then.
    pub async fn seek_to_begin(&self, queue: &MessageQueue) -> Result<(), AskError> {
        self.seek_to(queue, Question::MinOffset(queue.clone())).await
    }

    /// Goes on behind the newest message of one of its queues.
    ///
    /// # Errors
    /// [`AskError`]: where that is cannot be found out; nothing is moved then.
    pub async fn seek_to_end(&self, queue: &MessageQueue) -> Result<(), AskError> {
        self.seek_to(queue, Question::MaxOffset(queue.clone())).await
    }

    async fn seek_to(&self, queue: &MessageQueue, place: Question) -> Result<(), AskError> {
        if let Found::Offset(Some(offset)) = self.host.find(place).await? {
            self.seek(queue, offset);
        }
        Ok(())
    }

    /// Nothing more is pulled or handed over of these queues, until they are resumed or go to another member. What was handed over
    /// before, up to [`ConsumerBuilder::in_flight_max`] messages, still comes.
    pub fn pause(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        self.host.mailbox().post(ClientCommand::Pause(queues.into_iter().collect()));
    }

    /// Goes on with queues that were paused.
    pub fn resume(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        self.host.mailbox().post(ClientCommand::Resume(queues.into_iter().collect()));
    }

    /// Goes on with a topic at its first messages that were stored at this time or later, ms since the epoch: in the queues that are
    /// this member's now. (Those of other members are theirs to move; `mqadmin resetOffsetByTime` moves a whole group.)
    ///
    /// Dropped, nothing is moved: the queues move together, when all places are found.
    ///
    /// # Errors
    /// [`AskError`]: where that is in some queue cannot be found out; nothing is moved then.
    pub async fn seek_to_time(&self, topic: &str, time_ms: i64) -> Result<(), AskError> {
        let mut places = Vec::new();
        for queue in self.assigned().remove(topic).unwrap_or_default() {
            if let Found::Offset(Some(offset)) =
                self.host.find(Question::OffsetAt(queue.clone(), time_ms)).await?
            {
                places.push((queue, offset));
            }
        }
        places.iter().for_each(|(queue, offset)| self.seek(queue, *offset));
        Ok(())
    }

    /// Commits what is acknowledged at once, and not only every 5 s or, without [`ConsumerBuilder::auto_commit`], never.
    pub fn commit(&self) {
        self.host.mailbox().post(ClientCommand::Commit);
    }

    /// Commits these offsets, each the next one to consume of its queue, whatever is acknowledged: the group goes on there after a
    /// restart. With [`ConsumerBuilder::auto_commit`] the next commit of what is acknowledged takes their place.
    ///
    /// # Errors
    /// [`AskError`]: those before the one that fails are committed.
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (MessageQueue, i64)>,
    ) -> Result<(), AskError> {
        for (queue, offset) in offsets {
            self.host.find(Question::Commit(self.group.clone(), queue, offset)).await?;
        }
        Ok(())
    }

    /// What the group, or this client of a broadcast, has committed of a queue; `None` when nothing.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<i64>, AskError> {
        match self.host.find(Question::Committed(self.group.clone(), queue.clone())).await? {
            Found::Offset(offset) => Ok(offset),
            Found::Queues(_) | Found::Committed | Found::Pulled(_) => Err(AskError::Stopped),
        }
    }

    /// Tells when other queues become this member's, while `recv` is waited for elsewhere.
    pub fn assignments(&self) -> Assignments {
        Assignments { assigned: self.assigned.clone() }
    }

    /// Commits what is acknowledged, gives all queues back to the group at once, and returns when the brokers have been told.
    /// Messages that are not acknowledged come again to others. Dropping the consumer does the same in the background.
    ///
    /// Dropped, the consumer stops all the same. `recv` may still give what had been taken for it, and then says that it is stopped; such
    /// messages come again to others, acknowledged or not.
    pub async fn stop(&mut self) {
        self.host.stop().await;
        self.messages.close();
        while self.messages.try_recv().is_ok() {}
    }
}

impl futures_core::Stream for Consumer {
    type Item = Result<Incoming, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_recv(context)
    }
}

impl ConsumerBuilder {
    /// The consumer group. Must be set.
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

    /// The second half of the client id, in place of process id and time (`DEFAULT` when broadcasting; else that name
    /// stands for none, as in RocketMQ). Two members of a group on
    /// one machine must differ in it.
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

    /// Subscribes to a topic: to messages with one of these tags (`a || b`), or to all (`*`). May be called for several topics; all
    /// members of a group must subscribe to the same.
    #[must_use]
    pub fn subscribe(self, topic: impl Into<String>, tags: impl Into<String>) -> Self {
        self.subscribe_by(topic, Filter::Tags(tags.into()))
    }

    /// The same with any filter.
    #[must_use]
    pub fn subscribe_by(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        let topic = topic.into();
        self.config.subscriptions.retain(|(known, _)| *known != topic);
        self.config.subscriptions.push((topic, filter));
        self
    }

    /// Consumes these queues, and no share of the group's (RocketMQ's lite pull with `assign`). Their topics must be subscribed to;
    /// the group must have no members that share. [`super::PullConsumer::queues`] tells the queues.
    ///
    #[doc = concat!("```no_run\n", include_str!("../../examples/lite_pull.rs"), "```")]
    #[must_use]
    pub fn assign(mut self, queues: impl IntoIterator<Item = MessageQueue>) -> Self {
        self.config.assigned = Some(queues.into_iter().collect());
        self
    }

    /// Where the group begins that has no offset yet; behind what is there unless set.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.config.start = start;
        self
    }

    /// Each client gets all messages, and keeps itself how far it has come.
    #[must_use]
    pub fn broadcasting(mut self) -> Self {
        self.config.model = MessageModel::Broadcasting;
        self
    }

    /// Where a broadcasting client keeps how far it has come, in place of `~/.rocketmq_offsets`.
    #[must_use]
    pub fn offset_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.offset_dir = Some(dir.into());
        self
    }

    /// One message of a queue at a time, in order, and no queue with two members at once (by the brokers' locks).
    ///
    #[doc = concat!("```no_run\n", include_str!("../../examples/ordered.rs"), "```")]
    #[must_use]
    pub fn orderly(mut self) -> Self {
        self.config.orderly = true;
        self
    }

    /// How many messages may be handed out and not acknowledged; 256 unless set.
    #[must_use]
    pub fn in_flight_max(mut self, count: usize) -> Self {
        self.config.deliveries_max = count.max(1);
        self
    }

    /// How much of a queue may be here: messages (`pullThresholdForQueue`, 1000) and bytes (`pullThresholdSizeForQueue`, 100 MiB).
    #[must_use]
    pub fn queue_max(mut self, messages: usize, bytes: usize) -> Self {
        self.config.queue_messages_max = messages;
        self.config.queue_bytes_max = bytes;
        self
    }

    /// A queue is not pulled while the oldest of its messages here and the next one to pull are further apart than this
    /// (`consumeConcurrentlyMaxSpan`, 2000): one message that takes long then does not let much be consumed twice after a crash. Not
    /// when orderly.
    #[must_use]
    pub fn queue_span_max(mut self, offsets: i64) -> Self {
        self.config.queue_span_max = offsets;
        self
    }

    /// Whether what is acknowledged is committed by itself, every 5 s and when a queue is given back (unless set); else only by
    /// [`Consumer::commit`] and [`Consumer::commit_offsets`], and what was not committed comes again.
    #[must_use]
    pub fn auto_commit(mut self, commit: bool) -> Self {
        self.config.auto_commit = commit;
        self
    }

    /// Messages of a pull at most (`pullBatchSize`); 32 unless set.
    #[must_use]
    pub fn pull_messages_max(mut self, count: i32) -> Self {
        self.config.pull_messages_max = count;
        self
    }

    /// Tries of a message before it goes to the dead-letter queue (`maxReconsumeTimes`); 16 unless set, without end when orderly.
    #[must_use]
    pub fn reconsume_max(mut self, count: i32) -> Self {
        self.config.reconsume_max = Some(count);
        self
    }

    /// A message that is not acknowledged for so long comes again (`consumeTimeout`); 15 min unless set; not when orderly.
    #[must_use]
    pub fn consume_timeout(mut self, timeout: Duration) -> Self {
        self.config.consume_timeout = timeout;
        self
    }

    /// Tells a topic what was consumed, for RocketMQ's tools (`enableTrace`; `mqadmin queryMsgTraceById` shows it): `RMQ_SYS_TRACE_TOPIC`,
    /// or another one (`customizedTraceTopic`). The topic must be there, or brokers must make topics by themselves. Traces go in
    /// batches, up to 5 s later; one that cannot be sent is lost, and holds up nothing.
    #[must_use]
    pub fn trace(mut self, topic: Option<&str>) -> Self {
        self.config.trace = Some(trace(topic));
        self
    }

    /// How the queues are divided; all members must say the same. Averagely unless set.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.config.strategy = strategy;
        self
    }

    /// Whether a topic that is not there, or a name server that does not answer, is waited for (unless set, and said in the log), or
    /// is an error of `recv`.
    #[must_use]
    pub fn wait_for_topics(mut self, wait: bool) -> Self {
        self.waits_for_topics = wait;
        self
    }

    /// Starts it. It joins its group in the background.
    ///
    /// # Errors
    /// [`BuildError`]: a setting that is missing or wrong, stored offsets that cannot be read, or no thread.
    pub async fn build(mut self) -> Result<Consumer, BuildError> {
        if self.config.subscriptions.is_empty() {
            return Err(BuildError::NoSubscription);
        }
        self.config.group.clone_from(&self.common.group);
        let (put, messages) = mpsc::unbounded_channel();
        let (tell, assigned) = watch::channel(Assigned::new());
        let intake = Intake {
            messages: put,
            assigned: tell,
            waits_for_topics: self.waits_for_topics,
            offset_dir: self.offset_dir,
            store: None,
        };
        let roles = Roles { consumer: Some((self.config, intake)), ..Roles::default() };
        let host = Arc::new(Host::start(&self.common, roles).await?);
        Ok(Consumer { host, group: self.common.group, messages, assigned })
    }
}
