//! The way into the store, for everything that stores a message: clients' sends, messages sent back, delayed ones that are due.
//!
//! A message with a delay level goes to the topic of delayed messages first, with its own topic and queue among its
//! properties (RocketMQ's `HookUtils.transformDelayLevelMessage`).

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::Broker;
use super::names;
use super::persist::Generation;
use super::reply::Refusal;
use super::store::{AppendError, Appended};
use crate::io::{Disk, DiskError, Now};
use crate::wire::code::response_code;
use crate::wire::message::{Draft, PROPERTIES_BYTES_MAX, properties, property, put_property, sys_flag};

/// A stored message, and the change of `topics.json` that must be durable before anybody hears of it.
pub(super) struct Stored {
    pub(super) appended: Appended,
    pub(super) topic: Option<Generation>,
}

impl Broker {
    /// Puts a message into a queue of a topic, or among the delayed ones.
    pub(super) fn store_message<D: Disk>(
        &mut self,
        now: Now,
        draft: &Draft<'_>,
        disk: &mut D,
    ) -> Result<Stored, Refusal> {
        let Some(level) = delay_level(draft) else { return self.store_plain(now, draft, disk) };
        let level = level.min(self.config.store.delay_levels.len());
        let mut text = Vec::with_capacity(draft.properties.len() + draft.topic.len() + 64);
        copy_properties(draft.properties, &[b"DELAY", b"REAL_TOPIC", b"REAL_QID"], &mut text);
        put_property(b"DELAY", level.to_string().as_bytes(), &mut text);
        put_property(b"REAL_TOPIC", draft.topic.as_bytes(), &mut text);
        put_property(b"REAL_QID", draft.queue_id.to_string().as_bytes(), &mut text);
        let delayed = Draft {
            topic: names::SCHEDULE_TOPIC,
            queue_id: level as i32 - 1,
            properties: &text,
            ..draft.clone()
        };
        let gate = self.topics.get(draft.topic).map(|topic| topic.changed);
        let stored = self.store_plain(now, &delayed, disk)?;
        if let Some(queue) = self.store.find_queue(names::SCHEDULE_TOPIC, delayed.queue_id) {
            self.delays.set_queue(level, queue);
        }
        let topic = gate.filter(|changed| !self.topics.file.is_durable(*changed)).or(stored.topic);
        Ok(Stored { topic, ..stored })
    }

    /// Puts a message into exactly this queue.
    pub(super) fn store_plain<D: Disk>(
        &mut self,
        now: Now,
        draft: &Draft<'_>,
        disk: &mut D,
    ) -> Result<Stored, Refusal> {
        check_properties(draft.properties)?;
        let (queue, changed) = match self.topics.get_mut(draft.topic) {
            Some(topic) => (topic.queue(draft.queue_id, &mut self.store), Some(topic.changed)),
            // A delayed message whose topic was deleted meanwhile is stored all the same.
            None => (self.store.queue(draft.topic, draft.queue_id), None),
        };
        let appended =
            self.store.append(now, queue, draft, disk).map_err(|error| self.refuse_append(error))?;
        if let Some(topic) = self.topics.get_mut(draft.topic) {
            topic.stats.put(1, draft.record_bytes() as u64);
        }
        self.stats.put.put(1, draft.record_bytes() as u64);
        let topic = changed.filter(|changed| !self.topics.file.is_durable(*changed));
        Ok(Stored { appended, topic })
    }

    pub(super) fn refuse_append(&self, error: AppendError) -> Refusal {
        match error {
            AppendError::TooLarge => self.message_illegal(),
            AppendError::NotReady
            | AppendError::DiskWarning
            | AppendError::Disk(DiskError::Full | DiskError::NoDescriptors) => Refusal::new(
                response_code::SERVICE_NOT_AVAILABLE,
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full, messages are put to the slave, message store has been shut down, etc.",
            ),
            AppendError::NotARecord => unreachable!("only raw bytes of another log are refused so"),
            AppendError::Disk(error) => {
                tracing::error!(%error, "message not stored");
                Refusal::new(
                    response_code::SYSTEM_ERROR,
                    format!("create mapped file failed, server is busy or broken: {error}"),
                )
            }
        }
    }

    pub(super) fn message_illegal(&self) -> Refusal {
        Refusal::new(
            response_code::MESSAGE_ILLEGAL,
            format!(
                "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg properties length limit 32KB.",
                self.config.store.body_bytes_max
            ),
        )
    }
}

/// The delay level of a message that is to be delayed: half messages and rollbacks never are.
fn delay_level(draft: &Draft<'_>) -> Option<usize> {
    delay_level_of(draft.sys_flag, draft.properties)
}

/// The same of its parts.
pub(super) fn delay_level_of(flags: i32, text: &[u8]) -> Option<usize> {
    let transaction = flags & sys_flag::TRANSACTION_MASK;
    if transaction != 0 && transaction != sys_flag::TRANSACTION_COMMIT {
        return None;
    }
    let text = core::str::from_utf8(property(text, b"DELAY")?).ok()?;
    // RocketMQ fails on a level that is no number; here it is none.
    text.parse().ok().filter(|level| *level > 0)
}

/// Appends all properties but the named ones.
pub(super) fn copy_properties(text: &[u8], dropped: &[&[u8]], out: &mut Vec<u8>) {
    for (name, value) in properties(text) {
        if !dropped.contains(&name) {
            put_property(name, value, out);
        }
    }
}

/// Bounds, and what recovery takes for a page that was never written.
pub(super) fn check_properties(text: &[u8]) -> Result<(), Refusal> {
    if text.len() > PROPERTIES_BYTES_MAX {
        return Err(Refusal::new(
            response_code::MESSAGE_ILLEGAL,
            format!(
                "the message is illegal: its properties have {} bytes, the limit is {PROPERTIES_BYTES_MAX}",
                text.len()
            ),
        ));
    }
    if memchr::memchr(0, text).is_some() {
        return Err(Refusal::new(
            response_code::MESSAGE_ILLEGAL,
            "the message is illegal: its properties hold a zero byte",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_bytes_and_long_properties_are_refused() {
        for (text, expect) in [
            (&b"a\x01b\x02"[..], true),
            (b"a\x01\x00b\x02", false),
            (&[b'x'; PROPERTIES_BYTES_MAX], true),
            (&[b'x'; PROPERTIES_BYTES_MAX + 1], false),
        ] {
            assert_eq!(check_properties(text).is_ok(), expect, "{}", text.len());
        }
    }

    #[test]
    fn levels_count_from_one() {
        for (text, flags, expect) in [
            (&b"DELAY\x013\x02"[..], 0, Some(3)),
            (b"DELAY\x010\x02", 0, None),
            (b"DELAY\x01-1\x02", 0, None),
            (b"DELAY\x01x\x02", 0, None),
            (b"", 0, None),
            (b"DELAY\x0199\x02", sys_flag::TRANSACTION_COMMIT, Some(99)),
            (b"DELAY\x013\x02", sys_flag::TRANSACTION_PREPARED, None),
        ] {
            let host = "127.0.0.1:1".parse().expect("address");
            let draft = Draft {
                topic: "T",
                queue_id: 0,
                flag: 0,
                sys_flag: flags,
                born_timestamp: 0,
                born_host: host,
                store_host: host,
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: b"",
                properties: text,
            };
            assert_eq!(delay_level(&draft), expect);
        }
    }
}
