//! Finding messages by key: candidates from the key index, newest first, each checked in its record.
//!
//! A query is a value that its asker keeps: it remembers how far it got, so that it goes on there after a fetch, or in the next
//! turn when there is more to look at than a turn should.
//!
//! Invariant: candidates are looked at from the end of the log to its beginning, each record once, whatever moves from the heap
//! to the files meanwhile.

use alloc::string::String;
use alloc::vec::Vec;

use super::Store;
use super::index::{KEYS, TAG_PREFIX, TAGS, UNIQ_KEY, hash_onto, key_hash, words};
use crate::io::{Disk, DiskError, Extent, Residency};
use crate::wire::message::{Entry, Record, RecordError, peek, property};

/// The property by which a message that is to be stored once names its producer.
pub const ONCE_PRODUCER: &[u8] = b"GANTRY_ONCE";

/// Candidates and chain links looked at in one call.
const STEPS_PER_CALL_MAX: u32 = 512;
/// Bytes of a record read first; a longer one is read again.
const READ_BYTES: u64 = 2048;
/// Index files know times to the second.
const TIME_GRAIN_MS: i64 = 1000;

/// What a query's key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// A word of the KEYS property, or the unique key.
    Key,
    /// The TAGS property (`_INDEX_TYPE` `T` of RocketMQ 5.5).
    Tags,
}

/// How a call to [`Store::query`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryStep {
    /// All is found.
    Done,
    /// This must be fetched first; then call again.
    Cold(Extent),
    /// There is more to look at: call again, in another turn.
    More,
}

/// What tells a message that is to be stored once from others with its unique key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnceMark {
    /// Who sent it.
    pub producer: String,
    /// Its own topic, where it waits among the delayed ones.
    pub real_topic: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Heap,
    /// Before the newest file whose name is below this.
    Files {
        below: u64,
    },
    /// In a file, before this entry.
    Chain {
        file: u64,
        number: u32,
    },
    Done,
}

/// A query for messages by key, and what it found so far.
#[derive(Clone, Debug)]
pub struct KeyQuery {
    topic: String,
    key: String,
    kind: KeyKind,
    /// Of a message that may be stored already, visible or not.
    once: Option<OnceMark>,
    hash: u32,
    messages_max: u32,
    bytes_max: u64,
    begin_ms: i64,
    end_ms: i64,
    stage: Stage,
    /// A record to be checked.
    candidate: Option<u64>,
    /// Everything from here on in the log was looked at.
    below: u64,
    messages: u32,
    records: Vec<u8>,
    /// Of each record found, in bytes.
    sizes: Vec<usize>,
}

