//! `gantry standalone` as its users meet it: what it prints, what it refuses and why, and how it ends.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gantry_core::wire::{Command as Packet, Ext};
use program::{Gantry, ask, free_broker_port, free_port, gantry, refused};
use rustix::process::Signal;

/// A name server's port and a broker's.
fn free_ports() -> (u16, u16) {
    (free_port(), free_broker_port())
}

fn command(data: &Path, (namesrv, broker): (u16, u16)) -> Command {
    let (namesrv, broker) = (namesrv.to_string(), broker.to_string());
    let mut command = gantry(["standalone", "--namesrv-port", &namesrv, "--broker-port", &broker, "--data"]);
    command.arg(data);
    command
}

/// Starts it and waits for its two lines.
fn start(data: &Path, ports: (u16, u16)) -> Gantry {
    program::start(command(data, ports), 2)
}

#[test]
fn it_says_what_the_scripts_wait_for_serves_and_stops_cleanly() {
    let data = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let begin = Instant::now();
    let running = start(data.path(), ports);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let (namesrv, broker) = ports;
    assert_eq!(
        running.lines,
        [
            format!("The Name Server boot success. serializeType=JSON, address 127.0.0.1:{namesrv}"),
            format!(
                "The broker[broker-a, 127.0.0.1:{broker}] boot success. serializeType=JSON and name server is \
                 127.0.0.1:{namesrv}"
            )
        ]
    );
    // Its second port serves the same.
    const GET_BROKER_CONFIG: i32 = 26;
    let answer = ask(broker - 2, Packet::request(GET_BROKER_CONFIG, Ext::None));
    let settings = String::from_utf8_lossy(&answer.body);
    for (name, value) in [
        ("listenPort", broker.to_string()),
        ("haListenPort", (broker + 1).to_string()),
        ("storePathRootDir", data.path().display().to_string()),
    ] {
        assert!(settings.contains(&format!("{name}={value}\n")), "{settings}");
    }
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

    running.signal(Signal::USR1);
    std::thread::sleep(Duration::from_millis(100));
    let log = running.stop();
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
    let log = refused(command(data.path(), free_ports()));
    assert!(log.contains(data.path().to_str().unwrap()) && log.contains("--data"), "{log}");
    first.signal(Signal::KILL);
    assert!(!first.wait().0.success());
    // What was killed leaves no lock behind.
    let second = start(data.path(), free_ports());
    second.signal(Signal::INT);
    let (status, log) = second.wait();
    assert!(status.success(), "{log}");
}
