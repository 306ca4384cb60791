//! [`TransactionProducer`]: messages that consumers see only if the caller's own work has come off.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use gantry_core::client::{
    AUTO_CREATE_TOPIC, ClientCommand, Half, Message, Receipt, Received, Resolution, SendError, SendHalf,
    SendStatus,
};
use gantry_core::wire::code::response_code;
use tokio::sync::{Semaphore, mpsc};

use super::BuildError;
use super::compress::{compress, decompress};
use super::host::{Host, Roles};
use super::producer::{Producer, ProducerBuilder};
use crate::bell::Mailbox;

/// Questions of brokers that wait for the checker (`checkRequestHoldMax`).
const CHECKS_WAITING_MAX: usize = 2000;
/// Questions that the checker works on at once.
const CHECKS_AT_ONCE: usize = 16;

/// Sends messages that are part of the caller's transactions. Cheap to clone.
///
/// A message is stored first as a half message, which no consumer sees; then the caller does its own work; then the message is
/// committed or rolled back. A caller that dies between, or whose word is lost, is asked for it: the broker sends the message to the
/// checker of any producer of the group, which looks up what became of the work. So work and message come off both or neither,
/// as long as the checker answers from what the work itself has stored. Ask it only for what is certain: as long as the work may
/// still end either way, the answer is [`Resolution::Unknown`].
///
/// All producers of the group must be transactional and have the same checker: brokers ask any one of them.
///
#[doc = concat!("```no_run\n", include_str!("../../examples/transaction.rs"), "```")]
#[derive(Clone, Debug)]
pub struct TransactionProducer {
    producer: Producer,
}

/// A half message, and how it ends. Dropped without a word it stays open: the broker asks the checker.
#[must_use = "a transaction that is dropped stays open until the broker asks for its end"]
pub struct Transaction {
    receipt: Receipt,
    half: Half,
    /// Keeps the client running that is to tell its end.
    host: Arc<Host>,
}

/// Makes a [`TransactionProducer`]; see [`ProducerBuilder::transactional`].
pub struct TransactionProducerBuilder {
    producer: ProducerBuilder,
    checker: Checker,
}

type Checker = Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = Resolution> + Send>> + Send + Sync>;

/// Why a transaction could not begin. Nothing is to be done for its message then: it is not stored, or nobody will see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionError {
    /// The half message was not stored, or may not have been; the broker will ask about one that was.
    Send(SendError),
    /// The broker does not serve transactions, or was told not to (`rejectTransactionMessage`): send to one that does, or send an
    /// ordinary message once the work is done, which consumers may then see twice or, if this process dies between, not at all.
    NotServed {
        /// The broker.
        broker: String,
        /// Its words.
        reason: String,
    },
    /// The half message is stored less safely than its broker promises, and was rolled back: try again.
    NotSafe(SendStatus),
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransactionError::Send(error) => error.fmt(f),
            TransactionError::NotServed { broker, reason } => write!(
                f,
                "broker {broker} does not serve transactions ({reason}): send to one that does, or send an ordinary \
                 message once the work is done"
            ),
            TransactionError::NotSafe(status) => {
                write!(f, "the half message is not safe ({status:?}) and was rolled back: try again")
            }
        }
    }
}

impl std::error::Error for TransactionError {}

impl TransactionProducer {
    /// Stores a message that nobody sees yet. Do your work after it, and end it with [`Transaction::commit`] or
    /// [`Transaction::roll_back`].
    ///
    /// Dropped, the half message may be stored and is nobody's: the broker asks the checker about it, as about that of a caller that
    /// died. So the work must not be done then, unless by another transaction whose message the checker can tell from this one.
    ///
    /// # Errors
    /// [`TransactionError`]: the transaction has not begun, and its work should not be done.
    pub async fn begin(&self, mut message: Message) -> Result<Transaction, TransactionError> {
        if let Some((kind, over)) = self.producer.compression {
            compress(&mut message, kind, over);
        }
        let half = |id| ClientCommand::SendHalf(SendHalf { id, message, timeout: None });
        let receipt = self.producer.host.sent(half).await.map_err(refused)?.pop();
        let receipt = receipt.ok_or(TransactionError::Send(SendError::Stopped))?;
        let Some(half) = Half::of(&receipt) else {
            let reason =
                format!("broker {}: it does not say where the half message lies", receipt.queue.broker_name);
            return Err(TransactionError::Send(SendError::Failed { may_be_stored: true, reason }));
        };
        let status = receipt.status;
        let transaction = Transaction { receipt, half, host: Arc::clone(&self.producer.host) };
        if status == SendStatus::Ok {
            return Ok(transaction);
        }
        transaction.roll_back();
        Err(TransactionError::NotSafe(status))
    }