impl KeyQuery {
    /// Asks for the newest messages of a topic with a key that were stored from `begin_ms` to `end_ms`, to the second: at most
    /// `messages_max`, and no more once they have `bytes_max` bytes.
    pub fn new(
        topic: &str,
        key: &str,
        kind: KeyKind,
        (begin_ms, end_ms): (i64, i64),
        messages_max: u32,
        bytes_max: u64,
    ) -> KeyQuery {
        let mut prefix = hash_onto(hash_onto(0, topic.as_bytes()), b"#");
        if kind == KeyKind::Tags {
            prefix = hash_onto(prefix, TAG_PREFIX);
        }
        KeyQuery {
            topic: topic.into(),
            key: key.into(),
            kind,
            once: None,
            hash: key_hash(prefix, key.as_bytes()),
            messages_max,
            bytes_max,
            begin_ms,
            end_ms,
            stage: Stage::Heap,
            candidate: None,
            below: u64::MAX,
            messages: 0,
            records: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Asks for the message of a producer with a unique key, if it was stored since `begin_ms`, and be it in this very turn.
    pub fn once(topic: &str, key: &str, mark: OnceMark, begin_ms: i64) -> KeyQuery {
        let query = KeyQuery::new(topic, key, KeyKind::Key, (begin_ms, i64::MAX), 1, u64::MAX);
        KeyQuery { once: Some(mark), ..query }
    }

    /// The records found, one after the other, newest first.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// The records found, oldest first: the body of RocketMQ's answer to `QUERY_MESSAGE`.
    pub fn records_oldest_first(&self) -> Vec<u8> {
        let mut sorted = Vec::with_capacity(self.records.len());
        let mut end = self.records.len();
        for size in self.sizes.iter().rev() {
            sorted.extend_from_slice(&self.records[end - size..end]);
            end -= size;
        }
        sorted
    }

    /// How many records were found.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    fn is_full(&self) -> bool {
        self.messages >= self.messages_max || self.records.len() as u64 >= self.bytes_max
    }

    fn matches(&self, record: &Record<'_>) -> bool {
        let key = self.key.as_bytes();
        if let Some(mark) = &self.once {
            let has = |name, value: &str| property(record.properties, name) == Some(value.as_bytes());
            let real_topic = mark.real_topic.as_deref();
            return record.topic == self.topic
                && has(UNIQ_KEY, &self.key)
                && has(ONCE_PRODUCER, &mark.producer)
                && real_topic.is_none_or(|topic| has(b"REAL_TOPIC", topic));
        }
        let is_key = || {
            property(record.properties, UNIQ_KEY) == Some(key)
                || words(property(record.properties, KEYS).unwrap_or_default()).any(|word| word == key)
        };
        record.topic == self.topic
            && match self.kind {
                KeyKind::Key => is_key(),
                KeyKind::Tags => property(record.properties, TAGS) == Some(key),
            }
    }
}

impl Store {
    /// Goes on with a query.
    ///
    /// # Errors
    /// [`DiskError`] when the device fails.
    pub fn query<D: Disk>(&self, query: &mut KeyQuery, disk: &mut D) -> Result<QueryStep, DiskError> {
        for _ in 0..STEPS_PER_CALL_MAX {
            if let Some(extent) = self.check_candidate(query, disk)? {
                return Ok(QueryStep::Cold(extent));
            }
            if query.is_full() {
                query.stage = Stage::Done;
            }
            let cold = match query.stage {
                Stage::Done => return Ok(QueryStep::Done),
                Stage::Heap => {
                    self.query_heap(query);
                    None
                }
                Stage::Files { below } => self.query_file(query, below, disk)?,
                Stage::Chain { file, number } => self.query_chain(query, file, number, disk)?,
            };
            if let Some(extent) = cold {
                return Ok(QueryStep::Cold(extent));
            }
        }
        Ok(QueryStep::More)
    }

    /// Whether unique keys are found at all: without the key index they are not.
    pub fn finds_keys(&self) -> bool {
        self.index.is_on()
    }

    /// Store time of the newest message, ms; none is below it.
    pub fn newest_store_timestamp(&self) -> i64 {
        self.last_store_timestamp
    }

    /// Store time, in ms, and log offset of the newest message with keys, zeros without any
    /// (`indexLastUpdateTimestamp` and `indexLastUpdatePhyoffset` of RocketMQ's answer).
    pub fn index_newest(&self) -> (i64, u64) {
        self.index.newest()
    }

    fn query_heap(&self, query: &mut KeyQuery) {
        let below = query.below.min(self.end_for(query));
        match self.index.newest_on_heap(query.hash, below, query.begin_ms) {
            Some(entry) => {
                query.below = entry.physical;
                query.candidate = (entry.timestamp <= query.end_ms).then_some(entry.physical);
            }
            None => query.stage = Stage::Files { below: u64::MAX },
        }
    }

    /// Where what a query may find ends.
    fn end_for(&self, query: &KeyQuery) -> u64 {
        // What is not visible yet is nobody's business, but of who sent it.
        if query.once.is_some() { self.log.end() } else { self.dispatched }
    }

