//! A master that crashed brings home what only its slaves still have, before it writes.
//!
//! Under asynchronous flush a loss of power takes the end of the log; under synchronous replication what was acknowledged of it is
//! on a slave. Were the master to write first, there would be two histories, and the acknowledged one would be on the slave alone.
//! So after a start that no clean stop came before it asks each slave that it knows ([`super::known`]) for its epochs, takes from
//! it what lies behind its own end in the same epoch, and only then begins an epoch of its own.
//!
//! One slave at a time, round and round until each has been heard or the time is up ([`super::HaConfig::tail_wait`]). Whoever does
//! not answer by then may hold what is lost: it keeps it and follows nobody (see [`super::replica`]).
//!
//! Who is asked ends the stream of the life before first: what is still on its way to a slave that stood still would come behind its
//! answer, and part the two logs.
//!
//! Invariant: what is taken continues this log, byte by byte, in an epoch that both have.
//!
//! Absent on purpose: deciding between two masters. A slave that has become the master meanwhile ends the start.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::epochs::{Epochs, Tail, is_rising};
use super::known::KnownSlave;
use crate::broker::store::Store;
use crate::broker::upstream::{HOME, LOG_MIN};
use crate::io::{ConnId, Disk, Effect, Env, Now, Peer, Protocol};
use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, EpochEntryCache};
use crate::wire::code::{request_code, response_code};
use crate::wire::{Command, Ext, Packet};

/// Names of these connections.
const HOME_CONNS: u64 = 4 << 56;
/// A slave that says nothing for so long is left for the next.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Before the next slave is tried after one that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum State {
    Waiting {
        at: Instant,
    },
    Asking {
        conn: ConnId,
        until: Instant,
    },
    /// Up to this end.
    Taking {
        conn: ConnId,
        end: u64,
        until: Instant,
    },
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Home {
    /// Not heard yet; the first is next.
    slaves: VecDeque<KnownSlave>,
    until: Instant,
    state: State,
    conns: u64,
}

/// What came of the wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It goes on.
    Waits,
    /// This log may be written; these were not heard.
    Done { unheard: Vec<KnownSlave> },
}

impl Home {
    /// Begins to look for what `slaves` have.
    pub(crate) fn begin(now: Now, slaves: &[KnownSlave], wait: Duration, log_end: u64) -> Home {
        let known = slaves.len();
        tracing::warn!(
            known,
            log_end,
            "no clean stop: what this log may have lost is looked for at its slaves before it is written"
        );
        Home {
            slaves: slaves.iter().cloned().collect(),
            until: now.mono + wait,
            state: State::Waiting { at: now.mono },
            conns: 0,
        }
    }

    fn owns(&self, conn: ConnId) -> bool {
        match &self.state {
            State::Waiting { .. } => false,
            State::Asking { conn: own, .. } | State::Taking { conn: own, .. } => *own == conn,
        }
    }

    /// A dial succeeded; false when it is not this one.
    pub(crate) fn on_opened<D: Disk, E>(
        &mut self,
        conn: ConnId,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) -> bool {
        if !self.owns(conn) {
            return false;
        }
        match &self.state {
            State::Waiting { .. } => {}
            State::Asking { .. } => {
                let fields = Vec::from([(Cow::Borrowed(HOME), Cow::Borrowed("true"))]);
                let ask = Command::request(request_code::GET_BROKER_EPOCH_CACHE, Ext::Fields(fields));
                env.send(conn, Packet::Command(ask));
            }
            State::Taking { .. } => env.send(conn, Packet::HaReport { offset: store.log_end() }),
        }
        true
    }

    /// A connection ended or could not be made; false when it is not this one.
    pub(crate) fn on_closed(&mut self, now: Now, conn: ConnId) -> bool {
        let is_own = self.owns(conn);
        if is_own {
            self.put_off(now);
        }
        is_own
    }

    /// The slave's turn comes again later.
    fn put_off(&mut self, now: Now) {
        self.slaves.rotate_left(1.min(self.slaves.len()));
        self.state = State::Waiting { at: now.mono + PAUSE };
    }

    fn dial<D, E>(&mut self, address: &str, protocol: Protocol, env: &mut Env<'_, D, E>) -> ConnId {
        self.conns += 1;
        let conn = ConnId::dialled(HOME_CONNS | self.conns);
        let peer = Peer { address: Arc::from(address), protocol };
        env.out.push(Effect::Dial { conn, peer });
        conn
    }

    /// The slave at the head has been heard.
    fn heard(&mut self, now: Now) {
        self.slaves.pop_front();
        self.state = State::Waiting { at: now.mono };
    }

