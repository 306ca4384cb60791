//! A faulty network between two processes of one machine: connections are cut, stand still, or lose an answer. One in front of a name
//! server also writes down what passes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gantry_core::io::{CloseReason, ConnId, Protocol};
use gantry_core::wire::Link;
use gantry_sim::check::outside::What;
use gantry_sim::plan::CAST;
use gantry_sim::process::Seen;

use super::history::History;

/// As long as clients wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    There,
    Back,
}

#[derive(Default)]
struct Shared {
    streams: Mutex<Vec<TcpStream>>,
    /// Nothing moves while it is set.
    is_held: Mutex<bool>,
    released: Condvar,
    /// The next answer gets lost, and its connection with it: what was asked for has been done.
    loses_answer: AtomicBool,
}

/// Passes bytes on from its address to another.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens at one address (with port 0, at a free one) for another.
    pub(crate) fn new(at: SocketAddr, to: SocketAddr, tap: Option<&History>) -> Proxy {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (ours, tap) = (Arc::clone(&shared), tap.cloned());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (ours, tap) = (Arc::clone(&ours), tap.clone());
                // Each on its own: a process that stands still takes no more connections than fit its queue.
                std::thread::spawn(move || {
                    ours.wait();
                    // Nobody is there: the client sees its connection end.
                    let far = TcpStream::connect_timeout(&to, CONNECT)?;
                    // A connection that breaks at once is no connection.
                    ours.join(near, far, tap.as_ref())
                });
            }
        });
        Proxy { address, shared }
    }

    /// Resets all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Nothing moves from now on, in either direction, or it does again.
    pub(crate) fn hold(&self, is_held: bool) {
        *self.shared.is_held.lock().unwrap() = is_held;
        self.shared.released.notify_all();
    }

    /// The next answer gets lost.
    pub(crate) fn lose_answer(&self) {
        self.shared.loses_answer.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn wait(&self) {
        let mut is_held = self.is_held.lock().unwrap();
        while *is_held {
            is_held = self.released.wait(is_held).unwrap();
        }
    }

    fn join(self: &Arc<Shared>, near: TcpStream, far: TcpStream, tap: Option<&History>) -> io::Result<()> {
        static CONNS: AtomicU64 = AtomicU64::new(0);
        let tap = tap.map(|history| Tap {
            history: history.clone(),
            conn: ConnId::accepted(CONNS.fetch_add(1, Ordering::Relaxed)),
            is_over: Arc::default(),
        });
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        let ways = [
            (Way::There, near.try_clone()?, far.try_clone()?),
            (Way::Back, far.try_clone()?, near.try_clone()?),
        ];
        self.streams.lock().unwrap().extend([near, far]);
        for (way, from, to) in ways {
            let (ours, tap) = (Arc::clone(self), tap.clone());
            std::thread::spawn(move || {
                // An error is the end of it, as a proper end is.
                let _ = ours.pass(way, &from, &to, tap.as_ref());
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                if let Some(tap) = tap {
                    tap.end();
                }
            });
        }
        Ok(())
    }

    fn pass(&self, way: Way, mut from: &TcpStream, mut to: &TcpStream, tap: Option<&Tap>) -> io::Result<()> {
        let mut link = Link::new(Protocol::Remoting);
        let mut chunk = vec![0; 65_536];
        loop {
            let bytes = from.read(&mut chunk)?;
            if bytes == 0 {
                return Ok(());
            }
            self.wait();
            if way == Way::Back && self.loses_answer.swap(false, Ordering::Relaxed) {
                return Ok(());
            }
            // Requests before they arrive, answers once they have: so a name server's own order lies in between.
            if let (Some(tap), Way::There) = (tap, way) {
                tap.see(way, &mut link, &chunk[..bytes]);
            }
            to.write_all(&chunk[..bytes])?;
            if let (Some(tap), Way::Back) = (tap, way) {
                tap.see(way, &mut link, &chunk[..bytes]);
            }
        }
    }
}

/// Writes down what passes on a connection.
#[derive(Clone)]
struct Tap {
    history: History,
    conn: ConnId,
    is_over: Arc<AtomicBool>,
}

impl Tap {
    fn see(&self, way: Way, link: &mut Link, bytes: &[u8]) {
        let conn = self.conn;
        link.incoming().extend_from_slice(bytes);
        loop {
            let packet = match link.decode() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => return self.history.broken(format!("no protocol at the name server: {error}")),
            };
            let seen = match way {
                Way::There => Seen::Received { conn, packet },
                Way::Back => Seen::Send { conn, packet },
            };
            self.history.add(CAST.name_server, What::Seen(seen));
        }
    }

    fn end(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            let why = CloseReason::Peer;
            self.history.add(CAST.name_server, What::Seen(Seen::Closed { conn: self.conn, why }));
        }
    }
}
