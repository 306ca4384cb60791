//! Messages by where they lie, offsets by time: codes 29, 32, 33, and a queue's entries themselves: code 321.

use alloc::format;
use alloc::vec::Vec;

use super::super::reply::{Answer, Refusal};
use super::super::store::{Boundary, QueueEntry, QueueIx, ReadLimits, ReadOutcome};
use super::super::{Broker, BrokerEvent};
use crate::io::{Disk, DiskError, Env, Extent};
use crate::wire::body::{self, ConsumeQueueData, QueryConsumeQueueResponseBody};
use crate::wire::code::response_code;
use crate::wire::message::{Entry, peek};
use crate::wire::request::{
    GetEarliestMsgStoretimeRequest, GetEarliestMsgStoretimeResponse, Header, QueryConsumeQueueRequest,
    SearchOffsetRequest, SearchOffsetResponse, ViewMessageRequest,
};
use crate::wire::{Command, Ext};

/// Most entries that one QUERY_CONSUME_QUEUE gives, whatever it asks for: some 1.6 MB of JSON.
const ENTRIES_MAX: u32 = 16_384;
/// Read at first of a record whose size is not known.
const RECORD_BYTES_GUESS: u64 = 4096;

impl Broker {
    /// Appends the record at a commit-log offset to `out`, which is empty; what must be fetched first, if so.
    pub(super) fn read_record<D: Disk>(
        &self,
        offset: i64,
        disk: &mut D,
        out: &mut Vec<u8>,
    ) -> Result<Option<Extent>, Refusal> {
        let failed =
            || Refusal::new(response_code::SYSTEM_ERROR, format!("look message by offset failed, {offset}"));
        let from = u64::try_from(offset).map_err(|_| failed())?;
        let visible = self.store.visible();
        if from >= visible {
            return Err(failed());
        }
        let mut bytes = RECORD_BYTES_GUESS;
        // The second time its size is known.
        for _ in 0..2 {
            out.clear();
            match self.store.read_log(from, bytes.min(visible - from), disk, out) {
                Ok(Ok(())) => {}
                Ok(Err(extent)) => return Ok(Some(extent)),
                Err(DiskError::OutOfRange) => return Err(failed()),
                Err(error) => {
                    tracing::error!(offset, %error, "message not read");
                    return Err(failed());
                }
            }
            match Entry::decode(out) {
                Ok(Entry::Message(record)) if record.verify(offset).is_ok() => {
                    let size = record.size as usize;
                    out.truncate(size);
                    return Ok(None);
                }
                Ok(Entry::Message(_) | Entry::Blank(_)) => return Err(failed()),
                Err(_) => match peek(out) {
                    Some((size, _))
                        if u64::from(size) > bytes && u64::from(size) <= self.record_bytes_max() =>
                    {
                        bytes = u64::from(size);
                    }
                    Some(_) | None => return Err(failed()),
                },
            }
        }
        Err(failed())
    }

    /// A record is never longer.
    fn record_bytes_max(&self) -> u64 {
        self.config.store.body_bytes_max + (1 << 17)
    }

