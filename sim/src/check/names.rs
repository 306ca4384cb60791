//! Verifies, where there may be several name servers: one that has been running for [`KNOWN_WITHIN`], as the master has, while
//! nothing went wrong, or for [`MENDED_WITHIN`] since something did, knows the master, whoever started first; and while nothing but name servers and their cables is harmed, a
//! producer that has sent something goes on: each attempt reaches the master, and is stored or refused for want of room.
//!
//! Does not verify: when a route goes (`routes` does, of each server), nor that clients find a master that has moved.

use std::collections::BTreeMap;

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Packet};

use super::routes::is_change;
use super::{Checker, Cx, Setup, Verdict, secs, stuck_because};
use crate::history::{Outcome, Report};
use crate::process::Seen;
use crate::workload::requests::{code, reply};
use crate::world::{Fact, HostId};

const NAME: &str = "names";
/// A dial every ten seconds, each given up after three, and the answer.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
/// After a fault, connections that lost their other end have to be given up first.
const MENDED_WITHIN: Duration = Duration::from_secs(75);
/// The master's address.
const MASTER: &str = "10.0.0.2:10911";

/// See the [module](self).
#[derive(Debug)]
pub struct Names {
    /// Where each name server heard the master.
    registered: BTreeMap<HostId, Option<ConnId>>,
    /// No fault harms anybody else.
    others_are_spared: bool,
    has_sent: bool,
    looked: u64,
}

impl Names {
    /// Of a world.
    pub fn new(setup: &Setup) -> Names {
        let mut faults = setup.faults.iter().filter(|entry| !entry.disabled);
        Names {
            registered: setup.name_servers.iter().map(|server| (*server, None)).collect(),
            others_are_spared: faults.all(|entry| entry.fault.spares_all_but(&setup.name_servers)),
            has_sent: false,
            looked: 0,
        }
    }

    fn on_request(&mut self, cx: &Cx<'_>, conn: ConnId, command: &Command) -> Verdict {
        match command.code {
            // A change over another connection than the whole table came by is refused, however late it comes: the end of that
            // connection is not the end of the registration.
            code::REGISTER_BROKER
                if command.ext.get("brokerAddr").as_deref() == Some(MASTER) && !is_change(command) =>
            {
                self.registered.insert(cx.host, Some(conn));
            }
            code::GET_ROUTEINFO_BY_TOPIC => return self.on_asked(cx),
            _ => {}
        }
        Ok(())
    }

    /// The watcher asks every few seconds: a moment to look.
    fn on_asked(&mut self, cx: &Cx<'_>) -> Verdict {
        let since = |host| cx.ledger.running_since(host);
        let (Some(server), Some(master)) = (since(cx.host), since(cx.setup.cast.master)) else {
            return Ok(());
        };
        let since = server.max(master);
        let lately = Instant::from_nanos(cx.at.as_nanos().saturating_sub(MENDED_WITHIN.as_nanos() as u64));
        let undisturbed = cx.at >= since + KNOWN_WITHIN && cx.setup.is_calm(since, cx.at);
        let mended = cx.at >= since + MENDED_WITHIN && cx.setup.is_calm(lately, cx.at);
        if !undisturbed && !mended {
            return Ok(());
        }
        self.looked += 1;
        if self.registered.get(&cx.host).copied().flatten().is_none() {
            let what = format!(
                "name server {} and the master have been running since {} and know nothing of each other at {}",
                cx.host.0,
                secs(since),
                secs(cx.at)
            );
            return stuck_because(NAME, what);
        }
        Ok(())
    }

    fn on_report(&mut self, cx: &Cx<'_>, report: &Report) -> Verdict {
        let Report::SendEnded { request, outcome } = report else { return Ok(()) };
        let fails = match outcome {
            Outcome::Ok { .. } => {
                self.has_sent = true;
                false
            }
            Outcome::Weak { .. } => false,
            Outcome::Refused { code } => *code != reply::SERVICE_NOT_AVAILABLE && *code != reply::SYSTEM_BUSY,
            Outcome::Unknown => true,
        };
        if !self.has_sent || !self.others_are_spared {
            return Ok(());
        }
        self.looked += 1;
        if fails {
            let attempt = cx.ledger.attempt_of(*request);
            let what = format!("only name servers are harmed, and {attempt:?} ended with {outcome:?}");
            return stuck_because(NAME, what);
        }
        Ok(())
    }
}

impl Checker for Names {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if let Fact::Report(report) = fact {
            return self.on_report(cx, report);
        }
        let Some(registered) = self.registered.get_mut(&cx.host) else { return Ok(()) };
        match fact {
            Fact::Started { .. } | Fact::Died(_) => *registered = None,
            Fact::Seen(Seen::Received { conn, packet: Packet::Command(command) }) => {
                return self.on_request(cx, *conn, command);
            }
            Fact::Seen(Seen::Closed { conn, .. }) if *registered == Some(*conn) => *registered = None,
            Fact::Seen(_)
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::TurnEnded { .. }
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => {}
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
