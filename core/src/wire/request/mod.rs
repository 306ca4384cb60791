//! Typed headers of requests and responses, by family.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// Answer to SEND_MESSAGE (10, 310, 320).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendMessageResponse {
    /// The broker's own address as message ids name it.
    pub store_host: SocketAddr,
    /// Commit-log offset of the message, the first one of a batch.
    pub offset: u64,
    /// Commit-log offsets of a batch's further messages.
    pub more_offsets: Vec<u64>,
    /// Queue.
    pub queue_id: i32,
    /// First queue offset.
    pub queue_offset: i64,
    /// The message's UNIQ_KEY, UTF-8; empty for none.
    pub transaction_id: Bytes,
}

impl SendMessageResponse {
    /// Appends the offset message ids, joined by commas: host, port in four bytes and offset, as upper-case hex.
    pub(crate) fn write_msg_id(&self, out: &mut Vec<u8>) {
        let port = u32::from(self.store_host.port()).to_be_bytes();
        let offsets = core::iter::once(&self.offset).chain(&self.more_offsets);
        for (at, offset) in offsets.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match self.store_host.ip() {
                IpAddr::V4(ip) => write_hex(&ip.octets(), out),
                IpAddr::V6(ip) => write_hex(&ip.octets(), out),
            }
            write_hex(&port, out);
            write_hex(&offset.to_be_bytes(), out);
        }
    }

    /// The offset message ids, joined by commas.
    pub fn msg_id(&self) -> String {
        let mut out = Vec::new();
        self.write_msg_id(&mut out);
        out.into_iter().map(char::from).collect()
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Answer to PULL_MESSAGE (11, 361).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PullMessageResponse {
    /// Broker to pull from next.
    pub suggest_which_broker_id: i64,
    /// Queue offset to pull next.
    pub next_begin_offset: i64,
    /// Lowest queue offset.
    pub min_offset: i64,
    /// One past the highest queue offset.
    pub max_offset: i64,
}
