//! What is done for each request, by family of request codes.
//!
//! A handler gives the answer, or `None` when it leaves later (see [`super::save`]). A header that cannot be read is answered
//! with SYSTEM_ERROR and the name of the field.

mod config;
mod kv;
mod register;
mod route;
mod topic;

use alloc::format;

use super::NameServer;
use crate::io::{ConnId, Now};
use crate::wire::body;
use crate::wire::code::{request_code as code, response_code};
use crate::wire::request::HeaderError;
use crate::wire::{Command, Ext};

/// The answer, `None` for later.
type Answer = Result<Option<Command>, HeaderError>;

/// SUCCESS with nothing else.
fn done(request: &Command) -> Answer {
    Ok(Some(Command::response(request, response_code::SUCCESS, Ext::None)))
}

/// SUCCESS with a JSON body.
fn with_body(request: &Command, value: &impl serde::Serialize) -> Answer {
    Ok(Some(Command::response(request, response_code::SUCCESS, Ext::None).with_body(body::encode(value))))
}

/// An error.
fn refuse(request: &Command, code: i32, remark: impl Into<alloc::string::String>) -> Answer {
    Ok(Some(Command::error(request, code, remark)))
}

impl NameServer {
    /// Answers a request, now or (`None`) later.
    pub(super) fn answer(&mut self, now: Now, conn: ConnId, request: &Command) -> Option<Command> {
        self.handle(now, conn, request).unwrap_or_else(|error| Some(error.answer(request)))
    }

    fn handle(&mut self, now: Now, conn: ConnId, request: &Command) -> Answer {
        match request.code {
            code::PUT_KV_CONFIG => self.put_kv_config(conn, request),
            code::GET_KV_CONFIG => self.get_kv_config(request),
            code::DELETE_KV_CONFIG => self.delete_kv_config(conn, request),
            code::GET_KVLIST_BY_NAMESPACE => self.get_kv_list(request),

            code::REGISTER_BROKER => self.register_broker(now, conn, request),
            code::UNREGISTER_BROKER => self.unregister_broker(request),
            code::QUERY_DATA_VERSION => self.query_data_version(now, conn, request),
            code::BROKER_HEARTBEAT => self.broker_heartbeat(now, request),

            code::GET_ROUTEINFO_BY_TOPIC => self.get_route_info(now, request),
            code::GET_BROKER_CLUSTER_INFO => with_body(request, &self.tables.cluster_info()),
            code::GET_BROKER_MEMBER_GROUP => self.get_broker_member_group(request),
            code::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write_perm(request),
            code::ADD_WRITE_PERM_OF_BROKER => self.add_write_perm(request),

            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.get_all_topic_list(request),
            code::GET_TOPICS_BY_CLUSTER => self.get_topics_by_cluster(request),
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => with_body(request, &self.tables.system_topic_list()),
            code::GET_UNIT_TOPIC_LIST => self.get_unit_topics(request, Some(true), None),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => self.get_unit_topics(request, None, Some(true)),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                self.get_unit_topics(request, Some(false), Some(true))
            }
            code::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            code::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(request),

            code::UPDATE_NAMESRV_CONFIG => self.update_config(conn, request),
            code::GET_NAMESRV_CONFIG => self.get_config(request),
            unknown => refuse(
                request,
                response_code::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {unknown} not supported"),
            ),
        }
    }
}
