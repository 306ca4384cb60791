//! A broker's settings by RocketMQ's property names: one table, from which reading, showing and changing them follow.
//!
//! The names that RocketMQ knows and this table lacks have no use here ([`crate::settings::is_known`] tells them from
//! mistakes). Absent on purpose: where the broker listens and where its files are; its host decides that.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::BrokerConfig;
use super::replication::BrokerRole;
use super::store::{FlushMode, parse_hours};
use crate::settings;

/// When a change of a setting takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// At once.
    Now,
    /// As the broker starts.
    AtStart,
}
use When::{AtStart, Now};

/// Where a setting lies, and by that what its values look like.
#[derive(Clone, Copy)]
enum Place {
    Flag(fn(&mut BrokerConfig) -> &mut bool),
    Text(fn(&mut BrokerConfig) -> &mut String),
    /// From a least value to a largest.
    I32(fn(&mut BrokerConfig) -> &mut i32, i32, i32),
    I64(fn(&mut BrokerConfig) -> &mut i64, i64, i64),
    U32(fn(&mut BrokerConfig) -> &mut u32, u32, u32),
    U64(fn(&mut BrokerConfig) -> &mut u64, u64, u64),
    Usize(fn(&mut BrokerConfig) -> &mut usize, usize, usize),
    /// How many copies there are to be; what is set is how many beside the master's own.
    Copies(fn(&mut BrokerConfig) -> &mut usize),
    /// In ms, at least one.
    Millis(fn(&mut BrokerConfig) -> &mut Duration),
    /// In hours, at least one.
    Hours(fn(&mut BrokerConfig) -> &mut Duration),
    /// Hours of the day, `;` between them.
    HoursOfDay(fn(&mut BrokerConfig) -> &mut Vec<u8>),
    /// In bytes; what it counts has 20.
    Entries(fn(&mut BrokerConfig) -> &mut u64),
    Flush(fn(&mut BrokerConfig) -> &mut FlushMode),
    Role(fn(&mut BrokerConfig) -> &mut BrokerRole),
    /// Delays, a space between them.
    Delays(fn(&mut BrokerConfig) -> &mut Vec<Duration>),
    /// Addresses, `;` between them.
    Addresses(fn(&mut BrokerConfig) -> &mut Vec<Arc<str>>),
    /// An address or nothing.
    Address(fn(&mut BrokerConfig) -> &mut Option<Arc<str>>),
}
use Place::*;

const SECS_OF_HOUR: u64 = 3600;
/// Copies of a message that may be demanded.
const COPIES_MAX: usize = 64;
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = i32::MAX as u64;

