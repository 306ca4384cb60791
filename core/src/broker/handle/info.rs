//! The broker itself: codes 25, 26, 28, 43, 45, 60, 61, 306, 315, 329, 402, 905.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::reply::{Answer, Refusal};
use super::super::stats::Counter;
use super::super::{Broker, BrokerEvent, BrokerRole, SettingError};
use crate::io::{ConnId, Disk, Effect, Env, Now, Space};
use crate::settings::{Property, parse_properties};
use crate::wire::body::{self, KVTable};
use crate::wire::code::response_code;
use crate::wire::message::Entry;
use crate::wire::request::{GetBrokerConfigResponse, Header, ViewBrokerStatsDataRequest};
use crate::wire::{Command, Ext};

/// RocketMQ's queues in front of its threads, and their default capacities: there are none here, and tools show them.
const THREAD_POOL_QUEUES: [(&str, &str); 5] =
    [("send", "10000"), ("pull", "100000"), ("litePull", "100000"), ("query", "20000"), ("ack", "100000")];

/// What this broker calls itself to the tools, which expect a version of RocketMQ.
const VERSION_TEXT: &str = "V5_5_0";

/// Java's slaves ask their master for these and log an error for each refusal, every three seconds for the first. What a
/// broker has that never held a timer or a request mode:
const NO_REQUEST_MODES: &str = r#"{"messageRequestModeMap":{}}"#;
const NO_TIMERS: &str = r#"{"dataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"timingCount":{}}"#;
/// `TimerCheckpoint`: when timers were last read, three positions in their log and queue, and a version of three numbers.
const TIMER_CHECKPOINT_BYTES: usize = 56;

