//! The only loop that drives a machine.
//!
//! [`Node::turn`] takes everything that has arrived, then what is due, then settles once, and only then lets the effects
//! go: so a turn's writes are in the page cache before its replies leave.
//!
//! A node is one life of a machine. A crash drops the node and keeps the disk; a new node over it sees
//! [`Input::Start`] first.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::io::{Clock, Disk, Done, Effect, Env, FetchId, Input, Machine, Network};
use crate::rng::Rng;
use crate::time::Instant;

/// Inputs taken in one turn at most, so that a flood cannot keep what is due from being done.
pub const TURN_INPUTS_MAX: usize = 1024;

/// How a turn ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The machine waits; call again at `deadline` at the latest, or when an input or a completion arrives.
    Idle {
        /// When, and for what.
        deadline: Option<(Instant, &'static str)>,
    },
    /// Inputs are left over: call again at once.
    More,
    /// The machine gave up: see [`Effect::Fail`]. Drop the node.
    Failed {
        /// What happened and what to do about it.
        reason: String,
        /// Whether a new life from the same disk may go better.
        restart: bool,
    },
}

/// A machine with its world.
pub struct Node<M, C, N, D>
where
    D: Disk,
    M: Machine<D>,
    C: Clock,
    N: Network<Event = M::Event>,
{
    machine: M,
    clock: C,
    network: N,
    disk: D,
    rng: Rng,
    effects: Vec<Effect<M::Event>>,
    done: Vec<Done>,
    taken: Vec<FetchId>,
    started: bool,
    /// What the machine asked for at the end of the last turn: to work it out costs as much as many a turn.
    deadline: Option<(Instant, &'static str)>,
    inputs_per_turn: usize,
}

impl<M, C, N, D> Node<M, C, N, D>
where
    D: Disk,
    M: Machine<D>,
    C: Clock,
    N: Network<Event = M::Event>,
{
    /// A new life. The first turn begins with [`Input::Start`].
    pub fn new(machine: M, clock: C, network: N, disk: D, rng: Rng) -> Self {
        Node {
            machine,
            clock,
            network,
            disk,
            rng,
            effects: Vec::new(),
            done: Vec::new(),
            taken: Vec::new(),
            started: false,
            deadline: None,
            inputs_per_turn: TURN_INPUTS_MAX,
        }
    }

    /// Takes at most `inputs` a turn (at least one). The simulator draws this.
    pub fn set_inputs_per_turn(&mut self, inputs: usize) {
        self.inputs_per_turn = inputs.clamp(1, TURN_INPUTS_MAX);
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The network, for its driver.
    pub fn network_mut(&mut self) -> &mut N {
        &mut self.network
    }

    /// The clock, for its driver.
    pub fn clock_mut(&mut self) -> &mut C {
        &mut self.clock
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, for its driver.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Ends this life and keeps the disk.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// One turn: completions and waiting inputs first, then what is due, then settle, then the effects.
    pub fn turn(&mut self, inbox: &mut VecDeque<Input<M::Command>>) -> Turn {
        let now = self.clock.now();
        self.disk.reap(&mut self.done);
        let mut env = Env { disk: &mut self.disk, out: &mut self.effects, rng: &mut self.rng };
        if !self.started {
            self.started = true;
            self.machine.step(now, Input::Start, &mut env);
        }
        for done in self.done.drain(..) {
            match done {
                Done::Synced(id, result) => self.machine.step(now, Input::Synced { id, result }, &mut env),
                Done::Fetched(id, result) => {
                    self.taken.push(id);
                    self.machine.step(now, Input::Fetched { id, result }, &mut env);
                }
            }
        }
        for _ in 0..self.inputs_per_turn {
            let Some(input) = inbox.pop_front() else { break };
            self.machine.step(now, input, &mut env);
        }
        if self.deadline.is_some_and(|(at, _)| at <= now.mono) {
            self.machine.step(now, Input::Wake, &mut env);
        }
        self.machine.settle(now, &mut env);
        for id in self.taken.drain(..) {
            self.disk.release(id);
        }
        if let Some(failed) = self.perform() {
            return failed;
        }
        self.deadline = self.machine.deadline();
        if inbox.is_empty() { Turn::Idle { deadline: self.deadline } } else { Turn::More }
    }

    fn perform(&mut self) -> Option<Turn> {
        // A machine that fails says so as its last word: what it wanted to send in the same turn must not leave.
        if let Some(at) = self.effects.iter().position(|effect| matches!(effect, Effect::Fail { .. }))
            && let Effect::Fail { reason, restart } = self.effects.swap_remove(at)
        {
            self.effects.clear();
            return Some(Turn::Failed { reason, restart });
        }
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Dial { conn, peer } => self.network.dial(conn, &peer),
                Effect::Send { conn, packet } => self.network.send(conn, packet),
                Effect::Close { conn } => self.network.close(conn),
                Effect::Sync { id, target } => self.disk.sync(id, target),
                Effect::Replace { id, path, bytes } => self.disk.replace(id, &path, bytes),
                Effect::Fetch { id, at } => self.disk.fetch(id, at),
                Effect::Emit(event) => self.network.emit(event),
                Effect::Fail { .. } => unreachable!("taken above"),
            }
        }
        None
    }
}
