//! 103 REGISTER, 104 UNREGISTER, 322 data version, 904 heartbeat: brokers about themselves.

use super::{Answer, done, refuse};
use crate::io::{ConnId, Now};
use crate::namesrv::NameServer;
use crate::namesrv::kv::ORDER_TOPIC_CONFIG;
use crate::namesrv::register::{Refused, Registration};
use crate::wire::body::{self, DataVersion, RegisterBrokerBody};
use crate::wire::code::response_code;
use crate::wire::request::{
    BrokerHeartbeatRequest, Header, QueryDataVersionRequest, QueryDataVersionResponse, RegisterBrokerRequest,
    UnRegisterBrokerRequest,
};
use crate::wire::{Command, Ext};

/// A broker's zone, as an extra header field.
pub(super) const ZONE_NAME: &str = "__ZONE_NAME";

impl NameServer {
    pub(super) fn register_broker(&mut self, now: Now, conn: ConnId, request: &Command) -> Answer {
        let header: RegisterBrokerRequest = request.header()?;
        if !checksum_matches(header.body_crc32, &request.body) {
            return refuse(request, response_code::SYSTEM_ERROR, "crc32 not match");
        }
        let body = if request.body.is_empty() {
            RegisterBrokerBody::default()
        } else {
            match RegisterBrokerBody::decode(&request.body, header.compressed.unwrap_or_default()) {
                Ok(body) => body,
                Err(error) => {
                    tracing::warn!(broker = header.broker_name, addr = header.broker_addr, %error, "registration refused");
                    return refuse(request, response_code::SYSTEM_ERROR, alloc::format!("{error}"));
                }
            }
        };
        let registration = Registration {
            header: &header,
            zone_name: request.ext.get(ZONE_NAME).map(|zone| zone.into_owned()),
            body,
            conn,
            now: now.mono,
            delete_missing_topics: self.config.delete_topic_with_broker_registration,
        };
        match self.tables.register(registration) {
            Ok(master) => {
                let answer = Command::response(request, response_code::SUCCESS, master.to_ext());
                let ordered = self.kv.list(ORDER_TOPIC_CONFIG);
                Ok(Some(match ordered.filter(|_| self.config.return_order_topic_config_to_broker) {
                    Some(table) => answer.with_body(body::encode(&table)),
                    None => answer,
                }))
            }
            Err(Refused::NotRegistered) => {
                refuse(request, response_code::SYSTEM_ERROR, "register broker failed")
            }
            Err(Refused::UnknownBase) => refuse(
                request,
                response_code::SYSTEM_ERROR,
                "the change builds on another version than the one here: send the whole table",
            ),
        }
    }

    pub(super) fn unregister_broker(&mut self, request: &Command) -> Answer {
        let header: UnRegisterBrokerRequest = request.header()?;
        self.tables.unregister(&header.broker_name, &header.broker_addr);
        done(request)
    }

    /// The whole table is asked for by saying that the version is another, which every broker understands: also when
    /// something else has changed its topics, or when it was registered over another connection, whose end would end it.
    pub(super) fn query_data_version(&mut self, now: Now, conn: ConnId, request: &Command) -> Answer {
        let header: QueryDataVersionRequest = request.header()?;
        let asked: DataVersion = match body::decode(&request.body) {
            Ok(version) => version,
            Err(error) => return refuse(request, response_code::SYSTEM_ERROR, alloc::format!("{error}")),
        };
        self.tables.hear(&header.cluster_name, &header.broker_addr, now.mono);
        let live = self.tables.live_of(&header.cluster_name, &header.broker_addr);
        let is_known = live.is_some_and(|live| {
            let is_same = live.broker_name == header.broker_name && live.broker_id == header.broker_id;
            is_same && live.data_version == asked && live.conn == conn && !live.is_astray
        });
        let ext = QueryDataVersionResponse { changed: !is_known, takes_changes: Some(true) }.to_ext();
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Some(match live {
            Some(live) => answer.with_body(body::encode(&live.data_version)),
            None => answer,
        }))
    }

    pub(super) fn broker_heartbeat(&mut self, now: Now, request: &Command) -> Answer {
        let header: BrokerHeartbeatRequest = request.header()?;
        self.tables.hear(&header.cluster_name, &header.broker_addr, now.mono);
        Ok(Some(Command::response(request, response_code::SUCCESS, Ext::None)))
    }
}

/// RocketMQ's checksum leaves the sign bit out; 0 is not checked.
fn checksum_matches(expected: Option<i32>, body: &[u8]) -> bool {
    match expected.unwrap_or_default() {
        0 => true,
        expected => crc32fast::hash(body) & 0x7fff_ffff == expected as u32,
    }
}
