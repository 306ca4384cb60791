//! The services of one process: a thread each, started in order, stopped in the opposite order.
//!
//! SIGTERM and SIGINT stop them cleanly, a second one ends the process at once; SIGUSR1 writes what they have counted to
//! the log. The end of one of them, whatever its reason, ends the process: half a cluster is worse to find than none.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use gantry_core::io::Machine;
use gantry_disk::MappedDisk;
use gantry_net::config::STOP_LIMIT;
use gantry_net::driver::{Flow, Notice, Service, Waker, run};
use gantry_net::{Counters, Mailbox};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What an event of a machine means for its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// It serves.
    Ready,
    /// It has stopped.
    Stopped,
    /// Nothing.
    Other,
}

/// How a machine is made and understood.
pub(crate) struct Role<M: Machine<MappedDisk>> {
    pub(crate) service: Service,
    pub(crate) make: Make<M>,
    pub(crate) read: Read<M::Event>,
    pub(crate) stop: fn() -> M::Command,
}

/// Opens the disk and makes the machine, once a life.
pub(crate) type Make<M> = Box<dyn FnMut(Waker) -> Result<(M, MappedDisk), String> + Send>;

/// Says what an event means.
pub(crate) type Read<E> = Box<dyn FnMut(E) -> Meaning + Send>;

/// What a service says to the process.
enum Word {
    Ready(String),
    Ended(String, Result<(), String>),
}

struct Hosted {
    name: String,
    counters: Arc<Counters>,
    stop: Box<dyn Fn()>,
    has_ended: bool,
}

/// The services of this process.
pub(crate) struct Process {
    hosted: Vec<Hosted>,
    say: UnboundedSender<Word>,
    words: UnboundedReceiver<Word>,
    terminate: Signal,
    interrupt: Signal,
    count: Signal,
}

/// What a process waits for.
enum Happened {
    Word(Word),
    StopAsked,
}

/// Runs `body` over an empty process, on this thread.
pub(crate) fn host<F: Future<Output = Result<(), String>>>(
    body: impl FnOnce(Process) -> F,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let process = Process::new().map_err(|error| format!("cannot take signals: {error}"))?;
        body(process).await
    })
}

impl Process {
    fn new() -> io::Result<Process> {
        let (say, words) = unbounded_channel();
        Ok(Process {
            hosted: Vec::new(),
            say,
            words,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            count: signal(SignalKind::user_defined1())?,
        })
    }

