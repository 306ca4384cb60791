//! Verifies, at the master's door: an administrator is told that a topic or a group was put only when the file that holds it was
//! written anew since the request came, and that is durable.
//!
//! Does not verify: deletions, which may find nothing to delete and write nothing; an answer that says that the file took too long.

use std::collections::BTreeMap;

use gantry_core::io::{ConnId, SyncId};
use gantry_core::time::Instant;
use gantry_core::wire::Command;

use super::{Checker, Cx, Verdict, secs, unsafe_because};
use crate::process::Seen;
use crate::workload::requests::{code, reply};
use crate::world::Fact;

const NAME: &str = "settled";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Settled {
    /// Files on their way to the disk, and since when.
    writing: BTreeMap<SyncId, (String, Instant)>,
    /// Of each file, since when its newest durable content was on its way.
    durable: BTreeMap<String, Instant>,
    asked: BTreeMap<(ConnId, i32), (&'static str, Instant)>,
    looked: u64,
}

fn file_of(request: i32) -> Option<&'static str> {
    match request {
        code::UPDATE_AND_CREATE_TOPIC => Some("config/topics.json"),
        code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => Some("config/subscriptionGroup.json"),
        _ => None,
    }
}

impl Settled {
    fn on_answer(&mut self, conn: ConnId, command: &Command) -> Verdict {
        let Some((file, asked_at)) = self.asked.remove(&(conn, command.opaque)) else { return Ok(()) };
        if command.code != reply::SUCCESS {
            return Ok(());
        }
        self.looked += 1;
        match self.durable.get(file) {
            Some(since) if *since >= asked_at => Ok(()),
            _ => {
                let asked_at = secs(asked_at);
                unsafe_because(
                    NAME,
                    format!("{file} is not durable with what was put at {asked_at}, and it was answered"),
                )
            }
        }
    }
}

impl Checker for Settled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if let Fact::Started { .. } = fact {
            let looked = self.looked;
            *self = Settled { looked, ..Settled::default() };
        }
        let Fact::Seen(seen) = fact else { return Ok(()) };
        if let Seen::Replace { id, path } = seen {
            self.writing.insert(*id, (path.clone(), cx.at));
        }
        if let Seen::Synced { id, result } = seen
            && let Some((path, since)) = self.writing.remove(id)
            && result.is_ok()
        {
            self.durable.insert(path, since);
        }
        if let Some((conn, command)) = fact.asked()
            && let Some(file) = file_of(command.code)
        {
            self.asked.insert((conn, command.opaque), (file, cx.at));
        }
        if let Some((conn, command)) = fact.answered() {
            return self.on_answer(conn, command);
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
