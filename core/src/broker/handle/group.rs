//! Consumer groups and clients, by an administrator: codes 200, 201, 203, 204, 207, 225, 328, 343, 345, 352, 353.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::ack::Change;
use super::super::producer::Client;
use super::super::reply::{Answer, Refusal};
use super::super::{Broker, names, upstream};
use super::topic::page;
use crate::io::{ConnId, Now};
use crate::wire::body::{
    self, Connection, ConsumerConnection, GroupForbidden, ProducerConnection, ProducerInfo,
    ProducerTableInfo, QuerySubscriptionResponseBody, SubscriptionGroupConfig, SubscriptionGroupList,
    TopicList,
};
use crate::wire::code::response_code;
use crate::wire::request::{
    DeleteSubscriptionGroupRequest, GetAllSubscriptionGroupRequest, GetAllSubscriptionGroupResponse,
    GetConsumerConnectionListRequest, GetProducerConnectionListRequest, GetSubscriptionGroupConfigRequest,
    Header, QuerySubscriptionByConsumerRequest, QueryTopicsByConsumerRequest, UpdateGroupForbiddenRequest,
};
use crate::wire::{Command, Ext};

fn success(request: &Command, body: Vec<u8>) -> Result<Answer, Refusal> {
    Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None).with_body(body)))
}

impl Broker {
    pub(super) fn on_put_group(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let group: SubscriptionGroupConfig = body::decode(&request.body)?;
        self.put_groups(now, conn, request, Vec::from([group]))
    }

    pub(super) fn on_put_groups(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let wanted: SubscriptionGroupList = body::decode(&request.body)?;
        self.put_groups(now, conn, request, wanted.group_config_list)
    }

    /// Makes or changes groups, all of them or none; the answer waits for `subscriptionGroup.json`.
    fn put_groups(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        wanted: Vec<SubscriptionGroupConfig>,
    ) -> Result<Answer, Refusal> {
        for group in &wanted {
            names::check_group(&group.group_name)
                .map_err(|remark| Refusal::new(response_code::INVALID_PARAMETER, remark))?;
        }
        for group in wanted {
            self.groups.put(now.wall, group);
        }
        Ok(self.answer_when_groups_are_durable(now, conn, request, Vec::new()))
    }

    fn answer_when_groups_are_durable(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        body: Vec<u8>,
    ) -> Answer {
        let reply = Command::response(request, response_code::SUCCESS, Ext::None).with_body(body);
        let change = Change::Groups(self.groups.file.generation());
        self.answer_when_durable(now, conn, request, reply, change)
    }

