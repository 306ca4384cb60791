//! A remoting command: RocketMQ's `RemotingCommand`, request or response.

use alloc::string::String;

use bytes::Bytes;

use super::Ext;

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

/// Names by code; they stand in the JSON header.
const LANGUAGES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
    "RUST", "NODE_JS",
];

impl Language {
    /// What Gantry calls itself: the text that every client accepts.
    pub const JAVA: Language = Language(0);
    /// One that has no name here.
    pub const OTHER: Language = Language(7);

    /// The name in the JSON header.
    pub fn name(self) -> &'static str {
        LANGUAGES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language of that name; [`Language::OTHER`] when there is none.
    pub fn from_name(name: &str) -> Language {
        let at = LANGUAGES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok());
        at.map_or(Language::OTHER, Language)
    }
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
