//! Requests and their answers, over one connection an address.
//!
//! A connection is dialled when first needed; what is asked meanwhile waits for it. A request that gets no answer in time
//! is lost, and takes its connection along only if nothing at all came on it since the request left: a peer that is slow
//! with one request still answers the others, one that is gone answers none.
//!
//! Invariant: every call ends exactly once, as one [`Outcome`].

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::io::{ConnId, Disk, Effect, Env, Input, Now, Peer, Protocol};
use crate::time::{Duration, Instant};
use crate::wire::{Command, Packet};

/// How long a broker counts a connection that ended unseen; it gives up after 120 s of silence.
const GHOST: Duration = Duration::from_secs(130);

/// What became of a request.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    /// The answer.
    Reply(Command),
    /// It left, and no answer came: whether it was carried out is unknown.
    Lost,
    /// It never left.
    NotSent,
}

#[derive(Debug)]
struct Call<T> {
    tag: T,
    sent: Instant,
    deadline: Instant,
}

#[derive(Debug)]
struct Session<T> {
    conn: ConnId,
    is_open: bool,
    /// When something last came on it.
    heard: Instant,
    waiting: Vec<(Command, Option<Call<T>>)>,
    calls: BTreeMap<i32, Call<T>>,
    /// The earliest deadline of all these, kept because every turn asks for it.
    due: Option<Instant>,
}

/// What happened on the connections since the last look.
#[derive(Debug)]
pub(super) enum News<T> {
    /// A call ended.
    Done(T, Outcome),
    /// A server asks something.
    Asked(ConnId, Command),
    /// A connection that had been open is gone.
    Gone(Arc<str>),
}

/// The calls of a client; `T` says what each is for.
#[derive(Debug)]
pub(super) struct Calls<T> {
    sessions: BTreeMap<Arc<str>, Session<T>>,
    addresses: BTreeMap<ConnId, Arc<str>>,
    /// When an open connection to an address was last lost.
    lost: BTreeMap<Arc<str>, Instant>,
    dialled: u64,
    opaque: i32,
    news: Vec<News<T>>,
}

impl<T> Calls<T> {
    pub(super) fn new() -> Calls<T> {
        Calls {
            sessions: BTreeMap::new(),
            addresses: BTreeMap::new(),
            lost: BTreeMap::new(),
            dialled: 0,
            opaque: 0,
            news: Vec::new(),
        }
    }

    /// Asks; `tag` comes back with what becomes of it.
    pub(super) fn call<D: Disk, E>(
        &mut self,
        now: Now,
        address: &Arc<str>,
        command: Command,
        timeout: Duration,
        tag: T,
        env: &mut Env<'_, D, E>,
    ) {
        let call = Call { tag, sent: now.mono, deadline: now.mono + timeout };
        self.send(now, address, command, Some(call), env);
    }

    /// Asks for nothing back.
    pub(super) fn tell<D: Disk, E>(
        &mut self,
        now: Now,
        address: &Arc<str>,
        command: Command,
        env: &mut Env<'_, D, E>,
    ) {
        self.send(now, address, command.oneway(), None, env);
    }

    fn send<D: Disk, E>(
        &mut self,
        now: Now,
        address: &Arc<str>,
        mut command: Command,
        call: Option<Call<T>>,
        env: &mut Env<'_, D, E>,
    ) {
        self.opaque = self.opaque.wrapping_add(1);
        command.opaque = self.opaque;
        if !self.sessions.contains_key(address) {
            self.dial(now, address, env);
        }
        let session = self.sessions.get_mut(address).expect("just made");
        let deadline = call.as_ref().map(|call| call.deadline);
        session.due = [session.due, deadline].into_iter().flatten().min();
        if session.is_open {
            if let Some(call) = call {
                session.calls.insert(command.opaque, call);
            }
            env.send(session.conn, command);
        } else {
            session.waiting.push((command, call));
        }
    }

    fn dial<D: Disk, E>(&mut self, now: Now, address: &Arc<str>, env: &mut Env<'_, D, E>) {
        let conn = ConnId::dialled(self.dialled);
        self.dialled += 1;
        self.addresses.insert(conn, address.clone());
        let peer = Peer { address: address.clone(), protocol: Protocol::Remoting };
        env.out.push(Effect::Dial { conn, peer });
        let (waiting, calls) = (Vec::new(), BTreeMap::new());
        let session = Session { conn, is_open: false, heard: now.mono, waiting, calls, due: None };
        self.sessions.insert(address.clone(), session);
    }

    /// Takes what concerns connections.
    pub(super) fn on_input<C, D: Disk, E>(&mut self, now: Now, input: Input<C>, env: &mut Env<'_, D, E>) {
        match input {
            Input::Opened { conn, .. } => self.on_opened(now, conn, env),
            Input::Received { conn, packet: Packet::Command(command) } => self.on_command(now, conn, command),
            Input::Closed { conn, .. } => self.forget(now.mono, conn),
            // Replication is not spoken here, and the rest concerns no connection.
            Input::Received { packet: Packet::HaReport { .. } | Packet::HaBlock { .. }, .. }
            | Input::Start
            | Input::Drained { .. }
            | Input::Synced { .. }
            | Input::Fetched { .. }
            | Input::Wake
            | Input::Command(_) => {}
        }
    }

