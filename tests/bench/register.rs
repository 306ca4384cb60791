//! What a broker with many topics sends its name server, and what the name server's CPU does with it: the machines of both,
//! with the codec in between.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant as Wall};

use gantry_core::broker::{Broker, BrokerConfig};
use gantry_core::io::{Clock, ConnId, Disk, Input, Machine, Network, Now, Peer, Protocol, SyncId};
use gantry_core::namesrv::{self, NameServer, NameServerConfig};
use gantry_core::node::{Node, Turn};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::body::{self, TopicConfig, TopicConfigSerializeWrapper};
use gantry_core::wire::code::request_code;
use gantry_core::wire::request::{CreateTopicRequest, Header, QueryDataVersionResponse};
use gantry_core::wire::{Command, Link, Packet};
use gantry_disk::MemoryDisk;

use crate::server::cpu_of;

/// How often a broker tells that it lives; twice a minute.
const BEAT: Duration = Duration::from_secs(30);
/// What is measured again and again takes so long in all.
const MEASURED: Duration = Duration::from_millis(500);
const QUEUES: i32 = 8;

/// How many of what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Topics of each broker.
    #[arg(long, default_value_t = 10_000)]
    topics: u32,
    /// Brokers of the name server; each has all the topics.
    #[arg(long, default_value_t = 10)]
    brokers: u32,
}

/// How a broker tells of its topics.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// To a Gantry name server.
    Gantry,
    /// To one of RocketMQ.
    Plain,
    /// As RocketMQ's brokers do: everything, each time, as JSON.
    Forced,
    /// The same with `compressedRegister`.
    ForcedCompressed,
}

const FORMS: [(Form, &str); 4] = [
    (Form::Gantry, "Gantry to Gantry"),
    (Form::Plain, "Gantry to RocketMQ"),
    (Form::Forced, "all, each time, JSON (RocketMQ's default)"),
    (Form::ForcedCompressed, "all, each time, compressed"),
];

struct HandClock(Now);

impl Clock for HandClock {
    fn now(&mut self) -> Now {
        self.0
    }
}

/// Keeps what leaves.
struct Wires<E> {
    sent: Vec<(ConnId, Command)>,
    dialled: Vec<ConnId>,
    event: PhantomData<E>,
}

impl<E> Wires<E> {
    fn new() -> Wires<E> {
        Wires { sent: Vec::new(), dialled: Vec::new(), event: PhantomData }
    }
}

impl<E> Network for Wires<E> {
    type Event = E;

    fn dial(&mut self, conn: ConnId, _peer: &Peer) {
        self.dialled.push(conn);
    }

    fn send(&mut self, conn: ConnId, packet: Packet) {
        if let Packet::Command(command) = packet {
            self.sent.push((conn, command));
        }
    }

    fn close(&mut self, _conn: ConnId) {}

    fn emit(&mut self, _event: E) {}
}

/// A machine with its inbox, driven by hand.
struct Driven<M: Machine<MemoryDisk>> {
    node: Node<M, HandClock, Wires<M::Event>, MemoryDisk>,
    inbox: VecDeque<Input<M::Command>>,
}

impl<M: Machine<MemoryDisk>> Driven<M> {
    fn new(machine: M, mut disk: MemoryDisk, now: Now) -> Driven<M> {
        disk.set_automatic(true);
        let node = Node::new(machine, HandClock(now), Wires::new(), disk, Rng::from_seed(1));
        Driven { node, inbox: VecDeque::new() }
    }

    /// Turns until nothing is due.
    fn run(&mut self) -> io::Result<()> {
        for _ in 0..100_000 {
            let now = self.node.clock_mut().now().mono;
            match self.node.turn(&mut self.inbox) {
                Turn::Idle { deadline } => {
                    if deadline.is_none_or(|(at, _)| at > now) && self.node.disk_mut().pending().count() == 0
                    {
                        return Ok(());
                    }
                }
                Turn::More => {}
                Turn::Failed { reason, .. } => return Err(io::Error::other(reason)),
            }
        }
        Err(io::Error::other("never idle"))
    }

