//! Why a promise was broken: what happened to the messages that a violation names, from their sending on, in the order of time.
//!
//! A violation names messages as `m12.3`, a place as `topic-0/1 offset 7` and a place in the log as `log 910`. From there the
//! world is run again, and what concerns them is kept: the requests and answers that carry them, the syncs and the replication of
//! the place where they lie, the ends of lives and the faults that were under way, and where logs ended when they came back.
//!
//! What it cannot tell: why a machine decided as it did. That is for `replay --trace`, at the times given here.

mod fleet;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;

use gantry_core::io::{ConnId, SyncId};
use gantry_core::time::Instant;
use gantry_core::wire::{Command, Packet};
use tracing::Level;

use crate::check::ledger::Promise;
use crate::check::{Checkers, secs};
use crate::fault::FaultEntry;
use crate::history::{MessageId, Queue};
use crate::plan::{NAMES, Plan};
use crate::process::Seen;
use crate::run::{self, Judge, Outcome};
use crate::world::{Fact, HostId, Observer, Violation, describe};

/// What broke, and what led there.
#[derive(Clone, Debug)]
pub struct Story {
    /// How the world ended.
    pub outcome: Outcome,
    /// What the violation names.
    pub subjects: Vec<String>,
    /// What happened to it.
    pub steps: Vec<Step>,
    /// Who has lost what, as far as it is known.
    pub losses: Vec<String>,
    /// How it stands in the end.
    pub ends: Vec<String>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When.
    pub at: Instant,
    /// To whom; `None` for a fault.
    pub host: Option<String>,
    /// What.
    pub what: String,
}

/// Runs a world that fails, and runs it again to see why. Without a violation there is no story.
pub fn why(plan: &Plan) -> Option<Story> {
    if let Some(fleet) = &plan.fleet {
        return fleet::why(plan, fleet);
    }
    let (outcome, kept) = chronicle(plan, Subjects::default());
    let (_, violation) = outcome.violation?;
    let mut subjects = Subjects::read(&violation.what);
    subjects.complete(&kept.promises);
    Some(tell(plan, subjects))
}

/// What became of these.
fn tell(plan: &Plan, subjects: Subjects) -> Story {
    let names = subjects.names();
    let (outcome, kept) = chronicle(plan, subjects);
    let Kept { mut steps, losses, .. } = kept;
    steps.extend(fault_steps(plan, &outcome));
    steps.sort_by_key(|step| step.at);
    Story { outcome, subjects: names, steps, losses, ends: Vec::new() }
}

/// What went wrong before the end.
fn fault_steps(plan: &Plan, outcome: &Outcome) -> Vec<Step> {
    let ends = outcome.violation.as_ref().map_or(plan.ends_at, |(at, _)| *at);
    let names = plan.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let faults = plan.faults.iter().enumerate().filter(|(_, entry)| !entry.disabled && entry.at <= ends);
    let step = |(index, entry): (usize, &FaultEntry)| {
        let what = format!("fault {index}: {}", entry.fault.describe(&names));
        Step { at: entry.at, host: None, what }
    };
    faults.map(step).collect()
}

/// Runs a world and writes down what concerns the subjects.
fn chronicle(plan: &Plan, subjects: Subjects) -> (Outcome, Kept) {
    let kept = Rc::new(RefCell::new(Kept::default()));
    let checkers = Checkers::new(plan.setup());
    let chronicle = Chronicle {
        checkers,
        subjects,
        hosts: BTreeMap::new(),
        vouched: BTreeSet::new(),
        kept: Rc::clone(&kept),
    };
    let outcome = run::run_with(plan, true, chronicle);
    (outcome, kept.take())
}

/// What a violation is about.
#[derive(Clone, Default, Debug)]
struct Subjects {
    messages: BTreeSet<MessageId>,
    places: BTreeSet<(Queue, i64)>,
    /// Places in the commit log.
    logs: BTreeSet<u64>,
}