    /// A slave's epochs; none when the answer is somebody else's.
    ///
    /// # Errors
    /// Why this broker must not start.
    pub(crate) fn on_answer<D: Disk, E>(
        &mut self,
        now: Now,
        (conn, answer): (ConnId, &Command),
        epochs: &Epochs,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) -> Option<Result<(), String>> {
        let State::Asking { conn: own, .. } = self.state else { return None };
        if own != conn {
            return None;
        }
        env.out.push(Effect::Close { conn });
        let cache = match body::decode::<EpochEntryCache>(&answer.body) {
            Ok(cache) if answer.code == response_code::SUCCESS && is_rising(&cache.epoch_list) => cache,
            Ok(_) | Err(_) => {
                // It is starting too, or is no Gantry any more.
                self.put_off(now);
                return Some(Ok(()));
            }
        };
        let Some(slave) = self.slaves.front().cloned() else { return Some(Ok(())) };
        if cache.broker_id == 0 {
            let who = slave.address;
            return Some(Err(format!(
                "{who}, which was a slave of this broker, is the master now: start this one with brokerRole=SLAVE"
            )));
        }
        // A slave of RocketMQ does not say where its log begins.
        let min = answer.ext.get(LOG_MIN).and_then(|min| min.parse().ok()).unwrap_or(0);
        match epochs.tail(store.log_end(), &cache.epoch_list, cache.max_offset) {
            Tail::UpTo(_) if min > store.log_end() => {
                tracing::warn!(
                    slave = slave.address,
                    begins = min,
                    ends = cache.max_offset,
                    log_end = store.log_end(),
                    "this slave holds what this log has lost, but its retention has removed what lies between: it cannot be \
                     taken home. To keep it, make that slave the master, and start this broker anew as its slave"
                );
                self.heard(now);
            }
            Tail::None => {
                tracing::info!(slave = slave.address, "this slave has nothing that is not here");
                self.heard(now);
            }
            Tail::UpTo(end) => {
                tracing::warn!(
                    slave = slave.address,
                    from = store.log_end(),
                    end,
                    "taking home what a slave has kept"
                );
                let conn = self.dial(&slave.ha_address, Protocol::HaSlave, env);
                self.state = State::Taking { conn, end, until: now.mono + SILENCE_MAX };
            }
            Tail::Parted => {
                tracing::warn!(
                    slave = slave.address,
                    "this slave holds what this log does not, and not as its continuation: it is left to the operator"
                );
                self.heard(now);
            }
        }
        Some(Ok(()))
    }

    /// A piece of the slave's log; false when it is somebody else's.
    pub(crate) fn on_block<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        (offset, body): (u64, &Bytes),
        store: &mut Store,
        env: &mut Env<'_, D, E>,
    ) -> bool {
        let State::Taking { conn: own, end, until } = &mut self.state else { return false };
        if *own != conn {
            return false;
        }
        *until = now.mono + SILENCE_MAX;
        let wanted = end.saturating_sub(offset).min(body.len() as u64) as usize;
        if let Err(error) = store.append_raw(offset, &body[..wanted], env.disk) {
            tracing::warn!(
                ?error,
                offset,
                log_end = store.log_end(),
                "what a slave kept could not be taken now"
            );
            env.out.push(Effect::Close { conn });
            self.put_off(now);
        }
        true
    }

    /// Goes on, and says whether it is over.
    pub(crate) fn settle<D: Disk, E>(&mut self, now: Now, store: &Store, env: &mut Env<'_, D, E>) -> Arrival {
        if let State::Taking { conn, end, .. } = self.state
            && store.log_end() >= end
        {
            Probe::TailTaken.reached();
            tracing::info!(end, "what a slave kept is here again");
            env.out.push(Effect::Close { conn });
            // It may have more, in a later epoch.
            self.state = State::Waiting { at: now.mono };
        }
        if self.slaves.is_empty() || now.mono >= self.until {
            if let State::Asking { conn, .. } | State::Taking { conn, .. } = self.state {
                env.out.push(Effect::Close { conn });
            }
            let unheard: Vec<KnownSlave> = core::mem::take(&mut self.slaves).into();
            for slave in &unheard {
                Probe::TailNotHeard.reached();
                tracing::warn!(
                    slave = slave.address,
                    "not heard in time: what it may have of this log beyond its end is not here"
                );
            }
            return Arrival::Done { unheard };
        }
        match self.state {
            State::Waiting { at } if now.mono >= at => {
                let address = self.slaves.front().map(|slave| slave.address.clone()).unwrap_or_default();
                let conn = self.dial(&address, Protocol::Remoting, env);
                self.state = State::Asking { conn, until: now.mono + SILENCE_MAX };
            }
            State::Asking { conn, until } | State::Taking { conn, until, .. } if now.mono >= until => {
                env.out.push(Effect::Close { conn });
                self.put_off(now);
            }
            State::Waiting { .. } | State::Asking { .. } | State::Taking { .. } => {}
        }
        Arrival::Waits
    }

    /// When to be woken.
    pub(crate) fn deadline(&self) -> Instant {
        let own = match &self.state {
            State::Waiting { at } => *at,
            State::Asking { until, .. } | State::Taking { until, .. } => *until,
        };
        own.min(self.until)
    }
}
