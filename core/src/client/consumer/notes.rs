//! What a consumer notes for its trace.

use super::*;

impl Consumer {
    /// Whether messages of a topic are noted.
    fn is_noted(&self, topic: &str) -> bool {
        self.config.trace.as_ref().is_some_and(|trace| trace.topic != topic)
    }

    /// Joins the two notes about a delivery, and no other.
    fn delivery_name(&self, id: DeliveryId) -> String {
        format!("{}-{:X}-{}", self.client_id, self.sub_version, id.0)
    }

    /// Messages go to the application.
    pub(super) fn note_out(&mut self, id: DeliveryId, messages: &[Arc<Received>], now: Now) {
        let Some(first) = messages.first().filter(|first| self.is_noted(&first.queue.topic)) else { return };
        debug_assert!(messages.iter().all(|message| message.queue == first.queue), "of one queue");
        let name = self.delivery_name(id);
        let note = |message: &Arc<Received>| Note::consuming(now.wall, &self.config.group, &name, message);
        self.notes.extend(messages.iter().filter_map(note));
    }

    /// The application is done with a delivery, or had it for too long.
    pub(super) fn note_settled(&mut self, id: DeliveryId, how: Consumed, now: Now) {
        let Some(out) = self.out.get(&id).filter(|out| self.is_noted(&out.queue.topic)) else { return };
        let Some(lane) = self.lanes.get(&out.queue) else { return };
        let name = self.delivery_name(id);
        let count = u32::try_from(out.offsets.len()).unwrap_or(u32::MAX).max(1);
        let cost = now.mono.since(out.since) / count;
        let held = out.offsets.iter().filter_map(|offset| lane.held(*offset));
        let note = |message: Arc<Received>| {
            Note::consumed(now.wall, &self.config.group, &name, &message, (how, cost))
        };
        let notes: Vec<Note> = held.filter_map(note).collect();
        self.notes.extend(notes);
    }

    /// The notes since the last call of this.
    pub(in super::super) fn take_notes(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.notes)
    }
}
