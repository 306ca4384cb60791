//! What the tasks of one service share: the inbox, the connections, and the effects that wait for the end of the turn.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use gantry_core::io::{CloseReason, ConnId, Input, Network, Peer, Protocol};
use gantry_core::wire::Packet;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::bell::Bell;
use crate::config::{
    CLOSING_SWEEPS, IDLE_SWEEPS, Limits, OUTPUT_CLOSE_BYTES, OUTPUT_KEEP_BYTES, OUTPUT_SPARES_MAX,
    PACKETS_PER_READ_MAX,
};
use crate::conn::{Conn, Written};
use crate::counters::Counters;
use crate::dial::dial;
use crate::socket::{self, ReadHalf};

/// Names are given by this process in order, so a fixed hash cannot be attacked through them.
type ById<T> = HashMap<ConnId, T, FixedState>;

pub(crate) struct Shell<C> {
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    bell: Arc<Bell>,
    pub(crate) inbox: RefCell<VecDeque<Input<C>>>,
    conns: RefCell<ById<Rc<Conn>>>,
    dialling: RefCell<ById<AbortHandle>>,
    /// Connections with output or a close of this turn.
    dirty: RefCell<Vec<Rc<Conn>>>,
    /// Dials, and closes of what is not connected, of this turn.
    asked: RefCell<Vec<Asked>>,
    spares: RefCell<Vec<Vec<u8>>>,
    accepted: Cell<u64>,
}

enum Asked {
    Dial(ConnId, Peer),
    Hang(ConnId),
}

impl<C: 'static> Shell<C> {
    pub(crate) fn new(limits: Limits, counters: Arc<Counters>, bell: Arc<Bell>) -> Shell<C> {
        Shell {
            limits,
            counters,
            bell,
            inbox: RefCell::default(),
            conns: RefCell::default(),
            dialling: RefCell::default(),
            dirty: RefCell::default(),
            asked: RefCell::default(),
            spares: RefCell::default(),
            accepted: Cell::new(0),
        }
    }

    /// Hands an input to the next turn.
    pub(crate) fn enqueue(&self, input: Input<C>) {
        self.inbox.borrow_mut().push_back(input);
        self.bell.ring_here();
    }

    // Connections come.

    /// The name of the next accepted connection; none when there are as many as may be.
    pub(crate) fn name_accepted(&self) -> Option<ConnId> {
        if self.conns.borrow().len() >= self.limits.connections_max {
            return None;
        }
        let n = self.accepted.get();
        self.accepted.set(n + 1);
        Some(ConnId::accepted(n))
    }

    /// Takes a connection in and begins to read from it.
    pub(crate) fn open(self: &Rc<Self>, id: ConnId, stream: TcpStream, peer: SocketAddr, protocol: Protocol) {
        let (read, write) = socket::split(stream);
        let conn = Rc::new(Conn::new(id, peer, protocol, write));
        self.conns.borrow_mut().insert(id, Rc::clone(&conn));
        self.enqueue(Input::Opened { conn: id, peer, protocol });
        let reader = socket::spawn(Rc::clone(self).read(Rc::clone(&conn), read));
        conn.set_reader(reader.abort_handle());
        tracing::debug!(?id, %peer, ?protocol, "connection opened");
    }

    /// A dial came to its end.
    pub(crate) fn dialled(
        self: &Rc<Self>,
        id: ConnId,
        protocol: Protocol,
        stream: Option<(TcpStream, SocketAddr)>,
    ) {
        self.dialling.borrow_mut().remove(&id);
        match stream {
            Some((stream, peer)) => self.open(id, stream, peer, protocol),
            None => self.enqueue(Input::Closed { conn: id, why: CloseReason::DialFailed }),
        }
    }

    // They bring packets.

    async fn read(self: Rc<Self>, conn: Rc<Conn>, mut half: ReadHalf) {
        let why = loop {
            conn.may_read().await;
            match conn.receive(&mut half).await {
                Ok(received) if received.bytes == 0 => break CloseReason::Peer,
                Ok(received) => {
                    self.counters.reads.add(1);
                    self.counters.bytes_in.add(received.bytes);
                    if let Err(why) = self.deliver(&conn).await {
                        break why;
                    }
                    if received.is_full {
                        // The machine's turn before the next read: else the inbox grows as fast as the peer sends.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    tracing::debug!(id = ?conn.id, peer = %conn.peer, %error, "connection broken");
                    break CloseReason::Peer;
                }
            }
        };
        self.finish(&conn, why);
    }

    /// Enqueues the whole packets received, with a turn of the machine after each [`PACKETS_PER_READ_MAX`].
    async fn deliver(&self, conn: &Conn) -> Result<(), CloseReason> {
        while self.deliver_some(conn)? == PACKETS_PER_READ_MAX {
            tokio::task::yield_now().await;
            conn.may_read().await;
        }
        Ok(())
    }

    fn deliver_some(&self, conn: &Conn) -> Result<usize, CloseReason> {
        let mut inbox = self.inbox.borrow_mut();
        let mut count = 0;
        while count < PACKETS_PER_READ_MAX {
            match conn.decode() {
                Ok(Some(packet)) => {
                    count += 1;
                    inbox.push_back(Input::Received { conn: conn.id, packet });
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = %conn.peer, %error, "closing a connection that does not speak the protocol");
                    return Err(CloseReason::Protocol);
                }
            }
        }
        if count > 0 {
            self.counters.packets_in.add(count);
            self.bell.ring_here();
        }
        Ok(count)
    }

    // Effects of a turn leave.

    /// Performs what the turn asked for.
    pub(crate) fn perform(self: &Rc<Self>) {
        if !self.asked.borrow().is_empty() {
            for asked in self.asked.take() {
                match asked {
                    Asked::Dial(id, peer) => {
                        let task = socket::spawn(dial(Rc::clone(self), id, peer));
                        self.dialling.borrow_mut().insert(id, task.abort_handle());
                    }
                    Asked::Hang(id) => {
                        if let Some(task) = self.dialling.borrow_mut().remove(&id) {
                            task.abort();
                            self.enqueue(Input::Closed { conn: id, why: CloseReason::Local });
                        }
                    }
                }
            }
        }
        let mut dirty = self.dirty.take();
        for conn in dirty.drain(..) {
            conn.clear_dirty();
            if !conn.is_gone() && !conn.has_writer() {
                self.flush(&conn);
            }
            if conn.backlog() > OUTPUT_CLOSE_BYTES && !conn.is_gone() {
                tracing::warn!(peer = %conn.peer, bytes = conn.backlog(), "closing a connection that does not read");
                self.finish(&conn, CloseReason::Peer);
            }
        }
        self.dirty.replace(dirty);
    }

    fn flush(self: &Rc<Self>, conn: &Rc<Conn>) {
        match conn.write(&self.counters) {
            Written::All(spare) => self.sent_all(conn, spare),
            Written::Blocked => {
                let writer = socket::spawn(Rc::clone(self).write(Rc::clone(conn)));
                conn.set_writer(Some(writer.abort_handle()));
            }
            Written::Broken(error) => self.broken(conn, &error),
        }
    }

    /// The task that writes the rest once the peer has made room.
    async fn write(self: Rc<Self>, conn: Rc<Conn>) {
        loop {
            if let Err(error) = conn.writable().await {
                return self.broken(&conn, &error);
            }
            match conn.write(&self.counters) {
                Written::All(spare) => {
                    conn.set_writer(None);
                    conn.resume_reader();
                    return self.sent_all(&conn, spare);
                }
                Written::Blocked => conn.resume_reader(),
                Written::Broken(error) => return self.broken(&conn, &error),
            }
        }
    }

    fn sent_all(&self, conn: &Conn, spare: Vec<u8>) {
        let mut spares = self.spares.borrow_mut();
        if (1..=OUTPUT_KEEP_BYTES).contains(&spare.capacity()) && spares.len() < OUTPUT_SPARES_MAX {
            spares.push(spare);
        }
        if conn.is_closing() {
            self.finish(conn, CloseReason::Local);
        } else if conn.take_credit() {
            self.enqueue(Input::Drained { conn: conn.id });
        }
    }

    fn broken(&self, conn: &Conn, error: &std::io::Error) {
        tracing::debug!(id = ?conn.id, peer = %conn.peer, %error, "connection broken");
        self.finish(conn, CloseReason::Peer);
    }

    // Connections go.

    /// Ends a connection and tells the machine, once.
    fn finish(&self, conn: &Conn, why: CloseReason) {
        if conn.end() {
            self.conns.borrow_mut().remove(&conn.id);
            self.enqueue(Input::Closed { conn: conn.id, why });
            tracing::debug!(id = ?conn.id, peer = %conn.peer, ?why, "connection closed");
        }
    }

    /// The task that closes what has been silent for too long; it never ends.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(self.limits.idle / IDLE_SWEEPS).await;
            let conns: Vec<Rc<Conn>> = self.conns.borrow().values().map(Rc::clone).collect();
            for conn in conns {
                let quiet = conn.sweep();
                if conn.is_closing() {
                    if quiet > CLOSING_SWEEPS {
                        self.finish(&conn, CloseReason::Local);
                    }
                } else if quiet > IDLE_SWEEPS {
                    self.finish(&conn, CloseReason::Idle);
                }
            }
        }
    }

    /// Waits for output to leave, `limit` at most.
    pub(crate) async fn linger(&self, limit: Duration) {
        const LOOK: Duration = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while waited < limit && self.conns.borrow().values().any(|conn| conn.backlog() > 0) {
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }
}

