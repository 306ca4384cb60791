//! The slave's side of replication: dials the master, appends what it sends, reports how far it has got.
//!
//! A report is an acknowledgement, so it names only what is as durable here as the flush mode makes it. A block that does not
//! continue this log, or that does not hold records where records must be, is refused and the connection closed: a replica never
//! changes what it has.
//!
//! That a master can send from where this log ends does not mean that it has the same log: after power loss under asynchronous
//! flush it may have come back shorter and have grown again. So a slave asks for the last piece of what it has once more
//! ([`OVERLAP_BYTES_MAX`]), compares it byte by byte, and goes on only behind it. A record holds its place, its queue offset and its
//! time, so the bytes are the same only in the same history. Masters of every version take such a beginning.
//!
//! Above the ratio at which a master refuses messages nothing is taken: the room that is left lets queues be written and the
//! checkpoint move on, without which retention removes nothing. The slave dials again when there is room.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::epochs::{Epochs, Shared};
use super::flow::Flow;
use super::{HaConfig, ID_SPACE};
use crate::broker::store::{AppendError, FlushMode, Store};
use crate::io::{CloseReason, ConnId, Disk, DiskError, Effect, Env, FetchId, Now, Peer, Protocol};
use crate::probe::Probe;
use crate::time::{Duration, Instant, WallMs};
use crate::wire::Packet;
use crate::wire::body::{EpochEntry, HAClientRuntimeInfo, HARuntimeInfo};

/// So much of this log's end, within its last segment, is compared with the master's. A last record longer than this is compared
/// in part.
const OVERLAP_BYTES_MAX: u64 = 64 * 1024;
/// Tells this side's fetches from the master side's.
const FETCHES: u64 = 1 << 48;

/// The end of this log, to be found again in the master's.
#[derive(Debug)]
struct Overlap {
    /// Where the rest of it begins.
    at: u64,
    /// What has not been compared yet.
    rest: Bytes,
}

impl Overlap {
    /// Compares the beginning of a block with it: how many bytes of the block were known, unless they differ.
    fn compare(&mut self, offset: u64, block: &Bytes) -> Option<usize> {
        let shared = self.rest.len().min(block.len());
        if offset != self.at || self.rest[..shared] != block[..shared] {
            return None;
        }
        self.rest = self.rest.slice(shared..);
        self.at += shared as u64;
        Some(shared)
    }
}

impl Overlap {
    /// Leaves out what lies before `min` in the log.
    fn begin_at(&mut self, min: u64) {
        let before = (min.saturating_sub(self.at)).min(self.rest.len() as u64);
        self.at += before;
        self.rest = self.rest.slice(before as usize..);
    }
}

/// How soon a dial is tried again that had to wait for this broker's own disk.
const DIAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum State {
    /// Dials at this time.
    Waiting {
        dial_at: Instant,
    },
    /// The end of this log is being brought into memory, to be compared.
    Fetching(FetchId),
    Dialling {
        conn: ConnId,
        overlap: Overlap,
    },
    /// The master is asked for its epochs.
    Asking {
        conn: ConnId,
        overlap: Overlap,
        until: Instant,
    },
    /// Its list goes to the disk, before the first byte.
    Adopting {
        conn: ConnId,
        overlap: Overlap,
    },
    Connected {
        conn: ConnId,
        overlap: Overlap,
        /// The master's list, to be taken once the end of this log is found in its log; then it is dialled again.
        trial: Option<Vec<EpochEntry>>,
        heard_at: Instant,
        reported: u64,
        reported_at: Instant,
    },
}

/// This log lacks the beginning of the master's, so it could not take its place: nothing is acknowledged, and the master asked
/// now and then whether its retention has come as far.
#[derive(Debug)]
struct Lack {
    ask_at: Instant,
}

/// How often a master whose beginning this log lacks is asked where it begins.
const LACK_ASK_INTERVAL: Duration = Duration::from_secs(10);

/// How long the master's epochs are waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A master that does not tell them yet is asked again after this: it starts, or writes down first who asks.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a master says of its log.
#[derive(Clone, Debug)]
pub(crate) enum MasterLog {
    /// It knows nothing of epochs: it is no Gantry, or an old one.
    Plain,
    Gantry {
        epochs: Vec<EpochEntry>,
        min: u64,
        end: u64,
        /// Whether what was acknowledged there may be here alone.
        keeps: bool,
    },
}

/// What becomes of this log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is followed, or not.
    Settled,
    /// It is to be cut there.
    Cut(u64),
}