impl Subjects {
    /// Finds them in the words of a checker.
    fn read(what: &str) -> Subjects {
        let mut subjects = Subjects::default();
        let words = words_of(what);
        for (at, word) in words.iter().enumerate() {
            let number = |n: usize| words.get(at + n).and_then(|word| word.parse::<i64>().ok());
            subjects.messages.extend(message_of(word));
            if let Some(queue) = queue_of(word)
                && words.get(at + 1) == Some(&"offset")
                && let Some(offset) = number(2)
            {
                subjects.places.insert((queue, offset));
            }
            if *word == "log" {
                subjects.logs.extend(number(1).and_then(|place| u64::try_from(place).ok()));
            }
        }
        subjects
    }

    /// Which messages lay at the places that are named.
    fn complete(&mut self, promises: &[(Queue, i64, Promise)]) {
        let is_meant = |(queue, offset, promise): &&(Queue, i64, Promise)| {
            self.places.contains(&(*queue, *offset)) || self.logs.contains(&promise.physical)
        };
        let meant: Vec<MessageId> =
            promises.iter().filter(is_meant).map(|(_, _, promise)| promise.message).collect();
        self.messages.extend(meant);
        let theirs = promises.iter().filter(|(_, _, promise)| self.messages.contains(&promise.message));
        self.logs.extend(theirs.map(|(_, _, promise)| promise.physical));
    }

    fn names(&self) -> Vec<String> {
        let messages = self.messages.iter().map(|message| format!("{message:?}"));
        let places = self.places.iter().map(|(queue, offset)| format!("{queue:?} offset {offset}"));
        messages.chain(places).chain(self.logs.iter().map(|place| format!("log {place}"))).collect()
    }

    /// Whether the words of a report, which write places as their fields, name one of them.
    fn are_named_in(&self, words: &str) -> bool {
        let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_digit());
        let mut needles = self.messages.iter().map(|message| format!("{message:?}"));
        let mut places =
            self.places.iter().map(|(queue, offset)| format!("queue: {queue:?}, offset: {offset}"));
        let has = |needle: &String| {
            words
                .match_indices(needle.as_str())
                .any(|(at, _)| is_end(words[at + needle.len()..].chars().next()))
        };
        needles.any(|needle| has(&needle)) || places.any(|needle| has(&needle))
    }

    /// Whether a request or an answer carries one of them: in its body, or in the properties of its header.
    fn are_in(&self, command: &Command) -> bool {
        self.messages.iter().any(|message| {
            let properties = message.properties();
            let key = properties.split('\u{2}').next().unwrap_or_default();
            let mut is_in_header = false;
            command.ext.for_each(|_, value| is_in_header |= value.contains(key));
            is_in_header || command.body.windows(key.len()).any(|window| window == key.as_bytes())
        })
    }
}

fn words_of(what: &str) -> Vec<&str> {
    let words = what.split(|c: char| c.is_whitespace() || "()[]{},:;".contains(c));
    words.filter(|word| !word.is_empty()).collect()
}

fn message_of(word: &str) -> Option<MessageId> {
    let (message, attempt) = word.strip_prefix('m')?.split_once('.')?;
    Some(MessageId { message: message.parse().ok()?, attempt: attempt.parse().ok()? })
}

fn queue_of(word: &str) -> Option<Queue> {
    let (topic, id) = word.strip_prefix("topic-")?.split_once('/')?;
    Some(Queue { topic: topic.parse().ok()?, id: id.parse().ok()? })
}

#[derive(Debug, Default)]
struct Kept {
    steps: Vec<Step>,
    losses: Vec<String>,
    /// What was promised, as it stood in the end.
    promises: Vec<(Queue, i64, Promise)>,
}

