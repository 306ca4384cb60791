//! The machine driven by hand: inputs in, effects out, packets as they are after the codec's two ends.

mod admin;
mod changes;
mod model;
mod routes;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Command as NameServerCommand, Event, NameServer, NameServerConfig};
use crate::io::{
    CloseReason, ConnId, DirEntry, Disk, DiskError, Done, Effect, Env, Extent, FetchId, FileId, FileKind,
    Input, Machine, Now, Residency, Space, SyncId, SyncTarget,
};
use crate::rng::Rng;
use crate::time::{Duration, Instant, WallMs};
use crate::wire::body::{
    self, DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper, TopicRouteData,
};
use crate::wire::code::request_code;
use crate::wire::request::{Header, RegisterBrokerRequest};
use crate::wire::{Command, Ext, Packet};

/// Small files in memory, and nothing else.
#[derive(Default)]
struct SmallFiles(BTreeMap<String, Vec<u8>>);

impl Disk for SmallFiles {
    fn create(&mut self, _: &str, _: u64, _: FileKind) -> Result<FileId, DiskError> {
        Err(DiskError::Denied)
    }
    fn open(&mut self, _: &str, _: FileKind) -> Result<FileId, DiskError> {
        Err(DiskError::Denied)
    }
    fn close(&mut self, _: FileId) {}
    fn len(&self, _: FileId) -> Result<u64, DiskError> {
        Err(DiskError::Denied)
    }
    fn write(&mut self, _: FileId, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }
    fn truncate(&mut self, _: FileId, _: u64) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }
    fn read(&mut self, _: Extent, _: &mut Vec<u8>) -> Result<Residency, DiskError> {
        Err(DiskError::Denied)
    }
    fn rename(&mut self, _: &str, _: &str) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }
    fn delete(&mut self, _: &str) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }
    fn list(&mut self, _: &str) -> Result<Vec<DirEntry>, DiskError> {
        Err(DiskError::Denied)
    }
    fn stat(&mut self, _: &str) -> Result<Option<DirEntry>, DiskError> {
        Err(DiskError::Denied)
    }
    fn space(&mut self) -> Result<Space, DiskError> {
        Err(DiskError::Denied)
    }
    fn read_small(&mut self, path: &str, len_max: u64) -> Result<Vec<u8>, DiskError> {
        let content = self.0.get(path).ok_or(DiskError::NotFound)?;
        if content.len() as u64 > len_max { Err(DiskError::OutOfRange) } else { Ok(content.clone()) }
    }
    fn sync(&mut self, _: SyncId, _: SyncTarget) {}
    fn replace(&mut self, _: SyncId, path: &str, bytes: Bytes) {
        self.0.insert(path.to_string(), bytes.to_vec());
    }
    fn fetch(&mut self, _: FetchId, _: Extent) {}
    fn release(&mut self, _: FetchId) {}
    fn reap(&mut self, _: &mut Vec<Done>) {}
}

/// A machine and its world.
struct Rig {
    machine: NameServer,
    disk: SmallFiles,
    rng: Rng,
    now: Duration,
}

impl Rig {
    /// A started name server over these files.
    fn over(files: &[(&str, &[u8])], config: NameServerConfig) -> Rig {
        let (rig, effects) = Rig::try_over(files, config);
        assert_eq!(effects, [Effect::Emit(Event::Started)]);
        rig
    }

    fn try_over(files: &[(&str, &[u8])], config: NameServerConfig) -> (Rig, Vec<Effect<Event>>) {
        let files = files.iter().map(|(path, content)| (path.to_string(), content.to_vec()));
        let machine = NameServer::new(config);
        let mut rig = Rig {
            machine,
            disk: SmallFiles(files.collect()),
            rng: Rng::from_seed(0),
            now: Duration::from_secs(1000),
        };
        let effects = rig.turn([Input::Start]);
        (rig, effects)
    }

    fn started() -> Rig {
        Rig::over(&[], NameServerConfig::default())
    }

    fn now(&self) -> Now {
        let mono = Instant::from_nanos(u64::try_from(self.now.as_nanos()).expect("a test is short"));
        Now { mono, wall: WallMs(1_700_000_000_000) }
    }

    /// One turn, as the node drives it.
    fn turn(&mut self, inputs: impl IntoIterator<Item = Input<NameServerCommand>>) -> Vec<Effect<Event>> {
        let now = self.now();
        let mut out = Vec::new();
        let mut env = Env { disk: &mut self.disk, out: &mut out, rng: &mut self.rng };
        for input in inputs {
            self.machine.step(now, input, &mut env);
        }
        if Machine::<SmallFiles>::deadline(&self.machine).is_some_and(|(at, _)| at <= now.mono) {
            self.machine.step(now, Input::Wake, &mut env);
        }
        self.machine.settle(now, &mut env);
        Machine::<SmallFiles>::check_invariants(&self.machine);
        out
    }