/// The stream from the master.
#[derive(Debug)]
pub struct Replica {
    config: HaConfig,
    flush: FlushMode,
    master: Option<Arc<str>>,
    state: State,
    lack: Option<Lack>,
    fetches: u64,
    flow: Flow,
    read_at: WallMs,
    written_at: WallMs,
}

/// A piece of the master's log as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// Where it begins.
    pub(crate) offset: u64,
    /// Its bytes; none in a sign of life.
    pub(crate) body: &'a Bytes,
}

impl Replica {
    /// A slave of the master whose replication port is `master`, or of none that is known yet.
    pub fn new(config: HaConfig, flush: FlushMode, master: Option<Arc<str>>) -> Replica {
        Replica {
            config,
            flush,
            master,
            state: State::Waiting { dial_at: Instant::ZERO },
            lack: None,
            fetches: 0,
            flow: Flow::default(),
            read_at: WallMs(0),
            written_at: WallMs(0),
        }
    }

    /// Learns where the master's replication port is. Another master than the one that is followed takes its place; that
    /// none is known now does not end a stream that works.
    pub(crate) fn set_master<D: Disk, E>(&mut self, now: Now, master: Option<&str>, env: &mut Env<'_, D, E>) {
        if self.master.as_deref() == master {
            return;
        }
        let is_other = self.master.is_some() && master.is_some();
        self.master = master.map(Into::into);
        if is_other {
            tracing::info!(master, "another broker is the master now");
            self.leave(now, env);
        }
    }

