//! What brokers ask of a consumer on behalf of administrators: to go on elsewhere, to say where it is and how it does, and to
//! consume one message here and now.

use super::*;
use crate::client::message::read_one;
use crate::io::ConnId;
use crate::wire::VERSION;
use crate::wire::body::{
    ConsumeMessageDirectlyResult, ConsumerRunningInfo, GetConsumerStatusBody, MqMap, ProcessQueueInfo,
    ResetOffsetBody,
};
use crate::wire::request::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest,
    ResetOffsetRequest,
};

/// Messages that administrators let the application consume, at most; more are refused.
const DIRECT_MAX: usize = 64;

/// A message that came on its own, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Direct {
    conn: ConnId,
    /// Its body, the largest part, is not kept.
    request: Command,
    since: Instant,
}

impl Consumer {
    /// A broker asks; the answer, or nothing when it comes later or is not wanted.
    pub(in super::super) fn on_asked<D: Disk>(
        &mut self,
        conn: ConnId,
        request: &Command,
        tools: &mut Tools<'_, '_, D>,
    ) -> Option<Command> {
        match request.code {
            request_code::RESET_CONSUMER_CLIENT_OFFSET => {
                self.on_reset(request, tools);
                None
            }
            request_code::GET_CONSUMER_STATUS_FROM_CLIENT => Some(self.status(request)),
            request_code::GET_CONSUMER_RUNNING_INFO => Some(self.running_info(request, tools)),
            request_code::CONSUME_MESSAGE_DIRECTLY => self.on_direct(conn, request, tools),
            _ => None,
        }
    }

    /// An administrator puts the group elsewhere: what is here of these queues is dropped, the new place is committed and gone on
    /// from. Queues of other members are theirs to move.
    fn on_reset<D: Disk>(&mut self, request: &Command, tools: &mut Tools<'_, '_, D>) {
        let Ok(header) = request.header::<ResetOffsetRequest<'_>>() else { return };
        let Ok(body) = body::decode::<ResetOffsetBody>(&request.body) else { return };
        if header.group != self.config.group || self.is_stopped {
            return;
        }
        for (queue, offset) in body.offset_table.0 {
            if queue.topic == header.topic {
                self.go_on_at(&queue, offset, tools);
                self.commit_queue(&queue, tools);
            }
        }
    }

    fn status(&self, request: &Command) -> Command {
        let header = match request.header::<GetConsumerStatusRequest>() {
            Ok(header) => header,
            Err(error) => return error.answer(request),
        };
        let lanes = self.lanes.iter().filter(|(queue, _)| queue.topic == header.topic);
        let own = lanes.filter_map(|(queue, lane)| Some((queue.clone(), lane.consumed()?)));
        let message_queue_table =
            MqMap(if header.group == self.config.group { own.collect() } else { BTreeMap::new() });
        let body = GetConsumerStatusBody { message_queue_table, ..GetConsumerStatusBody::default() };
        Command::response(request, response_code::SUCCESS, Ext::None).with_body(body.encode())
    }

    fn running_info<D: Disk>(&self, request: &Command, tools: &Tools<'_, '_, D>) -> Command {
        let header = match request.header::<GetConsumerRunningInfoRequest>() {
            Ok(header) => header,
            Err(error) => return error.answer(request),
        };
        if header.consumer_group != self.config.group {
            return self.no_such_group(request, &header.consumer_group);
        }
        let now = tools.now;
        let wall = |at: Instant| now.wall.0 - i64::try_from(now.mono.since(at).as_millis()).unwrap_or(0);
        let queue = |(queue, lane): (&MessageQueue, &Lane)| {
            let (count, range, bytes) = lane.cached();
            let (handed, handed_range) = lane.with_application();
            let of_queue = self.out.values().filter(|out| out.queue == *queue);
            let info = ProcessQueueInfo {
                cached_msg_count: i32::try_from(count).unwrap_or(i32::MAX),
                cached_msg_min_offset: range.0,
                cached_msg_max_offset: range.1,
                cached_msg_size_in_mi_b: i32::try_from(bytes >> 20).unwrap_or(i32::MAX),
                commit_offset: lane.consumed().unwrap_or(-1),
                last_pull_timestamp: wall(lane.asked_at),
                // Of what is with the application; else nothing waits for it.
                last_consume_timestamp: of_queue.map(|out| wall(out.since)).max().unwrap_or(now.wall.0),
                locked: lane.is_locked(now.mono),
                last_lock_timestamp: lane
                    .locked_until
                    .map_or(0, |until| wall(until) - i64::try_from(LOCK_VALID.as_millis()).unwrap_or(0)),
                transaction_msg_count: if self.config.orderly { handed } else { 0 },
                transaction_msg_min_offset: if self.config.orderly { handed_range.0 } else { 0 },
                transaction_msg_max_offset: if self.config.orderly { handed_range.1 } else { 0 },
                ..ProcessQueueInfo::default()
            };
            (queue.clone(), info)
        };
        let info = ConsumerRunningInfo {
            properties: self.properties(tools),
            subscription_set: self.heartbeat().subscription_data_set,
            mq_table: MqMap(self.lanes.iter().map(queue).collect()),
        };
        Command::response(request, response_code::SUCCESS, Ext::None).with_body(info.encode())
    }

