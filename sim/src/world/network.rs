//! The simulated network: connections that behave like TCP, with a shell at each end that behaves like Gantry's.
//!
//! Whole packets in most runs; in the others bytes between the same [`Link`]s as in production, cut anywhere. Within a
//! connection nothing is lost or reordered while it lasts; it may stall (a cut cable), end at any byte (a reset), or lose
//! its other end without a word (power loss).
//!
//! The shell's part: it decodes what arrives, closes a connection on which nothing was read or written for
//! [`NetworkOptions::idle_limit_s`], gives up a dial after [`DIAL_LIMIT`], and hands out [`Arrival::Drained`] as `io.rs` says.
//!
//! Absent on purpose: names to resolve.

use std::net::SocketAddr;

use gantry_core::io::{CREDIT_BYTES, CloseReason, ConnId, Peer, Protocol};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Link, Packet};

use super::payload::Payload;
use super::{Event, HostId, Observer, World};
use crate::process::Arrival;

/// When the shell closes an idle connection, unless the plan says otherwise.
pub const IDLE_LIMIT_S: u64 = 120;
/// The shell gives up a dial after this, as RocketMQ's clients do (`connectTimeoutMillis`).
const DIAL_LIMIT: Duration = Duration::from_secs(3);
/// TCP sends again at the earliest after this.
const RETRANSMIT_MIN: Duration = Duration::from_millis(200);
/// TCP waits at most this before it sends again.
const RETRANSMIT_MAX: Duration = Duration::from_secs(60);
/// A handshake is sent again after this.
const HANDSHAKE_AGAIN: Duration = Duration::from_secs(1);
/// Frames are cut into so many pieces at most, in runs that cut.
const PIECES_MAX: u64 = 5;

/// How the network of a world behaves.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct NetworkOptions {
    /// Cut what is sent at arbitrary bytes.
    pub cut_frames: bool,
    /// The shell closes a connection that was idle for this long, as RocketMQ does (`serverChannelMaxIdleTimeSeconds`).
    #[serde(default = "usual_idle_limit_s")]
    pub idle_limit_s: u64,
    /// The shortest usual latency of a link is drawn below this, in ns.
    pub latency_nanos_max: u64,
}

/// An end of a connection: the dialler's or the acceptor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EndId {
    conn: usize,
    side: usize,
}

const DIALLER: usize = 0;
const ACCEPTOR: usize = 1;

impl EndId {
    fn other(self) -> EndId {
        EndId { conn: self.conn, side: 1 - self.side }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Payload),
    Fin,
    Reset,
}

/// What is scheduled on the network.
#[derive(Debug)]
pub(super) enum NetworkEvent {
    /// A connection request reaches its host.
    Request { conn: usize },
    /// Its acceptance reaches the dialler.
    Accepted { conn: usize },
    /// Its refusal reaches the dialler, or it was given up.
    DialFailed { conn: usize },
    /// A segment sent by `from` reaches the other end.
    Arrive { from: EndId, segment: Segment },
    /// TCP sends again what was held up by a cut.
    Retransmit { from: EndId },
    /// The idle limit may have been reached.
    Idle { end: EndId },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Of an acceptor: not there yet. Of a dialler: waits for acceptance.
    Opening,
    Open,
    /// Gone: what arrives is answered with a reset.
    Closed,
}

struct End {
    host: HostId,
    name: ConnId,
    state: State,
    link: Link,
    /// Of this turn and not sent yet.
    unsent: Payload,
    /// Cost sent since the last [`Arrival::Drained`].
    cost: u64,
    /// Segments under way to the other end.
    under_way: u32,
    /// Arrival of the last segment sent.
    last_arrival: Instant,
    /// Sent, and held up by a cut.
    stuck: Vec<Segment>,
    /// Sent to a host without power: answered by a reset when it is back.
    into_void: bool,
    /// Arrived at a process that stands still.
    unread: Vec<Segment>,
    /// Last read or write by the shell.
    last_io: Instant,
}

struct Conn {
    peer: Option<(HostId, Protocol)>,
    protocol: Protocol,
    ends: [End; 2],
}

