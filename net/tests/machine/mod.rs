//! A machine that does what its requests say, to try the shell with.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::io::{CREDIT_BYTES, CloseReason, ConnId, Effect, Env, Input, Machine, Now, Peer, Protocol};
use gantry_core::rng::Rng;
use gantry_core::time::Instant;
use gantry_core::wire::{Command, Ext, Link, Packet};
use gantry_disk::MemoryDisk;
use gantry_net::config::Limits;
use gantry_net::driver::{Flow, Listen, Notice, Service, ServiceError, run};
use gantry_net::{Counters, Mailbox};

/// What a request asks for, by its code.
pub mod ask {
    /// Its body back.
    pub const ECHO: i32 = 1;
    /// Fail, and start again.
    pub const FAIL_AND_RESTART: i32 = 2;
    /// Fail for good.
    pub const FAIL: i32 = 3;
    /// Its body back, then the end of the connection.
    pub const CLOSE: i32 = 4;
    /// As many chunks as the body says, within the credit.
    pub const STREAM: i32 = 5;
    /// A dial to the address in the body, and its outcome.
    pub const DIAL: i32 = 6;
    /// Its body back after [`super::PAUSE`].
    pub const LATER: i32 = 7;
    /// As many chunks as the body says, at once.
    pub const FLOOD: i32 = 8;
}

pub const PAUSE: Duration = Duration::from_millis(30);
pub const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Stop;

#[derive(Debug, PartialEq)]
pub enum Event {
    Closed(ConnId, CloseReason),
    Stopped,
}

#[derive(Default)]
pub struct Scripted {
    streams: Vec<Stream>,
    dials: Vec<(ConnId, ConnId, Command)>,
    dialled: u64,
    later: Vec<(Instant, ConnId, Command)>,
}

struct Stream {
    conn: ConnId,
    request: Command,
    chunks_left: usize,
    credit: u64,
}

type TestEnv<'a, 'b> = &'a mut Env<'b, MemoryDisk, Event>;

impl Scripted {
    fn on_request(&mut self, now: Now, conn: ConnId, request: Command, env: TestEnv<'_, '_>) {
        let reply = Command::response(&request, 0, Ext::None).with_body(request.body.clone());
        let number = || std::str::from_utf8(&request.body).unwrap().parse::<usize>().unwrap();
        match request.code {
            ask::ECHO => env.send(conn, reply),
            ask::FAIL_AND_RESTART | ask::FAIL => env.out.push(Effect::Fail {
                reason: String::from("told to"),
                restart: request.code == ask::FAIL_AND_RESTART,
            }),
            ask::CLOSE => {
                env.send(conn, reply);
                env.out.push(Effect::Close { conn });
            }
            ask::STREAM => {
                let chunks_left = number();
                self.streams.push(Stream { conn, request, chunks_left, credit: CREDIT_BYTES });
            }
            ask::FLOOD => {
                for _ in 0..number() {
                    env.send(conn, reply.clone().with_body(vec![0; CHUNK_BYTES]));
                }
            }
            ask::DIAL => {
                let address = String::from_utf8(request.body.to_vec()).unwrap();
                let peer = Peer { address: address.into(), protocol: Protocol::Remoting };
                let dialled = ConnId::dialled(self.dialled);
                self.dialled += 1;
                self.dials.push((dialled, conn, request));
                env.out.push(Effect::Dial { conn: dialled, peer });
            }
            ask::LATER => self.later.push((now.mono + PAUSE, conn, reply)),
            code => panic!("request {code}"),
        }
    }

    fn on_dial_end(&mut self, dialled: ConnId, outcome: &'static str, env: TestEnv<'_, '_>) {
        if let Some(at) = self.dials.iter().position(|(id, _, _)| *id == dialled) {
            let (_, asker, request) = self.dials.remove(at);
            env.send(asker, Command::response(&request, 0, Ext::None).with_body(outcome.as_bytes()));
        }
    }
}

impl Machine<MemoryDisk> for Scripted {
    type Command = Stop;
    type Event = Event;