    /// The time passes, with a turn at each deadline on the way.
    fn pass(&mut self, time: Duration) -> Vec<Effect<Event>> {
        let end = self.now + time;
        let mut effects = Vec::new();
        while let Some((due, _)) = Machine::<SmallFiles>::deadline(&self.machine) {
            let due = Duration::from_nanos(due.as_nanos());
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            effects.extend(self.turn([]));
        }
        self.now = end;
        effects
    }

    /// A request that is answered in its own turn.
    fn ask(&mut self, conn: u64, request: Command) -> Command {
        let mut effects = self.turn([received(conn, request)]);
        match (effects.pop(), effects.is_empty()) {
            (Some(Effect::Send { conn: to, packet: Packet::Command(answer) }), true) => {
                assert_eq!(to, ConnId::accepted(conn));
                answer
            }
            other => panic!("one answer, not {other:?}"),
        }
    }

    fn close(&mut self, conn: u64) -> Vec<Effect<Event>> {
        self.turn([Input::Closed { conn: ConnId::accepted(conn), why: CloseReason::Peer }])
    }

    fn register(&mut self, conn: u64, broker: &Broker) -> Command {
        let answer = self.ask(conn, broker.registration());
        assert_eq!(answer.code, 0, "{:?}", answer.remark);
        answer
    }

    fn route(&mut self, topic: &str) -> Option<TopicRouteData> {
        let answer = self.ask(99, request(request_code::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)]));
        match answer.code {
            0 => Some(body::decode(&answer.body).expect("a route")),
            17 => None,
            other => panic!("code {other}"),
        }
    }

    /// Broker names that a topic is on, with the permission.
    fn perms(&mut self, topic: &str) -> Vec<(String, i32)> {
        let queues = self.route(topic).map(|route| route.queue_datas).unwrap_or_default();
        queues.into_iter().map(|queues| (queues.broker_name, queues.perm)).collect()
    }
}

fn received(conn: u64, request: Command) -> Input<NameServerCommand> {
    Input::Received { conn: ConnId::accepted(conn), packet: request.into() }
}

fn request(code: i32, fields: &[(&'static str, &str)]) -> Command {
    let fields = fields.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Owned(value.to_string())));
    Command::request(code, Ext::Fields(fields.collect()))
}

/// A broker that registers.
#[derive(Clone, Debug)]
struct Broker {
    name: &'static str,
    cluster: &'static str,
    id: i64,
    addr: &'static str,
    version: i64,
    topics: Vec<TopicConfig>,
    acting_master: Option<bool>,
    compressed: bool,
    timeout_ms: Option<i64>,
}

impl Broker {
    /// Master `broker-a` of `c` at `a:1` with topics `T` and `U`.
    fn master() -> Broker {
        Broker {
            name: "broker-a",
            cluster: "c",
            id: 0,
            addr: "a:1",
            version: 1,
            topics: vec![topic("T"), topic("U")],
            acting_master: Some(false),
            compressed: false,
            timeout_ms: None,
        }
    }

    /// Slave 1 of it at `a:2`.
    fn slave() -> Broker {
        Broker { id: 1, addr: "a:2", ..Broker::master() }
    }

    fn body(&self) -> RegisterBrokerBody {
        RegisterBrokerBody {
            filter_server_list: vec![],
            gantry_change: None,
            topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
                data_version: DataVersion { counter: self.version, state_version: 0, timestamp: 0 },
                topic_config_table: self
                    .topics
                    .iter()
                    .map(|topic| (topic.topic_name.clone(), topic.clone()))
                    .collect(),
                ..TopicConfigSerializeWrapper::default()
            },
        }
    }

    fn header(&self, body: &[u8]) -> RegisterBrokerRequest {
        RegisterBrokerRequest {
            broker_name: self.name.into(),
            broker_addr: self.addr.into(),
            cluster_name: self.cluster.into(),
            ha_server_addr: alloc::format!("ha-{}", self.addr),
            broker_id: self.id,
            heartbeat_timeout_millis: self.timeout_ms,
            enable_acting_master: self.acting_master,
            compressed: Some(self.compressed),
            body_crc32: Some((crc32fast::hash(body) & 0x7fff_ffff) as i32),
        }
    }

    fn registration(&self) -> Command {
        let body = self.body();
        let body = if self.compressed { body.encode_compressed() } else { body::encode(&body) };
        Command::request(request_code::REGISTER_BROKER, self.header(&body).to_ext()).with_body(body)
    }

    /// The fields by which requests name a broker.
    fn named(&self, code: i32) -> Command {
        let id = self.id.to_string();
        let fields = [
            ("brokerName", self.name),
            ("brokerAddr", self.addr),
            ("clusterName", self.cluster),
            ("brokerId", &id),
        ];
        request(code, &fields)
    }
}

fn topic(name: &str) -> TopicConfig {
    TopicConfig { topic_name: name.into(), read_queue_nums: 4, write_queue_nums: 4, ..TopicConfig::default() }
}
