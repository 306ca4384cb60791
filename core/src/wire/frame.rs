//! Remoting frames: length, header form, header, body.
//!
//! ```text
//! total length 4 | form 1, header length 3 | header | body        total = 4 + header + body
//! ```

use alloc::format;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use super::code::response_code;
use super::link::{FRAME_BYTES_MAX, LinkError};
use super::{Command, Ext, SerializeType, binary, json_header};

/// The length word and the word of form and header length.
const PREFIX_BYTES: usize = 8;
const HEADER_BYTES_MAX: u32 = 0x00FF_FFFF;

const FORM_JSON: u8 = 0;
const FORM_BINARY: u8 = 1;

/// Takes the next whole frame off `incoming`.
pub(crate) fn decode(incoming: &mut BytesMut) -> Result<Option<Command>, LinkError> {
    let Some(prefix) = incoming.first_chunk::<PREFIX_BYTES>() else { return refuse_early(incoming) };
    let [l0, l1, l2, l3, form, h1, h2, h3] = *prefix;
    let total = u32::from_be_bytes([l0, l1, l2, l3]);
    check_length(total)?;
    let header_len = u32::from_be_bytes([0, h1, h2, h3]);
    if header_len > total - 4 {
        return Err(LinkError::HeaderLength(header_len));
    }
    let serialize = match form {
        FORM_JSON => SerializeType::Json,
        FORM_BINARY => SerializeType::RocketMq,
        other => return Err(LinkError::SerializeType(other)),
    };
    let frame_len = 4 + total as usize;
    if incoming.len() < frame_len {
        return Ok(None);
    }
    let mut body = incoming.split_to(frame_len).freeze();
    body.advance(PREFIX_BYTES);
    let header = body.split_to(header_len as usize);
    let decoded = match serialize {
        SerializeType::Json => json_header::decode(&header, body),
        SerializeType::RocketMq => binary::decode(&header, body),
    };
    decoded.map(Some).map_err(LinkError::Header)
}

/// A length that cannot be right is refused before its frame has come.
fn refuse_early(incoming: &BytesMut) -> Result<Option<Command>, LinkError> {
    if let Some(length) = incoming.first_chunk::<4>() {
        check_length(u32::from_be_bytes(*length))?;
    }
    Ok(None)
}

/// The bound counts the length word too, as RocketMQ's frame decoder does.
fn check_length(total: u32) -> Result<(), LinkError> {
    let len = u64::from(total);
    if len < 4 || len + 4 > FRAME_BYTES_MAX as u64 { Err(LinkError::FrameLength(total)) } else { Ok(()) }
}

/// Appends the frame of `command`.
///
/// A response over the frame limit would end its connection; the peer gets an error that says so instead. A request over
/// it is written as it is: whoever builds requests bounds them.
pub(crate) fn encode(command: &Command, out: &mut Vec<u8>) {
    let start = out.len();
    write(command, out);
    let len = out.len() - start;
    if len > FRAME_BYTES_MAX && command.is_response() {
        out.truncate(start);
        let error = Command {
            code: response_code::SYSTEM_ERROR,
            remark: Some(format!("the answer has {len} bytes, a frame at most {FRAME_BYTES_MAX}")),
            ext: Ext::None,
            body: Bytes::new(),
            ..command.clone()
        };
        write(&error, out);
    }
}

fn write(command: &Command, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    // The binary form has 16 bits for a code: what does not fit is written as JSON, which every peer reads.
    let binary = command.serialize == SerializeType::RocketMq && i16::try_from(command.code).is_ok();
    let form = if binary {
        binary::encode(command, out);
        FORM_BINARY
    } else {
        json_header::encode(command, out);
        FORM_JSON
    };
    let header_len = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out.extend_from_slice(&command.body);
    let total = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    let [_, h1, h2, h3] = header_len.min(HEADER_BYTES_MAX).to_be_bytes();
    let [l0, l1, l2, l3] = total.to_be_bytes();
    out[start..start + PREFIX_BYTES].copy_from_slice(&[l0, l1, l2, l3, form, h1, h2, h3]);
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::wire::code::request_code;

    fn decode_bytes(bytes: &[u8]) -> Result<Option<Command>, LinkError> {
        decode(&mut BytesMut::from(bytes))
    }

    fn framed(form: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(4 + header.len() as u32 + body.len() as u32).to_be_bytes());
        out.extend_from_slice(&((u32::from(form) << 24) | header.len() as u32).to_be_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_frame_comes_off_whole_and_leaves_the_rest() {
        let mut bytes = BytesMut::from(&framed(0, br#"{"code":105,"opaque":7}"#, b"body")[..]);
        bytes.extend_from_slice(&[0, 0]);
        let command = decode(&mut bytes).expect("a frame").expect("whole");
        assert_eq!((command.code, command.opaque, &command.body[..]), (105, 7, &b"body"[..]));
        assert_eq!(&bytes[..], [0, 0]);
    }

    #[test]
    fn a_frame_may_come_byte_by_byte() {
        let whole = framed(0, br#"{"code":105}"#, b"x");
        let mut bytes = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            bytes.extend_from_slice(&[*byte]);
            assert_eq!(decode(&mut bytes), Ok(None));
        }
        bytes.extend_from_slice(&whole[whole.len() - 1..]);
        assert!(decode(&mut bytes).expect("a frame").is_some());
    }

    #[test]
    fn wrong_lengths_and_forms_are_refused_at_once() {
        let max = FRAME_BYTES_MAX as u32;
        for (bytes, expect) in [
            (vec![0, 0, 0, 0], LinkError::FrameLength(0)),
            (vec![0, 0, 0, 3], LinkError::FrameLength(3)),
            (vec![0x7f, 0xff, 0xff, 0xff], LinkError::FrameLength(0x7fff_ffff)),
            ((max - 3).to_be_bytes().to_vec(), LinkError::FrameLength(max - 3)),
            (vec![0, 0, 0, 4, 0, 0, 0, 1], LinkError::HeaderLength(1)),
            (vec![0, 0, 0, 4, 9, 0, 0, 0], LinkError::SerializeType(9)),
            (framed(0, b"", b""), LinkError::Header("an object must stand here")),
            (framed(1, b"", b""), LinkError::Header("binary header ends early")),
        ] {
            assert_eq!(decode_bytes(&bytes), Err(expect), "{bytes:?}");
        }
        assert_eq!(decode_bytes(&(max - 4).to_be_bytes()), Ok(None));
    }

    #[test]
    fn an_answer_over_the_limit_becomes_an_error() {
        let request =
            Command { opaque: 9, ..Command::request(request_code::GET_ROUTEINFO_BY_TOPIC, Ext::None) };
        let mut out = Vec::new();
        encode(&Command::response(&request, 0, Ext::None).with_body(vec![0; FRAME_BYTES_MAX]), &mut out);
        let answer = decode_bytes(&out).expect("a frame").expect("whole");
        assert_eq!((answer.code, answer.opaque, answer.is_response()), (1, 9, true));
        assert!(answer.remark.is_some_and(|remark| remark.contains("a frame at most 16777216")));
    }

    #[test]
    fn codes_beyond_the_binary_form_are_written_as_json() {
        let pop = Command {
            serialize: SerializeType::RocketMq,
            ..Command::request(request_code::POP_MESSAGE, Ext::None)
        };
        let mut out = Vec::new();
        encode(&pop, &mut out);
        let read = decode_bytes(&out).expect("a frame").expect("whole");
        assert_eq!((read.code, read.serialize), (request_code::POP_MESSAGE, SerializeType::Json));
    }
}
