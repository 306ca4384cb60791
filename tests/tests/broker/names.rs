//! This broker at its name servers, and how it stops.

use std::time::Duration;

use gantry_core::broker::{BrokerCommand, BrokerEvent};
use gantry_core::io::{CloseReason, ConnId, Input, Protocol};
use gantry_core::wire::body::{self, RegisterBrokerBody};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::request::{Header, QueryDataVersionResponse, RegisterBrokerRequest};
use gantry_core::wire::{Command, Ext, Packet};

use crate::harness::{World, config, heartbeat, poll, send};
use crate::registration::{delete_topic, make_topic};

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

/// A name server as a broker sees it.
#[derive(Clone, Copy)]
struct Server {
    version: i32,
    tells_version: bool,
    takes_changes: Option<bool>,
    /// What it answers to registrations.
    code: i32,
    /// Whether it says that its version is another.
    changed: bool,
}

const ROCKETMQ: Server =
    Server { version: 513, tells_version: true, takes_changes: None, code: code::SUCCESS, changed: false };
const GANTRY: Server = Server { takes_changes: Some(true), ..ROCKETMQ };

/// What a server was told.
#[derive(Clone, PartialEq, Debug)]
enum Told {
    /// The question for its version.
    Asked,
    /// A registration, how it was written, and its topics.
    Registered(Form, Vec<String>),
    /// A change, and what is gone.
    Changed(Vec<String>, Vec<String>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    Json,
    CompressedJson,
    Compressed,
}

fn form(request: &Command, body: &RegisterBrokerBody) -> Form {
    let forms = [
        (Form::Json, body::encode(body)),
        (Form::CompressedJson, body.encode_compressed_json()),
        (Form::Compressed, body.encode_compressed()),
    ];
    forms.into_iter().find(|(_, bytes)| *bytes == request.body).expect("one of them").0
}

/// What a server is told until nothing more comes; each is answered.
fn talk(world: &mut World, conn: ConnId, server: Server) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..10 {
        world.run();
        let requests = world.pushed(conn);
        if requests.is_empty() {
            return told;
        }
        for request in requests {
            let (what, answer) = match request.code {
                request_code::QUERY_DATA_VERSION if server.tells_version => {
                    let changed = server.changed;
                    let header = QueryDataVersionResponse { changed, takes_changes: server.takes_changes };
                    (Told::Asked, Command::response(&request, code::SUCCESS, header.to_ext()))
                }
                request_code::QUERY_DATA_VERSION => {
                    (Told::Asked, Command::error(&request, code::REQUEST_CODE_NOT_SUPPORTED, "not supported"))
                }
                request_code::REGISTER_BROKER => {
                    (registration(&request), Command::response(&request, server.code, Ext::None))
                }
                other => panic!("nobody sends {other} here"),
            };
            told.push(what);
            let packet = Packet::Command(Command { version: server.version, ..answer });
            world.input(Input::Received { conn, packet });
        }
    }
    panic!("the broker never stops talking: {told:?}");
}

fn registration(request: &Command) -> Told {
    let header = RegisterBrokerRequest::decode(&request.ext).expect("header");
    assert_eq!((header.broker_name.as_str(), header.broker_addr.as_str()), ("b", "127.0.0.1:10911"));
    assert_eq!(header.ha_server_addr, "127.0.0.1:10912");
    let compressed = header.compressed == Some(true);
    let body = RegisterBrokerBody::decode(&request.body, compressed).expect("body");
    let topics = body.topic_config_serialize_wrapper.topic_config_table.keys().cloned().collect();
    match &body.gantry_change {
        Some(change) => Told::Changed(topics, change.gone.clone()),
        None => Told::Registered(form(request, &body), topics),
    }
}

/// The topics of all registrations, one list each.
fn registered(world: &mut World, conn: ConnId) -> Vec<Vec<String>> {
    let told = talk(world, conn, ROCKETMQ).into_iter();
    let topics = told.filter_map(|told| match told {
        Told::Asked => None,
        Told::Registered(_, topics) | Told::Changed(topics, _) => Some(topics),
    });
    topics.collect()
}

/// Whether a whole table was sent, and how.
fn tables(told: &[Told]) -> Vec<Form> {
    let of = |told: &Told| match told {
        Told::Registered(form, topics) if topics.len() > 10 => Some(*form),
        Told::Asked | Told::Registered(..) | Told::Changed(..) => None,
    };
    told.iter().filter_map(of).collect()
}

const BEAT: Duration = Duration::from_secs(30);

