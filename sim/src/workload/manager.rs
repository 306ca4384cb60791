//! A manager: makes topics, changes them, makes them smaller while messages lie in the queues that go, deletes them and
//! makes them again; makes, changes and deletes groups; puts and deletes keys of the name server's configuration; takes the
//! broker's write permission in the routes away and gives it back. One order after another, each tried until it is acknowledged;
//! between them it reads what it has set, and the messages that it sends.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Ext};
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desk::{Desk, Pulled, RETRY_DELAY, read_pull};
use super::ordered::BROKER;
use super::requests::{self, Outgoing, Pull, code, reply};
use super::rpc::{ClientEnv, Event};
use super::script::{Script, Timed};
use super::{ClientOptions, REQUEST_TIMEOUT, producer};
use crate::history::{AdminReport, MessageId, Outcome, Report};

const GROUP: &str = "managers";
/// A namespace of the name server's configuration.
const NAMESPACE: &str = "SIMULATED";
/// Topics, groups and keys of each kind.
pub const NAMES: u64 = 2;
/// Queues of a topic at most.
pub const QUEUES_MAX: u64 = 5;
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(500);
const ORDERS: u32 = 60;
/// Lives of topics, where those are what it is about.
const LIVES_LEAST: u64 = 6;
const LIVES_MORE: u64 = 20;
/// Messages of a life, at most.
const SENDS_OF_A_LIFE: u64 = 25;
/// The bit of RocketMQ's `PermName.PERM_WRITE`.
const PERM_WRITE: i64 = 2;
/// So many messages are remembered, to be looked for.
const SENT_MAX: usize = 500;

/// Something to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// What.
    pub act: Act,
}

impl Timed for Order {
    fn at_ns(&self) -> u64 {
        self.at_ns
    }
}

/// What an order is about. Names are numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Makes or changes a topic.
    PutTopic {
        /// Which.
        topic: u8,
        /// Queues to read.
        read: i32,
        /// Queues to write.
        write: i32,
    },
    /// Deletes it, at the broker and then at the name server.
    DeleteTopic {
        /// Which.
        topic: u8,
    },
    /// Makes or changes a group.
    PutGroup {
        /// Which.
        group: u8,
        /// How often its messages are tried.
        times: i32,
    },
    /// Deletes it.
    DeleteGroup {
        /// Which.
        group: u8,
    },
    /// Sets a key at the name server.
    PutKey {
        /// Which.
        key: u8,
        /// To what.
        value: u32,
    },
    /// Deletes it.
    DeleteKey {
        /// Which.
        key: u8,
    },
    /// Takes write permission away in the routes, looks, and gives it back.
    Wipe,
    /// Sends a message.
    Send {
        /// Which.
        message: u32,
        /// To which topic.
        topic: u8,
        /// To which queue.
        queue: i32,
    },
}

/// Draws what is ordered between two times.
pub fn draw(rng: &mut Rng, from: Duration, until: Duration) -> Vec<Order> {
    let span = (until - from).as_nanos() as u64;
    let mut orders = Vec::new();
    for message in 0..ORDERS {
        let name = rng.below(NAMES) as u8;
        let act = match rng.below(12) {
            0..=2 => {
                let (read, write) = (1 + rng.below(QUEUES_MAX) as i32, 1 + rng.below(QUEUES_MAX) as i32);
                Act::PutTopic { topic: name, read: read.max(write), write }
            }
            3 => Act::DeleteTopic { topic: name },
            4 => Act::PutGroup { group: name, times: rng.below(20) as i32 },
            5 => Act::DeleteGroup { group: name },
            6 => Act::PutKey { key: name, value: rng.below(1000) as u32 },
            7 => Act::DeleteKey { key: name },
            8 => Act::Wipe,
            _ => Act::Send { message, topic: name, queue: rng.below(QUEUES_MAX) as i32 },
        };
        orders.push(Order { at_ns: from.as_nanos() as u64 + rng.below(span), act });
    }
    orders.sort_by_key(|order| order.at_ns);
    orders
}

