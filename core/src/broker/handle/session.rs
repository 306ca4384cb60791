//! Clients: heartbeats, leaving, who else is there, queue locks. Codes 34, 35, 38, 40, 41, 42, 46.
//!
//! None of these needs the store, so they are served while it recovers: a client that is refused its heartbeat tries
//! again only half a minute later.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::producer::Client;
use super::super::reply::{Answer, Refusal};
use super::super::{Broker, BrokerEvent, names};
use crate::io::{ConnId, Disk, Effect, Env, Now};
use crate::liveness::Verdict;
use crate::wire::body::{
    self, CheckClientRequestBody, ConsumerData, GetConsumerListByGroupResponseBody, HeartbeatData,
    LockBatchRequestBody, LockBatchResponseBody, MessageModel, topic_sys_flag,
};
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{
    GetConsumerListByGroupRequest, Header, NotifyConsumerIdsChangedRequest, UnregisterClientRequest,
};
use crate::wire::{Command, Ext};

impl Broker {
    pub(super) fn on_heartbeat<D>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let heartbeat: HeartbeatData = body::decode(&request.body)?;
        let client = Client {
            id: heartbeat.client_id,
            language: request.language,
            version: request.version,
            seen: now.mono,
        };
        // With a fingerprint the client leaves its subscriptions out as long as it is told that they did not change.
        let uses_fingerprint = heartbeat.heartbeat_fingerprint != 0;
        let with_subscriptions = !(uses_fingerprint && heartbeat.without_sub);
        let mut sub_changed = !uses_fingerprint;
        for consumer in &heartbeat.consumer_data_set {
            let is_known = self.consumers.group(&consumer.group_name).is_some_and(|group| {
                group
                    .clients
                    .get(&conn)
                    .is_some_and(|_| with_subscriptions || !group.subscriptions.is_empty())
            });
            sub_changed |= !with_subscriptions && !is_known;
            self.register_consumer(now, conn, consumer, client.clone(), with_subscriptions, env);
        }
        for producer in &heartbeat.producer_data_set {
            if names::is_valid_group(&producer.group_name) {
                self.producers.register(&producer.group_name, conn, client.clone());
            }
        }
        let ext = Ext::Fields(Vec::from([
            (Cow::Borrowed("IS_SUPPORT_HEART_BEAT_V2"), Cow::Borrowed("true")),
            (Cow::Borrowed("IS_SUB_CHANGE"), Cow::Borrowed(if sub_changed { "true" } else { "false" })),
        ]));
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }

    fn register_consumer<D>(
        &mut self,
        now: Now,
        conn: ConnId,
        consumer: &ConsumerData,
        client: Client,
        with_subscriptions: bool,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        let group = &consumer.group_name;
        // RocketMQ passes over a group that may not be made, without a word.
        let Some(settings) = self.groups.find(now.wall, group, &self.config) else { return };
        let retry_queues = settings.retry_queue_nums;
        let sys_flag = if consumer.unit_mode { topic_sys_flag::UNIT_SUB } else { 0 };
        let is_ordered = consumer
            .subscription_data_set
            .iter()
            .any(|data| self.topics.get(&data.topic).is_some_and(|topic| topic.config.order));
        self.topics.ensure(now.wall, &names::retry_topic(group), retry_queues, is_ordered, sys_flag);
        if self.consumers.register(consumer, conn, client, with_subscriptions) {
            self.notify_members(group, env);
        }
    }

    pub(super) fn on_unregister_client<D>(
        &mut self,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: UnregisterClientRequest = request.header()?;
        if let Some(group) = header.producer_group {
            self.producers.unregister(&group, conn);
        }
        if let Some(group) = header.consumer_group {
            self.notify_if_left(&group, conn, env);
        }
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }

    fn notify_if_left<D>(&mut self, group: &str, conn: ConnId, env: &mut Env<'_, D, BrokerEvent>) {
        if self.consumers.unregister(group, conn) {
            self.notify_members(group, env);
        }
    }

    /// Tells every member of a group that its members or topics changed, so that they share the queues out anew.
    fn notify_members<D>(&mut self, group: &str, env: &mut Env<'_, D, BrokerEvent>) {
        let Some(members) = self.consumers.group(group) else { return };
        let enabled = self.config.notify_consumer_ids_changed
            && self.groups.get(group).is_none_or(|settings| settings.notify_consumer_ids_changed_enable);
        if !enabled || members.message_model == MessageModel::Broadcasting {
            return;
        }
        for conn in members.clients.keys() {
            let opaque = &mut self.next_opaque;
            self.conns.push(*conn, group, || notification(group, opaque), env);
        }
    }

    /// The credit of a connection is fresh: what it could not be told before.
    pub(in super::super) fn on_drained<D>(&mut self, conn: ConnId, env: &mut Env<'_, D, BrokerEvent>) {
        for group in self.conns.drained(conn) {
            let opaque = &mut self.next_opaque;
            self.conns.push(conn, &group, || notification(&group, opaque), env);
        }
    }

    /// A client's connection is gone.
    pub(in super::super) fn on_client_closed<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        self.conns.closed(conn);
        self.end_calls(now, conn, env);
        self.searches.closed(conn);
        self.holds.closed(conn);
        self.cold.retain(|_, waiting| waiting.conn != conn);
        self.producers.closed(conn);
        for group in self.consumers.closed(conn) {
            self.notify_members(&group, env);
        }
    }

    /// Expires silent clients, when that is due.
    pub(in super::super) fn scan_clients<D>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let verdict = self.scan.as_mut().and_then(|scan| scan.take(now.mono));
        if verdict.is_some() {
            self.stats.read(now.mono);
            self.topics.iter_mut().for_each(|topic| topic.stats.read(now.mono));
        }
        match verdict {
            None => {}
            Some(Verdict::WaitOneMore) => {
                tracing::warn!("this process was paused: clients get one more scan")
            }
            Some(Verdict::Expire) => {
                self.locks.expire(now.mono);
                let mut conns: BTreeSet<ConnId> =
                    self.producers.expire(now.mono, self.config.client_expiry).into_iter().collect();
                let mut groups = BTreeSet::new();
                for (group, conn) in self.consumers.expire(now.mono, self.config.client_expiry) {
                    groups.insert(group);
                    conns.insert(conn);
                }
                for conn in conns {
                    env.out.push(Effect::Close { conn });
                }
                for group in groups {
                    self.notify_members(&group, env);
                }
            }
        }
    }

    pub(super) fn on_get_consumer_list(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetConsumerListByGroupRequest = request.header()?;
        let Some(group) = self.consumers.group(&header.consumer_group) else {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("no consumer for this group, {}", header.consumer_group),
            ));
        };
        let list = GetConsumerListByGroupResponseBody {
            consumer_id_list: group.client_ids().into_iter().map(ToOwned::to_owned).collect::<Vec<String>>(),
        };
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&list))))
    }

    pub(super) fn on_lock_batch(&mut self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        let wanted: LockBatchRequestBody = body::decode(&request.body)?;
        let mut locked = LockBatchResponseBody::default();
        for queue in wanted.mq_set {
            // A lock of what this broker does not have would be kept for nothing.
            let is_ours = queue.broker_name == self.config.broker_name
                && self
                    .topics
                    .get(&queue.topic)
                    .is_some_and(|topic| (0..topic.queue_ids_end()).contains(&queue.queue_id));
            if is_ours && self.locks.lock(now.mono, &wanted.consumer_group, queue.clone(), &wanted.client_id)
            {
                locked.lock_ok_mq_set.insert(queue);
            }
        }
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&locked))))
    }

    pub(super) fn on_unlock_batch(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let wanted: LockBatchRequestBody = body::decode(&request.body)?;
        for queue in &wanted.mq_set {
            self.locks.unlock(&wanted.consumer_group, queue, &wanted.client_id);
        }
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }

    pub(super) fn on_check_client_config(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let wanted: CheckClientRequestBody = body::decode(&request.body)?;
        self.check_expression_type(Some(&wanted.subscription_data.expression_type))?;
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }
}

fn notification(group: &str, opaque: &mut i32) -> Command {
    *opaque = opaque.wrapping_add(1);
    let ext = NotifyConsumerIdsChangedRequest { consumer_group: group.into() }.to_ext();
    Command { opaque: *opaque, ..Command::request(request_code::NOTIFY_CONSUMER_IDS_CHANGED, ext).oneway() }
}