/// A direction between two hosts.
#[derive(Clone, Copy, Default)]
struct Path {
    latency_nanos: u64,
    extra_nanos: u64,
    /// How long a KiB takes beside.
    nanos_per_kib: u64,
    cuts: u32,
    cut_since: Instant,
}

/// Connections and the state of the wires.
pub(super) struct Network {
    conns: Vec<Conn>,
    hosts: usize,
    paths: Vec<Path>,
    cut_frames: bool,
    idle_limit: Duration,
    dirty: Vec<EndId>,
}

fn usual_idle_limit_s() -> u64 {
    IDLE_LIMIT_S
}

impl Network {
    pub(super) fn new(hosts: usize, options: &NetworkOptions, root: &Rng) -> Network {
        let mut rng = root.fork("wires");
        let mut paths = vec![Path::default(); hosts * hosts];
        for path in &mut paths {
            path.latency_nanos = 20_000 + rng.below(options.latency_nanos_max);
        }
        Network {
            conns: Vec::new(),
            hosts,
            paths,
            cut_frames: options.cut_frames,
            idle_limit: Duration::from_secs(options.idle_limit_s),
            dirty: Vec::new(),
        }
    }

    fn path(&mut self, from: HostId, to: HostId) -> &mut Path {
        &mut self.paths[from.0 * self.hosts + to.0]
    }

    fn end(&mut self, id: EndId) -> &mut End {
        &mut self.conns[id.conn].ends[id.side]
    }
}

fn new_end((host, name): (HostId, ConnId), protocol: Protocol, as_bytes: bool, now: Instant) -> End {
    End {
        host,
        name,
        state: State::Opening,
        link: Link::new(protocol),
        unsent: Payload::new(as_bytes),
        cost: 0,
        under_way: 0,
        last_arrival: Instant::ZERO,
        stuck: Vec::new(),
        into_void: false,
        unread: Vec::new(),
        last_io: now,
    }
}

fn nanos_per_kib(bytes_per_s: u64) -> u64 {
    1024 * 1_000_000_000 / bytes_per_s.max(1)
}

/// What the accepting side speaks when the dialler speaks `protocol`.
fn accepting(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Remoting => Protocol::Remoting,
        Protocol::HaSlave => Protocol::HaMaster,
        Protocol::HaMaster => Protocol::HaSlave,
    }
}

