//! The machine of one connection: bytes to packets and back.

use alloc::vec::Vec;
use core::fmt;

use bytes::BytesMut;

use super::Packet;
use crate::io::Protocol;

/// Frames longer than this end the connection, as in RocketMQ.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why bytes are not the protocol. The connection must be closed; nothing on it can be trusted any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// A frame length of more than [`FRAME_BYTES_MAX`], or too short to hold a header.
    FrameLength(u32),
    /// The header does not fit its frame.
    HeaderLength(u32),
    /// Neither JSON nor RocketMQ's binary form.
    SerializeType(u8),
    /// The header is not what its serialise type says.
    Header(&'static str),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::FrameLength(len) => write!(f, "frame length {len} is outside 4..={FRAME_BYTES_MAX}"),
            LinkError::HeaderLength(len) => write!(f, "header length {len} does not fit its frame"),
            LinkError::SerializeType(kind) => write!(f, "unknown serialize type {kind}"),
            LinkError::Header(what) => write!(f, "malformed header: {what}"),
        }
    }
}

impl core::error::Error for LinkError {}

/// Decodes what arrives on one connection and encodes what leaves.
#[derive(Debug)]
pub struct Link {
    protocol: Protocol,
    incoming: BytesMut,
}

impl Link {
    /// A fresh connection.
    pub fn new(protocol: Protocol) -> Link {
        Link { protocol, incoming: BytesMut::new() }
    }

    /// Where the driver puts received bytes: it appends, then calls [`Link::decode`] until that gives `None`.
    pub fn incoming(&mut self) -> &mut BytesMut {
        &mut self.incoming
    }

    /// The next whole packet, if one has arrived.
    ///
    /// # Errors
    /// [`LinkError`]: close the connection.
    pub fn decode(&mut self) -> Result<Option<Packet>, LinkError> {
        let _ = self.protocol;
        Ok(None)
    }

    /// Appends the bytes of a packet.
    pub fn encode(packet: &Packet, out: &mut Vec<u8>) {
        let _ = (packet, out);
    }
}
