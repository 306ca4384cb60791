//! A consumer: one reader for each queue, long polling, commits from time to time.
//!
//! The same machine is the auditor, a broadcasting consumer: it reads every queue from its beginning and commits nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::requests::{self, Model, Pull, code, reply, reply_number};
use super::route::{self, Route, RouteReply};
use super::rpc::{ClientEnv, Event, Rpc};
use super::{ClientOptions, HEARTBEAT_INTERVAL, REQUEST_TIMEOUT, ROUTE_INTERVAL, record};
use crate::history::{Queue, Reader, Report, topic_name};

/// What a consumer is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsumerPlan {
    /// Who it is.
    pub reader: Reader,
    /// Topics that it reads.
    pub topics: u8,
    /// Messages of a pull at most.
    pub messages_max: i64,
    /// How long the broker may hold a pull.
    pub suspend: Duration,
    /// Commit with pulls; else by requests of their own.
    pub commit_with_pulls: bool,
    /// Go back to the committed offset, of so many lost connections, after one.
    pub rewind_one_in: u64,
}

/// How often offsets are committed (`persistConsumerOffsetInterval`).
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// The list of consumers is asked for this often (`rebalance` in RocketMQ's client).
const LIST_INTERVAL: Duration = Duration::from_secs(20);
/// A held pull is given up this long after the broker should have let it go.
const PULL_GRACE: Duration = Duration::from_secs(15);
/// After an error.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Tag {
    Route(u8),
    Heartbeat,
    List,
    Offset(Queue),
    Pull(Queue),
    Commit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    /// May go on at this time.
    Nothing(Instant),
    /// Asked where to begin.
    Asking,
    /// Waits for a pull.
    Pulling,
}

struct Lane {
    doing: Doing,
    next: Option<i64>,
    /// What the broker last heard.
    committed: i64,
}

#[derive(Default)]
struct Topic {
    route: Option<Route>,
    asking: bool,
    ask_at: Instant,
}

/// See the [module](self).
pub struct Consumer {
    options: ClientOptions,
    plan: ConsumerPlan,
    topics: BTreeMap<u8, Topic>,
    lanes: BTreeMap<Queue, Lane>,
    /// The master has answered a heartbeat since the last loss.
    known: bool,
    heartbeat_at: Instant,
    list_at: Instant,
    commit_at: Instant,
    rpc: Rpc<Tag>,
}

impl ConsumerPlan {
    fn group(&self) -> &'static str {
        self.reader.group()
    }
}

impl Consumer {
    /// A life.
    pub fn new(options: ClientOptions, plan: ConsumerPlan, now: Now) -> Consumer {
        let topics = (0..plan.topics).map(|topic| (topic, Topic::default())).collect();
        Consumer {
            options,
            plan,
            topics,
            lanes: BTreeMap::new(),
            known: false,
            heartbeat_at: now.mono,
            list_at: now.mono + LIST_INTERVAL,
            commit_at: now.mono + COMMIT_INTERVAL,
            rpc: Rpc::default(),
        }
    }

    fn master(&self) -> Option<Arc<str>> {
        self.topics.values().find_map(|topic| Some(topic.route.as_ref()?.master.clone()))
    }

    fn ask_routes(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        for (&topic, state) in &mut self.topics {
            if state.asking || state.ask_at > now.mono {
                continue;
            }
            state.asking = true;
            state.ask_at = now.mono + if state.route.is_some() { ROUTE_INTERVAL } else { RETRY_DELAY * 3 };
            let command = requests::route(&topic_name(topic));
            self.rpc.call(now, env, self.options.names.asked(), command, REQUEST_TIMEOUT, Tag::Route(topic));
        }
    }

    fn keep_session(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        let Some(master) = self.master() else { return };
        if self.heartbeat_at <= now.mono {
            self.heartbeat_at = now.mono + HEARTBEAT_INTERVAL;
            let topics: Vec<String> = (0..self.plan.topics).map(topic_name).collect();
            let model = match self.plan.reader {
                Reader::Group => Model::Clustering,
                Reader::Auditor => Model::Broadcasting,
            };
            let id = &self.options.client_id;
            let command = requests::consumer_heartbeat(id, self.plan.group(), model, &topics);
            self.rpc.call(now, env, &master, command, REQUEST_TIMEOUT, Tag::Heartbeat);
        }
        if self.known && self.list_at <= now.mono {
            self.list_at = now.mono + LIST_INTERVAL;
            let command = requests::consumer_list(self.plan.group());
            self.rpc.call(now, env, &master, command, REQUEST_TIMEOUT, Tag::List);
        }
    }

