//! A running machine as the world sees it: the type of the machine forgotten, its effects captured, its inputs tapped.
//!
//! [`Probe`] wraps the machine so that everything that enters and leaves it can be checked and traced, whatever path it
//! took: nothing reaches a machine that the checkers cannot see.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;

use gantry_core::io::{
    CloseReason, ConnId, DiskError, Effect, Env, FetchId, Input, Machine, Network, Now, Peer, Protocol,
    SyncId, SyncTarget,
};
use gantry_core::node::{Node, Turn};
use gantry_core::rng::Rng;
use gantry_core::time::Instant;
use gantry_core::wire::Packet;
use gantry_disk::MemoryDisk;

use crate::clock::SimClock;
use crate::history::{Halt, Report, Tell};

/// What entered or left a machine in a turn.
#[derive(Clone, Debug)]
pub enum Seen {
    /// [`Input::Start`].
    Start,
    /// [`Input::Opened`].
    Opened {
        /// Its name.
        conn: ConnId,
        /// The other end.
        peer: std::net::SocketAddr,
        /// What is spoken.
        protocol: Protocol,
    },
    /// [`Input::Received`].
    Received {
        /// Where.
        conn: ConnId,
        /// What.
        packet: Packet,
    },
    /// [`Input::Drained`].
    Drained {
        /// Where.
        conn: ConnId,
    },
    /// [`Input::Closed`].
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: CloseReason,
    },
    /// [`Input::Synced`].
    Synced {
        /// Which.
        id: SyncId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// [`Input::Fetched`].
    Fetched {
        /// Which.
        id: FetchId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// [`Input::Wake`], with the reason the machine gave.
    Wake {
        /// Why.
        why: &'static str,
    },
    /// [`Input::Command`].
    Command,
    /// The machine settled: what follows are effects.
    Settled,
    /// [`Effect::Dial`].
    Dial {
        /// Its future name.
        conn: ConnId,
        /// Whom.
        peer: Peer,
    },
    /// [`Effect::Send`].
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        packet: Packet,
    },
    /// [`Effect::Close`].
    Close {
        /// Which.
        conn: ConnId,
    },
    /// [`Effect::Sync`].
    Sync {
        /// Its name.
        id: SyncId,
        /// What: a file or a directory.
        path: String,
    },
    /// [`Effect::Replace`].
    Replace {
        /// Its name.
        id: SyncId,
        /// Which file.
        path: String,
    },
    /// [`Effect::Fetch`].
    Fetch {
        /// Its name.
        id: FetchId,
    },
    /// [`Effect::Fail`].
    Fail {
        /// What the machine says.
        reason: String,
    },
}

/// Turns from one look at a machine's invariants to the next: a look costs more than most turns.
const CHECK_EVERY: u32 = 64;

/// What a probe does besides passing on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeOptions {
    /// Keep what enters and leaves.
    pub tap: bool,
    /// Call [`Machine::check_invariants`] after every turn, rather than after one in [`CHECK_EVERY`].
    pub check_invariants: bool,
}

/// A machine with a tap on it.
#[derive(Debug)]
pub struct Probe<M> {
    inner: M,
    options: ProbeOptions,
    turns: u32,
    seen: RefCell<Vec<Seen>>,
}

impl<M> Probe<M> {
    /// Wraps `inner`.
    pub fn new(inner: M, options: ProbeOptions) -> Probe<M> {
        Probe { inner, options, turns: 0, seen: RefCell::new(Vec::new()) }
    }

    fn see_input<C>(&mut self, input: &Input<C>)
    where
        M: Machine<MemoryDisk>,
    {
        self.seen.get_mut().push(match input {
            Input::Start => Seen::Start,
            Input::Opened { conn, peer, protocol } => {
                Seen::Opened { conn: *conn, peer: *peer, protocol: *protocol }
            }
            Input::Received { conn, packet } => Seen::Received { conn: *conn, packet: packet.clone() },
            Input::Drained { conn } => Seen::Drained { conn: *conn },
            Input::Closed { conn, why } => Seen::Closed { conn: *conn, why: *why },
            Input::Synced { id, result } => Seen::Synced { id: *id, result: *result },
            Input::Fetched { id, result } => Seen::Fetched { id: *id, result: *result },
            Input::Wake => Seen::Wake { why: self.inner.deadline().map_or("nothing", |(_, why)| why) },
            Input::Command(_) => Seen::Command,
        });
    }

    fn see_effect<E>(&mut self, effect: &Effect<E>, disk: &MemoryDisk) {
        self.seen.get_mut().push(match effect {
            Effect::Dial { conn, peer } => Seen::Dial { conn: *conn, peer: peer.clone() },
            Effect::Send { conn, packet } => Seen::Send { conn: *conn, packet: packet.clone() },
            Effect::Close { conn } => Seen::Close { conn: *conn },
            Effect::Sync { id, target: SyncTarget::File(file) } => {
                Seen::Sync { id: *id, path: disk.path_of(*file).unwrap_or_default() }
            }
            Effect::Sync { id, target: SyncTarget::Dir(dir) } => Seen::Sync { id: *id, path: dir.clone() },
            Effect::Replace { id, path, .. } => Seen::Replace { id: *id, path: path.clone() },
            Effect::Fetch { id, .. } => Seen::Fetch { id: *id },
            Effect::Fail { reason, .. } => Seen::Fail { reason: reason.clone() },
            // Reports of workloads go to the checkers by themselves.
            Effect::Emit(_) => return,
        });
    }
}

impl<M: Machine<MemoryDisk>> Machine<MemoryDisk> for Probe<M> {
    type Command = M::Command;
    type Event = M::Event;

