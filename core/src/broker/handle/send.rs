//! Messages come in: SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE.
//!
//! Checks are made in RocketMQ's order, so that a request with two faults gets the answer its users know. The properties of a
//! single message are written anew with what a broker adds to them; those inside a batch are stored as they came, as RocketMQ
//! does. The answer is parked until the record is as safe as was asked for.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::super::ack::{Ack, Change, Safety};
use super::super::persist::Generation;
use super::super::put::{Stored, check_properties, copy_properties};
use super::super::reply::{Answer, Refusal};
use super::super::store::{Appended, ONCE_PRODUCER};
use super::super::{Broker, BrokerEvent, names};
use super::once::Sending;
use crate::io::{ConnId, Disk, Env, Now};
use crate::rng::Rng;
use crate::wire::body::{TopicFilterType, perm, topic_sys_flag};
use crate::wire::code::response_code;
use crate::wire::message::{BatchItem, Draft, decode_batch, properties, property, put_property};
use crate::wire::request::{SendMessageRequest, SendMessageResponse};
use crate::wire::{Command, Ext};

/// The region a broker is in, RocketMQ's default.
const REGION: &[u8] = b"DefaultRegion";
/// RocketMQ's `MULTI_TAGS_FLAG`.
const MULTI_TAGS: i32 = 2;
/// Versions before 3.4.9 do not mean what `maxReconsumeTimes` says.
pub(super) const VERSION_3_4_9: i32 = 121;
/// Bytes of a message id that the broker makes.
const UNIQUE_ID_BYTES: usize = 16;

/// Where a message goes.
struct Target<'a> {
    topic: Cow<'a, str>,
    queue_id: i32,
    sys_flag: i32,
    /// It was tried too often.
    is_dead: bool,
    /// The producer that wants it stored once.
    once: Option<&'a str>,
}

/// What the broker must know of a message's properties.
#[derive(Default)]
pub(super) struct Facts {
    wait: bool,
    unique_id: Bytes,
    /// It names a delay level, perhaps 0.
    has_delay: bool,
    /// A property of something that is not served.
    unserved: Option<&'static str>,
}

impl Broker {
    pub(super) fn on_send<D: Disk>(
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
        let sending = Sending { conn, request, header: &header, born_host };
        if header.once.is_some()
            && let Some(sought) = self.once_keys(&sending)
        {
            return self.send_once(now, &sending, sought, env);
        }
        let queue_id = self.choose_queue(&header, env.rng);
        if sending.is_batch() {
            return self.send_batch(now, &sending, queue_id, env);
        }
        let target = self.find_target(now, request, &header, queue_id)?;
        let (stored, facts) = self.send_one(now, &sending, &target, env)?;
        let reply = SendMessageResponse {
            store_host: self.config.store_host,
            offset: stored.appended.physical_offset,
            more_offsets: Vec::new(),
            queue_id: target.queue_id,
            queue_offset: stored.appended.queue_offset,
            transaction_id: facts.unique_id,
        };
        self.park_send(now, conn, request, reply, stored.appended.end, facts.wait, stored.topic);
        Ok(Answer::Later)
    }

