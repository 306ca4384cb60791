//! The least that a server can cost: epoll, one read, one write, and nothing known of the protocol but byte counts.
//!
//! With `--flush` it does what synchronous flush cannot do without: the bytes of the records written and synced by a
//! second thread before the replies leave, all that has come while it was busy in one go.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};

/// How to echo.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// Length of each request.
    #[arg(long)]
    request_bytes: usize,
    /// A file that holds the reply.
    #[arg(long)]
    reply: PathBuf,
    /// Write and sync this file before each reply.
    #[arg(long)]
    flush: Option<PathBuf>,
    /// Length of a record in that file.
    #[arg(long, default_value_t = 320)]
    record_bytes: usize,
}

struct Client {
    stream: TcpStream,
    /// Bytes of a request that is not whole yet.
    partial: usize,
}

const LISTENER: u64 = u64::MAX;
const FLUSHED: u64 = u64::MAX - 1;
const READ_BYTES: usize = 256 * 1024;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let reply = std::fs::read(&options.reply)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poller, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let flusher = match &options.flush {
        Some(path) => Some(Flusher::start(path, options.record_bytes, &poller)?),
        None => None,
    };
    println!("listening on {}", listener.local_addr()?);

    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut events =
        vec![epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::new();
    let mut waiting = Vec::new();
    loop {
        // Attaching `strace` interrupts the wait.
        let count = rustix::io::retry_on_intr(|| epoll::wait(&poller, &mut events[..], None))?;
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => accept(&listener, &poller, &mut clients)?,
                FLUSHED => {
                    if let Some(flusher) = &flusher {
                        for (id, count) in flusher.take_done()? {
                            if let Some(client) = clients.get(&id) {
                                answer(client, count, &reply, &mut output)?;
                            }
                        }
                    }
                }
                id => {
                    let Some(client) = clients.get_mut(&id) else { continue };
                    match client.stream.read(&mut input) {
                        Ok(0) | Err(_) => drop(clients.remove(&id)),
                        Ok(bytes) => {
                            let whole = (client.partial + bytes) / options.request_bytes;
                            client.partial = (client.partial + bytes) % options.request_bytes;
                            if flusher.is_some() {
                                waiting.push((id, whole));
                            } else {
                                answer(client, whole, &reply, &mut output)?;
                            }
                        }
                    }
                }
            }
        }
        if let Some(flusher) = &flusher {
            flusher.ask(&mut waiting);
        }
    }
}

fn accept(listener: &TcpListener, poller: &OwnedFd, clients: &mut HashMap<u64, Client>) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let id = stream.as_raw_fd().unsigned_abs().into();
    epoll::add(poller, &stream, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
    clients.insert(id, Client { stream, partial: 0 });
    Ok(())
}

fn answer(client: &Client, count: usize, reply: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.clear();
    for _ in 0..count {
        output.extend_from_slice(reply);
    }
    write_all(&client.stream, output)
}

/// Writes all of it, waiting when need be; a peer that is gone is found by the next read.
pub(crate) fn write_all(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(_gone) => return Ok(()),
        }
    }
    Ok(())
}

/// The second thread: writes and syncs what has come, then wakes the first.
struct Flusher {
    shared: Arc<Shared>,
    done_event: OwnedFd,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<(u64, usize)>>,
    any: Condvar,
    done: Mutex<Vec<(u64, usize)>>,
}

impl Flusher {
    fn start(path: &Path, record_bytes: usize, poller: &OwnedFd) -> io::Result<Flusher> {
        const FILE_BYTES: u64 = 1024 * 1024 * 1024;
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)?;
        let done_event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(poller, &done_event, epoll::EventData::new_u64(FLUSHED), epoll::EventFlags::IN)?;
        let shared = Arc::new(Shared::default());
        let (theirs, wake) = (Arc::clone(&shared), done_event.as_fd().try_clone_to_owned()?);
        std::thread::spawn(move || flush(&theirs, &file, record_bytes, FILE_BYTES, &wake));
        Ok(Flusher { shared, done_event })
    }

    fn ask(&self, waiting: &mut Vec<(u64, usize)>) {
        if !waiting.is_empty() {
            locked(&self.shared.asked).append(waiting);
            self.shared.any.notify_one();
        }
    }

    fn take_done(&self) -> io::Result<Vec<(u64, usize)>> {
        rustix::io::read(&self.done_event, &mut [0; 8])?;
        Ok(std::mem::take(&mut *locked(&self.shared.done)))
    }
}

fn flush(shared: &Shared, file: &File, record_bytes: usize, file_bytes: u64, wake: &OwnedFd) {
    let mut at = 0;
    let mut records = Vec::new();
    loop {
        let mut asked = locked(&shared.asked);
        while asked.is_empty() {
            asked = shared.any.wait(asked).expect("the other thread does not panic with the lock");
        }
        let batch = std::mem::take(&mut *asked);
        drop(asked);
        records.resize(record_bytes * batch.iter().map(|(_, count)| count).sum::<usize>(), b'r');
        if at + records.len() as u64 > file_bytes {
            at = 0;
        }
        file.write_all_at(&records, at).and_then(|()| file.sync_data()).expect("the disk works");
        at += records.len() as u64;
        locked(&shared.done).extend(batch);
        rustix::io::write(wake, &1u64.to_ne_bytes()).expect("an event can be counted");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("the other thread does not panic with the lock")
}