    fn set_time(&mut self, now: Now) {
        self.node.clock_mut().0 = now;
        self.node.disk_mut().set_wall(now.wall);
    }
}

struct Site {
    broker: Driven<Broker>,
    near: ConnId,
    far: ConnId,
    form: Form,
    now: Now,
    /// Bytes of registering.
    registering: usize,
}

fn at(time: Duration) -> Now {
    let nanos = time.as_nanos() as u64;
    Now { mono: Instant::from_nanos(nanos), wall: WallMs(1_700_000_000_000 + time.as_millis() as i64) }
}

fn topics_file(count: u32) -> Vec<u8> {
    let topic = |n: u32| {
        let name = format!("application-{n:06}-events");
        let config = TopicConfig {
            topic_name: name.clone(),
            read_queue_nums: QUEUES,
            write_queue_nums: QUEUES,
            ..TopicConfig::default()
        };
        (name, config)
    };
    body::encode(&TopicConfigSerializeWrapper {
        topic_config_table: (0..count).map(topic).collect(),
        ..TopicConfigSerializeWrapper::default()
    })
}

impl Site {
    fn new(n: u32, topics: &[u8], form: Form, server: &mut Driven<NameServer>) -> io::Result<Site> {
        let mut config =
            BrokerConfig::new(format!("broker-{n:02}"), ([127, 0, 0, 1], 10_911 + n as u16).into());
        config.namesrv_addrs = vec!["ns:9876".into()];
        config.ha_addr = format!("127.0.0.1:{}", 20_911 + n);
        config.force_register = matches!(form, Form::Forced | Form::ForcedCompressed);
        config.compressed_register = !matches!(form, Form::Forced);
        config.store.segment_bytes = 1 << 20;
        let mut disk = MemoryDisk::new(Rng::from_seed(2));
        disk.set_automatic(true);
        disk.replace(SyncId(u64::MAX), "config/topics.json", topics.to_vec().into());
        disk.complete_all();
        disk.reap(&mut Vec::new());
        let now = at(Duration::from_secs(1));
        let mut broker = Driven::new(Broker::new(config), disk, now);
        broker.run()?;
        let near =
            broker.node.network_mut().dialled.pop().ok_or_else(|| io::Error::other("nobody is dialled"))?;
        let mut site = Site { broker, near, far: ConnId::accepted(u64::from(n)), form, now, registering: 0 };
        let peer = ([127, 0, 0, 1], 9876).into();
        site.broker.inbox.push_back(Input::Opened { conn: near, peer, protocol: Protocol::Remoting });
        site.registering = total(&site.talk(server)?);
        Ok(site)
    }

