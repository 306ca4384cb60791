//! Stored messages: the commit-log record (also the body of a pull reply), properties, batches and ids.
//!
//! The layout is RocketMQ's (`MessageDecoder`, `MessageExtEncoder`): all integers big-endian, hosts as IP bytes and a
//! 4-byte port, topic length in one byte (version 1) or two (version 2, for topics over 127 bytes).
//!
//! Absent on purpose: bodies are never looked into, and nothing here inflates them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Magic of a record whose topic length takes one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of a record whose topic length takes two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the filler at the end of a commit-log segment.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// Bytes of a filler's own fields; a segment always keeps room for them.
pub const BLANK_BYTES: usize = 8;
/// The longest topic that still takes version 1.
pub const TOPIC_BYTES_V1_MAX: usize = 127;
/// The longest property string.
pub const PROPERTIES_BYTES_MAX: usize = 32_767;

/// Bits of a message's system flag.
pub mod sys_flag {
    /// The body is compressed.
    pub const COMPRESSED: i32 = 1;
    /// The two transaction bits.
    pub const TRANSACTION_MASK: i32 = 12;
    /// A half message.
    pub const TRANSACTION_PREPARED: i32 = 4;
    /// A committed message.
    pub const TRANSACTION_COMMIT: i32 = 8;
    /// A rolled-back message.
    pub const TRANSACTION_ROLLBACK: i32 = 12;
    /// The born host is an IPv6 address.
    pub const BORN_HOST_V6: i32 = 16;
    /// The store host is an IPv6 address.
    pub const STORE_HOST_V6: i32 = 32;
}

/// Separates a property's name from its value.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// Ends a property.
pub const PROPERTY_SEPARATOR: u8 = 2;

/// A message about to be stored. Offsets and the store time come from the store.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Queue within the topic.
    pub queue_id: i32,
    /// The user's flag.
    pub flag: i32,
    /// See [`sys_flag`]; the address bits are set by the encoder.
    pub sys_flag: i32,
    /// When the producer made it, ms.
    pub born_timestamp: i64,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// Commit-log offset of the half message, else 0.
    pub prepared_transaction_offset: i64,
    /// Body.
    pub body: &'a [u8],
    /// Property string as it is to be stored.
    pub properties: &'a [u8],
}

/// What the store decides about a message.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset in its queue.
    pub queue_offset: i64,
    /// Offset in the commit log.
    pub physical_offset: i64,
    /// Store time, ms.
    pub store_timestamp: i64,
}

impl Draft<'_> {
    /// Bytes of the record.
    pub fn record_bytes(&self) -> usize {
        let topic_length_bytes = if self.topic.len() > TOPIC_BYTES_V1_MAX { 2 } else { 1 };
        FIXED_BYTES
            + host_bytes(&self.born_host)
            + host_bytes(&self.store_host)
            + 4
            + self.body.len()
            + topic_length_bytes
            + self.topic.len()
            + 2
            + self.properties.len()
    }

    /// Appends the record to `out`.
    pub fn encode(&self, place: Place, out: &mut Vec<u8>) {
        debug_assert!(self.properties.len() <= PROPERTIES_BYTES_MAX, "checked by the caller");
        let start = out.len();
        let record_bytes = self.record_bytes();
        let version2 = self.topic.len() > TOPIC_BYTES_V1_MAX;
        let mut flags = self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
        if self.born_host.is_ipv6() {
            flags |= sys_flag::BORN_HOST_V6;
        }
        if self.store_host.is_ipv6() {
            flags |= sys_flag::STORE_HOST_V6;
        }
        out.reserve(record_bytes);
        out.extend_from_slice(&(record_bytes as u32).to_be_bytes());
        out.extend_from_slice(&(if version2 { MAGIC_V2 } else { MAGIC_V1 }).to_be_bytes());
        out.extend_from_slice(&body_crc(self.body).to_be_bytes());
        out.extend_from_slice(&self.queue_id.to_be_bytes());
        out.extend_from_slice(&self.flag.to_be_bytes());
        out.extend_from_slice(&place.queue_offset.to_be_bytes());
        out.extend_from_slice(&place.physical_offset.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&self.born_timestamp.to_be_bytes());
        put_host(&self.born_host, out);
        out.extend_from_slice(&place.store_timestamp.to_be_bytes());
        put_host(&self.store_host, out);
        out.extend_from_slice(&self.reconsume_times.to_be_bytes());
        out.extend_from_slice(&self.prepared_transaction_offset.to_be_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
        out.extend_from_slice(self.body);
        if version2 {
            out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        } else {
            out.push(self.topic.len() as u8);
        }
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(&(self.properties.len() as u16).to_be_bytes());
        out.extend_from_slice(self.properties);
        assert_eq!(out.len() - start, record_bytes, "record_bytes and encode agree");
    }
}

