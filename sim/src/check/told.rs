//! What a broker took and told, in words: its packets read as requests and answers.
//!
//! Built from what enters and leaves the machine, so that a promise is dated by the turn in which it left and not by
//! whether anybody received it. Headers are read by hand, as in [`crate::workload`].

use std::collections::BTreeMap;

use gantry_core::io::{ConnId, Protocol};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Packet};

use crate::history::{MessageId, Queue, Reader};
use crate::process::Seen;
use crate::workload::record;
use crate::workload::requests::{code, reply, reply_number};
use crate::world::Fact;

/// A request as its broker knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestKey {
    /// Where it came in.
    pub conn: ConnId,
    /// Its number there.
    pub opaque: i32,
}

/// A message that was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed {
    /// At which offset of the queue.
    pub offset: i64,
    /// Where in the commit log.
    pub physical: u64,
    /// Which; `None` when its body is none of ours.
    pub message: Option<MessageId>,
}

/// What a broker took or told.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// A send was answered with SUCCESS.
    Stored {
        /// Where.
        queue: Queue,
        /// The offset of the first message.
        offset: i64,
        /// Its messages.
        messages: Vec<MessageId>,
        /// Where each lies in the commit log.
        physical: Vec<u64>,
        /// When the request was taken.
        taken_at: Instant,
    },
    /// A send was answered with something else.
    NotStored {
        /// Its messages.
        messages: Vec<MessageId>,
        /// The answer.
        code: i32,
    },
    /// A pull was taken.
    PullTaken {
        /// Its name.
        key: RequestKey,
        /// Where.
        queue: Queue,
        /// The first offset wanted.
        offset: i64,
        /// How long it may be held.
        suspend: Duration,
    },
    /// A pull was answered.
    PullAnswered {
        /// Its name.
        key: RequestKey,
        /// Who pulled.
        reader: Option<Reader>,
        /// Where.
        queue: Queue,
        /// The first offset wanted.
        from: i64,
        /// The answer.
        code: i32,
        /// Where to go on.
        next: i64,
        /// One past the last message of the queue.
        max: i64,
        /// What was handed out.
        messages: Vec<Handed>,
    },
    /// The connection of a pull ended.
    PullGone {
        /// Its name.
        key: RequestKey,
    },
    /// An offset was committed, or so it was asked.
    OffsetTaken {
        /// By whom.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// The value.
        value: i64,
        /// Whether an answer said that it was.
        certain: bool,
    },
    /// A committed offset was asked for, and this is the answer.
    OffsetTold {
        /// By whom.
        reader: Reader,
        /// Where.
        queue: Queue,
        /// The value, if any.
        value: Option<i64>,
    },
    /// A slave reported how far its log reaches.
    SlaveReported {
        /// Where.
        conn: ConnId,
        /// The end of its log.
        offset: u64,
    },
    /// The connection of a slave ended.
    SlaveGone {
        /// Which.
        conn: ConnId,
    },
    /// The machine began anew: nothing is under way any more.
    Forgotten,
}

#[derive(Clone, Debug)]
enum Pending {
    Send { queue: Queue, messages: Vec<MessageId>, taken_at: Instant },
    Pull { reader: Option<Reader>, queue: Queue, offset: i64, commit: Option<i64> },
    UpdateOffset { reader: Reader, queue: Queue, value: i64 },
    QueryOffset { reader: Reader, queue: Queue },
    Reset,
}

/// The requests under way at a broker.
#[derive(Debug, Default)]
pub struct BrokerView {
    pending: BTreeMap<RequestKey, Pending>,
    slaves: Vec<ConnId>,
}

impl BrokerView {
    /// Takes a fact about the broker and adds what it means.
    pub fn on_fact(&mut self, at: Instant, fact: &Fact<'_>, told: &mut Vec<Told>) {
        match fact {
            Fact::Seen(seen) => self.on_seen(at, seen, told),
            Fact::Died(_) => {
                self.pending.clear();
                self.slaves.clear();
                told.push(Told::Forgotten);
            }
            Fact::Started { .. }
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => {}
        }
    }

