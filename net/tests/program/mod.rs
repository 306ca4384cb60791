//! The `gantry` program as its users start it.

#![allow(dead_code)] // each test program uses what it needs

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_core::io::Protocol;
use gantry_core::wire::{Command as Packet, Link};
use rustix::process::{Pid, Signal, kill_process};

/// Ports of which the first of four, and the next three, are free. They are below the range from which the system draws ports for
/// outgoing connections, and none is given out twice: what is free now is so when a server takes it, but for other programs
/// that choose like this one, which begin elsewhere.
fn free_ports() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 20_000;
    const BLOCKS: u32 = 3_000;
    let begin = std::process::id().wrapping_mul(97);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..BLOCKS)
        .map(|_| begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS)
        .map(|block| u16::try_from(FIRST + 4 * block).unwrap())
        .find(|port| (*port..*port + 4).all(is_free))
        .expect("four free ports in a row")
}

/// A free port.
pub(crate) fn free_port() -> u16 {
    free_ports()
}

/// A free port for a broker: its second one and that of replication are free too.
pub(crate) fn free_broker_port() -> u16 {
    free_ports() + 2
}

/// The program with these arguments, nothing of the environment changing what it does.
pub(crate) fn gantry<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["NAMESRV_ADDR", "ROCKETMQ_HOME", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

pub(crate) struct Gantry {
    pub(crate) child: Child,
    /// What it printed at start.
    pub(crate) lines: Vec<String>,
}

/// Starts it and waits for so many lines.
pub(crate) fn start(mut command: Command, lines: usize) -> Gantry {
    let mut child = command.spawn().unwrap();
    let lines =
        BufReader::new(child.stdout.as_mut().unwrap()).lines().take(lines).map(Result::unwrap).collect();
    Gantry { child, lines }
}

/// A cluster of one process, killed when dropped.
pub(crate) struct Standalone {
    pub(crate) gantry: Gantry,
    pub(crate) namesrv: String,
    _data: tempfile::TempDir,
}

/// `gantry standalone`. Ports that were free a moment ago may be taken by then: it is tried again.
pub(crate) fn start_standalone() -> Standalone {
    let attempt = |_| {
        let data = tempfile::tempdir().unwrap();
        let (namesrv, broker) = (free_port(), free_broker_port());
        let mut command = gantry(["standalone", "--namesrv-port", &namesrv.to_string()]);
        command
            .args(["--broker-port", &broker.to_string()])
            .arg("--data")
            .arg(data.path())
            .stderr(Stdio::null());
        let gantry = start(command, 2);
        let is_up = gantry.lines.len() == 2;
        is_up.then(|| Standalone { gantry, namesrv: format!("127.0.0.1:{namesrv}"), _data: data })
    };
    (0..10).find_map(attempt).expect("gantry starts")
}

impl Gantry {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// How it ended and what it logged.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }

    /// Asks it to end, which it must do well; what it logged.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{log}");
        log
    }
}

/// A test that fails leaves nothing running.
impl Drop for Gantry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a start that is refused ends, and what it says.
pub(crate) fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn ask(port: u16, request: Packet) -> Packet {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ask_on(&mut stream, request).unwrap()
}

/// Asks on a connection on which nothing else is under way.
pub(crate) fn ask_on(stream: &mut TcpStream, request: Packet) -> io::Result<Packet> {
    let mut bytes = Vec::new();
    Link::encode(&request.into(), &mut bytes);
    stream.write_all(&bytes)?;
    let mut link = Link::new(Protocol::Remoting);
    let mut chunk = [0; 4096];
    loop {
        if let Some(gantry_core::wire::Packet::Command(reply)) = link.decode().map_err(io::Error::other)? {
            return Ok(reply);
        }
        let bytes = stream.read(&mut chunk)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        link.incoming().extend_from_slice(&chunk[..bytes]);
    }
}
