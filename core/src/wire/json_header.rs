//! The JSON form of a header (serialize type 0).
//!
//! Read in any key order; unknown keys of any kind are passed over. Written as Java's encoder does: compact, names
//! alphabetical, null members left out, every field of `extFields` a string. Some clients cut such texts apart by hand, so
//! there is never a white space.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use bytes::Bytes;

use super::ext::{self, Ext, RawExt};
use super::json::{self, DEPTH_MAX, Malformed, Scanner};
use super::{Command, Language, SerializeType};

/// A command of its header's text.
pub(crate) fn decode(header: &Bytes, body: Bytes) -> Result<Command, Malformed> {
    let source = core::str::from_utf8(header).map_err(|_| "not UTF-8")?;
    let mut command = Command {
        code: 0,
        language: Language::JAVA,
        version: 0,
        opaque: 0,
        flag: 0,
        serialize: SerializeType::Json,
        remark: None,
        ext: Ext::None,
        body,
    };
    let mut scanner = Scanner::new(header);
    scanner.expect(b'{', "an object must stand here")?;
    if !scanner.take(b'}') {
        loop {
            let key = scanner.string()?;
            scanner.expect(b':', "a key needs a colon")?;
            let key = json::text(source, &key);
            member(&key, source, header, &mut scanner, &mut command)?;
            if scanner.take(b'}') {
                break;
            }
            scanner.expect(b',', "members need a comma between them")?;
        }
    }
    scanner.finish()?;
    Ok(command)
}

fn member(
    key: &str,
    source: &str,
    header: &Bytes,
    scanner: &mut Scanner<'_>,
    command: &mut Command,
) -> Result<(), Malformed> {
    match key {
        "code" => command.code = scanner.int()?,
        "version" => command.version = scanner.int()?,
        "opaque" => command.opaque = scanner.int()?,
        "flag" => command.flag = scanner.int()?,
        "language" => {
            let name = text_or_raw(source, scanner)?;
            command.language = name.map_or(Language::OTHER, |name| Language::from_name(&name));
        }
        "remark" => command.remark = text_or_raw(source, scanner)?.map(Cow::into_owned),
        "extFields" => command.ext = fields(header, scanner)?,
        _ => {
            scanner.skip(DEPTH_MAX)?;
        }
    }
    Ok(())
}

/// A string's text, any other value as it stands, `None` for null.
fn text_or_raw<'a>(source: &'a str, scanner: &mut Scanner<'_>) -> Result<Option<Cow<'a, str>>, Malformed> {
    scanner.space();
    if scanner.peek() == Some(b'"') {
        return Ok(Some(json::text(source, &scanner.string()?)));
    }
    let value = source.get(scanner.skip(DEPTH_MAX)?).unwrap_or_default();
    Ok((value != "null").then_some(Cow::Borrowed(value)))
}

fn fields(header: &Bytes, scanner: &mut Scanner<'_>) -> Result<Ext, Malformed> {
    let range = scanner.skip(DEPTH_MAX)?;
    match header.get(range.clone()).unwrap_or_default() {
        b"null" | b"{}" => Ok(Ext::None),
        [b'{', ..] => Ok(Ext::Raw(RawExt { serialize: SerializeType::Json, bytes: header.slice(range) })),
        _ => Err("extFields is not an object"),
    }
}

/// Appends the header of `command`.
pub(crate) fn encode(command: &Command, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":");
    json::write_int(i64::from(command.code), out);
    encode_ext(&command.ext, out);
    out.extend_from_slice(b",\"flag\":");
    json::write_int(i64::from(command.flag), out);
    out.extend_from_slice(b",\"language\":\"");
    out.extend_from_slice(command.language.name().as_bytes());
    out.extend_from_slice(b"\",\"opaque\":");
    json::write_int(i64::from(command.opaque), out);
    if let Some(remark) = &command.remark {
        out.extend_from_slice(b",\"remark\":");
        json::write_string(remark, out);
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    json::write_int(i64::from(command.version), out);
    out.push(b'}');
}