    /// Ends the stream, to begin anew at once if there is a master.
    pub(crate) fn leave<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        self.give_up(now, env);
        self.state = State::Waiting { dial_at: now.mono };
    }

    /// What `GET_BROKER_HA_STATUS` tells.
    pub(crate) fn status(&self, now: Now, store: &Store) -> HARuntimeInfo {
        HARuntimeInfo {
            ha_client_runtime_info: HAClientRuntimeInfo {
                last_read_timestamp: if self.is_connected() { self.read_at.0 } else { 0 },
                last_write_timestamp: self.written_at.0,
                master_addr: self.master.as_ref().map(|master| master.to_string()),
                max_offset: store.log_end() as i64,
                transferred_byte_in_second: self.flow.last_second(now.mono) as i64,
                ..HAClientRuntimeInfo::default()
            },
            ..HARuntimeInfo::default()
        }
    }

    /// Whether the connection is this stream's.
    pub fn owns(&self, conn: ConnId) -> bool {
        match &self.state {
            State::Waiting { .. } | State::Fetching(_) => false,
            State::Dialling { conn: own, .. }
            | State::Asking { conn: own, .. }
            | State::Adopting { conn: own, .. }
            | State::Connected { conn: own, .. } => *own == conn,
        }
    }

    /// Whether the master is being heard.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// The dial succeeded: the master is to be asked for its epochs. Whoever answers from now on is who holds this
    /// connection, or the connection is dead.
    pub fn on_opened(&mut self, now: Now, conn: ConnId) {
        let before = core::mem::replace(&mut self.state, State::Waiting { dial_at: now.mono });
        let State::Dialling { conn: own, overlap } = before else {
            self.state = before;
            return;
        };
        debug_assert!(own == conn, "the caller asks who owns a connection");
        self.state = State::Asking { conn, overlap, until: now.mono + ASK_TIMEOUT };
    }

    /// Whether the master is to be asked for its epochs.
    pub(crate) fn wants_epochs(&mut self, now: Now) -> bool {
        match (&self.state, &mut self.lack) {
            (State::Asking { .. }, _) => true,
            (State::Connected { .. }, Some(lack)) if now.mono >= lack.ask_at => {
                lack.ask_at = now.mono + LACK_ASK_INTERVAL;
                true
            }
            (
                State::Waiting { .. }
                | State::Fetching(_)
                | State::Dialling { .. }
                | State::Adopting { .. }
                | State::Connected { .. },
                _,
            ) => false,
        }
    }

    /// Compares where both logs begin.
    fn note_beginning(&mut self, now: Now, min: u64, store: &Store) {
        let is_whole = store.log_min() <= min || store.log_end() == store.log_min();
        if is_whole {
            if self.lack.take().is_some() {
                tracing::info!("this log holds all of the master's: it is acknowledged from now on");
            }
        } else if self.lack.is_none() {
            Probe::SlaveLacks.reached();
            tracing::warn!(
                begins = store.log_min(),
                master = min,
                "this log lacks the beginning of the master's: nothing of it is acknowledged, until the master's retention \
                 comes as far. To have all of it, start this slave anew with an empty store"
            );
            self.lack = Some(Lack { ask_at: now.mono + LACK_ASK_INTERVAL });
        }
    }

    /// The master's epochs. Its log and this one are the same up to the end of the newest epoch that both have: a slave
    /// that ends there follows. One that has more holds a tail which that master never wrote or has lost. A tail that this
    /// broker wrote itself as master was acknowledged by it alone, and a tail of a master that promises nothing beyond its
    /// process is worth no more than that: both are kept aside, and the slave goes back. Any other tail may hold the only
    /// copy of what was acknowledged as safe: this log stays as it is, and follows nobody, until the operator decides.
    pub(crate) fn on_epochs<D: Disk, E>(
        &mut self,
        now: Now,
        master: MasterLog,
        epochs: &mut Epochs,
        store: &Store,
        env: &mut Env<'_, D, E>,
    ) -> Verdict {
        if let MasterLog::Gantry { min, .. } = &master {
            self.note_beginning(now, *min, store);
        } else {
            self.lack = None;
        }
        let State::Asking { conn, .. } = self.state else { return Verdict::Settled };
        let end = store.log_end();
        let is_empty = end == store.log_min();
        let master_min = if let MasterLog::Gantry { min, .. } = &master { *min } else { 0 };
        let (shared, entries, keeps) = match master {
            MasterLog::Plain => {
                epochs.adopt(Vec::new());
                self.adopting(now);
                return Verdict::Settled;
            }
            MasterLog::Gantry { epochs: entries, .. } if is_empty => {
                epochs.adopt(entries);
                self.adopting(now);
                return Verdict::Settled;
            }
            MasterLog::Gantry { epochs: entries, end: master_end, keeps, .. } => {
                (epochs.shared(end, &entries, master_end), entries, keeps)
            }
        };
        match shared {
            Shared::UpTo(shared) if shared == end => {
                // The master may begin behind the piece that was to be compared: this log ends with a segment, and the
                // next one is the oldest there. Then the epochs alone say that the logs are the same.
                if let State::Asking { overlap, .. } = &mut self.state {
                    overlap.begin_at(master_min);
                }
                epochs.adopt(entries);
                self.adopting(now);
            }
            Shared::UpTo(shared) if shared >= store.log_min() && (epochs.is_own_from(shared) || !keeps) => {
                Probe::LogsPart.reached();
                self.give_up(now, env);
                return Verdict::Cut(shared);
            }
            Shared::UpTo(shared) => {
                Probe::TailKept.reached();
                tracing::warn!(
                    shared,
                    end,
                    "this log goes on where the master's does not, with what may have been acknowledged: it is kept and \
                     follows nobody. Either make this broker the master, or move its store elsewhere and start it anew"
                );
                self.give_up(now, env);
            }
            Shared::Unknown => {
                Probe::HistoryUnknown.reached();
                self.connect(now, conn, Some(entries), env);
            }
        }
        Verdict::Settled
    }

    /// There is no answer, or none that is understood: later.
    pub(crate) fn on_no_epochs<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        if matches!(self.state, State::Asking { .. }) {
            self.give_up(now, env);
            self.state = State::Waiting { dial_at: now.mono + ASK_AGAIN_AFTER };
        }
    }

    fn adopting(&mut self, now: Now) {
        self.state = match core::mem::replace(&mut self.state, State::Waiting { dial_at: now.mono }) {
            State::Asking { conn, overlap, .. } => State::Adopting { conn, overlap },
            other @ (State::Waiting { .. }
            | State::Fetching(_)
            | State::Dialling { .. }
            | State::Adopting { .. }
            | State::Connected { .. }) => other,
        };
    }

    /// Says where the master is to begin.
    fn connect<D, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        trial: Option<Vec<EpochEntry>>,
        env: &mut Env<'_, D, E>,
    ) {
        let before = core::mem::replace(&mut self.state, State::Waiting { dial_at: now.mono });
        let (State::Asking { overlap, .. } | State::Adopting { overlap, .. }) = before else {
            self.state = before;
            return;
        };
        let (offset, at) = (overlap.at, now.mono);
        self.state =
            State::Connected { conn, overlap, trial, heard_at: at, reported: offset, reported_at: at };
        env.send(conn, Packet::HaReport { offset });
        (self.read_at, self.written_at) = (now.wall, now.wall);
        tracing::info!(offset, "following the master");
    }

    /// A piece of the master's log.
    pub(crate) fn on_block<D: Disk, E>(
        &mut self,
        now: Now,
        conn: ConnId,
        Block { offset, body }: Block<'_>,
        epochs: &mut Epochs,
        store: &mut Store,
        env: &mut Env<'_, D, E>,
    ) {
        let State::Connected { conn: own, overlap, trial, heard_at, .. } = &mut self.state else { return };
        if *own != conn {
            return;
        }
        *heard_at = now.mono;
        self.read_at = now.wall;
        self.flow.add(now.mono, body.len() as u64);
        if body.is_empty() {
            return;
        }
        let mut known = 0;
        if !overlap.rest.is_empty() {
            let Some(shared) = overlap.compare(offset, body) else {
                Probe::HistoryDiffers.reached();
                tracing::warn!(
                    offset,
                    end = store.log_end(),
                    "the end of this log is not in the master's: it holds another history, and is not followed"
                );
                self.give_up(now, env);
                return;
            };
            known = shared;
        }
        if overlap.rest.is_empty()
            && let Some(entries) = trial.take()
        {
            // It is the same log: from now on its epochs say so.
            epochs.adopt(entries);
            self.give_up(now, env);
            self.state = State::Waiting { dial_at: now.mono };
            return;
        }
        let (offset, body) = (offset + known as u64, &body[known..]);
        if body.is_empty() {
            return;
        }
        if store.is_short_of_room() {
            Probe::SlaveShortOfRoom.reached();
            tracing::warn!(
                offset,
                "the disk is nearly full: nothing is taken from the master until there is room"
            );
            self.give_up(now, env);
            return;
        }
        match store.append_raw(offset, body, env.disk) {
            Ok(()) => {}
            Err(AppendError::NotReady) => {
                Probe::MasterUnready.reached();
                self.give_up(now, env);
                // It is this broker that was not fast enough: it goes on as soon as it can.
                self.state = State::Waiting { dial_at: now.mono };
            }
            Err(
                error @ (AppendError::Disk(_)
                | AppendError::DiskWarning
                | AppendError::TooLarge
                | AppendError::NotARecord),
            ) => {
                tracing::warn!(
                    ?error,
                    offset,
                    end = store.log_end(),
                    "a block of the master does not continue this log"
                );
                self.give_up(now, env);
            }
        }
    }

    /// The connection ended, or the dial failed.
    pub fn on_closed(&mut self, now: Now, conn: ConnId, why: CloseReason) {
        if self.owns(conn) {
            Probe::MasterLost.reached();
            tracing::info!(?why, "the master is not heard");
            self.state = State::Waiting { dial_at: now.mono + self.config.reconnect_interval };
        }
    }

    fn give_up<D: Disk, E>(&mut self, now: Now, env: &mut Env<'_, D, E>) {
        match self.state {
            State::Connected { conn, .. }
            | State::Dialling { conn, .. }
            | State::Asking { conn, .. }
            | State::Adopting { conn, .. } => {
                env.out.push(Effect::Close { conn });
            }
            State::Waiting { .. } | State::Fetching(_) => {}
        }
        self.state = State::Waiting { dial_at: now.mono + self.config.reconnect_interval };
    }

    fn durable(&self, store: &Store) -> u64 {
        match self.flush {
            FlushMode::Async => store.written(),
            FlushMode::Sync => store.synced(),
        }
    }

    /// A fetch completed; false when it is somebody else's. What it was for goes on in `settle`.
    pub fn on_fetched(&mut self, now: Now, id: FetchId, result: Result<(), DiskError>) -> bool {
        if !matches!(self.state, State::Fetching(own) if own == id) {
            return false;
        }
        let mut dial_at = now.mono;
        if let Err(error) = result {
            tracing::warn!(%error, "the end of the commit log cannot be read to be compared with the master's");
            dial_at = now.mono + self.config.reconnect_interval;
        }
        self.state = State::Waiting { dial_at };
        true
    }

    /// Dials, reports, and gives up a master that fell silent. Call after the store's `settle`; `next_conn` names a new
    /// connection.
    pub(crate) fn settle<D: Disk, E>(
        &mut self,
        now: Now,
        epochs: &Epochs,
        store: &Store,
        next_conn: impl FnOnce() -> ConnId,
        env: &mut Env<'_, D, E>,
    ) {
        let durable = self.durable(store);
        match &mut self.state {
            State::Waiting { dial_at } if now.mono >= *dial_at && self.master.is_some() => {
                // What is on its way to the disk must not be asked for again.
                let is_settled = durable == store.log_end() && store.takes_raw();
                if store.is_short_of_room() {
                    *dial_at = now.mono + self.config.reconnect_interval;
                } else if is_settled && epochs.is_durable() {
                    self.dial(now, store, next_conn, env);
                } else {
                    *dial_at = now.mono + DIAL_CHECK_INTERVAL;
                }
            }
            State::Waiting { .. } | State::Fetching(_) | State::Dialling { .. } => {}
            State::Asking { until, .. } => {
                if now.mono >= *until {
                    self.give_up(now, env);
                }
            }
            State::Adopting { conn, .. } => {
                let conn = *conn;
                if epochs.is_durable() {
                    self.connect(now, conn, None, env);
                }
            }
            State::Connected { conn, overlap, heard_at, reported, reported_at, .. } => {
                // Until the end of this log has been found in the master's, nothing of it is acknowledged.
                let known = match (&self.lack, overlap.rest.is_empty()) {
                    (Some(_), _) => *reported,
                    (None, true) => durable,
                    (None, false) => overlap.at,
                };
                if now.mono >= *heard_at + self.config.housekeeping_interval {
                    self.give_up(now, env);
                } else if known > *reported || now.mono >= *reported_at + self.config.heartbeat_interval {
                    (*reported, *reported_at) = (known, now.mono);
                    env.send(*conn, Packet::HaReport { offset: known });
                    self.written_at = now.wall;
                }
            }
        }
    }

    fn dial<D: Disk, E>(
        &mut self,
        now: Now,
        store: &Store,
        next_conn: impl FnOnce() -> ConnId,
        env: &mut Env<'_, D, E>,
    ) {
        let Some(master) = &self.master else { return };
        let (at, len) = overlap_of(store);
        let mut rest = Vec::new();
        let read = if len == 0 { Ok(Ok(())) } else { store.read_log(at, len, env.disk, &mut rest) };
        match read {
            Ok(Ok(())) => {
                let conn = next_conn();
                let peer = Peer { address: master.clone(), protocol: Protocol::HaSlave };
                env.out.push(Effect::Dial { conn, peer });
                self.state = State::Dialling { conn, overlap: Overlap { at, rest: rest.into() } };
            }
            Ok(Err(cold)) => {
                self.fetches += 1;
                let id = FetchId(ID_SPACE | FETCHES | self.fetches);
                env.out.push(Effect::Fetch { id, at: cold });
                self.state = State::Fetching(id);
            }
            Err(error) => {
                tracing::warn!(%error, at, "the end of the commit log cannot be read to be compared with the master's");
                self.state = State::Waiting { dial_at: now.mono + self.config.reconnect_interval };
            }
        }
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Waiting { dial_at } => self.master.as_ref().map(|_| (*dial_at, "HA dial")),
            State::Fetching(_) | State::Dialling { .. } | State::Adopting { .. } => None,
            State::Asking { until, .. } => Some((*until, "the master's epochs")),
            State::Connected { heard_at, reported_at, .. } => Some(
                (*reported_at + self.config.heartbeat_interval, "HA report")
                    .min((*heard_at + self.config.housekeeping_interval, "HA housekeeping")),
            ),
        }
    }
}