/// Draws lives of topics between two times: each is made, written to, and deleted; about half begin as the one before ends.
pub fn draw_lives(rng: &mut Rng, from: Duration, until: Duration) -> Vec<Order> {
    let (from, until) = (from.as_nanos() as u64, until.as_nanos() as u64);
    let mut orders = Vec::new();
    let mut message = 0;
    let (mut ended, mut topic) = (from, 0);
    for _ in 0..LIVES_LEAST + rng.below(LIVES_MORE) {
        let begins =
            if rng.one_in(2) { ended + rng.below(5_000_000) } else { from + rng.below(until - from) };
        if begins != ended {
            topic = if rng.one_in(2) { topic } else { rng.below(NAMES) as u8 };
        }
        let queues = 1 + rng.below(QUEUES_MAX) as i32;
        orders.push(Order { at_ns: begins, act: Act::PutTopic { topic, read: queues, write: queues } });
        let lasts = [100_000_000, 2_000_000_000, 20_000_000_000][rng.below(3) as usize];
        for _ in 0..rng.below(SENDS_OF_A_LIFE) {
            let queue = rng.below(queues as u64) as i32;
            orders.push(Order { at_ns: begins + rng.below(lasts), act: Act::Send { message, topic, queue } });
            message += 1;
        }
        ended = begins + lasts + rng.below(lasts);
        orders.push(Order { at_ns: ended, act: Act::DeleteTopic { topic } });
    }
    orders.retain(|order| order.at_ns < until);
    orders.sort_by_key(|order| order.at_ns);
    orders
}

/// The name of a topic of the manager's.
pub fn topic(number: u8) -> String {
    format!("made-{number}")
}

fn group(number: u8) -> String {
    format!("group-{number}")
}

/// The register that holds a topic's settings.
pub fn topic_register(topic: &str) -> String {
    format!("topic {topic}")
}

/// The register that holds what the name server says of a topic.
pub fn route_register(topic: &str) -> String {
    format!("route {topic}")
}

/// A topic's settings in words.
fn settings(read: i64, write: i64, perm: i64) -> String {
    format!("read {read} write {write} perm {perm}")
}

/// A request of an order.
#[derive(Clone, Debug)]
struct Step {
    to_names: bool,
    command: Command,
    /// What it sets, and to what.
    sets: Option<(String, Option<String>)>,
    send: Option<(MessageId, String, i32)>,
}

#[derive(Debug)]
enum Tag {
    Step,
    Topic(String),
    Groups,
    Key(u8),
    Route(String),
    Pull(String, i32),
    Query,
}

/// See the [module](self).
pub struct Manager {
    desk: Desk<Tag>,
    script: Script<Order>,
    steps: VecDeque<Step>,
    attempts: u32,
    not_before: Instant,
    busy: bool,
    /// Queues of each topic that is there.
    queues: BTreeMap<String, i32>,
    read_to: BTreeMap<(String, i32), i64>,
    /// Messages that were sent in this life, with their topics.
    sent: Vec<(String, MessageId)>,
    looks: u64,
    looking: bool,
    look_at: Instant,
}

impl Manager {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(options: ClientOptions, plan: Rc<Vec<Order>>, at: Duration, now: Now) -> Manager {
        Manager {
            desk: Desk::new(options, None, now),
            script: Script::new(plan, at, now),
            // A life that ended in between has left the permission wiped: clients that look for it find nothing to read.
            steps: VecDeque::from([add_write_perm()]),
            // Attempts of different lives are different messages.
            attempts: at.as_millis() as u32,
            not_before: now.mono,
            busy: false,
            queues: BTreeMap::new(),
            read_to: BTreeMap::new(),
            sent: Vec::new(),
            looks: 0,
            looking: false,
            look_at: now.mono,
        }
    }

