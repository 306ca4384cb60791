//! Where groups stand and where queues end: codes 14, 15, 30, 31.

use alloc::format;
use alloc::vec::Vec;

use super::super::config::MEMORY_UNKNOWN;
use super::super::reply::{Answer, Refusal};
use super::super::store::{ReadLimits, ReadOutcome};
use super::super::upstream::ONLY_FORWARD;
use super::super::{Broker, BrokerEvent};
use crate::io::{Disk, Env, Extent};
use crate::wire::code::response_code;
use crate::wire::request::{
    GetMaxOffsetRequest, GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse, Header,
    QueryConsumerOffsetRequest, QueryConsumerOffsetResponse, UpdateConsumerOffsetRequest,
};
use crate::wire::{Command, Ext};

impl Broker {
    /// A group that never committed starts at 0 when the queue's first message is still in memory; else the client decides
    /// (22). That is RocketMQ's rule, and why a new group on a young topic sees everything. In memory is what lies near the end of
    /// the log, as in 4.9, and what the page cache has, as in 5.x: the page cache alone says no now and then to what it is
    /// just writing out, and a group would miss messages by it.
    pub(super) fn on_query_consumer_offset<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: QueryConsumerOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let found = self.offsets.query(&header.consumer_group, &header.topic, header.queue_id);
        let offset = match found {
            Some(offset) => offset,
            None if header.set_zero_if_not_found == Some(false) => {
                return Err(Refusal::new(
                    response_code::QUERY_NOT_FOUND,
                    "Not found, do not set to zero, maybe this group boot first",
                ));
            }
            None => match self.is_first_message_in_memory(&header.topic, header.queue_id, env.disk) {
                Err(cold) => return Ok(Answer::Cold(cold)),
                Ok(true) => 0,
                Ok(false) => {
                    return Err(Refusal::new(
                        response_code::QUERY_NOT_FOUND,
                        "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
                    ));
                }
            },
        };
        let ext = QueryConsumerOffsetResponse { offset }.to_ext();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }

    /// `Err` when the queue's first entry must be fetched first.
    fn is_first_message_in_memory(
        &mut self,
        topic: &str,
        queue_id: i32,
        disk: &mut impl Disk,
    ) -> Result<bool, Extent> {
        let Some(queue) = self.store.find_queue(topic, queue_id) else { return Ok(false) };
        let first = match self.store.read_entries(queue, 0, 1, disk) {
            Ok(Ok(entries)) => {
                entries.and_then(|entries| entries.first().map(|entry| entry.physical_offset as u64))
            }
            Ok(Err(cold)) => return Err(cold),
            Err(_) => None,
        };
        let Some(physical) = first else { return Ok(false) };
        if self.config.memory_bytes != MEMORY_UNKNOWN && self.is_near_end(physical) {
            return Ok(true);
        }
        let limits = ReadLimits { messages_max: 1, bytes_max: 0 };
        let mut message = Vec::new();
        let read = self.store.read_messages(queue, 0, limits, |_| true, disk, &mut message);
        Ok(matches!(read, Ok(ReadOutcome::Found { .. })))
    }

    pub(super) fn on_update_consumer_offset(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: UpdateConsumerOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let (group, topic) = (header.consumer_group.as_ref(), header.topic.as_ref());
        if self.groups.get(group).is_none() {
            return Err(Refusal::new(
                response_code::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("Group {group} not exist!"),
            ));
        }
        let Some(known) = self.topics.get(topic) else {
            return Err(Refusal::new(response_code::TOPIC_NOT_EXIST, format!("Topic {topic} not exist!")));
        };
        // RocketMQ takes any queue id; a table that grows with what a peer makes up has no bound.
        let is_queue = (0..known.queue_ids_end()).contains(&header.queue_id)
            || self.store.find_queue(topic, header.queue_id).is_some();
        if !is_queue {
            return Err(Refusal::new(
                response_code::INVALID_PARAMETER,
                format!("queueId[{}] is illegal, topic:[{topic}]", header.queue_id),
            ));
        }
        let committed = self.offsets.query(group, topic, header.queue_id);
        let only_forward = request.ext.get(ONLY_FORWARD).is_some();
        if !only_forward || committed.is_none_or(|committed| committed < header.commit_offset) {
            self.commit_offset(group, topic, header.queue_id, header.commit_offset);
        }
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }

    /// Takes a client's commit, unless an administrator has just put the group elsewhere.
    pub(super) fn commit_offset(&mut self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        if self.offsets.is_reset(group, topic, queue_id) {
            tracing::info!(group, topic, queue_id, offset, "a commit is passed over: the offset was reset");
            return;
        }
        if self.replication.is_slave() {
            self.offsets.commit_away(group, topic, queue_id, offset);
        } else {
            self.offsets.commit(group, topic, queue_id, offset);
        }
    }

    pub(super) fn on_get_max_offset(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetMaxOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let queue = self.store.find_queue(&header.topic, header.queue_id);
        let offset = queue.map_or(0, |queue| self.store.max_offset(queue));
        let ext = GetMaxOffsetResponse { offset }.to_ext();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }

    pub(super) fn on_get_min_offset(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetMinOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let queue = self.store.find_queue(&header.topic, header.queue_id);
        let offset = queue.map_or(0, |queue| self.store.min_offset(queue));
        let ext = GetMinOffsetResponse { offset }.to_ext();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }
}
