//! Names that mean something to a broker: system topics, prefixes, built-in groups, and which names may be given.

use alloc::format;
use alloc::string::String;

use super::config::BrokerConfig;

/// Whose settings topics made by a send take.
pub(super) const AUTO_CREATE_TOPIC_KEY: &str = "TBW102";
pub(super) const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub(super) const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub(super) const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub(super) const OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub(super) const ROCKSDB_HALF_TOPIC: &str = "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC";
pub(super) const ROCKSDB_OP_HALF_TOPIC: &str = "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC";
pub(super) const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub(super) const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub(super) const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
pub(super) const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// Carries the changes of a master's tables to its slaves (see [`super::carry`]).
pub(super) const METADATA_TOPIC: &str = "rmq_sys_GANTRY_METADATA";
pub(super) const REPLY_TOPIC_POSTFIX: &str = "REPLY_TOPIC";
pub(super) const REVIVE_TOPIC_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
pub(super) const SYNC_MEMBER_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

pub(super) const RETRY_PREFIX: &str = "%RETRY%";
const DLQ_PREFIX: &str = "%DLQ%";
const LMQ_PREFIX: &str = "%LMQ%";

/// Longest topic, and longest one of a retry or dead-letter queue.
const TOPIC_CHARS_MAX: usize = 127;
const RETRY_TOPIC_CHARS_MAX: usize = 255;
/// Longest consumer or producer group.
pub(super) const GROUP_CHARS_MAX: usize = 120;

/// Groups that every broker has.
pub(super) const BUILT_IN_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";

/// Prefix of groups that may always be made.
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

pub(super) fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

pub(super) fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// The group of a retry topic.
pub(super) fn group_of_retry(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// Queues outside the table of topics.
pub(super) fn is_lmq(topic: &str) -> bool {
    topic.starts_with(LMQ_PREFIX)
}

pub(super) fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX)
}

/// Topics that every broker has or keeps for itself: no administrator may touch them.
pub(super) fn is_system_topic(topic: &str, config: &BrokerConfig) -> bool {
    let reply = topic.strip_suffix(REPLY_TOPIC_POSTFIX).and_then(|cluster| cluster.strip_suffix('_'));
    matches!(topic, AUTO_CREATE_TOPIC_KEY | BENCHMARK_TOPIC)
        || is_send_forbidden(topic)
        || topic.starts_with(SYSTEM_TOPIC_PREFIX)
        || topic == config.trace_topic_name && config.trace_topic
        || topic == config.cluster_name
        || topic == config.broker_name
        || reply == Some(config.cluster_name.as_str())
}

/// Topics that clients may not send to.
pub(super) fn is_send_forbidden(topic: &str) -> bool {
    matches!(
        topic,
        SCHEDULE_TOPIC
            | HALF_TOPIC
            | OP_HALF_TOPIC
            | ROCKSDB_HALF_TOPIC
            | ROCKSDB_OP_HALF_TOPIC
            | TRANS_CHECK_MAX_TIME_TOPIC
            | SELF_TEST_TOPIC
            | OFFSET_MOVED_EVENT
            | METADATA_TOPIC
    )
}

/// Checks the name of a topic as RocketMQ's `TopicValidator` does.
///
/// # Errors
/// RocketMQ's text.
pub(super) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.trim().is_empty() {
        return Err("The specified topic is blank.".into());
    }
    if !has_valid_chars(topic) {
        return Err(format!(
            "The specified topic: {topic}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    if topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX) {
        if topic.len() > RETRY_TOPIC_CHARS_MAX {
            return Err(format!(
                "The specified topic is DLQ or Retry topic: {topic}, and it's longer than topic max length: {RETRY_TOPIC_CHARS_MAX}"
            ));
        }
    } else if topic.len() > TOPIC_CHARS_MAX {
        return Err(format!(
            "The specified topic: {topic}, is longer than topic max length: {TOPIC_CHARS_MAX}"
        ));
    }
    Ok(())
}

/// Whether a group may have this name.
pub(super) fn is_valid_group(group: &str) -> bool {
    check_group(group).is_ok()
}

/// Checks the name of a group as RocketMQ's `TopicValidator` does.
///
/// # Errors
/// RocketMQ's text.
pub(super) fn check_group(group: &str) -> Result<(), String> {
    if group.trim().is_empty() {
        return Err("The specified group is blank.".into());
    }
    if !has_valid_chars(group) {
        return Err(format!(
            "The specified group: {group}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    if group.len() > GROUP_CHARS_MAX {
        return Err(format!(
            "The specified group: {group}, is longer than group max length: {GROUP_CHARS_MAX}"
        ));
    }
    Ok(())
}

fn has_valid_chars(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_rocketmq_does() {
        let long = "x".repeat(127);
        for (topic, expect) in [
            ("T", true),
            ("%RETRY%G", true),
            ("a|b-c_9", true),
            (long.as_str(), true),
            (&format!("{long}x"), false),
            (&format!("%RETRY%{long}"), true),
            (&format!("%DLQ%{}", "x".repeat(251)), false),
            ("", false),
            (" ", false),
            ("a b", false),
            ("a@b", false),
            ("ä", false),
            ("a\u{0}", false),
        ] {
            assert_eq!(check_topic(topic).is_ok(), expect, "{topic:?}");
        }
        assert!(is_valid_group("G") && !is_valid_group("") && !is_valid_group(&"g".repeat(121)));
    }
}
