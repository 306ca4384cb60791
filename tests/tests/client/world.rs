//! Name servers, brokers and clients in one deterministic world: real machines, real bytes between them, and a clock that the
//! test moves. Nothing takes time unless a peer is frozen.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gantry_core::broker::{Broker, BrokerConfig};
use gantry_core::client::{Client, ClientCommand, ClientConfig, ClientEvent};
use gantry_core::io::{Clock, CloseReason, ConnId, Input, Machine, Network, Now, Peer, Protocol};
use gantry_core::namesrv::{NameServer, NameServerConfig};
use gantry_core::node::{Node, Turn};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::{Command, Link, Packet};
use gantry_disk::MemoryDisk;

const START_WALL_MS: i64 = 1_700_000_000_000;

#[derive(Clone)]
struct SharedClock(Rc<Cell<Now>>);

impl Clock for SharedClock {
    fn now(&mut self) -> Now {
        self.0.get()
    }
}

enum Out {
    Dial(ConnId, Peer),
    Send(ConnId, Packet),
    Close(ConnId),
}

struct Wires<E> {
    out: Vec<Out>,
    events: Vec<E>,
}

impl<E> Network for Wires<E> {
    type Event = E;

    fn dial(&mut self, conn: ConnId, peer: &Peer) {
        self.out.push(Out::Dial(conn, peer.clone()));
    }

    fn send(&mut self, conn: ConnId, packet: Packet) {
        self.out.push(Out::Send(conn, packet));
    }

    fn close(&mut self, conn: ConnId) {
        self.out.push(Out::Close(conn));
    }

    fn emit(&mut self, event: E) {
        self.events.push(event);
    }
}

/// What comes to a node from the network.
enum Arrival {
    Opened(ConnId, SocketAddr, Protocol),
    Packet(ConnId, Packet),
    Closed(ConnId, CloseReason),
}

pub(crate) struct Host<M: Machine<MemoryDisk>> {
    node: Node<M, SharedClock, Wires<M::Event>, MemoryDisk>,
    inbox: VecDeque<Input<M::Command>>,
}

trait Runs {
    /// A turn, if anything is due; what it sent, or `None` when nothing was due.
    fn run(&mut self, now: Instant) -> Option<Vec<Out>>;
    fn arrive(&mut self, arrival: Arrival);
    fn deadline(&self) -> Option<Instant>;
}

impl<M: Machine<MemoryDisk>> Host<M> {
    fn new(machine: M, clock: &SharedClock, seed: u64, mut disk: MemoryDisk) -> Host<M> {
        disk.set_automatic(true);
        let wires = Wires { out: Vec::new(), events: Vec::new() };
        let mut node = Node::new(machine, clock.clone(), wires, disk, Rng::from_seed(seed));
        let mut inbox = VecDeque::new();
        node.turn(&mut inbox);
        Host { node, inbox }
    }
}

impl<M: Machine<MemoryDisk>> Runs for Host<M> {
    fn run(&mut self, now: Instant) -> Option<Vec<Out>> {
        let due = self.deadline().is_some_and(|at| at <= now);
        let pending = self.node.disk_mut().pending().count() > 0;
        if self.inbox.is_empty() && !due && !pending && self.node.network_mut().out.is_empty() {
            return None;
        }
        match self.node.turn(&mut self.inbox) {
            Turn::Idle { .. } | Turn::More => {}
            Turn::Failed { reason, .. } => panic!("{reason}"),
        }
        self.node.machine().check_invariants();
        Some(std::mem::take(&mut self.node.network_mut().out))
    }

    fn arrive(&mut self, arrival: Arrival) {
        self.inbox.push_back(match arrival {
            Arrival::Opened(conn, peer, protocol) => Input::Opened { conn, peer, protocol },
            Arrival::Packet(conn, packet) => Input::Received { conn, packet },
            Arrival::Closed(conn, why) => Input::Closed { conn, why },
        });
    }

