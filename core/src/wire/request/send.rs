//! Sending: messages, batches, replies, and messages sent back for another try.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::header::{self, Header, HeaderError, headers};
use crate::wire::Ext;

/// SEND_MESSAGE (10), SEND_REPLY_MESSAGE (324) with long names; SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320),
/// SEND_REPLY_MESSAGE_V2 (325) with one letter a field. Read from either, written with letters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SendMessageRequest<'a> {
    /// `producerGroup`, `a`
    pub producer_group: Cow<'a, str>,
    /// `topic`, `b`
    pub topic: Cow<'a, str>,
    /// `defaultTopic`, `c`: whose settings a topic that does not exist yet takes.
    pub default_topic: Cow<'a, str>,
    /// `defaultTopicQueueNums`, `d`
    pub default_topic_queue_nums: i32,
    /// `queueId`, `e`; below zero lets the broker choose.
    pub queue_id: i32,
    /// `sysFlag`, `f`
    pub sys_flag: i32,
    /// `bornTimestamp`, `g`, ms since the epoch
    pub born_timestamp: i64,
    /// `flag`, `h`
    pub flag: i32,
    /// `properties`, `i`: `name \1 value \2 …`, empty when absent.
    pub properties: Cow<'a, str>,
    /// `reconsumeTimes`, `j`, 0 when absent
    pub reconsume_times: i32,
    /// `unitMode`, `k`, false when absent
    pub unit_mode: bool,
    /// `maxReconsumeTimes`, `l`
    pub max_reconsume_times: Option<i32>,
    /// `batch`, `m`, false when absent. The C++ client sends batches as 310 with this set.
    pub batch: bool,
    /// `bname`, `n`
    pub broker_name: Option<Cow<'a, str>>,
    /// `gantryOnce`, of Gantry alone: store each message of this producer once, by its unique key. The value tells producers
    /// apart that chose the same key.
    pub once: Option<Cow<'a, str>>,
    /// `gantryAgain`, of Gantry alone: an earlier attempt may have been stored.
    pub again: bool,
}

/// A letter that no field has: no text of one byte is this.
const ONCE: u8 = 0x80;
const AGAIN: u8 = 0x81;

/// The letter of a long name; 0 for a field that a send does not have.
fn letter(name: &str) -> u8 {
    match name {
        "producerGroup" => b'a',
        "topic" => b'b',
        "defaultTopic" => b'c',
        "defaultTopicQueueNums" => b'd',
        "queueId" => b'e',
        "sysFlag" => b'f',
        "bornTimestamp" => b'g',
        "flag" => b'h',
        "properties" => b'i',
        "reconsumeTimes" => b'j',
        "unitMode" => b'k',
        "maxReconsumeTimes" => b'l',
        "batch" => b'm',
        "bname" => b'n',
        "gantryOnce" => ONCE,
        "gantryAgain" => AGAIN,
        _ => 0,
    }
}

impl<'a> Header<'a> for SendMessageRequest<'a> {
    fn decode(ext: &'a Ext) -> Result<Self, HeaderError> {
        let (mut group, mut topic, mut default_topic, mut properties) = (None, None, None, None);
        let (mut default_nums, mut queue_id, mut sys_flag, mut born, mut flag) =
            (None, None, None, None, None);
        let (mut reconsume, mut unit_mode, mut max_reconsume, mut batch) = (None, None, None, None);
        let (mut broker_name, mut once, mut again) = (None, None, None);
        let mut error = None;
        ext.for_each(|name, value| {
            let letter = match name.as_bytes() {
                [letter] => *letter,
                _ => letter(name),
            };
            match letter {
                b'a' => group = Some(value),
                b'b' => topic = Some(value),
                b'c' => default_topic = Some(value),
                b'd' => header::read("defaultTopicQueueNums", value, &mut default_nums, &mut error),
                b'e' => header::read("queueId", value, &mut queue_id, &mut error),
                b'f' => header::read("sysFlag", value, &mut sys_flag, &mut error),
                b'g' => header::read("bornTimestamp", value, &mut born, &mut error),
                b'h' => header::read("flag", value, &mut flag, &mut error),
                b'i' => properties = Some(value),
                b'j' => header::read("reconsumeTimes", value, &mut reconsume, &mut error),
                b'k' => header::read("unitMode", value, &mut unit_mode, &mut error),
                b'l' => header::read("maxReconsumeTimes", value, &mut max_reconsume, &mut error),
                b'm' => header::read("batch", value, &mut batch, &mut error),
                b'n' => broker_name = Some(value),
                ONCE => once = Some(value),
                AGAIN => header::read("gantryAgain", value, &mut again, &mut error),
                _ => {}
            }
        });
        if let Some(error) = error {
            return Err(error);
        }
        Ok(SendMessageRequest {
            producer_group: header::finish("producerGroup", group)?,
            topic: header::finish("topic", topic)?,
            default_topic: header::finish("defaultTopic", default_topic)?,
            default_topic_queue_nums: header::finish("defaultTopicQueueNums", default_nums)?,
            queue_id: header::finish("queueId", queue_id)?,
            sys_flag: header::finish("sysFlag", sys_flag)?,
            born_timestamp: header::finish("bornTimestamp", born)?,
            flag: header::finish("flag", flag)?,
            properties: properties.unwrap_or_default(),
            reconsume_times: reconsume.unwrap_or_default(),
            unit_mode: unit_mode.unwrap_or_default(),
            max_reconsume_times: header::finish("maxReconsumeTimes", max_reconsume)?,
            batch: batch.unwrap_or_default(),
            broker_name,
            once,
            again: again.unwrap_or_default(),
        })
    }

    fn to_ext(&self) -> Ext {
        let mut fields = Vec::with_capacity(14);
        header::write("a", &self.producer_group, &mut fields);
        header::write("b", &self.topic, &mut fields);
        header::write("c", &self.default_topic, &mut fields);
        header::write("d", &self.default_topic_queue_nums, &mut fields);
        header::write("e", &self.queue_id, &mut fields);
        header::write("f", &self.sys_flag, &mut fields);
        header::write("g", &self.born_timestamp, &mut fields);
        header::write("h", &self.flag, &mut fields);
        header::write("i", &self.properties, &mut fields);
        header::write("j", &self.reconsume_times, &mut fields);
        header::write("k", &self.unit_mode, &mut fields);
        header::write("l", &self.max_reconsume_times, &mut fields);
        header::write("m", &self.batch, &mut fields);
        header::write("n", &self.broker_name, &mut fields);
        header::write("gantryOnce", &self.once, &mut fields);
        header::write("gantryAgain", &self.again.then_some(true), &mut fields);
        Ext::Fields(fields)
    }
}

