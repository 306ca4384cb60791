//! The shell over real sockets: what it delivers, what it bounds, and whom a bad peer harms.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod machine;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use gantry_core::io::{CloseReason, ConnId, Protocol};
use gantry_net::config::{Limits, OUTPUT_PAUSE_BYTES, PACKETS_PER_READ_MAX, RESTART_DELAY_MIN};
use gantry_net::driver::{Listen, ServiceError};

use machine::{CHUNK_BYTES, Event, PAUSE, ask, frame, start, start_on};

#[test]
fn requests_are_answered_however_their_bytes_arrive() {
    let service = start(Limits::default());
    let mut client = service.connect();
    client.echo("whole");
    let bytes = [frame(ask::ECHO, 2, "one"), frame(ask::ECHO, 3, "by one")].concat();
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(&client.receive().unwrap().body[..], b"one");
    assert_eq!(&client.receive().unwrap().body[..], b"by one");
    service.stop().unwrap();
}

#[test]
fn pipelined_requests_are_answered_in_order_with_few_writes() {
    let service = start(Limits::default());
    let mut client = service.connect();
    const REQUESTS: i32 = 20_000;
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|n| frame(ask::ECHO, n, "x")).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    for n in 0..REQUESTS {
        assert_eq!(client.receive().unwrap().opaque, n);
    }
    sender.join().unwrap();
    let counts = service.counters.read();
    assert_eq!((counts.packets_in, counts.packets_out), (REQUESTS as u64, REQUESTS as u64));
    assert!(counts.writes < REQUESTS as u64 / 4, "{counts}");
    service.stop().unwrap();
}

#[test]
fn a_large_body_crosses() {
    let service = start(Limits::default());
    let mut client = service.connect();
    let body = vec![42; 4 * 1024 * 1024];
    assert_eq!(client.ask(ask::ECHO, body.clone()).as_deref(), Some(&body[..]));
    service.stop().unwrap();
}

#[test]
fn bytes_that_are_not_the_protocol_end_their_connection_only() {
    let service = start(Limits::default());
    let mut good = service.connect();
    let mut bad = service.connect();
    good.echo("before");
    bad.stream.write_all(&[0x7f; 64]).unwrap();
    assert_eq!(bad.receive(), None);
    good.echo("after");
    assert_eq!(service.next_event(), Event::Closed(ConnId::accepted(1), CloseReason::Protocol));
    service.stop().unwrap();
}

#[test]
fn a_peer_that_sends_and_never_reads_is_paused_and_harms_nobody() {
    let service = start(Limits::default());
    let mut deaf = service.connect();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Each request is as large as its reply, so what the shell takes in is what it would have to hold.
    let request = frame(ask::ECHO, 1, vec![0; CHUNK_BYTES]);
    let mut sent = 0;
    while sent < 256 * 1024 * 1024 && deaf.stream.write_all(&request).is_ok() {
        sent += request.len();
    }
    service.connect().echo("served");
    let counts = service.counters.read();
    let held = counts.bytes_in - counts.bytes_out;
    assert!(held > OUTPUT_PAUSE_BYTES as u64, "{counts}");
    assert!(held < 2 * OUTPUT_PAUSE_BYTES as u64, "{counts}");
    // Reading again, it gets everything that it asked for.
    let whole = sent / request.len();
    for _ in 0..whole {
        assert_eq!(deaf.receive().unwrap().body.len(), CHUNK_BYTES);
    }
    service.stop().unwrap();
}

#[test]
fn small_requests_with_large_replies_are_bounded_too() {
    let service = start(Limits::default());
    let mut deaf = service.connect();
    let requests: Vec<u8> = (0..4 * PACKETS_PER_READ_MAX).flat_map(|_| frame(ask::FLOOD, 1, "8")).collect();
    deaf.stream.write_all(&requests).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    service.connect().echo("served");
    // One read's worth of requests, answered by half a megabyte each; then it was paused.
    let answered = service.counters.read().packets_out;
    assert!(answered <= (8 * PACKETS_PER_READ_MAX + 1) as u64, "{answered}");
    service.stop().unwrap();
}

#[test]
fn a_stream_goes_on_at_each_drained_credit() {
    let service = start(Limits::default());
    let mut client = service.connect();
    const CHUNKS: usize = 200;
    client.send(ask::STREAM, 1, CHUNKS.to_string());
    for _ in 0..CHUNKS {
        assert_eq!(client.receive().unwrap().body.len(), CHUNK_BYTES);
    }
    client.echo("and on");
    service.stop().unwrap();
}

#[test]
fn a_stream_to_a_peer_that_does_not_read_stops_at_its_credit() {
    let service = start(Limits::default());
    let mut client = service.connect();
    client.send(ask::STREAM, 1, "2000");
    std::thread::sleep(Duration::from_millis(300));
    // Kernel buffers take some megabytes; the rest of the 125 MiB is not even made.
    let made = service.counters.read().packets_out;
    assert!(made < 500, "{made}");
    service.stop().unwrap();
}

