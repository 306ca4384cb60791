//! What a slave asks of its master over the port of the clients: topics, groups, offsets, delay levels.
//!
//! RocketMQ's slaves poll for them (`SlaveSynchronize`), so a Gantry slave can follow a Java master and the other way round.
//! A Gantry slave says what it has of topics and groups, and a Gantry master answers without them when it has the same.
//! Beside the polls of every [`super::BrokerConfig::slave_sync_interval`] there is one whenever the log brought a queue that was
//! not known: a new topic is served as soon as its messages are here.
//!
//! Nothing is polled that the log carries (see [`super::carry`]). A slave whose log has not brought whole tables yet polls for
//! topics, groups and offsets meanwhile, and takes no offset beyond its own queues' ends.
//!
//! Offsets that clients committed here while the master was away go home with the next poll, and only forward. Until the
//! master has taken them, its older ones do not overwrite them; whatever was not committed here follows the master, back too.
//!
//! Invariants: one request at a time; a slave without an address of its master asks nothing.
//!
//! Absent on purpose: request modes and timers (codes 402, 60, 61), which this broker does not have.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::group::Groups;
use super::ha::cut::Cut;
use super::ha::epochs::is_rising;
use super::ha::{MasterLog, Verdict};
use super::offset::Offsets;
use super::register::MASTER_ID;
use super::store::{CUT_FILE, FlushMode};
use super::topic::Topics;
use super::{Broker, BrokerEvent};
use crate::io::{ConnId, Disk, DiskError, Effect, Env, Now, Peer, Protocol, SyncId};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, BodyError, EpochEntryCache};
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
/// In a Gantry master's answer with its epochs: whether it promises that acknowledged messages outlive power or disk.
pub(super) const KEEPS: &str = "gantryKeeps";
/// Beside it: where the master's log begins.
pub(super) const LOG_MIN: &str = "gantryLogMin";
/// Beside it: the master writes the changes of its tables into its log.
pub(super) const CARRIES: &str = "gantryCarries";
/// In the question of a Gantry master that has crashed: it looks for what it lost.
pub(super) const HOME: &str = "gantryHome";
/// In the question of a Gantry slave: where it is reached, on the port of the clients and on that of replication.
pub(super) const SLAVE: [&str; 2] = ["gantryAddr", "gantryHaAddr"];
/// In a Gantry slave's question: the stamp of what it has.
pub(super) const HAS: &str = "gantryHas";
/// In a Gantry master's answer: it has the same, and sends nothing.
pub(super) const SAME: &str = "gantrySame";

/// Whether a slave that asks has the same as this stamp; the answer then.
pub(super) fn same(request: &Command, stamp: &str) -> Option<Command> {
    let has = request.ext.get(HAS)?;
    let fields = Vec::from([(Cow::Borrowed(SAME), Cow::Borrowed("true"))]);
    (*has == *stamp).then(|| Command::response(request, response_code::SUCCESS, Ext::Fields(fields)))
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ask {
    Epochs,
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
    /// Where this slave is reached, as in [`SLAVE`].
    own: [String; 2],
}

impl Upstream {
    pub(super) fn new(own: [String; 2]) -> Upstream {
        Upstream {
            own,
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

    /// There is no master any more.
    pub(super) fn leave<D>(&mut self, now: Instant, env: &mut Env<'_, D, BrokerEvent>) {
        if let State::Dialling { conn } | State::Up { conn, .. } = self.state {
            env.out.push(Effect::Close { conn });
        }
        self.state = State::Down { dial_at: now };
        self.asks.clear();
        self.address = None;
    }

    /// What an answer is to, if it is waited for.
    fn take_under_way(&mut self, conn: ConnId, opaque: i32) -> Option<Ask> {
        let State::Up { conn: own, under_way } = &mut self.state else { return None };
        if *own != conn {
            return None;
        }
        under_way.take_if(|request| request.opaque == opaque).map(|request| request.ask)
    }

    /// Asks for the master's epochs, before anything else.
    fn want_epochs(&mut self) {
        let is_up = matches!(self.state, State::Up { .. });
        let under_way =
            matches!(&self.state, State::Up { under_way: Some(UnderWay { ask: Ask::Epochs, .. }), .. });
        if is_up && !under_way && self.asks.front() != Some(&Ask::Epochs) {
            self.asks.push_front(Ask::Epochs);
        }
    }

    /// What a poll asks for.
    fn poll(&mut self, stamps: &Stamps<'_>) {
        match stamps.tables {
            Tables::Polled => {
                self.asks.extend([Ask::Topics, Ask::Groups, Ask::Offsets, Ask::Delays]);
            }
            // Of the delay levels nothing: what was delivered may not have arrived here.
            Tables::Awaited => {
                self.asks.extend([Ask::Topics, Ask::Groups, Ask::Offsets]);
                self.asks.extend(stamps.offsets.away().into_iter().map(Ask::Home));
            }
            Tables::Carried => self.asks.extend(stamps.offsets.away().into_iter().map(Ask::Home)),
        }
    }

    /// Dials, polls, asks what is next.
    fn settle<D>(
        &mut self,
        now: Instant,
        master: Option<&str>,
        queues: usize,
        stamps: &Stamps<'_>,
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
                        self.poll(stamps);
                    }
                }
                self.ask_next(now, stamps, env);
            }
        }
    }

    fn ask_next<D>(&mut self, now: Instant, stamps: &Stamps<'_>, env: &mut Env<'_, D, BrokerEvent>) {
        let State::Up { conn, under_way } = &mut self.state else { return };
        let Some(ask) = self.asks.pop_front() else { return };
        self.next_opaque = self.next_opaque.wrapping_add(1);
        let request = Command { opaque: self.next_opaque, ..request_of(&ask, &self.own, stamps) };
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

/// How a slave comes by its master's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tables {
    /// They are asked for.
    Polled,
    /// The log carries them, and has not brought them whole yet; or it is not known yet whether it does.
    Awaited,
    Carried,
}

