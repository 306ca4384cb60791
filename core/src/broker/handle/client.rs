//! What is asked of clients on behalf of others: codes 223 (221), 307, 309, and replies of request–reply (324, 325; 326).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::super::ack::{Ack, Safety};
use super::super::calls::{Outcome, Purpose};
use super::super::put::check_properties;
use super::super::reply::{Answer, Refusal, ReplyTo};
use super::super::{Broker, BrokerEvent};
use super::send::put_properties;
use crate::io::{ConnId, Disk, Env, Now};
use crate::wire::body::{self, GetConsumerStatusBody};
use crate::wire::code::{request_code, response_code};
use crate::wire::message::{Draft, decode_offset_message_id, property, put_property};
use crate::wire::request::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest, Header,
    ReplyMessageRequest, SendMessageRequest, SendMessageResponse,
};
use crate::wire::{Command, Ext};

/// RocketMQ's fixed times for such calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Older clients do not know the request.
const VERSION_RUNNING_INFO: i32 = 62;
const VERSION_STATUS: i32 = 28;

impl Broker {
    /// Sends a request to a client and waits for its answer.
    fn call<D>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: Command,
        timeout: Duration,
        purpose: Purpose,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        self.next_opaque = self.next_opaque.wrapping_add(1);
        self.calls.begin(conn, self.next_opaque, now.mono + timeout, purpose);
        self.conns.send(conn, Command { opaque: self.next_opaque, ..request }, env);
    }

    /// A client's answer; false when nobody waits for it.
    pub(in super::super) fn on_client_answer<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        answer: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(purpose) = self.calls.answered(conn, answer.opaque) else { return false };
        self.finish_call(now, purpose, Outcome::Answered(answer.clone()), env);
        true
    }

    /// Ends the calls to a client that is gone.
    pub(in super::super) fn end_calls<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        for purpose in self.calls.closed(conn) {
            self.finish_call(now, purpose, Outcome::Closed, env);
        }
    }

    /// Ends the calls that waited too long.
    pub(in super::super) fn settle_calls<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        while let Some(purpose) = self.calls.take_due(now.mono) {
            self.finish_call(now, purpose, Outcome::TimedOut, env);
        }
    }

    fn finish_call<D: Disk>(
        &mut self,
        now: Now,
        purpose: Purpose,
        outcome: Outcome,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        match purpose {
            Purpose::Forward { to, whom } => {
                let reply = forwarded(&to, &whom, outcome);
                self.send_reply(&to, reply, env);
            }
            Purpose::Gather { gather, client_id } => {
                let whole = self.calls.part(gather, |body| add_status(body, client_id, outcome));
                if let Some((to, body)) = whole {
                    let reply = to.response(response_code::SUCCESS, Ext::None).with_body(body.encode());
                    self.send_reply(&to, reply, env);
                }
            }
            Purpose::PushReply { to, header, end, requester } => {
                let is_taken =
                    matches!(&outcome, Outcome::Answered(answer) if answer.code == response_code::SUCCESS);
                let code = if is_taken { response_code::SUCCESS } else { response_code::SYSTEM_ERROR };
                let remark = (!is_taken).then(|| format!("push reply message to {requester} fail."));
                let reply = Command { remark, ..to.response(code, Ext::SendReply(header)) };
                self.answer_reply(now, &to, reply, end, env);
            }
        }
    }

    /// Asks one consumer about itself.
    pub(super) fn on_running_info<D>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetConsumerRunningInfoRequest = request.header()?;
        let asked = Command::request(request_code::GET_CONSUMER_RUNNING_INFO, request.ext.clone())
            .with_body(request.body.clone());
        self.forward(now, ReplyTo::new(conn, request), header.consumer_group, header.client_id, asked, env)
    }

    /// Lets one consumer consume one message here and now.
    pub(super) fn on_consume_directly<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: ConsumeMessageDirectlyResultRequest = request.header()?;
        self.check_store()?;
        let id = header.msg_id.clone().unwrap_or_default();
        let Some((_, offset)) = decode_offset_message_id(&id) else {
            return Err(Refusal::new(response_code::SYSTEM_ERROR, format!("[{id}] is no offset message id")));
        };
        let mut record = Vec::new();
        if let Some(cold) = self.read_record(offset, env.disk, &mut record)? {
            return Ok(Answer::Cold(cold));
        }
        let topic = header.topic.as_deref().and_then(|topic| self.topics.get(topic));
        let group = self.groups.get(&header.consumer_group);
        let client_id = header.client_id.clone().unwrap_or_default();
        let asked = ConsumeMessageDirectlyResultRequest {
            broker_name: Some(self.config.broker_name.clone()),
            topic_sys_flag: topic.map(|topic| topic.config.topic_sys_flag).or(header.topic_sys_flag),
            group_sys_flag: group.map(|group| group.group_sys_flag).or(header.group_sys_flag),
            ..header.clone()
        };
        let asked =
            Command::request(request_code::CONSUME_MESSAGE_DIRECTLY, asked.to_ext()).with_body(record);
        self.forward(now, ReplyTo::new(conn, request), header.consumer_group, client_id, asked, env)
    }

    fn forward<D>(
        &mut self,
        now: Now,
        to: ReplyTo,
        group: String,
        client_id: String,
        asked: Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let error = |remark: String| Err(Refusal::new(response_code::SYSTEM_ERROR, remark));
        let Some((conn, version)) = self.consumers.find_client(&group, &client_id) else {
            return error(format!("The Consumer <{group}> <{client_id}> not online"));
        };
        if version < VERSION_RUNNING_INFO {
            return error(format!(
                "The Consumer <{client_id}> Version <{version}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT"
            ));
        }
        self.call(now, conn, asked, CALL_TIMEOUT, Purpose::Forward { to, whom: (group, client_id) }, env);
        Ok(Answer::Later)
    }

    /// Asks the consumers of a group where they are in a topic.
    pub(super) fn on_consumer_status<D>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetConsumerStatusRequest = request.header()?;
        let wanted = header.client_addr.clone().filter(|client| !client.trim().is_empty());
        let Some(group) = self.consumers.group(&header.group) else {
            return Err(Refusal::new(
                response_code::CONSUMER_NOT_ONLINE,
                format!("No Any Consumer online in the consumer group: [{}]", header.group),
            ));
        };
        let mut asked = Vec::new();
        for (member, client) in &group.clients {
            if client.version < VERSION_STATUS {
                return Err(Refusal::new(
                    response_code::SYSTEM_ERROR,
                    format!("the client does not support this feature. version={}", client.version),
                ));
            }
            if wanted.as_ref().is_none_or(|wanted| *wanted == client.id) {
                asked.push((*member, client.id.clone()));
            }
        }
        if asked.is_empty() {
            let answer = Command::response(request, response_code::SUCCESS, Ext::None);
            return Ok(Answer::Now(answer.with_body(GetConsumerStatusBody::default().encode())));
        }
        let gather = self.calls.gather(ReplyTo::new(conn, request), asked.len());
        let header = GetConsumerStatusRequest { client_addr: None, ..header };
        for (member, client_id) in asked {
            let request = Command::request(request_code::GET_CONSUMER_STATUS_FROM_CLIENT, header.to_ext());
            self.call(now, member, request, STATUS_TIMEOUT, Purpose::Gather { gather, client_id }, env);
        }
        Ok(Answer::Later)
    }

    /// Hands a reply to the producer that waits for it, and stores it (`storeReplyMessageEnable`).
    pub(super) fn on_reply<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: SendMessageRequest<'_> = request.header()?;
        self.check_store()?;
        self.check_master()?;
        let born_host = self.conns.peer(conn).unwrap_or(self.config.store_host);
        self.check_send(now, &header, born_host)?;
        let queue_id = self.choose_queue(&header, env.rng);
        let mut text = Vec::new();
        put_properties(header.properties.as_bytes(), false, &self.config.cluster_name, &mut text);
        check_properties(&text)?;
        let to = ReplyTo::new(conn, request);
        let mut answer = SendMessageResponse {
            store_host: self.config.store_host,
            offset: 0,
            more_offsets: Vec::new(),
            queue_id,
            queue_offset: 0,
            transaction_id: Bytes::new(),
        };
        let draft = Draft {
            topic: &header.topic,
            queue_id,
            flag: header.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host,
            store_host: self.config.store_host,
            reconsume_times: header.reconsume_times,
            prepared_transaction_offset: 0,
            body: &request.body,
            properties: &text,
        };
        let end = match self.store_plain(now, &draft, env.disk) {
            Ok(stored) => {
                answer.offset = stored.appended.physical_offset;
                answer.queue_offset = stored.appended.queue_offset;
                stored.appended.end
            }
            // RocketMQ hands over what it cannot store.
            Err(refusal) => {
                tracing::warn!(refusal.remark, "a reply is handed over but not stored");
                0
            }
        };
        let requester = property(&text, b"REPLY_TO_CLIENT").and_then(|id| core::str::from_utf8(id).ok());
        let found = requester.and_then(|id| self.producers.find_client(id));
        let (Some(requester), Some(member)) = (requester.map(String::from), found) else {
            let remark = match requester {
                None => "reply message properties[REPLY_TO_CLIENT] is null".to_string(),
                Some(id) => format!("push reply message fail, channel of <{id}> not found."),
            };
            let reply = Command {
                remark: Some(remark),
                ..to.response(response_code::SYSTEM_ERROR, Ext::SendReply(answer))
            };
            self.answer_reply(now, &to, reply, end, env);
            return Ok(Answer::Later);
        };
        put_property(b"PUSH_REPLY_TIME", now.wall.0.to_string().as_bytes(), &mut text);
        let pushed = self.push_reply_request(now, &header, queue_id, born_host.to_string(), &text);
        let pushed = pushed.with_body(request.body.clone());
        let purpose = Purpose::PushReply { to, header: answer, end, requester };
        self.call(now, member, pushed, CALL_TIMEOUT, purpose, env);
        Ok(Answer::Later)
    }

    fn push_reply_request(
        &self,
        now: Now,
        header: &SendMessageRequest<'_>,
        queue_id: i32,
        born_host: String,
        properties: &[u8],
    ) -> Command {
        let pushed = ReplyMessageRequest {
            producer_group: header.producer_group.clone().into_owned(),
            topic: header.topic.clone().into_owned(),
            default_topic: header.default_topic.clone().into_owned(),
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: Some(String::from_utf8_lossy(properties).into_owned()),
            reconsume_times: Some(header.reconsume_times),
            unit_mode: Some(header.unit_mode),
            born_host,
            store_host: self.config.store_host.to_string(),
            store_timestamp: now.wall.0,
        };
        Command::request(request_code::PUSH_REPLY_MESSAGE_TO_CLIENT, pushed.to_ext())
    }

    /// Answers the replier, once the stored copy is safe.
    fn answer_reply<D>(
        &mut self,
        now: Now,
        to: &ReplyTo,
        reply: Command,
        end: u64,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if end <= self.store.visible() {
            return self.send_reply(to, reply, env);
        }
        if !to.is_oneway() {
            self.acks.park_out_of_order(Ack {
                conn: to.conn,
                reply,
                end,
                safety: Safety::Visible,
                change: None,
                flush_deadline: now.mono + self.config.flush_timeout,
                slave_deadline: now.mono + self.config.slave_timeout,
            });
        }
    }
}