/// Sorted by name.
const TABLE: &[(&str, When, Place)] = &[
    ("accessMessageInMemoryMaxRatio", Now, U64(|c| &mut c.memory_percent, 0, 100)),
    ("autoCreateSubscriptionGroup", Now, Flag(|c| &mut c.auto_create_group)),
    ("autoCreateTopicEnable", Now, Flag(|c| &mut c.auto_create_topic)),
    ("brokerClusterName", AtStart, Text(|c| &mut c.cluster_name)),
    ("brokerId", AtStart, I64(|c| &mut c.broker_id, 0, i64::MAX)),
    ("brokerName", AtStart, Text(|c| &mut c.broker_name)),
    ("brokerPermission", Now, I32(|c| &mut c.permission, 0, 7)),
    ("brokerRole", AtStart, Role(|c| &mut c.role)),
    ("brokerTopicEnable", AtStart, Flag(|c| &mut c.broker_topic)),
    ("cleanFileForciblyEnable", Now, Flag(|c| &mut c.store.cleans_forcibly)),
    ("cleanResourceInterval", Now, Millis(|c| &mut c.store.clean_interval)),
    ("clusterTopicEnable", AtStart, Flag(|c| &mut c.cluster_topic)),
    ("compressedRegister", Now, Flag(|c| &mut c.compressed_register)),
    ("defaultTopicQueueNums", AtStart, I32(|c| &mut c.default_topic_queues, 1, 65_536)),
    ("deleteFileBatchMax", Now, Usize(|c| &mut c.store.delete_batch_max, 1, 50)),
    ("deleteWhen", Now, HoursOfDay(|c| &mut c.store.delete_hours)),
    ("diskMaxUsedSpaceRatio", Now, U64(|c| &mut c.store.disk_max_used_percent, 10, 95)),
    ("diskSpaceCleanForciblyRatio", Now, U64(|c| &mut c.store.disk_clean_percent, 1, 100)),
    ("diskSpaceWarningLevelRatio", Now, U64(|c| &mut c.store.disk_warning_percent, 1, 100)),
    ("enablePropertyFilter", Now, Flag(|c| &mut c.property_filter)),
    ("fileReservedTime", Now, Hours(|c| &mut c.store.file_reserved)),
    ("flushConsumeQueueThoroughInterval", Now, Millis(|c| &mut c.store.checkpoint_interval)),
    ("flushConsumerOffsetInterval", AtStart, Millis(|c| &mut c.offset_flush_interval)),
    ("flushDiskType", AtStart, Flush(|c| &mut c.store.flush)),
    ("flushIntervalCommitLog", Now, Millis(|c| &mut c.store.flush_interval)),
    ("forceRegister", Now, Flag(|c| &mut c.force_register)),
    ("gantryMetadataInLog", AtStart, Flag(|c| &mut c.metadata_in_log)),
    ("gantryMetadataInterval", Now, Millis(|c| &mut c.metadata_interval)),
    ("gantryOnceKeys", Now, Usize(|c| &mut c.once_keys_max, 1, 10_000_000)),
    ("gantryOnceWindow", Now, Millis(|c| &mut c.once_window)),
    ("gantryReserveBytes", Now, U64(|c| &mut c.store.reserve_bytes, 0, FILE_BYTES_MAX)),
    ("haHousekeepingInterval", AtStart, Millis(|c| &mut c.ha.housekeeping_interval)),
    ("haMasterAddress", AtStart, Address(|c| &mut c.ha_master_addr)),
    ("haMaxGapNotInSync", AtStart, U64(|c| &mut c.ha.gap_bytes_max, 0, u64::MAX)),
    ("haMaxTimeSlaveNotCatchup", AtStart, Millis(|c| &mut c.ha.tail_wait)),
    ("haSendHeartbeatInterval", AtStart, Millis(|c| &mut c.ha.heartbeat_interval)),
    ("haTransferBatchSize", AtStart, U64(|c| &mut c.ha.block_bytes_max, 1024, 8 << 20)),
    ("inSyncReplicas", Now, Copies(|c| &mut c.ha.replicas_min)),
    ("longPollingEnable", Now, Flag(|c| &mut c.long_polling)),
    ("mappedFileSizeCommitLog", AtStart, U64(|c| &mut c.store.segment_bytes, 4096, FILE_BYTES_MAX)),
    ("mappedFileSizeConsumeQueue", AtStart, Entries(|c| &mut c.store.queue_file_entries)),
    ("maxHashSlotNum", AtStart, U32(|c| &mut c.store.index_slots, 1, 50_000_000)),
    ("maxIndexNum", AtStart, U32(|c| &mut c.store.index_entries, 2, 100_000_000)),
    ("maxMessageSize", AtStart, U64(|c| &mut c.store.body_bytes_max, 1, 15 << 20)),
    ("maxTransferBytesOnMessageInMemory", Now, U64(|c| &mut c.pull_bytes_max, 1024, 8 << 20)),
    ("maxTransferCountOnMessageInMemory", Now, U32(|c| &mut c.pull_messages_max, 1, 32_000)),
    ("messageDelayLevel", AtStart, Delays(|c| &mut c.store.delay_levels)),
    ("messageIndexEnable", AtStart, Flag(|c| &mut c.store.index)),
    ("msgTraceTopicName", AtStart, Text(|c| &mut c.trace_topic_name)),
    ("namesrvAddr", AtStart, Addresses(|c| &mut c.namesrv_addrs)),
    ("notifyConsumerIdsChangedEnable", Now, Flag(|c| &mut c.notify_consumer_ids_changed)),
    ("pullThreadPoolQueueCapacity", Now, Usize(|c| &mut c.pulls_waiting_max, 1, 10_000_000)),
    ("registerBrokerTimeoutMills", Now, Millis(|c| &mut c.register_timeout)),
    ("registerNameServerPeriod", Now, Millis(|c| &mut c.register_interval)),
    ("rejectTransactionMessage", Now, Flag(|c| &mut c.reject_transactions)),
    ("reviveQueueNum", AtStart, I32(|c| &mut c.revive_queues, 1, 65_536)),
    ("shortPollingTimeMills", Now, Millis(|c| &mut c.short_polling)),
    ("slaveReadEnable", Now, Flag(|c| &mut c.slave_read)),
    ("slaveTimeout", Now, Millis(|c| &mut c.slave_timeout)),
    ("syncFlushTimeout", Now, Millis(|c| &mut c.flush_timeout)),
    ("traceTopicEnable", AtStart, Flag(|c| &mut c.trace_topic)),
];

