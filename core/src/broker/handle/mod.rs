//! Requests, in files that mirror the families of their codes.
//!
//! A handler answers at once, parks the answer, or refuses; [`Broker::on_request`] sends what is to be sent.

mod back;
mod offset;
mod pull;
mod query;
mod send;
mod session;

use alloc::format;

use super::reply::{Answer, Refusal};
use super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::wire::Command;
use crate::wire::code::{request_code as code, response_code};

/// Requests that wait for the disk at a time, pulls aside.
const COLD_REQUESTS_MAX: usize = 1024;

impl Broker {
    /// Serves one request.
    pub(super) fn on_request<D: Disk>(
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
                    self.cold.insert(id, (conn, request.clone()));
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
        let Some((conn, request)) = self.cold.remove(&id) else { return false };
        match result {
            Ok(()) => self.on_request(now, conn, &request, env),
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