/// Where the end of the log that is compared begins, and how long it is. It lies in the last segment, which a master that has
/// deleted older ones still has, and never begins at 0: that is how a slave without a log says that it has none.
fn overlap_of(store: &Store) -> (u64, u64) {
    let end = store.log_end();
    let Some(last) = end.checked_sub(1) else { return (0, 0) };
    let segment = last - last % store.segment_bytes();
    let at = segment.max(store.log_min()).max(end.saturating_sub(OVERLAP_BYTES_MAX)).max(1);
    if at >= end { (end, 0) } else { (at, end - at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that arrive, and for each how much of it was known.
    fn check(blocks: &[(u64, &'static [u8])], expect: &[Option<usize>]) {
        let mut overlap = Overlap { at: 10, rest: Bytes::from_static(b"0123456789") };
        let known: Vec<Option<usize>> = blocks
            .iter()
            .map(|(offset, block)| overlap.compare(*offset, &Bytes::from_static(block)))
            .collect();
        assert_eq!(known, expect);
    }

    #[test]
    fn the_end_of_a_log_is_found_again_in_the_masters_or_not() {
        check(&[(10, b"0123456789new")], &[Some(10)]);
        check(&[(10, b"0123"), (14, b"456789"), (20, b"new")], &[Some(4), Some(6), Some(0)]);
        check(&[(16, b"6789new")], &[None]);
        check(&[(10, b"012345678X")], &[None]);
        check(&[(10, b"0123"), (14, b"X")], &[Some(4), None]);
        check(&[(9, b"x0123456789")], &[None]);
        check(&[(21, b"new")], &[None]);
    }
}