    fn on_opened<D: Disk, E>(&mut self, now: Now, conn: ConnId, env: &mut Env<'_, D, E>) {
        let address = self.addresses.get(&conn);
        let Some(session) = address.and_then(|address| self.sessions.get_mut(address)) else { return };
        session.is_open = true;
        session.heard = now.mono;
        for (command, call) in core::mem::take(&mut session.waiting) {
            if let Some(call) = call {
                session.calls.insert(command.opaque, Call { sent: now.mono, ..call });
            }
            env.send(conn, command);
        }
    }

    fn on_command(&mut self, now: Now, conn: ConnId, command: Command) {
        let address = self.addresses.get(&conn);
        let Some(session) = address.and_then(|address| self.sessions.get_mut(address)) else { return };
        session.heard = now.mono;
        if !command.is_response() {
            self.news.push(News::Asked(conn, command));
        } else if let Some(call) = session.calls.remove(&command.opaque) {
            if session.due == Some(call.deadline) {
                session.due = session.find_due();
            }
            self.news.push(News::Done(call.tag, Outcome::Reply(command)));
        }
    }

    fn forget(&mut self, now: Instant, conn: ConnId) {
        let Some(address) = self.addresses.remove(&conn) else { return };
        let Some(session) = self.sessions.remove(&address) else { return };
        let unsent = session.waiting.into_iter().filter_map(|(_, call)| call);
        self.news.extend(unsent.map(|call| News::Done(call.tag, Outcome::NotSent)));
        self.news.extend(session.calls.into_values().map(|call| News::Done(call.tag, Outcome::Lost)));
        if session.is_open {
            self.lost.insert(address.clone(), now);
            self.news.push(News::Gone(address));
        }
    }

    /// Gives up what waited too long.
    pub(super) fn expire<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        let mut gone = Vec::new();
        for session in self.sessions.values_mut() {
            if session.due.is_none_or(|deadline| deadline > now.mono) {
                continue;
            }
            let late: Vec<i32> = session
                .calls
                .iter()
                .filter(|(_, call)| call.deadline <= now.mono)
                .map(|(opaque, _)| *opaque)
                .collect();
            let mut is_silent = !session.is_open;
            for opaque in late {
                let Some(call) = session.calls.remove(&opaque) else { continue };
                is_silent |= session.heard <= call.sent;
                self.news.push(News::Done(call.tag, Outcome::Lost));
            }
            let is_late = |call: &Call<T>| call.deadline <= now.mono;
            let waiting = core::mem::take(&mut session.waiting);
            let (late, waiting) =
                waiting.into_iter().partition(|(_, call)| call.as_ref().is_some_and(is_late));
            session.waiting = waiting;
            let late: Vec<(Command, Option<Call<T>>)> = late;
            let late = late.into_iter().filter_map(|(_, call)| call);
            self.news.extend(late.map(|call| News::Done(call.tag, Outcome::NotSent)));
            session.due = session.find_due();
            if is_silent {
                gone.push(session.conn);
            }
        }
        for conn in gone {
            env.out.push(Effect::Close { conn });
            self.forget(now.mono, conn);
        }
    }

    /// What happened since the last call of this.
    pub(super) fn take_news(&mut self) -> Vec<News<T>> {
        core::mem::take(&mut self.news)
    }

    /// Who is at the other end of a connection.
    pub(super) fn address(&self, conn: ConnId) -> Option<&Arc<str>> {
        self.addresses.get(&conn)
    }

    /// Whether a connection to `address` is open or being opened.
    pub(super) fn is_known(&self, address: &str) -> bool {
        self.sessions.contains_key(address)
    }

    /// Whether `address` may still count an earlier connection of this client, of whose end it has not heard.
    pub(super) fn may_count_twice(&self, now: Instant, address: &str) -> bool {
        self.lost.get(address).is_some_and(|at| now.since(*at) < GHOST)
    }

    /// Closes all connections, after what was sent on them.
    pub(super) fn close_all<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        let conns: Vec<ConnId> = self.sessions.values().map(|session| session.conn).collect();
        for conn in conns {
            env.out.push(Effect::Close { conn });
            self.forget(now.mono, conn);
        }
    }

    /// When the next call is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.due).min()
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.sessions.len(), self.addresses.len(), "each session has its connection");
        for session in self.sessions.values() {
            assert!(
                session.is_open || session.calls.is_empty(),
                "nothing leaves before the connection is open"
            );
            assert!(!session.is_open || session.waiting.is_empty(), "nothing waits for an open connection");
            assert_eq!(session.due, session.find_due(), "the earliest deadline of a connection is known");
        }
    }
}

impl<T> Session<T> {
    fn find_due(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|(_, call)| Some(call.as_ref()?.deadline));
        waiting.chain(self.calls.values().map(|call| call.deadline)).min()
    }
}

/// What a peer that refuses says, for people.
pub(super) fn describe(reply: &Command) -> String {
    use crate::wire::code::response_code;
    use alloc::format;
    let name = response_code::name(reply.code).unwrap_or("unknown code");
    match &reply.remark {
        Some(remark) => format!("{} {name}: {remark}", reply.code),
        None => format!("{} {name}", reply.code),
    }
}
