//! The machine of one connection: bytes to packets and back.
//!
//! Three protocols share it. Remoting frames are in [`super::frame`]; the two directions of RocketMQ's replication stream
//! are so small that they are here (source: `DefaultHAConnection`, `DefaultHAClient`):
//!
//! ```text
//! slave → master   end of the slave's log 8
//! master → slave   commit-log offset 8 | length 4 | that many bytes
//! ```

use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, BytesMut};

use super::{Packet, frame};
use crate::io::Protocol;

/// Frames longer than this, their length word included, end the connection, as in RocketMQ.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

const HA_REPORT_BYTES: usize = 8;
const HA_BLOCK_PREFIX_BYTES: usize = 12;

/// Why bytes are not the protocol. The connection must be closed; nothing on it can be trusted any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// A length that makes the frame or block longer than 16 MiB, or too short to hold a header.
    FrameLength(u32),
    /// The header does not fit its frame.
    HeaderLength(u32),
    /// Neither JSON nor RocketMQ's binary form.
    SerializeType(u8),
    /// The header is not what its serialise type says.
    Header(&'static str),
    /// A replication offset below zero.
    Offset(i64),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::FrameLength(len) => {
                write!(f, "frame length {len} is outside 4..={}", FRAME_BYTES_MAX - 4)
            }
            LinkError::HeaderLength(len) => write!(f, "header length {len} does not fit its frame"),
            LinkError::SerializeType(kind) => write!(f, "unknown serialize type {kind}"),
            LinkError::Header(what) => write!(f, "malformed header: {what}"),
            LinkError::Offset(offset) => write!(f, "replication offset {offset}"),
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

    /// The next whole packet, if one has arrived. Bodies and header fields are slices of the received bytes.
    ///
    /// # Errors
    /// [`LinkError`]: close the connection.
    pub fn decode(&mut self) -> Result<Option<Packet>, LinkError> {
        match self.protocol {
            Protocol::Remoting => Ok(frame::decode(&mut self.incoming)?.map(Packet::Command)),
            Protocol::HaMaster => decode_report(&mut self.incoming),
            Protocol::HaSlave => decode_block(&mut self.incoming),
        }
    }

    /// Appends the bytes of a packet.
    ///
    /// An answer that would not fit a frame is replaced by an error that says so.
    pub fn encode(packet: &Packet, out: &mut Vec<u8>) {
        match packet {
            Packet::Command(command) => frame::encode(command, out),
            Packet::HaReport { offset } => out.extend_from_slice(&offset.to_be_bytes()),
            Packet::HaBlock { offset, body } => {
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(body);
            }
        }
    }
}

/// Of several reports that have come, only the newest says anything.
fn decode_report(incoming: &mut BytesMut) -> Result<Option<Packet>, LinkError> {
    let whole = incoming.len() - incoming.len() % HA_REPORT_BYTES;
    let Some(newest) = incoming.get(..whole).and_then(|bytes| bytes.last_chunk::<HA_REPORT_BYTES>()) else {
        return Ok(None);
    };
    let offset = ha_offset(*newest)?;
    incoming.advance(whole);
    Ok(Some(Packet::HaReport { offset }))
}

fn decode_block(incoming: &mut BytesMut) -> Result<Option<Packet>, LinkError> {
    let Some(prefix) = incoming.first_chunk::<HA_BLOCK_PREFIX_BYTES>() else { return Ok(None) };
    let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = *prefix;
    let offset = ha_offset([o0, o1, o2, o3, o4, o5, o6, o7])?;
    let len = u32::from_be_bytes([l0, l1, l2, l3]);
    let body_len = len as usize;
    if body_len > FRAME_BYTES_MAX {
        return Err(LinkError::FrameLength(len));
    }
    if incoming.len() < HA_BLOCK_PREFIX_BYTES + body_len {
        return Ok(None);
    }
    incoming.advance(HA_BLOCK_PREFIX_BYTES);
    Ok(Some(Packet::HaBlock { offset, body: incoming.split_to(body_len).freeze() }))
}

/// A signed number on Java's side.
fn ha_offset(bytes: [u8; 8]) -> Result<u64, LinkError> {
    let offset = i64::from_be_bytes(bytes);
    u64::try_from(offset).map_err(|_| LinkError::Offset(offset))
}

