//! What the smaller clients share: the master's address, a session with it, pulls taken apart.
//!
//! The address comes from the route of the topic that every broker has; a lost reply makes the desk look for it again.

use std::sync::Arc;

use gantry_core::io::{Env, Input, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;

use super::record::{self, Record};
use super::requests::{self, Model, reply, reply_number};
use super::route::{self, RouteReply};
use super::rpc::{ClientEnv, Event, Rpc};
use super::{ClientOptions, HEARTBEAT_INTERVAL, REQUEST_TIMEOUT, ROUTE_INTERVAL};
use crate::history::Report;

/// After an error.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A held pull is given up this long after the broker should have let it go.
pub const PULL_GRACE: Duration = Duration::from_secs(15);

/// A consumer group that the client is a member of.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its name.
    pub group: &'static str,
    /// Its topics.
    pub topics: Vec<String>,
}

#[derive(Debug)]
enum Call<T> {
    Route,
    Heartbeat,
    Own(T),
}

/// See the [module](self).
pub struct Desk<T> {
    /// What the client knows.
    pub options: ClientOptions,
    member: Option<Membership>,
    master: Option<Arc<str>>,
    /// How often another one took its place.
    moves: u32,
    /// The master has answered a heartbeat since the last loss.
    known: bool,
    asking: bool,
    route_at: Instant,
    heartbeat_at: Instant,
    rpc: Rpc<Call<T>>,
}

impl<T> Desk<T> {
    /// A new session.
    pub fn new(options: ClientOptions, member: Option<Membership>, now: Now) -> Desk<T> {
        Desk {
            options,
            member,
            master: None,
            moves: 0,
            known: false,
            asking: false,
            route_at: now.mono,
            heartbeat_at: now.mono,
            rpc: Rpc::default(),
        }
    }

    /// How often the master was found to be another one.
    pub fn moves(&self) -> u32 {
        self.moves
    }

    /// Whether the master is known, and knows the client.
    pub fn is_ready(&self) -> bool {
        self.master.is_some() && (self.known || self.member.is_none())
    }

    /// Joins a group, or leaves its own.
    pub fn set_member(&mut self, member: Option<Membership>, now: Now) {
        self.member = member;
        self.known = false;
        self.heartbeat_at = now.mono;
    }

    /// Asks the master something.
    pub fn call(&mut self, now: Now, env: &mut ClientEnv<'_>, command: Command, timeout: Duration, tag: T) {
        let master = self.master.clone().expect("only a ready desk is used");
        self.rpc.call(now, env, &master, command, timeout, Call::Own(tag));
    }

    /// Asks the name server something.
    pub fn ask_names(
        &mut self,
        now: Now,
        env: &mut ClientEnv<'_>,
        command: Command,
        timeout: Duration,
        tag: T,
    ) {
        self.rpc.call(now, env, self.options.names.asked(), command, timeout, Call::Own(tag));
    }

    /// Tells the master something.
    pub fn tell(&mut self, env: &mut ClientEnv<'_>, command: Command) {
        if let Some(master) = self.master.clone() {
            self.rpc.tell(env, &master, command);
        }
    }

    /// Takes an input; what became of the client's own requests.
    pub fn step(
        &mut self,
        now: Now,
        input: Input<()>,
        env: &mut Env<'_, MemoryDisk, Report>,
    ) -> Vec<Event<T>> {
        self.rpc.on_input(input, env);
        self.events(now)
    }