    fn on_seen(&mut self, at: Instant, seen: &Seen, told: &mut Vec<Told>) {
        match seen {
            Seen::Received { conn, packet: Packet::Command(command) } if !command.is_response() => {
                self.on_request(at, *conn, command, told);
            }
            Seen::Received { conn, packet: Packet::HaReport { offset } } => {
                told.push(Told::SlaveReported { conn: *conn, offset: *offset });
            }
            Seen::Send { conn, packet: Packet::Command(command) } if command.is_response() => {
                self.on_answer(*conn, command, told);
            }
            Seen::Opened { conn, protocol: Protocol::HaMaster, .. } => self.slaves.push(*conn),
            Seen::Closed { conn, .. } | Seen::Close { conn } => self.on_closed(*conn, told),
            Seen::Start
            | Seen::Opened { .. }
            | Seen::Received { .. }
            | Seen::Drained { .. }
            | Seen::Synced { .. }
            | Seen::Fetched { .. }
            | Seen::Wake { .. }
            | Seen::Command
            | Seen::Settled
            | Seen::Dial { .. }
            | Seen::Send { .. }
            | Seen::Sync { .. }
            | Seen::Replace { .. }
            | Seen::Fetch { .. }
            | Seen::Fail { .. } => {}
        }
    }

    fn on_closed(&mut self, conn: ConnId, told: &mut Vec<Told>) {
        self.slaves.retain(|slave| {
            if *slave == conn {
                told.push(Told::SlaveGone { conn });
            }
            *slave != conn
        });
        let first = RequestKey { conn, opaque: i32::MIN };
        let last = RequestKey { conn, opaque: i32::MAX };
        let gone: Vec<RequestKey> = self.pending.range(first..=last).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(Pending::Pull { .. }) = self.pending.remove(&key) {
                told.push(Told::PullGone { key });
            }
        }
    }

    fn on_request(&mut self, at: Instant, conn: ConnId, command: &Command, told: &mut Vec<Told>) {
        let key = RequestKey { conn, opaque: command.opaque };
        let fields = Fields::read(command);
        let pending = match command.code {
            code::SEND_MESSAGE_V2 | code::SEND_BATCH_MESSAGE => {
                let Some(queue) = fields.queue() else { return };
                Pending::Send { queue, messages: ids_of(command), taken_at: at }
            }
            code::PULL_MESSAGE => {
                let (Some(queue), Some(offset)) = (fields.queue(), fields.offset) else { return };
                let commit = (fields.flag & 1 != 0).then_some(fields.commit).flatten();
                if let (Some(reader), Some(value)) = (fields.reader, commit) {
                    told.push(Told::OffsetTaken { reader, queue, value, certain: false });
                }
                let suspend = if fields.flag & 2 != 0 { fields.suspend } else { Duration::ZERO };
                told.push(Told::PullTaken { key, queue, offset, suspend });
                Pending::Pull { reader: fields.reader, queue, offset, commit }
            }
            code::UPDATE_CONSUMER_OFFSET => {
                let (Some(reader), Some(queue), Some(value)) = (fields.reader, fields.queue(), fields.commit)
                else {
                    return;
                };
                told.push(Told::OffsetTaken { reader, queue, value, certain: false });
                Pending::UpdateOffset { reader, queue, value }
            }
            code::INVOKE_BROKER_TO_RESET_OFFSET => Pending::Reset,
            code::QUERY_CONSUMER_OFFSET => {
                let (Some(reader), Some(queue)) = (fields.reader, fields.queue()) else { return };
                Pending::QueryOffset { reader, queue }
            }
            _ => return,
        };
        if !command.is_oneway() {
            self.pending.insert(key, pending);
        }
    }

    fn on_answer(&mut self, conn: ConnId, command: &Command, told: &mut Vec<Told>) {
        let key = RequestKey { conn, opaque: command.opaque };
        let ok = command.code == reply::SUCCESS;
        match self.pending.remove(&key) {
            None => {}
            Some(Pending::Send { queue, messages, taken_at }) => {
                let offset = reply_number(command, "queueOffset");
                let physical = command.ext.get("msgId").map(|ids| physical_offsets(&ids));
                match (offset, physical) {
                    (Some(offset), Some(physical)) if ok => {
                        told.push(Told::Stored { queue, offset, messages, physical, taken_at });
                    }
                    _ => told.push(Told::NotStored { messages, code: command.code }),
                }
            }
            Some(Pending::Pull { reader, queue, offset, commit }) => {
                let found = [reply::PULL_NOT_FOUND, reply::PULL_RETRY_IMMEDIATELY, reply::PULL_OFFSET_MOVED];
                let served = ok || found.contains(&command.code);
                if let (Some(reader), Some(value), true) = (reader, commit, served) {
                    told.push(Told::OffsetTaken { reader, queue, value, certain: true });
                }
                told.push(Told::PullAnswered {
                    key,
                    reader,
                    queue,
                    from: offset,
                    code: command.code,
                    next: reply_number(command, "nextBeginOffset").unwrap_or(-1),
                    max: reply_number(command, "maxOffset").unwrap_or(-1),
                    messages: if ok { handed(&command.body) } else { Vec::new() },
                });
            }
            Some(Pending::UpdateOffset { reader, queue, value }) if ok => {
                told.push(Told::OffsetTaken { reader, queue, value, certain: true });
            }
            Some(Pending::UpdateOffset { .. }) => {}
            Some(Pending::Reset) if ok => {
                // What the group itself commits meanwhile may come before or after.
                for (queue, value) in super::resets::offsets_of(&command.body) {
                    told.push(Told::OffsetTaken { reader: Reader::Group, queue, value, certain: false });
                }
            }
            Some(Pending::Reset) => {}
            Some(Pending::QueryOffset { reader, queue }) => {
                let value = match command.code {
                    reply::SUCCESS => reply_number(command, "offset"),
                    reply::QUERY_NOT_FOUND => None,
                    _ => return,
                };
                told.push(Told::OffsetTold { reader, queue, value });
            }
        }
    }
}

