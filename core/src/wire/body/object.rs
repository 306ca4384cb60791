//! Maps whose keys are objects, a form that only RocketMQ's own JSON has: `{{"brokerName":"b",…}:{…}}`. Its clients
//! cannot read such a key in quotes, and no JSON library writes it without, so bodies that hold such maps are written by
//! hand.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{bodies, write};
use crate::wire::json;

bodies! {
    /// A queue of a broker, RocketMQ's `MessageQueue`. In order of topic, broker and queue.
    #[derive(Eq)]
    MessageQueue {
        broker_name: String,
        queue_id: i32,
        topic: String,
    }
}

impl MessageQueue {
    /// That queue.
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> MessageQueue {
        MessageQueue { broker_name: broker_name.into(), queue_id, topic: topic.into() }
    }
}

impl Ord for MessageQueue {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.topic, &self.broker_name, self.queue_id).cmp(&(
            &other.topic,
            &other.broker_name,
            other.queue_id,
        ))
    }
}

impl PartialOrd for MessageQueue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A map by queue. Read with serde; written with [`ObjectWriter`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MqMap<V>(pub BTreeMap<MessageQueue, V>);

impl<V> Default for MqMap<V> {
    fn default() -> Self {
        MqMap(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for MqMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(core::marker::PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = MqMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map by message queue")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<MqMap<V>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, V>()? {
                    let queue = serde_json::from_str(&key).map_err(A::Error::custom)?;
                    map.insert(queue, value);
                }
                Ok(MqMap(map))
            }
        }

        deserializer.deserialize_map(Entries(core::marker::PhantomData))
    }
}

/// Writes one JSON object member by member. The caller keeps their alphabetical order.
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Appends an object to `out` whose members `members` writes.
    pub fn write(out: &mut Vec<u8>, members: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.push(b'{');
        members(&mut ObjectWriter { out, empty: true });
        out.push(b'}');
    }

    /// A member with an ordinary value.
    pub fn member<T: serde::Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.member_with(name, |out| write(value, out));
    }

    /// A member whose value `value` writes.
    pub fn member_with(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.comma();
        json::write_string(name, self.out);
        self.out.push(b':');
        value(self.out);
    }

    /// An entry with a queue as its key.
    pub fn entry(&mut self, queue: &MessageQueue, value: impl FnOnce(&mut Vec<u8>)) {
        self.comma();
        write(queue, self.out);
        self.out.push(b':');
        value(self.out);
    }

    fn comma(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }
}

impl<V> MqMap<V> {
    /// Appends the map in RocketMQ's form; `value` writes each value.
    pub fn write(&self, out: &mut Vec<u8>, mut value: impl FnMut(&V, &mut Vec<u8>)) {
        ObjectWriter::write(out, |map| {
            for (queue, held) in &self.0 {
                map.entry(queue, |out| value(held, out));
            }
        });
    }
}

impl<V: serde::Serialize> MqMap<V> {
    /// Appends the map in RocketMQ's form, its values as serde writes them.
    pub fn write_plain(&self, out: &mut Vec<u8>) {
        self.write(out, |value, out| write(value, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;

    #[test]
    fn queues_are_keys_as_rocketmq_writes_them() {
        let map: MqMap<i64> = MqMap(BTreeMap::from([
            (MessageQueue::new("T", "b", 1), 7),
            (MessageQueue::new("T", "b", 0), 5),
            (MessageQueue::new("A\"", "c", 9), 6),
        ]));
        let mut out = Vec::new();
        map.write_plain(&mut out);
        assert_eq!(
            core::str::from_utf8(&out),
            Ok(concat!(
                r#"{{"brokerName":"c","queueId":9,"topic":"A\""}:6,"#,
                r#"{"brokerName":"b","queueId":0,"topic":"T"}:5,"#,
                r#"{"brokerName":"b","queueId":1,"topic":"T"}:7}"#
            ))
        );
        assert_eq!(body::decode(&out), Ok(map));
    }
}
