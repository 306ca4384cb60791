//! Stored messages as a client reads them: taken apart by hand, after RocketMQ's `MessageDecoder`.

use crate::history::MessageId;

/// The parts of a message that the checkers need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Queue id.
    pub queue_id: i32,
    /// Offset in the queue.
    pub queue_offset: i64,
    /// Place in the commit log.
    pub physical_offset: u64,
    /// When it was stored, by its broker's wall clock, in ms.
    pub store_ms: i64,
    /// How often it was sent back.
    pub reconsume_times: i32,
    /// Where its body begins, from the beginning of the record.
    pub body_at: usize,
    /// Topic.
    pub topic: &'a [u8],
    /// Body.
    pub body: &'a [u8],
    /// Property string.
    pub properties: &'a [u8],
}

impl Record<'_> {
    /// Which of our messages it is, if it is one and whole.
    pub fn message(&self) -> Option<MessageId> {
        MessageId::from_stored(self.body, self.properties)
    }
}

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;
const BORN_HOST_V6: u32 = 16;
const STORE_HOST_V6: u32 = 32;

/// Splits the body of a pull reply into its messages; `None` when it is anything else.
pub fn split(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (size, _) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = bytes.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        records.push(read(record)?);
        bytes = rest;
    }
    Some(records)
}

fn read(record: &[u8]) -> Option<Record<'_>> {
    let word = |at: usize| Some(u32::from_be_bytes(*record.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_be_bytes(*record.get(at..)?.first_chunk()?));
    let magic = word(4)?;
    let version2 = match magic {
        MAGIC_V1 => false,
        MAGIC_V2 => true,
        _ => return None,
    };
    let flags = word(36)?;
    let host = |bit| if flags & bit == 0 { 8 } else { 20 };
    // Born host at 48, then the store time, the store host, the two retry fields.
    let store_at = 48 + host(BORN_HOST_V6);
    let body_at = store_at + 8 + host(STORE_HOST_V6) + 4 + 8;
    let body_len = word(body_at)? as usize;
    let body = record.get(body_at + 4..)?.get(..body_len)?;
    let rest = record.get(body_at + 4 + body_len..)?;
    let (topic_len, rest) = if version2 {
        let (len, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(*len)), rest)
    } else {
        let (len, rest) = rest.split_first()?;
        (usize::from(*len), rest)
    };
    let (topic, rest) = rest.split_at_checked(topic_len)?;
    let (properties_len, properties) = rest.split_first_chunk::<2>()?;
    if properties.len() != usize::from(u16::from_be_bytes(*properties_len)) {
        return None;
    }
    Some(Record {
        queue_id: word(12)? as i32,
        queue_offset: long(20)? as i64,
        physical_offset: long(28)?,
        store_ms: long(store_at)? as i64,
        reconsume_times: word(store_at + 8 + host(STORE_HOST_V6))? as i32,
        body_at: body_at + 4,
        topic,
        body,
        properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(queue_offset: u64, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 88];
        out[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
        out[12..16].copy_from_slice(&3_u32.to_be_bytes());
        out[20..28].copy_from_slice(&queue_offset.to_be_bytes());
        out[28..36].copy_from_slice(&77_u64.to_be_bytes());
        out[84..88].copy_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        out.push(1);
        out.push(b'T');
        out.extend_from_slice(&[0, 0]);
        let size = (out.len() as u32).to_be_bytes();
        out[..4].copy_from_slice(&size);
        out
    }

    #[test]
    fn records_are_split_and_read() {
        let mut bytes = record(5, b"hello");
        bytes.extend(record(6, b""));
        let records = split(&bytes).expect("two records");
        assert_eq!(records.len(), 2);
        let expect = Record {
            queue_id: 3,
            queue_offset: 5,
            physical_offset: 77,
            store_ms: 0,
            reconsume_times: 0,
            body_at: 88,
            topic: b"T",
            body: b"hello",
            properties: b"",
        };
        assert_eq!(records[0], expect);
        assert_eq!(records[1].queue_offset, 6);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = record(5, b"hello");
        assert_eq!(split(&good[..good.len() - 1]), None);
        let mut bad = good;
        bad[5] ^= 1;
        assert_eq!(split(&bad), None);
    }
}