    fn deadline(&self) -> Option<Instant> {
        self.node.machine().deadline().map(|(at, _)| at)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Id {
    NameServer(u16),
    Broker(u16),
    Client(usize),
}

type End = (Id, ConnId);

pub(crate) struct World {
    now: Rc<Cell<Now>>,
    clock: SharedClock,
    pub(crate) name_servers: BTreeMap<u16, Host<NameServer>>,
    pub(crate) brokers: BTreeMap<u16, Host<Broker>>,
    pub(crate) clients: BTreeMap<usize, Host<Client>>,
    links: BTreeMap<End, (End, Link)>,
    frozen: Vec<Id>,
    accepted: u64,
    disks: BTreeMap<u16, MemoryDisk>,
    /// What clients sent to brokers, if it is listened to.
    heard: Option<Vec<(Id, Command)>>,
}

pub(crate) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl World {
    /// Name servers and brokers at these ports, registered and ready.
    pub(crate) fn new(name_servers: &[u16], brokers: &[u16]) -> World {
        let now = Now { mono: Instant::from_nanos(1_000_000_000), wall: WallMs(START_WALL_MS) };
        let now = Rc::new(Cell::new(now));
        let clock = SharedClock(Rc::clone(&now));
        let mut world = World {
            now,
            clock,
            name_servers: BTreeMap::new(),
            brokers: BTreeMap::new(),
            clients: BTreeMap::new(),
            links: BTreeMap::new(),
            frozen: Vec::new(),
            accepted: 0,
            disks: BTreeMap::new(),
            heard: None,
        };
        for port in name_servers {
            world.start_name_server(*port);
        }
        for port in brokers {
            world.start_broker(*port, name_servers);
        }
        world.pass(Duration::from_secs(1));
        world
    }

    pub(crate) fn start_name_server(&mut self, port: u16) {
        let disk = MemoryDisk::new(Rng::from_seed(u64::from(port)));
        let host = Host::new(NameServer::new(NameServerConfig::default()), &self.clock, port.into(), disk);
        self.name_servers.insert(port, host);
    }

    /// A broker of its own name, over the disk of its last life if it had one.
    pub(crate) fn start_broker(&mut self, port: u16, name_servers: &[u16]) {
        self.start_broker_with(port, name_servers, |_| {});
    }

    /// The same with settings of the test's own.
    pub(crate) fn start_broker_with(
        &mut self,
        port: u16,
        name_servers: &[u16],
        change: impl FnOnce(&mut BrokerConfig),
    ) {
        let mut config = BrokerConfig::new(format!("b{port}"), address(port).parse().expect("address"));
        config.store.segment_bytes = 1024 * 1024;
        config.store.queue_file_entries = 1000;
        config.namesrv_addrs = name_servers.iter().map(|port| address(*port).into()).collect();
        change(&mut config);
        let disk =
            self.disks.remove(&port).unwrap_or_else(|| MemoryDisk::new(Rng::from_seed(u64::from(port))));
        self.brokers.insert(port, Host::<Broker>::new(Broker::new(config), &self.clock, port.into(), disk));
    }

    /// Starts a client; the number is its seed too.
    pub(crate) fn start_client(&mut self, n: usize, config: ClientConfig) {
        let disk = MemoryDisk::new(Rng::from_seed(n as u64));
        self.clients.insert(n, Host::new(Client::new(config), &self.clock, n as u64, disk));
    }

    /// The disk of a broker that was killed: to be looked at, or to be given back to a life that is to know no more than this.
    pub(crate) fn disk(&mut self, port: u16) -> &mut MemoryDisk {
        self.disks.get_mut(&port).expect("it was killed")
    }

    /// The end of a process, seen by its peers at once.
    pub(crate) fn kill(&mut self, id: Id) {
        match id {
            Id::NameServer(port) => drop(self.name_servers.remove(&port)),
            Id::Broker(port) => {
                let mut disk = self.brokers.remove(&port).expect("it runs").node.into_disk();
                disk.kill();
                disk.revive();
                self.disks.insert(port, disk);
            }
            Id::Client(n) => drop(self.clients.remove(&n)),
        }
        let ends: Vec<End> = self.links.keys().filter(|(owner, _)| *owner == id).copied().collect();
        for end in ends {
            self.close(end);
        }
    }

    /// It does nothing from now on, and nobody is told.
    pub(crate) fn freeze(&mut self, id: Id) {
        self.frozen.push(id);
    }

    pub(crate) fn thaw(&mut self, id: Id) {
        self.frozen.retain(|frozen| *frozen != id);
    }

    fn host(&mut self, id: Id) -> Option<&mut dyn Runs> {
        match id {
            Id::NameServer(port) => self.name_servers.get_mut(&port).map(|host| host as &mut dyn Runs),
            Id::Broker(port) => self.brokers.get_mut(&port).map(|host| host as &mut dyn Runs),
            Id::Client(n) => self.clients.get_mut(&n).map(|host| host as &mut dyn Runs),
        }
    }

    fn ids(&self) -> Vec<Id> {
        let name_servers = self.name_servers.keys().map(|port| Id::NameServer(*port));
        let brokers = self.brokers.keys().map(|port| Id::Broker(*port));
        let clients = self.clients.keys().map(|n| Id::Client(*n));
        name_servers.chain(brokers).chain(clients).filter(|id| !self.frozen.contains(id)).collect()
    }

    fn close(&mut self, end: End) {
        let Some((peer, _)) = self.links.remove(&end) else { return };
        self.links.remove(&peer);
        for (side, why) in [(end, CloseReason::Local), (peer, CloseReason::Peer)] {
            if let Some(host) = self.host(side.0) {
                host.arrive(Arrival::Closed(side.1, why));
            }
        }
    }

    fn perform(&mut self, id: Id, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Dial(conn, peer) => self.dial(id, conn, &peer),
                Out::Send(conn, packet) => self.carry((id, conn), &packet),
                Out::Close(conn) => self.close((id, conn)),
            }
        }
    }

