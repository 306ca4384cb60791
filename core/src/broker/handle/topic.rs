//! Topics, by an administrator: codes 17, 18, 21, 202, 215, 300, 305, 316, 351.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::ack::Change;
use super::super::reply::{Answer, Refusal};
use super::super::{Broker, BrokerEvent, names, upstream};
use crate::io::{ConnId, Disk, Env, Now};
use crate::wire::body::{
    self, CreateTopicListRequestBody, DataVersion, GroupList, MessageQueue, MqMap, TopicConfig,
    TopicConfigSerializeWrapper, TopicFilterType, TopicList, TopicOffset, TopicStatsTable,
};
use crate::wire::code::response_code;
use crate::wire::request::{
    CreateTopicRequest, DeleteTopicRequest, GetAllTopicConfigRequest, GetAllTopicConfigResponse,
    GetTopicConfigRequest, GetTopicStatsInfoRequest, Header, QueryTopicConsumeByWhoRequest,
};
use crate::wire::{Command, Ext};

/// `splitMetadataSize`: topics or groups in one page of an answer.
pub(super) const PAGE_MAX: usize = 2000;

/// Attributes of topics: name, whether it may be changed, and what it may be.
const ATTRIBUTES: [(&str, bool, Values); 5] = [
    // What RocketMQ has beside is not served here, and would be stored in a form that nobody asked for.
    ("queue.type", false, Values::Words(&["SimpleCQ"])),
    ("cleanup.policy", false, Values::Words(&["DELETE"])),
    (
        "message.type",
        true,
        Values::Words(&["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "PRIORITY", "LITE"]),
    ),
    ("reserve.time", true, Values::Range(-1, i64::MAX)),
    ("lite.topic.expiration", true, Values::Range(-1, 30 * 24 * 60)),
];

enum Values {
    Words(&'static [&'static str]),
    Range(i64, i64),
}

impl Broker {
    pub(super) fn on_create_topic(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let header: CreateTopicRequest = request.header()?;
        let Some(topic_filter_type) = TopicFilterType::from_name(&header.topic_filter_type) else {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("topicFilterType = [{}] value invalid", header.topic_filter_type),
            ));
        };
        let config = TopicConfig {
            attributes: parse_attributes(header.attributes.as_deref().unwrap_or_default())?,
            order: header.order,
            perm: header.perm,
            read_queue_nums: header.read_queue_nums,
            topic_filter_type,
            topic_name: header.topic,
            topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
            write_queue_nums: header.write_queue_nums,
        };
        self.put_topics(now, conn, request, Vec::from([config]))
    }

    pub(super) fn on_create_topics(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let wanted: CreateTopicListRequestBody = body::decode(&request.body)?;
        self.put_topics(now, conn, request, wanted.topic_config_list)
    }

    /// Makes or changes topics, all of them or none; the answer waits for `topics.json`.
    fn put_topics(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        wanted: Vec<TopicConfig>,
    ) -> Result<Answer, Refusal> {
        let mut checked = Vec::with_capacity(wanted.len());
        for config in wanted {
            checked.push(self.check_topic(config)?);
        }
        for config in checked {
            self.topics.put(now.wall, config);
        }
        Ok(self.answer_when_topics_are_durable(now, conn, request))
    }

    /// A topic as it will be, its attributes altered as the request says.
    fn check_topic(&self, wanted: TopicConfig) -> Result<TopicConfig, Refusal> {
        let invalid = |remark: String| Refusal::new(response_code::INVALID_PARAMETER, remark);
        let name = &wanted.topic_name;
        names::check_topic(name).map_err(invalid)?;
        if names::is_system_topic(name, &self.config) {
            return Err(invalid(format!("The topic[{name}] is conflict with system topic.")));
        }
        for (what, queues) in
            [("readQueueNums", wanted.read_queue_nums), ("writeQueueNums", wanted.write_queue_nums)]
        {
            if !(0..=self.config.topic_queues_max).contains(&queues) {
                let max = self.config.topic_queues_max;
                return Err(invalid(format!("{what} of the topic[{name}] is {queues}, not in 0..={max}")));
            }
        }
        let current = self.topics.get(name).map(|topic| &topic.config.attributes);
        let attributes = alter_attributes(current, &wanted.attributes)
            .map_err(|remark| Refusal::new(response_code::SYSTEM_ERROR, remark))?;
        Ok(TopicConfig { attributes, ..wanted })
    }

    fn answer_when_topics_are_durable(&mut self, now: Now, conn: ConnId, request: &Command) -> Answer {
        let reply = Command::response(request, response_code::SUCCESS, Ext::None);
        let change = Change::Topics(self.topics.file.generation());
        self.answer_when_durable(now, conn, request, reply, change)
    }

    pub(super) fn on_delete_topic(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        let header: DeleteTopicRequest = request.header()?;
        let invalid = |remark: String| Err(Refusal::new(response_code::INVALID_PARAMETER, remark));
        let topic = header.topic.as_str();
        self.check_store()?;
        if topic.trim().is_empty() {
            return invalid("The specified topic is blank.".into());
        }
        if names::is_system_topic(topic, &self.config) {
            return invalid(format!("The topic[{topic}] is conflict with system topic."));
        }
        self.delete_topic(now, topic);
        Ok(self.answer_when_topics_are_durable(now, conn, request))
    }

    /// Topics that only the store knows are deleted. A slave's follow its master's list: it may have messages of a topic of which it
    /// has not heard yet.
    pub(super) fn on_clean_unused_topics(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
    ) -> Result<Answer, Refusal> {
        self.check_store()?;
        let mut unused = BTreeSet::new();
        if !self.replication.is_slave() {
            self.store.for_each_queue(|topic, _, queue| {
                let is_unused = self.store.max_offset(queue) > 0
                    && self.topics.get(topic).is_none()
                    && !names::is_system_topic(topic, &self.config)
                    && !names::is_lmq(topic);
                if is_unused && !unused.contains(topic) {
                    unused.insert(String::from(topic));
                }
            });
        }
        for topic in unused {
            self.delete_topic(now, &topic);
        }
        Ok(self.answer_when_topics_are_durable(now, conn, request))
    }

    pub(super) fn on_get_topic_config(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetTopicConfigRequest = request.header()?;
        let Some(topic) = self.topics.get(&header.topic) else {
            return Err(Refusal::new(
                response_code::TOPIC_NOT_EXIST,
                format!("No topic in this broker. topic: {}", header.topic),
            ));
        };
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&topic.config))))
    }

    /// Everything, or a page of it in the order of names.
    pub(super) fn on_get_all_topics(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: GetAllTopicConfigRequest = request.header()?;
        if let Some(same) = upstream::same(request, &self.topics.stamp_for_slaves()) {
            return Ok(Answer::Now(same));
        }
        let mut wrapper = self.topics.wrapper_for_slaves();
        let total = wrapper.topic_config_table.len();
        if let Some(page) =
            page(header.topic_seq, header.data_version.as_deref(), header.max_topic_num, wrapper.data_version)
        {
            let all = core::mem::take(&mut wrapper.topic_config_table);
            wrapper.topic_config_table = all.into_iter().skip(page.begin).take(page.len).collect();
        }
        let wrapper = TopicConfigSerializeWrapper {
            mapping_data_version: Some(DataVersion::default()),
            topic_queue_mapping_detail_map: Some(BTreeMap::new()),
            topic_queue_mapping_info_map: Some(BTreeMap::new()),
            ..wrapper
        };
        let ext = GetAllTopicConfigResponse { total_topic_num: Some(total as i32) }.to_ext();
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Answer::Now(answer.with_body(body::encode(&wrapper))))
    }

    pub(super) fn on_get_topic_stats<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetTopicStatsInfoRequest = request.header()?;
        self.check_store()?;
        let topic = header.topic.as_str();
        let Some(known) = self.topics.get(topic) else {
            return Err(Refusal::new(response_code::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
        };
        let topic_put_tps = known.stats.messages.tps();
        let mut table = BTreeMap::new();
        for queue_id in 0..known.queue_ids_end() {
            let mut ends = TopicOffset::default();
            if let Some(queue) = self.store.find_queue(topic, queue_id) {
                ends.min_offset = self.store.min_offset(queue);
                ends.max_offset = self.store.max_offset(queue);
                match self.store_time_of(queue, ends.max_offset - 1, env.disk) {
                    Ok(time) => ends.last_update_timestamp = time.unwrap_or(0),
                    Err(cold) => return Ok(Answer::Cold(cold)),
                }
            }
            table.insert(MessageQueue::new(topic, self.config.broker_name.as_str(), queue_id), ends);
        }
        let stats = TopicStatsTable { offset_table: MqMap(table), topic_put_tps };
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(stats.encode())))
    }

    /// Groups that consume a topic: those that are there, and those that have committed something.
    pub(super) fn on_topic_consumed_by(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: QueryTopicConsumeByWhoRequest = request.header()?;
        let mut groups = self.offsets.groups_of(&header.topic);
        groups.extend(self.consumers.groups_of(&header.topic));
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        let list = GroupList { group_list: groups.into_iter().collect() };
        Ok(Answer::Now(answer.with_body(body::encode(&list))))
    }

    pub(super) fn on_get_system_topics(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let names: BTreeSet<String> = self
            .topics
            .iter()
            .map(|topic| topic.config.topic_name.clone())
            .filter(|name| names::is_system_topic(name, &self.config))
            .collect();
        let list = TopicList { broker_addr: None, topic_list: names.into_iter().collect() };
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&list))))
    }
}

