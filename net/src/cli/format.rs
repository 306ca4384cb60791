//! How a message is written: by a format as kcat has it, or as a JSON object.

use std::convert::Infallible;
use std::io::{self, Write};
use std::str::FromStr;

use gantry_net::client::Received;

/// A format, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    BodySize,
    Keys,
    Tag,
    Topic,
    Broker,
    Queue,
    Offset,
    Time,
    Id,
    Properties,
}

impl FromStr for Format {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Format, Infallible> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let part = match letter {
                '%' => match letters.next() {
                    Some('s') => Part::Body,
                    Some('S') => Part::BodySize,
                    Some('k') => Part::Keys,
                    Some('g') => Part::Tag,
                    Some('t') => Part::Topic,
                    Some('b') => Part::Broker,
                    Some('p' | 'q') => Part::Queue,
                    Some('o') => Part::Offset,
                    Some('T') => Part::Time,
                    Some('i') => Part::Id,
                    Some('h') => Part::Properties,
                    Some('%') | None => Part::Text("%".into()),
                    Some(other) => Part::Text(format!("%{other}")),
                },
                '\\' => Part::Text(match letters.next() {
                    Some('n') => "\n".into(),
                    Some('t') => "\t".into(),
                    Some('r') => "\r".into(),
                    Some('0') => "\0".into(),
                    Some('\\') | None => "\\".into(),
                    Some(other) => format!("\\{other}"),
                }),
                other => Part::Text(other.into()),
            };
            if let Part::Text(more) = &part {
                plain.push_str(more);
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

impl Format {
    pub(crate) fn write(&self, message: &Received, out: &mut impl Write) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text.as_bytes())?,
                Part::Body => out.write_all(&message.body)?,
                Part::BodySize => write!(out, "{}", message.body.len())?,
                Part::Keys => out.write_all(message.keys().collect::<Vec<_>>().join(" ").as_bytes())?,
                Part::Tag => out.write_all(message.tag().unwrap_or_default().as_bytes())?,
                Part::Topic => out.write_all(message.topic.as_bytes())?,
                Part::Broker => out.write_all(message.queue.broker_name.as_bytes())?,
                Part::Queue => write!(out, "{}", message.queue.queue_id)?,
                Part::Offset => write!(out, "{}", message.queue_offset)?,
                Part::Time => write!(out, "{}", message.store_timestamp)?,
                Part::Id => out.write_all(message.id().as_bytes())?,
                Part::Properties => {
                    let texts = message.properties.iter().map(|(name, value)| format!("{name}={value}"));
                    out.write_all(texts.collect::<Vec<_>>().join(",").as_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// One line. A body that is no text is written in hexadecimal digits.
pub(crate) fn json(message: &Received) -> String {
    let properties: serde_json::Map<String, serde_json::Value> =
        message.properties.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let (name, body) = match std::str::from_utf8(&message.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("bodyHex", message.body.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    let mut object = serde_json::json!({
        "bornTimestamp": message.born_timestamp,
        "broker": message.queue.broker_name,
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
    }
}
