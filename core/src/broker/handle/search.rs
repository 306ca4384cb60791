//! Messages by key: QUERY_MESSAGE. A search goes on over turns and fetches; its asker waits.

use alloc::collections::{BTreeMap, VecDeque};

use super::super::reply::{Answer, Refusal, ReplyTo};
use super::super::store::{KeyKind, KeyQuery, QueryStep};
use super::super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::wire::Command;
use crate::wire::code::response_code;
use crate::wire::request::{Header, QueryMessageRequest, QueryMessageResponse};

/// `maxMsgsNumBatch`
const MESSAGES_MAX: u32 = 64;
/// `defaultQueryMaxNum`: for a unique key, of which there should be one.
const UNIQUE_MESSAGES_MAX: u32 = 32;
/// Bytes of an answer; a frame has at most 16 MiB.
const BYTES_MAX: u64 = 8 << 20;
/// Searches at a time.
const SEARCHES_MAX: usize = 256;
/// Marks a search for a unique key.
const UNIQUE_FLAG: &str = "_UNIQUE_KEY_QUERY";

/// A search and who waits for it.
#[derive(Debug)]
struct Search {
    to: ReplyTo,
    query: KeyQuery,
}

/// All searches under way.
#[derive(Debug, Default)]
pub(in super::super) struct Searches {
    running: VecDeque<Search>,
    fetching: BTreeMap<FetchId, Search>,
}

impl Searches {
    /// Whether there is something to do without waiting for anything.
    pub(in super::super) fn is_runnable(&self) -> bool {
        !self.running.is_empty()
    }

    pub(in super::super) fn closed(&mut self, conn: ConnId) {
        self.running.retain(|search| search.to.conn != conn);
        self.fetching.retain(|_, search| search.to.conn != conn);
    }
}

impl Broker {
    pub(super) fn on_query_message<D: Disk>(
        &mut self,
        conn: ConnId,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: QueryMessageRequest = request.header()?;
        self.check_store()?;
        if self.searches.running.len() + self.searches.fetching.len() >= SEARCHES_MAX {
            return Err(Refusal::new(response_code::SYSTEM_BUSY, "[OVERLOAD]system busy, too many searches"));
        }
        let is_unique = request.ext.get(UNIQUE_FLAG).is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        let messages_max = if is_unique {
            UNIQUE_MESSAGES_MAX
        } else {
            u32::try_from(header.max_num).unwrap_or(0).min(MESSAGES_MAX)
        };
        let kind = if header.index_type.as_deref() == Some("T") { KeyKind::Tags } else { KeyKind::Key };
        let span = (header.begin_timestamp, header.end_timestamp);
        let query = KeyQuery::new(&header.topic, &header.key, kind, span, messages_max, BYTES_MAX);
        self.search(Search { to: ReplyTo::new(conn, request), query }, env);
        Ok(Answer::Later)
    }

    fn search<D: Disk>(&mut self, mut search: Search, env: &mut Env<'_, D, BrokerEvent>) {
        match self.store.query(&mut search.query, env.disk) {
            Ok(QueryStep::Done) => self.answer_search(&search, env),
            Ok(QueryStep::More) => self.searches.running.push_back(search),
            Ok(QueryStep::Cold(extent)) => {
                let id = FetchId(self.ids.next());
                env.out.push(Effect::Fetch { id, at: extent });
                self.searches.fetching.insert(id, search);
            }
            Err(error) => self.fail_search(&search, error, env),
        }
    }

    fn answer_search<D>(&mut self, search: &Search, env: &mut Env<'_, D, BrokerEvent>) {
        let (timestamp, offset) = self.store.index_newest();
        let header = QueryMessageResponse {
            index_last_update_timestamp: timestamp,
            index_last_update_phyoffset: offset as i64,
        };
        let reply = if search.query.messages() > 0 {
            let body = search.query.records_oldest_first();
            search.to.response(response_code::SUCCESS, header.to_ext()).with_body(body)
        } else {
            Command {
                remark: Some("can not find message, maybe time range not correct".into()),
                ..search.to.response(response_code::QUERY_NOT_FOUND, header.to_ext())
            }
        };
        self.send_reply(&search.to, reply, env);
    }

    fn fail_search<D>(&mut self, search: &Search, error: DiskError, env: &mut Env<'_, D, BrokerEvent>) {
        tracing::error!(%error, "search failed");
        let refusal = Refusal::new(response_code::SYSTEM_ERROR, alloc::format!("search failed: {error}"));
        self.send_reply(&search.to, search.to.refuse(refusal), env);
    }

    /// Each search that is not waiting goes one step.
    pub(in super::super) fn settle_searches<D: Disk>(&mut self, env: &mut Env<'_, D, BrokerEvent>) {
        for _ in 0..self.searches.running.len() {
            if let Some(search) = self.searches.running.pop_front() {
                self.search(search, env);
            }
        }
    }

    /// False when it was for somebody else.
    pub(in super::super) fn on_search_fetched<D: Disk>(
        &mut self,
        _now: Now,
        id: FetchId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(search) = self.searches.fetching.remove(&id) else { return false };
        match result {
            // A file that went meanwhile: what it held lies below the minimum now, or its queue is gone.
            Ok(()) | Err(DiskError::NotFound) => self.search(search, env),
            Err(error) => self.fail_search(&search, error, env),
        }
        true
    }
}
