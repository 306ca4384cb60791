//! What a connection carries: bytes, or whole packets as they are.
//!
//! Worlds that cut frames carry bytes through the same [`Link`]s as in production. The others would encode each packet only to
//! decode it whole at the other end, which cost more than most turns: there packets travel as values.

use gantry_core::wire::{Command, Ext, Link, Packet};

use crate::digest::Digest;

/// What was sent and has not been read.
#[derive(Debug)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Packets(Vec<Packet>),
}

impl Payload {
    /// Nothing yet.
    pub(super) fn new(as_bytes: bool) -> Payload {
        if as_bytes { Payload::Bytes(Vec::new()) } else { Payload::Packets(Vec::new()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Payload::Bytes(bytes) => bytes.is_empty(),
            Payload::Packets(packets) => packets.is_empty(),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Payload::Bytes(bytes) => bytes.clear(),
            Payload::Packets(packets) => packets.clear(),
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Payload {
        let empty = Payload::new(matches!(self, Payload::Bytes(_)));
        std::mem::replace(self, empty)
    }

    pub(super) fn push(&mut self, packet: Packet) {
        match self {
            Payload::Bytes(bytes) => Link::encode(&packet, bytes),
            Payload::Packets(packets) => {
                // Of several reports only the newest says anything: a link hands out no other.
                if let (Packet::HaReport { .. }, Some(last @ Packet::HaReport { .. })) =
                    (&packet, packets.last_mut())
                {
                    *last = packet;
                } else {
                    packets.push(packet);
                }
            }
        }
    }

    /// How much it is, in bytes, or about so much.
    pub(super) fn size(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Packets(packets) => packets.iter().map(Packet::cost).sum(),
        }
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        match self {
            Payload::Bytes(bytes) => digest.bytes(bytes),
            Payload::Packets(packets) => packets.iter().for_each(|packet| digest_packet(packet, digest)),
        }
    }
}

fn digest_packet(packet: &Packet, digest: &mut Digest) {
    match packet {
        Packet::Command(command) => digest_command(command, digest),
        Packet::HaReport { offset } => digest.word(*offset),
        Packet::HaBlock { offset, body } => {
            digest.word(*offset);
            digest.bytes(body);
        }
    }
}

fn digest_command(command: &Command, digest: &mut Digest) {
    let two = |a: i32, b: i32| u64::from(a.cast_unsigned()) << 32 | u64::from(b.cast_unsigned());
    digest.word(two(command.code, command.opaque));
    digest.word(two(command.flag, command.version));
    digest.bytes(command.remark.as_deref().unwrap_or_default().as_bytes());
    match &command.ext {
        // These two have no text yet, and are most of all answers.
        Ext::SendReply(reply) => {
            digest.word(reply.offset);
            reply.more_offsets.iter().for_each(|offset| digest.word(*offset));
            digest.word(u64::from(reply.queue_id.cast_unsigned()));
            digest.word(reply.queue_offset.cast_unsigned());
            digest.bytes(&reply.transaction_id);
        }
        Ext::PullReply(reply) => {
            digest.word(reply.next_begin_offset.cast_unsigned());
            digest.word(reply.min_offset.cast_unsigned());
            digest.word(reply.max_offset.cast_unsigned());
            digest.word(reply.suggest_which_broker_id.cast_unsigned());
        }
        ext @ (Ext::None | Ext::Raw(_) | Ext::Fields(_)) => ext.for_each(|name, value| {
            digest.bytes(name.as_bytes());
            digest.bytes(value.as_bytes());
        }),
    }
    digest.bytes(&command.body);
}

#[cfg(test)]
mod tests {
    use gantry_core::wire::SerializeType;

    use super::*;

    fn report(offset: u64) -> Packet {
        Packet::HaReport { offset }
    }

    fn of(packets: impl IntoIterator<Item = Packet>) -> Payload {
        let mut payload = Payload::new(false);
        packets.into_iter().for_each(|packet| payload.push(packet));
        payload
    }

    fn value(payload: &Payload) -> u64 {
        let mut digest = Digest::default();
        payload.digest(&mut digest);
        digest.value()
    }

    #[test]
    fn of_reports_in_a_row_the_newest_travels() {
        let Payload::Packets(packets) = of([report(1), report(2), report(3)]) else { panic!("packets") };
        assert_eq!(packets, [report(3)]);
    }

    #[test]
    fn every_part_of_a_command_counts() {
        let field = |value: &'static str| Ext::Fields(vec![("topic".into(), value.into())]);
        let base = Command::request(10, field("a"));
        let others = [
            Command { code: 11, ..base.clone() },
            Command { opaque: 1, ..base.clone() },
            Command { flag: 1, ..base.clone() },
            Command { remark: Some("no".into()), ..base.clone() },
            Command { ext: field("b"), ..base.clone() },
            Command { ext: Ext::None, ..base.clone() },
            Command { body: "body".into(), ..base.clone() },
        ];
        let one = value(&of([base.clone().into()]));
        assert_eq!(one, value(&of([Command { serialize: SerializeType::RocketMq, ..base }.into()])));
        for other in others {
            assert_ne!(one, value(&of([other.clone().into()])), "{other:?}");
        }
    }
}