    fn work(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        let Some(master) = self.master().filter(|_| self.known) else { return };
        for (&queue, lane) in &mut self.lanes {
            let Doing::Nothing(not_before) = lane.doing else { continue };
            if not_before > now.mono {
                continue;
            }
            let topic = topic_name(queue.topic);
            let (command, timeout, tag) = match lane.next {
                None => {
                    lane.doing = Doing::Asking;
                    let command = requests::query_offset(self.plan.group(), &topic, queue.id);
                    (command, REQUEST_TIMEOUT, Tag::Offset(queue))
                }
                Some(offset) => {
                    lane.doing = Doing::Pulling;
                    let commit = self.plan.commit_with_pulls && offset > 0;
                    let pull = Pull {
                        group: self.plan.group(),
                        topic: &topic,
                        queue: queue.id,
                        offset,
                        messages_max: self.plan.messages_max,
                        commit: commit.then_some(offset),
                        suspend_ms: self.plan.suspend.as_millis() as i64,
                    };
                    (requests::pull(&pull), self.plan.suspend + PULL_GRACE, Tag::Pull(queue))
                }
            };
            self.rpc.call(now, env, &master, command, timeout, tag);
        }
    }

    fn commit(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.commit_at > now.mono {
            return;
        }
        self.commit_at = now.mono + COMMIT_INTERVAL;
        let Some(master) = self.master().filter(|_| self.known) else { return };
        if self.plan.reader == Reader::Auditor || self.plan.commit_with_pulls {
            return;
        }
        for (queue, lane) in &mut self.lanes {
            let Some(next) = lane.next.filter(|next| *next != lane.committed) else { continue };
            lane.committed = next;
            let command =
                requests::update_offset(self.plan.group(), &topic_name(queue.topic), queue.id, next);
            // Mostly oneway, as RocketMQ's client does.
            if env.rng.one_in(4) {
                self.rpc.call(now, env, &master, command, REQUEST_TIMEOUT, Tag::Commit);
            } else {
                self.rpc.tell(env, &master, command);
            }
        }
    }

    fn on_reply(&mut self, now: Now, tag: Tag, command: &Command, env: &mut ClientEnv<'_>) {
        match tag {
            Tag::Route(topic) => self.on_route(now, topic, command, env),
            Tag::Heartbeat => {
                if command.code == reply::SUCCESS {
                    self.known = true;
                }
            }
            Tag::List => self.on_list(command, env),
            Tag::Commit => {}
            Tag::Offset(queue) => self.on_offset(now, queue, command, env),
            Tag::Pull(queue) => self.on_pull(now, queue, command, env),
        }
    }

    fn on_route(&mut self, now: Now, topic: u8, command: &Command, env: &mut ClientEnv<'_>) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        state.asking = false;
        let route = match route::read(command) {
            RouteReply::Known(route) => Some(route),
            RouteReply::Unknown => None,
            RouteReply::Broken(what) => return tell(env, Report::Broken { what }),
        };
        let master = route.as_ref().map(|route| route.master.to_string());
        tell(env, Report::Route { topic, master });
        // A client keeps what it knows while the name server knows nothing.
        if let Some(route) = route {
            for id in 0..route.queues {
                self.lanes.entry(Queue { topic, id }).or_insert(Lane {
                    doing: Doing::Nothing(now.mono),
                    next: (self.plan.reader == Reader::Auditor).then_some(0),
                    committed: -1,
                });
            }
            state.route = Some(route);
        }
    }

    fn on_list(&mut self, command: &Command, env: &mut ClientEnv<'_>) {
        let listed = String::from_utf8_lossy(&command.body).contains(&self.options.client_id);
        if command.code == reply::SUCCESS && !listed {
            let what =
                "the consumer list lacks a consumer whose heartbeat was answered on the same connection";
            tell(env, Report::Broken { what: what.to_owned() });
        }
    }

    fn on_offset(&mut self, now: Now, queue: Queue, command: &Command, env: &mut ClientEnv<'_>) {
        let reader = self.plan.reader;
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.doing = Doing::Nothing(now.mono);
        let committed = match command.code {
            reply::SUCCESS => reply_number(command, "offset"),
            reply::QUERY_NOT_FOUND => None,
            _ => {
                lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                return;
            }
        };
        lane.next = Some(committed.unwrap_or(0));
        lane.committed = committed.unwrap_or(-1);
        tell(env, Report::ReadFrom { reader, queue, committed });
    }

