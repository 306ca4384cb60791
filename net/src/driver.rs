//! Hosts one machine on the calling thread: its sockets, its turns, and its lives.
//!
//! ```text
//! readers ──decode──▶ inbox ──▶ turn task: Node::turn ──▶ output buffers ──▶ one write a connection
//!                       ▲           ▲
//!   accepts, dials, closes      bell: readers, alarm, disk helpers, mailbox
//! ```
//!
//! The turn task is an ordinary task behind the readers in the queue: by the time it runs, every connection that was
//! ready has been read, so a turn's batch is whatever has arrived. It never waits on a timer for company.
//!
//! A machine that fails is dropped with its connections, and when it asks for it a new one is made from the disk, after
//! a pause that doubles from life to life.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gantry_core::io::{Disk, Input, Machine, Protocol};
use gantry_core::node::{Node, Turn};
use gantry_core::rng::Rng;
use tokio::net::TcpListener;

use crate::accept::{accept, turn_away};
use crate::alarm::Alarm;
use crate::bell::{Bell, Mailbox};
use crate::config::{LINGER, Limits, RESTART_DELAY_MAX, RESTART_DELAY_MIN, RESTART_FORGIVEN};
use crate::counters::Counters;
use crate::shell::{Shell, Wires};
use crate::socket::{self, Port};
use crate::system::{SystemClock, entropy_seed};

/// What wakes a service from another thread, for the disk to call when something completed.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What a service listens to and grants.
#[derive(Clone, Debug)]
pub struct Service {
    /// What log lines and errors call it.
    pub name: String,
    /// Where it listens.
    pub listeners: Vec<Listen>,
    /// What it grants its peers.
    pub limits: Limits,
}

/// An address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The setting that chooses the port, for the error when it is taken.
    pub setting: &'static str,
}

impl Listen {
    fn describe(&self, error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listen { address, protocol: _, setting } = self;
        let (ip, port) = (address.ip(), address.port());
        let kind = error.kind();
        if kind == io::ErrorKind::AddrInUse {
            write!(
                f,
                "port {port} on {ip} is in use: stop the process that has it, or choose another port with {setting}"
            )
        } else if kind == io::ErrorKind::PermissionDenied {
            write!(f, "not permitted to listen on {address}: choose a port above 1023 with {setting}")
        } else if kind == io::ErrorKind::AddrNotAvailable {
            write!(f, "{ip} is no address of this machine: choose another with --listen")
        } else {
            write!(f, "cannot listen on {address} ({setting}): {error}")
        }
    }
}

/// What the host is told.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a, E> {
    /// A life has had its first turn and takes connections, at these addresses in the order of [`Service::listeners`].
    Ready(&'a [SocketAddr]),
    /// The machine said something.
    Event(E),
}

/// What the host answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Go on.
    Continue,
    /// The machine has done all it had to: send what is left and end.
    Stop,
}

