//! The same checkers over a history that no world made: real processes, as their clients and whoever stood between them saw it.
//!
//! A world shows what leaves the master. Here a promise counts from the moment at which a client learned of it: [`Clients`] makes
//! [`Told`] of what clients report, and the ledger and the checkers judge that as they judge everything else. What name servers tell is
//! judged by what passes a proxy in front of them.
//!
//! Nothing is excused: processes die, stand still and lose connections, and the kernel keeps what they wrote.
//!
//! Does not verify: what was promised to somebody who never heard it, syncs, replication, nor that everything works again in the
//! end; whoever makes the history waits for that.

use std::collections::BTreeMap;

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};

use super::ledger::Ledger;
use super::told::{Handed, RequestKey, Told, physical_offsets};
use super::{
    Checker, Checkers, Flush, Replication, Setup, View, completeness, durability, offsets, one_value, order,
    phantom, routes,
};
use crate::fault::Death;
use crate::history::{MessageId, Outcome, Queue, Reader, Report, RequestId};
use crate::plan::CAST;
use crate::process::Seen;
use crate::workload::requests::reply;
use crate::world::{Fact, HostId, Observer, Violation};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A client tells something.
    Report(Report),
    /// A client learned what its broker took or told, for which clients have no report.
    Told(Told),
    /// Something passed in front of a process.
    Seen(Seen),
    /// A life begins: its number.
    Started(u32),
    /// It ends.
    Died,
    /// It stands still.
    Paused,
    /// It goes on.
    Resumed,
}

/// When, to whom and what.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// Since the beginning of the history.
    pub at: Instant,
    /// One of [`CAST`].
    pub host: HostId,
    /// What.
    pub what: What,
}

