//! How far a group has come: where a queue begins, and what is committed of it.
//!
//! A group that shares its messages keeps its offsets at the brokers. Of a broadcast each client keeps its own: the host gives
//! what it has stored ([`ConsumerConfig::offsets`]) and stores what it is told ([`ClientEvent::Progress`]).

use super::*;
use crate::client::{Found, Question};

/// How often a new offset is told. RocketMQ's clients tell it every 5 s: a broker of many threads may carry out a pull, with the
/// offset of when it left, behind the commit that left after it.
const COMMITS: u8 = 2;

impl Consumer {
    /// Finds out where to begin with a queue.
    pub(super) fn ask_committed<D: Disk>(&mut self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        if !self.is_clustering() {
            match self.progress.get(queue) {
                Some(offset) => self.begin(queue, *offset, now),
                None => self.ask_begin(queue, tools),
            }
            return;
        }
        let Some(lane) = self.lanes.get_mut(queue) else { return };
        let Some(address) = tools.keeper(queue) else {
            lane.doing = Doing::Nothing(now + PULL_RETRY);
            return;
        };
        lane.doing = Doing::Asking;
        let life = lane.life;
        let header = QueryConsumerOffsetRequest {
            consumer_group: self.config.group.as_str().into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: match self.config.start {
                Start::First => None,
                // Of a young queue a new group then gets all: as if it had been there from the beginning.
                Start::Last => Some(true),
                // Else a broker answers 0 for a young queue, as it does to RocketMQ's clients.
                Start::Time(_) => Some(false),
            },
        };
        let command = Command::request(request_code::QUERY_CONSUMER_OFFSET, header.to_ext());
        tools.call(&address, command, ANSWER, Errand::Committed(queue.clone(), life));
    }

    fn begin(&mut self, queue: &MessageQueue, offset: i64, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(queue) {
            lane.begin(offset);
            lane.doing = Doing::Nothing(now);
        }
    }

    pub(super) fn on_committed<D: Disk>(
        &mut self,
        queue: &MessageQueue,
        life: u64,
        outcome: &Outcome,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let now = tools.now.mono;
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.life == life) else { return };
        lane.doing = Doing::Nothing(now + PULL_RETRY);
        if let Some(offset) = offset_of(outcome) {
            lane.begin(offset);
            lane.committed = Some(offset);
            lane.doing = Doing::Nothing(now);
            return;
        }
        let Outcome::Reply(reply) = outcome else { return };
        if reply.code == response_code::QUERY_NOT_FOUND {
            self.ask_begin(queue, tools);
        }
    }

    /// Begins with a queue of which nothing has been consumed yet.
    fn ask_begin<D: Disk>(&mut self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        if queue.topic == self.retry_topic {
            // Its members sent back what is there: nothing of it may be passed over.
            return self.begin(queue, 0, now);
        }
        let (code, ext) = match self.config.start {
            Start::First => return self.begin(queue, 0, now),
            Start::Time(timestamp) => {
                let header = SearchOffsetRequest {
                    topic: queue.topic.as_str().into(),
                    lite_topic: None,
                    queue_id: queue.queue_id,
                    timestamp,
                    boundary_type: None,
                };
                (request_code::SEARCH_OFFSET_BY_TIMESTAMP, header.to_ext())
            }
            Start::Last => {
                let topic = queue.topic.as_str().into();
                let header = GetMaxOffsetRequest { topic, queue_id: queue.queue_id, committed: None };
                (request_code::GET_MAX_OFFSET, header.to_ext())
            }
        };
        let Some(lane) = self.lanes.get_mut(queue) else { return };
        let Some(address) = tools.keeper(queue) else {
            lane.doing = Doing::Nothing(now + PULL_RETRY);
            return;
        };
        lane.doing = Doing::Asking;
        let errand = Errand::Begin(queue.clone(), lane.life);
        tools.call(&address, Command::request(code, ext), ANSWER, errand);
    }

    pub(super) fn on_begin(&mut self, queue: &MessageQueue, life: u64, outcome: &Outcome, now: Instant) {
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.life == life) else { return };
        lane.doing = Doing::Nothing(now + PULL_RETRY);
        if let Some(offset) = offset_of(outcome) {
            self.begin(queue, offset, now);
        }
    }

    /// Tells the queue's keeper how far this member has come, if that is news.
    pub(super) fn commit_queue<D: Disk>(&mut self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        let is_clustering = self.is_clustering();
        let Some(lane) = self.lanes.get_mut(queue).filter(|lane| lane.has_news()) else { return };
        let Some(offset) = lane.consumed() else { return };
        if lane.committed != Some(offset) {
            lane.commits_left = COMMITS;
        }
        lane.commits_left -= 1;
        if !is_clustering {
            lane.committed = Some(offset);
            self.progress.insert(queue.clone(), offset);
            self.has_progressed = true;
            return;
        }
        let Some(address) = tools.keeper(queue) else {
            lane.commits_left = COMMITS;
            return;
        };
        lane.committed = Some(offset);
        let header = UpdateConsumerOffsetRequest {
            consumer_group: self.config.group.as_str().into(),
            topic: queue.topic.as_str().into(),
            queue_id: queue.queue_id,
            commit_offset: offset,
        };
        let command = Command::request(request_code::UPDATE_CONSUMER_OFFSET, header.to_ext());
        tools.calls.tell(tools.now, &address, command, tools.env);
    }

    /// The same where the host leaves commits to this client.
    pub(super) fn commit_by_itself<D: Disk>(&mut self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        if self.config.auto_commit {
            self.commit_queue(queue, tools);
        }
    }

    /// A question about this group's offsets: what this client answers by itself, which is what a broadcast has. An offset that the
    /// host commits is remembered, so that it does not hide what is to be committed next.
    pub(in super::super) fn on_question<D: Disk>(
        &mut self,
        question: &Question,
        env: &mut Env<'_, D, ClientEvent>,
    ) -> Option<Found> {
        let (queue, offset) = match question {
            Question::Commit(group, queue, offset) if *group == self.config.group => (queue, Some(*offset)),
            Question::Committed(group, queue) if *group == self.config.group => (queue, None),
            Question::Commit(..)
            | Question::Committed(..)
            | Question::ReadableQueues(_)
            | Question::MinOffset(_)
            | Question::MaxOffset(_)
            | Question::OffsetAt(..)
            | Question::Pull(_) => return None,
        };
        if let (Some(offset), Some(lane)) = (offset, self.lanes.get_mut(queue)) {
            lane.committed = Some(offset);
            lane.commits_left = 0;
        }
        if self.is_clustering() {
            return None;
        }
        let Some(offset) = offset else {
            return Some(Found::Offset(self.progress.get(queue).copied()));
        };
        self.progress.insert(queue.clone(), offset);
        self.has_progressed = false;
        env.out.push(Effect::Emit(ClientEvent::Progress(self.progress.clone())));
        Some(Found::Committed)
    }

    /// Commits all queues.
    pub(in super::super) fn commit<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        let with_news = self.lanes.iter().filter(|(_, lane)| lane.has_news()).map(|(queue, _)| queue);
        let queues: Vec<MessageQueue> = with_news.cloned().collect();
        for queue in queues {
            self.commit_queue(&queue, tools);
        }
        self.tell_progress(tools);
    }

    /// Gives the host what it is to store.
    pub(super) fn tell_progress<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if core::mem::take(&mut self.has_progressed) {
            tools.env.out.push(Effect::Emit(ClientEvent::Progress(self.progress.clone())));
        }
    }
}
