//! RocketMQ's binary form of a header (serialize type 1).
//!
//! ```text
//! code 2 | language 1 | version 2 | opaque 4 | flag 4 | remark length 4, remark | fields length 4, fields
//! field: name length 2, name, value length 4, value
//! ```
//! A length of zero means null. Bytes behind the fields are passed over, as Java does.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::ext::{self, Ext, RawExt};
use super::json::Malformed;
use super::{Command, Language, SerializeType};

const EARLY: Malformed = "binary header ends early";

/// A command of its header's bytes.
pub(crate) fn decode(header: &Bytes, body: Bytes) -> Result<Command, Malformed> {
    let (fixed, rest) = header.split_first_chunk::<13>().ok_or(EARLY)?;
    let [c0, c1, language, v0, v1, o0, o1, o2, o3, f0, f1, f2, f3] = *fixed;
    let (remark, rest) = sized(rest)?;
    let remark = core::str::from_utf8(remark).map_err(|_| "not UTF-8")?;
    let (fields, _) = sized(rest)?;
    check_fields(fields)?;
    let ext = if fields.is_empty() {
        Ext::None
    } else {
        Ext::Raw(RawExt { serialize: SerializeType::RocketMq, bytes: header.slice_ref(fields) })
    };
    Ok(Command {
        code: i32::from(i16::from_be_bytes([c0, c1])),
        language: Language(language),
        version: i32::from(i16::from_be_bytes([v0, v1])),
        opaque: i32::from_be_bytes([o0, o1, o2, o3]),
        flag: i32::from_be_bytes([f0, f1, f2, f3]),
        serialize: SerializeType::RocketMq,
        remark: (!remark.is_empty()).then(|| String::from(remark)),
        ext,
        body,
    })
}

/// What a 4-byte length announces, and the rest.
fn sized(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(EARLY)?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(EARLY)
}

fn check_fields(mut fields: &[u8]) -> Result<(), Malformed> {
    while !fields.is_empty() {
        let (_, _, rest) = ext::split_binary(fields).ok_or("a header field does not fit or is not UTF-8")?;
        fields = rest;
    }
    Ok(())
}

/// Appends the header of `command`, whose code must fit 16 bits.
pub(crate) fn encode(command: &Command, out: &mut Vec<u8>) {
    out.extend_from_slice(&(command.code as i16).to_be_bytes());
    out.push(command.language.0);
    out.extend_from_slice(&(command.version as i16).to_be_bytes());
    out.extend_from_slice(&command.opaque.to_be_bytes());
    out.extend_from_slice(&command.flag.to_be_bytes());
    let remark = command.remark.as_deref().unwrap_or_default();
    write_len(remark.len(), out);
    out.extend_from_slice(remark.as_bytes());
    let start = out.len();
    write_len(0, out);
    command.ext.for_each(|name, value| {
        // A longer name has no binary form; none of the protocol's own comes near.
        let Ok(len) = i16::try_from(name.len()) else { return };
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        write_len(value.len(), out);
        out.extend_from_slice(value.as_bytes());
    });
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn write_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use alloc::borrow::Cow;
    use alloc::vec;

    use super::*;

    const FRAME: &[u8] = b"\x01\x36\x09\x01\x91\0\0\0\x07\0\0\0\x02\0\0\0\0\0\0\0\x16\
        \0\x01a\0\0\0\x01G\0\x01b\0\0\0\0\0\0\0\0\0\x01v";

    #[test]
    fn a_literal_header_is_read() {
        let command = decode(&Bytes::from_static(FRAME), Bytes::new()).expect("well-formed");
        assert_eq!((command.code, command.language, command.version), (310, Language(9), 401));
        assert_eq!((command.opaque, command.flag, &command.remark), (7, 2, &None));
        let mut all = vec![];
        command.ext.for_each(|name, value| all.push((String::from(name), value.into_owned())));
        // A name or a value of no length is null.
        assert_eq!(all, [(String::from("a"), String::from("G"))]);
    }

    #[test]
    fn headers_cut_anywhere_are_refused() {
        for len in 0..FRAME.len() {
            assert!(decode(&Bytes::from_static(&FRAME[..len]), Bytes::new()).is_err(), "{len}");
        }
        let negative = b"\0\x01\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(decode(&Bytes::from_static(negative), Bytes::new()), Err(EARLY));
    }

    #[test]
    fn what_is_written_is_read() {
        let fields = vec![(Cow::Borrowed("topic"), Cow::Borrowed("T\u{1}")), ("k".into(), "v".into())];
        let command = Command {
            serialize: SerializeType::RocketMq,
            remark: Some("why".into()),
            opaque: -1,
            ..Command::request(105, Ext::Fields(fields))
        };
        let mut out = Vec::new();
        encode(&command, &mut out);
        let read = decode(&Bytes::from(out), Bytes::new()).expect("own header");
        assert_eq!((read.code, read.opaque, read.remark.as_deref()), (105, -1, Some("why")));
        assert_eq!(read.ext.get("topic").as_deref(), Some("T\u{1}"));
        assert_eq!(read.ext.get("k").as_deref(), Some("v"));
    }
}
