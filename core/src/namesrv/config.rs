//! The name server's settings, under RocketMQ's property names (`NamesrvConfig`), in one list from which reading, writing
//! and the list of known names follow.
//!
//! Absent on purpose: sizes of thread pools and queues (there are none), the embedded controller, and
//! `notifyMinBrokerIdChanged` (it serves slaves that act as masters).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A type that a setting may have.
trait Setting: Sized {
    fn from_text(text: &str) -> Option<Self>;
    fn to_text(&self) -> String;
}

impl Setting for bool {
    fn from_text(text: &str) -> Option<Self> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_string())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

/// Why a setting was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingError {
    /// There is no setting of that name.
    Unknown,
    /// The value is not of the setting's type; the text says which it wants.
    Invalid(String),
}

macro_rules! settings {
    ($($(#[$meta:meta])* $field:ident: $ty:ty = $default:expr, $name:literal;)*) => {
        /// Settings of a name server.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct NameServerConfig {
            $($(#[$meta])* #[doc = concat!("\n\nProperty `", $name, "`.")] pub $field: $ty,)*
            /// What the host adds to the answer of GET_NAMESRV_CONFIG (`listenPort` and the like).
            pub shown: BTreeMap<String, String>,
            /// The host keeps what UPDATE_NAMESRV_CONFIG changes, in the file that these settings came from; else
            /// `namesrv.properties` does.
            pub host_keeps_changes: bool,
        }

        impl Default for NameServerConfig {
            fn default() -> Self {
                NameServerConfig { $($field: $default,)* shown: BTreeMap::new(), host_keeps_changes: false }
            }
        }

        impl NameServerConfig {
            /// Every property name.
            pub const NAMES: &[&str] = &[$($name,)*];

            /// Sets the property `name` from text.
            ///
            /// # Errors
            /// [`SettingError`]; nothing is changed then.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
                match name {
                    $($name => {
                        self.$field = <$ty>::from_text(text.trim()).ok_or_else(|| {
                            SettingError::Invalid(format!("{} wants {}, not `{}`", $name, stringify!($ty), text))
                        })?;
                        Ok(())
                    })*
                    _ => Err(SettingError::Unknown),
                }
            }

            /// All properties with their values, those of the host included.
            pub fn properties(&self) -> BTreeMap<String, String> {
                let mut all = self.shown.clone();
                $(all.insert($name.to_string(), self.$field.to_text());)*
                all
            }
        }
    };
}

settings! {
    /// How often silent brokers are looked for, ms. RocketMQ 5.x looks every 5 s, 4.9 every 10 s.
    scan_not_active_broker_interval_ms: u64 = 10_000, "scanNotActiveBrokerInterval";
    /// Whether routes name the order of ordered topics.
    order_message_enable: bool = false, "orderMessageEnable";
    /// Whether the answer to a registration lists the ordered topics.
    return_order_topic_config_to_broker: bool = true, "returnOrderTopicConfigToBroker";
    /// Whether the list of all topics may be asked for.
    enable_all_topic_list: bool = true, "enableAllTopicList";
    /// Whether lists of some topics may be asked for.
    enable_topic_list: bool = true, "enableTopicList";
    /// Whether a broker name without a master shows its first slave as one.
    support_acting_master: bool = false, "supportActingMaster";
    /// Whether routes are refused for a while after the start.
    need_wait_for_service: bool = false, "needWaitForService";
    /// For how long, s.
    wait_seconds_for_service: u64 = 45, "waitSecondsForService";
    /// Whether a topic that a broker no longer registers loses that broker's queues.
    delete_topic_with_broker_registration: bool = false, "deleteTopicWithBrokerRegistration";
    /// Properties that UPDATE_NAMESRV_CONFIG may not touch, `;` between them.
    config_black_list: String = String::from("configBlackList;configStorePath;kvConfigPath"), "configBlackList";
}

/// Never to be changed by a request, whatever the list says.
const ALWAYS_BLACK: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

impl NameServerConfig {
    /// Whether a request may not change `name`.
    pub(crate) fn is_black(&self, name: &str) -> bool {
        ALWAYS_BLACK.contains(&name) || self.config_black_list.split(';').any(|black| black == name)
    }
}

/// Reads Java properties: `name=value` or `name:value` lines, comments after `#` or `!`.
pub(crate) fn parse_properties(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    lines
        .map(|line| {
            let (name, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
            (name.trim(), value.trim())
        })
        .collect()
}

/// Writes `name=value` lines.
pub(crate) fn format_properties(all: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (name, value) in all {
        out.push_str(name);
        out.push('=');
        out.push_str(value);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_by_property_name() {
        let mut config = NameServerConfig::default();
        assert_eq!(config.set("scanNotActiveBrokerInterval", "5000"), Ok(()));
        assert_eq!(config.set("orderMessageEnable", " true "), Ok(()));
        assert_eq!((config.scan_not_active_broker_interval_ms, config.order_message_enable), (5_000, true));
        assert_eq!(config.set("noSuch", "1"), Err(SettingError::Unknown));
        let before = config.clone();
        assert_eq!(
            config.set("scanNotActiveBrokerInterval", "soon"),
            Err(SettingError::Invalid("scanNotActiveBrokerInterval wants u64, not `soon`".into()))
        );
        assert_eq!(config, before);
    }

    #[test]
    fn properties_go_out_and_come_back() {
        let config = NameServerConfig { enable_topic_list: false, ..NameServerConfig::default() };
        let text = format_properties(&config.properties());
        assert!(text.contains("scanNotActiveBrokerInterval=10000\n"));
        let mut read = NameServerConfig::default();
        for (name, value) in parse_properties(&text) {
            assert_eq!(read.set(name, value), Ok(()));
        }
        assert_eq!(read, config);
        assert_eq!(
            parse_properties("# c\n\n a = 1\r\n!x\nb:2\nc"),
            Vec::from([("a", "1"), ("b", "2"), ("c", "")])
        );
    }

    #[test]
    fn the_black_list_guards_itself() {
        let config = NameServerConfig { config_black_list: "a;b".into(), ..NameServerConfig::default() };
        for (name, black) in [("a", true), ("b", true), ("configBlackList", true), ("enableTopicList", false)]
        {
            assert_eq!(config.is_black(name), black, "{name}");
        }
    }
}