    /// The same producer for ordinary messages.
    pub fn plain(&self) -> &Producer {
        &self.producer
    }

    /// What brokers and tools call this client.
    pub fn client_id(&self) -> &str {
        self.producer.client_id()
    }

    /// See [`Producer::stop`], also for what it means to drop it. Transactions that are not ended stay open, and brokers ask the other
    /// producers of the group.
    pub async fn stop(&self) {
        self.producer.stop().await;
    }
}

/// What a broker says that does not serve transactions.
fn refused(error: SendError) -> TransactionError {
    const CODES: [i32; 2] = [response_code::NO_PERMISSION, response_code::REQUEST_CODE_NOT_SUPPORTED];
    if let SendError::Refused { code, reason, broker } = &error
        && (CODES.contains(code) || reason.contains("TRAN_MSG"))
    {
        return TransactionError::NotServed { broker: broker.clone(), reason: reason.clone() };
    }
    TransactionError::Send(error)
}

impl Transaction {
    /// Lets consumers see the message.
    pub fn commit(self) {
        self.end(Resolution::Commit);
    }

    /// Lets nobody see it.
    pub fn roll_back(self) {
        self.end(Resolution::RollBack);
    }

    /// Ends it so. The broker is told without an answer: should it not hear, it asks the checker.
    pub fn end(self, resolution: Resolution) {
        self.host.mailbox().post(ClientCommand::End(self.half, resolution));
    }

    /// Where the half message lies. Committed, the message gets another place, and keeps [`Receipt::message_id`].
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("receipt", &self.receipt).finish_non_exhaustive()
    }
}

impl fmt::Debug for TransactionProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionProducerBuilder").field("producer", &self.producer).finish_non_exhaustive()
    }
}

impl TransactionProducerBuilder {
    pub(super) fn new<C, F>(mut producer: ProducerBuilder, checker: C) -> TransactionProducerBuilder
    where
        C: Fn(Received) -> F + Send + Sync + 'static,
        F: Future<Output = Resolution> + Send + 'static,
    {
        // Any broker may hold half messages of an earlier process of the group.
        producer.config.topics.push(AUTO_CREATE_TOPIC.to_owned());
        TransactionProducerBuilder { producer, checker: Arc::new(move |message| Box::pin(checker(message))) }
    }

    /// A topic whose brokers are to find this producer at once, with what an earlier process has left open. Without it those
    /// brokers find it that create topics by themselves, and others after the first message to them.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.producer.config.topics.push(topic.into());
        self
    }

    /// Starts it. The checker runs on the async runtime from which this is called, or on a thread of its own if there is none.
    ///
    /// # Errors
    /// [`BuildError`]: a setting that is missing or wrong, or no thread.
    pub async fn build(self) -> Result<TransactionProducer, BuildError> {
        let ProducerBuilder { common, mut config, compression } = self.producer;
        config.group.clone_from(&common.group);
        let (put, checks) = mpsc::channel(CHECKS_WAITING_MAX);
        let roles = Roles { producer: Some(config), checks: Some(put), ..Roles::default() };
        let host = Arc::new(Host::start(&common, roles).await?);
        let work = answer(checks, self.checker, host.mailbox().clone());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(work)),
            Err(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(BuildError::Thread)?;
                let thread = std::thread::Builder::new().name("gantry-checker".into());
                thread.spawn(move || runtime.block_on(work)).map_err(BuildError::Thread)?;
            }
        }
        Ok(TransactionProducer { producer: Producer { host, compression } })
    }
}

/// Asks the checker, until the client has ended. One that panics has given no answer, and is asked again.
async fn answer(
    mut checks: mpsc::Receiver<(Half, Received)>,
    checker: Checker,
    mailbox: Mailbox<ClientCommand>,
) {
    let turns = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
    while let Some((half, mut message)) = checks.recv().await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (checker, mailbox) = (Arc::clone(&checker), mailbox.clone());
        tokio::spawn(async move {
            decompress(&mut message);
            let resolution = checker(message).await;
            mailbox.post(ClientCommand::End(half, resolution));
            drop(turn);
        });
    }
}