    fn begin(&mut self, act: &Act) {
        let set = |command, register: String, value| Step {
            to_names: false,
            command,
            sets: Some((register, value)),
            send: None,
        };
        match act {
            Act::PutTopic { topic: number, read, write } => {
                let name = topic(*number);
                let (read_text, write_text) = (read.to_string(), write.to_string());
                let fields = [
                    ("topic", name.as_str()),
                    ("defaultTopic", requests::AUTO_CREATE_TOPIC),
                    ("readQueueNums", &read_text),
                    ("writeQueueNums", &write_text),
                    ("perm", "6"),
                    ("topicFilterType", "SINGLE_TAG"),
                    ("topicSysFlag", "0"),
                    ("order", "false"),
                ];
                let command = requests::plain(code::UPDATE_AND_CREATE_TOPIC, &fields);
                let value = settings((*read).into(), (*write).into(), 6);
                self.steps.push_back(set(command, topic_register(&name), Some(value)));
                // A deletion that nobody answered may have come late, and the queues begin anew.
                self.read_to.retain(|(topic, _), _| *topic != name);
                self.queues.insert(name, *read);
            }
            Act::DeleteTopic { topic: number } => {
                let name = topic(*number);
                let fields = [("topic", name.as_str())];
                let command = requests::plain(code::DELETE_TOPIC_IN_BROKER, &fields);
                self.steps.push_back(set(command, topic_register(&name), None));
                let command = requests::plain(code::DELETE_TOPIC_IN_NAMESRV, &fields);
                self.steps.push_back(Step { to_names: true, command, sets: None, send: None });
                self.queues.remove(&name);
                self.read_to.retain(|(topic, _), _| *topic != name);
            }
            Act::PutGroup { group: number, times } => {
                let name = group(*number);
                let body = format!(
                    r#"{{"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"{name}","retryMaxTimes":{times},"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}"#
                );
                let request = Command::request(code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, Ext::None);
                let command = request.with_body(body);
                self.steps.push_back(set(command, format!("group {name}"), Some(times.to_string())));
            }
            Act::DeleteGroup { group: number } => {
                let name = group(*number);
                let fields = [("groupName", name.as_str()), ("cleanOffset", "true")];
                let command = requests::plain(code::DELETE_SUBSCRIPTIONGROUP, &fields);
                self.steps.push_back(set(command, format!("group {name}"), None));
            }
            Act::PutKey { key, value } => {
                let (name, value) = (format!("key-{key}"), value.to_string());
                let fields = [("namespace", NAMESPACE), ("key", name.as_str()), ("value", value.as_str())];
                let command = requests::plain(code::PUT_KV_CONFIG, &fields);
                let step = set(command, format!("key {key}"), Some(value));
                self.steps.push_back(Step { to_names: true, ..step });
            }
            Act::DeleteKey { key } => {
                let name = format!("key-{key}");
                let fields = [("namespace", NAMESPACE), ("key", name.as_str())];
                let step = set(requests::plain(code::DELETE_KV_CONFIG, &fields), format!("key {key}"), None);
                self.steps.push_back(Step { to_names: true, ..step });
            }
            Act::Wipe => {
                let fields = [("brokerName", BROKER)];
                for command in
                    [requests::plain(code::WIPE_WRITE_PERM_OF_BROKER, &fields), requests::route(&topic(0))]
                {
                    self.steps.push_back(Step { to_names: true, command, sets: None, send: None });
                }
                self.steps.push_back(add_write_perm());
            }
            Act::Send { message, topic: number, queue } => {
                let name = topic(*number);
                if self.queues.contains_key(&name) {
                    self.attempts += 1;
                    let id = MessageId { message: *message, attempt: self.attempts };
                    let outgoing = [Outgoing { body: id.body(40), properties: id.properties() }];
                    // No topic is made by a message.
                    let command = requests::send_from(GROUP, &name, "no-topic", *queue, 0, &outgoing);
                    let send = Some((id, name, *queue));
                    self.steps.push_back(Step { to_names: false, command, sets: None, send });
                }
            }
        }
    }

    fn work(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.steps.is_empty()
            && let Some(order) = self.script.take(now)
        {
            let act = order.act.clone();
            self.begin(&act);
        }
        let Some(step) = self.steps.front().filter(|_| !self.busy && self.not_before <= now.mono) else {
            return;
        };
        let step = step.clone();
        self.busy = true;
        if let Some((register, value)) = step.sets {
            tell(env, AdminReport::Begun { register, value });
        }
        if let Some((id, topic, queue)) = step.send {
            if self.sent.len() < SENT_MAX {
                self.sent.push((topic.clone(), id));
            }
            tell(env, AdminReport::SendBegun { id, topic, queue });
        }
        if step.to_names {
            self.desk.ask_names(now, env, step.command, REQUEST_TIMEOUT, Tag::Step);
        } else {
            self.desk.call(now, env, step.command, REQUEST_TIMEOUT, Tag::Step);
        }
    }

