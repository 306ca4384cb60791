//! What becomes of deliveries: done, sent back for another try, or to the dead-letter queue.

use super::*;

/// A message that could not be sent back is consumed again here after so long.
const PARK: Duration = Duration::from_secs(5);
/// An ordered queue pauses so long after a failure (`suspendCurrentQueueTimeMillis`).
const ORDER_PAUSE: Duration = Duration::from_secs(1);
/// The level of messages that took longer than [`ConsumerConfig::consume_timeout`].
const TIMEOUT_LEVEL: i32 = 3;
/// The level that means the dead-letter queue.
const DEAD_LETTER_LEVEL: i32 = -1;

/// What became of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its messages are done.
    Consumed,
    /// They are to come again: at this delay level; at 0, at the broker's choice, longer from time to time. An ordered queue
    /// pauses and goes on with them.
    Later(i32),
    /// No try will help: they go to the dead-letter queue at once. A broadcast has none, and is done with them.
    Reject,
}

impl Consumer {
    /// The host says what became of a delivery; of one that is no longer known, nothing is done.
    pub(in super::super) fn on_settled<D: Disk>(
        &mut self,
        id: DeliveryId,
        verdict: Verdict,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let how = match verdict {
            Verdict::Consumed => Consumed::Done,
            Verdict::Later(_) | Verdict::Reject => Consumed::Later,
        };
        self.note_settled(id, how, tools.now);
        self.end_delivery(id, verdict, tools);
    }

    fn end_delivery<D: Disk>(&mut self, id: DeliveryId, verdict: Verdict, tools: &mut Tools<'_, '_, D>) {
        if let Some(queue) = self.leaving.remove(&id)
            && self.needs_lock()
            && !self.lanes.contains_key(&queue)
            && !self.is_held(&queue)
        {
            self.unlock(&queue, tools);
        }
        if self.answer_direct(id, verdict, tools) {
            return;
        }
        let Some(out) = self.out.remove(&id) else {
            Probe::SettledLate.reached();
            return;
        };
        let now = tools.now.mono;
        let (is_clustering, is_chosen) = (self.is_clustering(), self.is_chosen());
        let Some(lane) = self.lanes.get_mut(&out.queue) else { return };
        let (life, mut back) = (lane.life, Vec::new());
        for offset in out.offsets {
            match verdict {
                Verdict::Consumed => lane.done(offset),
                // Who gets all messages by itself gets none of them twice.
                Verdict::Later(_) | Verdict::Reject if !is_clustering => lane.done(offset),
                Verdict::Later(_) if is_chosen && !self.config.orderly => {
                    Consumer::come_again(lane, offset, now);
                }
                Verdict::Later(_) if self.config.orderly => {
                    let tries = lane.again(offset);
                    lane.paused_until = now + ORDER_PAUSE;
                    if self.config.reconsume_max.is_some_and(|max| tries > max) {
                        back.extend(lane.handed(offset).map(|message| (message, DEAD_LETTER_LEVEL)));
                    }
                }
                // An ordered queue waits for the broker to have it.
                Verdict::Reject => {
                    back.extend(lane.held(offset).map(|message| (message, DEAD_LETTER_LEVEL)));
                }
                Verdict::Later(level) => {
                    back.extend(lane.held(offset).map(|message| (message, level)));
                }
            }
        }
        for (message, level) in back {
            self.send_back(&message, level, life, tools);
        }
    }

    fn send_back<D: Disk>(
        &mut self,
        message: &Received,
        level: i32,
        life: u64,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let queue = message.queue.clone();
        let offset = message.queue_offset;
        let Some(address) = tools.routes.address(&queue.broker_name, MASTER_ID).cloned() else {
            if let Some(lane) = self.lanes.get_mut(&queue) {
                lane.park(offset, tools.now.mono + PARK);
            }
            return;
        };
        let header = ConsumerSendMsgBackRequest {
            offset: message.physical_offset,
            group: self.config.group.clone(),
            delay_level: level,
            origin_msg_id: Some(message.id()),
            origin_topic: Some(queue.topic.clone()),
            unit_mode: Some(false),
            max_reconsume_times: self.config.reconsume_max,
        };
        let command = Command::request(request_code::CONSUMER_SEND_MSG_BACK, header.to_ext());
        tools.call(&address, command, ANSWER, Errand::Back(queue, offset, life));
    }

    /// The broker took a message back, or did not.
    pub(super) fn on_back(
        &mut self,
        queue: &MessageQueue,
        offset: i64,
        life: u64,
        outcome: &Outcome,
        now: Instant,
    ) {
        let is_back = matches!(outcome, Outcome::Reply(reply) if reply.code == response_code::SUCCESS);
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.life == life) else { return };
        if is_back {
            lane.done(offset);
        } else {
            Probe::BackNotTaken.reached();
            lane.park(offset, now + PARK);
        }
    }

    /// Sends back what took the application too long.
    pub(super) fn time_out<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if self.config.orderly {
            return;
        }
        let now = tools.now.mono;
        let late = self.out.iter().filter(|(_, out)| now.since(out.since) >= self.config.consume_timeout);
        let late: Vec<DeliveryId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.note_settled(id, Consumed::TimedOut, tools.now);
            self.end_delivery(id, Verdict::Later(TIMEOUT_LEVEL), tools);
        }
    }
}
