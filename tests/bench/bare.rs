//! The shell and the codec with next to no machine behind: each send is parsed and answered, nothing is stored.
//!
//! What the broker costs beyond this is the broker's.

use std::io;
use std::sync::Arc;

use gantry_core::io::{ConnId, Env, Input, Machine, Now, Protocol};
use gantry_core::rng::Rng;
use gantry_core::time::Instant;
use gantry_core::wire::request::{Header, SendMessageRequest, SendMessageResponse};
use gantry_core::wire::{Command, Ext, Packet};
use gantry_disk::MemoryDisk;
use gantry_net::config::Limits;
use gantry_net::driver::{Flow, Listen, Notice, Service, run as host};
use gantry_net::{Counters, Mailbox};

/// Nothing to choose.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {}

/// Answers each send with the next queue offset.
struct Bare {
    queue_offset: i64,
}

impl Machine<MemoryDisk> for Bare {
    type Command = ();
    type Event = ();

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, ()>) {
        if let Input::Received { conn, packet: Packet::Command(request) } = input {
            self.on_send(conn, &request, env);
        }
    }

    fn settle(&mut self, _now: Now, _env: &mut Env<'_, MemoryDisk, ()>) {}

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

impl Bare {
    fn on_send(&mut self, conn: ConnId, request: &Command, env: &mut Env<'_, MemoryDisk, ()>) {
        const SYSTEM_ERROR: i32 = 1;
        let Ok(send) = SendMessageRequest::decode(&request.ext) else {
            return env.send(conn, Command::error(request, SYSTEM_ERROR, "not a send"));
        };
        self.queue_offset += 1;
        let reply = SendMessageResponse {
            store_host: ([127, 0, 0, 1], 10911).into(),
            offset: self.queue_offset.unsigned_abs() * 320,
            more_offsets: Vec::new(),
            queue_id: send.queue_id,
            queue_offset: self.queue_offset,
            transaction_id: Default::default(),
        };
        env.send(conn, Command::response(request, 0, Ext::SendReply(reply)));
    }
}

pub(crate) fn run(_options: &Options) -> io::Result<()> {
    let listener =
        Listen { address: ([127, 0, 0, 1], 0).into(), protocol: Protocol::Remoting, setting: "the port" };
    let service =
        Service { name: String::from("bare"), listeners: vec![listener], limits: Limits::default() };
    let make = |_waker| Ok((Bare { queue_offset: 0 }, MemoryDisk::new(Rng::from_seed(0))));
    host(&service, &Mailbox::new(), &Arc::new(Counters::default()), make, |notice| {
        if let Notice::Ready(addresses) = notice {
            println!("listening on {}", addresses[0]);
        }
        Flow::Continue
    })
    .map_err(io::Error::other)
}
