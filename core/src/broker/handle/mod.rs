//! Requests, in files that mirror the families of their codes.
//!
//! A handler answers at once, parks the answer, or refuses; [`Broker::on_request`] sends what is to be sent.

mod back;
mod client;
mod epoch;
mod group;
mod info;
mod offset;
mod once;
mod progress;
mod pull;
mod query;
pub(super) mod search;
mod send;
mod session;
mod topic;

use alloc::collections::BTreeMap;
use alloc::format;

use super::ack::{Ack, Change, Safety};
use super::reply::{Answer, Refusal};
use super::store::QueueIx;
use super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::wire::Command;
use crate::wire::code::{request_code as code, response_code};

/// Requests that wait for the disk at a time, pulls aside.
const COLD_REQUESTS_MAX: usize = 1024;

/// A request that waits for the disk.
#[derive(Debug)]
pub(super) struct ColdRequest {
    pub(super) conn: ConnId,
    request: Command,
    /// Store times that it has read already.
    times: BTreeMap<(QueueIx, i64), Option<i64>>,
}

impl Broker {
    /// Serves one request.
    pub(super) fn on_request<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        self.times.clear();
        self.serve_request(now, conn, request, env);
    }

    fn serve_request<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        let command = match self.serve(now, conn, request, env) {
            Ok(Answer::Later) => return,
            Ok(Answer::Cold(extent)) => {
                if self.cold.len() < COLD_REQUESTS_MAX {
                    let id = FetchId(self.ids.next());
                    env.out.push(Effect::Fetch { id, at: extent });
                    let times = core::mem::take(&mut self.times);
                    self.cold.insert(id, ColdRequest { conn, request: request.clone(), times });
                    return;
                }
                Command::error(
                    request,
                    response_code::SYSTEM_BUSY,
                    "[OVERLOAD]system busy, too many requests wait for the disk",
                )
            }
            Ok(Answer::Now(command)) => command,
            Err(refusal) => {
                tracing::debug!(?conn, code = request.code, refusal.code, refusal.remark, "refused");
                Command::error(request, refusal.code, refusal.remark)
            }
        };
        if !request.is_oneway() {
            self.conns.send(conn, command, env);
        }
    }

    /// What a request waited for was read, or could not be; false when it was somebody else's.
    pub(super) fn on_request_fetched<D: Disk>(
        &mut self,
        now: Now,
        id: FetchId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(ColdRequest { conn, request, times }) = self.cold.remove(&id) else { return false };
        self.times = times;
        match result {
            // A file that went meanwhile: what it held lies below the minimum now, or its queue is gone.
            Ok(()) | Err(DiskError::NotFound) => self.serve_request(now, conn, &request, env),
            Err(error) => {
                tracing::error!(code = request.code, %error, "what a request asks for was not read");
                let answer =
                    Command::error(&request, response_code::SYSTEM_ERROR, format!("not read: {error}"));
                if !request.is_oneway() {
                    self.conns.send(conn, answer, env);
                }
            }
        }
        true
    }

    /// Parks an administrator's answer until what he changed is in its file: no power loss may take it back.
    fn answer_when_durable(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        reply: Command,
        change: Change,
    ) -> Answer {
        if !request.is_oneway() {
            self.acks.park(Ack {
                conn,
                reply,
                end: 0,
                safety: Safety::Written,
                change: Some(change),
                flush_deadline: now.mono + self.config.flush_timeout,
                slave_deadline: now.mono + self.config.slave_timeout,
            });
        }
        Answer::Later
    }

    fn serve<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        match request.code {
            code::SEND_MESSAGE | code::SEND_MESSAGE_V2 | code::SEND_BATCH_MESSAGE => {
                self.on_send(now, conn, request, env)
            }
            code::PULL_MESSAGE | code::LITE_PULL_MESSAGE => self.on_pull(now, conn, request, env),
            code::CONSUMER_SEND_MSG_BACK => self.on_send_back(now, conn, request, env),
            code::VIEW_MESSAGE_BY_ID => self.on_view_message(request, env),
            code::QUERY_CONSUME_QUEUE => self.on_query_consume_queue(request, env),
            code::SEARCH_OFFSET_BY_TIMESTAMP => self.on_search_offset(request, env),
            code::GET_EARLIEST_MSG_STORETIME => self.on_get_earliest_store_time(request, env),
            code::QUERY_CONSUMER_OFFSET => self.on_query_consumer_offset(request, env),
            code::UPDATE_CONSUMER_OFFSET => self.on_update_consumer_offset(request),
            code::GET_MAX_OFFSET => self.on_get_max_offset(request),
            code::GET_MIN_OFFSET => self.on_get_min_offset(request),
            code::HEART_BEAT => self.on_heartbeat(now, conn, request, env),
            code::UNREGISTER_CLIENT => self.on_unregister_client(conn, request, env),
            code::GET_CONSUMER_LIST_BY_GROUP => self.on_get_consumer_list(request),
            code::LOCK_BATCH_MQ => self.on_lock_batch(now, request),
            code::UNLOCK_BATCH_MQ => self.on_unlock_batch(request),
            code::CHECK_CLIENT_CONFIG => self.on_check_client_config(request),
            code::QUERY_MESSAGE => self.on_query_message(conn, request, env),
            code::SEND_REPLY_MESSAGE | code::SEND_REPLY_MESSAGE_V2 => self.on_reply(now, conn, request, env),
            code::GET_CONSUMER_RUNNING_INFO => self.on_running_info(now, conn, request, env),
            code::CONSUME_MESSAGE_DIRECTLY => self.on_consume_directly(now, conn, request, env),
            code::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => self.on_consumer_status(now, conn, request, env),
            code::UPDATE_AND_CREATE_TOPIC => self.on_create_topic(now, conn, request),
            code::UPDATE_AND_CREATE_TOPIC_LIST => self.on_create_topics(now, conn, request),
            code::DELETE_TOPIC_IN_BROKER => self.on_delete_topic(now, conn, request),
            code::CLEAN_UNUSED_TOPIC => self.on_clean_unused_topics(now, conn, request),
            code::GET_TOPIC_CONFIG => self.on_get_topic_config(request),
            code::GET_ALL_TOPIC_CONFIG => self.on_get_all_topics(request),
            code::GET_TOPIC_STATS_INFO => self.on_get_topic_stats(request, env),
            code::QUERY_TOPIC_CONSUME_BY_WHO => self.on_topic_consumed_by(request),
            code::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => self.on_get_system_topics(request),
            code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => self.on_put_group(now, conn, request),
            code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => self.on_put_groups(now, conn, request),
            code::GET_SUBSCRIPTIONGROUP_CONFIG => self.on_get_group(now, request),
            code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => self.on_get_all_groups(request),
            code::DELETE_SUBSCRIPTIONGROUP => self.on_delete_group(now, conn, request),
            code::UPDATE_AND_GET_GROUP_FORBIDDEN => self.on_group_forbidden(now, conn, request),
            code::GET_CONSUMER_CONNECTION_LIST => self.on_get_consumer_connections(request),
            code::GET_PRODUCER_CONNECTION_LIST => self.on_get_producer_connections(request),
            code::GET_ALL_PRODUCER_INFO => self.on_get_all_producers(now, request),
            code::QUERY_TOPICS_BY_CONSUMER => self.on_topics_of_group(request),
            code::QUERY_SUBSCRIPTION_BY_CONSUMER => self.on_subscription_of_group(request),
            code::GET_CONSUME_STATS => self.on_get_consume_stats(request, env),
            code::GET_BROKER_CONSUME_STATS => self.on_get_broker_consume_stats(request, env),
            code::INVOKE_BROKER_TO_RESET_OFFSET => self.on_reset_offset(now, request, env),
            code::QUERY_CONSUME_TIME_SPAN => self.on_consume_time_span(now, request, env),
            code::QUERY_CORRECTION_OFFSET => self.on_query_correction(request),
            code::CLONE_GROUP_OFFSET => self.on_clone_group_offset(request),
            code::GET_ALL_CONSUMER_OFFSET => self.on_get_all_consumer_offsets(request),
            code::GET_BROKER_HA_STATUS => self.on_get_ha_status(now, request),
            code::GET_BROKER_EPOCH_CACHE => self.on_get_epochs(now, request, env),
            code::GET_ALL_DELAY_OFFSET => self.on_get_all_delay_offsets(request),
            code::GET_TIMER_CHECK_POINT => self.on_get_timer_checkpoint(now, request),
            code::GET_TIMER_METRICS => self.on_get_timer_metrics(request),
            code::GET_ALL_MESSAGE_REQUEST_MODE => self.on_get_request_modes(request),
            code::UPDATE_BROKER_CONFIG => self.on_update_broker_config(now, conn, request, env),
            code::GET_BROKER_CONFIG => self.on_get_broker_config(request),
            code::GET_BROKER_RUNTIME_INFO => self.on_get_runtime_info(now, request, env),
            code::VIEW_BROKER_STATS_DATA => self.on_view_stats(request),
            code::DELETE_EXPIRED_COMMITLOG => self.on_remove_expired(request),
            code::CLEAN_EXPIRED_CONSUMEQUEUE => self.on_remove_expired_queue_files(request),
            code::NOTIFY_MIN_BROKER_ID_CHANGE => self.on_min_broker_id_changed(request),
            other => Err(Refusal::new(
                response_code::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {other} not supported"),
            )),
        }
    }

    /// Refuses what only a master takes.
    fn check_master(&self) -> Result<(), Refusal> {
        if !self.replication.is_slave() {
            return Ok(());
        }
        let why = self.replication.refusal(&self.register.master);
        Err(Refusal::new(response_code::SYSTEM_BUSY, why))
    }

    /// Refuses while the store cannot serve: it recovers, or stops.
    fn check_store(&self) -> Result<(), Refusal> {
        if self.is_serving() {
            return Ok(());
        }
        let remark = match self.store.progress() {
            Some((done, total)) => {
                format!("service not available now: the broker is recovering, {done} of {total} bytes done")
            }
            None => "service not available now: the broker is starting or has been shut down".into(),
        };
        Err(Refusal::new(response_code::SERVICE_NOT_AVAILABLE, remark))
    }
}
