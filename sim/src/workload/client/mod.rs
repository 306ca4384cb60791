//! An application over the client machine of production: it sends, consumes, stops, dies and comes back.
//!
//! The machine runs unchanged as a process of its own, with a clock, a network and a disk (on which only broadcasting consumers
//! keep something: how far they have come). What the application does with it is drawn from the seed before the world begins:
//! what it sends and when, how long it holds a delivery, and which messages fail how often.
//!
//! Commits are reported as they leave the machine, whatever made it send them. The machine's invariants are those of its host:
//! bounds of memory and of what is handed out.
//!
//! Absent on purpose: patience. A send that ended badly is given to the machine again under another [`MessageId`].

mod consume;
mod plan;
mod produce;
mod report;
mod seek;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::client::{Client, ClientCommand, ClientConfig, ClientEvent, client_id};
use gantry_core::io::{ConnId, Disk, Effect, Env, Input, Machine, Now, SyncId};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::body::{self, LocalOffsets, MessageQueue, MqMap};
use gantry_core::wire::{Command, Packet};
use gantry_disk::MemoryDisk;

use super::requests::code;
use crate::history::Report;
use consume::Hands;
pub use plan::{AppPlan, Asked, Dividing, FleetSeek, FleetSend, GroupPlan, Way, tag_of, topic_of};
use produce::Sends;
pub use report::{ClientReport, Handed, Pace, SendEnd};
use seek::Seeks;

/// The file of a broadcast's offsets, of each client id.
const OFFSETS_BYTES_MAX: u64 = 1 << 20;
/// `commitOffset` counts in a pull with this bit.
const PULL_COMMITS: i64 = 1;

/// What an application is made with.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Its host's address.
    pub address: String,
    /// The name servers.
    pub names: Vec<Arc<str>>,
    /// The names of brokers, by their addresses.
    pub brokers: Rc<BTreeMap<String, String>>,
    /// Goes into the ids of its messages.
    pub number: u32,
}

/// See the [module](self).
pub struct App {
    options: AppOptions,
    plan: Rc<AppPlan>,
    group: Option<Rc<GroupPlan>>,
    client_id: String,
    life: u32,
    client: Option<Client>,
    effects: Vec<Effect<ClientEvent>>,
    sends: Sends,
    hands: Hands,
    seeks: Seeks,
    /// Which broker a connection leads to.
    conns: BTreeMap<ConnId, String>,
    replaced: u64,
    is_stopping: bool,
}

/// What the application works with in a turn.
pub(super) type AppEnv<'a> = Env<'a, MemoryDisk, Report>;

impl App {
    /// A life that begins `at` after the world did.
    pub fn new(
        options: AppOptions,
        plan: Rc<AppPlan>,
        group: Option<Rc<GroupPlan>>,
        life: u32,
        at: Duration,
        now: Now,
    ) -> App {
        let number = if plan.renames { life } else { 1 };
        let instance = format!("app{}-{number}", options.number);
        let room = plan.room.as_deref().map_or(String::new(), |room| format!("{room}-"));
        let client_id = client_id(&format!("{room}{}", options.address), &instance, None);
        let rng = Rng::from_seed(plan.seed).fork(&format!("life {life}"));
        let origin = Instant::from_nanos(now.mono.as_nanos() - at.as_nanos() as u64);
        App {
            sends: Sends::new(Rc::clone(&plan), at, origin),
            hands: Hands::new(group.clone(), rng),
            seeks: Seeks::new(&plan, at, origin),
            options,
            plan,
            group,
            client_id,
            life,
            client: None,
            effects: Vec::new(),
            conns: BTreeMap::new(),
            replaced: 0,
            is_stopping: false,
        }
    }