/// Bytes of the fields before the body other than the hosts, without the body's length.
const FIXED_BYTES: usize = 4 + 4 + 4 + 4 + 4 + 8 + 8 + 4 + 8 + 8 + 4 + 8;

/// Fewest bytes of any record: IPv4 hosts, empty body, topic of one byte, no properties.
pub const RECORD_BYTES_MIN: usize = FIXED_BYTES + 8 + 8 + 4 + 1 + 1 + 2;

/// The checksum RocketMQ stores of a body: CRC-32 without its top bit.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

fn host_bytes(host: &SocketAddr) -> usize {
    if host.is_ipv4() { 8 } else { 20 }
}

fn put_host(host: &SocketAddr, out: &mut Vec<u8>) {
    match host.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&u32::from(host.port()).to_be_bytes());
}

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// Fewer bytes than the record says it has (or than any record has).
    Short,
    /// Neither of the two magics, nor a filler.
    Magic(u32),
    /// The lengths inside do not add up to the total.
    Length,
    /// The body does not match its checksum.
    BodyCrc,
    /// The record says it lies elsewhere.
    PhysicalOffset(i64),
    /// The topic is empty, or is not text.
    Topic,
    /// A zero byte in the properties: a page that was never written.
    Properties,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Short => f.write_str("truncated"),
            RecordError::Magic(magic) => write!(f, "unknown magic {magic:#010x}"),
            RecordError::Length => f.write_str("lengths do not add up"),
            RecordError::BodyCrc => f.write_str("body does not match its checksum"),
            RecordError::PhysicalOffset(offset) => write!(f, "says it lies at {offset}"),
            RecordError::Topic => f.write_str("topic is not text"),
            RecordError::Properties => f.write_str("zero bytes in the properties"),
        }
    }
}

impl core::error::Error for RecordError {}

/// A record as it lies in the log, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Bytes of the whole record.
    pub size: u32,
    /// As stored; see [`body_crc`].
    pub body_crc: u32,
    /// Queue.
    pub queue_id: i32,
    /// The user's flag.
    pub flag: i32,
    /// Offset in its queue.
    pub queue_offset: i64,
    /// Offset in the log.
    pub physical_offset: i64,
    /// See [`sys_flag`].
    pub sys_flag: i32,
    /// ms.
    pub born_timestamp: i64,
    /// The producer.
    pub born_host: SocketAddr,
    /// ms.
    pub store_timestamp: i64,
    /// The broker.
    pub store_host: SocketAddr,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// Commit-log offset of the half message, else 0.
    pub prepared_transaction_offset: i64,
    /// Body.
    pub body: &'a [u8],
    /// Topic.
    pub topic: &'a str,
    /// Property string.
    pub properties: &'a [u8],
}

/// What lies at a position of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A message.
    Message(Record<'a>),
    /// The filler that ends a segment, of so many bytes.
    Blank(u32),
}

/// Size and magic at the head of `bytes`: enough to know how many bytes [`Entry::decode`] needs.
pub fn peek(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut reader = Reader { bytes };
    Some((reader.u32()?, reader.u32()?))
}

impl<'a> Entry<'a> {
    /// Reads the record or filler at the head of `bytes`. The checksum is not verified: see [`Record::verify`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Entry<'a>, RecordError> {
        let (size, magic) = peek(bytes).ok_or(RecordError::Short)?;
        match magic {
            MAGIC_BLANK => Ok(Entry::Blank(size)),
            MAGIC_V1 | MAGIC_V2 => {
                if (size as usize) < RECORD_BYTES_MIN {
                    return Err(RecordError::Length);
                }
                let record = bytes.get(..size as usize).ok_or(RecordError::Short)?;
                decode_record(record, magic == MAGIC_V2).map(Entry::Message)
            }
            other => Err(RecordError::Magic(other)),
        }
    }
}