/// The machine's [`Network`]: encodes at once, and leaves the rest to [`Shell::perform`].
pub(crate) struct Wires<C, E> {
    shell: Rc<Shell<C>>,
    /// What the machine told its host in this turn.
    pub(crate) events: Vec<E>,
}

impl<C, E> Wires<C, E> {
    pub(crate) fn new(shell: Rc<Shell<C>>) -> Self {
        Wires { shell, events: Vec::new() }
    }
}

impl<C, E> Network for Wires<C, E> {
    type Event = E;

    fn dial(&mut self, conn: ConnId, peer: &Peer) {
        self.shell.asked.borrow_mut().push(Asked::Dial(conn, peer.clone()));
    }

    fn send(&mut self, conn: ConnId, packet: Packet) {
        let shell = &*self.shell;
        if let Some(conn) = shell.conns.borrow().get(&conn)
            && !conn.is_closing()
        {
            shell.counters.packets_out.add(1);
            if conn.push(&packet, || shell.spares.borrow_mut().pop().unwrap_or_default()) {
                shell.dirty.borrow_mut().push(Rc::clone(conn));
            }
        }
    }

    fn close(&mut self, conn: ConnId) {
        let shell = &*self.shell;
        match shell.conns.borrow().get(&conn) {
            Some(conn) => {
                conn.set_closing();
                if conn.mark_dirty() {
                    shell.dirty.borrow_mut().push(Rc::clone(conn));
                }
            }
            None => shell.asked.borrow_mut().push(Asked::Hang(conn)),
        }
    }

    fn emit(&mut self, event: E) {
        self.events.push(event);
    }
}