#[cfg(test)]
mod tests {
    use alloc::borrow::Cow;
    use alloc::string::{String, ToString};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Command, Ext, Language, SerializeType};

    fn decode_all(protocol: Protocol, chunks: &[&[u8]]) -> Result<Vec<Packet>, LinkError> {
        let mut link = Link::new(protocol);
        let mut packets = Vec::new();
        for chunk in chunks {
            link.incoming().extend_from_slice(chunk);
            while let Some(packet) = link.decode()? {
                packets.push(packet);
            }
        }
        Ok(packets)
    }

    #[test]
    fn the_master_takes_the_newest_whole_report() {
        let reports = [0u64, 1, 2].map(u64::to_be_bytes).concat();
        assert_eq!(
            decode_all(Protocol::HaMaster, &[&reports[..20], &reports[20..]]),
            Ok(Vec::from([Packet::HaReport { offset: 1 }, Packet::HaReport { offset: 2 }]))
        );
        assert_eq!(decode_all(Protocol::HaMaster, &[&[0; 7]]), Ok(Vec::new()));
        assert_eq!(decode_all(Protocol::HaMaster, &[&[0xff; 8]]), Err(LinkError::Offset(-1)));
    }

    #[test]
    fn the_slave_takes_blocks_and_heartbeats() {
        let mut bytes = Vec::new();
        let packets = [
            Packet::HaBlock { offset: 5, body: Bytes::from_static(b"abc") },
            Packet::HaBlock { offset: 8, body: Bytes::new() },
        ];
        for packet in &packets {
            Link::encode(packet, &mut bytes);
        }
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\x05\0\0\0\x03abc\0\0\0\0\0\0\0\x08\0\0\0\0");
        let split: Vec<&[u8]> = bytes.chunks(5).collect();
        assert_eq!(decode_all(Protocol::HaSlave, &split), Ok(Vec::from(packets)));
        let huge = b"\0\0\0\0\0\0\0\x05\x7f\xff\xff\xff";
        assert_eq!(decode_all(Protocol::HaSlave, &[huge]), Err(LinkError::FrameLength(0x7fff_ffff)));
    }

    fn fields(ext: &Ext) -> Vec<(String, String)> {
        let mut all = Vec::new();
        ext.for_each(|name, value| all.push((name.to_string(), value.into_owned())));
        all
    }

    prop_compose! {
        fn commands()(
            code in 0..=i32::from(i16::MAX),
            language in 0..14u8,
            version in 0..=i32::from(i16::MAX),
            opaque: i32,
            flag in 0..4i32,
            binary: bool,
            remark in proptest::option::of(".{1,20}"),
            ext in proptest::collection::vec((".{1,12}", ".{1,40}"), 0..6),
            body in proptest::collection::vec(any::<u8>(), 0..50),
        ) -> Command {
            let pairs: Vec<_> = ext.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))).collect();
            Command {
                code,
                language: Language(language),
                version,
                opaque,
                flag,
                serialize: if binary { SerializeType::RocketMq } else { SerializeType::Json },
                remark,
                ext: if pairs.is_empty() { Ext::None } else { Ext::Fields(pairs) },
                body: Bytes::from(body),
            }
        }
    }

    proptest! {
        #[test]
        fn commands_survive_the_wire_however_it_splits(
            sent in proptest::collection::vec(commands(), 1..4),
            split in 1..64usize,
        ) {
            let mut bytes = Vec::new();
            for command in &sent {
                Link::encode(&Packet::Command(command.clone()), &mut bytes);
            }
            let chunks: Vec<&[u8]> = bytes.chunks(split).collect();
            let received = decode_all(Protocol::Remoting, &chunks);
            prop_assert_eq!(received.as_ref().map(Vec::len), Ok(sent.len()));
            for (packet, command) in received.unwrap_or_default().into_iter().zip(&sent) {
                let Packet::Command(read) = packet else { panic!("a command") };
                prop_assert_eq!(fields(&read.ext), fields(&command.ext));
                prop_assert_eq!(Command { ext: command.ext.clone(), ..read }, command.clone());
            }
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), protocol in 0..3u8) {
            let protocol = [Protocol::Remoting, Protocol::HaSlave, Protocol::HaMaster][usize::from(protocol)];
            let _ = decode_all(protocol, &[&bytes]);
        }

        #[test]
        fn a_damaged_frame_is_survived(command in commands(), at in 8..400usize, byte: u8) {
            let mut bytes = Vec::new();
            Link::encode(&Packet::Command(command), &mut bytes);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(packets) = decode_all(Protocol::Remoting, &[&bytes]) {
                for packet in packets {
                    // What was taken can be read and written.
                    let mut again = Vec::new();
                    Link::encode(&packet, &mut again);
                }
            }
        }
    }
}