    fn dial(&mut self, id: Id, conn: ConnId, peer: &Peer) {
        let port = peer.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let target = [Id::NameServer(port), Id::Broker(port)].into_iter().find(|id| self.host(*id).is_some());
        let Some(target) = target.filter(|_| peer.protocol == Protocol::Remoting) else {
            let host = self.host(id).expect("it dialled");
            return host.arrive(Arrival::Closed(conn, CloseReason::DialFailed));
        };
        self.accepted += 1;
        let there = (target, ConnId::accepted(self.accepted));
        self.links.insert((id, conn), (there, Link::new(Protocol::Remoting)));
        self.links.insert(there, ((id, conn), Link::new(Protocol::Remoting)));
        let from = address(40_000 + (self.accepted % 10_000) as u16).parse().expect("address");
        self.host(target).expect("found").arrive(Arrival::Opened(there.1, from, Protocol::Remoting));
        let to = address(port).parse().expect("address");
        self.host(id).expect("it dialled").arrive(Arrival::Opened(conn, to, Protocol::Remoting));
    }

    fn carry(&mut self, from: End, packet: &Packet) {
        let Some((to, _)) = self.links.get(&from) else { return };
        let to = *to;
        if let (Some(heard), Packet::Command(command), Id::Client(_)) = (&mut self.heard, packet, from.0) {
            heard.push((to.0, command.clone()));
        }
        let mut bytes = Vec::new();
        Link::encode(packet, &mut bytes);
        let Some((_, link)) = self.links.get_mut(&to) else { return };
        link.incoming().extend_from_slice(&bytes);
        let mut packets = Vec::new();
        while let Some(packet) = link.decode().expect("peers speak the protocol") {
            packets.push(packet);
        }
        if let Some(host) = self.host(to.0) {
            packets.into_iter().for_each(|packet| host.arrive(Arrival::Packet(to.1, packet)));
        }
    }

    /// Turns until nothing is due at this time.
    pub(crate) fn run(&mut self) {
        for _ in 0..20_000 {
            let now = self.now.get().mono;
            let mut is_idle = true;
            for id in self.ids() {
                if let Some(out) = self.host(id).and_then(|host| host.run(now)) {
                    is_idle = false;
                    self.perform(id, out);
                }
            }
            if is_idle {
                return;
            }
        }
        let due: Vec<_> = self
            .clients
            .values()
            .map(|host| host.node.machine())
            .map(Machine::<MemoryDisk>::deadline)
            .collect();
        panic!("somebody is never idle; clients wait for {due:?} at {:?}", self.now.get().mono);
    }

    /// Time passes, as the machines ask to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.get().mono + time;
        loop {
            self.run();
            let now = self.now.get();
            if now.mono >= end {
                return;
            }
            let ids = self.ids();
            let due = ids.into_iter().filter_map(|id| self.host(id)?.deadline()).min();
            let next = due.filter(|at| *at < end).unwrap_or(end).max(now.mono);
            let wall = WallMs(now.wall.0 + (next.since(now.mono).as_nanos() / 1_000_000) as i64);
            self.now.set(Now { mono: next, wall });
        }
    }

    /// Begins to keep what clients send.
    pub(crate) fn listen(&mut self) {
        self.heard = Some(Vec::new());
    }

    /// What clients sent with this code since the last call of this, and to whom.
    pub(crate) fn heard(&mut self, code: i32) -> Vec<(Id, Command)> {
        let all = std::mem::take(self.heard.as_mut().expect("it listens"));
        all.into_iter().filter(|(_, command)| !command.is_response() && command.code == code).collect()
    }

    /// Answers of clients since the last call of this to [`World::heard`] or this.
    pub(crate) fn answers(&mut self) -> Vec<Command> {
        let all = std::mem::take(self.heard.as_mut().expect("it listens"));
        all.into_iter().map(|(_, command)| command).filter(Command::is_response).collect()
    }

    /// A broker asks a client that is connected to it, as that broker's machine would if it served what the question is about.
    pub(crate) fn ask_client(&mut self, broker: u16, client: usize, question: Command) {
        let is_theirs = |(end, (peer, _)): &(&End, &(End, Link))| {
            end.0 == Id::Broker(broker) && peer.0 == Id::Client(client)
        };
        let (from, _) = self.links.iter().find(is_theirs).expect("they are connected");
        let from = *from;
        self.carry(from, &question.into());
    }

    /// How many messages a broker has in the queues of a topic.
    pub(crate) fn stored(&self, port: u16, topic: &str) -> i64 {
        let store = self.brokers[&port].node.machine().store();
        let mut messages = 0;
        store.for_each_queue(|name, _, queue| {
            if name == topic {
                messages += store.max_offset(queue);
            }
        });
        messages
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get().mono
    }

    pub(crate) fn wall(&self) -> WallMs {
        self.now.get().wall
    }

    pub(crate) fn command(&mut self, client: usize, command: ClientCommand) {
        self.clients.get_mut(&client).expect("it runs").inbox.push_back(Input::Command(command));
    }

    /// What a client has told since the last call of this.
    pub(crate) fn events(&mut self, client: usize) -> Vec<ClientEvent> {
        std::mem::take(&mut self.clients.get_mut(&client).expect("it runs").node.network_mut().events)
    }
}