    /// RocketMQ's `msgCheck`; makes the topic if it may.
    pub(super) fn check_send(
        &mut self,
        now: Now,
        header: &SendMessageRequest<'_>,
        producer: SocketAddr,
    ) -> Result<(), Refusal> {
        let topic = header.topic.as_ref();
        let known = self.topics.get(topic).map(|known| &known.config);
        if self.config.permission & perm::WRITE == 0 && known.is_some_and(|known| known.order) {
            let ip = self.config.store_host.ip();
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("the broker[{ip}] sending message is forbidden"),
            ));
        }
        names::check_topic(topic).map_err(|remark| Refusal::new(response_code::INVALID_PARAMETER, remark))?;
        if names::is_send_forbidden(topic) {
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("Sending message to topic[{topic}] is forbidden."),
            ));
        }
        if known.is_none() {
            self.create_topic_for(now, header, producer)?;
        }
        let topic = self.topics.get(topic).expect("there or just made");
        if header.queue_id >= topic.queue_ids_end() {
            return Err(Refusal::new(
                response_code::INVALID_PARAMETER,
                format!(
                    "request queueId[{}] is illegal, TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}] Producer: {producer}",
                    header.queue_id,
                    topic.config.topic_name,
                    topic.config.read_queue_nums,
                    topic.config.write_queue_nums,
                    topic.config.perm,
                ),
            ));
        }
        Ok(())
    }

    fn create_topic_for(
        &mut self,
        now: Now,
        header: &SendMessageRequest<'_>,
        producer: SocketAddr,
    ) -> Result<(), Refusal> {
        let topic = header.topic.as_ref();
        let is_retry = names::group_of_retry(topic).is_some();
        let sys_flag = match (header.unit_mode, is_retry) {
            (false, _) => 0,
            (true, true) => topic_sys_flag::UNIT_SUB,
            (true, false) => topic_sys_flag::UNIT,
        };
        let queues = header.default_topic_queue_nums;
        let made = self.topics.create_by_send(
            now.wall,
            topic,
            &header.default_topic,
            queues,
            sys_flag,
            &self.config,
        );
        if let Err(why) = made {
            if !is_retry {
                tracing::warn!(topic, %producer, why, "topic not made");
                return Err(Refusal::topic_not_exist(topic));
            }
            self.topics.ensure(now.wall, topic, 1, false, sys_flag);
        }
        Ok(())
    }

    pub(super) fn choose_queue(&self, header: &SendMessageRequest<'_>, rng: &mut Rng) -> i32 {
        if header.queue_id >= 0 {
            return header.queue_id;
        }
        let queues = self.topics.get(&header.topic).map_or(0, |topic| topic.config.write_queue_nums);
        rng.below(u64::try_from(queues).unwrap_or(0)) as i32
    }

    /// RocketMQ's `handleRetryAndDLQ`: a message sent to a retry topic too often goes to the dead-letter queue instead.
    fn find_target<'a>(
        &mut self,
        now: Now,
        request: &Command,
        header: &'a SendMessageRequest<'_>,
        queue_id: i32,
    ) -> Result<Target<'a>, Refusal> {
        let topic = header.topic.as_ref();
        let mut target = Target {
            topic: Cow::Borrowed(topic),
            queue_id,
            sys_flag: header.sys_flag,
            is_dead: false,
            once: None,
        };
        if let Some(group) = names::group_of_retry(topic) {
            let Some(config) = self.groups.find(now.wall, group, &self.config) else {
                return Err(Refusal::group_missing(group));
            };
            let asked = header.max_reconsume_times.filter(|_| request.version >= VERSION_3_4_9);
            let tries_max = asked.unwrap_or(config.retry_max_times);
            // A group that holds queue locks consumes in order: RocketMQ takes whatever it sends back for dead.
            if header.reconsume_times > tries_max || self.locks.has_live(now.mono, group) {
                let dead = names::dlq_topic(group);
                self.topics.ensure(now.wall, &dead, 1, false, 0);
                target = Target { topic: Cow::Owned(dead), queue_id: 0, is_dead: true, ..target };
            }
        }
        let filter_type = self.topics.get(&target.topic).map(|topic| topic.config.topic_filter_type);
        if filter_type == Some(TopicFilterType::MultiTag) {
            target.sys_flag |= MULTI_TAGS;
        }
        Ok(target)
    }

    fn send_one<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        target: &Target<'_>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(Stored, Facts), Refusal> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        let sent = self.store_one(now, sending, target, &mut scratch, env);
        self.scratch = scratch;
        sent
    }

    fn store_one<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        target: &Target<'_>,
        scratch: &mut Vec<u8>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(Stored, Facts), Refusal> {
        let Sending { request, header, born_host, .. } = sending;
        let text = header.properties.as_bytes();
        let mut facts = put_properties(text, target.is_dead, &self.config.cluster_name, scratch);
        if let Some(name) = facts.unserved {
            // Refused, so that nobody takes a timed message for a delivered one.
            return Err(Refusal::new(
                response_code::MESSAGE_ILLEGAL,
                format!("messages with the property {name} are not served by this broker"),
            ));
        }
        if facts.unique_id.is_empty() {
            facts.unique_id = Bytes::from(unique_id(now, self.config.store_host, env.rng));
            put_property(b"UNIQ_KEY", &facts.unique_id, scratch);
        }
        if let Some(producer) = target.once {
            put_property(ONCE_PRODUCER, producer.as_bytes(), scratch);
        }
        let draft = Draft {
            topic: &target.topic,
            queue_id: target.queue_id,
            flag: header.flag,
            sys_flag: target.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: *born_host,
            store_host: self.config.store_host,
            reconsume_times: header.reconsume_times,
            prepared_transaction_offset: 0,
            body: &request.body,
            properties: scratch,
        };
        let stored = if facts.has_delay {
            self.store_message(now, &draft, env.disk)?
        } else {
            self.store_plain(now, &draft, env.disk)?
        };
        Ok((stored, facts))
    }

    /// Appends the message of a send with the name of its producer.
    pub(super) fn append_single_once<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        queue_id: i32,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(Vec<Appended>, Option<Generation>), Refusal> {
        let target = self.find_target(now, sending.request, sending.header, queue_id)?;
        let target = Target { once: sending.header.once.as_deref(), ..target };
        let (stored, _) = self.send_one(now, sending, &target, env)?;
        Ok((Vec::from([stored.appended]), stored.topic))
    }

    /// Appends those messages of a batch that are wanted, with the name of their producer.
    pub(super) fn append_batch_once<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        queue_id: i32,
        is_wanted: impl Fn(usize) -> bool,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(Vec<Appended>, Option<Generation>), Refusal> {
        let producer = sending.header.once.as_deref().unwrap_or_default().as_bytes();
        let items = self.batch_items(sending)?;
        let wanted = items.into_iter().enumerate().filter(|(at, _)| is_wanted(*at)).map(|(_, item)| item);
        let (items, texts): (Vec<_>, Vec<_>) = wanted
            .map(|item| {
                let mut text = Vec::with_capacity(item.properties.len() + producer.len() + 16);
                copy_properties(item.properties, &[ONCE_PRODUCER], &mut text);
                put_property(ONCE_PRODUCER, producer, &mut text);
                (item, text)
            })
            .unzip();
        let marked: Vec<BatchItem<'_>> = items
            .iter()
            .zip(&texts)
            .map(|(item, text)| BatchItem { properties: text, flag: item.flag, body: item.body })
            .collect();
        self.append_items(now, sending, queue_id, &marked, env)
    }

    /// The messages of a batch, if it may be stored.
    fn batch_items<'a>(&self, sending: &Sending<'a>) -> Result<Vec<BatchItem<'a>>, Refusal> {
        let (request, header) = (sending.request, sending.header);
        if names::group_of_retry(&header.topic).is_some() {
            return Err(Refusal::new(
                response_code::MESSAGE_ILLEGAL,
                format!("batch request does not support retry group {}", header.topic),
            ));
        }
        let items = decode_batch(&request.body).map_err(|error| {
            Refusal::new(response_code::MESSAGE_ILLEGAL, format!("the batch is malformed: {error}"))
        })?;
        if request.body.len() as u64 > self.config.store.body_bytes_max {
            return Err(self.message_illegal());
        }
        Ok(items)
    }

    fn append_items<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        queue_id: i32,
        items: &[BatchItem<'_>],
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(Vec<Appended>, Option<Generation>), Refusal> {
        let header = sending.header;
        let topic = self.topics.get_mut(&header.topic).expect("checked");
        let multi_tags =
            if topic.config.topic_filter_type == TopicFilterType::MultiTag { MULTI_TAGS } else { 0 };
        let (queue, changed) = (topic.queue(queue_id, &mut self.store), topic.changed);
        let mut drafts = Vec::with_capacity(items.len());
        for item in items {
            check_properties(item.properties)?;
            drafts.push(Draft {
                topic: &header.topic,
                queue_id,
                flag: item.flag,
                sys_flag: header.sys_flag | multi_tags,
                born_timestamp: header.born_timestamp,
                born_host: sending.born_host,
                store_host: self.config.store_host,
                reconsume_times: header.reconsume_times,
                prepared_transaction_offset: 0,
                body: item.body,
                properties: item.properties,
            });
        }
        let mut appended = Vec::with_capacity(drafts.len());
        self.store
            .append_batch(now, queue, &drafts, env.disk, &mut appended)
            .map_err(|error| self.refuse_append(error))?;
        let messages = appended.len() as u64;
        let bytes = drafts.iter().map(|draft| draft.record_bytes() as u64).sum();
        self.stats.put.put(messages, bytes);
        if let Some(topic) = self.topics.get_mut(&header.topic) {
            topic.stats.put(messages, bytes);
        }
        Ok((appended, (!self.topics.file.is_durable(changed)).then_some(changed)))
    }

    fn send_batch<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        queue_id: i32,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let items = self.batch_items(sending)?;
        let (appended, topic) = self.append_items(now, sending, queue_id, &items, env)?;
        let first = appended.first().expect("a batch is never empty");
        let last = appended.last().expect("a batch is never empty");
        let text = sending.header.properties.as_bytes();
        let reply = SendMessageResponse {
            store_host: self.config.store_host,
            offset: first.physical_offset,
            more_offsets: appended[1..].iter().map(|put| put.physical_offset).collect(),
            queue_id,
            queue_offset: first.queue_offset,
            transaction_id: Bytes::copy_from_slice(property(text, b"UNIQ_KEY").unwrap_or_default()),
        };
        let wait = waits(property(text, b"WAIT"));
        self.park_send(now, sending.conn, sending.request, reply, last.end, wait, topic);
        Ok(Answer::Later)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn park_send(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        reply: SendMessageResponse,
        end: u64,
        wait: bool,
        topic: Option<Generation>,
    ) {
        if request.is_oneway() {
            return;
        }
        self.acks.park(Ack {
            conn,
            reply: Command::response(request, response_code::SUCCESS, Ext::SendReply(reply)),
            end,
            safety: if wait { Safety::Visible } else { Safety::Written },
            change: topic.map(Change::Topics),
            flush_deadline: now.mono + self.config.flush_timeout,
            slave_deadline: now.mono + self.config.slave_timeout,
        });
    }
}

