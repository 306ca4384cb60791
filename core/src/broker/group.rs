//! The settings of consumer groups: `subscriptionGroup.json` in memory.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::config::BrokerConfig;
use super::names;
use super::persist::ConfigFile;
use crate::time::WallMs;
use crate::wire::body::{self, BodyError, DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};

/// The bit of RocketMQ's `PermName.INDEX_PERM_READ`.
const FORBID_READ: i32 = 1 << 2;

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    table: BTreeMap<String, SubscriptionGroupConfig>,
    /// By group and topic: what is forbidden.
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    version: DataVersion,
    /// Whether what the log does not carry yet is listed, and what that is.
    is_carrying: bool,
    uncarried: BTreeSet<String>,
    pub(super) file: ConfigFile,
}

impl Groups {
    /// The groups every broker has.
    pub(super) fn new() -> Groups {
        let built_in = names::BUILT_IN_GROUPS.iter().map(|name| {
            let config =
                SubscriptionGroupConfig { group_name: (*name).into(), ..SubscriptionGroupConfig::default() };
            (String::from(*name), config)
        });
        Groups {
            table: built_in.collect(),
            forbidden: BTreeMap::new(),
            version: DataVersion::default(),
            is_carrying: false,
            uncarried: BTreeSet::new(),
            file: ConfigFile::new("config/subscriptionGroup.json"),
        }
    }