impl Broker {
    /// All timers up to now have been read, for there are none: a slave that becomes the master has nothing to look for.
    pub(super) fn on_get_timer_checkpoint(&self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        let mut checkpoint = [0; TIMER_CHECKPOINT_BYTES];
        checkpoint[..8].copy_from_slice(&now.wall.0.to_be_bytes());
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(checkpoint.to_vec())))
    }

    pub(super) fn on_get_timer_metrics(&self, request: &Command) -> Result<Answer, Refusal> {
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(NO_TIMERS)))
    }

    pub(super) fn on_get_request_modes(&self, request: &Command) -> Result<Answer, Refusal> {
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(NO_REQUEST_MODES)))
    }

    pub(super) fn on_get_all_consumer_offsets(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(self.offsets.to_json(None))))
    }

    pub(super) fn on_get_all_delay_offsets(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(self.delays.to_json())))
    }

    pub(super) fn on_get_broker_config(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let version = body::encode(&self.topics.version());
        let version = String::from_utf8(version).expect("JSON is UTF-8");
        let ext = GetBrokerConfigResponse { version }.to_ext();
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Answer::Now(answer.with_body(self.config.to_properties().into_bytes())))
    }

    /// Takes all of the body's settings or none. RocketMQ passes over a name that it does not know; here it is refused.
    pub(super) fn on_update_broker_config<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let Ok(text) = core::str::from_utf8(&request.body) else {
            return Err(Refusal::new(response_code::SYSTEM_ERROR, "string2Properties error"));
        };
        let changes = parse_properties(text);
        let config = self.config.changed(&changes).map_err(|error| {
            let code = match error {
                SettingError::Forbidden => response_code::NO_PERMISSION,
                SettingError::Unknown { .. } | SettingError::Invalid { .. } => response_code::SYSTEM_ERROR,
            };
            Refusal::new(code, error.to_string())
        })?;
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        let promotion = self.promotion_of(&changes);
        if let Some(role) = promotion {
            let asked = (!request.is_oneway()).then(|| (conn, answer.clone()));
            self.promote(now, role, asked, env)?;
        }
        if config.permission != self.config.permission {
            self.topics.advance_version(now.wall);
            self.register.register_all(now.mono);
        }
        self.store.reconfigure(config.store.clone());
        self.replication.set_replicas_min(config.ha.replicas_min);
        self.config = config;
        // The role is kept once it is taken.
        let changes = changes.into_iter().filter(|change| promotion.is_none() || !is_of_role(&change.name));
        let settings: Vec<_> = changes.map(|change| (change.name, change.value)).collect();
        if !settings.is_empty() {
            env.out.push(Effect::Emit(BrokerEvent::SettingsChanged { settings }));
        }
        Ok(if promotion.is_some() { Answer::Later } else { Answer::Now(answer) })
    }

    /// Which master's role a slave is to take at once. Every other change of the role waits for the next start.
    fn promotion_of(&self, changes: &[Property]) -> Option<BrokerRole> {
        let asked = changes.iter().rfind(|change| change.name == "brokerRole")?;
        if !self.replication.is_slave() {
            return None;
        }
        match asked.value.as_str() {
            "ASYNC_MASTER" => Some(BrokerRole::AsyncMaster),
            "SYNC_MASTER" => Some(BrokerRole::SyncMaster),
            _ => None,
        }
    }

    pub(super) fn on_view_stats(&mut self, request: &Command) -> Result<Answer, Refusal> {
        let header: ViewBrokerStatsDataRequest = request.header()?;
        let (name, key) = (header.stats_name.as_str(), header.stats_key.as_str());
        let Some(data) = self.counter(name, key).map(Counter::data) else {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("The stats <{name}> <{key}> not exist"),
            ));
        };
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&data))))
    }

    fn counter(&mut self, name: &str, key: &str) -> Option<&Counter> {
        let is_this_cluster = key == self.config.cluster_name;
        match name {
            "TOPIC_PUT_NUMS" | "TOPIC_PUT_SIZE" => {
                let stats = &self.topics.get(key)?.stats;
                Some(if name == "TOPIC_PUT_NUMS" { &stats.messages } else { &stats.bytes })
            }
            "GROUP_GET_NUMS" | "GROUP_GET_SIZE" | "SNDBCK_PUT_NUMS" => {
                let (topic, group) = key.rsplit_once('@')?;
                let pair = self.offsets.known_pair(group, topic)?;
                let stats = self.stats.pair(pair)?;
                Some(match name {
                    "GROUP_GET_NUMS" => &stats.messages,
                    "GROUP_GET_SIZE" => &stats.bytes,
                    _ => &stats.sent_back,
                })
            }
            "BROKER_PUT_NUMS" if is_this_cluster => Some(&self.stats.put.messages),
            "BROKER_GET_NUMS" if is_this_cluster => Some(&self.stats.get.messages),
            _ => None,
        }
    }

    /// What `mqadmin brokerStatus` and `clusterList` print.
    pub(super) fn on_get_runtime_info<D: Disk>(
        &mut self,
        now: Now,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        self.check_store()?;
        let mut table = BTreeMap::new();
        let mut put = |name: &str, value: String| {
            table.insert(String::from(name), value);
        };
        let started = self.started.unwrap_or(now);
        put("bootTimestamp", started.wall.0.to_string());
        put("runtime", runtime(now.mono.since(started.mono).as_secs()));
        let space = env.disk.space().unwrap_or_default();
        put("commitLogDirCapacity", format!("Total : {}, Free : {}.", gib(space.total), gib(space.free)));
        put("commitLogDiskRatio", used(space));
        put("consumeQueueDiskRatio", used(space));
        put("commitLogMinOffset", self.store.log_min().to_string());
        put("commitLogMaxOffset", self.store.log_end().to_string());
        put("dispatchBehindBytes", self.store.log_end().saturating_sub(self.store.visible()).to_string());
        put("brokerActive", (!self.replication.is_slave()).to_string());
        put("brokerVersionDesc", VERSION_TEXT.into());
        put("startAcceptSendRequestTimeStamp", "0".into());
        put("earliestMessageTimeStamp", self.earliest_time(env).to_string());
        self.put_totals(&mut put);
        for name in [
            "putMessageEntireTimeMax",
            "putMessageFailedTimes",
            "dispatchMaxBuffer",
            "getMessageEntireTimeMax",
            "pageCacheLockTimeMills",
            "timerReadBehind",
            "timerOffsetBehind",
            "timerCongestNum",
        ] {
            put(name, "0".into());
        }
        for name in ["timerEnqueueTps", "timerDequeueTps"] {
            put(name, "0.0".into());
        }
        put("putLatency99", "0.00".into());
        put("putLatency999", "0.00".into());
        // What RocketMQ prints where it has nothing to tell, the number included.
        put("putMessageDistributeTime", "null".into());
        put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
        put("remainHowManyDataToFlush", readable(self.store.written().saturating_sub(self.store.synced())));
        for (queue, capacity) in THREAD_POOL_QUEUES {
            put(&format!("{queue}ThreadPoolQueueSize"), "0".into());
            put(&format!("{queue}ThreadPoolQueueHeadWaitTimeMills"), "0".into());
            put(&format!("{queue}ThreadPoolQueueCapacity"), capacity.into());
        }
        put("EndTransactionQueueSize", "0".into());
        put("EndTransactionThreadPoolQueueCapacity", "100000".into());
        for (level, (safe, end)) in self.delays.progress(&self.store) {
            put(&format!("scheduleMessageOffset_{level}"), format!("{safe},{end}"));
        }
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&KVTable { table }))))
    }

    fn put_totals(&self, put: &mut impl FnMut(&str, String)) {
        let (put_stats, get_stats) = (&self.stats.put, &self.stats.get);
        let rates = |counter: &Counter| {
            let data = counter.data();
            format!("{} {} {}", data.stats_minute.tps, data.stats_minute.tps, data.stats_hour.tps)
        };
        let total = put_stats.messages.sum();
        put("putMessageTimesTotal", total.max(1).to_string());
        put("putMessageSizeTotal", put_stats.bytes.sum().to_string());
        put("putMessageAverageSize", format!("{:?}", put_stats.bytes.sum() as f64 / total.max(1) as f64));
        put("putTps", rates(&put_stats.messages));
        put("getFoundTps", rates(&get_stats.messages));
        put("getMissTps", rates(&self.stats.missed));
        put("getTotalTps", rates(&get_stats.messages));
        put("getTransferredTps", rates(&get_stats.messages));
        put("getTransferedTps", rates(&get_stats.messages));
        for (name, counter) in [("msgPutTotal", &put_stats.messages), ("msgGetTotal", &get_stats.messages)] {
            // The broker does not know where its day begins.
            put(&format!("{name}YesterdayMorning"), "0".into());
            put(&format!("{name}TodayMorning"), "0".into());
            put(&format!("{name}TodayNow"), counter.sum().to_string());
        }
    }

    /// When the oldest message was stored, as far as that is in memory: nobody waits for the disk to know this.
    fn earliest_time<D: Disk>(&mut self, env: &mut Env<'_, D, BrokerEvent>) -> i64 {
        let mut record = Vec::new();
        let offset = self.store.log_min() as i64;
        match self.read_record(offset, env.disk, &mut record) {
            Ok(None) => match Entry::decode(&record) {
                Ok(Entry::Message(record)) => record.store_timestamp,
                Ok(Entry::Blank(_)) | Err(_) => -1,
            },
            Ok(Some(_)) | Err(_) => -1,
        }
    }

    /// A name server says that the group of this broker has another lowest id.
    pub(super) fn on_min_broker_id_changed(&mut self, request: &Command) -> Result<Answer, Refusal> {
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }

    /// Answered before anything is removed, as in RocketMQ. What is not past its time stays.
    pub(super) fn on_remove_expired(&mut self, request: &Command) -> Result<Answer, Refusal> {
        self.check_store()?;
        self.store.remove_expired();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }

    /// RocketMQ also drops queues without any message left, and begins them at offset 0 again, below what their groups have
    /// committed; here they keep their newest file and go on counting.
    pub(super) fn on_remove_expired_queue_files(&mut self, request: &Command) -> Result<Answer, Refusal> {
        self.check_store()?;
        self.store.remove_expired_queue_files();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, Ext::None)))
    }
}

