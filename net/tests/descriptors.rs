//! Running out of file descriptors. A program of its own: the limit is the process's.

#![cfg(target_os = "linux")] // it counts its descriptors in /proc
#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod machine;

use std::net::TcpStream;

use gantry_net::config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_listener_survives_having_no_descriptors_left() {
    let service = machine::start(Limits::default());
    let mut early = service.connect();
    early.echo("early");
    // What is connected from now on takes two descriptors: ours and, if any is left, the shell's.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 9), maximum }).unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect(service.address) {
        held.push(stream);
    }
    assert!(held.len() > 3, "{}", held.len());
    early.echo("still served");
    held.clear();
    service.connect().echo("late");
    service.stop().unwrap();
}
