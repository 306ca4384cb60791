//! Header fields: as received (slices of the frame) or to be written.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::SerializeType;
use super::json::{self, DEPTH_MAX, Scanner};
use super::request::{PullMessageResponse, SendMessageResponse};

/// Header fields of a command.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Ext {
    /// None at all.
    #[default]
    None,
    /// As received, decoded by whoever knows the request's typed header.
    Raw(RawExt),
    /// Names and values to be written.
    Fields(Vec<(Cow<'static, str>, Cow<'static, str>)>),
    /// The answer to a send, written without building its fields.
    SendReply(SendMessageResponse),
    /// The answer to a pull, written without building its fields.
    PullReply(PullMessageResponse),
}

/// Header fields as they stood in the frame: the JSON object's text, or the binary entries.
#[derive(Clone, PartialEq, Debug)]
pub struct RawExt {
    /// How `bytes` are to be read.
    pub serialize: SerializeType,
    /// JSON: from `{` to `}` inclusive, already seen to be well-formed. Binary: the entries without their total length.
    pub bytes: Bytes,
}

impl RawExt {
    /// Calls `f` with each name and value, in the order received.
    ///
    /// Values that are JSON numbers, booleans or containers come as their text; fields that are null are passed over.
    pub fn for_each<'a>(&'a self, mut f: impl FnMut(&str, Cow<'a, str>)) {
        // Both were checked when the frame was decoded: what does not parse here was built by hand, and ends early.
        let _ = match self.serialize {
            SerializeType::Json => for_each_json(&self.bytes, &mut f),
            SerializeType::RocketMq => for_each_binary(&self.bytes, &mut f),
        };
    }
}

impl Ext {
    /// Calls `f` with each name and value, in the order they have or will have on the wire.
    pub fn for_each<'a>(&'a self, mut f: impl FnMut(&str, Cow<'a, str>)) {
        match self {
            Ext::None => {}
            Ext::Raw(raw) => raw.for_each(f),
            Ext::Fields(fields) => {
                for (name, value) in fields {
                    f(name, Cow::Borrowed(value));
                }
            }
            Ext::SendReply(reply) => reply.for_each(f),
            Ext::PullReply(reply) => reply.for_each(f),
        }
    }

    /// The value of one field; the last one, if a peer sent several. Scans all fields: for one or two rare ones.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut found = None;
        self.for_each(|key, value| {
            if key == name {
                found = Some(value);
            }
        });
        found
    }
}

fn for_each_json<'a>(bytes: &'a [u8], f: &mut impl FnMut(&str, Cow<'a, str>)) -> Result<(), json::Malformed> {
    let source = core::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    let mut scanner = Scanner::new(bytes);
    scanner.expect(b'{', "an object must stand here")?;
    if scanner.take(b'}') {
        return Ok(());
    }
    loop {
        let name = scanner.string()?;
        scanner.expect(b':', "a key needs a colon")?;
        let value = if scanner.peek() == Some(b'"') {
            Some(json::text(source, &scanner.string()?))
        } else {
            let range = scanner.skip(DEPTH_MAX)?;
            match source.get(range).unwrap_or_default() {
                "null" => None,
                // A string that white space set apart from its colon.
                quoted if quoted.starts_with('"') => {
                    Some(json::text(quoted, &Scanner::new(quoted.as_bytes()).string()?))
                }
                other => Some(Cow::Borrowed(other)),
            }
        };
        if let Some(value) = value {
            f(&json::text(source, &name), value);
        }
        if scanner.take(b'}') {
            return Ok(());
        }
        scanner.expect(b',', "members need a comma between them")?;
    }
}

/// One binary entry and what follows it; `None` when the bytes are not an entry.
pub(crate) fn split_binary(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((core::str::from_utf8(name).ok()?, core::str::from_utf8(value).ok()?, rest))
}

fn for_each_binary<'a>(
    mut bytes: &'a [u8],
    f: &mut impl FnMut(&str, Cow<'a, str>),
) -> Result<(), json::Malformed> {
    while !bytes.is_empty() {
        let (name, value, rest) = split_binary(bytes).ok_or("not an entry")?;
        // Of zero length means null in this form.
        if !name.is_empty() && !value.is_empty() {
            f(name, Cow::Borrowed(value));
        }
        bytes = rest;
    }
    Ok(())
}

/// The region a broker names in its answers; Java clients copy it into traces.
pub(crate) const REGION: &str = "DefaultRegion";

impl SendMessageResponse {
    fn for_each<'a>(&'a self, mut f: impl FnMut(&str, Cow<'a, str>)) {
        f("MSG_REGION", Cow::Borrowed(REGION));
        f("TRACE_ON", Cow::Borrowed("true"));
        f("msgId", Cow::Owned(self.msg_id()));
        f("queueId", Cow::Owned(self.queue_id.to_string()));
        f("queueOffset", Cow::Owned(self.queue_offset.to_string()));
        if let Some(id) = self.transaction_id_text() {
            f("transactionId", Cow::Borrowed(id));
        }
    }

    /// The transaction id as text; `None` when there is none or when it is not text.
    pub(crate) fn transaction_id_text(&self) -> Option<&str> {
        core::str::from_utf8(&self.transaction_id).ok().filter(|id| !id.is_empty())
    }
}

impl PullMessageResponse {
    /// Wire names and values, alphabetical.
    pub(crate) fn fields(&self) -> [(&'static str, i64); 4] {
        [
            ("maxOffset", self.max_offset),
            ("minOffset", self.min_offset),
            ("nextBeginOffset", self.next_begin_offset),
            ("suggestWhichBrokerId", self.suggest_which_broker_id),
        ]
    }

    fn for_each<'a>(&'a self, mut f: impl FnMut(&str, Cow<'a, str>)) {
        for (name, value) in self.fields() {
            f(name, Cow::Owned(value.to_string()));
        }
    }
}
