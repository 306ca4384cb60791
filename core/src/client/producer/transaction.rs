//! Transactions: half messages, which no consumer sees until their producer has ended them.
//!
//! A half message is an ordinary send that is marked as prepared. Its end is told to its broker oneway, as RocketMQ's clients do:
//! what is lost on the way, or never told, the broker asks about later ([`ClientEvent::Checking`]), and it may ask any client that
//! its heartbeats name as one of the group. So nothing about a transaction is kept here.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Producer, Send, Target, Tools, is_delayed};
use crate::client::message::{Message, MessageError, Received, property, read_one};
use crate::client::route::MASTER_ID;
use crate::client::{ClientEvent, Receipt, RequestId, SendError};
use crate::io::{Disk, Effect, Env};
use crate::time::Duration;
use crate::wire::Command;
use crate::wire::body::MessageQueue;
use crate::wire::code::request_code;
use crate::wire::message::{decode_offset_message_id, sys_flag};
use crate::wire::request::{CheckTransactionStateRequest, EndTransactionRequest, Header};

/// A half message to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendHalf {
    /// Comes back with the result, a [`ClientEvent::Sent`].
    pub id: RequestId,
    /// What.
    pub message: Message,
    /// In place of [`super::ProducerConfig::timeout`].
    pub timeout: Option<Duration>,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// Consumers are to see the message.
    Commit,
    /// Nobody is to see it.
    RollBack,
    /// Not known yet: the broker asks again, and gives the message up when it has asked often enough (`transactionCheckMax`).
    Unknown,
}

/// A half message that lies at a broker, by which its end is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Half {
    pub(super) topic: String,
    keeper: Keeper,
    queue_offset: i64,
    physical_offset: i64,
    message_id: String,
    transaction_id: Option<String>,
    pub(super) is_checked: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Keeper {
    /// The master of this name.
    Named(String),
    /// Who asked.
    At(Arc<str>),
}

impl Half {
    /// The half message of this receipt; `None` when its broker did not say where it lies.
    pub fn of(receipt: &Receipt) -> Option<Half> {
        let (_, physical_offset) = decode_offset_message_id(&receipt.offset_id)?;
        Some(Half {
            topic: receipt.queue.topic.clone(),
            keeper: Keeper::Named(receipt.queue.broker_name.clone()),
            queue_offset: receipt.queue_offset,
            physical_offset,
            message_id: receipt.message_id.clone(),
            transaction_id: Some(receipt.message_id.clone()),
            is_checked: false,
        })
    }

    /// The id that its producer gave the message.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    fn end(&self, group: &str, resolution: Resolution) -> Command {
        let header = EndTransactionRequest {
            topic: Some(self.topic.clone()),
            producer_group: group.to_string(),
            tran_state_table_offset: self.queue_offset,
            commit_log_offset: self.physical_offset,
            commit_or_rollback: match resolution {
                Resolution::Commit => sys_flag::TRANSACTION_COMMIT,
                Resolution::RollBack => sys_flag::TRANSACTION_ROLLBACK,
                Resolution::Unknown => 0,
            },
            from_transaction_check: Some(self.is_checked),
            msg_id: self.message_id.clone(),
            transaction_id: self.transaction_id.clone(),
        };
        Command::request(request_code::END_TRANSACTION, header.to_ext())
    }
}

impl Producer {
    /// Takes a half message.
    pub(in crate::client) fn on_send_half<D: Disk>(
        &mut self,
        half: SendHalf,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) {
        let SendHalf { id, message, timeout } = half;
        if is_delayed(&message) {
            return self.tell(id, Err(SendError::Message(MessageError::DelayedHalf)), tools.env);
        }
        let mut message = message
            .with_property(property::TRANSACTION_PREPARED, "true")
            .with_property(property::PRODUCER_GROUP, self.config.group.as_str());
        message.sys_flag |= sys_flag::TRANSACTION_PREPARED;
        let messages = Vec::from([message]);
        self.on_send(Send { id, messages, target: Target::RoundRobin, oneway: false, timeout }, tools);
    }

    /// The end of a transaction, or that it is not known.
    pub(in crate::client) fn on_end<D: Disk>(
        &mut self,
        half: &Half,
        resolution: Resolution,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) {
        let address = match &half.keeper {
            Keeper::Named(broker) => tools.routes.address(broker, MASTER_ID).cloned(),
            Keeper::At(address) => Some(address.clone()),
        };
        match address {
            Some(address) => {
                let command = half.end(&self.config.group, resolution);
                tools.calls.tell(tools.now, &address, command, tools.env);
                self.note_ended(half, resolution, &address, tools);
            }
            None => {
                let problem = format!(
                    "the broker of half message {} is in no route: it is not told {resolution:?}, and will ask",
                    half.message_id
                );
                tools.env.out.push(Effect::Emit(ClientEvent::Problem(problem)));
            }
        }
    }

    /// A broker asks how a transaction ended. What concerns another group is not answered, as there may be a client that knows.
    pub(in crate::client) fn on_check<D>(
        &mut self,
        asker: &Arc<str>,
        command: &Command,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let Ok(header) = command.header::<CheckTransactionStateRequest>() else { return };
        let Ok(message) = read_one(&command.body, &MessageQueue::default()) else { return };
        let is_ours = message.property(property::PRODUCER_GROUP) == Some(self.config.group.as_str());
        if !is_ours || self.is_stopped {
            return;
        }
        let queue = MessageQueue::new(message.topic.as_str(), "", message.queue.queue_id);
        let message = Received { queue, ..message };
        let half = Half {
            topic: header.topic.unwrap_or_else(|| message.topic.clone()),
            keeper: Keeper::At(asker.clone()),
            queue_offset: header.tran_state_table_offset,
            physical_offset: header.commit_log_offset,
            message_id: message.id(),
            transaction_id: header.transaction_id,
            is_checked: true,
        };
        env.out.push(Effect::Emit(ClientEvent::Checking { half, message }));
    }
}