/// This slave's tables, and how it comes by its master's.
struct Stamps<'a> {
    topics: &'a Topics,
    groups: &'a Groups,
    offsets: &'a Offsets,
    tables: Tables,
}

fn request_of(ask: &Ask, own: &[String; 2], stamps: &Stamps<'_>) -> Command {
    let plain = |code: i32| Command::request(code, Ext::None);
    let having = |code: i32, stamp: String| {
        Command::request(code, Ext::Fields(Vec::from([(Cow::Borrowed(HAS), Cow::Owned(stamp))])))
    };
    match ask {
        Ask::Epochs => {
            let fields = SLAVE.iter().zip(own);
            let fields = fields.map(|(name, value)| (Cow::Borrowed(*name), Cow::Owned(value.clone())));
            Command::request(request_code::GET_BROKER_EPOCH_CACHE, Ext::Fields(fields.collect()))
        }
        Ask::Topics => having(request_code::GET_ALL_TOPIC_CONFIG, stamps.topics.stamp()),
        Ask::Groups => having(request_code::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, stamps.groups.stamp()),
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
    pub(super) fn on_master_answer<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        answer: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        let Some(ask) = self.upstream.take_under_way(conn, answer.opaque) else { return false };
        if ask == Ask::Epochs {
            self.on_master_epochs(now, answer, env);
            return true;
        }
        if answer.code != response_code::SUCCESS {
            let remark = answer.remark.as_deref().unwrap_or_default();
            tracing::warn!(?ask, code = answer.code, remark, "the master refuses");
            return true;
        }
        if answer.ext.get(SAME).is_some() {
            return true;
        }
        if let Err(error) = self.take_master_answer(&ask, answer) {
            tracing::warn!(?ask, %error, "the master's answer is not understood");
        }
        true
    }

    /// A broker that does not know the question, or answers it without Gantry's mark, is followed as RocketMQ's are. One
    /// that is starting is asked again.
    fn on_master_epochs<D: Disk>(&mut self, now: Now, answer: &Command, env: &mut Env<'_, D, BrokerEvent>) {
        let keeps = answer.ext.get(KEEPS).map(|value| value == "true");
        let master = match (answer.code, keeps) {
            (response_code::SUCCESS, Some(keeps)) => match body::decode::<EpochEntryCache>(&answer.body) {
                // Its log says nothing of what was acknowledged: it may be on its way to be the master, or have been it.
                Ok(cache) if cache.broker_id != MASTER_ID => {
                    Probe::NotTheMaster.reached();
                    tracing::info!(
                        broker_id = cache.broker_id,
                        "who is taken for the master is a slave: later again"
                    );
                    return self.replication.on_no_epochs(now, env);
                }
                Ok(cache) if is_rising(&cache.epoch_list) => {
                    let min = answer.ext.get(LOG_MIN).and_then(|min| min.parse().ok()).unwrap_or(0);
                    MasterLog::Gantry { epochs: cache.epoch_list, min, end: cache.max_offset, keeps }
                }
                Ok(_) | Err(_) => {
                    tracing::warn!("the master's epochs are not understood");
                    return self.replication.on_no_epochs(now, env);
                }
            },
            (
                response_code::SUCCESS
                | response_code::SYSTEM_ERROR
                | response_code::REQUEST_CODE_NOT_SUPPORTED,
                None,
            ) => MasterLog::Plain,
            (code, _) => {
                tracing::debug!(code, "the master does not tell its epochs yet");
                return self.replication.on_no_epochs(now, env);
            }
        };
        self.carry.set_follows(answer.ext.get(CARRIES).is_some());
        match self.replication.on_epochs(now, master, &mut self.epochs, &self.store, env) {
            Verdict::Settled => {}
            // Retention may be about to take that very place: the master is asked again in a while.
            Verdict::Cut(_) if self.store.is_removing() => {}
            Verdict::Cut(at) => match Cut::begin(now, at, self.store.log_end(), env.disk) {
                Ok(cut) => {
                    self.store.keep_from(Some(at));
                    self.cut = Some(cut);
                }
                Err(error) => tracing::warn!(%error, "no room to keep aside what the master does not have"),
            },
        }
    }

    /// Copies on what is to be cut off.
    pub(super) fn settle_cut<D: Disk>(&mut self, env: &mut Env<'_, D, BrokerEvent>) {
        if let Some(cut) = &mut self.cut
            && let Err(error) = cut.settle(&self.store, env)
        {
            tracing::warn!(%error, "what the master does not have could not be kept aside");
            self.store.keep_from(None);
            self.cut = None;
        }
    }

    /// A sync of the copy completed; false when it is somebody else's.
    pub(super) fn on_cut_synced<D: Disk>(
        &mut self,
        id: SyncId,
        result: Result<(), DiskError>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> bool {
        match self.cut.as_mut().and_then(|cut| cut.on_synced(id, result)) {
            None => return false,
            Some(Ok(None)) => {}
            Some(Ok(Some(reason))) => env.out.push(Effect::Fail { reason, restart: true }),
            Some(Err(error)) => {
                // Whether the mark is on the disk is not known.
                let reason = format!("{CUT_FILE}: not written: {error}; starting again from the disk");
                env.out.push(Effect::Fail { reason, restart: true });
            }
        }
        true
    }

    /// A message acknowledged here outlives more than this process: by a sync, or by a slave.
    pub(super) fn keeps_promises_of_slaves(&self) -> bool {
        self.replication.is_sync() || self.config.store.flush == FlushMode::Sync
    }

    fn tables(&self) -> Tables {
        match (self.carry.follows(), self.carry.is_based()) {
            (Some(false), _) => Tables::Polled,
            (Some(true) | None, false) => Tables::Awaited,
            (Some(true) | None, true) => Tables::Carried,
        }
    }

    fn take_master_answer(&mut self, ask: &Ask, answer: &Command) -> Result<(), BodyError> {
        match (ask, self.tables()) {
            // The log has brought them meanwhile.
            (Ask::Topics | Ask::Groups | Ask::Offsets | Ask::Delays, Tables::Carried)
            | (Ask::Delays, Tables::Awaited) => return Ok(()),
            (Ask::Offsets, Tables::Awaited) => {
                let store = &self.store;
                let end_of = |topic: &str, queue_id: i32| {
                    store.find_queue(topic, queue_id).map_or(0, |queue| store.max_offset(queue))
                };
                return self.offsets.follow_within(&answer.body, end_of);
            }
            (Ask::Offsets, Tables::Polled) => self.leave_carried(),
            (Ask::Epochs | Ask::Home(_), Tables::Polled | Tables::Awaited | Tables::Carried)
            | (Ask::Topics | Ask::Groups, Tables::Polled | Tables::Awaited)
            | (Ask::Delays, Tables::Polled) => {}
        }
        match ask {
            Ask::Epochs => Ok(()),
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
        if self.is_serving() && self.replication.is_slave() && !self.is_promoting() {
            if self.replication.wants_epochs(now) {
                self.upstream.want_epochs();
            }
            let master = self.replication.master_addr(&self.register.master);
            let (queues, interval) = (self.store.queue_count(), self.config.slave_sync_interval);
            let stamps = Stamps {
                topics: &self.topics,
                groups: &self.groups,
                offsets: &self.offsets,
                tables: self.tables(),
            };
            self.upstream.settle(now.mono, master, queues, &stamps, interval, env);
        }
    }
}