impl<O: Observer> World<O> {
    pub(super) fn on_network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Request { conn } => self.on_request(conn),
            NetworkEvent::Accepted { conn } => self.on_accepted(conn),
            NetworkEvent::DialFailed { conn } => self.on_dial_failed(conn),
            NetworkEvent::Arrive { from, segment } => self.on_arrive(from, segment),
            NetworkEvent::Retransmit { from } => self.on_retransmit(from),
            NetworkEvent::Idle { end } => self.on_idle(end),
        }
    }

    fn plan(&mut self, at: Instant, event: NetworkEvent) {
        self.engine.schedule(at, Event::Network(event));
    }

    /// When something sent now from one host reaches another.
    fn arrival(&mut self, from: HostId, to: HostId) -> Instant {
        let path = *self.network.path(from, to);
        let rng = &mut self.hosts[from.0].network_rng;
        let mut nanos = path.latency_nanos + path.extra_nanos + rng.below(path.latency_nanos / 4 + 1);
        if rng.one_in(500) {
            nanos += rng.below(200_000_000);
        }
        self.engine.now() + Duration::from_nanos(nanos)
    }

    fn is_cut(&mut self, from: HostId, to: HostId) -> bool {
        self.network.path(from, to).cuts > 0
    }

    // Dialling.

    pub(super) fn dial(&mut self, id: HostId, name: ConnId, peer: &Peer) {
        let now = self.engine.now();
        let address: Option<SocketAddr> = peer.address.parse().ok();
        let target = address.and_then(|address| {
            let host = self.host_at(address)?;
            let speaks = accepting(peer.protocol);
            self.hosts[host.0].plan.listens.contains(&(address.port(), speaks)).then_some((host, speaks))
        });
        let conn = self.network.conns.len();
        let to = target.map_or(id, |(host, _)| host);
        let as_bytes = self.network.cut_frames;
        let dialler = new_end((id, name), peer.protocol, as_bytes, now);
        let acceptor = new_end((to, ConnId(0)), accepting(peer.protocol), as_bytes, now);
        let ends = [dialler, acceptor];
        self.network.conns.push(Conn { peer: target, protocol: peer.protocol, ends });
        let before = self.hosts[id.0].conns.insert(name, EndId { conn, side: DIALLER });
        assert!(before.is_none(), "the machine used the name {name:?} twice");
        let at = self.arrival(id, to);
        if self.hosts[id.0].without_descriptors > 0 {
            return self.plan(at, NetworkEvent::DialFailed { conn });
        }
        self.plan(at, NetworkEvent::Request { conn });
        self.plan(now + DIAL_LIMIT, NetworkEvent::DialFailed { conn });
    }

    fn on_request(&mut self, conn: usize) {
        let from = self.network.conns[conn].ends[DIALLER].host;
        if self.network.conns[conn].ends[DIALLER].state != State::Opening {
            return;
        }
        let Some((to, protocol)) = self.network.conns[conn].peer else {
            let at = self.arrival(from, from);
            return self.plan(at, NetworkEvent::DialFailed { conn });
        };
        if self.is_cut(from, to) || !self.hosts[to.0].powered {
            let at = self.engine.now() + HANDSHAKE_AGAIN;
            return self.plan(at, NetworkEvent::Request { conn });
        }
        let at = self.arrival(to, from);
        let takes_nobody = self.hosts[to.0].refusals > 0 || self.hosts[to.0].without_descriptors > 0;
        if self.hosts[to.0].process.is_none() || takes_nobody {
            // The refusal may get lost on its way; the dial then runs into its limit.
            if !self.is_cut(to, from) {
                self.plan(at, NetworkEvent::DialFailed { conn });
            }
            return;
        }
        let now = self.engine.now();
        let port = 40_000 + (conn % 20_000) as u16;
        let peer = SocketAddr::new(self.hosts[from.0].plan.ip.into(), port);
        let host = &mut self.hosts[to.0];
        let name = ConnId::accepted(host.accepted);
        host.accepted += 1;
        host.conns.insert(name, EndId { conn, side: ACCEPTOR });
        if let Some(process) = &mut host.process {
            process.push(Arrival::Opened(name, peer, protocol));
        }
        let end = &mut self.network.conns[conn].ends[ACCEPTOR];
        end.name = name;
        end.state = State::Open;
        end.last_io = now;
        // Nothing that the acceptor sends may overtake its acceptance.
        end.last_arrival = at;
        self.stats.connections += 1;
        self.plan(now + self.network.idle_limit, NetworkEvent::Idle { end: EndId { conn, side: ACCEPTOR } });
        self.plan(at, NetworkEvent::Accepted { conn });
        self.wake(to);
    }

    fn on_accepted(&mut self, conn: usize) {
        let now = self.engine.now();
        let [dialler, acceptor] = &self.network.conns[conn].ends;
        let (from, to, name) = (dialler.host, acceptor.host, dialler.name);
        if dialler.state != State::Opening {
            let reset = NetworkEvent::Arrive { from: EndId { conn, side: DIALLER }, segment: Segment::Reset };
            let at = self.arrival(from, to);
            return self.plan(at, reset);
        }
        if self.is_cut(to, from) {
            return self.plan(now + HANDSHAKE_AGAIN, NetworkEvent::Accepted { conn });
        }
        let Some((_, _)) = self.network.conns[conn].peer else { return };
        let protocol = self.network.conns[conn].protocol;
        let peer = self.address_of(to, protocol);
        let end = &mut self.network.conns[conn].ends[DIALLER];
        end.state = State::Open;
        end.last_io = now;
        self.push(from, Arrival::Opened(name, peer, protocol));
        self.plan(now + self.network.idle_limit, NetworkEvent::Idle { end: EndId { conn, side: DIALLER } });
    }

    /// Where a host listens for diallers that speak `protocol`.
    fn address_of(&self, id: HostId, protocol: Protocol) -> SocketAddr {
        let plan = &self.hosts[id.0].plan;
        let port =
            plan.listens.iter().find(|(_, speaks)| *speaks == accepting(protocol)).map_or(0, |found| found.0);
        SocketAddr::new(plan.ip.into(), port)
    }

    fn on_dial_failed(&mut self, conn: usize) {
        let end = EndId { conn, side: DIALLER };
        if self.network.end(end).state == State::Opening {
            self.end_connection(end, CloseReason::DialFailed);
        }
    }

    // Sending.

    pub(super) fn send(&mut self, id: HostId, name: ConnId, packet: Packet) {
        let Some(&end_id) = self.hosts[id.0].conns.get(&name) else { return };
        let end = self.network.end(end_id);
        if end.state != State::Open {
            return;
        }
        end.cost += packet.cost();
        let fresh = end.unsent.is_empty();
        end.unsent.push(packet);
        if fresh {
            self.network.dirty.push(end_id);
        }
    }

    /// Sends what a turn left on each connection.
    pub(super) fn flush(&mut self, _id: HostId) {
        let dirty = std::mem::take(&mut self.network.dirty);
        for end in &dirty {
            self.flush_end(*end);
        }
        self.network.dirty = dirty;
        self.network.dirty.clear();
    }

    fn flush_end(&mut self, id: EndId) {
        let now = self.engine.now();
        let end = self.network.end(id);
        if end.unsent.is_empty() || end.state != State::Open {
            return;
        }
        let payload = end.unsent.take();
        end.last_io = now;
        let host = end.host;
        let mut bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Packets(_) => return self.transmit(id, Segment::Data(payload)),
        };
        let pieces = self.hosts[host.0].network_rng.below(PIECES_MAX);
        for _ in 0..pieces {
            let at = self.hosts[host.0].network_rng.below(bytes.len() as u64) as usize;
            let rest = bytes.split_off(at);
            if !bytes.is_empty() {
                self.transmit(id, Segment::Data(Payload::Bytes(bytes)));
            }
            bytes = rest;
        }
        self.transmit(id, Segment::Data(Payload::Bytes(bytes)));
    }

    fn transmit(&mut self, from: EndId, segment: Segment) {
        let (host, to) = (self.network.end(from).host, self.network.end(from.other()).host);
        let arrival = self.arrival(host, to);
        let nanos_per_kib = self.network.path(host, to).nanos_per_kib;
        let end = self.network.end(from);
        // First in, first out, and a reset may overtake.
        let at = match &segment {
            Segment::Data(payload) => {
                end.under_way += 1;
                let takes = Duration::from_nanos(payload.size() * nanos_per_kib / 1024);
                arrival.max(end.last_arrival) + takes
            }
            Segment::Fin => arrival.max(end.last_arrival),
            Segment::Reset => arrival,
        };
        end.last_arrival = at.max(end.last_arrival);
        self.plan(at, NetworkEvent::Arrive { from, segment });
    }

    // Arriving.

    fn on_arrive(&mut self, from: EndId, segment: Segment) {
        let (source, target) = (self.network.end(from).host, self.network.end(from.other()).host);
        let cut = self.is_cut(source, target);
        let end = self.network.end(from);
        if cut || !end.stuck.is_empty() {
            end.stuck.push(segment);
            return;
        }
        self.receive(from, segment);
    }

    fn receive(&mut self, from: EndId, segment: Segment) {
        let to = from.other();
        let target = self.network.end(to).host;
        if !self.hosts[target.0].powered {
            self.network.end(from).into_void = true;
            return;
        }
        if self.network.end(to).state != State::Open {
            if matches!(segment, Segment::Data(_)) {
                self.transmit(to, Segment::Reset);
            }
            return;
        }
        if self.hosts[target.0].paused || self.hosts[target.0].deafness > 0 {
            self.network.end(to).unread.push(segment);
            return;
        }
        match segment {
            Segment::Data(payload) => self.deliver(from, payload),
            Segment::Fin | Segment::Reset => self.end_connection(to, CloseReason::Peer),
        }
    }

    fn deliver(&mut self, from: EndId, payload: Payload) {
        let now = self.engine.now();
        payload.digest(&mut self.digest);
        self.stats.bytes += payload.size();
        let sender = self.network.end(from);
        sender.under_way -= 1;
        let drained = sender.under_way == 0 && sender.unsent.is_empty() && sender.cost >= CREDIT_BYTES;
        let (sender_host, sender_name, sender_open) = (sender.host, sender.name, sender.state == State::Open);
        if drained {
            sender.cost = 0;
            if sender_open {
                self.push(sender_host, Arrival::Drained(sender_name));
            }
        }
        let end = self.network.end(from.other());
        end.last_io = now;
        let (host, name) = (end.host, end.name);
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Packets(packets) => {
                return packets
                    .into_iter()
                    .for_each(|packet| self.push(host, Arrival::Received(name, packet)));
            }
        };
        end.link.incoming().extend_from_slice(&bytes);
        loop {
            match self.network.end(from.other()).link.decode() {
                Ok(Some(packet)) => self.push(host, Arrival::Received(name, packet)),
                Ok(None) => break,
                Err(_) => {
                    self.transmit(from.other(), Segment::Fin);
                    self.end_connection(from.other(), CloseReason::Protocol);
                    break;
                }
            }
        }
    }

    fn push(&mut self, id: HostId, arrival: Arrival) {
        if let Some(process) = &mut self.hosts[id.0].process {
            process.push(arrival);
            self.wake(id);
        }
    }

    // Closing.

    pub(super) fn close(&mut self, id: HostId, name: ConnId) {
        let Some(&end) = self.hosts[id.0].conns.get(&name) else { return };
        self.flush_end(end);
        if self.network.end(end).state == State::Open {
            self.transmit(end, Segment::Fin);
        }
        self.end_connection(end, CloseReason::Local);
    }

    /// Ends one side and tells its machine.
    fn end_connection(&mut self, id: EndId, why: CloseReason) {
        let end = self.network.end(id);
        end.state = State::Closed;
        end.unsent.clear();
        end.unread.clear();
        let (host, name) = (end.host, end.name);
        self.hosts[host.0].conns.remove(&name);
        self.push(host, Arrival::Closed(name, why));
    }

    fn on_idle(&mut self, id: EndId) {
        let now = self.engine.now();
        let end = self.network.end(id);
        if end.state != State::Open || self.hosts[self.network.conns[id.conn].ends[id.side].host.0].paused {
            // Of a process that stands still: looked at again when it goes on.
            return;
        }
        let due = self.network.end(id).last_io + self.network.idle_limit;
        if now < due {
            return self.plan(due, NetworkEvent::Idle { end: id });
        }
        self.transmit(id, Segment::Fin);
        self.end_connection(id, CloseReason::Idle);
    }

    fn ends_of(&self, id: HostId) -> Vec<EndId> {
        self.hosts[id.0].conns.values().copied().collect()
    }

    /// The kernel closes the connections of a process that died: in order, or with a reset that overtakes what was sent.
    pub(super) fn close_all(&mut self, id: HostId) {
        for end in self.ends_of(id) {
            let was_open = self.network.end(end).state == State::Open;
            self.silence(end);
            if was_open {
                let orderly = self.hosts[id.0].network_rng.one_in(2);
                self.transmit(end, if orderly { Segment::Fin } else { Segment::Reset });
            }
        }
        self.hosts[id.0].conns.clear();
    }

    /// A host without power: nobody is told.
    pub(super) fn fall_silent(&mut self, id: HostId) {
        self.hosts[id.0].powered = false;
        for end in self.ends_of(id) {
            self.silence(end);
        }
        self.hosts[id.0].conns.clear();
    }

    fn silence(&mut self, id: EndId) {
        let end = self.network.end(id);
        end.state = State::Closed;
        end.unsent.clear();
        end.unread.clear();
    }

    /// The power is back: what peers sent meanwhile is sent again and answered with a reset.
    pub(super) fn answer_void(&mut self, id: HostId, silent_since: Instant) {
        for conn in 0..self.network.conns.len() {
            for side in [DIALLER, ACCEPTOR] {
                let from = EndId { conn, side };
                let end = self.network.end(from);
                if !end.into_void || end.state != State::Open || self.network.end(from.other()).host != id {
                    continue;
                }
                self.network.end(from).into_void = false;
                let at = self.retransmission(id, silent_since);
                let reset = NetworkEvent::Arrive { from: from.other(), segment: Segment::Reset };
                self.plan(at, reset);
            }
        }
    }

    /// When TCP next sends again after an outage: it waits twice as long each time.
    fn retransmission(&mut self, id: HostId, since: Instant) -> Instant {
        let now = self.engine.now();
        let outage = (now - since).clamp(RETRANSMIT_MIN, RETRANSMIT_MAX);
        now + Duration::from_nanos(self.hosts[id.0].network_rng.below(outage.as_nanos() as u64))
    }

    /// Both ends of every connection between two hosts see a reset now.
    pub(super) fn reset_between(&mut self, a: HostId, b: HostId) {
        for end in self.ends_of(a) {
            if self.network.end(end.other()).host != b {
                continue;
            }
            for side in [end, end.other()] {
                if self.network.end(side).state == State::Open {
                    self.end_connection(side, CloseReason::Peer);
                }
            }
        }
    }

    /// Connections between two hosts end at `gone`; at `open` nobody hears of it before something is sent.
    pub(super) fn forget_between(&mut self, open: HostId, gone: HostId) {
        for end in self.ends_of(gone) {
            let other = end.other();
            let is_whole = [end, other].iter().all(|side| self.network.end(*side).state == State::Open);
            if is_whole && self.network.end(other).host == open {
                self.end_connection(end, CloseReason::Peer);
            }
        }
    }

    // The state of the wires.

    pub(super) fn cut(&mut self, from: HostId, to: HostId) {
        let now = self.engine.now();
        let path = self.network.path(from, to);
        path.cuts += 1;
        if path.cuts == 1 {
            path.cut_since = now;
        }
    }

    pub(super) fn mend(&mut self, from: HostId, to: HostId) {
        let path = self.network.path(from, to);
        path.cuts -= 1;
        if path.cuts > 0 {
            return;
        }
        let since = path.cut_since;
        for conn in 0..self.network.conns.len() {
            for side in [DIALLER, ACCEPTOR] {
                let id = EndId { conn, side };
                let end = &self.network.conns[conn].ends[side];
                if end.stuck.is_empty() || end.host != from || self.network.end(id.other()).host != to {
                    continue;
                }
                let at = self.retransmission(from, since);
                self.plan(at, NetworkEvent::Retransmit { from: id });
            }
        }
    }

    fn on_retransmit(&mut self, from: EndId) {
        let (source, target) = (self.network.end(from).host, self.network.end(from.other()).host);
        if self.is_cut(source, target) {
            return;
        }
        for segment in std::mem::take(&mut self.network.end(from).stuck) {
            self.receive(from, segment);
        }
    }

    pub(super) fn slow_down(&mut self, a: HostId, b: HostId, nanos: u64) {
        self.network.path(a, b).extra_nanos += nanos;
        self.network.path(b, a).extra_nanos += nanos;
    }

    pub(super) fn speed_up(&mut self, a: HostId, b: HostId, nanos: u64) {
        self.network.path(a, b).extra_nanos -= nanos;
        self.network.path(b, a).extra_nanos -= nanos;
    }

    pub(super) fn narrow(&mut self, a: HostId, b: HostId, bytes_per_s: u64) {
        self.network.path(a, b).nanos_per_kib += nanos_per_kib(bytes_per_s);
        self.network.path(b, a).nanos_per_kib += nanos_per_kib(bytes_per_s);
    }

    pub(super) fn widen(&mut self, a: HostId, b: HostId, bytes_per_s: u64) {
        self.network.path(a, b).nanos_per_kib -= nanos_per_kib(bytes_per_s);
        self.network.path(b, a).nanos_per_kib -= nanos_per_kib(bytes_per_s);
    }

    /// A process goes on after a pause: its shell finds readable sockets and passed timers, in either order.
    pub(super) fn read_unread(&mut self, id: HostId) {
        for end in self.ends_of(id) {
            if self.hosts[id.0].network_rng.one_in(4) {
                self.on_idle(end);
            }
            for segment in std::mem::take(&mut self.network.end(end).unread) {
                self.receive(end.other(), segment);
            }
            let at = self.engine.now();
            self.plan(at, NetworkEvent::Idle { end });
        }
    }
}