    /// Makes the machine, which knows what earlier lives of this client id have left on the disk.
    fn begin(&mut self, env: &mut AppEnv<'_>) {
        let offsets = self.load(env);
        let config = ClientConfig {
            client_id: self.client_id.clone(),
            name_servers: self.options.names.clone(),
            origin: self.origin(),
            producer: self.plan.producer(),
            consumer: self.group.as_ref().map(|group| group.consumer(offsets)),
        };
        tell(env, ClientReport::Began { client_id: self.client_id.clone() });
        self.client = Some(Client::new(config));
    }

    fn origin(&self) -> [u8; 10] {
        let [a, b, c, d] = self.options.number.to_be_bytes();
        let [e, f, g, h] = self.life.to_be_bytes();
        [10, 0, a, b, c, d, e, f, g, h]
    }

    fn is_broadcast(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.broadcast)
    }

    fn offsets_path(&self) -> String {
        format!("offsets/{}.json", self.client_id)
    }

    fn load(&self, env: &mut AppEnv<'_>) -> BTreeMap<MessageQueue, i64> {
        if !self.is_broadcast() {
            return BTreeMap::new();
        }
        let bytes = env.disk.read_small(&self.offsets_path(), OFFSETS_BYTES_MAX).unwrap_or_default();
        body::decode::<LocalOffsets>(&bytes).map(|offsets| offsets.offset_table.0).unwrap_or_default()
    }

    fn store(&mut self, offsets: &BTreeMap<MessageQueue, i64>, env: &mut AppEnv<'_>) {
        let text = LocalOffsets { offset_table: MqMap(offsets.clone()) }.encode();
        self.replaced += 1;
        let (id, path) = (SyncId(self.replaced), self.offsets_path());
        env.out.push(Effect::Replace { id, path, bytes: Bytes::from(text) });
        for (queue, offset) in offsets {
            tell(env, ClientReport::Committed { queue: queue.clone(), offset: *offset });
        }
    }

    /// Gives the machine an input.
    fn feed(&mut self, now: Now, input: Input<ClientCommand>, env: &mut AppEnv<'_>) {
        let Some(client) = &mut self.client else { return };
        let mut inner = Env { disk: &mut *env.disk, out: &mut self.effects, rng: &mut *env.rng };
        client.step(now, input, &mut inner);
        self.pass_on(now, env);
    }

    /// Passes on what the machine wants, and takes what it tells.
    fn pass_on(&mut self, now: Now, env: &mut AppEnv<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Dial { conn, peer } => {
                    if let Some(name) = self.options.brokers.get(&*peer.address) {
                        self.conns.insert(conn, name.clone());
                    }
                    env.out.push(Effect::Dial { conn, peer });
                }
                Effect::Close { conn } => env.out.push(Effect::Close { conn }),
                Effect::Sync { id, target } => env.out.push(Effect::Sync { id, target }),
                Effect::Replace { id, path, bytes } => env.out.push(Effect::Replace { id, path, bytes }),
                Effect::Fetch { id, at } => env.out.push(Effect::Fetch { id, at }),
                Effect::Fail { reason, restart } => env.out.push(Effect::Fail { reason, restart }),
                Effect::Send { conn, packet } => {
                    if let Packet::Command(command) = &packet
                        && let Some(commit) = self.commit_of(conn, command)
                    {
                        tell(env, commit);
                    }
                    env.out.push(Effect::Send { conn, packet });
                }
                Effect::Emit(event) => self.on_event(now, event, env),
            }
        }
        debug_assert!(self.effects.is_empty(), "what a machine tells makes it do nothing");
        // The buffer goes back, so that a turn allocates none.
        self.effects = effects;
    }

    fn on_event(&mut self, now: Now, event: ClientEvent, env: &mut AppEnv<'_>) {
        match event {
            ClientEvent::Sent { id, result } => self.sends.on_sent(now, id, result, env),
            ClientEvent::Delivered(delivery) => self.hands.on_delivered(now, &delivery, env),
            ClientEvent::Assigned { topic, queues } => {
                self.seeks.on_assigned(&topic, &queues);
                tell(env, ClientReport::Assigned { topic, queues });
            }
            ClientEvent::Progress(offsets) => self.store(&offsets, env),
            ClientEvent::Failing(error) => tell(env, ClientReport::Failing { what: error.to_string() }),
            ClientEvent::Stopped => tell(env, ClientReport::Stopped),
            // Nobody asks for these here; what goes wrong and is tried again shows in what becomes of it.
            ClientEvent::Replied { .. }
            | ClientEvent::Queues { .. }
            | ClientEvent::Answered { .. }
            | ClientEvent::Checking { .. }
            | ClientEvent::Problem(_) => {}
        }
    }

    /// The commit that a request carries.
    fn commit_of(&self, conn: ConnId, command: &Command) -> Option<ClientReport> {
        if command.is_response() {
            return None;
        }
        let number = |name: &str| command.ext.get(name)?.parse::<i64>().ok();
        match command.code {
            code::UPDATE_CONSUMER_OFFSET => {}
            code::PULL_MESSAGE if number("sysFlag")? & PULL_COMMITS != 0 => {}
            _ => return None,
        }
        let id = i32::try_from(number("queueId")?).ok()?;
        let topic = command.ext.get("topic")?;
        let queue = MessageQueue::new(topic, self.conns.get(&conn)?.as_str(), id);
        Some(ClientReport::Committed { queue, offset: number("commitOffset")? })
    }

    /// What the application itself does by now.
    fn act(&mut self, now: Now, env: &mut AppEnv<'_>) {
        while let Some(send) = self.sends.due(now, env) {
            self.feed(now, Input::Command(ClientCommand::Send(send)), env);
        }
        while let Some((delivery, verdict)) = self.hands.due(now, env) {
            self.feed(now, Input::Command(ClientCommand::Settle(delivery, verdict)), env);
        }
        while let Some((queue, offset)) = self.seeks.due(now, env) {
            self.feed(now, Input::Command(ClientCommand::Seek(queue, offset)), env);
        }
    }
}

