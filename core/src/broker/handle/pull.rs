//! Messages go out: PULL_MESSAGE and LITE_PULL_MESSAGE, held until there is something to say.
//!
//! A pull that finds nothing and may wait is held (see [`super::super::hold`]) and answered in the very turn in which a message that it
//! wants becomes visible. Messages that its filter refuses do not end the wait: the pull moves past them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::filter::{self, Filter};
use super::super::hold::Pull;
use super::super::reply::{Answer, Refusal, ReplyTo, SEE};
use super::super::store::{QueueIx, ReadLimits, ReadOutcome};
use super::super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{MessageModel, perm};
use crate::wire::code::response_code;
use crate::wire::request::{PullMessageRequest, PullMessageResponse, pull_sys_flag};
use crate::wire::{Command, Ext};

/// Scans of one held pull in one turn: after so many the client is told how far it got, and asks again.
const SCANS_MAX: u32 = 16;

/// Room made for a reply before its size is known.
const REPLY_BYTES_GUESS: usize = 4096;

impl Broker {
    pub(super) fn on_pull<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: PullMessageRequest<'_> = request.header()?;
        self.check_store()?;
        if self.replication.is_slave() && !self.config.slave_read {
            let why = "[REJECTREQUEST]this broker is a slave that is not read from (slaveReadEnable=false)";
            return Err(Refusal::new(response_code::SYSTEM_BUSY, why));
        }
        let (suggest_broker, suggest_when_slow) = self.check_pull(now, conn, &header)?;
        let filter = self.find_filter(&header)?;
        let topic = self.topics.get_mut(&header.topic).expect("checked");
        let queue = topic.queue(header.queue_id, &mut self.store);
        if header.sys_flag & pull_sys_flag::COMMIT_OFFSET != 0 && header.commit_offset >= 0 {
            self.commit_offset(&header.consumer_group, &header.topic, header.queue_id, header.commit_offset);
        }
        let pull = Pull {
            to: ReplyTo::new(conn, request),
            queue,
            queue_id: header.queue_id,
            pair: self.offsets.pair(&header.consumer_group, &header.topic),
            offset: header.queue_offset,
            asked: header.queue_offset,
            limits: ReadLimits {
                messages_max: u32::try_from(header.max_msg_nums)
                    .unwrap_or(0)
                    .clamp(1, self.config.pull_messages_max),
                bytes_max: self.config.pull_bytes_max,
            },
            filter,
            suggest_broker,
            suggest_when_slow,
            hold_until: self.hold_until(now, &header),
            held: false,
        };
        self.serve_pull(now, pull, env);
        Ok(Answer::Later)
    }

    fn hold_until(&self, now: Now, header: &PullMessageRequest<'_>) -> Option<Instant> {
        if header.sys_flag & pull_sys_flag::SUSPEND == 0 {
            return None;
        }
        let asked = Duration::from_millis(u64::try_from(header.suspend_timeout_millis).unwrap_or(0));
        let time = if self.config.long_polling { asked } else { self.config.short_polling };
        Some(now.mono + time.min(self.config.hold_max))
    }

    /// RocketMQ's checks in its order; the broker that the group should pull from, and the one when it is slow.
    fn check_pull(
        &mut self,
        now: Now,
        conn: ConnId,
        header: &PullMessageRequest<'_>,
    ) -> Result<(i64, i64), Refusal> {
        let no_permission = |remark: String| Err(Refusal::new(response_code::NO_PERMISSION, remark));
        let (topic, group) = (header.topic.as_ref(), header.consumer_group.as_ref());
        if self.config.permission & perm::READ == 0 {
            return no_permission(format!(
                "the broker[{}] pulling message is forbidden",
                self.config.store_host.ip()
            ));
        }
        let Some(settings) = self.groups.find(now.wall, group, &self.config) else {
            return Err(Refusal::group_not_exist(group));
        };
        if !settings.consume_enable {
            return no_permission(format!("subscription group no permission, {group}"));
        }
        let suggest = (settings.broker_id, settings.which_broker_when_consume_slowly);
        let Some(known) = self.topics.get(topic).map(|known| &known.config) else {
            return Err(Refusal::topic_not_exist(topic));
        };
        if known.perm & perm::READ == 0 {
            return no_permission(format!("the topic[{topic}] pulling message is forbidden"));
        }
        if header.queue_id < 0 || header.queue_id >= known.read_queue_nums {
            let peer = self.conns.peer(conn).map_or_else(String::new, |peer| format!("/{peer}"));
            return Err(Refusal::new(
                response_code::INVALID_PARAMETER,
                format!(
                    "queueId[{}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}] consumer:[{peer}]",
                    header.queue_id, known.read_queue_nums
                ),
            ));
        }
        Ok(suggest)
    }

    /// The filter that the request carries, or the one of the group's heartbeats.
    fn find_filter(&self, header: &PullMessageRequest<'_>) -> Result<Filter, Refusal> {
        let (topic, group) = (header.topic.as_ref(), header.consumer_group.as_ref());
        if header.sys_flag & pull_sys_flag::SUBSCRIPTION != 0 {
            self.check_expression_type(header.expression_type.as_deref())?;
            return Ok(Filter::of_expression(header.subscription.as_deref().unwrap_or(filter::ALL)));
        }
        let not_exist =
            |remark: &str| Refusal::new(response_code::SUBSCRIPTION_NOT_EXIST, format!("{remark}{SEE}"));
        let Some(consumers) = self.consumers.group(group) else {
            return Err(not_exist("the consumer's group info not exist"));
        };
        let broadcasts = self.groups.get(group).is_none_or(|settings| settings.consume_broadcast_enable);
        if !broadcasts && consumers.message_model == MessageModel::Broadcasting {
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("the consumer group[{group}] can not consume by broadcast way"),
            ));
        }
        if self.groups.is_read_forbidden(group, topic) {
            return Err(Refusal::new(
                response_code::NO_PERMISSION,
                format!("the consumer group[{group}] is forbidden for topic[{topic}]"),
            ));
        }
        let Some(subscription) = consumers.subscriptions.get(topic) else {
            return Err(not_exist("the consumer's subscription not exist"));
        };
        if subscription.data.sub_version < header.sub_version {
            return Err(Refusal::new(
                response_code::SUBSCRIPTION_NOT_LATEST,
                "the consumer's subscription not latest",
            ));
        }
        self.check_expression_type(Some(&subscription.data.expression_type))?;
        Ok(subscription.filter.clone())
    }

    /// Only tags are looked at.
    pub(super) fn check_expression_type(&self, expression_type: Option<&str>) -> Result<(), Refusal> {
        if filter::is_tag_type(expression_type) {
            return Ok(());
        }
        let kind = expression_type.unwrap_or_default();
        Err(Refusal::new(
            response_code::SYSTEM_ERROR,
            format!("The broker does not support consumer to filter message by {kind}"),
        ))
    }

    /// Answers a pull, or lets it wait.
    pub(in super::super) fn serve_pull<D: Disk>(
        &mut self,
        now: Now,
        mut pull: Pull,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if let Some(offset) = self.offsets.take_reset(pull.pair, pull.queue_id) {
            let answer = (response_code::PULL_OFFSET_MOVED, "OFFSET_RESET");
            return self.answer_pull(&pull, answer, offset, Vec::new(), env);
        }
        let mut body = Vec::new();
        for scan in 1.. {
            body.reserve(REPLY_BYTES_GUESS);
            let filter = &pull.filter;
            let outcome = self.store.read_messages(
                pull.queue,
                pull.offset,
                pull.limits,
                |tags_code| filter.accepts(tags_code),
                env.disk,
                &mut body,
            );
            match outcome {
                Err(error) => return self.answer_failed_read(&pull, error, env),
                Ok(ReadOutcome::Found { next, messages }) => {
                    if self.is_far_behind(&body) {
                        pull.suggest_broker = pull.suggest_when_slow;
                        Probe::SentToSlave.reached();
                    }
                    if self.replication.is_slave() {
                        Probe::SlaveReads.reached();
                    }
                    self.stats.got(pull.pair, u64::from(messages), body.len() as u64);
                    return self.answer_pull(&pull, (response_code::SUCCESS, "FOUND"), next, body, env);
                }
                Ok(ReadOutcome::Cold(extent)) => {
                    if self.holds.len() >= self.config.pulls_waiting_max {
                        return self.answer_busy(&pull, env);
                    }
                    let id = FetchId(self.ids.next());
                    env.out.push(Effect::Fetch { id, at: extent });
                    return self.holds.fetch(id, pull);
                }
                // The end of the queue moved: what the held pull waited for, or did not.
                Ok(ReadOutcome::NoMatch { next }) if pull.held && scan < SCANS_MAX => pull.offset = next,
                Ok(ReadOutcome::NoMatch { next }) => return self.answer_no_match(&pull, next, env),
                Ok(ReadOutcome::Empty) => return self.answer_or_hold(now, pull, env),
                // A slave may be behind; what the client has seen elsewhere is on its way. And of a master that waits for its slaves
                // a client may have seen at one of them what is not visible here yet.
                Ok(ReadOutcome::Beyond)
                    if self.replication.is_slave() || pull.offset <= self.store.next_offset(pull.queue) =>
                {
                    return self.answer_or_hold(now, pull, env);
                }
                Ok(ReadOutcome::Beyond) => {
                    let max = self.store.max_offset(pull.queue);
                    let status = if max == 0 { "NO_MESSAGE_IN_QUEUE" } else { "OFFSET_OVERFLOW_BADLY" };
                    let answer = (response_code::PULL_OFFSET_MOVED, status);
                    return self.answer_pull(&pull, answer, max, Vec::new(), env);
                }
                Ok(ReadOutcome::TooSmall) => {
                    let min = self.store.min_offset(pull.queue);
                    let answer = (response_code::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL");
                    return self.answer_pull(&pull, answer, min, Vec::new(), env);
                }
            }
        }
    }

    /// RocketMQ's rule for sending a group to a slave: what it reads is so far from the end of the log that it is not in
    /// this broker's memory. The place of the first message that was read is in its record.
    fn is_far_behind(&self, messages: &[u8]) -> bool {
        const PHYSICAL_OFFSET_AT: usize = 28;
        let bytes = messages.get(PHYSICAL_OFFSET_AT..).and_then(|bytes| bytes.first_chunk::<8>());
        let (true, Some(bytes)) = (self.config.slave_read && self.replication.has_reader(), bytes) else {
            return false;
        };
        !self.is_near_end(u64::from_be_bytes(*bytes))
    }

    /// RocketMQ's rule for what is in memory: what was written last, as much as a share of the machine's memory.
    pub(super) fn is_near_end(&self, physical: u64) -> bool {
        let behind = self.store.written().saturating_sub(physical);
        behind <= self.config.memory_bytes / 100 * self.config.memory_percent
    }

    /// There is nothing at the offset yet.
    fn answer_or_hold<D: Disk>(&mut self, now: Now, pull: Pull, env: &mut Env<'_, D, BrokerEvent>) {
        if let Some(until) = pull.hold_until
            && until > now.mono
            && self.holds.len() < self.config.pulls_waiting_max
        {
            return self.holds.hold(pull, until);
        }
        if pull.offset != pull.asked {
            return self.answer_no_match(&pull, pull.offset, env);
        }
        self.stats.missed.add(1);
        let status = if self.store.max_offset(pull.queue) == 0 {
            "NO_MESSAGE_IN_QUEUE"
        } else {
            "OFFSET_OVERFLOW_ONE"
        };
        self.answer_pull(&pull, (response_code::PULL_NOT_FOUND, status), pull.offset, Vec::new(), env);
    }

    fn answer_no_match<D>(&mut self, pull: &Pull, next: i64, env: &mut Env<'_, D, BrokerEvent>) {
        let answer = (response_code::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE");
        self.answer_pull(pull, answer, next, Vec::new(), env);
    }

    fn answer_pull<D>(
        &mut self,
        pull: &Pull,
        (code, status): (i32, &str),
        next: i64,
        body: Vec<u8>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        let header = PullMessageResponse {
            suggest_which_broker_id: pull.suggest_broker,
            next_begin_offset: next,
            min_offset: self.store.min_offset(pull.queue),
            max_offset: self.store.max_offset(pull.queue),
        };
        let reply = Command {
            remark: Some(status.into()),
            ..pull.to.response(code, Ext::PullReply(header)).with_body(body)
        };
        self.send_reply(&pull.to, reply, env);
    }

    fn answer_failed_read<D>(&mut self, pull: &Pull, error: DiskError, env: &mut Env<'_, D, BrokerEvent>) {
        tracing::error!(queue = ?pull.queue, offset = pull.offset, %error, "messages not read");
        let remark = format!("store getMessage failed: {error}");
        self.send_reply(&pull.to, pull.to.refuse(Refusal::new(response_code::SYSTEM_ERROR, remark)), env);
    }

    fn answer_busy<D>(&mut self, pull: &Pull, env: &mut Env<'_, D, BrokerEvent>) {
        let remark = "[OVERLOAD]system busy, too many pulls wait for the disk";
        self.send_reply(&pull.to, pull.to.refuse(Refusal::new(response_code::SYSTEM_BUSY, remark)), env);
    }

    pub(in super::super) fn send_reply<D>(
        &mut self,
        to: &ReplyTo,
        reply: Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if !to.is_oneway() {
            self.conns.send(to.conn, reply, env);
        }
    }

    /// A fetch for a pull is done; false when it was for somebody else.
    pub(in super::super) fn on_pull_fetched<D: Disk>(
        &mut self,
        now: Now,
        id: FetchId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(pull) = self.holds.fetched(id) else { return false };
        match result {
            // A file that went meanwhile: what it held lies below the minimum now, or its queue is gone.
            Ok(()) | Err(DiskError::NotFound) => self.serve_pull(now, pull, env),
            Err(error) => self.answer_failed_read(&pull, error, env),
        }
        true
    }

    /// Looks again at the pulls of a queue: something else than a message may end their wait.
    pub(super) fn wake_queue<D: Disk>(
        &mut self,
        now: Now,
        topic: &str,
        queue_id: i32,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        let Some(queue) = self.store.find_queue(topic, queue_id) else { return };
        let mut woken = Vec::new();
        self.holds.take_queue(queue, &mut woken);
        for pull in woken {
            self.serve_pull(now, pull, env);
        }
    }

    /// Wakes the pulls whose queues gained something, and answers those whose time is up.
    pub(in super::super) fn settle_pulls<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let mut woken = core::mem::take(&mut self.woken);
        let (holds, delays, store_config) = (&mut self.holds, &mut self.delays, &self.config.store);
        self.store.take_arrivals(|queue: QueueIx| {
            holds.take_queue(queue, &mut woken);
            delays.arrived(now.mono, queue, |level| store_config.delay_of(level));
        });
        self.holds.take_due(now.mono, &mut woken);
        for pull in woken.drain(..) {
            self.serve_pull(now, pull, env);
        }
        self.woken = woken;
    }

    /// Answers everything that is held: the broker stops.
    pub(in super::super) fn release_pulls<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let mut held = Vec::new();
        self.holds.take_all(&mut held);
        for pull in held {
            self.answer_or_hold(now, Pull { hold_until: None, ..pull }, env);
        }
    }
}