    /// The order's request has ended; none when nobody knows how.
    fn on_step(&mut self, now: Now, command: Option<&Command>, sent: bool, env: &mut ClientEnv<'_>) {
        self.busy = false;
        let Some(step) = self.steps.front() else { return };
        if let Some((id, topic, queue)) = step.send.clone() {
            let outcome = match command {
                Some(command) => producer::read_outcome(command, 1),
                None if sent => Outcome::Unknown,
                None => Outcome::Refused { code: -1 },
            };
            tell(env, AdminReport::SendEnded { id, topic, queue, outcome });
            // Once is enough: another order sends another.
            self.steps.pop_front();
            return;
        }
        let is_route = step.command.code == code::GET_ROUTEINFO_BY_TOPIC;
        let done = command.is_some_and(|command| command.code == reply::SUCCESS || is_route);
        if let Some((register, value)) = step.sets.clone() {
            if done {
                tell(env, AdminReport::Done { register, value });
            } else if command.is_some() || !sent {
                tell(env, AdminReport::NotDone { register, value });
            }
        }
        if done {
            self.steps.pop_front();
        } else {
            self.not_before = now.mono + RETRY_DELAY;
        }
    }

    /// Looks at one thing after another.
    fn look(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.looking || self.look_at > now.mono {
            return;
        }
        self.looking = true;
        self.look_at = now.mono + PAUSE;
        self.looks += 1;
        let number = (self.looks / 8 % NAMES) as u8;
        let name = topic(number);
        let (to_names, command, tag) = match self.looks % 8 {
            0 => {
                let command = requests::plain(code::GET_TOPIC_CONFIG, &[("topic", &name)]);
                (false, command, Tag::Topic(name))
            }
            1 => (false, requests::plain(code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[]), Tag::Groups),
            2 => {
                let key = format!("key-{number}");
                let fields = [("namespace", NAMESPACE), ("key", key.as_str())];
                (true, requests::plain(code::GET_KV_CONFIG, &fields), Tag::Key(number))
            }
            3 => (true, requests::route(&name), Tag::Route(name)),
            4 if !self.sent.is_empty() => {
                // What comes is judged at the broker's door.
                let (topic, id) = &self.sent[(self.looks / 8) as usize % self.sent.len()];
                (false, requests::query_key(topic, &id.unique_key(), true), Tag::Query)
            }
            _ => {
                let queue = (self.looks / 3 % QUEUES_MAX) as i32;
                let offset = self.read_to.get(&(name.clone(), queue)).copied().unwrap_or(0);
                let pull = Pull {
                    group: GROUP,
                    topic: &name,
                    queue,
                    offset,
                    messages_max: 32,
                    commit: None,
                    suspend_ms: 0,
                };
                (false, requests::pull(&pull), Tag::Pull(name.clone(), queue))
            }
        };
        if to_names {
            self.desk.ask_names(now, env, command, REQUEST_TIMEOUT, tag);
        } else {
            self.desk.call(now, env, command, REQUEST_TIMEOUT, tag);
        }
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::Step, command) => self.on_step(now, Some(&command), true, env),
            Event::Lost(Tag::Step) => self.on_step(now, None, true, env),
            Event::NotSent(Tag::Step) => self.on_step(now, None, false, env),
            Event::Reply(tag, command) => {
                self.looking = false;
                self.on_look(tag, &command, env);
            }
            Event::Lost(_) | Event::NotSent(_) => self.looking = false,
            Event::Request(_) => {}
        }
    }

    fn on_look(&mut self, tag: Tag, command: &Command, env: &mut ClientEnv<'_>) {
        let body = || serde_json::from_slice::<Value>(&command.body).unwrap_or_default();
        let read = |env: &mut ClientEnv<'_>, register, value| {
            tell(env, AdminReport::Read { register, value });
        };
        match (tag, command.code) {
            (Tag::Topic(name), reply::SUCCESS) => {
                read(env, topic_register(&name), Some(queues_in(&body())));
            }
            (Tag::Topic(name), reply::TOPIC_NOT_EXIST) => read(env, topic_register(&name), None),
            (Tag::Groups, reply::SUCCESS) => {
                let body = body();
                for number in 0..NAMES as u8 {
                    let name = group(number);
                    let times = body["subscriptionGroupTable"][&name]["retryMaxTimes"].as_i64();
                    read(env, format!("group {name}"), times.map(|times| times.to_string()));
                }
            }
            (Tag::Key(number), reply::SUCCESS) => {
                let value = command.ext.get("value").map(|value| value.into_owned());
                read(env, format!("key {number}"), value);
            }
            (Tag::Key(number), reply::QUERY_NOT_FOUND) => read(env, format!("key {number}"), None),
            (Tag::Route(name), reply::SUCCESS) => {
                let queues = &body()["queueDatas"][0];
                if queues["perm"].as_i64().is_some_and(|perm| perm & PERM_WRITE == 0) {
                    self.take_back_wipe();
                }
                read(env, route_register(&name), Some(queues_in(queues)));
            }
            (Tag::Route(name), reply::TOPIC_NOT_EXIST) => {
                // Nothing shows whether the permission is there.
                self.take_back_wipe();
                read(env, route_register(&name), None);
            }
            (Tag::Pull(name, queue), _) => self.on_pull(name, queue, command, env),
            (Tag::Step | Tag::Query | Tag::Topic(_) | Tag::Groups | Tag::Key(_) | Tag::Route(_), _) => {}
        }
    }

    /// A wipe that nobody answered may come late, and stays until somebody takes it back.
    fn take_back_wipe(&mut self) {
        if self.steps.is_empty() {
            self.steps.push_back(add_write_perm());
        }
    }

    fn on_pull(&mut self, topic: String, queue: i32, command: &Command, env: &mut ClientEnv<'_>) {
        match read_pull(command) {
            Pulled::Messages { records, next } => {
                for record in records {
                    let (offset, id) = (record.queue_offset, record.message());
                    tell(env, AdminReport::Came { topic: topic.clone(), queue, offset, id });
                }
                self.read_to.insert((topic, queue), next);
            }
            Pulled::Nothing { next, .. } => {
                if command.code == reply::PULL_NOT_FOUND {
                    tell(env, AdminReport::Drained { topic: topic.clone(), queue });
                }
                self.read_to.insert((topic, queue), next);
            }
            Pulled::Refused => {}
        }
    }
}