    /// Starts a service and waits until it serves. False when the process was asked to stop meanwhile: then everything
    /// has stopped.
    pub(crate) async fn start<M>(&mut self, role: Role<M>) -> Result<bool, String>
    where
        M: Machine<MappedDisk, Command: Send, Event: 'static> + 'static,
    {
        let Role { service, make, read, stop } = role;
        let name = service.name.clone();
        let mailbox = Mailbox::new();
        let counters = Arc::new(Counters::default());
        let (say, theirs) = (self.say.clone(), (mailbox.clone(), Arc::clone(&counters)));
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || live(&service, &theirs.0, &theirs.1, make, read, &say))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let stop = Box::new(move || mailbox.stop(stop()));
        self.hosted.push(Hosted { name, counters, stop, has_ended: false });
        loop {
            match self.happening().await {
                Happened::Word(Word::Ready(who))
                    if self.hosted.last().is_some_and(|last| last.name == who) =>
                {
                    return Ok(true);
                }
                Happened::Word(Word::Ready(_again)) => {}
                Happened::Word(Word::Ended(who, how)) => return Err(self.end_after(&who, how).await),
                Happened::StopAsked => return self.stop().await.map(|()| false),
            }
        }
    }

    /// Waits until the process is asked to stop, then stops the services.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        loop {
            match self.happening().await {
                Happened::Word(Word::Ready(_again)) => {}
                Happened::Word(Word::Ended(who, how)) => return Err(self.end_after(&who, how).await),
                Happened::StopAsked => return self.stop().await,
            }
        }
    }

    async fn happening(&mut self) -> Happened {
        loop {
            tokio::select! {
                word = self.words.recv() => match word {
                    Some(word) => return Happened::Word(word),
                    None => unreachable!("this process holds a sender itself"),
                },
                _ = self.terminate.recv() => return Happened::StopAsked,
                _ = self.interrupt.recv() => return Happened::StopAsked,
                _ = self.count.recv() => {
                    for Hosted { name, counters, .. } in &self.hosted {
                        tracing::info!(service = name, "{}", counters.read());
                    }
                }
            }
        }
    }

    /// A service ended unasked: the others stop, and its reason is the process's.
    async fn end_after(&mut self, who: &str, how: Result<(), String>) -> String {
        self.note_end(who);
        let reason = match how {
            Ok(()) => format!("{who} ended"),
            Err(reason) => reason,
        };
        if let Err(further) = self.stop().await {
            tracing::error!(reason = further, "while stopping");
        }
        reason
    }

    /// Stops the services, the last started first, each once the one before it has ended: a broker takes leave of its
    /// name server.
    async fn stop(&mut self) -> Result<(), String> {
        if self.hosted.iter().any(|hosted| !hosted.has_ended) {
            tracing::info!("stopping");
        }
        let mut failure = None;
        for at in (0..self.hosted.len()).rev() {
            let hosted = &self.hosted[at];
            if hosted.has_ended {
                continue;
            }
            (hosted.stop)();
            let name = hosted.name.clone();
            match tokio::time::timeout(STOP_LIMIT, self.ended(&name)).await {
                Ok(Ok(())) => tracing::info!(service = name, "stopped"),
                Ok(Err(reason)) => failure = failure.or(Some(reason)),
                Err(_elapsed) => return Err(too_slow(&name, STOP_LIMIT)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn ended(&mut self, name: &str) -> Result<(), String> {
        loop {
            match self.happening().await {
                Happened::Word(Word::Ended(who, how)) => {
                    self.note_end(&who);
                    if who == name {
                        return how;
                    }
                }
                Happened::Word(Word::Ready(_)) => {}
                Happened::StopAsked => {
                    tracing::warn!("asked to stop a second time: ending at once");
                    std::process::exit(1);
                }
            }
        }
    }

    fn note_end(&mut self, who: &str) {
        for hosted in &mut self.hosted {
            hosted.has_ended |= hosted.name == who;
        }
    }
}

fn too_slow(name: &str, limit: Duration) -> String {
    format!("{name} did not stop within {} s; what it had acknowledged is kept", limit.as_secs())
}

/// The thread of a service.
fn live<M>(
    service: &Service,
    mailbox: &Mailbox<M::Command>,
    counters: &Arc<Counters>,
    make: Make<M>,
    mut read: Read<M::Event>,
    say: &UnboundedSender<Word>,
) where
    M: Machine<MappedDisk, Event: 'static> + 'static,
{
    let (name, tell) = (service.name.clone(), say.clone());
    let mut progress = (false, false);
    // Ready is a service whose listeners are open and whose machine has said that it serves.
    let notice = move |notice: Notice<'_, M::Event>| {
        match notice {
            Notice::Ready(addresses) => {
                tracing::info!(addresses = %Addresses(addresses), "listening");
                progress = (true, progress.1);
            }
            Notice::Event(event) => match read(event) {
                Meaning::Ready => progress.1 = true,
                Meaning::Stopped => return Flow::Stop,
                Meaning::Other => return Flow::Continue,
            },
        }
        if progress == (true, true) {
            progress = (false, false);
            // The process outlives its services.
            let _ = tell.send(Word::Ready(name.clone()));
        }
        Flow::Continue
    };
    let how = catch_unwind(AssertUnwindSafe(|| run(service, mailbox, counters, make, notice)));
    let how = match how {
        Ok(how) => how.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("{} broke an invariant of its own: {}", service.name, text_of(&*panic))),
    };
    let _ = say.send(Word::Ended(service.name.clone(), how));
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

struct Addresses<'a>(&'a [SocketAddr]);

impl std::fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