#[test]
fn silence_ends_a_connection() {
    let idle = Duration::from_millis(240);
    let service = start(Limits { idle, ..Limits::default() });
    let mut silent = service.connect();
    let mut slow = service.connect();
    let begin = Instant::now();
    // A byte now and then keeps the other one.
    let reader = std::thread::spawn(move || silent.receive());
    for byte in &frame(ask::ECHO, 1, "slow")[..20] {
        slow.stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(reader.join().unwrap(), None);
    assert!(begin.elapsed() >= idle);
    slow.stream.write_all(&frame(ask::ECHO, 1, "slow")[20..]).unwrap();
    assert_eq!(&slow.receive().unwrap().body[..], b"slow");
    assert_eq!(service.next_event(), Event::Closed(ConnId::accepted(0), CloseReason::Idle));
    service.stop().unwrap();
}

#[test]
fn connections_beyond_the_cap_are_closed_at_once() {
    let service = start(Limits { connections_max: 2, ..Limits::default() });
    let mut first = service.connect();
    let mut second = service.connect();
    first.echo("first");
    second.echo("second");
    assert_eq!(service.connect().receive(), None);
    drop(first);
    assert_eq!(service.next_event(), Event::Closed(ConnId::accepted(0), CloseReason::Peer));
    service.connect().echo("third");
    service.stop().unwrap();
}

#[test]
fn a_close_sends_what_was_queued_before_it() {
    let service = start(Limits::default());
    let mut client = service.connect();
    let body = vec![1; 8 * 1024 * 1024];
    assert_eq!(client.ask(ask::CLOSE, body.clone()).as_deref(), Some(&body[..]));
    assert_eq!(client.receive(), None);
    assert_eq!(service.next_event(), Event::Closed(ConnId::accepted(0), CloseReason::Local));
    service.stop().unwrap();
}

#[test]
fn a_dial_opens_or_fails() {
    let service = start(Limits::default());
    let other = start(Limits::default());
    let mut client = service.connect();
    assert_eq!(client.ask(ask::DIAL, other.address.to_string()).as_deref(), Some(&b"opened"[..]));
    let gone = other.address.to_string();
    other.stop().unwrap();
    assert_eq!(service.next_event(), Event::Closed(ConnId::dialled(0), CloseReason::Peer));
    assert_eq!(client.ask(ask::DIAL, gone).as_deref(), Some(&b"failed"[..]));
    assert_eq!(service.next_event(), Event::Closed(ConnId::dialled(1), CloseReason::DialFailed));
    assert_eq!(client.ask(ask::DIAL, "no port").as_deref(), Some(&b"failed"[..]));
    service.stop().unwrap();
}

#[test]
fn a_deadline_wakes_the_machine() {
    let service = start(Limits::default());
    let mut client = service.connect();
    for _ in 0..5 {
        let begin = Instant::now();
        assert_eq!(client.ask(ask::LATER, "late").as_deref(), Some(&b"late"[..]));
        assert!(begin.elapsed() >= PAUSE);
        assert!(begin.elapsed() < PAUSE * 10, "{:?}", begin.elapsed());
    }
    service.stop().unwrap();
}

#[test]
fn a_machine_that_fails_starts_again_or_ends_the_service() {
    let service = start(Limits::default());
    let mut client = service.connect();
    assert_eq!(client.ask(ask::FAIL_AND_RESTART, ""), None);
    let begin = Instant::now();
    let mut client = service.connect();
    // While it is down, whoever connects is turned away at once.
    while client.ask(ask::ECHO, "alive?").is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
        client = service.connect();
    }
    assert!(begin.elapsed() >= RESTART_DELAY_MIN);
    client.echo("alive");
    assert_eq!(client.ask(ask::FAIL, ""), None);
    assert!(matches!(service.join(), Err(ServiceError::Failed(reason)) if reason == "told to"));
}

#[test]
fn a_stop_sends_what_is_left() {
    let service = start(Limits::default());
    let mut client = service.connect();
    const CHUNKS: usize = 40;
    client.send(ask::FLOOD, 1, CHUNKS.to_string());
    let mut first = [0; 1];
    client.stream.read_exact(&mut first).unwrap();
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).unwrap();
        rest.len()
    });
    service.stop().unwrap();
    assert!(reader.join().unwrap() >= CHUNKS * CHUNK_BYTES);
}

#[test]
fn a_port_in_use_is_named_with_the_setting_that_moves_it() {
    let service = start(Limits::default());
    let listen = Listen { address: service.address, protocol: Protocol::Remoting, setting: "--test-port" };
    let error = start_on(listen, Limits::default()).err().unwrap().to_string();
    assert!(error.contains(&service.address.port().to_string()) && error.contains("--test-port"), "{error}");
    service.stop().unwrap();
}