/// Which part of a table an answer holds.
pub(super) struct Page {
    pub(super) begin: usize,
    pub(super) len: usize,
}

/// The page that is asked for; none when nothing says that pages are wanted. A table that changed since is given from its
/// beginning.
pub(super) fn page(
    seq: Option<i32>,
    version: Option<&str>,
    max: Option<i32>,
    current: DataVersion,
) -> Option<Page> {
    if seq.is_none() && version.is_none() && max.is_none() {
        return None;
    }
    let is_current = version
        .filter(|text| !text.trim().is_empty())
        .and_then(|text| body::decode::<DataVersion>(text.as_bytes()).ok())
        .is_some_and(|version| version == current);
    let begin = if is_current { usize::try_from(seq.unwrap_or(0)).unwrap_or(0) } else { 0 };
    let len = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
    Some(Page { begin, len })
}

/// Reads `+name=value,-name`.
fn parse_attributes(text: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let wrong =
        |what: &str| Refusal::new(response_code::SYSTEM_ERROR, format!("kv string format wrong.{what}"));
    let mut attributes = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if name.starts_with('+') => (name, value),
            Some(_) => return Err(wrong(" add/alter attribute format is wrong.")),
            None if part.starts_with('-') => (part, ""),
            None => return Err(wrong(" delete attribute format is wrong.")),
        };
        if attributes.insert(String::from(name), String::from(value)).is_some() {
            return Err(wrong(" duplication key."));
        }
    }
    Ok(attributes)
}