/// Answer to SEND_MESSAGE (10, 310, 320).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendMessageResponse {
    /// The broker's own address as message ids name it.
    pub store_host: SocketAddr,
    /// Commit-log offset of the message, the first one of a batch.
    pub offset: u64,
    /// Commit-log offsets of a batch's further messages.
    pub more_offsets: Vec<u64>,
    /// Queue.
    pub queue_id: i32,
    /// First queue offset.
    pub queue_offset: i64,
    /// The message's UNIQ_KEY, UTF-8; empty for none.
    pub transaction_id: Bytes,
}

impl SendMessageResponse {
    /// Appends the offset message ids, joined by commas: host, port in four bytes and offset, as upper-case hex.
    pub(crate) fn write_msg_id(&self, out: &mut Vec<u8>) {
        let port = u32::from(self.store_host.port()).to_be_bytes();
        let offsets = core::iter::once(&self.offset).chain(&self.more_offsets);
        for (at, offset) in offsets.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match self.store_host.ip() {
                IpAddr::V4(ip) => write_hex(&ip.octets(), out),
                IpAddr::V6(ip) => write_hex(&ip.octets(), out),
            }
            write_hex(&port, out);
            write_hex(&offset.to_be_bytes(), out);
        }
    }

    /// The fields of an answer that says that each message was stored once; `offsets` where their queue offsets do not follow on.
    pub fn to_once_ext(&self, offsets: &[i64]) -> Ext {
        let mut fields = Vec::with_capacity(8);
        header::write("gantryOnce", &true, &mut fields);
        if !offsets.is_empty() {
            let texts: Vec<String> = offsets.iter().map(ToString::to_string).collect();
            header::write("gantryOffsets", &texts.join(","), &mut fields);
        }
        let known = ["MSG_REGION", "TRACE_ON", "msgId", "queueId", "queueOffset", "transactionId"];
        Ext::SendReply(self.clone()).for_each(|name, value| {
            if let Some(name) = known.iter().find(|known| **known == name) {
                fields.push((Cow::Borrowed(*name), Cow::Owned(value.into_owned())));
            }
        });
        Ext::Fields(fields)
    }

    /// The offset message ids, joined by commas.
    pub fn msg_id(&self) -> String {
        let mut out = Vec::new();
        self.write_msg_id(&mut out);
        out.into_iter().map(char::from).collect()
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

headers! {
    /// Answer to a send as its sender reads it (10, 310, 320, 324, 325).
    SendMessageReceipt {
        /// Offset message ids, joined by commas for a batch; `0` for a reply that was not stored.
        msg_id: String = "msgId",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        transaction_id: Option<String> = "transactionId",
        batch_uniq_id: Option<String> = "batchUniqId",
        recall_handle: Option<String> = "recallHandle",
        /// Of Gantry alone: what the request asked for with this field was done.
        once: Option<bool> = "gantryOnce",
        /// Of Gantry alone: the queue offset of each message, where they do not follow on.
        queue_offsets: Option<String> = "gantryOffsets",
    }
    /// CONSUMER_SEND_MSG_BACK (36).
    ConsumerSendMsgBackRequest {
        /// Commit-log offset of the message.
        offset: i64 = "offset",
        group: String = "group",
        /// Below 0 the dead-letter queue, 0 the broker's choice, above 0 a level.
        delay_level: i32 = "delayLevel",
        origin_msg_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        unit_mode: Option<bool> = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
    /// PUSH_REPLY_MESSAGE_TO_CLIENT (326), broker to client.
    ReplyMessageRequest {
        producer_group: String = "producerGroup",
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<String> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: Option<bool> = "unitMode",
        born_host: String = "bornHost",
        store_host: String = "storeHost",
        store_timestamp: i64 = "storeTimestamp",
    }
    /// RECALL_MESSAGE (370).
    RecallMessageRequest {
        producer_group: Option<String> = "producerGroup",
        topic: String = "topic",
        recall_handle: String = "recallHandle",
    }
    /// Answer to RECALL_MESSAGE (370).
    RecallMessageResponse {
        msg_id: String = "msgId",
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::io::Protocol;
    use crate::wire::code::request_code;
    use crate::wire::{Command, Link, Packet};

    fn received(frame: &[u8]) -> Command {
        let mut link = Link::new(Protocol::Remoting);
        *link.incoming() = BytesMut::from(frame);
        match link.decode() {
            Ok(Some(Packet::Command(command))) => command,
            other => panic!("{other:?}"),
        }
    }

    fn sample() -> SendMessageRequest<'static> {
        SendMessageRequest {
            producer_group: "P".into(),
            topic: "T".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            queue_id: -1,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            flag: 0,
            properties: "KEYS\u{1}k\u{2}WAIT\u{1}true\u{2}".into(),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: false,
            broker_name: Some("b".into()),
            once: None,
            again: false,
        }
    }

    #[test]
    fn both_name_sets_are_read() {
        let java = br#"{"code":310,"extFields":{"a":"P","b":"T","c":"TBW102","d":"4","e":"-1","f":"0","g":"1700000000000","h":"0","i":"KEYS\u0001k\u0002WAIT\u0001true\u0002","j":"0","k":"false","m":"false","n":"b"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":513}"#;
        let go = br#"{"code":10,"language":"GO","version":317,"opaque":1,"flag":0,"remark":"","extFields":{"producerGroup":"P","topic":"T","defaultTopic":"TBW102","defaultTopicQueueNums":"4","queueId":"-1","sysFlag":"0","bornTimestamp":"1700000000000","flag":"0","properties":"KEYS\u0001k\u0002WAIT\u0001true\u0002","reconsumeTimes":"0","unitMode":"false","batch":"false","bname":"b"}}"#;
        let cpp = br#"{"code":310,"extFields":{"AccessKey":"","a":"P","b":"T","c":"TBW102","d":4,"e":-1,"f":0,"g":"1700000000000","h":0,"i":"KEYS\u0001k\u0002WAIT\u0001true\u0002","j":"0","l":null,"n":"b"},"flag":0,"language":"CPP","opaque":1,"remark":"","version":335}"#;
        for header in [&java[..], go, cpp] {
            let mut frame = Vec::new();
            frame.extend_from_slice(&(4 + header.len() as u32 + 4).to_be_bytes());
            frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
            frame.extend_from_slice(header);
            frame.extend_from_slice(b"body");
            let command = received(&frame);
            assert_eq!(command.header(), Ok(sample()));
            assert_eq!(&command.body[..], b"body");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let once = Some("producer-1".into());
        let sent =
            SendMessageRequest { max_reconsume_times: Some(16), batch: true, once, again: true, ..sample() };
        let mut frame = Vec::new();
        let request = Command::request(request_code::SEND_MESSAGE_V2, sent.to_ext());
        Link::encode(&Packet::Command(request), &mut frame);
        assert_eq!(received(&frame).header(), Ok(sent));
    }

    #[test]
    fn a_missing_field_is_named() {
        let Ext::Fields(mut fields) = sample().to_ext() else { panic!("fields") };
        fields.retain(|(name, _)| name != "e");
        assert_eq!(SendMessageRequest::decode(&Ext::Fields(fields)), Err(HeaderError::Missing("queueId")));
    }

    #[test]
    fn ids_name_hosts_of_either_family() {
        let mut reply = SendMessageResponse {
            store_host: SocketAddr::from(([10, 0, 0, 1], 10911)),
            offset: 0xabc,
            more_offsets: Vec::new(),
            queue_id: 0,
            queue_offset: 0,
            transaction_id: Bytes::new(),
        };
        assert_eq!(reply.msg_id(), "0A00000100002A9F0000000000000ABC");
        reply.store_host.set_ip(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(reply.msg_id(), "FE80000000000000000000000000000100002A9F0000000000000ABC");
        let receipt = SendMessageReceipt::decode(&Ext::SendReply(reply.clone()));
        assert_eq!(receipt.map(|receipt| receipt.msg_id), Ok(reply.msg_id()));
    }
}
