//! What a producer notes for its trace.

use super::{JobId, Producer, Tools, read_receipt};
use crate::client::ClientEvent;
use crate::client::producer::transaction::{Half, Resolution};
use crate::client::route::MASTER_ID;
use crate::client::trace::{Note, Sent};
use crate::io::Disk;
use crate::wire::Command;
use alloc::vec::Vec;

impl Producer {
    /// A broker has stored a job's messages.
    pub(super) fn note_sent<D: Disk>(
        &mut self,
        id: JobId,
        reply: &Command,
        tools: &Tools<'_, '_, D, ClientEvent>,
    ) {
        let (Some(trace), Some(job)) = (&self.config.trace, self.jobs.get(&id)) else { return };
        if job.topic == trace.topic || reply.ext.get("TRACE_ON").as_deref() == Some("false") {
            return;
        }
        let region = reply.ext.get("MSG_REGION");
        let broker = job.queue.as_ref().and_then(|queue| tools.routes.address(&queue.broker_name, MASTER_ID));
        let receipt = read_receipt(&reply.ext);
        let mut places = receipt.iter().flat_map(|receipt| receipt.msg_id.split(','));
        for message in &job.messages {
            self.notes.push(Note::sent(&Sent {
                group: &self.config.group,
                message,
                offset_id: places.next().unwrap_or_default(),
                broker: broker.map_or("", |address| address),
                region: region.as_deref(),
                now: tools.now.wall,
                cost: tools.now.mono.since(job.tried_at),
            }));
        }
    }

    /// A broker is told the end of a transaction.
    pub(super) fn note_ended<D: Disk>(
        &mut self,
        half: &Half,
        resolution: Resolution,
        broker: &str,
        tools: &Tools<'_, '_, D, ClientEvent>,
    ) {
        if self.config.trace.is_some() {
            let message = (half.topic.as_str(), half.message_id());
            let end = (resolution, half.is_checked);
            self.notes.push(Note::ended(tools.now.wall, &self.config.group, message, broker, end));
        }
    }

    /// The notes since the last call of this.
    pub(in crate::client) fn take_notes(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.notes)
    }
}