/// Why a service ended without being asked. The text says what to do.
#[derive(Debug)]
pub enum ServiceError {
    /// An address cannot be listened on.
    Listen {
        /// Which.
        listen: Listen,
        /// Why.
        error: io::Error,
    },
    /// The machine could not be made (its disk could not be opened).
    Make(String),
    /// The machine gave up for good.
    Failed(String),
    /// The system refused what a runtime needs.
    Runtime(io::Error),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::Listen { listen, error } => listen.describe(error, f),
            ServiceError::Make(reason) | ServiceError::Failed(reason) => f.write_str(reason),
            ServiceError::Runtime(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for ServiceError {}

/// How a life ended.
enum End {
    Stopped,
    Failed { reason: String, restart: bool },
}

/// Runs a machine on this thread until it has stopped or failed for good.
///
/// `make` opens the disk, handing it the waker, and makes the machine: once a life. `notice` is called on this thread
/// between turns.
///
/// # Errors
/// See [`ServiceError`].
pub fn run<M, D>(
    service: &Service,
    mailbox: &Mailbox<M::Command>,
    counters: &Arc<Counters>,
    mut make: impl FnMut(Waker) -> Result<(M, D), String>,
    notice: impl FnMut(Notice<'_, M::Event>) -> Flow + 'static,
) -> Result<(), ServiceError>
where
    D: Disk + 'static,
    M: Machine<D> + 'static,
    M::Command: 'static,
{
    // The ports come first: a second start of the same service finds out before it touches the disk.
    let ports = socket::block_on(bind(service)).map_err(ServiceError::Runtime)??;
    let notice = Rc::new(RefCell::new(notice));
    let mut delay = RESTART_DELAY_MIN;
    loop {
        let born = Instant::now();
        let life = live(service, &ports, mailbox, counters, &mut make, &notice);
        match socket::block_on(life).map_err(ServiceError::Runtime)?? {
            End::Stopped => return Ok(()),
            End::Failed { reason, restart } if !restart || mailbox.is_stopping() => {
                return Err(ServiceError::Failed(reason));
            }
            End::Failed { reason, restart: _ } => {
                if born.elapsed() > RESTART_FORGIVEN {
                    delay = RESTART_DELAY_MIN;
                }
                tracing::error!(
                    service = service.name,
                    reason,
                    ?delay,
                    "failed; starting again from the disk"
                );
                let pause = pause(&ports, mailbox, Instant::now() + delay);
                socket::block_on(pause).and_then(|paused| paused).map_err(ServiceError::Runtime)?;
                if mailbox.is_stopping() {
                    return Ok(());
                }
                delay = (delay * 2).min(RESTART_DELAY_MAX);
            }
        }
    }
}

async fn bind(service: &Service) -> Result<Vec<(Port, Protocol)>, ServiceError> {
    let mut ports = Vec::new();
    for listen in &service.listeners {
        let port = Port::bind(listen.address)
            .await
            .map_err(|error| ServiceError::Listen { listen: listen.clone(), error })?;
        ports.push((port, listen.protocol));
    }
    Ok(ports)
}

/// Waits until `end`, or until the host wants to stop. Who connects meanwhile is told at once, by the end of the
/// connection, that nobody is there.
async fn pause<C>(ports: &[(Port, Protocol)], mailbox: &Mailbox<C>, end: Instant) -> io::Result<()> {
    for (port, _) in ports {
        socket::spawn(turn_away(port.listen()?));
    }
    while !mailbox.is_stopping() && Instant::now() < end {
        let _ = tokio::time::timeout_at(end.into(), mailbox.bell().heard()).await;
    }
    Ok(())
}

async fn live<M, D, N>(
    service: &Service,
    ports: &[(Port, Protocol)],
    mailbox: &Mailbox<M::Command>,
    counters: &Arc<Counters>,
    make: &mut impl FnMut(Waker) -> Result<(M, D), String>,
    notice: &Rc<RefCell<N>>,
) -> Result<End, ServiceError>
where
    D: Disk + 'static,
    M: Machine<D> + 'static,
    M::Command: 'static,
    N: FnMut(Notice<'_, M::Event>) -> Flow + 'static,
{
    let mut listeners = Vec::new();
    for (port, protocol) in ports {
        listeners.push((port.listen().map_err(ServiceError::Runtime)?, *protocol));
    }
    let bell = Arc::clone(mailbox.bell());
    let disk_bell = Arc::clone(&bell);
    let (machine, disk) = make(Arc::new(move || disk_bell.ring())).map_err(ServiceError::Make)?;

    let shell = Rc::new(Shell::new(service.limits.clone(), Arc::clone(counters), Arc::clone(&bell)));
    let clock = SystemClock::new();
    let wires = Wires::new(Rc::clone(&shell));
    let host = Host {
        node: Node::new(machine, clock, wires, disk, Rng::from_seed(entropy_seed())),
        clock,
        alarm: Rc::default(),
        mailbox: mailbox.clone(),
        notice: Rc::clone(notice),
        shell,
        bell,
    };
    match socket::spawn(host.run(listeners)).await {
        Ok(end) => Ok(end),
        // A broken assertion of ours: it ends the process, as it would have on a thread of its own.
        Err(join) => std::panic::resume_unwind(join.into_panic()),
    }
}

/// The turn task.
struct Host<M, D, N>
where
    D: Disk,
    M: Machine<D>,
{
    node: Node<M, SystemClock, Wires<M::Command, M::Event>, D>,
    clock: SystemClock,
    shell: Rc<Shell<M::Command>>,
    alarm: Rc<Alarm>,
    bell: Arc<Bell>,
    mailbox: Mailbox<M::Command>,
    notice: Rc<RefCell<N>>,
}

impl<M, D, N> Host<M, D, N>
where
    D: Disk + 'static,
    M: Machine<D> + 'static,
    M::Command: 'static,
    N: FnMut(Notice<'_, M::Event>) -> Flow + 'static,
{
    async fn run(mut self, listeners: Vec<(TcpListener, Protocol)>) -> End {
        socket::spawn(Rc::clone(&self.alarm).run(Arc::clone(&self.bell)));
        socket::spawn(Rc::clone(&self.shell).sweep());
        let mut unopened = Some(listeners);
        loop {
            self.mailbox.take(|command| self.shell.inbox.borrow_mut().push_back(Input::Command(command)));
            let turn = self.node.turn(&mut self.shell.inbox.borrow_mut());
            self.shell.counters.turns.add(1);
            let deadline = match turn {
                Turn::Idle { deadline } => deadline,
                Turn::More => None,
                Turn::Failed { reason, restart } => return End::Failed { reason, restart },
            };
            // What a turn tells its host is heard before its replies leave: a setting that is confirmed is in its file.
            let mut flow = Flow::Continue;
            for event in self.node.network_mut().events.drain(..) {
                if (self.notice.borrow_mut())(Notice::Event(event)) == Flow::Stop {
                    flow = Flow::Stop;
                }
            }
            self.shell.perform();
            if let Some(listeners) = unopened.take()
                && self.begin(listeners) == Flow::Stop
            {
                flow = Flow::Stop;
            }
            if flow == Flow::Stop {
                self.shell.linger(LINGER).await;
                return End::Stopped;
            }
            if self.shell.inbox.borrow().is_empty() {
                self.alarm.set(deadline.map(|(at, _)| self.clock.to_system(at)));
                self.bell.heard().await;
            }
        }
    }

    /// Takes connections from now on.
    fn begin(&self, listeners: Vec<(TcpListener, Protocol)>) -> Flow {
        let addresses: Vec<SocketAddr> =
            listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        for (listener, protocol) in listeners {
            socket::spawn(accept(Rc::clone(&self.shell), listener, protocol));
        }
        (self.notice.borrow_mut())(Notice::Ready(&addresses))
    }
}