    /// Takes what the file holds.
    ///
    /// # Errors
    /// [`BodyError`]: it is not such a file.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let wrapper: SubscriptionGroupWrapper = body::decode(bytes)?;
        self.version = wrapper.data_version;
        for (name, config) in wrapper.subscription_group_table {
            self.table.insert(name.clone(), SubscriptionGroupConfig { group_name: name, ..config });
        }
        self.forbidden.extend(wrapper.forbidden_table);
        Ok(())
    }

    /// A slave takes its master's table as it is, unless it has that version.
    ///
    /// # Errors
    /// [`BodyError`]: it is no such table; nothing was changed then.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let wrapper: SubscriptionGroupWrapper = body::decode(bytes)?;
        if wrapper.data_version != self.version && !wrapper.subscription_group_table.is_empty() {
            self.follow_only(wrapper);
        }
        Ok(())
    }

    /// A slave takes its master's table as it is.
    pub(super) fn follow_only(&mut self, wrapper: SubscriptionGroupWrapper) {
        let named = |(name, config): (String, SubscriptionGroupConfig)| {
            (name.clone(), SubscriptionGroupConfig { group_name: name, ..config })
        };
        self.table = wrapper.subscription_group_table.into_iter().map(named).collect();
        self.forbidden = wrapper.forbidden_table;
        self.version = wrapper.data_version;
        self.file.touch();
    }

    /// A slave takes what its master has changed: groups as they are now, and those that are gone.
    pub(super) fn follow_some(&mut self, wrapper: SubscriptionGroupWrapper, gone: &BTreeSet<String>) {
        for name in gone.iter().chain(wrapper.subscription_group_table.keys()) {
            self.table.remove(name);
            self.forbidden.remove(name);
        }
        for (name, config) in wrapper.subscription_group_table {
            self.table.insert(name.clone(), SubscriptionGroupConfig { group_name: name, ..config });
        }
        self.forbidden.extend(wrapper.forbidden_table);
        self.version = wrapper.data_version;
        self.file.touch();
    }

    /// Lists from now on what the log does not carry yet, or nothing.
    pub(super) fn set_carrying(&mut self, is_carrying: bool) {
        self.is_carrying = is_carrying;
        self.uncarried.clear();
    }

    /// Whether something is not in the log yet.
    pub(super) fn has_uncarried(&self) -> bool {
        !self.uncarried.is_empty()
    }

    /// What is not in the log yet: groups as they are now, and those that are gone.
    pub(super) fn take_uncarried(&mut self) -> (SubscriptionGroupWrapper, BTreeSet<String>) {
        let names = core::mem::take(&mut self.uncarried);
        let (changed, gone): (BTreeSet<String>, BTreeSet<String>) =
            names.into_iter().partition(|name| self.table.contains_key(name));
        let wrapper = SubscriptionGroupWrapper {
            data_version: self.version,
            forbidden_table: of(&self.forbidden, &changed),
            subscription_group_table: of(&self.table, &changed),
        };
        (wrapper, gone)
    }

    /// The settings of a group, if it is known.
    pub(super) fn get(&self, name: &str) -> Option<&SubscriptionGroupConfig> {
        self.table.get(name)
    }

    /// The settings of a group, which is made if that is allowed.
    pub(super) fn find(
        &mut self,
        wall: WallMs,
        name: &str,
        config: &BrokerConfig,
    ) -> Option<&SubscriptionGroupConfig> {
        if !self.table.contains_key(name) {
            let allowed = config.auto_create_group || names::is_system_group(name);
            if !allowed || !names::is_valid_group(name) {
                return None;
            }
            let group =
                SubscriptionGroupConfig { group_name: name.into(), ..SubscriptionGroupConfig::default() };
            self.put(wall, group);
        }
        self.table.get(name)
    }

    /// Makes or changes a group.
    pub(super) fn put(&mut self, wall: WallMs, config: SubscriptionGroupConfig) {
        self.changed(wall, &config.group_name);
        tracing::info!(group = config.group_name, "subscription group put");
        self.table.insert(config.group_name.clone(), config);
    }

    /// Forgets a group.
    pub(super) fn delete(&mut self, wall: WallMs, name: &str) {
        if self.table.remove(name).is_some() {
            self.forbidden.remove(name);
            self.changed(wall, name);
            tracing::info!(group = name, "subscription group deleted");
        }
    }

    /// Names of all groups, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    fn changed(&mut self, wall: WallMs, name: &str) {
        if self.is_carrying {
            self.uncarried.insert(name.into());
        }
        self.file.touch();
        self.version.counter += 1;
        self.version.timestamp = wall.0;
    }

    /// Takes a group's right to read a topic, or gives it back.
    pub(super) fn forbid_read(&mut self, wall: WallMs, group: &str, topic: &str, is_forbidden: bool) {
        let bits = self.forbidden.entry(group.into()).or_default().entry(topic.into()).or_default();
        let before = *bits;
        *bits = if is_forbidden { before | FORBID_READ } else { before & !FORBID_READ };
        if *bits != before {
            self.changed(wall, group);
        }
    }

    /// Whether a group may not read a topic.
    pub(super) fn is_read_forbidden(&self, group: &str, topic: &str) -> bool {
        self.forbidden
            .get(group)
            .and_then(|topics| topics.get(topic))
            .is_some_and(|bits| bits & FORBID_READ != 0)
    }

    /// What this broker has, for slaves to compare.
    pub(super) fn stamp(&self) -> String {
        let DataVersion { state_version, counter, timestamp } = self.version;
        format!("{state_version}:{counter}:{timestamp}")
    }

    /// What the file is to hold, and slaves get.
    pub(super) fn wrapper(&self) -> SubscriptionGroupWrapper {
        SubscriptionGroupWrapper {
            data_version: self.version,
            forbidden_table: self.forbidden.clone(),
            subscription_group_table: self.table.clone(),
        }
    }
}

/// Those entries of a table.
fn of<V: Clone>(table: &BTreeMap<String, V>, names: &BTreeSet<String>) -> BTreeMap<String, V> {
    table
        .iter()
        .filter(|(name, _)| names.contains(*name))
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_made_where_that_is_allowed() {
        let mut config = BrokerConfig::new("b", "127.0.0.1:10911".parse().expect("address"));
        for (auto, name, expect) in [
            (true, "G", true),
            (true, "bad name", false),
            (false, "G", false),
            (false, "CID_RMQ_SYS_X", true),
            (false, "TOOLS_CONSUMER", true),
        ] {
            config.auto_create_group = auto;
            let mut groups = Groups::new();
            assert_eq!(groups.find(WallMs(1), name, &config).is_some(), expect, "{name}");
            let mut again = Groups::new();
            again.load(&body::encode(&groups.wrapper())).expect("own file");
            assert_eq!(again.wrapper(), groups.wrapper());
        }
    }
}
