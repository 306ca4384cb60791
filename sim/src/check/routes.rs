//! Verifies what a name server tells about brokers: an address is in no route later than 120 s and one scan after it was
//! last heard, nor after its connection ended; and it does not leave a route before 120 s have passed, while its connection
//! stands. A name server that was itself paused has one more scan after its return.
//!
//! Does not verify: what a broker registered, permissions, or routes that nobody asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use gantry_core::io::{CloseReason, ConnId};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Packet};
use serde_json::Value;

use super::{Checker, Cx, Verdict, secs, span, unsafe_because};
use crate::fault::FaultKind;
use crate::process::Seen;
use crate::workload::requests::{code, reply};
use crate::world::{Fact, HostId};

const NAME: &str = "routes";
/// A broker is expired after this (`brokerExpiredTime`).
const EXPIRY: Duration = Duration::from_secs(120);
/// And at the latest one scan later (`scanNotActiveBrokerInterval`; 10 s in 4.9), with a little for the turn itself.
const SCAN: Duration = Duration::from_millis(10_050);

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    conn: ConnId,
    /// When it was first heard over this connection.
    since: Instant,
}

/// A request under way, and what was known when it was taken: the name server answers at once, and other inputs of the same
/// turn, seen before its answer leaves, come after it.
#[derive(Debug)]
struct Asked {
    at: Instant,
    topic: String,
    heard: Rc<BTreeMap<String, Heard>>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Routes {
    server: HostId,
    heard: Rc<BTreeMap<String, Heard>>,
    /// Addresses that each topic's route has shown, and must go on showing, and when it was last asked for.
    shown: BTreeMap<String, (Instant, BTreeSet<String>)>,
    asked: BTreeMap<(ConnId, i32), Asked>,
    resumed: Instant,
    /// For so long after it was seen that a connection ended, its end may be news to the name server; and so much later than it happens
    /// a question or an answer may be seen.
    late: Duration,
    /// Such connections.
    ending: Vec<(Instant, ConnId)>,
    is_paused: bool,
    looked: u64,
}

impl Routes {
    /// Of one name server.
    pub fn new(server: HostId) -> Routes {
        Routes {
            server,
            heard: Rc::default(),
            shown: BTreeMap::new(),
            asked: BTreeMap::new(),
            resumed: Instant::ZERO,
            late: Duration::ZERO,
            ending: Vec::new(),
            is_paused: false,
            looked: 0,
        }
    }

    /// Of one that is watched from without, and may be as late as this.
    #[must_use]
    pub fn seen_late(mut self, late: Duration) -> Routes {
        self.late = late;
        self
    }

    fn forget(&mut self, at: Instant) {
        let (late, looked) = (self.late, self.looked);
        *self = Routes { resumed: at, late, looked, ..Routes::new(self.server) };
    }

    fn on_request(&mut self, at: Instant, conn: ConnId, command: &Command) {
        match command.code {
            code::REGISTER_BROKER | code::QUERY_DATA_VERSION | code::BROKER_HEARTBEAT => {
                let Some(address) = command.ext.get("brokerAddr") else { return };
                // Whoever was silent for long may have been dropped, and begins anew: a slave without its master is in
                // no route of a topic.
                if self.heard.get(&*address).is_some_and(|heard| at >= heard.at + EXPIRY) {
                    self.forget_shown(&address);
                }
                if is_change(command) {
                    // Over another connection than the whole table came by it is refused, however late it comes.
                    let heard = Rc::make_mut(&mut self.heard).get_mut(&*address);
                    if let Some(heard) = heard.filter(|heard| heard.conn == conn) {
                        heard.at = at;
                    }
                } else if command.code == code::REGISTER_BROKER {
                    let heard = Rc::make_mut(&mut self.heard);
                    let known = heard.get(&*address).filter(|known| known.conn == conn);
                    let since = known.map_or(at, |known| known.since);
                    heard.insert(address.into_owned(), Heard { at, conn, since });
                } else if let Some(heard) = Rc::make_mut(&mut self.heard).get_mut(&*address) {
                    heard.at = at;
                }
            }
            code::UNREGISTER_BROKER => {
                if let Some(address) = command.ext.get("brokerAddr") {
                    self.drop_address(&address);
                }
            }
            // From here on it may be gone; a question of the same turn is left out, its answer comes after this.
            code::DELETE_TOPIC_IN_NAMESRV => {
                if let Some(topic) = command.ext.get("topic") {
                    self.shown.remove(&*topic);
                    self.asked.retain(|_, asked| asked.topic != topic);
                }
            }
            code::GET_ROUTEINFO_BY_TOPIC => {
                if let Some(topic) = command.ext.get("topic") {
                    let asked = Asked { at, topic: topic.into_owned(), heard: self.heard.clone() };
                    self.asked.insert((conn, command.opaque), asked);
                }
            }
            _ => {}
        }
    }

    fn drop_address(&mut self, address: &str) {
        Rc::make_mut(&mut self.heard).remove(address);
        self.forget_shown(address);
    }

    fn forget_shown(&mut self, address: &str) {
        for (_, addresses) in self.shown.values_mut() {
            addresses.remove(address);
        }
    }

    fn on_closed(&mut self, at: Instant, conn: ConnId) {
        if self.late > Duration::ZERO {
            self.ending.push((at, conn));
        } else {
            self.drop_conn(conn);
        }
    }

