//! The key-value configuration: `kvConfig.json`, byte-compatible with RocketMQ's.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::wire::body::{self, BodyError, KVTable};

/// The namespace of ordered topics: topic -> `broker:queues;…`.
pub(crate) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Names and values together, in bytes: an answer with all of them fits a frame.
pub(crate) const KV_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Namespace, then key.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct KvConfig {
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

impl KvConfig {
    /// Of the file's content.
    pub(crate) fn decode(content: &[u8]) -> Result<KvConfig, BodyError> {
        body::decode(content)
    }

    /// The file's content.
    pub(crate) fn encode(&self) -> alloc::vec::Vec<u8> {
        body::encode(self)
    }

    /// Sets a value; false when that would be over [`KV_BYTES_MAX`].
    pub(crate) fn put(&mut self, namespace: String, key: String, value: String) -> bool {
        if self.bytes() + namespace.len() + key.len() + value.len() > KV_BYTES_MAX {
            return false;
        }
        self.config_table.entry(namespace).or_default().insert(key, value);
        true
    }

    fn bytes(&self) -> usize {
        let entries = |keys: &BTreeMap<String, String>| {
            keys.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        };
        self.config_table.iter().map(|(namespace, keys)| namespace.len() + entries(keys)).sum()
    }

    /// Removes a value. Its namespace stays, empty, as in RocketMQ.
    pub(crate) fn delete(&mut self, namespace: &str, key: &str) {
        if let Some(keys) = self.config_table.get_mut(namespace) {
            keys.remove(key);
        }
    }

    /// A value.
    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    /// All of a namespace.
    pub(crate) fn list(&self, namespace: &str) -> Option<KVTable> {
        self.config_table.get(namespace).map(|keys| KVTable { table: keys.clone() })
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.config_table.values().all(BTreeMap::is_empty)
    }

    /// Writes all of it to the log.
    pub(crate) fn log(&self) {
        for (namespace, keys) in &self.config_table {
            for (key, value) in keys {
                tracing::info!(namespace, key, value, "key-value configuration");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rocketmqs() {
        let mut kv = KvConfig::default();
        assert!(kv.put(ORDER_TOPIC_CONFIG.into(), "T".into(), "a:4;b:4".into()));
        assert!(kv.put("N".into(), "k".into(), "1".into()));
        kv.delete("N", "k");
        kv.delete("M", "k");
        let text = br#"{"configTable":{"N":{},"ORDER_TOPIC_CONFIG":{"T":"a:4;b:4"}}}"#;
        assert_eq!(kv.encode(), text);
        assert_eq!(KvConfig::decode(text), Ok(kv));
        for len in 0..text.len() {
            assert!(KvConfig::decode(&text[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut kv = KvConfig::default();
        let value = "v".repeat(KV_BYTES_MAX / 2);
        assert!(kv.put("N".into(), "a".into(), value.clone()));
        assert!(!kv.put("N".into(), "b".into(), value));
        assert_eq!(kv.get("N", "b"), None);
    }
}