#[test]
fn a_name_server_gets_what_it_understands() {
    for (server, expect) in [
        (GANTRY, Form::CompressedJson),
        (ROCKETMQ, Form::Compressed),
        (Server { version: 409, ..ROCKETMQ }, Form::Json),
        (Server { tells_version: false, ..ROCKETMQ }, Form::Json),
    ] {
        let mut world = world();
        let conn = accept(&mut world, "ns1:9876");
        let told = talk(&mut world, conn, server);
        assert_eq!((told.len(), &told[0], tables(&told).as_slice()), (2, &Told::Asked, [expect].as_slice()));
        world.pass(BEAT);
        let told = talk(&mut world, conn, server);
        let beat = if server.tells_version { vec![] } else { vec![Form::Json] };
        assert_eq!((told.len(), tables(&told)), (1, beat), "a sign of life");
        world.pass(BEAT);
        let told = talk(&mut world, conn, Server { changed: true, ..server });
        assert_eq!(tables(&told), [expect], "the server has something else");
    }
}

#[test]
fn a_change_is_sent_alone_and_says_what_it_builds_on() {
    let mut world = world();
    let conn = accept(&mut world, "ns1:9876");
    talk(&mut world, conn, GANTRY);
    let client = world.connect(1);
    world.call(client, send("T", 0, "", "m"));
    assert_eq!(talk(&mut world, conn, GANTRY), [Told::Changed(vec!["T".into()], vec![])]);
    world.call(client, delete_topic("T"));
    assert_eq!(talk(&mut world, conn, GANTRY), [Told::Changed(vec![], vec!["T".into()])]);
    // One that nobody answers yet: what comes meanwhile goes into the next.
    world.call(client, send("T", 0, "", "m"));
    world.call(client, send("U", 0, "", "m"));
    let told = talk(&mut world, conn, GANTRY);
    assert_eq!(told, [["T"], ["U"]].map(|topics| Told::Changed(topics.map(String::from).to_vec(), vec![])));
}

#[test]
fn what_is_refused_ends_in_the_whole_table() {
    let mut world = world();
    let conn = accept(&mut world, "ns1:9876");
    talk(&mut world, conn, GANTRY);
    let client = world.connect(1);
    world.call(client, send("T", 0, "", "m"));
    let refuses = Server { code: code::SYSTEM_ERROR, ..GANTRY };
    let told = talk(&mut world, conn, refuses);
    assert_eq!(
        (&told[0], tables(&told)),
        (&Told::Changed(vec!["T".into()], vec![]), vec![Form::CompressedJson])
    );
    world.pass(BEAT - Duration::from_secs(1));
    assert!(talk(&mut world, conn, GANTRY).is_empty(), "nor again at once");
    world.pass(Duration::from_secs(1));
    assert_eq!(tables(&talk(&mut world, conn, GANTRY)), [Form::CompressedJson]);
    // A server of RocketMQ that does not read the compressed form is tried with the other one.
    let two = accept(&mut world, "ns2:9876");
    let told = talk(&mut world, two, Server { code: code::SYSTEM_ERROR, ..ROCKETMQ });
    assert_eq!(tables(&told), [Form::Compressed, Form::Json]);
}

#[test]
fn more_deletions_than_are_remembered_end_in_the_whole_table() {
    let mut world = world();
    let conn = accept(&mut world, "ns1:9876");
    talk(&mut world, conn, GANTRY);
    let client = world.connect(1);
    for n in 0..1100 {
        world.call(client, make_topic(&format!("T{n}"), 1, 6));
    }
    talk(&mut world, conn, GANTRY);
    // The first deletion is under way while the others follow.
    for n in 0..1100 {
        world.call(client, delete_topic(&format!("T{n}")));
    }
    let told = talk(&mut world, conn, GANTRY);
    assert_eq!(
        (&told[0], tables(&told)),
        (&Told::Changed(vec![], vec!["T0".into()]), vec![Form::CompressedJson])
    );
}

#[test]
fn the_settings_say_how_tables_are_sent() {
    let mut config = config();
    (config.namesrv_addrs, config.ha_addr) = (vec!["ns1:9876".into()], "127.0.0.1:10912".into());
    (config.force_register, config.compressed_register) = (true, false);
    let mut world = World::new(config);
    let conn = accept(&mut world, "ns1:9876");
    assert_eq!(tables(&talk(&mut world, conn, GANTRY)), [Form::Json]);
    world.pass(BEAT);
    assert_eq!(tables(&talk(&mut world, conn, GANTRY)), [Form::Json]);
}

#[test]
fn every_name_server_is_told_at_once_and_asked_every_30_s() {
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
    assert_eq!(talk(&mut world, one, ROCKETMQ), [Told::Asked]);
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