fn forwarded(to: &ReplyTo, (group, client_id): &(String, String), outcome: Outcome) -> Command {
    match outcome {
        Outcome::Answered(answer) => {
            Command { remark: answer.remark, ..to.response(answer.code, answer.ext).with_body(answer.body) }
        }
        Outcome::TimedOut => to.refuse(Refusal::new(
            response_code::CONSUME_MSG_TIMEOUT,
            format!("consumer <{group}> <{client_id}> Timeout: no answer in {} s", CALL_TIMEOUT.as_secs()),
        )),
        Outcome::Closed => to.refuse(Refusal::new(
            response_code::SYSTEM_ERROR,
            format!("invoke consumer <{group}> <{client_id}> Exception: its connection is closed"),
        )),
    }
}

fn add_status(body: &mut GetConsumerStatusBody, client_id: String, outcome: Outcome) {
    let Outcome::Answered(answer) = outcome else {
        tracing::warn!(client_id, "a consumer does not say where it is");
        return;
    };
    match body::decode::<GetConsumerStatusBody>(&answer.body) {
        Ok(status) if answer.code == response_code::SUCCESS => {
            body.consumer_table.insert(client_id, status.message_queue_table);
        }
        Ok(_) => tracing::warn!(client_id, answer.code, "a consumer does not say where it is"),
        Err(error) => tracing::warn!(client_id, %error, "a consumer does not say where it is"),
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::Cow;

    use super::*;

    #[test]
    fn what_a_client_says_is_passed_on() {
        let to =
            ReplyTo::new(ConnId::accepted(1), &Command { opaque: 7, ..Command::request(307, Ext::None) });
        let whom = (String::from("G"), String::from("c"));
        let fields = Ext::Fields(Vec::from([(Cow::Borrowed("a"), Cow::Borrowed("b"))]));
        let said = Command { code: 3, remark: Some("no".into()), ..Command::request(0, fields.clone()) };
        let reply = forwarded(&to, &whom, Outcome::Answered(said.with_body(&b"x"[..])));
        assert_eq!((reply.opaque, reply.code, reply.remark.as_deref()), (7, 3, Some("no")));
        assert_eq!((reply.ext, &reply.body[..]), (fields, &b"x"[..]));
        assert_eq!(forwarded(&to, &whom, Outcome::TimedOut).code, response_code::CONSUME_MSG_TIMEOUT);
        assert_eq!(forwarded(&to, &whom, Outcome::Closed).code, response_code::SYSTEM_ERROR);
        let mut body = GetConsumerStatusBody::default();
        add_status(&mut body, "c".into(), Outcome::Closed);
        let answer = body.clone();
        add_status(
            &mut body,
            "d".into(),
            Outcome::Answered(Command::request(0, Ext::None).with_body(answer.encode())),
        );
        assert_eq!(body.consumer_table.keys().collect::<Vec<_>>(), ["d"]);
    }
}