    /// What the broker has to say now, as it goes over the wire; the server answers.
    fn talk(&mut self, server: &mut Driven<NameServer>) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            self.broker.run()?;
            let sent = std::mem::take(&mut self.broker.node.network_mut().sent);
            let requests: Vec<Command> =
                sent.into_iter().filter(|(to, _)| *to == self.near).map(|(_, command)| command).collect();
            if requests.is_empty() {
                return Ok(frames);
            }
            for request in requests {
                let mut frame = Vec::new();
                Link::encode(&Packet::Command(request), &mut frame);
                for mut answer in feed(server, self.far, &frame)? {
                    if let Ok(told) = QueryDataVersionResponse::decode(&answer.ext)
                        && !matches!(self.form, Form::Gantry)
                    {
                        let plain = QueryDataVersionResponse { takes_changes: None, ..told };
                        answer.ext = plain.to_ext();
                    }
                    let packet = Packet::Command(answer);
                    self.broker.inbox.push_back(Input::Received { conn: self.near, packet });
                }
                frames.push(frame);
            }
        }
    }

    fn beat(&mut self, server: &mut Driven<NameServer>) -> io::Result<Vec<Vec<u8>>> {
        self.now = at(Duration::from_nanos(self.now.mono.as_nanos()) + BEAT);
        self.broker.set_time(self.now);
        server.set_time(self.now);
        self.talk(server)
    }

    fn make_topic(&mut self, name: &str, server: &mut Driven<NameServer>) -> io::Result<Vec<Vec<u8>>> {
        let header = CreateTopicRequest {
            topic: name.into(),
            default_topic: "TBW102".into(),
            read_queue_nums: QUEUES,
            write_queue_nums: QUEUES,
            perm: 6,
            topic_filter_type: "SINGLE_TAG".into(),
            ..CreateTopicRequest::default()
        };
        let request = Command::request(request_code::UPDATE_AND_CREATE_TOPIC, header.to_ext());
        let conn = ConnId::accepted(1);
        self.broker.inbox.push_back(Input::Received { conn, packet: Packet::Command(request) });
        self.talk(server)
    }
}

/// The server reads a frame; its answers.
fn feed(server: &mut Driven<NameServer>, conn: ConnId, frame: &[u8]) -> io::Result<Vec<Command>> {
    let mut link = Link::new(Protocol::Remoting);
    link.incoming().extend_from_slice(frame);
    while let Some(packet) = link.decode().map_err(io::Error::other)? {
        server.inbox.push_back(Input::<namesrv::Command>::Received { conn, packet });
    }
    server.run()?;
    Ok(std::mem::take(&mut server.node.network_mut().sent).into_iter().map(|(_, answer)| answer).collect())
}

fn name_server() -> io::Result<Driven<NameServer>> {
    let disk = MemoryDisk::new(Rng::from_seed(3));
    let mut server =
        Driven::new(NameServer::new(NameServerConfig::default()), disk, at(Duration::from_secs(1)));
    server.run()?;
    Ok(server)
}

fn total(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(Vec::len).sum()
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let file = topics_file(options.topics);
    println!("{} topics of {QUEUES} queues: bytes to one name server", options.topics);
    println!("{:44} {:>12} {:>12} {:>12}", "", "registering", "a beat", "a new topic");
    for (form, name) in FORMS {
        let mut server = name_server()?;
        let mut site = Site::new(0, &file, form, &mut server)?;
        let beat = total(&site.beat(&mut server)?);
        let change = total(&site.make_topic("one-more", &mut server)?);
        let after = total(&site.beat(&mut server)?);
        println!("{name:44} {:>12} {beat:>12} {change:>12}   (the beat after it: {after})", site.registering);
    }
    println!();
    println!("CPU of a name server with {} such brokers, a minute", options.brokers);
    let mut least = None;
    for (form, name) in FORMS {
        let cpu = cpu_of_minute(options, &file, form)?;
        let least = *least.get_or_insert(cpu);
        println!("{name:44} {:>12.3} ms {:>10.0} times", cpu * 1e3, cpu / least);
    }
    Ok(())
}

/// Seconds that the server computes while its brokers beat twice.
fn cpu_of_minute(options: &Options, file: &[u8], form: Form) -> io::Result<f64> {
    let mut server = name_server()?;
    let mut beats = Vec::new();
    for n in 0..options.brokers {
        let mut site = Site::new(n, file, form, &mut server)?;
        beats.push((site.far, site.beat(&mut server)?));
    }
    let (begin, cpu) = (Wall::now(), cpu_of(std::process::id())?);
    let mut times = 0;
    while times == 0 || begin.elapsed() < MEASURED {
        for (conn, frames) in &beats {
            for frame in frames {
                feed(&mut server, *conn, frame)?;
            }
        }
        times += 1;
    }
    Ok((cpu_of(std::process::id())? - cpu).as_secs_f64() * 2.0 / f64::from(times))
}