/// What is known of a host's log.
#[derive(Debug, Default)]
struct HostLog {
    /// Requests under way that carry a subject.
    asked: BTreeSet<(ConnId, i32)>,
    /// Syncs under way of the segment where a subject lies, begun when it lay there.
    syncing: BTreeMap<SyncId, u64>,
    /// Places of which a sync has completed.
    synced: BTreeSet<u64>,
    /// Places that its log has.
    has: BTreeSet<u64>,
    /// Places that a slave reported to have.
    reported: BTreeSet<(ConnId, u64)>,
    died: Option<(Instant, &'static str)>,
    /// What it has is not known yet: a sync is one of what recovery left.
    is_recovering: bool,
}

/// Checkers, and somebody who writes down what concerns the subjects.
struct Chronicle {
    checkers: Checkers,
    subjects: Subjects,
    hosts: BTreeMap<HostId, HostLog>,
    /// Messages that their broker vouched for.
    vouched: BTreeSet<MessageId>,
    kept: Rc<RefCell<Kept>>,
}

impl Judge for Chronicle {
    fn checkers(&mut self) -> &mut Checkers {
        // The world has ended, or is about to.
        self.keep_promises();
        &mut self.checkers
    }
}

impl Observer for Chronicle {
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation> {
        let violation = self.checkers.observe(at, host, fact);
        self.learn_places(at, host);
        self.write_down(at, host, &fact);
        if violation.is_some() {
            self.keep_promises();
        }
        violation
    }
}

fn host_name(host: HostId) -> Option<String> {
    NAMES.get(host.0).map(|name| (*name).to_owned())
}

impl Chronicle {
    fn keep_promises(&self) {
        let promises = self.checkers.ledger().promises();
        self.kept.borrow_mut().promises =
            promises.map(|(queue, offset, promise)| (queue, offset, *promise)).collect();
    }

    fn step(&self, at: Instant, host: HostId, what: String) {
        self.kept.borrow_mut().steps.push(Step { at, host: host_name(host), what });
    }

    fn write_down(&mut self, at: Instant, host: HostId, fact: &Fact<'_>) {
        match fact {
            Fact::Started { life } => {
                self.hosts.entry(host).or_default().is_recovering = true;
                self.step(at, host, format!("starts (life {life})"));
            }
            Fact::Died(death) => {
                self.step(at, host, format!("ends: {death:?}"));
                let log = self.hosts.entry(host).or_default();
                (log.died, log.asked, log.syncing) =
                    (Some((at, "its process died")), BTreeSet::new(), BTreeMap::new());
            }
            Fact::PowerLost => {
                self.step(at, host, "loses what was not synced: the power failed".to_owned());
                self.hosts.entry(host).or_default().died = Some((at, "its power failed"));
            }
            Fact::Failed { reason, .. } => self.step(at, host, format!("gives up: {reason}")),
            Fact::AskedToStop { .. } => self.step(at, host, "is asked to stop".to_owned()),
            Fact::Paused => self.step(at, host, "stands still".to_owned()),
            Fact::Resumed => self.step(at, host, "goes on".to_owned()),
            Fact::BodyDamaged { physical } => {
                self.step(at, host, format!("the body at {physical} of its log is damaged"));
            }
            Fact::Seen(seen) => self.on_seen(at, host, seen),
            Fact::Report(report) => {
                let words = format!("{report:?}");
                if self.subjects.are_named_in(&words) {
                    self.step(at, host, words);
                }
            }
            Fact::Log(line) => {
                if line.level <= Level::WARN || line.text.starts_with("commit log recovered") {
                    self.step(at, host, format!("log: {}", line.text));
                }
                self.on_recovered(at, host, &line.text);
            }
            Fact::TurnEnded { .. } | Fact::DiskCompleted { .. } => {}
        }
    }

