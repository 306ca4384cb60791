//! What `gantry produce` reads: records with a delimiter behind each, which are bodies, or JSON objects as `gantry consume --json`
//! writes them.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use gantry_net::client::{Message, property};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What the sender's library, brokers and the reader's library have added to a message that was read. They are about that message,
/// not about the one that is made of it: with them it would be taken for a reply, another try, or the same one again.
const ADDED: &[&str] = &[
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_HOST",
    "BORN_TIMESTAMP",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "EXTEND_UNIQ_INFO",
    "GANTRY_ONCE",
    "INNER_NUM",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_MESSAGE_ARRIVE_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TRACE_ON",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TRANSACTION_CHECK_TIMES",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "__transactionId__",
];
/// And those of a delivery time.
const ADDED_TIMER: &str = "TIMER_";

/// Reads up to and with the delimiter; `None` at the end. A last record without one counts.
pub(crate) fn record(input: &mut impl BufRead, delimiter: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Some(last) = delimiter.last() else { return Ok(None) };
    let mut record = Vec::new();
    while input.read_until(*last, &mut record)? > 0 {
        if record.ends_with(delimiter) {
            record.truncate(record.len() - delimiter.len());
            return Ok(Some(record));
        }
    }
    Ok((!record.is_empty()).then_some(record))
}

/// Why a record is no message: where in it, line and column, and the words.
pub(crate) struct Fault {
    pub(crate) place: Option<(usize, usize)>,
    pub(crate) words: String,
}

impl From<&str> for Fault {
    fn from(words: &str) -> Fault {
        Fault { place: None, words: words.into() }
    }
}

/// An object of `--json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    body: Option<String>,
    body_hex: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    #[serde(default)]
    flag: i32,
    delay_level: Option<u8>,
    deliver_at: Option<i64>,
    /// Where it was read; of a line that was written by hand nothing is taken away.
    queue_offset: Option<IgnoredAny>,
    #[serde(rename = "bornTimestamp")]
    _born_timestamp: Option<IgnoredAny>,
    #[serde(rename = "broker")]
    _broker: Option<IgnoredAny>,
    #[serde(rename = "messageId")]
    _message_id: Option<IgnoredAny>,
    #[serde(rename = "offsetId")]
    _offset_id: Option<IgnoredAny>,
    #[serde(rename = "queueId")]
    _queue_id: Option<IgnoredAny>,
    #[serde(rename = "reconsumeTimes")]
    _reconsume_times: Option<IgnoredAny>,
    #[serde(rename = "storeTimestamp")]
    _store_timestamp: Option<IgnoredAny>,
    #[serde(rename = "topic")]
    _topic: Option<IgnoredAny>,
}

/// The message of a JSON object, to `topic` wherever it was read.
pub(crate) fn message(topic: &str, record: &[u8]) -> Result<Message, Fault> {
    let line: Line = serde_json::from_slice(record).map_err(|error| {
        let (text, line, column) = (error.to_string(), error.line(), error.column());
        let words = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        Fault { place: Some((line, column)), words: format!("not as --json wants it: {words}") }
    })?;
    let body = match (line.body, line.body_hex) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(digits)) => bytes(&digits).ok_or("bodyHex must be pairs of hexadecimal digits")?,
        (None, None) => return Err("body or bodyHex is missing".into()),
        (Some(_), Some(_)) => return Err("body and bodyHex are two bodies".into()),
    };
    let mut message = Message::new(topic, body);
    message.flag = line.flag;
    for (name, value) in line.properties {
        let is_added =
            line.queue_offset.is_some() && (ADDED.contains(&name.as_str()) || name.starts_with(ADDED_TIMER));
        // Its keys say the same.
        let is_said = name == property::KEYS && !line.keys.is_empty();
        if !is_said && !is_added {
            message = message.with_property(&name, value);
        }
    }
    message = line.keys.iter().fold(message, |message, key| message.with_key(key));
    if let Some(tag) = line.tag {
        message = message.with_tag(tag);
    }
    match (line.delay_level, line.deliver_at) {
        (None, None) => Ok(message),
        (Some(level @ 1..=18), None) => Ok(message.with_delay_level(level)),
        (None, Some(ms)) => Ok(message.with_delivery_at(ms)),
        (Some(_), None) => Err("delayLevel must be 1 to 18".into()),
        (Some(_), Some(_)) => Err("delayLevel and deliverAt are two delays".into()),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

    use super::*;

    #[test]
    fn records_end_with_their_delimiter() {
        let all = |mut input: &[u8], delimiter: &[u8]| {
            let mut found = Vec::new();
            while let Some(next) = record(&mut input, delimiter).unwrap() {
                found.push(String::from_utf8(next).unwrap());
            }
            found
        };
        assert_eq!(all(b"a\nb\n\nc", b"\n"), ["a", "b", "", "c"]);
        // Its last byte alone ends nothing.
        assert_eq!(all(b"a;b--;c--;", b"--;"), ["a;b", "c"]);
        assert_eq!(all(b"a\0b\n", b"\0"), ["a", "b\n"]);
        assert!(all(b"", b"\n").is_empty());
    }

    #[test]
    fn what_was_read_is_sent_without_what_others_added() {
        let read = |text: &str| message("T", text.as_bytes());
        let properties =
            r#""properties":{"UNIQ_KEY":"1","TIMER_OUT_MS":"2","KEYS":"k","p":"v"},"keys":["k"]"#;
        let copy = read(&format!("{{\"body\":\"b\",\"queueOffset\":7,{properties}}}")).ok().unwrap();
        assert_eq!(copy.properties, [("p".into(), "v".into()), ("KEYS".into(), "k".into())]);
        let own = read(&format!("{{\"body\":\"b\",{properties}}}")).ok().unwrap();
        assert_eq!((own.property("UNIQ_KEY"), own.property("KEYS")), (Some("1"), Some("k")));
    }

    #[test]
    fn what_is_no_message_is_named_with_its_place() {
        let fault = |text: &str| message("T", text.as_bytes()).err().map(|fault| (fault.place, fault.words));
        let (place, words) = fault("{\"body\":\"b\",\n\"bdoy\":1}").unwrap();
        assert_eq!(place, Some((2, 6)), "{words}");
        assert!(words.contains("unknown field `bdoy`") && !words.contains("at line"), "{words}");
        for (text, wrong) in [
            ("{\"bodyHex\":\"0\"}", "hexadecimal"),
            ("{\"bodyHex\":\"+1\"}", "hexadecimal"),
            ("{}", "missing"),
            ("{\"body\":\"b\",\"bodyHex\":\"00\"}", "two bodies"),
            ("{\"body\":\"b\",\"delayLevel\":19}", "1 to 18"),
            ("{\"body\":\"b\",\"delayLevel\":1,\"deliverAt\":1}", "two delays"),
        ] {
            assert!(fault(text).is_some_and(|(_, words)| words.contains(wrong)), "{text}");
        }
    }
}