pub(super) fn tell(env: &mut AppEnv<'_>, report: ClientReport) {
    env.out.push(Effect::Emit(Report::Client(report)));
}

fn map_input(input: Input<()>) -> Input<ClientCommand> {
    match input {
        Input::Start => Input::Start,
        Input::Opened { conn, peer, protocol } => Input::Opened { conn, peer, protocol },
        Input::Received { conn, packet } => Input::Received { conn, packet },
        Input::Drained { conn } => Input::Drained { conn },
        Input::Closed { conn, why } => Input::Closed { conn, why },
        Input::Synced { id, result } => Input::Synced { id, result },
        Input::Fetched { id, result } => Input::Fetched { id, result },
        Input::Wake => Input::Wake,
        Input::Command(()) => Input::Command(ClientCommand::Stop),
    }
}

impl Machine<MemoryDisk> for App {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut AppEnv<'_>) {
        if input == Input::Start {
            self.begin(env);
        }
        if input == Input::Command(()) {
            self.is_stopping = true;
            tell(env, ClientReport::Stopping);
        }
        self.feed(now, map_input(input), env);
    }

    fn settle(&mut self, now: Now, env: &mut AppEnv<'_>) {
        self.act(now, env);
        let Some(client) = &mut self.client else { return };
        let mut inner = Env { disk: &mut *env.disk, out: &mut self.effects, rng: &mut *env.rng };
        client.settle(now, &mut inner);
        self.pass_on(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let client = self.client.as_ref().and_then(Machine::<MemoryDisk>::deadline);
        let sends = if self.is_stopping { None } else { self.sends.deadline() };
        let own = [
            sends.map(|at| (at, "application sends")),
            self.hands.deadline().map(|at| (at, "application settles")),
            self.seeks.deadline().map(|at| (at, "application seeks")),
        ];
        client.into_iter().chain(own.into_iter().flatten()).min_by_key(|(at, _)| *at)
    }

    fn check_invariants(&self) {
        self.client.iter().for_each(Machine::<MemoryDisk>::check_invariants);
    }
}
