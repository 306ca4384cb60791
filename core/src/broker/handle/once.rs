//! Sends whose messages are to be stored once (`gantryOnce`, `gantryAgain`): what is looked for, what is stored, what is answered. See
//! [`super::super::once`].
//!
//! The answer to a further attempt is that of the first one: the same queue, offset and message id, and not before the record is as
//! safe as was asked for. Of a batch that lost its end with the log's tail the rest is stored behind; the offsets are told one by one then.
//!
//! Not honoured, and said so by the absence of `gantryOnce` in the answer: messages without a unique key, what goes to a retry topic,
//! half messages, and everything while there is no key index.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::super::ack::{Ack, Change, Safety};
use super::super::once::{Found, Lookup, Sought, once_key};
use super::super::persist::Generation;
use super::super::put::delay_level_of;
use super::super::reply::{Answer, Refusal};
use super::super::store::{Appended, KeyQuery, OnceMark, QueryStep};
use super::super::{Broker, BrokerEvent, names};
use super::send::waits;
use crate::io::{ConnId, Disk, DiskError, Effect, Env, FetchId, Now};
use crate::probe::Probe;
use crate::wire::Command;
use crate::wire::code::{request_code, response_code};
use crate::wire::message::{Entry, decode_batch, property};
use crate::wire::request::{SendMessageRequest, SendMessageResponse};

/// Bytes of a producer's name at most.
const PRODUCER_BYTES_MAX: usize = 255;

/// A send as it came.
pub(super) struct Sending<'a> {
    pub(super) conn: ConnId,
    pub(super) request: &'a Command,
    pub(super) header: &'a SendMessageRequest<'a>,
    pub(super) born_host: SocketAddr,
}

impl Sending<'_> {
    pub(super) fn is_batch(&self) -> bool {
        self.header.batch || self.request.code == request_code::SEND_BATCH_MESSAGE
    }
}

impl Broker {
    /// What is to be looked for before the messages of a send are stored; none where that cannot be done.
    pub(super) fn once_keys(&self, sending: &Sending<'_>) -> Option<Vec<Sought>> {
        let header = sending.header;
        let producer = header.once.as_deref()?;
        let is_name = !producer.is_empty()
            && producer.len() <= PRODUCER_BYTES_MAX
            && !producer.bytes().any(|byte| byte <= 2);
        if !is_name || !self.store.finds_keys() || names::group_of_retry(&header.topic).is_some() {
            return None;
        }
        let sought = |text: &[u8], real_topic: Option<String>| {
            let unique = property(text, b"UNIQ_KEY").and_then(|key| core::str::from_utf8(key).ok())?;
            let topic = if real_topic.is_some() { names::SCHEDULE_TOPIC } else { &header.topic };
            let mark = OnceMark { producer: producer.into(), real_topic };
            let key = once_key(&header.topic, producer, unique);
            Some(Sought { key, topic: topic.into(), unique: unique.into(), mark, found: None })
        };
        if sending.is_batch() {
            let items = decode_batch(&sending.request.body).ok()?;
            return items.iter().map(|item| sought(item.properties, None)).collect();
        }
        let text = header.properties.as_bytes();
        let is_half = property(text, b"TRAN_MSG").is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
        if is_half {
            return None;
        }
        let delayed = delay_level_of(header.sys_flag, text).map(|_| header.topic.to_string());
        Some(Vec::from([sought(text, delayed)?]))
    }

