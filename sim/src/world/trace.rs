//! One line for each input and effect, when asked for.

use std::fmt::Write as _;

use gantry_core::wire::{Command, Packet, code};

use super::{HostId, Observer, World};
use crate::process::Seen;

/// Writes lines to standard output.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    line: String,
}

impl<O: Observer> World<O> {
    /// Prints a line about a host; `write` is not called when nobody looks.
    pub(super) fn trace_with(&mut self, id: HostId, write: impl FnOnce(&mut String)) {
        let Some(tracer) = &mut self.tracer else { return };
        let now = self.engine.now().as_nanos();
        let name = self.hosts[id.0].plan.name.as_str();
        tracer.line.clear();
        let _ = write!(tracer.line, "{:4}.{:09} {name:<10} ", now / 1_000_000_000, now % 1_000_000_000);
        write(&mut tracer.line);
        println!("{}", tracer.line);
    }

    pub(super) fn trace_fault(&mut self, index: usize, text: &str) {
        let now = self.engine.now().as_nanos();
        println!("{:4}.{:09} ** fault {index}: {text}", now / 1_000_000_000, now % 1_000_000_000);
    }

    pub(super) fn trace_seen(&mut self, id: HostId, seen: &Seen) {
        if self.tracer.is_some() {
            self.trace_with(id, |out| describe(seen, out));
        }
    }
}

/// What entered or left a machine, in a line.
pub(crate) fn describe(seen: &Seen, out: &mut String) {
    let _ = match seen {
        Seen::Start => write!(out, "<- start"),
        Seen::Opened { conn, peer, protocol } => write!(out, "<- {conn:?} opened with {peer} ({protocol:?})"),
        Seen::Received { conn, packet } => {
            let _ = write!(out, "<- {conn:?} ");
            return describe_packet(packet, out);
        }
        Seen::Drained { conn } => write!(out, "<- {conn:?} drained"),
        Seen::Closed { conn, why } => write!(out, "<- {conn:?} closed ({why:?})"),
        Seen::Synced { id, result } => write!(out, "<- sync {} {result:?}", id.0),
        Seen::Fetched { id, result } => write!(out, "<- fetch {} {result:?}", id.0),
        Seen::Wake { why } => write!(out, "<- wake for {why}"),
        Seen::Command => write!(out, "<- command"),
        Seen::Settled => write!(out, "--"),
        Seen::Dial { conn, peer } => write!(out, "-> {conn:?} dial {} ({:?})", peer.address, peer.protocol),
        Seen::Send { conn, packet } => {
            let _ = write!(out, "-> {conn:?} ");
            return describe_packet(packet, out);
        }
        Seen::Close { conn } => write!(out, "-> {conn:?} close"),
        Seen::Sync { id, path } => write!(out, "-> sync {} of {path}", id.0),
        Seen::Replace { id, path } => write!(out, "-> replace {} of {path}", id.0),
        Seen::Fetch { id } => write!(out, "-> fetch {}", id.0),
        Seen::Fail { reason } => write!(out, "-> fails: {reason}"),
    };
}

fn describe_packet(packet: &Packet, out: &mut String) {
    match packet {
        Packet::Command(command) => describe_command(command, out),
        Packet::HaReport { offset } => {
            let _ = write!(out, "HA report {offset}");
        }
        Packet::HaBlock { offset, body } => {
            let _ = write!(out, "HA block {offset} + {}", body.len());
        }
    }
}

fn describe_command(command: &Command, out: &mut String) {
    let (mark, name) = if command.is_response() {
        ("reply", code::response_code::name(command.code))
    } else {
        ("request", code::request_code::name(command.code))
    };
    let _ = write!(out, "{mark} #{} ", command.opaque);
    let _ = match name {
        Some(name) => write!(out, "{name}"),
        None => write!(out, "{}", command.code),
    };
    command.ext.for_each(|name, value| {
        let _ = write!(out, " {name}={}", value.escape_debug());
    });
    if let Some(remark) = &command.remark {
        let _ = write!(out, " remark={remark:?}");
    }
    if !command.body.is_empty() {
        let _ = write!(out, " body={}", command.body.len());
    }
}
