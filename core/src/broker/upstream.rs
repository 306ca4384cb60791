//! What a slave asks of its master over the port of the clients: topics, groups, offsets, delay levels.
//!
//! RocketMQ's slaves poll for them (`SlaveSynchronize`), so a Gantry slave can follow a Java master and the other way round.
//! Beside the polls of every [`super::BrokerConfig::slave_sync_interval`] there is one whenever the log brought a queue that was
//! not known: a new topic is served as soon as its messages are here.
//!
//! Offsets that clients committed here while the master was away go home with the next poll, and only forward. Until the
//! master has taken them, its older ones do not overwrite them; whatever was not committed here follows the master, back too.
//!
//! Invariants: one request at a time; a slave without an address of its master asks nothing.
//!
//! Absent on purpose: request modes and timers (codes 402, 60, 61), which this broker does not have.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, Effect, Env, Now, Peer, Protocol};
use crate::time::{Duration, Instant};
use crate::wire::body::BodyError;
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{Header, UpdateConsumerOffsetRequest};
use crate::wire::{Command, Ext, Packet};

/// Names of these connections.
const UPSTREAM_CONNS: u64 = 3 << 56;
/// An answer is waited for this long (RocketMQ's slaves: 3 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A lost connection is dialled again after this.
const REDIAL_AFTER: Duration = Duration::from_secs(3);
/// Between two polls for the sake of new queues.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Says to a Gantry master that a commit comes home from a slave and must not move an offset back. Others pass over it.
pub(super) const ONLY_FORWARD: &str = "gantryOnlyForward";

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ask {
    Topics,
    Groups,
    Offsets,
    Delays,
    /// An offset that was committed here.
    Home(Commit),
}

/// An offset on its way home.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Commit {
    /// `topic@group`
    pub(super) key: String,
    pub(super) queue_id: i32,
    pub(super) offset: i64,
}

#[derive(Debug)]
struct UnderWay {
    opaque: i32,
    ask: Ask,
    deadline: Instant,
}

#[derive(Debug)]
enum State {
    Down { dial_at: Instant },
    Dialling { conn: ConnId },
    Up { conn: ConnId, under_way: Option<UnderWay> },
}

/// The connection to the master's port for clients.
#[derive(Debug)]
pub(super) struct Upstream {
    state: State,
    address: Option<Arc<str>>,
    asks: VecDeque<Ask>,
    poll_at: Instant,
    polled_at: Instant,
    /// Queues that the store had at the last poll.
    queues: usize,
    next_opaque: i32,
    next_conn: u64,
}

impl Upstream {
    pub(super) fn new() -> Upstream {
        Upstream {
            state: State::Down { dial_at: Instant::ZERO },
            address: None,
            asks: VecDeque::new(),
            poll_at: Instant::ZERO,
            polled_at: Instant::ZERO,
            queues: 0,
            next_opaque: 0,
            next_conn: 0,
        }
    }

    fn owns(&self, conn: ConnId) -> bool {
        match &self.state {
            State::Down { .. } => false,
            State::Dialling { conn: own } | State::Up { conn: own, .. } => *own == conn,
        }
    }

    /// A dial succeeded; false when it is not this one.
    pub(super) fn on_opened(&mut self, conn: ConnId) -> bool {
        let is_own = self.owns(conn);
        if is_own {
            self.state = State::Up { conn, under_way: None };
            // The master may be another one, or have another table.
            self.poll_at = Instant::ZERO;
        }
        is_own
    }

    /// A connection ended or could not be made; false when it is not this one.
    pub(super) fn on_closed(&mut self, now: Instant, conn: ConnId) -> bool {
        let is_own = self.owns(conn);
        if is_own {
            self.state = State::Down { dial_at: now + REDIAL_AFTER };
            self.asks.clear();
        }
        is_own
    }

    /// What an answer is to, if it is waited for.
    fn take_under_way(&mut self, conn: ConnId, opaque: i32) -> Option<Ask> {
        let State::Up { conn: own, under_way } = &mut self.state else { return None };
        if *own != conn {
            return None;
        }
        under_way.take_if(|request| request.opaque == opaque).map(|request| request.ask)
    }