/// Applies changes of attributes (`+name` sets, `-name` removes) as RocketMQ's `AttributeUtil` does; `current` is none for a topic
/// that is made.
fn alter_attributes(
    current: Option<&BTreeMap<String, String>>,
    changes: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut attributes = current.cloned().unwrap_or_default();
    for (change, value) in changes {
        let name = change.get(1..).filter(|name| !name.is_empty()).ok_or("kv string format wrong.")?;
        let Some((_, is_changeable, values)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else {
            return Err(format!("unsupported key: {name}"));
        };
        if current.is_some() && !is_changeable {
            return Err(format!("attempt to update an unchangeable attribute. key: {name}"));
        }
        match change.as_bytes().first() {
            Some(b'+') => {
                let is_valid = match values {
                    Values::Words(words) => words.contains(&value.as_str()),
                    Values::Range(min, max) => {
                        value.parse::<i64>().is_ok_and(|value| (*min..=*max).contains(&value))
                    }
                };
                if !is_valid {
                    return Err(format!("value of {name} is not valid or not served: {value}"));
                }
                attributes.insert(name.into(), value.clone());
            }
            Some(b'-') if current.is_some() => {
                if attributes.remove(name).is_none() {
                    return Err(format!("attempt to delete a nonexistent key: {name}"));
                }
            }
            Some(b'-') => {
                return Err(format!("only add attribute is supported while creating topic. key: {name}"));
            }
            Some(_) | None => return Err(format!("wrong format key: {name}")),
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_altered_as_in_rocketmq() {
        let there = BTreeMap::from([("message.type".into(), "FIFO".into())]);
        for (current, text, expect) in [
            (None, "+message.type=FIFO", Some("FIFO")),
            (None, "-message.type", None),
            (None, "+message.type=OTHER", None),
            (None, "+nothing=1", None),
            (None, "message.type=FIFO", None),
            (Some(&there), "+message.type=NORMAL", Some("NORMAL")),
            (Some(&there), "+queue.type=SimpleCQ", None),
            (Some(&there), "-reserve.time", None),
            (Some(&there), "", Some("FIFO")),
            (Some(&there), "+reserve.time=-2", None),
        ] {
            let altered = parse_attributes(text)
                .map_err(|refusal| refusal.remark)
                .and_then(|changes| alter_attributes(current, &changes));
            let found = altered.as_ref().ok().and_then(|all| all.get("message.type").map(String::as_str));
            assert_eq!((found, altered.is_ok()), (expect, expect.is_some()), "{text} {altered:?}");
        }
        let removed =
            alter_attributes(Some(&there), &BTreeMap::from([("-message.type".into(), String::new())]));
        assert_eq!(removed, Ok(BTreeMap::new()));
    }

    #[test]
    fn pages_begin_anew_when_the_table_changed() {
        let version = DataVersion { counter: 2, state_version: 0, timestamp: 5 };
        let text = r#"{"counter":2,"stateVersion":0,"timestamp":5}"#;
        for (seq, said, max, expect) in [
            (None, None, None, None),
            (Some(0), Some(""), Some(10), Some((0, 10))),
            (Some(4), Some(text), None, Some((4, PAGE_MAX))),
            (Some(4), Some(r#"{"counter":1}"#), Some(9999), Some((0, PAGE_MAX))),
            (Some(-4), Some(text), Some(-1), Some((0, PAGE_MAX))),
        ] {
            let page = page(seq, said, max, version).map(|page| (page.begin, page.len));
            assert_eq!(page, expect);
        }
    }
}
