//! How a message is written: by a format as kcat has it, or as a JSON object.

use std::convert::Infallible;
use std::io::{self, Write};
use std::iter::Peekable;
use std::str::{Chars, FromStr};

use gantry_net::client::Received;

use super::time::now_ms;

/// A format, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Body,
    BodySize,
    /// Four bytes, the first one the highest.
    BodySizeBinary,
    Keys,
    KeysSize,
    Tag,
    Topic,
    Broker,
    Queue,
    Offset,
    Time,
    Born,
    Tries,
    /// Now: when it is written.
    Written,
    Id,
    Properties,
    Property(String),
}

impl FromStr for Format {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Format, Infallible> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let part = match letter {
                '%' => field(&mut letters),
                '\\' => Part::Text(escape(&mut letters)),
                other => Part::Text(other.to_string().into_bytes()),
            };
            if let Part::Text(more) = &part {
                plain.extend_from_slice(more);
                continue;
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Format(parts))
    }
}

/// What follows a percent sign.
fn field(letters: &mut Peekable<Chars<'_>>) -> Part {
    match letters.next() {
        Some('s') => Part::Body,
        Some('S') => Part::BodySize,
        Some('R') => Part::BodySizeBinary,
        Some('k') => Part::Keys,
        Some('K') => Part::KeysSize,
        Some('g') => Part::Tag,
        Some('t') => Part::Topic,
        Some('b') => Part::Broker,
        Some('p' | 'q') => Part::Queue,
        Some('o') => Part::Offset,
        Some('T') => Part::Time,
        Some('B') => Part::Born,
        Some('r') => Part::Tries,
        Some('c') => Part::Written,
        Some('i') => Part::Id,
        Some('h') => Part::Properties,
        Some('{') => {
            let name: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
            Part::Property(name)
        }
        Some('%') | None => Part::Text(b"%".to_vec()),
        Some(other) => Part::Text(format!("%{other}").into_bytes()),
    }
}

/// What follows a backslash.
fn escape(letters: &mut Peekable<Chars<'_>>) -> Vec<u8> {
    match letters.next() {
        Some('n') => b"\n".to_vec(),
        Some('t') => b"\t".to_vec(),
        Some('r') => b"\r".to_vec(),
        Some('0') => b"\0".to_vec(),
        Some('x') => {
            let mut digits = String::new();
            while let Some(digit) = letters.next_if(|letter| letter.is_ascii_hexdigit() && digits.len() < 2) {
                digits.push(digit);
            }
            u8::from_str_radix(&digits, 16).map_or_else(|_| b"\\x".to_vec(), |byte| vec![byte])
        }
        Some('\\') | None => b"\\".to_vec(),
        Some(other) => format!("\\{other}").into_bytes(),
    }
}

/// A text whose backslashes mean what they mean in a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Escaped(pub(crate) Vec<u8>);

impl FromStr for Escaped {
    type Err = String;

    fn from_str(text: &str) -> Result<Escaped, String> {
        let mut letters = text.chars().peekable();
        let mut bytes = Vec::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => bytes.extend_from_slice(&escape(&mut letters)),
                other => bytes.extend_from_slice(other.to_string().as_bytes()),
            }
        }
        if bytes.is_empty() { Err("must not be empty".into()) } else { Ok(Escaped(bytes)) }
    }
}

impl Format {
    pub(crate) fn write(&self, message: &Received, out: &mut impl Write) -> io::Result<()> {
        let keys = || message.keys().collect::<Vec<_>>().join(" ");
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Body => out.write_all(&message.body)?,
                Part::BodySize => write!(out, "{}", message.body.len())?,
                Part::BodySizeBinary => {
                    let bytes = i32::try_from(message.body.len()).unwrap_or(i32::MAX);
                    out.write_all(&bytes.to_be_bytes())?;
                }
                Part::Keys => out.write_all(keys().as_bytes())?,
                Part::KeysSize => match keys().len() {
                    0 => out.write_all(b"-1")?,
                    bytes => write!(out, "{bytes}")?,
                },
                Part::Tag => out.write_all(message.tag().unwrap_or_default().as_bytes())?,
                Part::Topic => out.write_all(message.topic.as_bytes())?,
                Part::Broker => out.write_all(message.queue.broker_name.as_bytes())?,
                Part::Queue => write!(out, "{}", message.queue.queue_id)?,
                Part::Offset => write!(out, "{}", message.queue_offset)?,
                Part::Time => write!(out, "{}", message.store_timestamp)?,
                Part::Born => write!(out, "{}", message.born_timestamp)?,
                Part::Tries => write!(out, "{}", message.reconsume_times)?,
                Part::Written => write!(out, "{}", now_ms())?,
                Part::Id => out.write_all(message.id().as_bytes())?,
                Part::Properties => {
                    let texts = message.properties.iter().map(|(name, value)| format!("{name}={value}"));
                    out.write_all(texts.collect::<Vec<_>>().join(",").as_bytes())?;
                }
                Part::Property(name) => {
                    out.write_all(message.property(name).unwrap_or_default().as_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// One line, which `gantry produce --json` reads. A body that is no text is written in hexadecimal digits.
pub(crate) fn json(message: &Received) -> String {
    let properties: serde_json::Map<String, serde_json::Value> =
        message.properties.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let (name, body) = match std::str::from_utf8(&message.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("bodyHex", message.body.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    let mut object = serde_json::json!({
        "bornTimestamp": message.born_timestamp,
        "broker": message.queue.broker_name,
        "flag": message.flag,
        "keys": message.keys().collect::<Vec<_>>(),
        "messageId": message.id(),
        "offsetId": message.offset_id(),
        "properties": properties,
        "queueId": message.queue.queue_id,
        "queueOffset": message.queue_offset,
        "reconsumeTimes": message.reconsume_times,
        "storeTimestamp": message.store_timestamp,
        "tag": message.tag(),
        "topic": message.topic,
    });
    object[name] = body.into();
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_as_kcat_reads_it() {
        let read = |text: &str| text.parse::<Format>().map(|format| format.0);
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(
            read("%t:%o\\t%s\\n"),
            Ok(vec![Part::Topic, text(":"), Part::Offset, text("\t"), Part::Body, text("\n")])
        );
        assert_eq!(read("100%% %x \\q \\\\"), Ok(vec![text("100% %x \\q \\")]));
        assert_eq!(read("%"), Ok(vec![text("%")]));
        assert_eq!(read("%R%K"), Ok(vec![Part::BodySizeBinary, Part::KeysSize]));
        assert_eq!(read("%{a b}."), Ok(vec![Part::Property("a b".into()), text(".")]));
        assert_eq!(read("\\x41f\\xe\\xzz"), Ok(vec![text("Af\u{e}\\xzz")]));
        assert_eq!("\\xff\\n".parse(), Ok(Escaped(vec![0xff, b'\n'])));
    }
}