    fn query_file<D: Disk>(
        &self,
        query: &mut KeyQuery,
        below: u64,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let Some(file) = self.index.file_below(below) else {
            query.stage = Stage::Done;
            return Ok(None);
        };
        if file.header.is_empty() {
            // Its first entries are on their way, and those before them lie in older files.
            query.stage = Stage::Files { below: file.name };
            return Ok(None);
        }
        if query.begin_ms > file.header.end_timestamp {
            query.stage = Stage::Done;
            return Ok(None);
        }
        let mut number = 0;
        if query.end_ms >= file.header.begin_timestamp {
            match self.index.read_slot(file, query.hash, disk)? {
                Ok(found) => number = found,
                Err(cold) => return Ok(Some(cold)),
            }
        }
        query.stage = match number {
            0 => Stage::Files { below: file.name },
            number => Stage::Chain { file: file.name, number },
        };
        Ok(None)
    }

    fn query_chain<D: Disk>(
        &self,
        query: &mut KeyQuery,
        name: u64,
        number: u32,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let Some(file) = self.index.file(name) else {
            // Its records are gone with it, and those of older files too.
            query.stage = Stage::Done;
            return Ok(None);
        };
        let entry = match self.index.read_entry(file, number, disk)? {
            Ok(entry) => entry,
            Err(cold) => return Ok(Some(cold)),
        };
        let stored = file.header.begin_timestamp + i64::from(entry.seconds.max(0)) * 1000;
        let is_in_time = stored + TIME_GRAIN_MS > query.begin_ms && stored <= query.end_ms;
        if entry.hash == query.hash && is_in_time && entry.physical < query.below {
            query.below = entry.physical;
            query.candidate = Some(entry.physical);
        }
        query.stage = match entry.previous {
            previous if previous > 0 && stored + TIME_GRAIN_MS > query.begin_ms => {
                Stage::Chain { file: name, number: previous }
            }
            _ => Stage::Files { below: name },
        };
        Ok(None)
    }

    /// Takes the record of the candidate if it is what is asked for. Gives the extent that must be fetched first.
    fn check_candidate<D: Disk>(
        &self,
        query: &mut KeyQuery,
        disk: &mut D,
    ) -> Result<Option<Extent>, DiskError> {
        let Some(physical) = query.candidate else { return Ok(None) };
        let end = self.end_for(query);
        if physical < self.log.min() || physical >= end {
            query.candidate = None;
            return Ok(None);
        }
        if physical >= self.log.written() {
            if let Some(bytes) = self.log.unwritten(physical)
                && let Ok(Entry::Message(record)) = Entry::decode(bytes)
            {
                self.take_candidate(query, &record, bytes);
            }
            query.candidate = None;
            return Ok(None);
        }
        let mut want = READ_BYTES;
        while let Some(extent) = self.log.extent(physical, want) {
            let mut bytes = Vec::new();
            if disk.read(extent, &mut bytes)? == Residency::NotResident {
                return Ok(Some(extent));
            }
            match Entry::decode(&bytes) {
                Ok(Entry::Message(record)) => {
                    if record.physical_offset == physical as i64 {
                        self.take_candidate(query, &record, &bytes);
                    }
                    break;
                }
                Err(RecordError::Short) => {
                    let size = peek(&bytes).map_or(0, |(size, _)| u64::from(size));
                    if size <= u64::from(extent.len) || physical + size > end {
                        break;
                    }
                    want = size;
                }
                Ok(Entry::Blank(_)) | Err(_) => break,
            }
        }
        query.candidate = None;
        Ok(None)
    }

    fn take_candidate(&self, query: &mut KeyQuery, record: &Record<'_>, bytes: &[u8]) {
        if query.matches(record) && !self.burial.covers(record.topic, record.physical_offset as u64) {
            query.messages += 1;
            query.records.extend_from_slice(&bytes[..record.size as usize]);
            query.sizes.push(record.size as usize);
        }
    }
}
