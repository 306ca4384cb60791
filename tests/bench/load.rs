//! The load: so many connections, on each so many requests in flight, from one thread.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::echo::write_all;
use crate::frame::{Template, count_replies};

const READ_BYTES: usize = 256 * 1024;

/// How many connections, and how many requests in flight on each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let parse = || {
            let (connections, in_flight) = text.split_once('x')?;
            Some(Shape { connections: connections.parse().ok()?, in_flight: in_flight.parse().ok()? })
        };
        parse().ok_or_else(|| format!("`{text}` is not of the form 64x1"))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.connections, self.in_flight)
    }
}

/// Whom to load and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:10911")]
    server: SocketAddr,
    /// Connections x requests in flight on each.
    #[arg(long, default_value = "64x1")]
    shape: Shape,
    /// For how long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The topic sent to.
    #[arg(long, default_value = "SpeedTest")]
    topic: String,
}

pub(crate) fn main(options: &Options) -> io::Result<()> {
    let mut load = Load::open(options.server, options.shape, &options.topic)?;
    let told = load.run_for(Duration::from_secs_f64(options.seconds))?;
    println!(
        "{:.0} messages/s, p50 {} us, p99 {} us, {} failed",
        told.messages as f64 / told.seconds,
        told.quantile(0.5).as_micros(),
        told.quantile(0.99).as_micros(),
        told.failures
    );
    Ok(())
}

/// What a stretch of load saw.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) messages: usize,
    pub(crate) failures: usize,
    pub(crate) seconds: f64,
    /// From the last write of a connection to the read of its first reply, sorted.
    latencies: Vec<Duration>,
}

impl Told {
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        let at = ((self.latencies.len() as f64 * q) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Open connections, their requests in flight.
pub(crate) struct Load {
    poller: OwnedFd,
    clients: Vec<Client>,
    template: Template,
    next: u64,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// Bytes of a reply that is not whole yet.
    partial: Vec<u8>,
    sent: Instant,
}

impl Load {
    pub(crate) fn open(server: SocketAddr, shape: Shape, topic: &str) -> io::Result<Load> {
        let mut load = Load {
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clients: Vec::new(),
            template: Template::new(topic),
            next: 0,
            input: vec![0; READ_BYTES],
            output: Vec::new(),
        };
        for n in 0..shape.connections {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&load.poller, &stream, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)?;
            load.clients.push(Client { stream, partial: Vec::new(), sent: Instant::now() });
        }
        for n in 0..shape.connections {
            load.send(n, shape.in_flight)?;
        }
        Ok(load)
    }

    fn send(&mut self, client: usize, count: usize) -> io::Result<()> {
        self.output.clear();
        for _ in 0..count {
            self.template.push(self.next, &mut self.output);
            self.next += 1;
        }
        self.clients[client].sent = Instant::now();
        write_all(&self.clients[client].stream, &self.output)
    }

    /// Keeps the load up for so long; what is in flight at the end stays so.
    pub(crate) fn run_for(&mut self, time: Duration) -> io::Result<Told> {
        let mut told = Told::default();
        let begin = Instant::now();
        let mut events =
            vec![epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut last = begin;
        while begin.elapsed() < time {
            let count = epoll::wait(&self.poller, &mut events[..], Some(&patience))?;
            if count == 0 && last.elapsed() > Duration::from_secs(20) {
                return Err(io::Error::other("no reply for 20 s"));
            }
            for event in &events[..count] {
                last = Instant::now();
                self.take_replies(event.data.u64() as usize, &mut told)?;
            }
        }
        told.seconds = begin.elapsed().as_secs_f64();
        told.latencies.sort_unstable();
        Ok(told)
    }

    fn take_replies(&mut self, n: usize, told: &mut Told) -> io::Result<()> {
        let client = &mut self.clients[n];
        let bytes = match client.stream.read(&mut self.input) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let (replies, failures, _) = if client.partial.is_empty() {
            let counted = count_replies(&self.input[..bytes]);
            client.partial.extend_from_slice(&self.input[counted.2..bytes]);
            counted
        } else {
            client.partial.extend_from_slice(&self.input[..bytes]);
            let counted = count_replies(&client.partial);
            client.partial.drain(..counted.2);
            counted
        };
        if replies > 0 {
            told.messages += replies;
            told.failures += failures;
            told.latencies.push(client.sent.elapsed());
            self.send(n, replies)?;
        }
        Ok(())
    }
}

/// Sends `count` requests one after the other, each on its own, and gives the last reply.
pub(crate) fn last_reply(server: SocketAddr, topic: &str, count: u64) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut template = Template::new(topic);
    let mut reply = Vec::new();
    for n in 0..count {
        let mut request = Vec::new();
        template.push(n, &mut request);
        write_all(&stream, &request)?;
        let mut len = [0; 4];
        (&stream).read_exact(&mut len)?;
        reply = vec![0; u32::from_be_bytes(len) as usize];
        (&stream).read_exact(&mut reply)?;
        reply.splice(0..0, len);
    }
    if count_replies(&reply).1 > 0 {
        return Err(io::Error::other(format!("the send failed: {}", String::from_utf8_lossy(&reply))));
    }
    Ok(reply)
}
