//! The broker without sockets: bytes through the codec, a turn, bytes again. What the server costs beyond this under a
//! pipelined load is the shell's and the kernel's.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gantry_core::broker::{Broker, BrokerCommand, BrokerConfig, BrokerEvent};
use gantry_core::io::{Clock as _, ConnId, Input, Network, Peer, Protocol};
use gantry_core::node::Node;
use gantry_core::rng::Rng;
use gantry_core::wire::{Link, Packet};
use gantry_disk::{LogWrite, MappedDisk, MappedOptions};
use gantry_net::system::SystemClock;

use crate::frame::Template;
use crate::server::cpu_of;

const CONNECTIONS: u64 = 16;

/// How much of what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Messages taken in one turn.
    #[arg(long, default_value_t = 512)]
    batch: u64,
    /// Turns.
    #[arg(long, default_value_t = 2000)]
    turns: u64,
    /// Write the log by `pwrite` rather than into a mapping.
    #[arg(long)]
    pwrite: bool,
    /// Messages that are to be stored once.
    #[arg(long)]
    once: bool,
    /// And that may have been stored before, though none was.
    #[arg(long, requires = "once")]
    again: bool,
    /// Where the store goes; emptied before and after.
    #[arg(long, default_value = "target/speed-machine")]
    data: PathBuf,
}

/// Encodes what is sent, and forgets it at the end of a turn.
#[derive(Default)]
struct Encode {
    bytes: Vec<u8>,
    packets: u64,
}

impl Network for Encode {
    type Event = BrokerEvent;

    fn dial(&mut self, _conn: ConnId, _peer: &Peer) {}

    fn send(&mut self, _conn: ConnId, packet: Packet) {
        Link::encode(&packet, &mut self.bytes);
        self.packets += 1;
    }

    fn close(&mut self, _conn: ConnId) {}

    fn emit(&mut self, _event: BrokerEvent) {}
}

type BrokerNode = Node<Broker, SystemClock, Encode, MappedDisk>;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _ = std::fs::remove_dir_all(&options.data);
    let log_write = if options.pwrite { LogWrite::Pwrite } else { LogWrite::Mapped };
    let disk_options = MappedOptions { log_write, ..MappedOptions::default() };
    let disk = MappedDisk::open(&options.data, disk_options, Arc::new(|| {})).map_err(io::Error::other)?;
    let broker = Broker::new(BrokerConfig::new("broker-a", ([127, 0, 0, 1], 10911).into()));
    let mut node = Node::new(broker, SystemClock::new(), Encode::default(), disk, Rng::from_seed(1));
    let mut links: Vec<Link> = (0..CONNECTIONS).map(|_| Link::new(Protocol::Remoting)).collect();
    let mut inbox = VecDeque::new();
    for n in 0..CONNECTIONS {
        let peer = ([127, 0, 0, 1], 40000).into();
        inbox.push_back(Input::Opened { conn: ConnId::accepted(n), peer, protocol: Protocol::Remoting });
    }
    let mut template = match options.once {
        true => Template::once("SpeedTest", options.again),
        false => Template::new("SpeedTest"),
    };
    let mut next = 0;
    // Files are made and caches are warm before the clock starts.
    turns(
        &mut node,
        &mut inbox,
        &mut links,
        &mut template,
        &mut next,
        options.batch,
        options.turns / 10 + 1,
    )?;
    let (begin, cpu) = (Instant::now(), cpu_of(std::process::id())?);
    turns(&mut node, &mut inbox, &mut links, &mut template, &mut next, options.batch, options.turns)?;
    let messages = (options.batch * options.turns) as f64;
    println!(
        "{:.3} us of CPU a message, {:.3} us elapsed, {} a turn",
        (cpu_of(std::process::id())? - cpu).as_secs_f64() * 1e6 / messages,
        begin.elapsed().as_secs_f64() * 1e6 / messages,
        options.batch
    );
    drop(node);
    std::fs::remove_dir_all(&options.data)
}

fn turns(
    node: &mut BrokerNode,
    inbox: &mut VecDeque<Input<BrokerCommand>>,
    links: &mut [Link],
    template: &mut Template,
    next: &mut u64,
    batch: u64,
    turns: u64,
) -> io::Result<()> {
    let mut frames = Vec::new();
    for _ in 0..turns {
        for (n, link) in (0..).zip(&mut *links) {
            frames.clear();
            for _ in 0..(batch + n) / CONNECTIONS {
                template.push(*next, &mut frames);
                *next += 1;
            }
            link.incoming().extend_from_slice(&frames);
            while let Some(packet) = link.decode().map_err(io::Error::other)? {
                inbox.push_back(Input::Received { conn: ConnId::accepted(n), packet });
            }
        }
        let patience = node.clock_mut().now().mono;
        while node.network_mut().packets < *next {
            node.turn(inbox);
            if node.clock_mut().now().mono.since(patience).as_secs() > 10 {
                return Err(io::Error::other("no answer within 10 s"));
            }
        }
        node.network_mut().bytes.clear();
    }
    Ok(())
}
