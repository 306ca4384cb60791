//! This broker at its name servers, and how it stops.

use std::time::Duration;

use gantry_core::broker::{BrokerCommand, BrokerEvent};
use gantry_core::io::{CloseReason, ConnId, Input, Protocol};
use gantry_core::wire::body::RegisterBrokerBody;
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::request::{Header, RegisterBrokerRequest};
use gantry_core::wire::{Command, Ext, Packet};

use crate::harness::{World, config, heartbeat, poll, send};

fn world() -> World {
    let mut config = config();
    config.namesrv_addrs = vec!["ns1:9876".into(), "ns2:9876".into()];
    config.ha_addr = "127.0.0.1:10912".into();
    World::new(config)
}

/// The dial to a server, which then succeeds.
fn accept(world: &mut World, address: &str) -> ConnId {
    let at = world.wires().dialled.iter().position(|(_, peer)| &*peer.address == address).expect("dialled");
    let (conn, _) = world.wires().dialled.remove(at);
    let peer = "127.0.0.1:9876".parse().expect("address");
    world.input(Input::Opened { conn, peer, protocol: Protocol::Remoting });
    world.run();
    conn
}

/// The registrations that a server got; each is answered.
fn registered(world: &mut World, conn: ConnId) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    for request in world.pushed(conn) {
        assert_eq!(request.code, request_code::REGISTER_BROKER);
        let header = RegisterBrokerRequest::decode(&request.ext).expect("header");
        assert_eq!((header.broker_name.as_str(), header.broker_addr.as_str()), ("b", "127.0.0.1:10911"));
        assert_eq!(header.ha_server_addr, "127.0.0.1:10912");
        let body = RegisterBrokerBody::decode(&request.body, false).expect("body");
        seen.push(body.topic_config_serialize_wrapper.topic_config_table.into_keys().collect());
        let packet = Packet::Command(Command::response(&request, code::SUCCESS, Ext::None));
        world.input(Input::Received { conn, packet });
    }
    world.run();
    seen
}

#[test]
fn every_name_server_is_told_at_once_and_every_30_s() {
    let mut world = world();
    let one = accept(&mut world, "ns1:9876");
    let first = registered(&mut world, one);
    assert_eq!(first.len(), 1);
    assert!(first[0].len() > 10 && first[0].contains(&"TBW102".into()));
    assert_eq!(world.wires().events.pop(), Some(BrokerEvent::Registered { namesrv: "ns1:9876".into() }));
    let client = world.connect(1);
    world.call(client, send("T", 0, "", "m"));
    assert_eq!(registered(&mut world, one), [["T"]], "a change goes at once, alone");
    world.call(client, heartbeat("c", "G", "T", "*", 1));
    assert_eq!(registered(&mut world, one), [["%RETRY%G"]]);
    // The other server comes up late and gets everything.
    let two = accept(&mut world, "ns2:9876");
    assert!(registered(&mut world, two)[0].contains(&"T".into()));
    world.pass(Duration::from_millis(29_999));
    assert!(registered(&mut world, one).is_empty());
    world.pass(Duration::from_millis(2));
    assert!(registered(&mut world, one)[0].contains(&"T".into()));
}

#[test]
fn a_name_server_that_is_away_is_dialled_for_ever() {
    let mut world = world();
    let mut dials = 0;
    for _ in 0..100 {
        for (conn, _) in std::mem::take(&mut world.wires().dialled) {
            dials += 1;
            world.input(Input::Closed { conn, why: CloseReason::DialFailed });
        }
        world.run();
        world.pass(Duration::from_secs(10));
    }
    assert!((150..=250).contains(&dials), "{dials}");
    let conn = accept(&mut world, "ns1:9876");
    assert_eq!(registered(&mut world, conn).len(), 1);
    // It goes away, and comes back empty.
    world.input(Input::Closed { conn, why: CloseReason::Peer });
    world.run();
    world.pass(Duration::from_secs(11));
    let conn = accept(&mut world, "ns1:9876");
    assert!(registered(&mut world, conn)[0].contains(&"TBW102".into()));
}

#[test]
fn a_name_server_that_does_not_answer_is_left() {
    let mut world = world();
    let conn = accept(&mut world, "ns1:9876");
    world.pass(Duration::from_millis(23_999));
    assert!(world.wires().closed.is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.wires().closed, [conn]);
}

#[test]
fn a_clean_stop_says_goodbye_and_keeps_everything() {
    let mut world = world();
    let conn = accept(&mut world, "ns1:9876");
    registered(&mut world, conn);
    let client = world.connect(1);
    world.call(client, send("T", 0, "", "m"));
    registered(&mut world, conn);
    world.call(client, heartbeat("c", "G", "T", "*", 1));
    registered(&mut world, conn);
    world.call(client, crate::harness::commit("G", "T", 0, 1));
    let held = world.post(client, poll("T", 0, 1, "*", 15_000));
    world.run();
    world.input(Input::Command(BrokerCommand::Stop));
    world.run();
    let goodbye = world.pushed(conn).pop().expect("told");
    assert_eq!(goodbye.code, request_code::UNREGISTER_BROKER);
    assert!(!world.wires().events.contains(&BrokerEvent::Stopped));
    let packet = Packet::Command(Command::response(&goodbye, code::SUCCESS, Ext::None));
    world.input(Input::Received { conn, packet });
    world.run();
    world.pass(Duration::from_secs(1));
    assert!(world.wires().events.contains(&BrokerEvent::Stopped));
    assert_eq!(world.answer(client, held).map(|answer| answer.code), Some(code::PULL_NOT_FOUND));
    assert_eq!(world.call(client, send("T", 0, "", "m")).code, code::SERVICE_NOT_AVAILABLE);
    assert_eq!(world.disk().peek("abort"), None);
    let mut again = world.kill();
    again.run();
    let client = again.connect(1);
    assert_eq!(again.call(client, crate::harness::pull("T", 0, 0)).code, code::SUCCESS);
}

#[test]
fn a_stop_does_not_wait_for_a_name_server_that_is_silent() {
    let mut world = world();
    accept(&mut world, "ns1:9876");
    world.input(Input::Command(BrokerCommand::Stop));
    world.run();
    world.pass(Duration::from_secs(3));
    assert!(world.wires().events.contains(&BrokerEvent::Stopped));
}
