//! Requests that the broker makes of its clients and waits for, each with what is to be done with the answer.
//!
//! A call ends exactly once: by its answer, by the end of its connection, or by its time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::reply::ReplyTo;
use crate::io::ConnId;
use crate::time::Instant;
use crate::wire::Command;
use crate::wire::body::GetConsumerStatusBody;
use crate::wire::request::SendMessageResponse;

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Command),
    TimedOut,
    Closed,
}

/// What is done with the answer.
#[derive(Debug)]
pub(super) enum Purpose {
    /// It is passed on.
    Forward {
        to: ReplyTo,
        /// Group and client, for people.
        whom: (String, String),
    },
    /// It is one of several that make an answer together.
    Gather { gather: GatherId, client_id: String },
    /// A reply was handed to its requester: the replier is told.
    PushReply {
        to: ReplyTo,
        header: SendMessageResponse,
        /// End of the record, when the reply was stored too.
        end: u64,
        requester: String,
    },
}

/// Names answers that are gathered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct GatherId(u64);

/// Answers of several clients on their way into one.
#[derive(Debug)]
struct Gather {
    to: ReplyTo,
    missing: usize,
    body: GetConsumerStatusBody,
}

#[derive(Debug)]
struct Call {
    deadline: Instant,
    purpose: Purpose,
}

/// All calls that wait.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: BTreeMap<(ConnId, i32), Call>,
    by_deadline: BTreeSet<(Instant, ConnId, i32)>,
    gathers: BTreeMap<GatherId, Gather>,
    next_gather: u64,
}

impl Calls {
    /// A request was sent.
    pub(super) fn begin(&mut self, conn: ConnId, opaque: i32, deadline: Instant, purpose: Purpose) {
        self.by_deadline.insert((deadline, conn, opaque));
        let known = self.waiting.insert((conn, opaque), Call { deadline, purpose });
        debug_assert!(known.is_none(), "an opaque names one call");
    }

    fn take(&mut self, conn: ConnId, opaque: i32) -> Option<Purpose> {
        let call = self.waiting.remove(&(conn, opaque))?;
        self.by_deadline.remove(&(call.deadline, conn, opaque));
        Some(call.purpose)
    }

    /// What an answer is for; none when nobody waits for it.
    pub(super) fn answered(&mut self, conn: ConnId, opaque: i32) -> Option<Purpose> {
        self.take(conn, opaque)
    }

    /// What will not be answered any more because the connection is gone.
    pub(super) fn closed(&mut self, conn: ConnId) -> Vec<Purpose> {
        let all = (conn, i32::MIN)..=(conn, i32::MAX);
        let opaques: Vec<i32> = self.waiting.range(all).map(|((_, opaque), _)| *opaque).collect();
        opaques.into_iter().filter_map(|opaque| self.take(conn, opaque)).collect()
    }

    /// What has waited too long.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Purpose> {
        let (deadline, conn, opaque) = self.by_deadline.first().copied()?;
        if deadline > now {
            return None;
        }
        self.take(conn, opaque)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, ..)| *deadline)
    }

    /// Begins an answer of so many parts.
    pub(super) fn gather(&mut self, to: ReplyTo, parts: usize) -> GatherId {
        self.next_gather += 1;
        let id = GatherId(self.next_gather);
        self.gathers.insert(id, Gather { to, missing: parts, body: GetConsumerStatusBody::default() });
        id
    }

    /// A part came, or will not come; the whole with its asker, when that was the last.
    pub(super) fn part(
        &mut self,
        id: GatherId,
        add: impl FnOnce(&mut GetConsumerStatusBody),
    ) -> Option<(ReplyTo, GetConsumerStatusBody)> {
        let gather = self.gathers.get_mut(&id)?;
        add(&mut gather.body);
        gather.missing -= 1;
        if gather.missing > 0 {
            return None;
        }
        self.gathers.remove(&id).map(|gather| (gather.to, gather.body))
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.waiting.len(), self.by_deadline.len(), "every call has its time");
    }
}
