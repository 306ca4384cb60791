//! A broker and a Gantry name server, with a wire between them that loses, repeats and swaps what it carries: however the
//! topics came over, the routes are those of a whole registration.

use std::collections::VecDeque;
use std::time::Duration;

use gantry_core::broker::BrokerConfig;
use gantry_core::io::{CloseReason, ConnId, Effect, Env, Input, Machine, Now, Protocol};
use gantry_core::namesrv::{NameServer, NameServerConfig};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::body::{self, RegisterBrokerBody, TopicConfigSerializeWrapper, TopicList};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{
    CreateTopicRequest, DeleteTopicRequest, GetAllTopicConfigRequest, Header, QueryDataVersionResponse,
    RegisterBrokerRequest,
};
use gantry_core::wire::{Command, Ext, Link, Packet};
use gantry_disk::MemoryDisk;
use proptest::prelude::*;

use crate::harness::{START_WALL_MS, World, config};

const BEAT: Duration = Duration::from_secs(31);
const TOPICS: [&str; 4] = ["T", "U", "V", "W"];

pub(crate) fn make_topic(topic: &str, queues: i32, perm: i32) -> Command {
    let header = CreateTopicRequest {
        topic: topic.into(),
        default_topic: "TBW102".into(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        topic_filter_type: "SINGLE_TAG".into(),
        ..CreateTopicRequest::default()
    };
    Command::request(request_code::UPDATE_AND_CREATE_TOPIC, header.to_ext())
}

pub(crate) fn delete_topic(topic: &str) -> Command {
    Command::request(
        request_code::DELETE_TOPIC_IN_BROKER,
        DeleteTopicRequest { topic: topic.into() }.to_ext(),
    )
}

fn fields(code: i32, name: &'static str, value: &str) -> Command {
    Command::request(code, Ext::Fields(vec![(name.into(), value.to_owned().into())]))
}

/// A name server whose clock the test moves.
struct Server {
    machine: NameServer,
    disk: MemoryDisk,
    rng: Rng,
    now: Instant,
    /// Answers, by the server's names of connections.
    sent: Vec<(ConnId, Command)>,
    closed: Vec<ConnId>,
}

impl Server {
    fn new(deletes: bool, now: Instant) -> Server {
        let config = NameServerConfig {
            delete_topic_with_broker_registration: deletes,
            ..NameServerConfig::default()
        };
        let mut server = Server {
            machine: NameServer::new(config),
            disk: MemoryDisk::new(Rng::from_seed(3)),
            rng: Rng::from_seed(4),
            now,
            sent: Vec::new(),
            closed: Vec::new(),
        };
        server.turn(Input::Start);
        server
    }

    fn turn(&mut self, input: Input<gantry_core::namesrv::Command>) {
        let ms = (self.now.as_nanos() / 1_000_000) as i64;
        let now = Now { mono: self.now, wall: WallMs(START_WALL_MS + ms) };
        let mut out = Vec::new();
        let mut env = Env { disk: &mut self.disk, out: &mut out, rng: &mut self.rng };
        self.machine.step(now, input, &mut env);
        self.machine.settle(now, &mut env);
        Machine::<MemoryDisk>::check_invariants(&self.machine);
        for effect in out {
            match effect {
                Effect::Send { conn, packet: Packet::Command(command) } => self.sent.push((conn, command)),
                Effect::Close { conn } => self.closed.push(conn),
                Effect::Emit(_) => {}
                Effect::Send { .. }
                | Effect::Dial { .. }
                | Effect::Sync { .. }
                | Effect::Replace { .. }
                | Effect::Fetch { .. }
                | Effect::Fail { .. } => panic!("not here: {effect:?}"),
            }
        }
    }

    fn ask(&mut self, request: Command) -> Command {
        let conn = ConnId::accepted(1_000_000);
        self.turn(Input::Received { conn, packet: Packet::Command(request) });
        let (to, answer) = self.sent.pop().expect("answered at once");
        assert_eq!(to, conn);
        answer
    }

    /// The answers to all route questions, and the list of topics.
    fn routes(&mut self) -> (Vec<(i32, String)>, Vec<String>) {
        let answers = TOPICS.map(|topic| {
            let answer = self.ask(fields(request_code::GET_ROUTEINFO_BY_TOPIC, "topic", topic));
            (answer.code, String::from_utf8_lossy(&answer.body).into_owned())
        });
        let list = self.ask(Command::request(request_code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, Ext::None));
        let list: TopicList = body::decode(&list.body).expect("a list");
        (answers.into(), list.topic_list)
    }
}

/// A connection, as both ends call it, and what is under way on it.
struct Wire {
    near: ConnId,
    far: ConnId,
    up: VecDeque<Command>,
    down: VecDeque<Command>,
}

struct Site {
    broker: World,
    server: Server,
    wire: Option<Wire>,
    /// Ends that the server has not heard of.
    half_open: Vec<ConnId>,
    deletes: bool,
    /// The server's answers lose what marks it as Gantry's.
    plain: bool,
    conns: u64,
}

fn broker_config() -> BrokerConfig {
    let mut config = config();
    config.namesrv_addrs = vec!["ns:9876".into()];
    config
}

impl Site {
    fn new(config: BrokerConfig, deletes: bool, plain: bool) -> Site {
        let server = Server::new(deletes, Instant::from_nanos(1_000_000_000));
        let (broker, half_open) = (World::new(config), Vec::new());
        let mut site = Site { broker, server, wire: None, half_open, deletes, plain, conns: 10 };
        site.settle();
        site
    }

    /// Takes up what the broker dialled, hung up and sent.
    fn gather(&mut self) {
        self.broker.run();
        for (near, _) in std::mem::take(&mut self.broker.wires().dialled) {
            self.conns += 1;
            let far = ConnId::accepted(self.conns);
            let peer = "127.0.0.1:9876".parse().expect("address");
            self.broker.input(Input::Opened { conn: near, peer, protocol: Protocol::Remoting });
            self.wire = Some(Wire { near, far, up: VecDeque::new(), down: VecDeque::new() });
        }
        self.broker.run();
        for closed in std::mem::take(&mut self.broker.wires().closed) {
            if self.wire.as_ref().is_some_and(|wire| wire.near == closed) {
                self.cut(CloseReason::Local, true);
            }
        }
        for closed in std::mem::take(&mut self.server.closed) {
            if self.wire.as_ref().is_some_and(|wire| wire.far == closed) {
                self.cut(CloseReason::Peer, true);
            }
        }
        if let Some(wire) = &mut self.wire {
            wire.up.extend(self.broker.pushed(wire.near));
            let sent = std::mem::take(&mut self.server.sent).into_iter();
            wire.down.extend(sent.filter(|(to, _)| *to == wire.far).map(|(_, command)| command));
        }
    }

    /// The connection ends for the broker, and for the server now or later.
    fn cut(&mut self, why: CloseReason, both: bool) {
        let Some(wire) = self.wire.take() else { return };
        self.broker.input(Input::Closed { conn: wire.near, why });
        if both {
            self.server.turn(Input::Closed { conn: wire.far, why: CloseReason::Peer });
        } else {
            self.half_open.push(wire.far);
        }
        self.broker.run();
    }

    /// One packet arrives, if one is under way; false when none is.
    fn deliver_one(&mut self) -> bool {
        self.gather();
        let plain = self.plain;
        let Some(wire) = &mut self.wire else { return false };
        if let Some(request) = wire.up.pop_front() {
            let conn = wire.far;
            self.server.turn(Input::Received { conn, packet: Packet::Command(request) });
        } else if let Some(mut answer) = wire.down.pop_front() {
            if plain && let Ok(told) = QueryDataVersionResponse::decode(&answer.ext) {
                answer.ext = QueryDataVersionResponse { takes_changes: None, ..told }.to_ext();
            }
            self.broker.input(Input::Received { conn: wire.near, packet: Packet::Command(answer) });
        } else {
            return false;
        }
        self.gather();
        true
    }

    /// Everything arrives.
    fn settle(&mut self) {
        let arrived = (0..1000).take_while(|_| self.deliver_one()).count();
        assert!(arrived < 1000, "they never stop talking");
    }

    fn pass(&mut self, time: Duration) {
        self.broker.pass(time);
        self.server.now = self.server.now + time;
        self.server.turn(Input::Wake);
    }

    /// Nothing goes wrong any more for long enough.
    fn heal(&mut self) {
        for conn in std::mem::take(&mut self.half_open) {
            self.server.turn(Input::Closed { conn, why: CloseReason::Peer });
        }
        for _ in 0..16 {
            self.settle();
            self.pass(Duration::from_secs(5));
        }
        self.settle();
    }

    fn ask_broker(&mut self, request: Command) -> Command {
        let conn = self.broker.connect(77);
        self.broker.call(conn, request)
    }

    /// What a name server says that got the broker's table in one piece.
    fn expected(&mut self, perm_mask: i32) -> (Vec<(i32, String)>, Vec<String>) {
        let header = GetAllTopicConfigRequest::default();
        let answer = self.ask_broker(Command::request(request_code::GET_ALL_TOPIC_CONFIG, header.to_ext()));
        let mut wrapper: TopicConfigSerializeWrapper = body::decode(&answer.body).expect("a table");
        for topic in wrapper.topic_config_table.values_mut() {
            topic.perm &= perm_mask | 1;
            if perm_mask != 6 {
                topic.perm &= perm_mask;
            }
        }
        let whole =
            RegisterBrokerBody { topic_config_serialize_wrapper: wrapper, ..RegisterBrokerBody::default() };
        let header = RegisterBrokerRequest {
            broker_name: "b".into(),
            broker_addr: "127.0.0.1:10911".into(),
            cluster_name: "DefaultCluster".into(),
            ha_server_addr: String::new(),
            broker_id: 0,
            heartbeat_timeout_millis: None,
            enable_acting_master: None,
            compressed: None,
            body_crc32: None,
        };
        let mut fresh = Server::new(self.deletes, self.server.now);
        let whole =
            Command::request(request_code::REGISTER_BROKER, header.to_ext()).with_body(body::encode(&whole));
        assert_eq!(fresh.ask(whole).code, response_code::SUCCESS);
        fresh.routes()
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Put(usize, i32, i32),
    Delete(usize),
    /// An administrator deletes it at the name server.
    DeleteThere(usize),
    /// `brokerPermission`
    Permission(i32),
    Wipe,
    Beat,
    Deliver,
    Lose,
    Repeat,
    Swap,
    /// The connection ends; whether the server hears of it.
    Cut(bool),
    RestartServer,
    RestartBroker,
}

fn perm() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(6), 1 => Just(4)]
}