/// Never changed by a request, whatever `configBlackList` says.
const ALWAYS_BLACK: [&str; 3] = ["brokerConfigPath", "configBlackList", "rocketmqHome"];

/// Why a setting was not taken. The text says what would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingError {
    /// Neither this broker nor RocketMQ knows the name; the nearest one that is known, if one is near.
    Unknown {
        /// As given.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value is not one of the setting's.
    Invalid {
        /// Of which setting.
        name: String,
        /// As given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// A request may not change it.
    Forbidden,
}

impl core::fmt::Display for SettingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SettingError::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "there is no setting {name}; the nearest is {nearest}")
            }
            SettingError::Unknown { name, nearest: None } => write!(f, "there is no setting {name}"),
            SettingError::Invalid { name, value, expected } => {
                write!(f, "{name}={value}: expected {expected}")
            }
            SettingError::Forbidden => f.write_str("Can not update config in black list."),
        }
    }
}

impl core::error::Error for SettingError {}

/// What became of a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is in effect.
    Used,
    /// RocketMQ knows it; it has no use here.
    Ignored,
}

impl BrokerConfig {
    /// Sets one property. A name that RocketMQ knows and this broker has no use for is shown and nothing else.
    ///
    /// # Errors
    /// [`SettingError`]; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Taken, SettingError> {
        if let Some((_, place)) = find(name) {
            set(self, place, value.trim()).map_err(|expected| SettingError::Invalid {
                name: name.to_owned(),
                value: value.to_owned(),
                expected,
            })?;
            self.shown.remove(name);
            return Ok(Taken::Used);
        }
        if !settings::is_known(name) {
            return Err(SettingError::Unknown { name: name.to_owned(), nearest: settings::nearest(name) });
        }
        self.shown.insert(name.to_owned(), value.to_owned());
        Ok(Taken::Ignored)
    }

    /// The settings as RocketMQ prints them: one `name=value` a line, by name.
    pub fn to_properties(&self) -> String {
        let mut config = self.clone();
        let mut all = BTreeMap::new();
        all.insert("brokerIP1", self.store_host.ip().to_string());
        all.insert("listenPort", self.store_host.port().to_string());
        for (name, _, place) in TABLE {
            // RocketMQ does not print what is null.
            if let Address(at) = place
                && at(&mut config).is_none()
            {
                continue;
            }
            all.insert(name, get(&mut config, *place));
        }
        for (name, value) in &self.shown {
            all.insert(name, value.clone());
        }
        all.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// These settings with the changes of a request: all of them or none. What takes effect at the next start only is shown
    /// as it will be.
    pub(super) fn changed(&self, changes: &[settings::Property]) -> Result<BrokerConfig, SettingError> {
        let mut config = self.clone();
        // Where values that wait for the next start are tried.
        let mut trial = self.clone();
        let listed = self.shown.get("configBlackList").map_or("", String::as_str);
        for settings::Property { name, value, line: _ } in changes {
            if ALWAYS_BLACK.contains(&name.as_str()) || listed.split(';').any(|black| black == name) {
                return Err(SettingError::Forbidden);
            }
            match find(name) {
                Some((AtStart, _)) => {
                    trial.set(name, value)?;
                    config.shown.insert(name.clone(), value.clone());
                    tracing::info!(name, value, "setting changed online: takes effect at the next start");
                }
                Some((Now, _)) => {
                    config.set(name, value)?;
                    tracing::info!(name, value, "setting changed online");
                }
                None => {
                    config.set(name, value)?;
                    tracing::info!(
                        name,
                        value,
                        "setting changed online that has no effect here, or at the next start"
                    );
                }
            }
        }
        Ok(config)
    }
}

fn find(name: &str) -> Option<(When, Place)> {
    let at = TABLE.binary_search_by(|(known, ..)| (*known).cmp(name)).ok()?;
    Some((TABLE[at].1, TABLE[at].2))
}

fn number<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: core::str::FromStr + PartialOrd + core::fmt::Display,
{
    match text.parse::<T>() {
        Ok(value) if (&least..=&most).contains(&&value) => Ok(value),
        Ok(_) | Err(_) => Err(format!("a whole number from {least} to {most}")),
    }
}