fn runtime(secs: u64) -> String {
    let (days, hours, minutes, secs) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {secs} seconds ]")
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// Bytes as Java writes them for people: `1023 B`, `2.7 KiB`.
fn readable(bytes: u64) -> String {
    let mut value = bytes as f64;
    if value < 1024.0 {
        return format!("{bytes} B");
    }
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut unit = "B";
    while value >= 1024.0
        && let Some(larger) = units.next()
    {
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

fn used(space: Space) -> String {
    if space.total == 0 {
        return "-1".into();
    }
    format!("{:?}", (space.total - space.free.min(space.total)) as f64 / space.total as f64)
}

fn is_of_role(name: &str) -> bool {
    name == "brokerRole" || name == "brokerId"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_the_tools_read_them() {
        assert_eq!(runtime(93_784), "[ 1 days, 2 hours, 3 minutes, 4 seconds ]");
        assert_eq!(used(Space { total: 4, free: 1 }), "0.75");
        assert_eq!(used(Space::default()), "-1");
        assert_eq!(gib(3 << 29), "1.5 GiB");
        for (bytes, expect) in [(0, "0 B"), (1023, "1023 B"), (2765, "2.7 KiB"), (u64::MAX, "16.0 EiB")] {
            assert_eq!(readable(bytes), expect);
        }
    }
}