    pub(super) fn on_get_group(&mut self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        let header: GetSubscriptionGroupConfigRequest = request.header()?;
        let Some(group) = self.groups.find(now.wall, &header.group, &self.config) else {
            return Err(Refusal::new(response_code::SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker"));
        };
        success(request, body::encode(group))
    }

    /// Everything, or a page of it in the order of names.
    pub(super) fn on_get_all_groups(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetAllSubscriptionGroupRequest = request.header()?;
        if let Some(same) = upstream::same(request, &self.groups.stamp()) {
            return Ok(Answer::Now(same));
        }
        let mut wrapper = self.groups.wrapper();
        let total = wrapper.subscription_group_table.len();
        let version = header.data_version.as_deref();
        if let Some(page) = page(header.group_seq, version, header.max_group_num, wrapper.data_version) {
            let all = core::mem::take(&mut wrapper.subscription_group_table);
            wrapper.subscription_group_table = all.into_iter().skip(page.begin).take(page.len).collect();
            let kept = &wrapper.subscription_group_table;
            wrapper.forbidden_table.retain(|group, _| kept.contains_key(group));
        }
        let ext = GetAllSubscriptionGroupResponse { total_group_num: total as i32 }.to_ext();
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Answer::Now(answer.with_body(body::encode(&wrapper))))
    }

    pub(super) fn on_delete_group(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let header: DeleteSubscriptionGroupRequest = request.header()?;
        self.check_store()?;
        self.groups.delete(now.wall, &header.group_name);
        if header.clean_offset == Some(true) {
            self.offsets.forget(|_, group| group == header.group_name);
        }
        Ok(self.answer_when_groups_are_durable(now, conn, request, Vec::new()))
    }

    pub(super) fn on_group_forbidden(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let header: UpdateGroupForbiddenRequest = request.header()?;
        if let Some(readable) = header.readable {
            self.groups.forbid_read(now.wall, &header.group, &header.topic, !readable);
        }
        let readable = !self.groups.is_read_forbidden(&header.group, &header.topic);
        let answer = GroupForbidden { group: header.group, readable: Some(readable), topic: header.topic };
        Ok(self.answer_when_groups_are_durable(now, conn, request, body::encode(&answer)))
    }

    pub(super) fn on_get_consumer_connections(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetConsumerConnectionListRequest = request.header()?;
        let Some(group) = self.consumers.group(&header.consumer_group) else {
            return Err(Refusal::new(
                response_code::CONSUMER_NOT_ONLINE,
                format!("the consumer group[{}] not online", header.consumer_group),
            ));
        };
        let subscriptions = group.subscriptions.iter();
        let answer = ConsumerConnection {
            connection_set: group
                .clients
                .iter()
                .map(|(conn, client)| self.connection(*conn, client))
                .collect(),
            consume_from_where: group.consume_from_where,
            consume_type: group.consume_type,
            message_model: group.message_model,
            subscription_table: subscriptions.map(|(topic, of)| (topic.clone(), of.data.clone())).collect(),
        };
        success(request, body::encode(&answer))
    }

    pub(super) fn on_get_producer_connections(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetProducerConnectionListRequest = request.header()?;
        let clients = self.producers.clients(&header.producer_group);
        let connection_set: Vec<Connection> =
            clients.map(|(conn, client)| self.connection(conn, client)).collect();
        if connection_set.is_empty() {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("the producer group[{}] not exist", header.producer_group),
            ));
        }
        success(request, body::encode(&ProducerConnection { connection_set }))
    }

    fn address(&self, conn: ConnId) -> String {
        self.conns.peer(conn).map_or_else(String::new, |peer| peer.to_string())
    }

    fn connection(&self, conn: ConnId, client: &Client) -> Connection {
        Connection {
            client_addr: self.address(conn),
            client_id: client.id.clone(),
            language: client.language.name().into(),
            version: client.version,
        }
    }

    pub(super) fn on_get_all_producers(&mut self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        let mut data: BTreeMap<String, Vec<ProducerInfo>> = BTreeMap::new();
        for (group, conn, client) in self.producers.iter() {
            data.entry(group.into()).or_default().push(ProducerInfo {
                client_id: client.id.clone(),
                language: client.language.name().into(),
                last_update_timestamp: now.wall.0 - now.mono.since(client.seen).as_millis() as i64,
                // As Java prints a socket address.
                remote_ip: format!("/{}", self.address(conn)),
                version: client.version,
            });
        }
        success(request, body::encode(&ProducerTableInfo { data }))
    }

    pub(super) fn on_topics_of_group(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: QueryTopicsByConsumerRequest = request.header()?;
        let list = TopicList {
            broker_addr: Some(self.config.store_host.to_string()),
            topic_list: self.offsets.topics_of(&header.group).into_iter().collect(),
        };
        success(request, body::encode(&list))
    }

    pub(super) fn on_subscription_of_group(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: QuerySubscriptionByConsumerRequest = request.header()?;
        let topic = header.topic.unwrap_or_default();
        let found = self.consumers.group(&header.group).and_then(|group| group.subscriptions.get(&topic));
        let answer = QuerySubscriptionResponseBody {
            subscription_data: found.map(|found| found.data.clone()),
            group: header.group,
            topic,
        };
        success(request, body::encode(&answer))
    }
}