fn add_write_perm() -> Step {
    let command = requests::plain(code::ADD_WRITE_PERM_OF_BROKER, &[("brokerName", BROKER)]);
    Step { to_names: true, command, sets: None, send: None }
}

/// What a topic's configuration, or its queues in a route, say.
fn queues_in(body: &Value) -> String {
    let number = |name: &str| body[name].as_i64().unwrap_or(-1);
    settings(number("readQueueNums"), number("writeQueueNums"), number("perm"))
}

fn tell(env: &mut ClientEnv<'_>, report: AdminReport) {
    env.out.push(Effect::Emit(Report::Admin(report)));
}

impl Machine<MemoryDisk> for Manager {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        for event in self.desk.step(now, input, env) {
            self.on_event(now, event, env);
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        for event in self.desk.settle(now, env) {
            self.on_event(now, event, env);
        }
        let is_ready = self.desk.is_ready();
        // As long as the permission is wiped no master is found to talk to, and who is to give it back talks to name servers.
        if is_ready || self.steps.front().is_some_and(|step| step.to_names) {
            self.work(now, env);
        }
        if is_ready {
            self.look(now, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let look = (!self.looking).then_some(self.look_at);
        let work =
            if self.steps.is_empty() { self.script.due() } else { (!self.busy).then_some(self.not_before) };
        self.desk.work_deadline(look.into_iter().chain(work))
    }
}
