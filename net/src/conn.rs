//! One connection: its codec, the output that has not left, and its credit.
//!
//! Everything is on one thread, so the state is in cells. A connection is in hand of three: the table, its reader, and
//! while the peer is slow to take its output, a writer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Poll, Waker};

use bytes::BytesMut;
use gantry_core::io::{CREDIT_BYTES, ConnId, Protocol};
use gantry_core::wire::{Link, LinkError, Packet};
use tokio::task::AbortHandle;

use crate::config::{OUTPUT_PAUSE_BYTES, READ_BYTES_MAX, READ_BYTES_MIN};
use crate::counters::Counters;
use crate::socket::{ReadHalf, WriteHalf};

pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) peer: SocketAddr,
    half: WriteHalf,
    link: RefCell<Link>,
    /// Room that the next read gets.
    read_bytes: Cell<usize>,
    output: RefCell<Output>,
    /// Sent since the last `Drained`, by [`Packet::cost`].
    cost: Cell<u64>,
    /// Whether it waits in the list of those to be flushed.
    is_dirty: Cell<bool>,
    /// The machine asked for its close: nothing more is received.
    is_closing: Cell<bool>,
    is_gone: Cell<bool>,
    /// Sweeps since anything was read or written.
    quiet_sweeps: Cell<u32>,
    /// The reader, while too much output keeps it from reading.
    paused: RefCell<Option<Waker>>,
    reader: RefCell<Option<AbortHandle>>,
    writer: RefCell<Option<AbortHandle>>,
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// How many of `bytes` have left.
    sent: usize,
}

/// What a read brought.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    /// None is the peer's end.
    pub(crate) bytes: usize,
    /// It took all the room: there may be more.
    pub(crate) is_full: bool,
}

/// How a write went.
pub(crate) enum Written {
    /// Nothing is left. The emptied buffer is handed back.
    All(Vec<u8>),
    /// The system takes no more for now.
    Blocked,
    /// The connection is broken.
    Broken(io::Error),
}

impl Conn {
    pub(crate) fn new(id: ConnId, peer: SocketAddr, protocol: Protocol, half: WriteHalf) -> Conn {
        Conn {
            id,
            peer,
            half,
            link: RefCell::new(Link::new(protocol)),
            read_bytes: Cell::new(READ_BYTES_MIN),
            output: RefCell::default(),
            cost: Cell::new(0),
            is_dirty: Cell::new(false),
            is_closing: Cell::new(false),
            is_gone: Cell::new(false),
            quiet_sweeps: Cell::new(0),
            paused: RefCell::default(),
            reader: RefCell::default(),
            writer: RefCell::default(),
        }
    }

    // Receiving.

    /// Waits while the peer leaves too much of its output unread.
    pub(crate) async fn may_read(&self) {
        poll_fn(|cx| {
            if !self.is_closing.get() && self.backlog() <= OUTPUT_PAUSE_BYTES {
                return Poll::Ready(());
            }
            *self.paused.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Reads once, straight into the codec's buffer.
    pub(crate) async fn receive(&self, half: &mut ReadHalf) -> io::Result<Received> {
        poll_fn(|cx| {
            // The buffer is borrowed for the poll only: a sweep may free it while the reader waits.
            let mut link = self.link.borrow_mut();
            let incoming = link.incoming();
            let room = self.make_room(incoming);
            half.poll_read(cx, incoming).map_ok(|bytes| {
                let is_full = bytes == room;
                if is_full {
                    self.read_bytes.set((self.read_bytes.get() * 2).min(READ_BYTES_MAX));
                }
                self.quiet_sweeps.set(0);
                Received { bytes, is_full }
            })
        })
        .await
    }

    /// Offers what is left of the buffer while that is at least a quarter of a read, so that several requests share one
    /// allocation.
    fn make_room(&self, incoming: &mut BytesMut) -> usize {
        let read_bytes = self.read_bytes.get();
        if incoming.capacity() - incoming.len() < read_bytes / 4 {
            incoming.reserve(read_bytes);
        }
        incoming.capacity() - incoming.len()
    }

    /// The next whole packet of what was received.
    pub(crate) fn decode(&self) -> Result<Option<Packet>, LinkError> {
        self.link.borrow_mut().decode()
    }

    // Sending.

    /// Queues a packet; `spare` gives an empty buffer when there is none yet. Whether this is the first since the last
    /// flush.
    pub(crate) fn push(&self, packet: &Packet, spare: impl FnOnce() -> Vec<u8>) -> bool {
        let mut output = self.output.borrow_mut();
        if output.bytes.capacity() == 0 {
            output.bytes = spare();
        } else if output.sent > output.bytes.len() / 2 {
            let sent = std::mem::take(&mut output.sent);
            output.bytes.drain(..sent);
        }
        Link::encode(packet, &mut output.bytes);
        self.cost.set(self.cost.get() + packet.cost());
        !self.is_dirty.replace(true)
    }

    /// Puts it on the list of those to be flushed, once.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.is_dirty.replace(true)
    }

    pub(crate) fn clear_dirty(&self) {
        self.is_dirty.set(false);
    }

    /// Output that has not left, in bytes.
    pub(crate) fn backlog(&self) -> usize {
        let output = self.output.borrow();
        output.bytes.len() - output.sent
    }

    /// Writes as much as the system takes now.
    pub(crate) fn write(&self, counters: &Counters) -> Written {
        let mut output = self.output.borrow_mut();
        while output.sent < output.bytes.len() {
            match self.half.try_write(&output.bytes[output.sent..]) {
                Ok(bytes) => {
                    output.sent += bytes;
                    self.quiet_sweeps.set(0);
                    counters.writes.add(1);
                    counters.bytes_out.add(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Written::Broken(error),
            }
        }
        output.sent = 0;
        output.bytes.clear();
        Written::All(std::mem::take(&mut output.bytes))
    }

    /// Waits until [`Conn::write`] may get further.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.half.writable().await
    }

    /// Lets the reader go on when enough has left.
    pub(crate) fn resume_reader(&self) {
        if self.backlog() <= OUTPUT_PAUSE_BYTES
            && let Some(reader) = self.paused.take()
        {
            reader.wake();
        }
    }

    /// Once everything has left: whether that gives the sender a new credit.
    pub(crate) fn take_credit(&self) -> bool {
        let is_due = self.cost.get() >= CREDIT_BYTES;
        if is_due {
            self.cost.set(0);
        }
        is_due
    }

    // Its life.

    pub(crate) fn set_reader(&self, task: AbortHandle) {
        *self.reader.borrow_mut() = Some(task);
    }

    pub(crate) fn set_writer(&self, task: Option<AbortHandle>) {
        *self.writer.borrow_mut() = task;
    }

    pub(crate) fn has_writer(&self) -> bool {
        self.writer.borrow().is_some()
    }

    pub(crate) fn set_closing(&self) {
        self.is_closing.set(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Ends its tasks, and with the last of them the socket. False when it had ended before.
    pub(crate) fn end(&self) -> bool {
        if self.is_gone.replace(true) {
            return false;
        }
        for task in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            task.abort();
        }
        true
    }

    /// Counts a sweep of the idle connections: how many have passed since anything was read or written. A quiet
    /// connection gives its empty read buffer back.
    pub(crate) fn sweep(&self) -> u32 {
        let quiet = self.quiet_sweeps.get() + 1;
        self.quiet_sweeps.set(quiet);
        let mut link = self.link.borrow_mut();
        if quiet > 1 && link.incoming().is_empty() {
            *link.incoming() = BytesMut::new();
            self.read_bytes.set(READ_BYTES_MIN);
        }
        quiet
    }
}
