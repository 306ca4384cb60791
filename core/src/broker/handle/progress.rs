//! How far groups are, and putting them elsewhere: codes 208, 222, 303, 308, 314, 317.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::reply::{Answer, Refusal};
use super::super::store::Boundary;
use super::super::{Broker, BrokerEvent};
use crate::io::{Disk, Env, Extent, Now};
use crate::wire::body::{
    self, ConsumeStats, ConsumeStatsList, MessageQueue, MqMap, OffsetWrapper, QueryConsumeTimeSpanBody,
    QueryCorrectionOffsetBody, QueueTimeSpan, ResetOffsetBody,
};
use crate::wire::code::response_code;
use crate::wire::request::{
    CloneGroupOffsetRequest, GetConsumeStatsInBroker, GetConsumeStatsRequest, QueryConsumeTimeSpanRequest,
    QueryCorrectionOffset, ResetOffsetRequest,
};
use crate::wire::{Command, Ext};

fn success(request: &Command, body: Vec<u8>) -> Result<Answer, Refusal> {
    Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None).with_body(body)))
}

impl Broker {
    pub(super) fn on_get_consume_stats<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetConsumeStatsRequest = request.header()?;
        self.check_store()?;
        let group = header.consumer_group.as_str();
        let list = header.topic_list.unwrap_or_default();
        let listed: BTreeSet<String> =
            list.split(';').map(str::trim).filter(|topic| !topic.is_empty()).map(String::from).collect();
        let topics = if listed.is_empty() {
            let wanted = match header.topic.filter(|topic| !topic.trim().is_empty()) {
                Some(topic) => BTreeSet::from([topic]),
                None => self.offsets.topics_of(group),
            };
            self.subscribed_of(group, wanted)
        } else {
            listed
        };
        let mut stats = ConsumeStats::default();
        for topic in topics {
            if let Err(cold) = self.add_consume_stats(group, &topic, &mut stats, env.disk) {
                return Ok(Answer::Cold(cold));
            }
        }
        success(request, stats.encode())
    }

    /// Those topics that a group which is there subscribes to; all when nobody of it is there.
    fn subscribed_of(&self, group: &str, mut topics: BTreeSet<String>) -> BTreeSet<String> {
        if let Some(members) = self.consumers.group(group).filter(|members| !members.subscriptions.is_empty())
        {
            topics.retain(|topic| members.subscriptions.contains_key(topic));
        }
        topics
    }

    fn add_consume_stats<D: Disk>(
        &mut self,
        group: &str,
        topic: &str,
        stats: &mut ConsumeStats,
        disk: &mut D,
    ) -> Result<(), Extent> {
        let Some(queues) = self.topics.get(topic).map(|known| known.config.read_queue_nums) else {
            return Ok(());
        };
        for queue_id in 0..queues {
            let mut wrapper = OffsetWrapper {
                consumer_offset: self.offsets.query(group, topic, queue_id).unwrap_or(0),
                ..OffsetWrapper::default()
            };
            wrapper.pull_offset = wrapper.consumer_offset;
            if let Some(queue) = self.store.find_queue(topic, queue_id) {
                wrapper.broker_offset = self.store.max_offset(queue);
                let time = self.store_time_of(queue, wrapper.consumer_offset - 1, disk)?;
                wrapper.last_timestamp = time.unwrap_or(0);
            }
            let queue = MessageQueue::new(topic, self.config.broker_name.as_str(), queue_id);
            stats.offset_table.0.insert(queue, wrapper);
        }
        let pair = self.offsets.pair(group, topic);
        stats.consume_tps += self.stats.pair(pair).map_or(0.0, |of| of.messages.tps());
        Ok(())
    }

    /// Every group with every topic, each on its own.
    pub(super) fn on_get_broker_consume_stats<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetConsumeStatsInBroker = request.header()?;
        self.check_store()?;
        let mut answer = ConsumeStatsList {
            broker_addr: self.config.store_host.to_string(),
            ..ConsumeStatsList::default()
        };
        for group in self.groups.names() {
            let topics = self.offsets.topics_of(&group);
            let mut list = Vec::new();
            for topic in self.subscribed_of(&group, topics) {
                if header.is_order && !self.topics.get(&topic).is_some_and(|known| known.config.order) {
                    continue;
                }
                let mut stats = ConsumeStats::default();
                if let Err(cold) = self.add_consume_stats(&group, &topic, &mut stats, env.disk) {
                    return Ok(Answer::Cold(cold));
                }
                let behind = stats.offset_table.0.values();
                answer.total_diff += behind.map(|of| of.broker_offset - of.consumer_offset).sum::<i64>();
                list.push(stats);
            }
            answer.consume_stats_list.push(BTreeMap::from([(group, list)]));
        }
        success(request, answer.encode())
    }

    /// Puts a group elsewhere, by time or by offset. Its members hear of it at their next pull (RocketMQ's
    /// `useServerSideResetOffset`), which is at once for pulls that are held.
    pub(super) fn on_reset_offset<D: Disk>(
        &mut self,
        now: Now,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: ResetOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let (topic, group) = (header.topic.as_ref(), header.group.as_ref());
        let error = |remark: String| Refusal::new(response_code::SYSTEM_ERROR, remark);
        if self.replication.is_slave() {
            return Err(error("Can not reset offset in slave broker".into()));
        }
        let Some(known) = self.topics.get(topic) else {
            return Err(Refusal::new(
                response_code::TOPIC_NOT_EXIST,
                format!("Topic {topic} does not exist"),
            ));
        };
        if self.groups.get(group).is_none() {
            return Err(Refusal::new(
                response_code::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("Group {group} does not exist"),
            ));
        }
        let queues = match header.queue_id.filter(|queue_id| *queue_id >= 0) {
            Some(queue_id) => queue_id..queue_id.saturating_add(1),
            None => 0..known.config.read_queue_nums,
        };
        let asked = header.offset.filter(|offset| *offset != -1 && queues.len() == 1);
        let mut table = BTreeMap::new();
        for queue_id in queues {
            let found = self.store.find_queue(topic, queue_id);
            let (min, max) =
                found.map_or((0, 0), |queue| (self.store.min_offset(queue), self.store.max_offset(queue)));
            let offset = match (asked, found) {
                (Some(offset), _) if offset < min || offset > max + 1 => {
                    return Err(error(format!(
                        "Target offset {offset} not in consume queue range [{min}-{max}]"
                    )));
                }
                // One past the end is taken, as in RocketMQ, and means the end: nothing may be committed beyond it.
                (Some(offset), _) => offset.min(max),
                (None, None) => 0,
                (None, Some(_)) if header.timestamp < 0 => max,
                (None, Some(queue)) => {
                    match self.store.offset_by_time(queue, header.timestamp, Boundary::Lower, env.disk) {
                        Ok(Ok(offset)) => offset,
                        Ok(Err(cold)) => return Ok(Answer::Cold(cold)),
                        Err(failed) => return Err(error(format!("not read: {failed}"))),
                    }
                }
            };
            table.insert(queue_id, offset);
        }
        if table.is_empty() {
            return Err(error("No queues to reset.".into()));
        }
        let mut answer = ResetOffsetBody { offset_table: MqMap(BTreeMap::new()) };
        for (queue_id, offset) in table {
            tracing::info!(group, topic, queue_id, offset, "offset reset by an administrator");
            self.offsets.reset(group, topic, queue_id, offset);
            self.wake_queue(now, topic, queue_id, env);
            let queue = MessageQueue::new(topic, self.config.broker_name.as_str(), queue_id);
            answer.offset_table.0.insert(queue, offset);
        }
        success(request, answer.encode())
    }

    pub(super) fn on_consume_time_span<D: Disk>(
        &mut self,
        now: Now,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: QueryConsumeTimeSpanRequest = request.header()?;
        self.check_store()?;
        let topic = header.topic.as_str();
        let Some(known) = self.topics.get(topic) else {
            return Err(Refusal::new(response_code::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
        };
        let mut spans = Vec::new();
        for queue_id in 0..known.config.write_queue_nums {
            match self.time_span(now, &header.group, topic, queue_id, env.disk) {
                Ok(span) => spans.push(span),
                Err(cold) => return Ok(Answer::Cold(cold)),
            }
        }
        success(request, body::encode(&QueryConsumeTimeSpanBody { consume_time_span_set: spans }))
    }

    fn time_span<D: Disk>(
        &mut self,
        now: Now,
        group: &str,
        topic: &str,
        queue_id: i32,
        disk: &mut D,
    ) -> Result<QueueTimeSpan, Extent> {
        let mut span = QueueTimeSpan {
            message_queue: MessageQueue::new(topic, self.config.broker_name.as_str(), queue_id),
            min_time_stamp: -1,
            max_time_stamp: -1,
            consume_time_stamp: -1,
            delay_time: 0,
        };
        let Some(queue) = self.store.find_queue(topic, queue_id) else { return Ok(span) };
        let (min, max) = (self.store.min_offset(queue), self.store.max_offset(queue));
        span.min_time_stamp = self.store_time_of(queue, min, disk)?.unwrap_or(-1);
        span.max_time_stamp = self.store_time_of(queue, max - 1, disk)?.unwrap_or(-1);
        let consumed = self.offsets.query(group, topic, queue_id).unwrap_or(-1);
        span.consume_time_stamp = match consumed {
            ..=0 => span.min_time_stamp,
            consumed => self.store_time_of(queue, consumed - 1, disk)?.unwrap_or(-1),
        };
        if consumed < max {
            let next = self.store_time_of(queue, consumed.max(min), disk)?;
            span.delay_time = next.map_or(0, |next| now.wall.0 - next);
        }
        Ok(span)
    }

    /// The lowest offset of all groups but some in each queue of a topic; above that of `compareGroup` it counts as none.
    pub(super) fn on_query_correction(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: QueryCorrectionOffset<'_> = request.header()?;
        let passed_over: BTreeSet<&str> =
            header.filter_groups.as_deref().unwrap_or_default().split(',').collect();
        let mut lowest: BTreeMap<i32, i64> = BTreeMap::new();
        for group in self.offsets.groups_of(&header.topic) {
            if passed_over.contains(group.as_str()) {
                continue;
            }
            for (queue_id, offset) in self.offsets.of(&group, &header.topic) {
                let known = lowest.entry(queue_id).or_insert(offset);
                *known = offset.min(*known);
            }
        }
        for (queue_id, offset) in self.offsets.of(&header.compare_group, &header.topic) {
            if let Some(known) = lowest.get_mut(&queue_id)
                && *known > offset
            {
                *known = i64::MAX;
            }
        }
        success(request, body::encode(&QueryCorrectionOffsetBody { correction_offsets: lowest }))
    }

    pub(super) fn on_clone_group_offset(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: CloneGroupOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let source = header.src_group.as_ref();
        let mut topics = match header.topic.as_deref().filter(|topic| !topic.trim().is_empty()) {
            Some(topic) => BTreeSet::from([String::from(topic)]),
            None => self.offsets.topics_of(source),
        };
        if header.offline != Some(true) {
            topics = self.subscribed_of(source, topics);
        }
        for topic in topics {
            if self.topics.get(&topic).is_none() {
                continue;
            }
            for (queue_id, offset) in self.offsets.of(source, &topic) {
                self.offsets.commit(&header.dest_group, &topic, queue_id, offset);
            }
        }
        success(request, Vec::new())
    }
}