    /// A send whose messages are to be stored once.
    pub(super) fn send_once<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        sought: Vec<Sought>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let (conn, request) = (sending.conn, sending.request);
        self.once.note(now.mono, self.store.newest_store_timestamp(), self.config.once_window);
        let is_busy = sought.iter().any(|one| self.once.is_busy(&one.key));
        let was_later = sought.iter().any(|one| self.once.was_later(&one.key));
        if !is_busy && !was_later && !sending.header.again {
            self.store_once(now, sending, &sought, env)?;
            return Ok(Answer::Later);
        }
        if self.once.is_full() {
            let why = "[OVERLOAD]system busy, too many sends are looked for";
            return Err(Refusal::new(response_code::SYSTEM_BUSY, why));
        }
        if is_busy {
            Probe::OnceBehind.reached();
            self.once.wait(conn, request.clone());
            return Ok(Answer::Later);
        }
        if !sending.header.again {
            Probe::OnceFirstComesLater.reached();
        }
        let lookup = Lookup { conn, request: request.clone(), sought, query: None };
        self.once.occupy(&lookup);
        self.seek(now, lookup, env);
        Ok(Answer::Later)
    }

    /// Goes on looking for a send's messages, and then stores what is not there.
    fn seek<D: Disk>(&mut self, now: Now, mut lookup: Lookup, env: &mut Env<'_, D, BrokerEvent>) {
        let begin_ms =
            self.once.begin_ms(now.mono, self.store.newest_store_timestamp(), self.config.once_window);
        let failed = loop {
            let Some(one) = lookup.sought.iter_mut().find(|one| one.found.is_none()) else { break None };
            if !self.once.may_step() {
                return self.once.run(lookup);
            }
            let query = lookup
                .query
                .get_or_insert_with(|| KeyQuery::once(&one.topic, &one.unique, one.mark.clone(), begin_ms));
            match self.store.query(query, env.disk) {
                Ok(QueryStep::Done) => {
                    one.found = Some(read_found(query.records(), one.mark.real_topic.is_some()));
                    lookup.query = None;
                }
                Ok(QueryStep::More) => return self.once.run(lookup),
                Ok(QueryStep::Cold(extent)) => {
                    Probe::OnceCold.reached();
                    let id = FetchId(self.ids.next());
                    env.out.push(Effect::Fetch { id, at: extent });
                    return self.once.fetch(id, lookup);
                }
                Err(error) => break Some(error),
            }
        };
        self.once.release(&lookup);
        let result = match failed {
            None => self.end_seek(now, &lookup, env),
            Some(error) => Err(search_failed(error)),
        };
        if let Err(refusal) = result {
            self.refuse_once(&lookup, refusal, env);
        }
    }

    fn refuse_once<D>(&mut self, lookup: &Lookup, refusal: Refusal, env: &mut Env<'_, D, BrokerEvent>) {
        if !lookup.request.is_oneway() {
            let answer = Command::error(&lookup.request, refusal.code, refusal.remark);
            self.conns.send(lookup.conn, answer, env);
        }
    }

    fn end_seek<D: Disk>(
        &mut self,
        now: Now,
        lookup: &Lookup,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(), Refusal> {
        let (conn, request) = (lookup.conn, &lookup.request);
        let header: SendMessageRequest<'_> = request.header()?;
        // Turns have passed.
        self.check_store()?;
        self.check_master()?;
        let born_host = self.conns.peer(conn).unwrap_or(self.config.store_host);
        self.check_send(now, &header, born_host)?;
        let sending = Sending { conn, request, header: &header, born_host };
        self.store_once(now, &sending, &lookup.sought, env)?;
        let (window, keys_max) = (self.config.once_window, self.config.once_keys_max);
        for one in &lookup.sought {
            if matches!(one.found, Some(None)) {
                self.once.remember(now.mono, one.key.clone(), window, keys_max);
            }
        }
        Ok(())
    }

    /// Stores what was not found, and answers for all.
    fn store_once<D: Disk>(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        sought: &[Sought],
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(), Refusal> {
        let found: Vec<Option<&Found>> =
            sought.iter().map(|one| one.found.as_ref().and_then(Option::as_ref)).collect();
        let missing = found.iter().filter(|place| place.is_none()).count();
        let known_queue = found.iter().flatten().next().map(|place| place.queue_id);
        if missing < found.len() {
            Probe::OnceFound.reached();
        }
        let topic = self.topics.get(&sending.header.topic).map(|topic| topic.changed);
        let mut gate = topic.filter(|changed| !self.topics.file.is_durable(*changed));
        let mut stored = Vec::new();
        let queue_id = match known_queue {
            Some(queue_id) => queue_id,
            None => self.choose_queue(sending.header, env.rng),
        };
        if missing > 0 {
            if missing < found.len() {
                Probe::OncePart.reached();
            }
            let (appended, generation) = if sending.is_batch() {
                let is_wanted = |at: usize| found.get(at).is_some_and(Option::is_none);
                self.append_batch_once(now, sending, queue_id, is_wanted, env)?
            } else {
                self.append_single_once(now, sending, queue_id, env)?
            };
            gate = generation.or(gate);
            stored = appended;
        }
        let mut stored = stored.into_iter();
        let places: Vec<Found> = found
            .iter()
            .filter_map(|known| match known {
                Some(place) => Some((*place).clone()),
                None => stored.next().map(|put| self.place(queue_id, &put)),
            })
            .collect();
        self.answer_once(now, sending, &places, (missing == places.len(), gate));
        Ok(())
    }

    fn place(&self, queue_id: i32, put: &Appended) -> Found {
        Found {
            queue_id,
            queue_offset: put.queue_offset,
            physical: put.physical_offset,
            end: put.end,
            store_host: self.config.store_host,
        }
    }

    /// Parks the answer until all of it is as safe as was asked for.
    fn answer_once(
        &mut self,
        now: Now,
        sending: &Sending<'_>,
        places: &[Found],
        (is_new, topic): (bool, Option<Generation>),
    ) {
        let Some(first) = places.first() else { return };
        if sending.request.is_oneway() {
            return;
        }
        let text = sending.header.properties.as_bytes();
        let reply = SendMessageResponse {
            store_host: first.store_host,
            offset: first.physical,
            more_offsets: places[1..].iter().map(|place| place.physical).collect(),
            queue_id: first.queue_id,
            queue_offset: first.queue_offset,
            transaction_id: Bytes::copy_from_slice(property(text, b"UNIQ_KEY").unwrap_or_default()),
        };
        let follow_on = places.windows(2).all(|pair| pair[0].queue_offset + 1 == pair[1].queue_offset);
        let offsets: Vec<i64> =
            if follow_on { Vec::new() } else { places.iter().map(|place| place.queue_offset).collect() };
        let ext = reply.to_once_ext(&offsets);
        let ack = Ack {
            conn: sending.conn,
            reply: Command::response(sending.request, response_code::SUCCESS, ext),
            end: places.iter().map(|place| place.end).max().unwrap_or_default(),
            safety: if waits(property(text, b"WAIT")) { Safety::Visible } else { Safety::Written },
            change: topic.map(Change::Topics),
            flush_deadline: now.mono + self.config.flush_timeout,
            slave_deadline: now.mono + self.config.slave_timeout,
        };
        if is_new {
            self.acks.park(ack);
        } else {
            self.acks.park_out_of_order(ack);
        }
    }

    /// Lookups go on; what waited for them begins anew. Before the store settles, so that it is written in this turn.
    pub(in super::super) fn settle_once<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if !self.once.is_runnable() {
            return self.once.turn_ends();
        }
        // What is new must not keep back what waits.
        self.once.turn_ends();
        for _ in 0..self.once.running() {
            if let Some(lookup) = self.once.next_running() {
                self.seek(now, lookup, env);
            }
        }
        for (conn, request) in self.once.take_behind() {
            self.on_request(now, conn, &request, env);
        }
        self.once.turn_ends();
    }

    /// False when it was for somebody else.
    pub(in super::super) fn on_once_fetched<D: Disk>(
        &mut self,
        now: Now,
        id: FetchId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(lookup) = self.once.fetched(id) else { return false };
        match result {
            // A file that went meanwhile: what it held lies below the minimum now, or its queue is gone.
            Ok(()) | Err(DiskError::NotFound) => self.seek(now, lookup, env),
            Err(error) => {
                self.once.release(&lookup);
                self.refuse_once(&lookup, search_failed(error), env);
            }
        }
        true
    }
}

/// Nothing is stored then: it could be the second time.
fn search_failed(error: DiskError) -> Refusal {
    tracing::error!(%error, "whether a message is stored could not be found out");
    Refusal::new(response_code::SYSTEM_ERROR, format!("search failed: {error}"))
}

fn read_found(record: &[u8], is_delayed: bool) -> Option<Found> {
    let Ok(Entry::Message(record)) = Entry::decode(record) else { return None };
    let physical = u64::try_from(record.physical_offset).ok()?;
    let real_queue = || {
        let text = property(record.properties, b"REAL_QID")?;
        core::str::from_utf8(text).ok()?.parse().ok()
    };
    Some(Found {
        queue_id: if is_delayed { real_queue().unwrap_or(record.queue_id) } else { record.queue_id },
        queue_offset: record.queue_offset,
        physical,
        end: physical + u64::from(record.size),
        store_host: record.store_host,
    })
}