    fn on_seen(&mut self, at: Instant, host: HostId, seen: &Seen) {
        match seen {
            Seen::Received { conn, packet } | Seen::Send { conn, packet } => {
                self.on_packet(at, host, (*conn, packet, matches!(seen, Seen::Send { .. })), seen);
            }
            Seen::Sync { id, path } => self.on_sync(at, host, *id, path),
            Seen::Synced { id, result } => {
                let log = self.hosts.entry(host).or_default();
                let Some(place) = log.syncing.remove(id) else { return };
                if result.is_ok() && log.synced.insert(place) {
                    self.step(at, host, format!("has synced its log at {place}"));
                } else if result.is_err() {
                    self.step(at, host, format!("cannot sync its log at {place}: {result:?}"));
                }
            }
            Seen::Start
            | Seen::Opened { .. }
            | Seen::Drained { .. }
            | Seen::Closed { .. }
            | Seen::Fetched { .. }
            | Seen::Wake { .. }
            | Seen::Command
            | Seen::Settled
            | Seen::Dial { .. }
            | Seen::Close { .. }
            | Seen::Replace { .. }
            | Seen::Fetch { .. }
            | Seen::Fail { .. } => {}
        }
    }

    fn on_packet(
        &mut self,
        at: Instant,
        host: HostId,
        (conn, packet, leaves): (ConnId, &Packet, bool),
        seen: &Seen,
    ) {
        let concerns = match packet {
            Packet::Command(command) => {
                let key = (conn, command.opaque);
                let log = self.hosts.entry(host).or_default();
                if command.is_response() {
                    log.asked.remove(&key) || self.subjects.are_in(command)
                } else {
                    let carries = self.subjects.are_in(command);
                    if carries {
                        log.asked.insert(key);
                    }
                    if carries && !leaves && host == self.checkers.setup().cast.master {
                        log.has.extend(&self.subjects.logs);
                    }
                    carries
                }
            }
            Packet::HaBlock { offset, body } => {
                let within = |place: &&u64| (*offset..*offset + body.len() as u64).contains(*place);
                let places: Vec<u64> = self.subjects.logs.iter().filter(within).copied().collect();
                if !leaves {
                    self.hosts.entry(host).or_default().has.extend(&places);
                }
                !places.is_empty()
            }
            Packet::HaReport { offset } => {
                let log = self.hosts.entry(host).or_default();
                let covered = self.subjects.logs.iter().filter(|place| !leaves && **place < *offset);
                // Later reports of the slave say the same.
                covered.filter(|place| log.reported.insert((conn, **place))).count() > 0
            }
        };
        if concerns {
            let mut words = String::new();
            describe(seen, &mut words);
            self.step(at, host, words);
        }
    }

    fn on_sync(&mut self, at: Instant, host: HostId, id: SyncId, path: &str) {
        let segment_bytes = self.checkers.setup().segment_bytes;
        let Some(segment) = path.strip_prefix("commitlog/").and_then(|name| name.parse::<u64>().ok()) else {
            return;
        };
        let log = self.hosts.entry(host).or_default();
        if log.is_recovering {
            return;
        }
        let lies_there = |place: &&u64| (segment..segment + segment_bytes).contains(*place);
        let Some(place) =
            log.has.iter().find(|place| lies_there(place) && !log.synced.contains(*place)).copied()
        else {
            return;
        };
        log.syncing.insert(id, place);
        self.step(at, host, format!("asks for the sync of its log at {place}"));
    }

    /// Where subjects lie, as soon as their broker vouches for them.
    fn learn_places(&mut self, at: Instant, host: HostId) {
        for message in &self.subjects.messages {
            let Some((queue, offset)) = self.checkers.ledger().place(*message) else { continue };
            let Some(promise) = self.checkers.ledger().promise(queue, offset) else { continue };
            let is_now = promise.message == *message && promise.at == at;
            if host != self.checkers.setup().cast.master || !is_now || !self.vouched.insert(*message) {
                continue;
            }
            self.subjects.logs.insert(promise.physical);
            self.hosts.entry(host).or_default().has.insert(promise.physical);
            let what =
                format!("vouches for {message:?}: {queue:?} offset {offset}, log {}", promise.physical);
            self.step(at, host, what);
        }
    }

