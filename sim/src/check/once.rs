//! Verifies: a message that its producer wants stored once is there once in the end, however many attempts arrived and whatever died
//! between them; every attempt that was acknowledged, the first or a later one, was told where it lies; the two producers that choose
//! the same keys have their own messages each; and every such send is honoured. At the master's door, under synchronous flush: what is
//! acknowledged, to whichever attempt, is covered by a sync that was asked for since the first one was taken.
//!
//! A power loss of the master under asynchronous flush excuses what was told before it; so does a takeover under asynchronous replication.
//! The number of copies is never excused.
//!
//! Does not verify: the end of the window, which is longer than these worlds; nor that a slave has what a later attempt is told of.

use std::collections::BTreeMap;

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;

use super::told::{RequestKey, ids_of, physical_offsets};
use super::{Checker, Cx, Flush, Replication, Setup, Verdict, secs, stuck_because, unsafe_because};
use crate::fault::Fault;
use crate::history::{InsistReport, MessageId, OncePlace, Report};
use crate::workload::insister;
use crate::workload::requests::reply;
use crate::world::Fact;

const NAME: &str = "stored once";
const QUEUES: usize = 4;
/// Everything is read in this time.
const AUDIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Told {
    id: MessageId,
    place: OncePlace,
    at: Instant,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Once {
    begun: BTreeMap<u32, u32>,
    told: Vec<Told>,
    /// What lies where: the newest reading of a place counts.
    audit: BTreeMap<(i32, i64), (u64, u32)>,
    drained: BTreeMap<i32, Instant>,
    /// When the master first took a message.
    taken: BTreeMap<u32, Instant>,
    /// Attempts that it has not answered.
    pending: BTreeMap<RequestKey, Vec<MessageId>>,
    looked: u64,
}

impl Once {
    fn on_request(&mut self, at: Instant, conn: ConnId, command: &Command) {
        let ids = ids_of(command);
        if ids.is_empty() || command.ext.get("b").as_deref() != Some(insister::TOPIC) {
            return;
        }
        for id in &ids {
            self.taken.entry(id.message).or_insert(at);
        }
        self.pending.insert(RequestKey { conn, opaque: command.opaque }, ids);
    }

    fn on_answer(&mut self, cx: &Cx<'_>, conn: ConnId, command: &Command) -> Verdict {
        let ids = self.pending.remove(&RequestKey { conn, opaque: command.opaque }).unwrap_or_default();
        if command.code != reply::SUCCESS || cx.setup.flush != Flush::Sync {
            return Ok(());
        }
        let places = command.ext.get("msgId").map(|ids| physical_offsets(&ids)).unwrap_or_default();
        for (id, place) in ids.into_iter().zip(places) {
            let taken = self.taken.get(&id.message).copied().unwrap_or(cx.at);
            self.looked += 1;
            if !cx.ledger.is_synced(cx.setup, place, taken) {
                let since = secs(taken);
                let what = format!(
                    "{id:?} at log {place} was acknowledged before any sync since the message came at {since}"
                );
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }
}

/// Whether what was told at a time may be lost.
fn is_excused(setup: &Setup, at: Instant) -> bool {
    if setup.takeover && setup.replication == Replication::Async {
        return true;
    }
    setup.flush == Flush::Async
        && setup.faults.iter().any(|entry| {
            let is_loss =
                matches!(&entry.fault, Fault::PowerLoss { hosts, .. } if hosts.contains(&setup.cast.master));
            is_loss && !entry.disabled && entry.at + entry.fault.lasts() >= at
        })
}

impl Checker for Once {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host == cx.setup.cast.master {
            if let Fact::Died(_) = fact {
                self.pending.clear();
            }
            if let Some((conn, command)) = fact.asked() {
                self.on_request(cx.at, conn, command);
            }
            if let Some((conn, command)) = fact.answered() {
                return self.on_answer(cx, conn, command);
            }
        }
        let Fact::Report(Report::Insist(report)) = fact else { return Ok(()) };
        match report {
            InsistReport::Begun { id } => {
                let attempts = self.begun.entry(id.message).or_default();
                *attempts = (*attempts).max(id.attempt + 1);
            }
            InsistReport::Stored { id, place, honoured } => {
                if !honoured {
                    return unsafe_because(NAME, format!("{id:?} was stored, but not once"));
                }
                self.told.push(Told { id: *id, place: *place, at: cx.at });
            }
            InsistReport::Came { place, id: Some(id) } if self.begun.contains_key(&id.message) => {
                self.audit.insert((place.queue, place.offset), (place.physical, id.message));
            }
            InsistReport::Came { place, id } => {
                return unsafe_because(NAME, format!("{id:?} at {place:?} was never sent"));
            }
            InsistReport::Drained { queue } => {
                self.drained.insert(*queue, cx.at);
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Verdict {
        // A world that was made short ends before anybody reads.
        if cx.setup.audit_at + AUDIT >= cx.setup.ends_at {
            return Ok(());
        }
        if self.drained.len() < QUEUES {
            return stuck_because(NAME, format!("not all queues were read: {:?}", self.drained));
        }
        let mut places: BTreeMap<u32, OncePlace> = BTreeMap::new();
        for (&(queue, offset), &(physical, message)) in &self.audit {
            self.looked += 1;
            let place = OncePlace { queue, offset, physical };
            if let Some(other) = places.insert(message, place) {
                return unsafe_because(
                    NAME,
                    format!("m{message} is stored twice: at {other:?} and {place:?}"),
                );
            }
        }
        for Told { id, place, at } in &self.told {
            self.looked += 1;
            let found = places.get(&id.message);
            if found != Some(place) && !is_excused(cx.setup, *at) {
                let what = format!("at {} {id:?} was said to be at {place:?}; it is at {found:?}", secs(*at));
                return unsafe_because(NAME, what);
            }
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