fn decode_record(bytes: &[u8], version2: bool) -> Result<Record<'_>, RecordError> {
    let mut reader = Reader { bytes };
    let fields = read_fields(&mut reader, version2).ok_or(RecordError::Length)?;
    if !reader.bytes.is_empty() {
        return Err(RecordError::Length);
    }
    let (record, topic) = fields;
    let topic = core::str::from_utf8(topic).map_err(|_| RecordError::Topic)?;
    if topic.is_empty() || topic.as_bytes().contains(&0) {
        return Err(RecordError::Topic);
    }
    Ok(Record { topic, ..record })
}

fn read_fields<'a>(reader: &mut Reader<'a>, version2: bool) -> Option<(Record<'a>, &'a [u8])> {
    let size = reader.u32()?;
    reader.u32()?;
    let body_crc = reader.u32()?;
    let queue_id = reader.i32()?;
    let flag = reader.i32()?;
    let queue_offset = reader.i64()?;
    let physical_offset = reader.i64()?;
    let flags = reader.i32()?;
    let born_timestamp = reader.i64()?;
    let born_host = reader.host(flags & sys_flag::BORN_HOST_V6 != 0)?;
    let store_timestamp = reader.i64()?;
    let store_host = reader.host(flags & sys_flag::STORE_HOST_V6 != 0)?;
    let reconsume_times = reader.i32()?;
    let prepared_transaction_offset = reader.i64()?;
    let body_bytes = reader.u32()? as usize;
    let body = reader.take(body_bytes)?;
    let topic_bytes = if version2 { usize::from(reader.u16()?) } else { usize::from(reader.u8()?) };
    let topic = reader.take(topic_bytes)?;
    let property_bytes = usize::from(reader.u16()?);
    let properties = reader.take(property_bytes)?;
    let record = Record {
        size,
        body_crc,
        queue_id,
        flag,
        queue_offset,
        physical_offset,
        sys_flag: flags,
        born_timestamp,
        born_host,
        store_timestamp,
        store_host,
        reconsume_times,
        prepared_transaction_offset,
        body,
        topic: "",
        properties,
    };
    Some((record, topic))
}

impl Record<'_> {
    /// Whether this is what was once written at `physical_offset`: recovery asks this of every record it takes.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify(&self, physical_offset: i64) -> Result<(), RecordError> {
        if self.physical_offset != physical_offset {
            return Err(RecordError::PhysicalOffset(self.physical_offset));
        }
        if body_crc(self.body) != self.body_crc {
            return Err(RecordError::BodyCrc);
        }
        // A fresh segment is all zeros, so a page that never reached the disk shows as zeros. The checksum covers
        // the body only; no accepted message has a zero byte in its properties.
        if memchr::memchr(0, self.properties).is_some() {
            return Err(RecordError::Properties);
        }
        Ok(())
    }

    /// The tag code of its consume-queue entry: the TAGS property's Java hash, sign-extended; 0 without tags.
    pub fn tags_code(&self) -> i64 {
        property(self.properties, b"TAGS").map_or(0, |tags| i64::from(java_hash_bytes(tags)))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn host(&mut self, v6: bool) -> Option<SocketAddr> {
        let ip = if v6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        // Java writes the port as an int; anything wider than a port is a broken record's concern, not ours.
        Some(SocketAddr::new(ip, self.u32()? as u16))
    }
}

/// Appends the filler that ends a segment with `remaining` bytes left. Only its two fields are written.
pub fn put_blank(remaining: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&remaining.to_be_bytes());
    out.extend_from_slice(&MAGIC_BLANK.to_be_bytes());
}

/// The properties of a property string, in order; broken entries are passed over, as in RocketMQ.
pub fn properties(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == PROPERTY_SEPARATOR).filter_map(|entry| {
        let at = memchr::memchr(NAME_VALUE_SEPARATOR, entry)?;
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        (!name.is_empty() && !value.is_empty()).then_some((name, value))
    })
}

/// The value of a property.
pub fn property<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    properties(text).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Appends a property to a property string that ends with a separator or is empty.
pub fn put_property(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if out.last().is_some_and(|last| *last != PROPERTY_SEPARATOR) {
        out.push(PROPERTY_SEPARATOR);
    }
    out.extend_from_slice(name);
    out.push(NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value);
    out.push(PROPERTY_SEPARATOR);
}

/// Java's `String.hashCode`: over UTF-16 units, base 31, wrapping.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// [`java_hash`] of bytes that are meant to be UTF-8; broken ones count as U+FFFD, as Java decodes them.
pub fn java_hash_bytes(text: &[u8]) -> i32 {
    if text.is_ascii() {
        return text.iter().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(*byte)));
    }
    java_hash(&String::from_utf8_lossy(text))
}