/// Whether a send waits for flush and replication; absent means yes.
pub(super) fn waits(value: Option<&[u8]>) -> bool {
    value.is_none_or(|value| value.eq_ignore_ascii_case(b"true"))
}

/// Writes the properties of a single message as a broker stores them.
pub(super) fn put_properties(text: &[u8], is_dead: bool, cluster: &str, out: &mut Vec<u8>) -> Facts {
    let mut facts = Facts { wait: true, ..Facts::default() };
    out.reserve(text.len() + cluster.len() + 64);
    for (name, value) in properties(text) {
        match name {
            // The client may not say what the broker says, nor what only a pop adds.
            b"POP_CK" | b"CLUSTER" | b"MSG_REGION" | b"TRACE_ON" | ONCE_PRODUCER => continue,
            b"DELAY" if is_dead => continue,
            b"DELAY" => facts.has_delay = true,
            b"TIMER_DELAY_SEC" => facts.unserved = Some("TIMER_DELAY_SEC"),
            b"TIMER_DELAY_MS" => facts.unserved = Some("TIMER_DELAY_MS"),
            b"TIMER_DELIVER_MS" => facts.unserved = Some("TIMER_DELIVER_MS"),
            b"TRAN_MSG" if value.eq_ignore_ascii_case(b"true") => facts.unserved = Some("TRAN_MSG"),
            b"WAIT" => facts.wait = waits(Some(value)),
            b"UNIQ_KEY" => facts.unique_id = Bytes::copy_from_slice(value),
            _ => {}
        }
        put_property(name, value, out);
    }
    if is_dead {
        put_property(b"DELAY", b"-1", out);
    }
    put_property(b"CLUSTER", cluster.as_bytes(), out);
    put_property(b"MSG_REGION", REGION, out);
    put_property(b"TRACE_ON", b"true", out);
    facts
}