    /// What the tools show of it, under RocketMQ's names.
    fn properties<D>(&self, tools: &Tools<'_, '_, D>) -> BTreeMap<String, String> {
        let config = &self.config;
        let consume_type = if self.is_chosen() { "CONSUME_ACTIVELY" } else { "CONSUME_PASSIVELY" };
        let model = match config.model {
            MessageModel::Clustering => "CLUSTERING",
            MessageModel::Broadcasting => "BROADCASTING",
            MessageModel::LiteSelective => "LITE_SELECTIVE",
        };
        let from = match config.start {
            Start::Last => "CONSUME_FROM_LAST_OFFSET",
            Start::First => "CONSUME_FROM_FIRST_OFFSET",
            Start::Time(_) => "CONSUME_FROM_TIMESTAMP",
        };
        let pairs = [
            ("PROP_CLIENT_VERSION", VERSION.to_string()),
            ("PROP_CONSUMEORDERLY", config.orderly.to_string()),
            ("PROP_CONSUMER_START_TIMESTAMP", self.sub_version.to_string()),
            ("PROP_CONSUME_TYPE", consume_type.to_string()),
            ("PROP_NAMESERVER_ADDR", tools.routes.servers()),
            ("PROP_THREADPOOL_CORE_SIZE", config.deliveries_max.to_string()),
            ("consumeFromWhere", from.to_string()),
            ("consumeMessageBatchMaxSize", config.delivery_messages_max.to_string()),
            ("consumerGroup", config.group.clone()),
            ("maxReconsumeTimes", config.reconsume_max.unwrap_or(-1).to_string()),
            ("messageModel", model.to_string()),
            ("pullBatchSize", config.pull_messages_max.to_string()),
            ("pullThresholdForQueue", config.queue_messages_max.to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn no_such_group(&self, request: &Command, group: &str) -> Command {
        let remark = format!("The Consumer Group <{group}> not exist in this consumer");
        Command::error(request, response_code::SYSTEM_ERROR, remark)
    }

    /// An administrator hands over a message: it is delivered beside those of the queues, whatever its queue is, and what becomes
    /// of it is the answer.
    fn on_direct<D: Disk>(
        &mut self,
        conn: ConnId,
        request: &Command,
        tools: &mut Tools<'_, '_, D>,
    ) -> Option<Command> {
        let header: ConsumeMessageDirectlyResultRequest = match request.header() {
            Ok(header) => header,
            Err(error) => return Some(error.answer(request)),
        };
        if header.consumer_group != self.config.group || self.is_stopped {
            return Some(self.no_such_group(request, &header.consumer_group));
        }
        let error = |remark: &str| Some(Command::error(request, response_code::SYSTEM_ERROR, remark));
        let Ok(message) = read_one(&request.body, &MessageQueue::default()) else {
            return error("the body is no message");
        };
        let now = tools.now.mono;
        self.direct.retain(|_, direct| now.since(direct.since) < self.config.consume_timeout);
        if self.direct.len() >= DIRECT_MAX {
            return error("too many messages are being consumed directly: ask again later");
        }
        let broker = header.broker_name.unwrap_or_default();
        let queue = MessageQueue::new(message.topic.as_str(), broker, message.queue.queue_id);
        let id = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        let request = Command { body: bytes::Bytes::new(), ..request.clone() };
        self.direct.insert(id, Direct { conn, request, since: now });
        let messages = Vec::from([Arc::new(Received { queue, ..message })]);
        tools.env.out.push(Effect::Emit(ClientEvent::Delivered(Delivery { id, messages })));
        None
    }

    /// Answers whoever let this message be consumed; false when it came from a queue.
    pub(super) fn answer_direct<D: Disk>(
        &mut self,
        id: DeliveryId,
        verdict: Verdict,
        tools: &mut Tools<'_, '_, D>,
    ) -> bool {
        let Some(direct) = self.direct.remove(&id) else { return false };
        let result = match verdict {
            Verdict::Consumed => "CR_SUCCESS",
            Verdict::Later(_) | Verdict::Reject => "CR_LATER",
        };
        let spent = tools.now.mono.since(direct.since).as_millis();
        let body = ConsumeMessageDirectlyResult {
            auto_commit: true,
            consume_result: Some(result.to_string()),
            order: self.config.orderly,
            remark: None,
            spent_time_mills: i64::try_from(spent).unwrap_or(i64::MAX),
        };
        let answer = Command::response(&direct.request, response_code::SUCCESS, Ext::None);
        tools.env.send(direct.conn, answer.with_body(body::encode(&body)));
        true
    }
}