/// Takes a value, or says which ones there are.
fn set(config: &mut BrokerConfig, place: Place, text: &str) -> Result<(), String> {
    match place {
        Flag(at) => {
            *at(config) = if text.eq_ignore_ascii_case("true") {
                true
            } else if text.eq_ignore_ascii_case("false") {
                false
            } else {
                return Err("true or false".into());
            }
        }
        Text(_) if text.is_empty() => return Err("a text that is not empty".into()),
        Text(at) => *at(config) = text.into(),
        I32(at, least, most) => *at(config) = number(text, least, most)?,
        I64(at, least, most) => *at(config) = number(text, least, most)?,
        U32(at, least, most) => *at(config) = number(text, least, most)?,
        U64(at, least, most) => *at(config) = number(text, least, most)?,
        Usize(at, least, most) => *at(config) = number(text, least, most)?,
        Copies(at) => *at(config) = number(text, 1, COPIES_MAX)? - 1,
        Millis(at) => {
            let ms = number(text, 1, i64::MAX as u64).map_err(|expected| format!("{expected} (ms)"))?;
            *at(config) = Duration::from_millis(ms);
        }
        Hours(at) => {
            let hours = number(text, 1, i32::MAX as u64).map_err(|expected| format!("{expected} (hours)"))?;
            *at(config) = Duration::from_secs(hours * SECS_OF_HOUR);
        }
        HoursOfDay(at) => {
            *at(config) = parse_hours(text).ok_or("hours of the day such as `04` or `04;16`")?;
        }
        Entries(at) => *at(config) = number(text, 20, FILE_BYTES_MAX)? / 20,
        Flush(at) => {
            *at(config) = match text {
                "ASYNC_FLUSH" => FlushMode::Async,
                "SYNC_FLUSH" => FlushMode::Sync,
                _ => return Err("ASYNC_FLUSH or SYNC_FLUSH".into()),
            }
        }
        Role(at) => {
            *at(config) = match text {
                "ASYNC_MASTER" => BrokerRole::AsyncMaster,
                "SYNC_MASTER" => BrokerRole::SyncMaster,
                "SLAVE" => BrokerRole::Slave,
                _ => return Err("ASYNC_MASTER, SYNC_MASTER or SLAVE".into()),
            }
        }
        Delays(at) => {
            *at(config) = delays(text).ok_or("delays such as `1s 5s 2m 1h 1d`, a space between them")?
        }
        Addresses(at) => {
            let all = text.split(';').map(str::trim).filter(|address| !address.is_empty());
            let all: Vec<Arc<str>> = all.map(Arc::from).collect();
            if !all.iter().all(|address| is_address(address)) {
                return Err("host:port, with `;` between several".into());
            }
            *at(config) = all;
        }
        Address(at) if text.is_empty() => *at(config) = None,
        Address(_) if !is_address(text) => return Err("host:port".into()),
        Address(at) => *at(config) = Some(Arc::from(text)),
    }
    Ok(())
}

