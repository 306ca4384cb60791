//! 105 route, 901 members of a broker name, 205 and 327 write permission.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use super::register::ZONE_NAME;
use super::{Answer, refuse, with_body};
use crate::io::Now;
use crate::namesrv::NameServer;
use crate::namesrv::tables::MASTER_ID;
use crate::time::Duration;
use crate::wire::body::{BrokerData, GetBrokerMemberGroupResponseBody, TopicRouteData, perm};
use crate::wire::code::response_code;
use crate::wire::request::{
    AddWritePermOfBrokerRequest, AddWritePermOfBrokerResponse, GetBrokerMemberGroupRequest,
    GetRouteInfoRequest, Header, WipeWritePermOfBrokerRequest, WipeWritePermOfBrokerResponse,
};
use crate::wire::{Command, Ext};

/// Whether a client wants brokers of its own zone only, as an extra header field.
const ZONE_MODE: &str = "__ZONE_MODE";

/// Topics that brokers of a name talk through: never shown with an acting master.
/// Where RocketMQ's users look up a missing route.
const FAQ_URL: &str = "https://rocketmq.apache.org/docs/bestPractice/06FAQ";

const SYNC_BROKER_MEMBER_GROUP_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

impl NameServer {
    pub(super) fn get_route_info(&self, now: Now, request: &Command) -> Answer {
        let header: GetRouteInfoRequest = request.header()?;
        let wait = Duration::from_secs(self.config.wait_seconds_for_service);
        if self.config.need_wait_for_service && now.mono.since(self.started) < wait {
            return refuse(request, response_code::SYSTEM_ERROR, "name server not ready");
        }
        let acting_master =
            self.config.support_acting_master && !header.topic.starts_with(SYNC_BROKER_MEMBER_GROUP_PREFIX);
        let Some(mut route) = self.tables.route(&header.topic, acting_master) else {
            // Java clients show a remark with this ending as it is, and put a longer one behind any other.
            let remark = format!(
                "No topic route info in name server for the topic: {}\nSee {FAQ_URL} for further details.",
                header.topic
            );
            return refuse(request, response_code::TOPIC_NOT_EXIST, remark);
        };
        if self.config.order_message_enable {
            route.order_topic_conf =
                self.kv.get(crate::namesrv::kv::ORDER_TOPIC_CONFIG, &header.topic).map(String::from);
        }
        if let Some(zone) = wanted_zone(&request.ext) {
            keep_zone(&mut route, &zone);
        }
        // Keys in quotes, whatever the version: old clients read both forms, new ones and Go want this one.
        with_body(request, &route)
    }

    pub(super) fn get_broker_member_group(&self, request: &Command) -> Answer {
        let GetBrokerMemberGroupRequest { cluster_name, broker_name } = request.header()?;
        let group = self.tables.member_group(&cluster_name, &broker_name);
        with_body(request, &GetBrokerMemberGroupResponseBody { broker_member_group: Some(group) })
    }

    pub(super) fn wipe_write_perm(&mut self, request: &Command) -> Answer {
        let WipeWritePermOfBrokerRequest { broker_name } = request.header()?;
        let wipe_topic_count = self.tables.change_perm(&broker_name, |perm| perm & !perm::WRITE);
        tracing::info!(broker = broker_name, topics = wipe_topic_count, "write permission wiped");
        let ext = WipeWritePermOfBrokerResponse { wipe_topic_count }.to_ext();
        Ok(Some(Command::response(request, response_code::SUCCESS, ext)))
    }

    pub(super) fn add_write_perm(&mut self, request: &Command) -> Answer {
        let AddWritePermOfBrokerRequest { broker_name } = request.header()?;
        let add_topic_count = self.tables.change_perm(&broker_name, |_| perm::READ | perm::WRITE);
        tracing::info!(broker = broker_name, topics = add_topic_count, "write permission added");
        let ext = AddWritePermOfBrokerResponse { add_topic_count }.to_ext();
        Ok(Some(Command::response(request, response_code::SUCCESS, ext)))
    }
}

fn wanted_zone(ext: &Ext) -> Option<String> {
    let zone_mode = ext.get(ZONE_MODE).is_some_and(|mode| mode.eq_ignore_ascii_case("true"));
    ext.get(ZONE_NAME).filter(|zone| zone_mode && !zone.trim().is_empty()).map(|zone| zone.into_owned())
}

/// Leaves brokers of the zone, and those without a master, which may be read from anywhere.
fn keep_zone(route: &mut TopicRouteData, zone: &str) {
    let stays = |broker: &BrokerData| {
        let near = broker.zone_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(zone));
        near || !broker.broker_addrs.contains_key(&MASTER_ID)
    };
    let (kept, removed): (alloc::vec::Vec<_>, alloc::vec::Vec<_>) =
        core::mem::take(&mut route.broker_datas).into_iter().partition(stays);
    let names: BTreeSet<&str> = removed.iter().map(|broker| broker.broker_name.as_str()).collect();
    route.queue_datas.retain(|queues| !names.contains(queues.broker_name.as_str()));
    for addr in removed.iter().flat_map(|broker| broker.broker_addrs.values()) {
        route.filter_server_table.remove(addr);
    }
    route.broker_datas = kept;
}
