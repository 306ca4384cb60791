//! Peers that speak badly, slowly or not at all, against the real program: each harms itself alone.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gantry_core::rng::Rng;
use gantry_core::wire::code::request_code;
use gantry_core::wire::{Command as Packet, Ext, Link};
use program::{Gantry, ask, free_broker_port, free_port, gantry, start};

/// Both kinds of server, with their ports.
fn servers(home: &Path, settings: &str) -> [(Gantry, u16, i32); 2] {
    let (namesrv_port, broker_port) = (free_port(), free_broker_port());
    let file = |role: &str, text: String| {
        let path = home.join(format!("{role}.conf"));
        fs::write(&path, text + settings).unwrap();
        let mut command = gantry([role, "-c"]);
        command.arg(path).env("HOME", home);
        command
    };
    let namesrv = file("namesrv", format!("listenPort={namesrv_port}\nbindAddress=127.0.0.1\n"));
    let broker = format!(
        "listenPort={broker_port}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\nmappedFileSizeCommitLog=1048576\n\
         maxMessageSize=65536\nmaxIndexNum=1000\nmaxHashSlotNum=100\n"
    );
    [
        (start(namesrv, 2), namesrv_port, request_code::GET_NAMESRV_CONFIG),
        (start(file("broker", broker), 1), broker_port, request_code::GET_BROKER_CONFIG),
    ]
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Whether the other side ended the connection, whatever it said before.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn is_served(port: u16, code: i32) -> bool {
    ask(port, Packet::request(code, Ext::None)).code == 0
}

fn resident_bytes(server: &Gantry) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A frame from its words: the total length, the form, the header's length, and the bytes behind.
fn frame(total: u32, form: u8, header: u32, rest: &[u8]) -> Vec<u8> {
    [&total.to_be_bytes()[..], &[form], &header.to_be_bytes()[1..], rest].concat()
}

#[test]
fn frames_that_are_none_end_their_connection_only() {
    let home = tempfile::tempdir().unwrap();
    let mut chance = Rng::from_seed(7);
    for (server, port, code) in servers(home.path(), "") {
        let mut witness = connect(port);
        let mut bad = vec![
            ("a length of 0", vec![0; 64]),
            ("a length of 4", frame(4, 0, 0, &[])),
            ("a length of 2 GiB", frame(0x8000_0000, 0, 10, b"{}")),
            ("a length just over the bound", frame(16 * 1024 * 1024 + 1, 0, 10, b"{}")),
            ("a header longer than its frame", frame(20, 0, 17, &[b' '; 16])),
            ("an unknown serialise type", frame(6, 2, 2, b"{}")),
            ("a header that is no JSON", frame(8, 0, 4, b"{\"co")),
            ("a header nested deeply", {
                let header = [b"{\"extFields\":".to_vec(), vec![b'['; 100_000]].concat();
                let len = u32::try_from(header.len()).unwrap();
                frame(len + 4, 0, len, &header)
            }),
            ("a binary header cut short", frame(10, 1, 6, &[0; 6])),
        ];
        for _ in 0..200 {
            let len = 8 + usize::try_from(chance.below(400)).unwrap();
            let mut bytes: Vec<u8> = (0..len).map(|_| chance.below(256) as u8).collect();
            if chance.one_in(2) {
                // Too long to wait for: the rest of a frame that may come is no mistake.
                bytes[0] |= 0x40;
            } else {
                // A whole frame, with nonsense for a header.
                let header = chance.below(len as u64 - 8) as u32;
                bytes[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
                bytes[4..8].copy_from_slice(&header.to_be_bytes());
                bytes[4] = chance.below(3) as u8;
            }
            bad.push(("random bytes", bytes));
        }
        for (what, bytes) in bad {
            let mut stream = connect(port);
            // It may be refused before the last byte has been sent.
            let _ = stream.write_all(&bytes);
            assert!(is_ended(&mut stream), "{what}: {bytes:?}");
        }
        assert!(is_served(port, code));
        // Who was there before has noticed nothing.
        let mut request = Vec::new();
        Link::encode(&Packet::request(code, Ext::None).into(), &mut request);
        witness.write_all(&request).unwrap();
        assert!(witness.read(&mut [0; 16]).unwrap() > 0);
        server.stop();
    }
}

#[test]
fn silence_ends_a_connection_and_slowness_does_not() {
    let home = tempfile::tempdir().unwrap();
    for (server, port, code) in servers(home.path(), "serverChannelMaxIdleTimeSeconds=1\n") {
        let mut silent = connect(port);
        let begin = Instant::now();
        let mut request = Vec::new();
        Link::encode(&Packet::request(code, Ext::None).into(), &mut request);
        let mut slow = connect(port);
        for byte in &request[..20] {
            slow.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(80));
        }
        assert!(is_ended(&mut silent));
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
        slow.write_all(&request[20..]).unwrap();
        assert!(slow.read(&mut [0; 16]).unwrap() > 0);
        server.stop();
    }
}

#[test]
fn a_client_that_never_reads_is_held_within_bounds() {
    let home = tempfile::tempdir().unwrap();
    for (server, port, code) in servers(home.path(), "") {
        let mut request = Vec::new();
        Link::encode(&Packet::request(code, Ext::None).into(), &mut request);
        let requests = request.repeat(1000);
        let before = resident_bytes(&server);
        let mut deaf: Vec<TcpStream> = (0..2).map(|_| connect(port)).collect();
        for stream in &mut deaf {
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let begin = Instant::now();
            // Until nothing more is taken.
            while begin.elapsed() < Duration::from_secs(5) && stream.write_all(&requests).is_ok() {}
        }
        let begin = Instant::now();
        assert!(is_served(port, code));
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        let held = resident_bytes(&server).saturating_sub(before);
        assert!(held < 128 << 20, "{held} bytes for {} clients", deaf.len());
        server.stop();
    }
}

#[test]
fn a_server_without_file_descriptors_serves_on() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new("sh");
    let script = format!("ulimit -n 32; exec {} namesrv --port {port}", env!("CARGO_BIN_EXE_gantry"));
    command.args(["-c", &script]).env("HOME", home.path());
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let server = start(command, 1);
    let mut witness = connect(port);
    let many: Vec<TcpStream> = (0..64).map(|_| connect(port)).collect();
    std::thread::sleep(Duration::from_millis(300));
    // Who is in is served; who is not waits for its turn.
    let mut request = Vec::new();
    Link::encode(&Packet::request(request_code::GET_NAMESRV_CONFIG, Ext::None).into(), &mut request);
    witness.write_all(&request).unwrap();
    assert!(witness.read(&mut [0; 16]).unwrap() > 0);
    drop(many);
    assert!(is_served(port, request_code::GET_NAMESRV_CONFIG));
    let log = server.stop();
    // Said when it begins and not at each try; it may end and begin again while the others leave.
    assert!((1..10).contains(&log.matches("cannot accept connections").count()), "{log}");
}