/// The offset message id of a stored message: store host and commit-log offset in upper-case hexadecimal.
pub fn offset_message_id(store_host: &SocketAddr, physical_offset: i64, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    };
    match store_host.ip() {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
    put(&u32::from(store_host.port()).to_be_bytes());
    put(&physical_offset.to_be_bytes());
}

/// Reads an offset message id: store host and commit-log offset.
pub fn decode_offset_message_id(id: &str) -> Option<(SocketAddr, i64)> {
    let digits = id.as_bytes();
    let mut bytes = [0; 28];
    let len = digits.len() / 2;
    if !digits.len().is_multiple_of(2) || (len != 16 && len != bytes.len()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    let mut reader = Reader { bytes: &bytes[..len] };
    let host = reader.host(len == bytes.len())?;
    Some((host, reader.i64()?))
}

/// One message of a batch body (request code 320).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchItem<'a> {
    /// The user's flag.
    pub flag: i32,
    /// Body.
    pub body: &'a [u8],
    /// Property string.
    pub properties: &'a [u8],
}

/// The messages of a batch body.
///
/// # Errors
/// [`RecordError::Length`] when the lengths inside do not fit, [`RecordError::Short`] when it is empty.
pub fn decode_batch(body: &[u8]) -> Result<Vec<BatchItem<'_>>, RecordError> {
    let mut items = Vec::new();
    let mut reader = Reader { bytes: body };
    while !reader.bytes.is_empty() {
        items.push(decode_batch_item(&mut reader).ok_or(RecordError::Length)?);
    }
    if items.is_empty() { Err(RecordError::Short) } else { Ok(items) }
}

fn decode_batch_item<'a>(reader: &mut Reader<'a>) -> Option<BatchItem<'a>> {
    let total = reader.u32()? as usize;
    let mut item = Reader { bytes: reader.take(total.checked_sub(4)?)? };
    item.u32()?;
    item.u32()?;
    let flag = item.i32()?;
    let body_bytes = item.u32()? as usize;
    let body = item.take(body_bytes)?;
    let property_bytes = usize::from(item.u16()?);
    let properties = item.take(property_bytes)?;
    item.bytes.is_empty().then_some(BatchItem { flag, body, properties })
}

