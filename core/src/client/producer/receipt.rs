//! What a broker's answer to a send says of each message.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Job, Receipt, SendError, SendStatus};
use crate::client::message::property;
use crate::wire::body::MessageQueue;
use crate::wire::request::{Header, SendMessageReceipt};
use crate::wire::{Command, Ext};

/// One receipt a message.
pub(super) fn receipts(job: &Job, reply: Option<(SendStatus, Command)>) -> Result<Vec<Receipt>, SendError> {
    let queue = job.queue.clone().unwrap_or_default();
    let (status, receipt) = match reply {
        None => (SendStatus::Unacknowledged, None),
        Some((status, reply)) => match read_receipt(&reply.ext) {
            Some(receipt) => (status, Some(receipt)),
            None => {
                let reason = format!("broker {}: its answer lacks fields", queue.broker_name);
                return Err(SendError::Failed { may_be_stored: true, reason });
            }
        },
    };
    let mut offset_ids = receipt.iter().flat_map(|receipt| receipt.msg_id.split(','));
    // Of a batch of which a part was stored before, they do not follow on.
    let apart = receipt.as_ref().and_then(|receipt| receipt.queue_offsets.as_deref());
    let mut apart = apart.unwrap_or_default().split(',').map(|offset| offset.parse::<i64>().ok());
    let ids = job.messages.iter().map(|message| message.property(property::UNIQ_KEY).unwrap_or_default());
    let receipts = ids.zip(0..).map(|(id, place)| Receipt {
        status,
        message_id: id.to_string(),
        offset_id: offset_ids.next().unwrap_or_default().to_string(),
        queue: MessageQueue {
            queue_id: receipt.as_ref().map_or(queue.queue_id, |receipt| receipt.queue_id),
            ..queue.clone()
        },
        queue_offset: match (apart.next().flatten(), &receipt) {
            (Some(offset), _) => offset,
            (None, Some(receipt)) => receipt.queue_offset + place,
            (None, None) => -1,
        },
    });
    Ok(receipts.collect())
}

pub(super) fn read_receipt(ext: &Ext) -> Option<SendMessageReceipt> {
    SendMessageReceipt::decode(ext).ok()
}
