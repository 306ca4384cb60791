//! A remoting command: RocketMQ's `RemotingCommand`, request or response.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::request::{PullMessageResponse, SendMessageResponse};

/// The version that Gantry speaks: the ordinal of 5.5.0 in RocketMQ's release list.
pub const VERSION: i32 = 513;

/// How a header is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SerializeType {
    /// JSON text.
    #[default]
    Json,
    /// RocketMQ's binary header.
    RocketMq,
}

/// The language a peer says it is written in, as its code in the binary header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Language(pub u8);

impl Language {
    /// What Gantry calls itself: the text that every client accepts.
    pub const JAVA: Language = Language(0);
}

const FLAG_RESPONSE: i32 = 1;
const FLAG_ONEWAY: i32 = 2;

/// A request or a response.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// Request or response code, see [`super::code`].
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version, an ordinal of RocketMQ's release list.
    pub version: i32,
    /// Joins a response to its request; each direction of a connection counts its own.
    pub opaque: i32,
    /// Bit 0: response; bit 1: oneway.
    pub flag: i32,
    /// How the header was, or is to be, written.
    pub serialize: SerializeType,
    /// Text for people, on errors.
    pub remark: Option<String>,
    /// Header fields.
    pub ext: Ext,
    /// Body.
    pub body: Bytes,
}

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

impl Command {
    /// A request. The sender fills in `opaque` when it sends.
    pub fn request(code: i32, ext: Ext) -> Command {
        Command {
            code,
            language: Language::JAVA,
            version: VERSION,
            opaque: 0,
            flag: 0,
            serialize: SerializeType::Json,
            remark: None,
            ext,
            body: Bytes::new(),
        }
    }

    /// The answer to `request`: its opaque and header form, code and fields as given.
    pub fn response(request: &Command, code: i32, ext: Ext) -> Command {
        Command {
            code,
            language: Language::JAVA,
            version: VERSION,
            opaque: request.opaque,
            flag: FLAG_RESPONSE,
            serialize: request.serialize,
            remark: None,
            ext,
            body: Bytes::new(),
        }
    }

    /// An answer that says what went wrong.
    pub fn error(request: &Command, code: i32, remark: impl Into<String>) -> Command {
        Command { remark: Some(remark.into()), ..Command::response(request, code, Ext::None) }
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Bytes>) -> Command {
        Command { body: body.into(), ..self }
    }

    /// The same, wanting no reply.
    #[must_use]
    pub fn oneway(self) -> Command {
        Command { flag: self.flag | FLAG_ONEWAY, ..self }
    }

    /// Whether it answers a request of the receiver.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether no reply may be sent, not even an error.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }
}
