//! Verifies, where nothing but processes and their cables is harmed: a slave that does not hear its master hears it within
//! [`FOLLOWS_WITHIN`] of the time from which they and the name servers run, if nothing goes wrong meanwhile, or [`MENDED_WITHIN`]
//! after something did, whatever name servers knew of the master before.
//!
//! Does not verify: where disks fail or the power does, for logs may part then, and a slave has to refuse its master; nor what a
//! slave has got.

use std::collections::BTreeMap;

use gantry_core::broker::Broker;
use gantry_core::time::{Duration, Instant};

use super::{Checker, Cx, Setup, Verdict, secs, stuck_because};
use crate::fault::FaultKind;
use crate::world::{Fact, HostId};

const NAME: &str = "follows";
/// A dial to name servers every ten seconds, a question every five, a dial to the master every five.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(21);
/// Connections that lost their other end have to be given up first, after 20 s.
const MENDED_WITHIN: Duration = Duration::from_secs(45);
const MOMENT: Duration = Duration::from_nanos(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Follows {
    /// Since when a slave hears nobody.
    alone: BTreeMap<HostId, Instant>,
    looked: u64,
}

impl Follows {
    /// Whether logs cannot part in a world.
    pub fn fits(setup: &Setup) -> bool {
        let mut faults = setup.faults.iter().filter(|entry| !entry.disabled);
        setup.has_follower && !setup.takeover && faults.all(|entry| HARMLESS.contains(&entry.fault.kind()))
    }
}

/// What leaves disks as they are.
const HARMLESS: &[FaultKind] = &[
    FaultKind::ProcessDeath,
    FaultKind::JointDeath,
    FaultKind::CleanStop,
    FaultKind::Pause,
    FaultKind::Reset,
    FaultKind::Partition,
    FaultKind::Isolation,
    FaultKind::HalfOpen,
    FaultKind::DialRefusal,
    FaultKind::Latency,
];

impl Checker for Follows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if let Fact::Died(_) = fact {
            self.alone.remove(&cx.host);
        }
        let Fact::TurnEnded { kept: true, machine, .. } = fact else { return Ok(()) };
        let Some(broker) = machine.downcast_ref::<Broker>().filter(|broker| !broker.is_master()) else {
            return Ok(());
        };
        self.looked += 1;
        if broker.is_following() {
            self.alone.remove(&cx.host);
            return Ok(());
        }
        let alone = *self.alone.entry(cx.host).or_insert(cx.at);
        let running = |host| cx.ledger.running_since(host);
        let others = [cx.host, cx.setup.cast.master].into_iter().chain(cx.setup.name_servers.iter().copied());
        let Some(running) = others.map(running).collect::<Option<Vec<Instant>>>() else { return Ok(()) };
        let since = running.into_iter().fold(alone, Instant::max);
        let lately = Instant::from_nanos(cx.at.as_nanos().saturating_sub(MENDED_WITHIN.as_nanos() as u64));
        // The fault that ended with this start, or this stream, is over.
        let undisturbed = cx.at >= since + FOLLOWS_WITHIN && cx.setup.is_calm(since + MOMENT, cx.at);
        let mended = cx.at >= since + MENDED_WITHIN && cx.setup.is_calm(lately, cx.at);
        if !undisturbed && !mended {
            return Ok(());
        }
        let what = format!(
            "slave {} hears nobody since {}, and it, its master and all name servers run since {}",
            cx.host.0,
            secs(alone),
            secs(since)
        );
        stuck_because(NAME, what)
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