/// Appends one message to a batch body.
pub fn put_batch_item(item: &BatchItem<'_>, out: &mut Vec<u8>) {
    let total = 4 + 4 + 4 + 4 + 4 + item.body.len() + 2 + item.properties.len();
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&item.flag.to_be_bytes());
    out.extend_from_slice(&(item.body.len() as u32).to_be_bytes());
    out.extend_from_slice(item.body);
    out.extend_from_slice(&(item.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(item.properties);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    fn draft<'a>(topic: &'a str, body: &'a [u8], properties: &'a [u8]) -> Draft<'a> {
        Draft {
            topic,
            queue_id: 3,
            flag: 9,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_001,
            born_host: "10.0.0.1:5555".parse().expect("address"),
            store_host: "127.0.0.1:10911".parse().expect("address"),
            reconsume_times: 1,
            prepared_transaction_offset: 0,
            body,
            properties,
        }
    }

    const PLACE: Place = Place { queue_offset: 7, physical_offset: 4096, store_timestamp: 1_700_000_000_002 };

    #[test]
    fn a_record_has_rocketmqs_layout() {
        let mut out = Vec::new();
        draft("T", b"hello", b"TAGS\x01a\x02").encode(PLACE, &mut out);
        // Fixed overhead of an IPv4 record of version 1: 91 bytes.
        assert_eq!(out.len(), 91 + 5 + 1 + 7);
        assert_eq!(&out[4..8], &[0xDA, 0xA3, 0x20, 0xA7]);
        assert_eq!(&out[20..28], &7i64.to_be_bytes());
        assert_eq!(&out[28..36], &4096i64.to_be_bytes());
        assert_eq!(&out[56..64], &1_700_000_000_002i64.to_be_bytes());
        assert_eq!(&out[64..72], &[127, 0, 0, 1, 0, 0, 0x2A, 0x9F]);
        assert_eq!(&out[88..93], b"hello");
    }

    #[test]
    fn records_come_back() {
        let long = "x".repeat(200);
        for (topic, body, properties) in
            [("T", &b"hello"[..], &b"TAGS\x01a\x02"[..]), (long.as_str(), b"", b""), ("T", &[0u8; 300], b"")]
        {
            let mut draft = draft(topic, body, properties);
            for host in ["10.0.0.1:5555", "[::1]:80"] {
                draft.born_host = host.parse().expect("address");
                let mut out = Vec::new();
                draft.encode(PLACE, &mut out);
                assert_eq!(out.len(), draft.record_bytes());
                let Ok(Entry::Message(record)) = Entry::decode(&out) else { panic!("not a message") };
                assert_eq!((record.topic, record.body, record.properties), (topic, body, properties));
                assert_eq!(record.born_host, draft.born_host);
                assert_eq!(record.verify(4096), Ok(()));
                assert_eq!(record.verify(0), Err(RecordError::PhysicalOffset(4096)));
                for cut in 0..out.len() {
                    assert!(Entry::decode(&out[..cut]).is_err(), "{cut} bytes are not a record");
                }
            }
        }
    }

    #[test]
    fn a_lost_sector_is_seen() {
        let mut out = Vec::new();
        draft("Topic", &[7; 64], b"TAGS\x01a\x02KEYS\x01k\x02").encode(PLACE, &mut out);
        // Whatever 16 bytes never reached the disk, the record is refused, except where they were zeros anyway.
        for at in 0..out.len() - 16 {
            let mut torn = out.clone();
            torn[at..at + 16].fill(0);
            let accepted = match Entry::decode(&torn) {
                Ok(Entry::Message(record)) => record.verify(4096).is_ok(),
                Ok(Entry::Blank(_)) | Err(_) => false,
            };
            // Bytes 12..28 and 36..84 hold numbers that no checksum covers; sectors are 512 bytes, so losing only those
            // needs a boundary inside the header, and then the body or the topic behind it is lost too.
            assert!(!accepted || (12..=84).contains(&at), "{at}");
        }
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = b"KEYS\x01k1 k2\x02\x02x\x02=\x01\x02TAGS\x01TagA\x02";
        let all: Vec<_> = properties(text).collect();
        assert_eq!(all, vec![(&b"KEYS"[..], &b"k1 k2"[..]), (b"TAGS", b"TagA")]);
        assert_eq!(property(text, b"TAGS"), Some(&b"TagA"[..]));
        // 4.9 leaves the last separator out.
        assert_eq!(property(b"a\x01b", b"a"), Some(&b"b"[..]));
        let mut out = b"a\x01b".to_vec();
        put_property(b"c", b"d", &mut out);
        assert_eq!(out, b"a\x01b\x02c\x01d\x02");
    }

    #[test]
    fn hashes_are_javas() {
        for (text, hash) in [("", 0), ("TagA", 2_598_919), ("a", 97), ("标签", 857_175), ("😀", 1_772_899)]
        {
            assert_eq!(java_hash(text), hash, "{text}");
            assert_eq!(java_hash_bytes(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn ids_are_javas() {
        let mut id = String::new();
        offset_message_id(&"127.0.0.1:10911".parse().expect("address"), 4096, &mut id);
        assert_eq!(id, "7F00000100002A9F0000000000001000");
        for (host, offset) in [("127.0.0.1:10911", 4096), ("[fe80::1]:1", i64::MAX)] {
            let host = host.parse().expect("address");
            let mut id = String::new();
            offset_message_id(&host, offset, &mut id);
            assert_eq!(decode_offset_message_id(&id), Some((host, offset)));
            assert_eq!(decode_offset_message_id(&id[1..]), None);
        }
        assert_eq!(decode_offset_message_id("zF00000100002A9F0000000000001000"), None);
    }

    #[test]
    fn batches_come_back_and_broken_ones_are_refused() {
        let mut body = Vec::new();
        let items = [
            BatchItem { flag: 0, body: b"one", properties: b"a\x01b\x02" },
            BatchItem { flag: 5, body: b"", properties: b"" },
        ];
        for item in &items {
            put_batch_item(item, &mut body);
        }
        assert_eq!(decode_batch(&body), Ok(items.to_vec()));
        for cut in 1..body.len() {
            let whole_first = 22 + 3 + 4;
            assert_eq!(decode_batch(&body[..cut]).is_ok(), cut == whole_first, "{cut}");
        }
        assert!(decode_batch(&[]).is_err());
        assert!(RecordError::Magic(1).to_string().contains("0x00000001"));
    }
}