fn encode_ext(ext: &Ext, out: &mut Vec<u8>) {
    match ext {
        Ext::None => {}
        Ext::SendReply(reply) => {
            out.extend_from_slice(b",\"extFields\":{\"MSG_REGION\":\"");
            out.extend_from_slice(ext::REGION.as_bytes());
            out.extend_from_slice(b"\",\"TRACE_ON\":\"true\",\"msgId\":\"");
            reply.write_msg_id(out);
            out.extend_from_slice(b"\",\"queueId\":\"");
            json::write_int(i64::from(reply.queue_id), out);
            out.extend_from_slice(b"\",\"queueOffset\":\"");
            json::write_int(reply.queue_offset, out);
            out.push(b'"');
            if let Some(id) = reply.transaction_id_text() {
                out.extend_from_slice(b",\"transactionId\":");
                json::write_string(id, out);
            }
            out.push(b'}');
        }
        Ext::PullReply(reply) => {
            let mut before: &[u8] = b",\"extFields\":{\"";
            for (name, value) in reply.fields() {
                out.extend_from_slice(before);
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":\"");
                json::write_int(value, out);
                before = b"\",\"";
            }
            out.extend_from_slice(b"\"}");
        }
        // A raw object is written anew, not copied: some clients send numbers in it, and others cannot read those.
        Ext::Raw(_) | Ext::Fields(_) => {
            out.extend_from_slice(b",\"extFields\":");
            let mut before = b'{';
            ext.for_each(|name, value| {
                out.push(before);
                json::write_string(name, out);
                out.push(b':');
                json::write_string(&value, out);
                before = b',';
            });
            if before == b'{' {
                out.push(b'{');
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;
    use core::net::SocketAddr;

    use super::*;
    use crate::wire::request::{PullMessageResponse, SendMessageResponse};

    fn read(header: &str) -> Result<Command, Malformed> {
        decode(&Bytes::copy_from_slice(header.as_bytes()), Bytes::new())
    }

    fn fields_of(ext: &Ext) -> Vec<(String, String)> {
        let mut all = Vec::new();
        ext.for_each(|name, value| all.push((name.to_string(), value.into_owned())));
        all
    }

    fn pairs(expect: &[(&str, &str)]) -> Vec<(String, String)> {
        expect.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn written(command: &Command) -> String {
        let mut out = Vec::new();
        encode(command, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_java_writes_is_read() {
        let command = read(
            r#"{"code":105,"extFields":{"topic":"T"},"flag":2,"language":"JAVA","opaque":-7,"serializeTypeCurrentRPC":"JSON","version":479}"#,
        )
        .expect("well-formed");
        assert_eq!((command.code, command.flag, command.opaque, command.version), (105, 2, -7, 479));
        assert_eq!((command.language, command.remark), (Language::JAVA, None));
        assert_eq!(fields_of(&command.ext), pairs(&[("topic", "T")]));
    }

    #[test]
    fn any_order_white_space_and_unknown_members_are_taken() {
        let command = read(
            " { \"version\" : 317 , \"later\":[{\"a\":[]},null] ,\"remark\":null,\n\"extFields\": { \"q\" : 4, \
             \"b\":true,\"none\":null,\"s\": \"\\u0001x\",\"o\":{\"k\":[1]} },\"language\":\"GO\",\"c\\u006fde\":34 } ",
        )
        .expect("well-formed");
        assert_eq!((command.code, command.version, command.language), (34, 317, Language(9)));
        assert_eq!(
            fields_of(&command.ext),
            pairs(&[("q", "4"), ("b", "true"), ("s", "\u{1}x"), ("o", "{\"k\":[1]}")])
        );
        assert_eq!(command.ext.get("q").as_deref(), Some("4"));
        assert_eq!(command.ext.get("none"), None);
    }

    #[test]
    fn broken_headers_are_refused() {
        let deep = alloc::format!("{{\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for header in [
            "",
            "[]",
            "{",
            "{\"code\":105",
            "{\"code\":1}{}",
            "{\"code\":\"x\"}",
            "{\"code\":4294967296}",
            "{\"extFields\":[]}",
            "{\"extFields\":{\"a\":\"\\q\"}}",
            "{\"extFields\":{\"a\":}}",
            &deep,
        ] {
            assert!(read(header).is_err(), "{header}");
        }
        assert!(decode(&Bytes::from_static(b"{\"remark\":\"\xff\"}"), Bytes::new()).is_err());
    }

    #[test]
    fn headers_are_written_as_java_writes_them() {
        let mut request =
            Command::request(105, Ext::Fields(vec![(Cow::Borrowed("topic"), Cow::Borrowed("a\u{1}\""))]));
        request.opaque = 7;
        assert_eq!(
            written(&request),
            r#"{"code":105,"extFields":{"topic":"a\u0001\""},"flag":0,"language":"JAVA","opaque":7,"serializeTypeCurrentRPC":"JSON","version":513}"#
        );
        assert_eq!(
            written(&Command::error(&request, 17, "no\nroute")),
            r#"{"code":17,"flag":1,"language":"JAVA","opaque":7,"remark":"no\nroute","serializeTypeCurrentRPC":"JSON","version":513}"#
        );
        assert!(written(&Command::request(1, Ext::Fields(vec![]))).contains(r#""extFields":{},"#));
    }

    #[test]
    fn a_send_answer_names_region_and_ids() {
        let reply = SendMessageResponse {
            store_host: SocketAddr::from(([127, 0, 0, 1], 10911)),
            offset: 0x1f,
            more_offsets: vec![0x100],
            queue_id: 3,
            queue_offset: 12,
            transaction_id: Bytes::from_static(b"UNIQ"),
        };
        let ext = Ext::SendReply(reply);
        let expect = pairs(&[
            ("MSG_REGION", "DefaultRegion"),
            ("TRACE_ON", "true"),
            ("msgId", "7F00000100002A9F000000000000001F,7F00000100002A9F0000000000000100"),
            ("queueId", "3"),
            ("queueOffset", "12"),
            ("transactionId", "UNIQ"),
        ]);
        assert_eq!(fields_of(&ext), expect);
        let command = read(&written(&Command::request(0, ext))).expect("own header");
        assert_eq!(fields_of(&command.ext), expect);
    }

    #[test]
    fn a_pull_answer_has_all_its_fields() {
        let ext = Ext::PullReply(PullMessageResponse {
            suggest_which_broker_id: 1,
            next_begin_offset: 33,
            min_offset: 0,
            max_offset: 40,
        });
        let expect = pairs(&[
            ("maxOffset", "40"),
            ("minOffset", "0"),
            ("nextBeginOffset", "33"),
            ("suggestWhichBrokerId", "1"),
        ]);
        assert_eq!(fields_of(&ext), expect);
        let command = read(&written(&Command::request(0, ext))).expect("own header");
        assert_eq!(fields_of(&command.ext), expect);
    }
}
