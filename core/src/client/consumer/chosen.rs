//! Queues that the host chooses in place of the group, and places in them.
//!
//! Such a client shares nothing: it commits for its group, and what is to come again comes again here.

use super::*;

/// What is to come again comes again after so long.
const AGAIN: Duration = Duration::from_secs(1);

impl Consumer {
    /// Whether the host chooses the queues.
    pub(super) fn is_chosen(&self) -> bool {
        self.config.assigned.is_some()
    }

    /// Whether queues are consumed under the brokers' locks.
    pub(super) fn needs_lock(&self) -> bool {
        self.config.orderly && self.is_clustering() && !self.is_chosen()
    }

    /// The host chooses other queues; what it chose before, and was not told about their topics, stays as it was.
    pub(in super::super) fn on_assign(&mut self, queues: Vec<MessageQueue>, now: Instant) {
        if self.is_chosen() {
            self.config.assigned = Some(queues.into_iter().collect());
            self.rebalance_soon(now);
        }
    }

    /// Takes the chosen queues, and gives those back that are no longer among them.
    pub(super) fn take_chosen<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        let chosen = self.config.assigned.clone().unwrap_or_default();
        self.rebalance_at = tools.now.mono + REBALANCE;
        for (topic, _) in self.topics() {
            let share = chosen.iter().filter(|queue| queue.topic == topic).cloned().collect();
            self.assign(&topic, share, tools);
        }
    }

    /// Goes on at this offset of a queue; what was handed out of it counts no more.
    pub(in super::super) fn on_seek<D: Disk>(
        &mut self,
        queue: &MessageQueue,
        offset: i64,
        tools: &mut Tools<'_, '_, D>,
    ) {
        self.take_chosen_now(tools);
        self.go_on_at(queue, offset, tools);
        self.commit_by_itself(queue, tools);
    }

    /// What was chosen since the last turn counts already.
    fn take_chosen_now<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if self.is_chosen() && self.rebalance_at <= tools.now.mono {
            self.take_chosen(tools);
        }
    }

    /// Nothing of these queues is wanted until they are resumed; of those that are not this member's nothing is kept.
    pub(in super::super) fn on_pause<D: Disk>(
        &mut self,
        queues: Vec<MessageQueue>,
        tools: &mut Tools<'_, '_, D>,
    ) {
        self.take_chosen_now(tools);
        self.paused.extend(queues.into_iter().filter(|queue| self.lanes.contains_key(queue)));
    }

    /// These queues are wanted again.
    pub(in super::super) fn on_resume(&mut self, queues: &[MessageQueue]) {
        self.paused.retain(|queue| !queues.contains(queue));
    }

    /// Begins anew at this offset of a queue of this member. Who asked for it sees to the commit.
    pub(super) fn go_on_at<D: Disk>(
        &mut self,
        queue: &MessageQueue,
        offset: i64,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let Some(lane) = self.lanes.get_mut(queue) else { return };
        let locked_until = lane.locked_until;
        self.next_life += 1;
        *lane = Lane::new(self.next_life, tools.now.mono);
        lane.locked_until = locked_until;
        lane.begin(offset);
        // Whoever puts a group elsewhere need not wait for what the application has from before, ordered or not.
        self.out.retain(|_, out| out.queue != *queue);
    }

    /// A message of a chosen queue is to come again.
    pub(super) fn come_again(lane: &mut Lane, offset: i64, now: Instant) {
        lane.park(offset, now + AGAIN);
    }
}
