//! One broker, its disk, a clock that the test moves, and clients that are names of connections.

use std::collections::VecDeque;
use std::time::Duration;

use gantry_core::broker::{Broker, BrokerCommand, BrokerConfig, BrokerEvent};
use gantry_core::io::{Clock, CloseReason, ConnId, Input, Machine, Network, Now, Peer, Protocol};
use gantry_core::node::{Node, Turn};
use gantry_core::rng::Rng;
use gantry_core::time::{Instant, WallMs};
use gantry_core::wire::body::{self, ConsumerData, HeartbeatData, ProducerData, SubscriptionData};
use gantry_core::wire::code::request_code;
use gantry_core::wire::request::{
    Header, PullMessageRequest, SendMessageRequest, UpdateConsumerOffsetRequest, pull_sys_flag,
};
use gantry_core::wire::{Command, Packet};
use gantry_disk::MemoryDisk;

pub(crate) const START_WALL_MS: i64 = 1_700_000_000_000;

struct TestClock(Now);

impl Clock for TestClock {
    fn now(&mut self) -> Now {
        self.0
    }
}

/// Keeps what leaves the broker.
#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) sent: Vec<(ConnId, Command)>,
    /// What is not a command.
    pub(crate) streamed: Vec<(ConnId, Packet)>,
    pub(crate) dialled: Vec<(ConnId, Peer)>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) events: Vec<BrokerEvent>,
}

impl Network for Wires {
    type Event = BrokerEvent;

    fn dial(&mut self, conn: ConnId, peer: &Peer) {
        self.dialled.push((conn, peer.clone()));
    }

    fn send(&mut self, conn: ConnId, packet: Packet) {
        match packet {
            Packet::Command(command) => self.sent.push((conn, command)),
            Packet::HaReport { .. } | Packet::HaBlock { .. } => self.streamed.push((conn, packet)),
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.closed.push(conn);
    }

    fn emit(&mut self, event: BrokerEvent) {
        self.events.push(event);
    }
}

pub(crate) struct World {
    node: Node<Broker, TestClock, Wires, MemoryDisk>,
    inbox: VecDeque<Input<BrokerCommand>>,
    config: BrokerConfig,
    now: Now,
    opaque: i32,
    pub(crate) failed: Option<String>,
}

pub(crate) fn config() -> BrokerConfig {
    let mut config = BrokerConfig::new("b", "127.0.0.1:10911".parse().expect("address"));
    config.store.segment_bytes = 64 * 1024;
    config.store.queue_file_entries = 100;
    // Tests say what a loss of power with some seed takes; one file more would make that something else.
    config.store.reserve_bytes = 0;
    config
}

impl World {
    /// A broker over an empty disk, ready.
    pub(crate) fn new(config: BrokerConfig) -> World {
        let mut world = World::over(config, MemoryDisk::new(Rng::from_seed(1)));
        world.run();
        assert!(world.node.machine().is_ready(), "recovers nothing at once");
        world
    }

    /// A broker over some disk, not started.
    pub(crate) fn over(config: BrokerConfig, mut disk: MemoryDisk) -> World {
        disk.set_automatic(true);
        let now = Now { mono: Instant::from_nanos(1_000_000_000), wall: WallMs(START_WALL_MS + 1_000) };
        disk.set_wall(now.wall);
        let broker = Broker::new(config.clone());
        World {
            node: Node::new(broker, TestClock(now), Wires::default(), disk, Rng::from_seed(2)),
            inbox: VecDeque::new(),
            config,
            now,
            opaque: 0,
            failed: None,
        }
    }

    /// Turns until nothing is due.
    pub(crate) fn run(&mut self) {
        for _ in 0..1000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the broker is never idle: {:?}", Machine::<MemoryDisk>::deadline(self.node.machine()));
    }

    /// One turn; whether there is more to do.
    pub(crate) fn turn(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let pending = self.node.disk_mut().pending().count();
        match self.node.turn(&mut self.inbox) {
            Turn::Idle { deadline } => {
                Machine::<MemoryDisk>::check_invariants(self.node.machine());
                deadline.is_some_and(|(at, _)| at <= self.now.mono)
                    || pending > 0
                    || self.node.disk_mut().pending().count() > 0
            }
            Turn::More => true,
            Turn::Failed { reason, .. } => {
                self.failed = Some(reason);
                false
            }
        }
    }