    fn step(&mut self, now: Now, input: Input<Stop>, env: TestEnv<'_, '_>) {
        match input {
            Input::Opened { conn, .. } => self.on_dial_end(conn, "opened", env),
            Input::Received { conn, packet: Packet::Command(request) } => {
                self.on_request(now, conn, request, env)
            }
            Input::Closed { conn, why } => {
                self.on_dial_end(conn, "failed", env);
                self.streams.retain(|stream| stream.conn != conn);
                env.out.push(Effect::Emit(Event::Closed(conn, why)));
            }
            Input::Drained { conn } => {
                for stream in self.streams.iter_mut().filter(|stream| stream.conn == conn) {
                    stream.credit = CREDIT_BYTES;
                }
            }
            Input::Wake => {
                for (at, conn, reply) in std::mem::take(&mut self.later) {
                    if at <= now.mono {
                        env.send(conn, reply);
                    } else {
                        self.later.push((at, conn, reply));
                    }
                }
            }
            Input::Command(Stop) => env.out.push(Effect::Emit(Event::Stopped)),
            Input::Start | Input::Received { .. } | Input::Synced { .. } | Input::Fetched { .. } => {}
        }
    }

    fn settle(&mut self, _now: Now, env: TestEnv<'_, '_>) {
        for stream in &mut self.streams {
            while stream.chunks_left > 0 && stream.credit > 0 {
                let reply = Command::response(&stream.request, 0, Ext::None);
                let packet = Packet::from(reply.with_body(vec![7; CHUNK_BYTES]));
                stream.credit = stream.credit.saturating_sub(packet.cost());
                stream.chunks_left -= 1;
                env.send(stream.conn, packet);
            }
        }
        self.streams.retain(|stream| stream.chunks_left > 0);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.later.iter().map(|(at, _, _)| (*at, "a reply is due")).min()
    }
}

/// A service on a thread of its own.
pub struct Running {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub events: mpsc::Receiver<Event>,
    mailbox: Mailbox<Stop>,
    thread: JoinHandle<Result<(), ServiceError>>,
}

pub fn start(limits: Limits) -> Running {
    let listen =
        Listen { address: ([127, 0, 0, 1], 0).into(), protocol: Protocol::Remoting, setting: "--test-port" };
    start_on(listen, limits).expect("port 0 is free")
}

pub fn start_on(listen: Listen, limits: Limits) -> Result<Running, ServiceError> {
    let (ready_tx, ready) = mpsc::channel();
    let (events_tx, events) = mpsc::channel();
    let mailbox = Mailbox::new();
    let counters = Arc::new(Counters::default());
    let thread = std::thread::spawn({
        let (mailbox, counters) = (mailbox.clone(), Arc::clone(&counters));
        move || {
            let service = Service { name: String::from("test"), listeners: vec![listen], limits };
            run(
                &service,
                &mailbox,
                &counters,
                |_waker| Ok((Scripted::default(), MemoryDisk::new(Rng::from_seed(1)))),
                move |notice| match notice {
                    Notice::Ready(addresses) => {
                        let _ = ready_tx.send(addresses[0]);
                        Flow::Continue
                    }
                    Notice::Event(event) => {
                        let is_last = event == Event::Stopped;
                        let _ = events_tx.send(event);
                        if is_last { Flow::Stop } else { Flow::Continue }
                    }
                },
            )
        }
    });
    match ready.recv() {
        Ok(address) => Ok(Running { address, counters, events, mailbox, thread }),
        Err(_never_ready) => Err(thread.join().unwrap().unwrap_err()),
    }
}

impl Running {
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn stop(self) -> Result<(), ServiceError> {
        self.mailbox.stop(Stop);
        self.join()
    }

    pub fn join(self) -> Result<(), ServiceError> {
        self.thread.join().unwrap()
    }

    pub fn next_event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// A client that blocks.
pub struct Client {
    pub stream: TcpStream,
    link: Link,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client { stream, link: Link::new(Protocol::Remoting) }
    }

    /// What cannot be sent shows in the next [`Client::receive`].
    pub fn send(&mut self, code: i32, opaque: i32, body: impl Into<Bytes>) {
        let _ = self.stream.write_all(&frame(code, opaque, body));
    }

    /// The next packet; none at the end of the stream.
    pub fn receive(&mut self) -> Option<Command> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if let Some(packet) = self.link.decode().unwrap() {
                let Packet::Command(command) = packet else { panic!("{packet:?}") };
                return Some(command);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(bytes) => self.link.incoming().extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn ask(&mut self, code: i32, body: impl Into<Bytes>) -> Option<Bytes> {
        self.send(code, 1, body);
        self.receive().map(|reply| reply.body)
    }

    pub fn echo(&mut self, body: &'static str) {
        assert_eq!(self.ask(ask::ECHO, body).as_deref(), Some(body.as_bytes()));
    }
}

pub fn frame(code: i32, opaque: i32, body: impl Into<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = Command { opaque, ..Command::request(code, Ext::None) };
    Link::encode(&request.with_body(body).into(), &mut bytes);
    bytes
}
