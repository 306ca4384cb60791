//! Everything of tokio that its simulated double does not offer, in one place.
//!
//! A socket is read through [`ReadHalf`] and written through [`WriteHalf`], which can try a write at once without a task:
//! one read and one write a request is what the speed of the shell rests on.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;

/// Tasks polled between two looks at the sockets while tasks keep being ready. With tokio's 61, a turn of 64 ready
/// connections would be cut in two by an extra system call.
const TASKS_PER_POLL: u32 = 512;

/// Runs `future` and what it spawns on this thread alone; when it ends, everything spawned is dropped.
pub(crate) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(TASKS_PER_POLL)
        .build_local(LocalOptions::default())?;
    Ok(runtime.block_on(future))
}

/// Spawns on this thread.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(future)
}

/// A listener that outlives the lives of a machine: between two of them nobody else can take its port.
pub(crate) struct Port(std::net::TcpListener);

impl Port {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Port> {
        TcpListener::bind(address).await?.into_std().map(Port)
    }

    /// For one life.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.0.try_clone()?)
    }
}

/// Parts a connection, small packets leaving at once.
pub(crate) fn split(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    // It fails only on a connection that is gone already, as the first read will tell.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    (ReadHalf(read), WriteHalf(write))
}

/// The receiving half of a connection.
pub(crate) struct ReadHalf(OwnedReadHalf);

impl ReadHalf {
    /// Appends to the spare room of `buf`, of which there must be some. A read that leaves room is known to have emptied
    /// the socket, so no second one is needed to find that out. `Ok(0)` is the peer's end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        pin!(self.0.read_buf(buf)).poll(cx)
    }
}

/// The sending half of a connection. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct WriteHalf(OwnedWriteHalf);

impl WriteHalf {
    /// Writes what the system takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Waits until a write may be tried again.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }
}
