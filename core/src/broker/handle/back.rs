//! Messages that could not be consumed come back: CONSUMER_SEND_MSG_BACK.
//!
//! The message is stored again in the group's retry topic with a delay that grows with each try, and in its dead-letter queue
//! after the last one. RocketMQ answers as soon as the copy is written; here the answer waits until it is as safe as any
//! send, because the consumer moves on with it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::ack::{Ack, Change, Safety};
use super::super::put::copy_properties;
use super::super::reply::{Answer, Refusal};
use super::super::store::ONCE_PRODUCER;
use super::super::{Broker, BrokerEvent, names};
use crate::io::{ConnId, Disk, Env, Now};
use crate::probe::Probe;
use crate::wire::body::{perm, topic_sys_flag};
use crate::wire::code::response_code;
use crate::wire::message::{Draft, Entry, Record, offset_message_id, property, put_property};
use crate::wire::request::ConsumerSendMsgBackRequest;
use crate::wire::{Command, Ext};

use super::send::VERSION_3_4_9;

/// The delay level of a first retry, when the client leaves it to the broker.
const FIRST_RETRY_LEVEL: i32 = 3;

impl Broker {
    pub(super) fn on_send_back<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: ConsumerSendMsgBackRequest = request.header()?;
        self.check_store()?;
        self.check_master()?;
        let group = header.group.as_str();
        let Some(settings) = self.groups.find(now.wall, group, &self.config) else {
            return Err(Refusal::group_missing(group));
        };
        let (retry_queues, retry_max_times) = (settings.retry_queue_nums, settings.retry_max_times);
        if self.config.permission & perm::WRITE == 0 {
            let ip = self.config.store_host.ip();
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("the broker[{ip}] sending message is forbidden"),
            ));
        }
        if retry_queues <= 0 {
            return Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)));
        }
        let retry_topic = names::retry_topic(group);
        let sys_flag = if header.unit_mode == Some(true) { topic_sys_flag::UNIT_SUB } else { 0 };
        self.topics.make(now.wall, &retry_topic, retry_queues, sys_flag);
        if self.topics.get(&retry_topic).is_some_and(|topic| topic.config.perm & perm::WRITE == 0) {
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("the topic[{retry_topic}] sending message is forbidden"),
            ));
        }
        let mut bytes = Vec::new();
        if let Some(cold) = self.read_record(header.offset, env.disk, &mut bytes)? {
            return Ok(Answer::Cold(cold));
        }
        let Ok(Entry::Message(record)) = Entry::decode(&bytes) else {
            return Err(look_failed(header.offset));
        };
        if !is_meant(&record, &header) {
            return Err(look_failed(header.offset));
        }
        let asked = header.max_reconsume_times.filter(|_| request.version >= VERSION_3_4_9);
        let is_dead = record.reconsume_times >= asked.unwrap_or(retry_max_times) || header.delay_level < 0;
        let level = match header.delay_level {
            _ if is_dead => 0,
            0 => FIRST_RETRY_LEVEL + record.reconsume_times,
            level => level,
        };
        let (topic, queue_id) = if is_dead {
            let dead = names::dlq_topic(group);
            Probe::Dead.reached();
            tracing::info!(group, topic = record.topic, times = record.reconsume_times, "message is dead");
            self.topics.make(now.wall, &dead, 1, 0);
            (dead, 0)
        } else {
            (retry_topic, env.rng.below(retry_queues as u64) as i32)
        };
        let properties = put_back_properties(&record, level);
        let draft = Draft {
            topic: &topic,
            queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_host: self.config.store_host,
            reconsume_times: record.reconsume_times + 1,
            prepared_transaction_offset: 0,
            body: record.body,
            properties: &properties,
        };
        let stored = self.store_message(now, &draft, env.disk)?;
        let origin =
            property(record.properties, b"RETRY_TOPIC").and_then(|topic| core::str::from_utf8(topic).ok());
        let pair = self.offsets.pair(group, origin.unwrap_or(record.topic));
        Probe::SentBack.reached();
        self.stats.sent_back(pair);
        if !request.is_oneway() {
            self.acks.park(Ack {
                conn,
                reply: Command::response(request, response_code::SUCCESS, Ext::None),
                end: stored.appended.end,
                safety: Safety::Visible,
                change: stored.topic.map(Change::Topics),
                flush_deadline: now.mono + self.config.flush_timeout,
                slave_deadline: now.mono + self.config.slave_timeout,
            });
        }
        Ok(Answer::Later)
    }
}

/// Whether a message may be the one that its consumer means. After a power loss under asynchronous flush another one may
/// lie at the place, even one of the same topic, such as a copy on its way to the same group. Its unique id tells them
/// apart; clients that know none name the place again, and then the topic decides, which they write without the namespace.
fn is_meant(record: &Record<'_>, header: &ConsumerSendMsgBackRequest) -> bool {
    let topic = header.origin_topic.as_deref().unwrap_or_default();
    let id = header.origin_msg_id.as_deref().unwrap_or_default();
    let of = |name: &[u8]| property(record.properties, name).unwrap_or_default();
    let unique = of(b"UNIQ_KEY");
    if !id.is_empty() && !unique.is_empty() && !names_place(record, id) {
        return id.as_bytes() == unique;
    }
    topic.is_empty() || topic == record.topic || topic.as_bytes() == of(b"RETRY_TOPIC")
}

/// Whether an id says where a message lies, or where its first copy did.
fn names_place(record: &Record<'_>, id: &str) -> bool {
    let mut place = String::new();
    offset_message_id(&record.store_host, record.physical_offset, &mut place);
    id == place || property(record.properties, b"ORIGIN_MESSAGE_ID") == Some(id.as_bytes())
}

fn look_failed(offset: i64) -> Refusal {
    Refusal::new(response_code::SYSTEM_ERROR, format!("look message by offset failed, {offset}"))
}

/// The properties of a message on its way back.
fn put_back_properties(record: &Record<'_>, level: i32) -> Vec<u8> {
    let text = record.properties;
    let mut out = Vec::with_capacity(text.len() + 128);
    copy_properties(text, &[b"WAIT", b"DELAY", ONCE_PRODUCER], &mut out);
    if property(text, b"RETRY_TOPIC").is_none() {
        put_property(b"RETRY_TOPIC", record.topic.as_bytes(), &mut out);
    }
    if property(text, b"ORIGIN_MESSAGE_ID").is_none() {
        let mut id = String::new();
        offset_message_id(&record.store_host, record.physical_offset, &mut id);
        put_property(b"ORIGIN_MESSAGE_ID", id.as_bytes(), &mut out);
    }
    put_property(b"WAIT", b"false", &mut out);
    put_property(b"DELAY", level.to_string().as_bytes(), &mut out);
    out
}
