//! [`PullConsumer`]: for who divides the queues himself and keeps his own offsets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::client::{AskError, Filter, Found, Pull, Pulled, Question};
use gantry_core::wire::body::MessageQueue;

use super::BuildError;
use super::compress::decompress;
use super::host::{Common, Host, Roles};

/// Messages of a pull unless said otherwise (`pullBatchSize`).
const MESSAGES_MAX: i32 = 32;

/// Asks for queues, offsets and messages, one by one. Cheap to clone. A question whose future is dropped has changed nothing;
/// [`PullConsumer::commit`] alone changes something.
///
#[doc = concat!("```no_run\n", include_str!("../../examples/pull.rs"), "```")]
#[derive(Clone)]
pub struct PullConsumer {
    host: Arc<Host>,
    group: String,
    messages_max: i32,
}

impl fmt::Debug for PullConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullConsumer").field("client_id", &self.host.client_id()).finish_non_exhaustive()
    }
}

/// Makes a [`PullConsumer`].
#[derive(Clone, Debug, Default)]
pub struct PullConsumerBuilder {
    common: Common,
    messages_max: Option<i32>,
}

impl PullConsumer {
    /// Begins to make one.
    pub fn builder() -> PullConsumerBuilder {
        PullConsumerBuilder::default()
    }

    /// The queues of a topic that may be read, sorted.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, AskError> {
        match self.host.find(Question::ReadableQueues(topic.to_owned())).await? {
            Found::Queues(queues) => Ok(queues),
            Found::Offset(_) | Found::Committed | Found::Pulled(_) => Err(AskError::Stopped),
        }
    }

    /// The oldest offset of a queue.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, AskError> {
        self.offset(Question::MinOffset(queue.clone())).await.map(Option::unwrap_or_default)
    }

    /// One past the newest offset of a queue.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, AskError> {
        self.offset(Question::MaxOffset(queue.clone())).await.map(Option::unwrap_or_default)
    }

    /// The first offset stored at this time or later, ms since the epoch.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn offset_at(&self, queue: &MessageQueue, time_ms: i64) -> Result<i64, AskError> {
        self.offset(Question::OffsetAt(queue.clone(), time_ms)).await.map(Option::unwrap_or_default)
    }

    /// What the group has committed of a queue; `None` when nothing.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<i64>, AskError> {
        self.offset(Question::Committed(self.group.clone(), queue.clone())).await
    }

    /// Commits the next offset to consume for the group, of which this client becomes a member: one whose other members share
    /// queues would leave it a share.
    ///
    /// Dropped, it is committed all the same, unless the broker cannot be reached: [`PullConsumer::committed`] tells.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn commit(&self, queue: &MessageQueue, offset: i64) -> Result<(), AskError> {
        self.host.find(Question::Commit(self.group.clone(), queue.clone(), offset)).await.map(drop)
    }

    /// Messages of a queue from `offset` on with one of these tags (`a || b`, `*` for all). The broker may wait so long for one.
    ///
    /// Dropped, nothing is lost: the next pull from the same offset gives the same. The broker goes on waiting to the end of the time.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        offset: i64,
        tags: &str,
        wait: Duration,
    ) -> Result<Pulled, AskError> {
        self.pull_by(queue, offset, Filter::Tags(tags.to_owned()), wait).await
    }

    /// The same with any filter. The broker must serve expressions.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn pull_by(
        &self,
        queue: &MessageQueue,
        offset: i64,
        filter: Filter,
        wait: Duration,
    ) -> Result<Pulled, AskError> {
        let pull = Pull {
            group: self.group.clone(),
            queue: queue.clone(),
            offset,
            messages_max: self.messages_max,
            filter,
            wait,
        };
        match self.host.find(Question::Pull(pull)).await? {
            Found::Pulled(mut pulled) => {
                pulled.messages.iter_mut().for_each(decompress);
                Ok(pulled)
            }
            Found::Queues(_) | Found::Offset(_) | Found::Committed => Err(AskError::Stopped),
        }
    }

    async fn offset(&self, question: Question) -> Result<Option<i64>, AskError> {
        match self.host.find(question).await? {
            Found::Offset(offset) => Ok(offset),
            Found::Queues(_) | Found::Committed | Found::Pulled(_) => Err(AskError::Stopped),
        }
    }

    /// Ends what is under way. Dropping the last clone does the same in the background, and so does a future that is dropped.
    pub async fn stop(&self) {
        self.host.stop().await;
    }
}

impl PullConsumerBuilder {
    /// The group whose offsets are read and committed. Must be set.
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

    /// Messages of a pull at most; 32 unless set. Brokers have bounds of their own.
    #[must_use]
    pub fn messages_max(mut self, count: i32) -> Self {
        self.messages_max = Some(count);
        self
    }

    /// Starts it. Name servers and brokers are first spoken to by the first question.
    ///
    /// # Errors
    /// [`BuildError`]: a setting that is missing or wrong, or no thread.
    pub async fn build(self) -> Result<PullConsumer, BuildError> {
        let group = self.common.group.clone();
        let host = Arc::new(Host::start(&self.common, Roles::default()).await?);
        Ok(PullConsumer { host, group, messages_max: self.messages_max.unwrap_or(MESSAGES_MAX) })
    }
}