    /// What ended so long ago that the name server must know it is known.
    fn end(&mut self, at: Instant) {
        if self.is_paused {
            return;
        }
        let (resumed, late) = (self.resumed, self.late);
        let (news, known) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition(|(ended, _)| resumed.max(*ended) + late > at);
        self.ending = news;
        let known: Vec<(Instant, ConnId)> = known;
        known.into_iter().for_each(|(_, conn)| self.drop_conn(conn));
    }

    fn drop_conn(&mut self, conn: ConnId) {
        let gone: Vec<String> = self
            .heard
            .iter()
            .filter(|(_, heard)| heard.conn == conn)
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            self.drop_address(&address);
        }
    }

    fn is_ending(&self, conn: ConnId) -> bool {
        self.ending.iter().any(|(_, ending)| *ending == conn)
    }

    fn on_answer(&mut self, cx: &Cx<'_>, conn: ConnId, command: &Command) -> Verdict {
        let Some(Asked { at: asked_at, topic, heard }) = self.asked.remove(&(conn, command.opaque)) else {
            return Ok(());
        };
        let addresses = match command.code {
            reply::SUCCESS => addresses(&command.body),
            reply::TOPIC_NOT_EXIST => BTreeSet::new(),
            _ => return Ok(()),
        };
        for address in &addresses {
            self.looked += 1;
            // Seen late, the question may be older than a registration that it saw.
            let newest = self.heard.get(address).filter(|_| self.late > Duration::ZERO);
            let Some(heard) = newest.or_else(|| heard.get(address)) else {
                let what = format!("{address} is in the route of {topic} though its connection ended");
                return unsafe_because(NAME, what);
            };
            let late = heard.at + EXPIRY + SCAN + cx.setup.drift(EXPIRY + SCAN) + self.late;
            if cx.at > late.max(self.resumed + SCAN + self.late) {
                let what = format!(
                    "{address} is in the route of {topic} {} after it was last heard",
                    span(heard.at, cx.at)
                );
                return unsafe_because(NAME, what);
            }
        }
        // A slave that lost its disk registers again without the topics that it has to learn anew.
        let loses_topics =
            cx.setup.faults.iter().any(|entry| {
                !entry.disabled && entry.fault.kind() == FaultKind::DiskLoss && entry.at <= cx.at
            });
        let (asked, shown) = self.shown.remove(&topic).unwrap_or_default();
        // So does a broker whose power failed before the file of topics had one that was made just then. Until it is back, or is
        // given up, its routes stay.
        let kept = EXPIRY + SCAN;
        let loses_topics = loses_topics || cx.ledger.power_losses().iter().any(|(_, at)| *at + kept >= asked);
        for address in shown.iter().filter(|address| !addresses.contains(*address)) {
            let Some(heard) = heard.get(address).filter(|heard| !self.is_ending(heard.conn)) else {
                continue;
            };
            // Seen late, the question may be older than a registration that was seen before it.
            if asked_at < heard.since + self.late {
                continue;
            }
            self.looked += 1;
            if cx.at + cx.setup.drift(EXPIRY) < heard.at + EXPIRY && !loses_topics {
                let what = format!(
                    "{address} is gone from the route of {topic} {} after it was last heard at {}",
                    span(heard.at, cx.at),
                    secs(heard.at)
                );
                return unsafe_because(NAME, what);
            }
        }
        // Of the turn that answered, whoever has gone and come back since is seen before the answer: it begins anew.
        let goes_on = |address: &String| {
            let asked = heard.get(address);
            self.heard.get(address).is_some_and(|now| asked.is_none_or(|asked| asked.conn == now.conn))
        };
        let shown = addresses.into_iter().filter(goes_on).collect();
        self.shown.insert(topic, (cx.at, shown));
        Ok(())
    }
}

/// Whether it is a registration of what changed alone, which builds on an earlier one.
pub(super) fn is_change(command: &Command) -> bool {
    const MARK: &[u8] = b"\"gantryChange\":";
    command.code == code::REGISTER_BROKER && command.body.windows(MARK.len()).any(|part| part == MARK)
}

/// All broker addresses in a route.
fn addresses(body: &[u8]) -> BTreeSet<String> {
    let Ok(route) = serde_json::from_slice::<Value>(body) else { return BTreeSet::new() };
    let brokers = route["brokerDatas"].as_array().into_iter().flatten();
    let addresses = brokers.filter_map(|broker| broker["brokerAddrs"].as_object());
    addresses
        .flat_map(|by_id| by_id.values())
        .filter_map(|address| Some(address.as_str()?.to_owned()))
        .collect()
}

impl Checker for Routes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != self.server {
            return Ok(());
        }
        self.end(cx.at);
        match fact {
            Fact::Started { .. } | Fact::Died(_) => self.forget(cx.at),
            Fact::Paused => self.is_paused = true,
            Fact::Resumed => (self.resumed, self.is_paused) = (cx.at, false),
            Fact::Seen(Seen::Received { conn, packet: Packet::Command(command) }) => {
                self.on_request(cx.at, *conn, command);
            }
            Fact::Seen(Seen::Send { conn, packet: Packet::Command(command) }) => {
                return self.on_answer(cx, *conn, command);
            }
            // If the name server itself hung up, it has to have had its reasons.
            Fact::Seen(Seen::Closed { why: CloseReason::Local, .. }) => {}
            Fact::Seen(Seen::Closed { conn, .. }) => self.on_closed(cx.at, *conn),
            Fact::Seen(_)
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
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