    /// A log that ends before a place which it had has lost it.
    fn on_recovered(&mut self, at: Instant, host: HostId, line: &str) {
        let Some(end) = line
            .strip_prefix("commit log recovered")
            .and_then(|fields| fields.split_once("to="))
            .and_then(|(_, end)| end.split_whitespace().next()?.parse::<u64>().ok())
        else {
            return;
        };
        let log = self.hosts.entry(host).or_default();
        log.is_recovering = false;
        let lost: Vec<u64> = log.has.iter().filter(|place| **place >= end).copied().collect();
        for place in lost {
            log.has.remove(&place);
            let synced =
                if log.synced.remove(&place) { "a sync had covered it" } else { "no sync had covered it" };
            let mut what = format!(
                "{} has lost log {place}: at {} its log ends at {end}; {synced}",
                NAMES.get(host.0).copied().unwrap_or("a host"),
                secs(at)
            );
            if let Some((died, cause)) = log.died {
                let _ = write!(what, "; {cause} at {}", secs(died));
            }
            self.kept.borrow_mut().losses.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_core::wire::Ext;

    use crate::check::Flush;
    use crate::fault::FaultKind;
    use crate::scenario::{SKELETON, Scenario};

    #[test]
    fn subjects_are_read_from_the_words_of_a_checker() {
        let what = "m12.3 was vouched for at 4.100 s as topic-0/1 offset 7, log 910; nothing is there (power losses: [])";
        assert_eq!(Subjects::read(what).names(), ["m12.3", "topic-0/1 offset 7", "log 910"]);
        let subjects = Subjects::read("m1.0 came twice");
        assert!(subjects.are_named_in("Delivered { message: Some(m1.0) }"));
        assert!(!subjects.are_named_in("Delivered { message: Some(m1.01) }"), "another message");
        let carries = |body: &[u8]| {
            let command = Command { body: body.to_vec().into(), ..Command::request(10, Ext::default()) };
            subjects.are_in(&command)
        };
        let key = MessageId { message: 1, attempt: 0 }.properties();
        assert!(carries(key.as_bytes()) && !carries(b"UNIQ_KEY\x01m000001.00001\x02"));
    }

    /// Under asynchronous flush the power takes what was acknowledged, which is nobody's violation; the story is the same.
    #[test]
    fn a_story_goes_from_the_sending_to_the_loss() {
        let scenario = Scenario::parse(SKELETON).expect("it is shipped");
        let is_fit = |plan: &Plan| {
            plan.flush == Flush::Async
                && plan.faults.iter().any(|entry| entry.fault.kind() == FaultKind::PowerLoss)
        };
        let story = (0..2000).map(|seed| Plan::draw(&scenario, seed)).filter(is_fit).find_map(|plan| {
            let (_, kept) = chronicle(&plan, Subjects::default());
            let (queue, offset, _) =
                kept.promises.iter().find(|(_, _, promise)| promise.excused.is_some())?;
            let mut subjects =
                Subjects { places: BTreeSet::from([(*queue, *offset)]), ..Subjects::default() };
            subjects.complete(&kept.promises);
            // The answer may have been lost too, and the sender has sent again.
            let is_answered = |story: &Story| story.steps.iter().any(|step| step.what.contains("SUCCESS"));
            Some(tell(&plan, subjects)).filter(|story| !story.losses.is_empty() && is_answered(story))
        });
        let story = story.expect("some power loss takes something");
        let place_of = |needle: &str| {
            let at = story.steps.iter().position(|step| step.what.contains(needle));
            at.unwrap_or_else(|| panic!("{needle}: {:#?}", story.steps))
        };
        let last_recovery = story.steps.iter().rposition(|step| step.what.contains("commit log recovered"));
        let chain = ["SendBegun", " SEND_", "vouches for", "SUCCESS"].map(place_of);
        assert!(chain.is_sorted() && last_recovery > Some(chain[3]), "{chain:?}: {:#?}", story.steps);
        assert!(
            story.losses[0].contains("no sync had covered it; its power failed at"),
            "{:?}",
            story.losses
        );
    }
}
