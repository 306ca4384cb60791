//! 318 UPDATE, 319 GET: the name server's settings.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Answer, refuse};
use crate::io::ConnId;
use crate::namesrv::NameServer;
use crate::namesrv::config::{NameServerConfig, SettingError, format_properties, parse_properties};
use crate::namesrv::save::File;
use crate::wire::code::response_code;
use crate::wire::{Command, Ext};

impl NameServer {
    /// Takes all of the body's properties or none. Unknown ones are passed over, as RocketMQ does.
    pub(super) fn update_config(&mut self, conn: ConnId, request: &Command) -> Answer {
        let Ok(text) = core::str::from_utf8(&request.body) else {
            return refuse(request, response_code::SYSTEM_ERROR, "the properties are not UTF-8");
        };
        let properties = parse_properties(text);
        if properties.iter().any(|(name, _)| self.config.is_black(name)) {
            return refuse(request, response_code::NO_PERMISSION, "Can not update config in black list.");
        }
        let mut config = self.config.clone();
        let mut changed = self.changed_settings.clone();
        let mut taken = Vec::new();
        for (name, value) in properties {
            match config.set(name, value) {
                Ok(()) => {
                    changed.insert(String::from(name), String::from(value));
                    taken.push((String::from(name), String::from(value)));
                }
                Err(SettingError::Unknown) => tracing::warn!(name, "unknown setting is ignored"),
                Err(SettingError::Invalid(why)) => return refuse(request, response_code::SYSTEM_ERROR, why),
            }
        }
        tracing::info!(properties = %text.trim(), "settings changed online");
        if config.scan_not_active_broker_interval_ms != self.config.scan_not_active_broker_interval_ms {
            self.scan = None;
        }
        let deletes = |config: &NameServerConfig| config.delete_topic_with_broker_registration;
        if deletes(&config) && !deletes(&self.config) {
            self.tables.want_tables(|_| true);
        }
        self.config = config;
        if self.config.host_keeps_changes {
            self.told.extend(taken);
            return Ok(Some(Command::response(request, response_code::SUCCESS, Ext::None)));
        }
        self.changed_settings = changed;
        self.saves.change(File::Properties, conn, request);
        Ok(None)
    }

    pub(super) fn get_config(&self, request: &Command) -> Answer {
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Some(answer.with_body(format_properties(&self.config.properties()).into_bytes())))
    }
}