    /// Time passes, turn by turn as the broker asks to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            let due = Machine::<MemoryDisk>::deadline(self.node.machine()).map(|(at, _)| at);
            let next = due.filter(|at| *at < end).unwrap_or(end).max(self.now.mono);
            self.set_time(next);
            self.run();
            if next == end || self.failed.is_some() {
                return;
            }
        }
    }

    pub(crate) fn wires(&mut self) -> &mut Wires {
        self.node.network_mut()
    }

    pub(crate) fn disk(&mut self) -> &mut MemoryDisk {
        self.node.disk_mut()
    }

    /// `kill -9`, then a new life over the same disk.
    pub(crate) fn kill(self) -> World {
        self.kill_with(|config| config)
    }

    /// The power goes: what was not synced may be lost, as the seed says.
    pub(crate) fn lose_power(self, seed: u64) -> World {
        let mut disk = self.node.into_disk();
        disk.power_loss(&mut Rng::from_seed(seed));
        disk.revive();
        let mut world = World::over(self.config, disk);
        world.set_time(self.now.mono);
        world
    }

    pub(crate) fn kill_with(self, change: impl FnOnce(BrokerConfig) -> BrokerConfig) -> World {
        let config = change(self.config);
        let mut disk = self.node.into_disk();
        disk.kill();
        disk.revive();
        let mut world = World::over(config, disk);
        world.set_time(self.now.mono);
        world
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.node.machine()
    }

    /// What a group has committed.
    pub(crate) fn committed(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.node.machine().committed_offset(group, topic, queue_id)
    }

    pub(crate) fn input(&mut self, input: Input<BrokerCommand>) {
        self.inbox.push_back(input);
    }

    /// A client's connection.
    pub(crate) fn connect(&mut self, n: u64) -> ConnId {
        let conn = ConnId::accepted(n);
        let peer = format!("127.0.0.1:{}", 40_000 + n).parse().expect("address");
        self.input(Input::Opened { conn, peer, protocol: Protocol::Remoting });
        conn
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.input(Input::Closed { conn, why: CloseReason::Peer });
    }

    /// Sends a request and returns its opaque, without a turn.
    pub(crate) fn post(&mut self, conn: ConnId, request: Command) -> i32 {
        self.opaque += 1;
        let packet = Packet::Command(Command { opaque: self.opaque, ..request });
        self.input(Input::Received { conn, packet });
        self.opaque
    }

    /// The answer to a request, if it has left.
    pub(crate) fn answer(&mut self, conn: ConnId, opaque: i32) -> Option<Command> {
        let sent = &mut self.wires().sent;
        let at = sent
            .iter()
            .position(|(to, command)| *to == conn && command.is_response() && command.opaque == opaque)?;
        Some(sent.remove(at).1)
    }

    /// Sends a request and returns its answer, which must come at once.
    pub(crate) fn call(&mut self, conn: ConnId, request: Command) -> Command {
        let code = request.code;
        let opaque = self.post(conn, request);
        self.run();
        self.answer(conn, opaque).unwrap_or_else(|| panic!("no answer to {code}: {:?}", self.failed))
    }

    /// The same in one turn, with nothing completed behind the broker's back.
    pub(crate) fn call_now(&mut self, conn: ConnId, request: Command) -> Command {
        let code = request.code;
        let opaque = self.post(conn, request);
        self.turn();
        self.answer(conn, opaque).unwrap_or_else(|| panic!("no answer to {code}: {:?}", self.failed))
    }

    fn set_time(&mut self, mono: Instant) {
        self.now = Now { mono, wall: WallMs(START_WALL_MS + (mono.as_nanos() / 1_000_000) as i64) };
        self.node.clock_mut().0 = self.now;
        self.node.disk_mut().set_wall(self.now.wall);
    }

    /// Time passes in one jump, with one turn at its end.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.set_time(self.now.mono + time);
        self.turn();
    }

    /// Requests that the broker made of a client, oldest first.
    pub(crate) fn pushed(&mut self, conn: ConnId) -> Vec<Command> {
        let sent = std::mem::take(&mut self.wires().sent);
        let (mine, other) = sent.into_iter().partition(|(to, command)| *to == conn && !command.is_response());
        self.wires().sent = other;
        let mine: Vec<(ConnId, Command)> = mine;
        mine.into_iter().map(|(_, command)| command).collect()
    }
}

pub(crate) fn send_header(topic: &str, queue_id: i32, properties: &str) -> SendMessageRequest<'static> {
    SendMessageRequest {
        producer_group: "P".into(),
        topic: topic.to_owned().into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: START_WALL_MS,
        properties: properties.to_owned().into(),
        ..SendMessageRequest::default()
    }
}

pub(crate) fn send(topic: &str, queue_id: i32, properties: &str, body: &str) -> Command {
    Command::request(request_code::SEND_MESSAGE_V2, send_header(topic, queue_id, properties).to_ext())
        .with_body(body.to_owned().into_bytes())
}

pub(crate) fn pull_header(topic: &str, queue_id: i32, offset: i64) -> PullMessageRequest<'static> {
    PullMessageRequest {
        consumer_group: "G".into(),
        topic: topic.to_owned().into(),
        queue_id,
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: pull_sys_flag::SUBSCRIPTION,
        subscription: Some("*".into()),
        ..PullMessageRequest::default()
    }
}

pub(crate) fn pull(topic: &str, queue_id: i32, offset: i64) -> Command {
    Command::request(request_code::PULL_MESSAGE, pull_header(topic, queue_id, offset).to_ext())
}

/// A pull that may be held for this long.
pub(crate) fn poll(topic: &str, queue_id: i32, offset: i64, tags: &str, ms: i64) -> Command {
    let header = PullMessageRequest {
        sys_flag: pull_sys_flag::SUBSCRIPTION | pull_sys_flag::SUSPEND,
        subscription: Some(tags.to_owned().into()),
        suspend_timeout_millis: ms,
        ..pull_header(topic, queue_id, offset)
    };
    Command::request(request_code::PULL_MESSAGE, header.to_ext())
}

pub(crate) fn commit(group: &str, topic: &str, queue_id: i32, offset: i64) -> Command {
    let header = UpdateConsumerOffsetRequest {
        consumer_group: group.to_owned().into(),
        topic: topic.to_owned().into(),
        queue_id,
        commit_offset: offset,
    };
    Command::request(request_code::UPDATE_CONSUMER_OFFSET, header.to_ext())
}

pub(crate) fn heartbeat(client: &str, group: &str, topic: &str, tags: &str, version: i64) -> Command {
    let heartbeat = HeartbeatData {
        client_id: client.into(),
        consumer_data_set: vec![ConsumerData {
            group_name: group.into(),
            subscription_data_set: vec![SubscriptionData {
                topic: topic.into(),
                sub_string: tags.into(),
                sub_version: version,
                ..SubscriptionData::default()
            }],
            ..ConsumerData::default()
        }],
        producer_data_set: vec![ProducerData { group_name: "P".into() }],
        ..HeartbeatData::default()
    };
    Command::request(request_code::HEART_BEAT, gantry_core::wire::Ext::None)
        .with_body(body::encode(&heartbeat))
}