    /// Dials, polls, asks what is next.
    fn settle<D>(
        &mut self,
        now: Instant,
        master: Option<&str>,
        queues: usize,
        interval: Duration,
        env: &mut Env<'_, D, BrokerEvent>,
    ) {
        if self.address.as_deref() != master {
            self.address = master.map(Into::into);
            if let State::Dialling { conn } | State::Up { conn, .. } = self.state {
                env.out.push(Effect::Close { conn });
                self.asks.clear();
            }
            self.state = State::Down { dial_at: now };
        }
        let Some(address) = self.address.clone() else { return };
        match &mut self.state {
            State::Down { dial_at } if now >= *dial_at => {
                self.next_conn += 1;
                let conn = ConnId::dialled(UPSTREAM_CONNS | self.next_conn);
                env.out.push(Effect::Dial { conn, peer: Peer { address, protocol: Protocol::Remoting } });
                self.state = State::Dialling { conn };
            }
            State::Down { .. } | State::Dialling { .. } => {}
            State::Up { conn, under_way: Some(request) } => {
                if now >= request.deadline {
                    tracing::warn!(ask = ?request.ask, "the master does not answer");
                    env.out.push(Effect::Close { conn: *conn });
                    // Closed follows; until then nothing more is asked.
                    request.deadline = now + ANSWER_TIMEOUT;
                }
            }
            State::Up { .. } => {
                if now >= self.poll_at || (queues > self.queues && now >= self.polled_at + POLL_PAUSE) {
                    (self.poll_at, self.polled_at, self.queues) = (now + interval, now, queues);
                    if self.asks.is_empty() {
                        self.asks.extend([Ask::Topics, Ask::Groups, Ask::Offsets, Ask::Delays]);
                    }
                }
                self.ask_next(now, env);
            }
        }
    }

    fn ask_next<D>(&mut self, now: Instant, env: &mut Env<'_, D, BrokerEvent>) {
        let State::Up { conn, under_way } = &mut self.state else { return };
        let Some(ask) = self.asks.pop_front() else { return };
        self.next_opaque = self.next_opaque.wrapping_add(1);
        let request = Command { opaque: self.next_opaque, ..request_of(&ask) };
        env.send(*conn, Packet::Command(request));
        *under_way = Some(UnderWay { opaque: self.next_opaque, ask, deadline: now + ANSWER_TIMEOUT });
    }

    /// When something is due, were nothing to happen.
    pub(super) fn deadline(&self, queues: usize) -> Option<Instant> {
        self.address.as_ref()?;
        match &self.state {
            State::Down { dial_at } => Some(*dial_at),
            State::Dialling { .. } => None,
            State::Up { under_way: Some(request), .. } => Some(request.deadline),
            State::Up { .. } if !self.asks.is_empty() => Some(Instant::ZERO),
            State::Up { .. } if queues > self.queues => Some(self.poll_at.min(self.polled_at + POLL_PAUSE)),
            State::Up { .. } => Some(self.poll_at),
        }
    }
}

fn request_of(ask: &Ask) -> Command {
    let plain = |code: i32| Command::request(code, Ext::None);
    match ask {
        Ask::Topics => plain(request_code::GET_ALL_TOPIC_CONFIG),
        Ask::Groups => plain(request_code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG),
        Ask::Offsets => plain(request_code::GET_ALL_CONSUMER_OFFSET),
        Ask::Delays => plain(request_code::GET_ALL_DELAY_OFFSET),
        Ask::Home(commit) => {
            let (topic, group) = commit.key.rsplit_once('@').unwrap_or((&commit.key, ""));
            let header = UpdateConsumerOffsetRequest {
                consumer_group: Cow::Owned(group.into()),
                topic: Cow::Owned(topic.into()),
                queue_id: commit.queue_id,
                commit_offset: commit.offset,
            };
            let mut fields: Vec<(Cow<'static, str>, Cow<'static, str>)> = Vec::new();
            header.to_ext().for_each(|name, value| {
                fields.push((Cow::Owned(name.to_string()), Cow::Owned(value.into_owned())));
            });
            fields.push((Cow::Borrowed(ONLY_FORWARD), Cow::Borrowed("true")));
            Command::request(request_code::UPDATE_CONSUMER_OFFSET, Ext::Fields(fields))
        }
    }
}

impl Broker {
    /// An answer of the master; false when nobody asked for it.
    pub(super) fn on_master_answer(&mut self, conn: ConnId, answer: &Command) -> bool {
        let Some(ask) = self.upstream.take_under_way(conn, answer.opaque) else { return false };
        if answer.code != response_code::SUCCESS {
            let remark = answer.remark.as_deref().unwrap_or_default();
            tracing::warn!(?ask, code = answer.code, remark, "the master refuses");
            return true;
        }
        if let Err(error) = self.take_master_answer(&ask, answer) {
            tracing::warn!(?ask, %error, "the master's answer is not understood");
        }
        true
    }

    fn take_master_answer(&mut self, ask: &Ask, answer: &Command) -> Result<(), BodyError> {
        match ask {
            Ask::Topics => self.topics.follow(&answer.body),
            Ask::Groups => self.groups.follow(&answer.body),
            Ask::Offsets => {
                let newer = self.offsets.follow(&answer.body)?;
                self.upstream.asks.extend(newer.into_iter().map(Ask::Home));
                Ok(())
            }
            Ask::Delays => self.delays.follow(&answer.body),
            Ask::Home(commit) => {
                self.offsets.came_home(commit);
                Ok(())
            }
        }
    }

    /// Asks the master what is to be asked.
    pub(super) fn settle_upstream<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        if self.is_serving() && self.replication.is_slave() {
            let master = self.register.master.master_addr.as_deref().filter(|address| !address.is_empty());
            let (queues, interval) = (self.store.queue_count(), self.config.slave_sync_interval);
            self.upstream.settle(now.mono, master, queues, interval, env);
        }
    }
}