    pub(super) fn on_view_message<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: ViewMessageRequest = request.header()?;
        self.check_store()?;
        let mut record = Vec::new();
        if let Ok(Some(cold)) = self.read_record(header.offset, env.disk, &mut record) {
            return Ok(Answer::Cold(cold));
        }
        if !matches!(Entry::decode(&record), Ok(Entry::Message(_))) {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("can not find message by the offset, {}", header.offset),
            ));
        }
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(record)))
    }

    pub(super) fn on_search_offset<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: SearchOffsetRequest<'_> = request.header()?;
        self.check_store()?;
        let boundary = match header.boundary_type.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("upper") => Boundary::Upper,
            Some(_) | None => Boundary::Lower,
        };
        let offset = match self.store.find_queue(&header.topic, header.queue_id) {
            None => 0,
            Some(queue) => match self.store.offset_by_time(queue, header.timestamp, boundary, env.disk) {
                Ok(Ok(offset)) => offset,
                Ok(Err(cold)) => return Ok(Answer::Cold(cold)),
                Err(error) => {
                    return Err(Refusal::new(response_code::SYSTEM_ERROR, format!("not read: {error}")));
                }
            },
        };
        let ext = SearchOffsetResponse { offset }.to_ext();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }

    pub(super) fn on_get_earliest_store_time<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: GetEarliestMsgStoretimeRequest<'_> = request.header()?;
        self.check_store()?;
        let timestamp = match self.store.find_queue(&header.topic, header.queue_id) {
            None => -1,
            Some(queue) => match self.store_time_of(queue, self.store.min_offset(queue), env.disk) {
                Ok(timestamp) => timestamp.unwrap_or(-1),
                Err(cold) => return Ok(Answer::Cold(cold)),
            },
        };
        let ext = GetEarliestMsgStoretimeResponse { timestamp }.to_ext();
        Ok(Answer::Now(Command::response(request, response_code::SUCCESS, ext)))
    }

    /// A queue's entries as they lie there (`mqadmin queryCq`), and what a group that is there subscribes to.
    pub(super) fn on_query_consume_queue<D: Disk>(
        &mut self,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        let header: QueryConsumeQueueRequest = request.header()?;
        self.check_store()?;
        let topic = header.topic.unwrap_or_default();
        let (queue_id, index) = (header.queue_id.unwrap_or(0), header.index.unwrap_or(0));
        let Some(queue) = self.store.find_queue(&topic, queue_id) else {
            return Err(Refusal::new(
                response_code::SYSTEM_ERROR,
                format!("{queue_id}@{topic} is not exist!"),
            ));
        };
        let count = u32::try_from(header.count.unwrap_or(0)).unwrap_or(0).min(ENTRIES_MAX);
        let entries = match self.store.read_entries(queue, index, count, env.disk) {
            Ok(Ok(Some(entries))) => entries,
            // RocketMQ calls it a success too, and gives no body.
            Ok(Ok(None)) => {
                let remark = format!("Index {index} of {queue_id}@{topic} is not exist!");
                return Ok(Answer::Now(Command::error(request, response_code::SUCCESS, remark)));
            }
            Ok(Err(cold)) => return Ok(Answer::Cold(cold)),
            Err(error) => {
                return Err(Refusal::new(response_code::SYSTEM_ERROR, format!("not read: {error}")));
            }
        };
        let mut answer = QueryConsumeQueueResponseBody {
            max_queue_index: self.store.max_offset(queue),
            min_queue_index: self.store.min_offset(queue),
            queue_data: entries.iter().map(queue_data).collect(),
            ..QueryConsumeQueueResponseBody::default()
        };
        if let Some(group) = header.consumer_group {
            let members = self.consumers.group(&group);
            let subscription = members.and_then(|members| members.subscriptions.get(topic.as_str()));
            answer.subscription_data = subscription.map(|subscription| subscription.data.clone());
            answer.filter_data = Some(match subscription {
                // There is no filter beyond the subscription's tags: RocketMQ prints its null.
                Some(_) => "null".into(),
                None => format!("{group}@{topic} is not online!"),
            });
        }
        let response = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(response.with_body(body::encode(&answer))))
    }

    /// When the message at a queue offset was stored, ms; none when there is none. `Err` when it must be fetched first.
    pub(super) fn store_time_of<D: Disk>(
        &mut self,
        queue: QueueIx,
        offset: i64,
        disk: &mut D,
    ) -> Result<Option<i64>, Extent> {
        // A request that looks at many queues is served again after each fetch: what it knows by then is kept for it.
        if let Some(known) = self.times.get(&(queue, offset)) {
            return Ok(*known);
        }
        let time = self.read_store_time(queue, offset, disk)?;
        self.times.insert((queue, offset), time);
        Ok(time)
    }

    fn read_store_time<D: Disk>(
        &mut self,
        queue: QueueIx,
        offset: i64,
        disk: &mut D,
    ) -> Result<Option<i64>, Extent> {
        let limits = ReadLimits { messages_max: 1, bytes_max: 0 };
        let mut bytes = Vec::new();
        match self.store.read_messages(queue, offset, limits, |_| true, disk, &mut bytes) {
            Ok(ReadOutcome::Cold(extent)) => Err(extent),
            Ok(ReadOutcome::Found { .. }) => Ok(match Entry::decode(&bytes) {
                Ok(Entry::Message(record)) => Some(record.store_timestamp),
                Ok(Entry::Blank(_)) | Err(_) => None,
            }),
            Ok(
                ReadOutcome::NoMatch { .. }
                | ReadOutcome::Empty
                | ReadOutcome::Beyond
                | ReadOutcome::TooSmall,
            )
            | Err(_) => Ok(None),
        }
    }
}

fn queue_data(entry: &QueueEntry) -> ConsumeQueueData {
    ConsumeQueueData {
        physic_offset: entry.physical_offset,
        physic_size: entry.record_bytes,
        tags_code: entry.tags_code,
        ..ConsumeQueueData::default()
    }
}
