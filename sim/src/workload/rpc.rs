//! Requests and replies over connections that come and go.
//!
//! One connection for each address, dialled when first needed. A request that gets no reply in time takes its connection
//! with it, as in RocketMQ's clients (`clientCloseSocketIfTimeout`): a retry then goes another way.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_core::io::{ConnId, Effect, Env, Input, Now, Peer, Protocol};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Packet};
use gantry_disk::MemoryDisk;

use crate::history::Report;

/// What a workload works with in a turn.
pub type ClientEnv<'a> = Env<'a, MemoryDisk, Report>;

/// What became of a request.
#[derive(Debug)]
pub enum Event<T> {
    /// It was answered.
    Reply(T, Command),
    /// No answer came, and none will: whether the request was carried out is unknown.
    Lost(T),
    /// It never left.
    NotSent(T),
    /// A server asks something.
    Request(Command),
}

struct Call<T> {
    tag: T,
    deadline: Instant,
}

struct Session<T> {
    conn: ConnId,
    open: bool,
    /// Waiting for the connection.
    waiting: Vec<(Command, Call<T>)>,
    /// Waiting for the reply.
    calls: BTreeMap<i32, Call<T>>,
}

/// The calls of a client.
pub struct Rpc<T> {
    sessions: BTreeMap<Arc<str>, Session<T>>,
    by_conn: BTreeMap<ConnId, Arc<str>>,
    dialled: u64,
    opaque: i32,
    events: Vec<Event<T>>,
}

impl<T> Default for Rpc<T> {
    fn default() -> Self {
        Rpc { sessions: BTreeMap::new(), by_conn: BTreeMap::new(), dialled: 0, opaque: 0, events: Vec::new() }
    }
}

impl<T> Rpc<T> {
    /// Sends a request; `tag` comes back with what becomes of it.
    pub fn call(
        &mut self,
        now: Now,
        env: &mut ClientEnv<'_>,
        address: &Arc<str>,
        mut command: Command,
        timeout: Duration,
        tag: T,
    ) {
        self.opaque += 1;
        command.opaque = self.opaque;
        let call = Call { tag, deadline: now.mono + timeout };
        let session = self.session(env, address);
        if session.open {
            session.calls.insert(command.opaque, call);
            let conn = session.conn;
            env.send(conn, command);
        } else {
            session.waiting.push((command, call));
        }
    }

    /// Sends a request that wants no reply, if there is a connection.
    pub fn tell(&mut self, env: &mut ClientEnv<'_>, address: &Arc<str>, command: Command) {
        self.opaque += 1;
        let opaque = self.opaque;
        let session = self.session(env, address);
        if session.open {
            env.send(session.conn, Command { opaque, ..command.oneway() });
        }
    }

    fn session(&mut self, env: &mut ClientEnv<'_>, address: &Arc<str>) -> &mut Session<T> {
        self.sessions.entry(address.clone()).or_insert_with(|| {
            let conn = ConnId::dialled(self.dialled);
            self.dialled += 1;
            self.by_conn.insert(conn, address.clone());
            let peer = Peer { address: address.clone(), protocol: Protocol::Remoting };
            env.out.push(Effect::Dial { conn, peer });
            Session { conn, open: false, waiting: Vec::new(), calls: BTreeMap::new() }
        })
    }

    /// Takes an input.
    pub fn on_input<C>(&mut self, input: Input<C>, env: &mut ClientEnv<'_>) {
        match input {
            Input::Opened { conn, .. } => {
                let Some(session) =
                    self.by_conn.get(&conn).and_then(|address| self.sessions.get_mut(address))
                else {
                    return;
                };
                session.open = true;
                for (command, call) in session.waiting.drain(..) {
                    session.calls.insert(command.opaque, call);
                    env.send(conn, command);
                }
            }
            Input::Received { conn, packet: Packet::Command(command) } => {
                if !command.is_response() {
                    self.events.push(Event::Request(command));
                    return;
                }
                let session = self.by_conn.get(&conn).and_then(|address| self.sessions.get_mut(address));
                if let Some(call) = session.and_then(|session| session.calls.remove(&command.opaque)) {
                    self.events.push(Event::Reply(call.tag, command));
                }
            }
            Input::Closed { conn, .. } => self.forget(conn),
            Input::Received { .. }
            | Input::Start
            | Input::Drained { .. }
            | Input::Synced { .. }
            | Input::Fetched { .. }
            | Input::Wake
            | Input::Command(_) => {}
        }
    }

    fn forget(&mut self, conn: ConnId) {
        let Some(address) = self.by_conn.remove(&conn) else { return };
        let Some(session) = self.sessions.remove(&address) else { return };
        self.events.extend(session.waiting.into_iter().map(|(_, call)| Event::NotSent(call.tag)));
        self.events.extend(session.calls.into_values().map(|call| Event::Lost(call.tag)));
    }

    /// Gives up what waited too long.
    pub fn expire(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        let late: Vec<ConnId> = self
            .sessions
            .values()
            .filter(|session| session.deadline().is_some_and(|deadline| deadline <= now.mono))
            .map(|session| session.conn)
            .collect();
        for conn in late {
            env.out.push(Effect::Close { conn });
            self.forget(conn);
        }
    }

    /// What became of requests since the last call.
    pub fn take_events(&mut self) -> Vec<Event<T>> {
        std::mem::take(&mut self.events)
    }

    /// When the next request is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Session::deadline).min()
    }
}

impl<T> Session<T> {
    fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|(_, call)| call.deadline);
        waiting.chain(self.calls.values().map(|call| call.deadline)).min()
    }
}