    fn on_pull(&mut self, now: Now, queue: Queue, command: &Command, env: &mut ClientEnv<'_>) {
        let reader = self.plan.reader;
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        let from = lane.next.unwrap_or(0);
        lane.doing = Doing::Nothing(now.mono);
        let (next, max) = (reply_number(command, "nextBeginOffset"), reply_number(command, "maxOffset"));
        match command.code {
            reply::SUCCESS => {
                let (Some(next), Some(max)) = (next, max) else {
                    return tell(env, Report::Broken { what: "a pull's reply lacks its fields".to_owned() });
                };
                let Some(records) = record::split(&command.body) else {
                    return tell(env, Report::Broken { what: "a pull's reply holds no messages".to_owned() });
                };
                for record in &records {
                    let right =
                        record.queue_id == queue.id && record.topic == topic_name(queue.topic).as_bytes();
                    let message = record.message().filter(|_| right);
                    let (offset, physical) = (record.queue_offset, record.physical_offset);
                    tell(env, Report::Delivered { reader, queue, offset, physical, message });
                }
                lane.next = Some(next);
                tell(env, Report::Pulled { reader, queue, next, max });
            }
            reply::PULL_NOT_FOUND | reply::PULL_RETRY_IMMEDIATELY | reply::PULL_OFFSET_MOVED => {
                let (Some(next), Some(max)) = (next, max) else {
                    return tell(env, Report::Broken { what: "a pull's reply lacks its fields".to_owned() });
                };
                lane.next = Some(next);
                if next == from {
                    tell(env, Report::Pulled { reader, queue, next, max });
                    // Of a queue that nothing was ever sent to, at once: do not hurry.
                    if command.code != reply::PULL_NOT_FOUND || max == 0 {
                        lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                    }
                } else {
                    tell(env, Report::Moved { reader, queue, from, to: next, max });
                }
            }
            _ => {
                lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                self.heartbeat_at = self.heartbeat_at.min(now.mono + RETRY_DELAY);
            }
        }
    }

    fn on_no_reply(&mut self, now: Now, tag: &Tag, env: &mut ClientEnv<'_>) {
        let later = now.mono + RETRY_DELAY;
        match tag {
            Tag::Route(topic) => {
                self.options.names.ask_next();
                if let Some(state) = self.topics.get_mut(topic) {
                    state.asking = false;
                    state.ask_at = later;
                }
            }
            Tag::Heartbeat => {
                self.heartbeat_at = self.heartbeat_at.min(later);
            }
            Tag::List | Tag::Commit => {}
            Tag::Offset(queue) | Tag::Pull(queue) => {
                if let Some(lane) = self.lanes.get_mut(queue) {
                    lane.doing = Doing::Nothing(later);
                    if self.plan.reader == Reader::Group && env.rng.one_in(self.plan.rewind_one_in) {
                        lane.next = None;
                    }
                }
                self.known = false;
                self.heartbeat_at = self.heartbeat_at.min(later);
            }
        }
    }
}

fn tell(env: &mut ClientEnv<'_>, report: Report) {
    env.out.push(Effect::Emit(report));
}

impl Machine<MemoryDisk> for Consumer {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        if matches!(input, Input::Start) {
            tell(env, Report::Began { reader: self.plan.reader });
        }
        self.rpc.on_input(input, env);
        for event in self.rpc.take_events() {
            match event {
                Event::Reply(tag, command) => self.on_reply(now, tag, &command, env),
                Event::Lost(tag) | Event::NotSent(tag) => self.on_no_reply(now, &tag, env),
                Event::Request(command) => {
                    if command.code == code::NOTIFY_CONSUMER_IDS_CHANGED {
                        self.list_at = now.mono;
                    }
                }
            }
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        for event in self.rpc.take_events() {
            match event {
                Event::Lost(tag) | Event::NotSent(tag) => self.on_no_reply(now, &tag, env),
                Event::Reply(..) | Event::Request(_) => {}
            }
        }
        self.ask_routes(now, env);
        self.keep_session(now, env);
        self.work(now, env);
        self.commit(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let routes = self.topics.values().filter(|topic| !topic.asking).map(|topic| topic.ask_at).min();
        let routed = self.master().is_some();
        let working = routed && self.known;
        let lanes = self.lanes.values().filter_map(|lane| match lane.doing {
            Doing::Nothing(at) if working => Some(at),
            Doing::Nothing(_) | Doing::Asking | Doing::Pulling => None,
        });
        let all = [
            routes,
            self.rpc.deadline(),
            lanes.min(),
            routed.then_some(self.heartbeat_at),
            working.then_some(self.list_at),
            Some(self.commit_at),
        ];
        all.into_iter().flatten().min().map(|at| (at, "work"))
    }
}