/// What changes topics, without deletions.
fn changes() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..TOPICS.len(), 1..4, perm()).prop_map(|(topic, queues, perm)| Act::Put(topic, queues, perm)),
        2 => (0..TOPICS.len()).prop_map(Act::DeleteThere),
        1 => perm().prop_map(Act::Permission),
    ]
}

fn anything() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => changes(),
        3 => (0..TOPICS.len()).prop_map(Act::Delete),
        2 => Just(Act::Beat),
        6 => Just(Act::Deliver),
        1 => Just(Act::Lose),
        2 => Just(Act::Repeat),
        1 => Just(Act::Swap),
        2 => any::<bool>().prop_map(Act::Cut),
        1 => Just(Act::RestartServer),
        1 => Just(Act::RestartBroker),
    ]
}

impl Site {
    fn act(mut self, act: Act) -> Site {
        match act {
            Act::Put(topic, queues, perm) => {
                self.ask_broker(make_topic(TOPICS[topic], queues, perm));
            }
            Act::Delete(topic) => {
                self.ask_broker(delete_topic(TOPICS[topic]));
            }
            Act::DeleteThere(topic) => {
                self.server.ask(fields(request_code::DELETE_TOPIC_IN_NAMESRV, "topic", TOPICS[topic]));
            }
            Act::Permission(perm) => {
                let request = Command::request(request_code::UPDATE_BROKER_CONFIG, Ext::None);
                self.ask_broker(request.with_body(format!("brokerPermission={perm}").into_bytes()));
            }
            Act::Wipe => {
                self.server.ask(fields(request_code::WIPE_WRITE_PERM_OF_BROKER, "brokerName", "b"));
            }
            Act::Beat => self.pass(BEAT),
            Act::Deliver => {
                self.deliver_one();
            }
            Act::Lose | Act::Repeat | Act::Swap => {
                self.gather();
                if let Some(wire) = &mut self.wire {
                    let lane = if wire.up.is_empty() { &mut wire.down } else { &mut wire.up };
                    match (act, lane.pop_front()) {
                        (Act::Repeat, Some(packet)) => {
                            lane.push_front(packet.clone());
                            lane.push_back(packet);
                        }
                        (Act::Swap, Some(packet)) => lane.push_back(packet),
                        (_, _) => {}
                    }
                }
            }
            Act::Cut(both) => self.cut(CloseReason::Peer, both),
            Act::RestartServer => {
                self.cut(CloseReason::Peer, true);
                self.half_open.clear();
                self.server = Server::new(self.deletes, self.server.now);
            }
            Act::RestartBroker => {
                self.cut(CloseReason::Peer, true);
                let broker = self.broker.kill();
                self = Site { broker, ..self };
                self.broker.run();
            }
        }
        self.gather();
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_to_changes_the_routes_are_those_of_the_whole_table(
        acts in proptest::collection::vec(anything(), 1..50),
        deletes in any::<bool>(),
    ) {
        let mut site = Site::new(broker_config(), deletes, false);
        let mut mask = 6;
        for act in &acts {
            if let Act::Permission(perm) = act {
                mask = *perm;
            } else if matches!(act, Act::RestartBroker) {
                // A setting changed by a request is kept by the host, and there is none here.
                mask = 6;
            }
            site = site.act(*act);
        }
        site.heal();
        let (expected, topics) = site.expected(mask);
        let (routes, listed) = site.server.routes();
        for (at, (told, whole)) in routes.into_iter().zip(expected).enumerate() {
            // Without `deleteTopicWithBrokerRegistration` a deleted topic may stay until its broker is gone.
            if deletes || whole.0 == response_code::SUCCESS {
                prop_assert_eq!(told, whole, "{}", TOPICS[at]);
            }
        }
        if deletes {
            prop_assert_eq!(listed, topics);
        }
    }

    #[test]
    fn changes_and_whole_tables_make_the_same_routes_at_every_step(
        acts in proptest::collection::vec(prop_oneof![4 => changes(), 1 => Just(Act::Wipe)], 1..20),
    ) {
        let mut ours = Site::new(broker_config(), false, false);
        let mut whole = Site::new(BrokerConfig { force_register: true, ..broker_config() }, false, true);
        for act in acts {
            ours = ours.act(act);
            whole = whole.act(act);
            for site in [&mut ours, &mut whole] {
                site.settle();
                site.pass(BEAT);
                site.settle();
            }
            prop_assert_eq!(ours.server.routes(), whole.server.routes(), "after {:?}", act);
        }
    }
}

#[test]
fn signs_of_life_are_small_however_many_topics_there_are() {
    let mut site = Site::new(broker_config(), false, false);
    for n in 0..2_000 {
        site.ask_broker(make_topic(&format!("topic-{n}"), 8, 6));
        site.settle();
    }
    let size = |site: &mut Site| {
        let sent = site.wire.iter_mut().flat_map(|wire| wire.up.iter());
        let packets: Vec<Vec<u8>> = sent
            .map(|request| {
                let mut bytes = Vec::new();
                Link::encode(&Packet::Command(request.clone()), &mut bytes);
                bytes
            })
            .collect();
        site.settle();
        packets.iter().map(Vec::len).collect::<Vec<usize>>()
    };
    site.pass(BEAT);
    site.gather();
    let beat = size(&mut site);
    assert!(beat.len() == 1 && beat[0] < 1024, "{beat:?}");
    site.ask_broker(make_topic("one-more", 8, 6));
    site.gather();
    let change = size(&mut site);
    assert!(change.len() == 1 && change[0] < 1024, "{change:?}");
    assert_eq!(site.server.routes().1.iter().filter(|topic| topic.starts_with("topic-")).count(), 2_000);
}
