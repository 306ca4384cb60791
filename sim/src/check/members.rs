//! Verifies: whenever a member joins a consumer group or leaves it, is cut off or expires, every other member is told
//! (NOTIFY_CONSUMER_IDS_CHANGED) within a second of the master's running time; and that a silent member is expired after 120 s
//! and one scan.
//!
//! Does not verify: that the notification arrives, nor what the member does then.

use std::collections::BTreeMap;

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Packet};
use serde_json::Value;

use super::{Checker, Cx, Verdict, secs, stuck_because};
use crate::process::Seen;
use crate::workload::requests::code;
use crate::world::Fact;

const NAME: &str = "members";
/// The time that telling takes.
const TELL_LIMIT: Duration = Duration::from_secs(1);
/// `channelExpiredTimeout`, and a scan.
const EXPIRY: Duration = Duration::from_millis(120_000 + 10_000 + 100);

#[derive(Debug)]
struct Owed {
    since: Instant,
    why: String,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Members {
    /// By group and connection: when it was last heard.
    heard: BTreeMap<(String, ConnId), Instant>,
    owed: BTreeMap<(String, ConnId), Owed>,
    looked: u64,
}

impl Members {
    fn on_change(&mut self, at: Instant, group: &str, conn: ConnId, why: &str) {
        let others = self.heard.keys().filter(|(name, other)| name == group && *other != conn);
        for key in others {
            let owed = Owed { since: at, why: format!("{conn:?} {why}") };
            self.owed.entry(key.clone()).or_insert(owed);
        }
    }

    fn leave(&mut self, at: Instant, group: &str, conn: ConnId, why: &str) {
        let key = (group.to_owned(), conn);
        self.owed.remove(&key);
        if self.heard.remove(&key).is_some() {
            self.on_change(at, group, conn, why);
        }
    }

    fn on_closed(&mut self, at: Instant, conn: ConnId, why: &str) {
        let groups: Vec<String> =
            self.heard.keys().filter(|(_, member)| *member == conn).map(|(group, _)| group.clone()).collect();
        for group in groups {
            self.leave(at, &group, conn, why);
        }
    }

    fn on_request(&mut self, at: Instant, conn: ConnId, command: &Command) {
        match command.code {
            code::HEART_BEAT => {
                let Ok(body) = serde_json::from_slice::<Value>(&command.body) else { return };
                for data in body["consumerDataSet"].as_array().into_iter().flatten() {
                    let group = data["groupName"].as_str().unwrap_or_default();
                    if self.heard.insert((group.to_owned(), conn), at).is_none() {
                        self.on_change(at, group, conn, "joined");
                    }
                }
            }
            code::UNREGISTER_CLIENT => {
                if let Some(group) = command.ext.get("consumerGroup") {
                    self.leave(at, &group, conn, "left");
                }
            }
            _ => {}
        }
    }

    fn on_seen(&mut self, at: Instant, seen: &Seen) {
        if let Seen::Received { conn, packet: Packet::Command(command) } = seen
            && !command.is_response()
        {
            self.on_request(at, *conn, command);
        }
        if let Seen::Send { conn, packet: Packet::Command(command) } = seen
            && command.code == code::NOTIFY_CONSUMER_IDS_CHANGED
            && !command.is_response()
        {
            let group = command.ext.get("consumerGroup").unwrap_or_default().into_owned();
            self.looked += u64::from(self.owed.remove(&(group, *conn)).is_some());
        }
        if let Seen::Closed { conn, .. } = seen {
            self.on_closed(at, *conn, "is gone");
        }
        // The master ends the connection of a client that it expires, and is yet to tell the others.
        if let Seen::Close { conn } = seen {
            self.on_closed(at, *conn, "was expired");
        }
    }

    fn check(&mut self, cx: &Cx<'_>) -> Verdict {
        let Some(running) = cx.ledger.running_since(cx.setup.cast.master) else { return Ok(()) };
        for ((group, conn), owed) in &self.owed {
            if cx.at > owed.since.max(running) + TELL_LIMIT {
                let what = format!(
                    "{conn:?} of {group} should have been told at {} that {}",
                    secs(owed.since),
                    owed.why
                );
                return stuck_because(NAME, what);
            }
        }
        let silent = self.heard.iter().find(|(_, heard)| cx.at > (**heard).max(running) + EXPIRY);
        if let Some(((group, conn), heard)) = silent {
            let what = format!("{conn:?} is a member of {group} though last heard at {}", secs(*heard));
            return stuck_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Members {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if let Fact::Died(_) = fact {
            *self = Members { looked: self.looked, ..Members::default() };
        }
        if let Fact::TurnEnded { kept: true, .. } = fact {
            return self.check(cx);
        }
        if let Fact::Seen(seen) = fact {
            self.on_seen(cx.at, seen);
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
