//! `gantry standalone` as its users meet it: what it prints, what it refuses and why, and how it ends.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gantry_core::io::Protocol;
use gantry_core::wire::{Command as Packet, Ext, Link};
use rustix::process::{Pid, Signal, kill_process};

/// A name server's port and a broker's, with the next one free too.
fn free_ports() -> (u16, u16) {
    let namesrv = TcpListener::bind("127.0.0.1:0").unwrap();
    loop {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = broker.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port.saturating_add(1))).is_ok() {
            return (namesrv.local_addr().unwrap().port(), port);
        }
    }
}

fn command(data: &Path, (namesrv, broker): (u16, u16)) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args([
        "standalone",
        "--namesrv-port",
        &namesrv.to_string(),
        "--broker-port",
        &broker.to_string(),
    ]);
    command.arg("--data").arg(data).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Gantry {
    child: Child,
    lines: Vec<String>,
}

/// Starts it and waits for its two lines.
fn start(data: &Path, ports: (u16, u16)) -> Gantry {
    let mut child = command(data, ports).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(2).map(Result::unwrap).collect();
    Gantry { child, lines }
}

impl Gantry {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// How it ended and what it logged.
    fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

/// How a start that is refused ends, and what it says.
fn refused(data: &Path, ports: (u16, u16)) -> String {
    let output = command(data, ports).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    String::from_utf8(output.stderr).unwrap()
}

fn ask(port: u16, request: Packet) -> Packet {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    Link::encode(&request.into(), &mut bytes);
    stream.write_all(&bytes).unwrap();
    let mut link = Link::new(Protocol::Remoting);
    let mut chunk = [0; 4096];
    loop {
        if let Some(gantry_core::wire::Packet::Command(reply)) = link.decode().unwrap() {
            return reply;
        }
        let bytes = stream.read(&mut chunk).unwrap();
        assert!(bytes > 0, "the connection ended");
        link.incoming().extend_from_slice(&chunk[..bytes]);
    }
}

#[test]
fn it_says_what_the_scripts_wait_for_serves_and_stops_cleanly() {
    let data = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let begin = Instant::now();
    let gantry = start(data.path(), ports);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let (namesrv, broker) = ports;
    assert_eq!(
        gantry.lines,
        [
            format!("The Name Server boot success. serializeType=JSON, address 127.0.0.1:{namesrv}"),
            format!(
                "The broker[broker-a, 127.0.0.1:{broker}] boot success. serializeType=JSON and name server is \
                 127.0.0.1:{namesrv}"
            )
        ]
    );
    // The broker is in the routes: TBW102 is there for topics to be made from.
    const GET_ROUTEINFO_BY_TOPIC: i32 = 105;
    let route = || {
        let topic = Ext::Fields(vec![("topic".into(), "TBW102".into())]);
        ask(namesrv, Packet::request(GET_ROUTEINFO_BY_TOPIC, topic))
    };
    while route().code != 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(String::from_utf8_lossy(&route().body).contains(&format!("127.0.0.1:{broker}")));

    gantry.signal(Signal::USR1);
    std::thread::sleep(Duration::from_millis(100));
    gantry.signal(Signal::TERM);
    let (status, log) = gantry.wait();
    assert!(status.success(), "{log}");
    for service in ["namesrv", "broker"] {
        let counts =
            |line: &&str| line.contains("turns=") && line.contains(&format!("service=\"{service}\""));
        assert!(log.lines().any(|line| counts(&line)), "{log}");
    }
}

#[test]
fn it_names_the_port_that_is_in_use_and_its_flag() {
    let data = tempfile::tempdir().unwrap();
    for flag in ["--namesrv-port", "--broker-port"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (namesrv, broker) = free_ports();
        let ports = if flag == "--namesrv-port" { (port, broker) } else { (namesrv, port) };
        let output = command(data.path(), ports).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(&format!("port {port} ")) && log.contains(flag), "{log}");
    }
}

#[test]
fn it_refuses_a_store_that_another_one_works_on() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path(), free_ports());
    let log = refused(data.path(), free_ports());
    assert!(log.contains(data.path().to_str().unwrap()) && log.contains("--data"), "{log}");
    first.signal(Signal::KILL);
    assert!(!first.wait().0.success());
    // What was killed leaves no lock behind.
    let second = start(data.path(), free_ports());
    second.signal(Signal::INT);
    let (status, log) = second.wait();
    assert!(status.success(), "{log}");
}