    /// Gives up what waited too long, asks for the route, sends heartbeats.
    pub fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) -> Vec<Event<T>> {
        self.rpc.expire(now, env);
        let events = self.events(now);
        if !self.asking && self.route_at <= now.mono {
            self.asking = true;
            self.route_at = now.mono + ROUTE_INTERVAL;
            let command = requests::route(requests::AUTO_CREATE_TOPIC);
            self.rpc.call(now, env, self.options.names.asked(), command, REQUEST_TIMEOUT, Call::Route);
        }
        if let (Some(member), Some(master)) = (&self.member, &self.master)
            && self.heartbeat_at <= now.mono
        {
            self.heartbeat_at = now.mono + HEARTBEAT_INTERVAL;
            let id = &self.options.client_id;
            let command = requests::consumer_heartbeat(id, member.group, Model::Clustering, &member.topics);
            self.rpc.call(now, env, master, command, REQUEST_TIMEOUT, Call::Heartbeat);
        }
        events
    }

    fn events(&mut self, now: Now) -> Vec<Event<T>> {
        let mut own = Vec::new();
        for event in self.rpc.take_events() {
            match event {
                Event::Reply(Call::Own(tag), command) => own.push(Event::Reply(tag, command)),
                Event::Lost(Call::Own(tag)) => {
                    self.on_loss(now);
                    own.push(Event::Lost(tag));
                }
                Event::NotSent(Call::Own(tag)) => {
                    self.on_loss(now);
                    own.push(Event::NotSent(tag));
                }
                Event::Request(command) => own.push(Event::Request(command)),
                Event::Reply(Call::Route, command) => self.on_route(now, &command),
                Event::Reply(Call::Heartbeat, command) => self.known |= command.code == reply::SUCCESS,
                Event::Lost(Call::Route) | Event::NotSent(Call::Route) => {
                    self.asking = false;
                    self.options.names.ask_next();
                    self.route_at = now.mono + RETRY_DELAY;
                }
                Event::Lost(Call::Heartbeat) | Event::NotSent(Call::Heartbeat) => self.on_loss(now),
            }
        }
        own
    }

    fn on_loss(&mut self, now: Now) {
        self.known = false;
        let soon = now.mono + RETRY_DELAY;
        self.heartbeat_at = self.heartbeat_at.min(soon);
        self.route_at = self.route_at.min(soon);
    }

    fn on_route(&mut self, now: Now, command: &Command) {
        self.asking = false;
        match route::read(command) {
            RouteReply::Known(route) => {
                self.moves += u32::from(self.master.as_ref().is_some_and(|master| *master != route.master));
                self.master = Some(route.master);
            }
            // What is known is kept while the name server knows nothing.
            RouteReply::Unknown | RouteReply::Broken(_) => {
                self.route_at = self.route_at.min(now.mono + RETRY_DELAY * 3);
            }
        }
    }

    /// When the desk itself has to do something.
    pub fn deadline(&self) -> Option<Instant> {
        let route = (!self.asking).then_some(self.route_at);
        let heartbeat = (self.member.is_some() && self.master.is_some()).then_some(self.heartbeat_at);
        [route, heartbeat, self.rpc.deadline()].into_iter().flatten().min()
    }

    /// When a client of this desk has to do something: the desk's own work, and `own` once it is ready.
    pub fn work_deadline(&self, own: impl Iterator<Item = Instant>) -> Option<(Instant, &'static str)> {
        let own = if self.is_ready() { own.min() } else { None };
        self.deadline().into_iter().chain(own).min().map(|at| (at, "work"))
    }
}

/// The answer to a pull.
#[derive(Debug)]
pub enum Pulled<'a> {
    /// Messages.
    Messages {
        /// In order.
        records: Vec<Record<'a>>,
        /// Where to go on.
        next: i64,
    },
    /// None.
    Nothing {
        /// Where to go on.
        next: i64,
        /// Whether the queue may not exist yet: not to be hurried.
        wait: bool,
    },
    /// Not served.
    Refused,
}

/// Reads the answer to [`requests::pull`].
pub fn read_pull(command: &Command) -> Pulled<'_> {
    let (next, max) = (reply_number(command, "nextBeginOffset"), reply_number(command, "maxOffset"));
    match (command.code, next) {
        (reply::SUCCESS, Some(next)) => match record::split(&command.body) {
            Some(records) => Pulled::Messages { records, next },
            None => Pulled::Refused,
        },
        (reply::PULL_NOT_FOUND | reply::PULL_RETRY_IMMEDIATELY | reply::PULL_OFFSET_MOVED, Some(next)) => {
            let wait = command.code != reply::PULL_NOT_FOUND || max == Some(0);
            Pulled::Nothing { next, wait }
        }
        _ => Pulled::Refused,
    }
}

/// One reader of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// May go on at this time.
    Nothing(Instant),
    /// Waits for an answer.
    Waiting,
}

impl Doing {
    /// When the reader may go on, if it waits for nothing.
    pub fn may_go_on(self) -> Option<Instant> {
        match self {
            Doing::Nothing(at) => Some(at),
            Doing::Waiting => None,
        }
    }
}