fn get(config: &mut BrokerConfig, place: Place) -> String {
    match place {
        Flag(at) => at(config).to_string(),
        Text(at) => at(config).clone(),
        I32(at, ..) => at(config).to_string(),
        I64(at, ..) => at(config).to_string(),
        U32(at, ..) => at(config).to_string(),
        U64(at, ..) => at(config).to_string(),
        Usize(at, ..) => at(config).to_string(),
        Copies(at) => (*at(config) + 1).to_string(),
        Millis(at) => at(config).as_millis().to_string(),
        Hours(at) => (at(config).as_secs() / SECS_OF_HOUR).to_string(),
        HoursOfDay(at) => at(config).iter().map(|hour| format!("{hour:02}")).collect::<Vec<_>>().join(";"),
        Entries(at) => (*at(config) * 20).to_string(),
        Flush(at) => match at(config) {
            FlushMode::Async => "ASYNC_FLUSH".into(),
            FlushMode::Sync => "SYNC_FLUSH".into(),
        },
        Role(at) => match at(config) {
            BrokerRole::AsyncMaster => "ASYNC_MASTER".into(),
            BrokerRole::SyncMaster => "SYNC_MASTER".into(),
            BrokerRole::Slave => "SLAVE".into(),
        },
        Delays(at) => at(config).iter().map(delay).collect::<Vec<_>>().join(" "),
        Addresses(at) => at(config).join(";"),
        Address(at) => at(config).as_deref().unwrap_or_default().into(),
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Seconds of each unit, the largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

fn delays(text: &str) -> Option<Vec<Duration>> {
    let one = |word: &str| {
        let last = word.chars().next_back()?;
        let (_, secs) = UNITS.into_iter().find(|(unit, _)| *unit == last)?;
        let count: u64 = word.strip_suffix(last)?.parse().ok()?;
        Some(Duration::from_secs(count.checked_mul(secs)?))
    };
    let all: Vec<Duration> = text.split_whitespace().map(one).collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

fn delay(delay: &Duration) -> String {
    let secs = delay.as_secs();
    let fits = |(_, unit): &(char, u64)| secs >= *unit && secs.is_multiple_of(*unit);
    let (name, unit) = UNITS.into_iter().find(fits).unwrap_or(('s', 1));
    format!("{}{name}", secs / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BrokerConfig {
        BrokerConfig::new("b", ([127, 0, 0, 1], 10_911).into())
    }

    #[test]
    fn the_table_is_sorted_and_holds_names_that_rocketmq_knows() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, ..) in TABLE {
            // What RocketMQ has nothing like is named after Gantry.
            assert!(settings::is_known(name) || name.starts_with("gantry"), "{name}");
        }
    }

    #[test]
    fn what_is_printed_is_taken_again() {
        let mut other = config();
        for (name, value) in [
            ("brokerRole", "SLAVE"),
            ("brokerId", "3"),
            ("flushDiskType", "SYNC_FLUSH"),
            ("messageDelayLevel", "7s 2m 3h 1d"),
            ("namesrvAddr", "a:1;b:2"),
            ("haMasterAddress", "c:3"),
            ("mappedFileSizeConsumeQueue", "6000"),
            ("autoCreateTopicEnable", "FALSE"),
            ("slaveTimeout", "12"),
        ] {
            assert_eq!(other.set(name, value), Ok(Taken::Used), "{name}");
        }
        assert_eq!(
            (other.role, other.broker_id, other.store.queue_file_entries),
            (BrokerRole::Slave, 3, 300)
        );
        let printed = other.to_properties();
        let mut again = config();
        for property in settings::parse_properties(&printed) {
            assert!(again.set(&property.name, &property.value).is_ok(), "{property:?}");
        }
        assert_eq!(again.to_properties(), printed);
        assert!(printed.contains("messageDelayLevel=7s 2m 3h 1d\n"), "{printed}");
    }

    #[test]
    fn wrong_values_and_names_are_named() {
        let check = |name: &str, value: &str, expect: &str| {
            let mut config = config();
            let before = config.to_properties();
            assert_eq!(config.set(name, value).expect_err("wrong").to_string(), expect);
            assert_eq!(config.to_properties(), before);
        };
        check("brokerRole", "MASTER", "brokerRole=MASTER: expected ASYNC_MASTER, SYNC_MASTER or SLAVE");
        check("brokerId", "-1", "brokerId=-1: expected a whole number from 0 to 9223372036854775807");
        check(
            "slaveTimeout",
            "3s",
            "slaveTimeout=3s: expected a whole number from 1 to 9223372036854775807 (ms)",
        );
        check("autoCreateTopicEnable", "yes", "autoCreateTopicEnable=yes: expected true or false");
        check("namesrvAddr", "a", "namesrvAddr=a: expected host:port, with `;` between several");
        check(
            "messageDelayLevel",
            "1s 5x",
            "messageDelayLevel=1s 5x: expected delays such as `1s 5s 2m 1h 1d`, a space between them",
        );
        check("brokerNmae", "x", "there is no setting brokerNmae; the nearest is brokerName");
        check("utterlyDifferentThing", "x", "there is no setting utterlyDifferentThing");
    }

    #[test]
    fn a_request_changes_what_can_change_and_shows_the_rest() {
        let change = |text: &str| config().changed(&settings::parse_properties(text));
        let changed =
            change("maxTransferCountOnMessageInMemory=64\nbrokerName=other\nsendMessageThreadPoolNums=9")
                .expect("good");
        assert_eq!((changed.pull_messages_max, changed.broker_name.as_str()), (64, "b"));
        for line in
            ["maxTransferCountOnMessageInMemory=64\n", "brokerName=other\n", "sendMessageThreadPoolNums=9\n"]
        {
            assert!(changed.to_properties().contains(line), "{line}");
        }
        for (text, expect) in [
            ("rocketmqHome=/x", "Can not update config in black list."),
            (
                "slaveTimeout=5\nbrokerId=x",
                "brokerId=x: expected a whole number from 0 to 9223372036854775807",
            ),
            ("slaveTimeuot=5", "there is no setting slaveTimeuot; the nearest is slaveTimeout"),
        ] {
            assert_eq!(change(text).expect_err(text).to_string(), expect);
        }
    }
}