    fn step(&mut self, now: Now, input: Input<M::Command>, env: &mut Env<'_, MemoryDisk, M::Event>) {
        if self.options.tap {
            self.see_input(&input);
        }
        self.inner.step(now, input, env);
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, M::Event>) {
        self.inner.settle(now, env);
        if self.options.tap {
            self.seen.get_mut().push(Seen::Settled);
            for effect in env.out.iter() {
                self.see_effect(effect, env.disk);
            }
        }
        self.turns = self.turns.wrapping_add(1);
        let is_due = self.options.check_invariants || self.turns.is_multiple_of(CHECK_EVERY);
        if is_due && !env.disk.is_dead() {
            self.inner.check_invariants();
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.inner.deadline()
    }
}

/// An effect on the network, captured until the turn is over.
#[derive(Debug)]
pub enum Output {
    /// See [`Effect::Dial`].
    Dial(ConnId, Peer),
    /// See [`Effect::Send`].
    Send(ConnId, Packet),
    /// See [`Effect::Close`].
    Close(ConnId),
}

/// The [`Network`] of a simulated host: it captures.
#[derive(Debug)]
pub struct Outbox<E> {
    outputs: Vec<Output>,
    events: Vec<E>,
}

impl<E> Network for Outbox<E> {
    type Event = E;

    fn dial(&mut self, conn: ConnId, peer: &Peer) {
        self.outputs.push(Output::Dial(conn, peer.clone()));
    }

    fn send(&mut self, conn: ConnId, packet: Packet) {
        self.outputs.push(Output::Send(conn, packet));
    }

    fn close(&mut self, conn: ConnId) {
        self.outputs.push(Output::Close(conn));
    }

    fn emit(&mut self, event: E) {
        self.events.push(event);
    }
}

/// What the network hands to a machine.
#[derive(Debug)]
pub enum Arrival {
    /// See [`Input::Opened`].
    Opened(ConnId, std::net::SocketAddr, Protocol),
    /// See [`Input::Received`].
    Received(ConnId, Packet),
    /// See [`Input::Drained`].
    Drained(ConnId),
    /// See [`Input::Closed`].
    Closed(ConnId, CloseReason),
}

/// One life of a machine on a host.
pub trait Process {
    /// Puts an input into the inbox.
    fn push(&mut self, arrival: Arrival);
    /// Puts the wish into the inbox that it end cleanly.
    fn ask_to_stop(&mut self);
    /// Takes a turn with at most `inputs` inputs.
    fn turn(&mut self, now: Now, inputs: usize) -> Turn;
    /// What the last turn wants of the network.
    fn outputs(&mut self) -> &mut Vec<Output>;
    /// Takes what was seen since the last call.
    fn take_seen(&mut self, into: &mut Vec<Seen>);
    /// Takes what the machine told its host since the last call.
    fn take_reports(&mut self, into: &mut Vec<Report>);
    /// Its disk.
    fn disk(&mut self) -> &mut MemoryDisk;
    /// The same, for checkers.
    fn peek_disk(&self) -> &MemoryDisk;
    /// Ends the life; the disk stays.
    fn into_disk(self: Box<Self>) -> MemoryDisk;
    /// The machine itself, for checkers that know its type.
    fn machine(&self) -> &dyn Any;
}

/// A [`Node`] with its inbox.
pub struct Running<M: Machine<MemoryDisk>> {
    node: Node<Probe<M>, SimClock, Outbox<M::Event>, MemoryDisk>,
    inbox: VecDeque<Input<M::Command>>,
}

impl<M: Machine<MemoryDisk>> Running<M> {
    /// A new life of `machine` over `disk`.
    pub fn new(machine: M, options: ProbeOptions, now: Now, disk: MemoryDisk, rng: Rng) -> Running<M> {
        let outbox = Outbox { outputs: Vec::new(), events: Vec::new() };
        let node = Node::new(Probe::new(machine, options), SimClock(now), outbox, disk, rng);
        Running { node, inbox: VecDeque::new() }
    }
}

impl<M> Process for Running<M>
where
    M: Machine<MemoryDisk> + 'static,
    M::Event: Tell,
    M::Command: Halt,
{
    fn push(&mut self, arrival: Arrival) {
        self.inbox.push_back(match arrival {
            Arrival::Opened(conn, peer, protocol) => Input::Opened { conn, peer, protocol },
            Arrival::Received(conn, packet) => Input::Received { conn, packet },
            Arrival::Drained(conn) => Input::Drained { conn },
            Arrival::Closed(conn, why) => Input::Closed { conn, why },
        });
    }

    fn ask_to_stop(&mut self) {
        self.inbox.push_back(Input::Command(M::Command::halt()));
    }

    fn turn(&mut self, now: Now, inputs: usize) -> Turn {
        *self.node.clock_mut() = SimClock(now);
        self.node.disk_mut().set_wall(now.wall);
        self.node.set_inputs_per_turn(inputs);
        self.node.turn(&mut self.inbox)
    }

    fn outputs(&mut self) -> &mut Vec<Output> {
        &mut self.node.network_mut().outputs
    }

    fn take_seen(&mut self, into: &mut Vec<Seen>) {
        into.append(&mut self.node.machine().seen.borrow_mut());
    }

    fn take_reports(&mut self, into: &mut Vec<Report>) {
        into.extend(self.node.network_mut().events.drain(..).filter_map(Tell::report));
    }

    fn disk(&mut self) -> &mut MemoryDisk {
        self.node.disk_mut()
    }

    fn peek_disk(&self) -> &MemoryDisk {
        self.node.disk()
    }

    fn into_disk(self: Box<Self>) -> MemoryDisk {
        self.node.into_disk()
    }

    fn machine(&self) -> &dyn Any {
        &self.node.machine().inner
    }
}