/// What each checker judged, or what is wrong and when it was.
pub type Judgement = Result<Vec<(&'static str, u64)>, (Instant, Violation)>;

/// The outcome of a send that got SEND_OK, from what its producer was told: the offset, and the id of the place.
pub fn stored_at(offset: i64, offset_id: &str) -> Outcome {
    Outcome::Ok { offset, physical: physical_offsets(offset_id) }
}

/// Judges a history, in the order of time. What passes a proxy, and what a client sees, is seen up to `late` before or after it
/// happens to the process behind it.
///
/// # Errors
/// The first promise that was broken.
pub fn judge(history: &[Witnessed], late: Duration) -> Judgement {
    let ends = history.last().map_or(Instant::ZERO, |last| last.at);
    let mut checkers = Checkers::outside(ends, late);
    for Witnessed { at, host, what } in history {
        let fact = match what {
            What::Told(told) => {
                checkers.told.push(told.clone());
                if let Some(violation) = checkers.judge_told(*at, *host) {
                    return Err((*at, violation));
                }
                continue;
            }
            What::Report(report) => Fact::Report(report),
            What::Seen(seen) => Fact::Seen(seen),
            What::Started(life) => Fact::Started { life: *life },
            What::Died => Fact::Died(Death::Process),
            What::Paused => Fact::Paused,
            What::Resumed => Fact::Resumed,
        };
        if let Some(violation) = checkers.observe(*at, *host, fact) {
            return Err((*at, violation));
        }
    }
    match checkers.finish_with(None) {
        Some(violation) => Err((ends, violation)),
        None => Ok(checkers.looked()),
    }
}

impl Checkers {
    fn outside(ends: Instant, late: Duration) -> Checkers {
        let setup = Setup {
            cast: CAST,
            name_servers: vec![CAST.name_server],
            has_follower: false,
            flush: Flush::Async,
            replication: Replication::Async,
            segment_bytes: 1 << 20,
            faults: Vec::new(),
            healed_at: ends,
            ends_at: ends + Duration::from_nanos(1),
            audit_at: Instant::ZERO,
            takeover: false,
            polls_tables: false,
            second: None,
            retention: None,
            topics: 1,
            clients: Vec::new(),
            delays: Vec::new(),
            times_max: 0,
        };
        let checkers: Vec<Box<dyn Checker>> = vec![
            Box::new(one_value::OneValue::default()),
            Box::new(phantom::Phantom::default()),
            Box::new(order::Order::default()),
            Box::new(offsets::Offsets::default()),
            Box::new(completeness::Completeness::default()),
            Box::new(durability::Durability::default()),
            Box::new(routes::Routes::new(CAST.name_server).seen_late(late)),
        ];
        let (view, ledger) = (View::Clients(Clients::default()), Ledger::new(&setup));
        Checkers { view, ledger, told: Vec::new(), checkers, setup, refused: false }
    }
}

/// What clients report, as what their broker told.
#[derive(Debug, Default)]
pub(super) struct Clients {
    begun: BTreeMap<RequestId, (Queue, Vec<MessageId>, Instant)>,
    /// Where the auditor goes on: it reads from the beginning and must find no gap.
    audited: BTreeMap<Queue, i64>,
}

impl Clients {
    /// Takes a fact and adds what it means.
    pub(super) fn on_fact(&mut self, at: Instant, fact: &Fact<'_>, told: &mut Vec<Told>) {
        match fact {
            Fact::Report(Report::SendBegun { request, queue, messages }) => {
                self.begun.insert(*request, (*queue, messages.clone(), at));
            }
            Fact::Report(Report::SendEnded { request, outcome: Outcome::Ok { offset, physical } }) => {
                let Some((queue, messages, taken_at)) = self.begun.remove(request) else { return };
                let (offset, physical) = (*offset, physical.clone());
                told.push(Told::Stored { queue, offset, messages, physical, taken_at });
            }
            Fact::Report(Report::Delivered { reader, queue, offset, physical, message }) => {
                let from = match reader {
                    Reader::Group => *offset,
                    Reader::Auditor => {
                        let next = self.audited.entry(*queue).or_default();
                        *next += 1;
                        *next - 1
                    }
                };
                told.push(Told::PullAnswered {
                    key: RequestKey { conn: ConnId(0), opaque: 0 },
                    reader: Some(*reader),
                    queue: *queue,
                    from,
                    code: reply::SUCCESS,
                    next: from + 1,
                    max: from + 1,
                    messages: vec![Handed { offset: *offset, physical: *physical, message: *message }],
                });
            }
            Fact::Report(_)
            | Fact::Started { .. }
            | Fact::Died(_)
            | Fact::PowerLost
            | Fact::Failed { .. }
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::Seen(_)
            | Fact::TurnEnded { .. }
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::io::CloseReason;
    use gantry_core::wire::{Command, Ext, Packet};

    use super::*;
    use crate::workload::requests::code;

    const QUEUE: Queue = Queue { topic: 0, id: 0 };
    const LATE: Duration = Duration::from_secs(2);

    fn id(message: u32) -> MessageId {
        MessageId { message, attempt: 0 }
    }

    fn begun(message: u32) -> (HostId, What) {
        let messages = vec![id(message)];
        let report = Report::SendBegun { request: RequestId(message), queue: QUEUE, messages };
        (CAST.producer, What::Report(report))
    }

    fn ended(message: u32, outcome: Outcome) -> (HostId, What) {
        (CAST.producer, What::Report(Report::SendEnded { request: RequestId(message), outcome }))
    }

    fn stored(message: u32, offset: i64) -> (HostId, What) {
        ended(message, stored_at(offset, &format!("7F00000100002A9F{:016X}", 100 * offset)))
    }

    fn came(reader: Reader, message: u32, offset: i64) -> (HostId, What) {
        let (message, physical) = (Some(id(message)), 100 * offset as u64);
        (CAST.auditor, What::Report(Report::Delivered { reader, queue: QUEUE, offset, physical, message }))
    }

    fn both(message: u32, offset: i64) -> [(HostId, What); 2] {
        [Reader::Group, Reader::Auditor].map(|reader| came(reader, message, offset))
    }

    /// Each event a second after the one before it; the checker that objects.
    fn objects(events: impl IntoIterator<Item = (HostId, What)>) -> Option<&'static str> {
        let events = events.into_iter().zip(1..);
        let history: Vec<Witnessed> = events
            .map(|((host, what), secs)| Witnessed {
                at: Instant::from_nanos(secs * 1_000_000_000),
                host,
                what,
            })
            .collect();
        judge(&history, LATE).err().map(|(_, violation)| violation.checker)
    }

    #[test]
    fn what_clients_saw_is_judged_like_what_a_world_shows() {
        let two = || [begun(1), stored(1, 0), begun(2), stored(2, 1)].into_iter();
        assert_eq!(objects(two().chain(both(1, 0)).chain(both(2, 1))), None);
        let unknown = [begun(3), ended(3, Outcome::Unknown)];
        assert_eq!(objects(unknown.clone()), None);
        assert_eq!(objects(unknown.into_iter().chain(both(3, 0))), None);

        assert_eq!(objects(two().chain(both(1, 0))), Some("durability"));
        assert_eq!(objects(two().chain(both(2, 0))), Some("one value per offset"));
        assert_eq!(objects(two().chain(both(1, 0)).chain(both(1, 1))), Some("one value per offset"));
        let group_misses = both(1, 0).into_iter().chain([came(Reader::Auditor, 2, 1)]);
        assert_eq!(objects(two().chain(group_misses)), Some("completeness"));
        assert_eq!(objects(two().chain([came(Reader::Auditor, 2, 1)])), Some("phantom"), "a gap");
        assert_eq!(objects([begun(1), stored(1, 1), begun(2), stored(2, 0)]), Some("order"));
        assert_eq!(objects(both(9, 0)), Some("phantom"), "never sent");
        let refused = [begun(1), ended(1, Outcome::Refused { code: 14 })];
        assert_eq!(objects(refused.into_iter().chain(both(1, 0))), Some("phantom"));

        let told = |told| (CAST.master, What::Told(told));
        let taken =
            |value, certain| told(Told::OffsetTaken { reader: Reader::Group, queue: QUEUE, value, certain });
        let asked = |value| told(Told::OffsetTold { reader: Reader::Group, queue: QUEUE, value });
        let died = (CAST.master, What::Died);
        assert_eq!(objects([taken(5, false), taken(5, true), died.clone(), asked(Some(5))]), None);
        assert_eq!(objects([taken(5, false), taken(5, true), died, asked(None)]), Some("offsets"));
    }

    #[test]
    fn a_name_server_has_a_little_time_to_learn_that_a_broker_is_gone() {
        let (broker, client) = (ConnId(1), ConnId(2));
        let name_server = |seen| (CAST.name_server, What::Seen(seen));
        let field =
            |name: &'static str, value: &str| Ext::Fields(vec![(name.into(), value.to_owned().into())]);
        let register = Command::request(code::REGISTER_BROKER, field("brokerAddr", "b:1"));
        let registers = name_server(Seen::Received { conn: broker, packet: register.clone().into() });
        let closed = name_server(Seen::Closed { conn: broker, why: CloseReason::Peer });
        let asks = |is_there: bool| {
            let question = Command::request(code::GET_ROUTEINFO_BY_TOPIC, field("topic", "topic-0"));
            let body = r#"{"brokerDatas":[{"brokerAddrs":{"0":"b:1"}}]}"#;
            let (code, body) = if is_there { (reply::SUCCESS, body) } else { (reply::TOPIC_NOT_EXIST, "") };
            let answer = Command::response(&question, code, Ext::None).with_body(body.as_bytes());
            let packets: [Packet; 2] = [question.into(), answer.into()];
            let [question, answer] = packets;
            [
                name_server(Seen::Received { conn: client, packet: question }),
                name_server(Seen::Send { conn: client, packet: answer }),
            ]
        };
        let there = || [registers.clone()].into_iter().chain(asks(true));
        let gone = || there().chain([closed.clone()]);
        assert_eq!(objects(there().chain(asks(true))), None);
        assert_eq!(objects(there().chain(asks(false))), Some("routes"), "it stands still for 120 s");
        assert_eq!(objects(gone().chain(asks(false))), None);
        assert_eq!(objects(gone().chain(asks(true)).chain(asks(false))), None, "within two seconds");
        assert_eq!(objects(gone().chain(asks(false)).chain(asks(true))), Some("routes"), "after four");
        let registers_anew = name_server(Seen::Received { conn: ConnId(3), packet: register.into() });
        let back = || gone().chain([registers_anew.clone()]);
        assert_eq!(objects(back().chain(asks(false))), None, "the question may have come before");
        assert_eq!(objects(back().chain(asks(true)).chain(asks(false))), Some("routes"), "after four");
        let paused = [(CAST.name_server, What::Paused)];
        assert_eq!(objects(gone().chain(paused).chain(asks(false)).chain(asks(true))), None);
    }
}