/// A message id for a client that gave none: upper-case hexadecimal, as a client would have made it.
fn unique_id(now: Now, host: SocketAddr, rng: &mut Rng) -> String {
    let mut id = [0; UNIQUE_ID_BYTES];
    if let SocketAddr::V4(host) = host {
        id[..4].copy_from_slice(&host.ip().octets());
    }
    id[4..8].copy_from_slice(&(now.wall.0 as u32).to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    id.iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_stored_as_a_broker_stores_them() {
        for (text, dead, expect, wait, id) in [
            (
                &b"KEYS\x01k\x02UNIQ_KEY\x01U\x02WAIT\x01false\x02POP_CK\x01x\x02CLUSTER\x01mine"[..],
                false,
                &b"KEYS\x01k\x02UNIQ_KEY\x01U\x02WAIT\x01false\x02CLUSTER\x01C\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02"[..],
                false,
                &b"U"[..],
            ),
            (
                b"DELAY\x013\x02",
                true,
                b"DELAY\x01-1\x02CLUSTER\x01C\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02",
                true,
                b"",
            ),
            (b"", false, b"CLUSTER\x01C\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02", true, b""),
        ] {
            let mut out = Vec::new();
            let facts = put_properties(text, dead, "C", &mut out);
            assert_eq!(out, expect);
            assert_eq!((facts.wait, &facts.unique_id[..]), (wait, id));
        }
    }
}