#[derive(Default)]
struct Fields {
    topic: Option<u8>,
    queue_id: Option<i32>,
    reader: Option<Reader>,
    offset: Option<i64>,
    commit: Option<i64>,
    flag: i64,
    suspend: Duration,
}

impl Fields {
    fn read(command: &Command) -> Fields {
        let mut fields = Fields::default();
        command.ext.for_each(|name, value| match name {
            "b" | "topic" => {
                fields.topic = value.strip_prefix("topic-").and_then(|number| number.parse().ok())
            }
            "e" | "queueId" => fields.queue_id = value.parse().ok(),
            "consumerGroup" => {
                fields.reader = match &*value {
                    "consumers" => Some(Reader::Group),
                    "auditors" => Some(Reader::Auditor),
                    _ => None,
                }
            }
            "queueOffset" => fields.offset = value.parse().ok(),
            "commitOffset" => fields.commit = value.parse().ok(),
            "sysFlag" => fields.flag = value.parse().unwrap_or(0),
            "suspendTimeoutMillis" => fields.suspend = Duration::from_millis(value.parse().unwrap_or(0)),
            _ => {}
        });
        fields
    }

    fn queue(&self) -> Option<Queue> {
        Some(Queue { topic: self.topic?, id: self.queue_id? })
    }
}

/// The messages of a send, alone or in a batch; none of any other request.
pub(crate) fn ids_of(command: &Command) -> Vec<MessageId> {
    match command.code {
        code::SEND_BATCH_MESSAGE => batch_ids(&command.body),
        code::SEND_MESSAGE_V2 => MessageId::from_body(&command.body).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The ids in the body of a batch: total 4, magic 4, CRC 4, flag 4, body length 4, body, properties length 2, properties.
fn batch_ids(mut body: &[u8]) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while let Some(size) = body.first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some((item, rest)) = body.split_at_checked(size.max(4)) else { break };
        let sized = item.get(20..).zip(item.get(16..).and_then(|rest| rest.first_chunk::<4>()));
        let whole = sized.and_then(|(rest, len)| rest.get(..u32::from_be_bytes(*len) as usize));
        ids.extend(whole.and_then(MessageId::from_body));
        body = rest;
    }
    ids
}

/// The commit-log offsets in offset message ids joined by commas.
pub(super) fn physical_offsets(ids: &str) -> Vec<u64> {
    let hex = |id: &str| u64::from_str_radix(id.get(16..)?, 16).ok();
    ids.split(',').filter_map(hex).collect()
}

fn handed(body: &[u8]) -> Vec<Handed> {
    let records = record::split(body).unwrap_or_default();
    let handed = records.iter().map(|record| Handed {
        offset: record.queue_offset,
        physical: record.physical_offset,
        message: record.message(),
    });
    handed.collect()
}
