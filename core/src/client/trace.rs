//! Message trace: who sent and who consumed which message, when, and how it went, as messages of a topic that RocketMQ's tools
//! read (`RMQ_SYS_TRACE_TOPIC`, `mqadmin queryMsgTraceById`).
//!
//! What a producer and a consumer note is gathered here and sent by a producer of its own, which nobody traces: ten notes a message
//! or what there is after five seconds, as RocketMQ's clients do. A trace never holds up what it is about: what does not fit
//! ([`WAITING_MAX`]) is dropped, and a trace that cannot be sent is lost.
//!
//! Text of a note: its fields in a fixed order, set apart by byte 1, and byte 2 behind the last
//! (`TraceDataEncoder.encoderFromContextBean`).

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use super::calls::Outcome;
use super::id::{MessageIds, Origin};
use super::message::{Message, Received, property};
use super::producer::{JobId, Producer, ProducerConfig, Resolution, Send, Target, Tools};
use super::{ClientEvent, RequestId, SendError, Tag};
use crate::io::{Disk, Effect, Env};
use crate::time::{Duration, Instant, WallMs};

/// The topic of traces (`traceTopicName`).
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Its producer's group, to which RocketMQ adds the traced group.
const GROUP: &str = "_INNER_TRACE_PRODUCER";
/// Notes of a message (`traceMsgBatchNum`).
const BATCH: usize = 10;
/// How long a note waits for others.
const DELAY: Duration = Duration::from_secs(5);
/// Notes that wait at most; further ones are dropped.
const WAITING_MAX: usize = 2048;
/// Messages of traces under way at most; meanwhile notes wait.
const UNDER_WAY_MAX: usize = 32;
/// What a region is called that has no name.
const REGION: &str = "DefaultRegion";

/// That a client traces, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceConfig {
    /// The topic, [`TRACE_TOPIC`] unless another is wanted. It must be there, or brokers must make topics by themselves.
    pub topic: String,
    /// Goes into the ids of the traces' messages: another one than that of the client's own.
    pub origin: Origin,
}

/// One note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    text: String,
    /// By which it is found: the message's id and keys.
    keys: Vec<String>,
}

/// What kind of message was sent (`MessageType`).
#[derive(Clone, Copy)]
enum Kind {
    Normal = 0,
    Half = 1,
    Commit = 2,
    Delayed = 3,
}

fn line(fields: &[&dyn Display]) -> String {
    let mut text = String::with_capacity(160);
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            text.push('\u{1}');
        }
        text.push_str(&field.to_string());
    }
    text.push('\u{2}');
    text
}

fn keys(id: &str, keys: &str) -> Vec<String> {
    let more = keys.split(' ').filter(|key| !key.is_empty()).map(ToString::to_string);
    core::iter::once(id.to_string()).chain(more).collect()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Of a try that a broker answered with success.
pub(super) struct Sent<'a> {
    pub(super) group: &'a str,
    pub(super) message: &'a Message,
    pub(super) offset_id: &'a str,
    pub(super) broker: &'a str,
    pub(super) region: Option<&'a str>,
    pub(super) now: WallMs,
    pub(super) cost: Duration,
}

impl Note {
    pub(super) fn sent(sent: &Sent<'_>) -> Note {
        let message = sent.message;
        let text = |name: &str| message.property(name).unwrap_or_default();
        let is_delayed = super::producer::is_delayed(message);
        let kind = match message.property(property::TRANSACTION_PREPARED) {
            Some(_) => Kind::Half,
            None if is_delayed => Kind::Delayed,
            None => Kind::Normal,
        };
        let (id, all) = (text(property::UNIQ_KEY), text(property::KEYS));
        let cost = millis(sent.cost);
        Note {
            text: line(&[
                &"Pub",
                &(sent.now.0 - cost),
                &sent.region.unwrap_or(REGION),
                &sent.group,
                &message.topic,
                &id,
                &text(property::TAGS),
                &all,
                &sent.broker,
                &message.body.len(),
                &cost,
                &(kind as i32),
                &sent.offset_id,
                &true,
            ]),
            keys: keys(id, all),
        }
    }

    /// Of the end of a transaction. Neither tags nor keys of its message are known by then.
    pub(super) fn ended(
        now: WallMs,
        group: &str,
        (topic, id): (&str, &str),
        broker: &str,
        (resolution, is_checked): (Resolution, bool),
    ) -> Note {
        let state = match resolution {
            Resolution::Commit => "COMMIT_MESSAGE",
            Resolution::RollBack => "ROLLBACK_MESSAGE",
            Resolution::Unknown => "UNKNOW",
        };
        let text = line(&[
            &"EndTransaction",
            &now.0,
            &REGION,
            &group,
            &topic,
            &id,
            &"",
            &"",
            &broker,
            &(Kind::Commit as i32),
            &id,
            &state,
            &is_checked,
        ]);
        Note { text, keys: keys(id, "") }
    }

    /// Of a message that goes to the application; none when its broker wants none.
    pub(super) fn consuming(now: WallMs, group: &str, delivery: &str, message: &Received) -> Option<Note> {
        if message.property(property::TRACE_ON) == Some("false") {
            return None;
        }
        let all = message.property(property::KEYS).unwrap_or_default();
        let id = message.id();
        // Readers drop an empty last field, and miss it then: RocketMQ's clients write the word too.
        let last = if all.is_empty() { "null" } else { all };
        let region = message.property(property::MSG_REGION).unwrap_or(REGION);
        let text =
            line(&[&"SubBefore", &now.0, &region, &group, &delivery, &id, &message.reconsume_times, &last]);
        Some(Note { text, keys: keys(&id, all) })
    }

    /// Of a message that the application is done with.
    pub(super) fn consumed(
        now: WallMs,
        group: &str,
        delivery: &str,
        message: &Received,
        (how, cost): (Consumed, Duration),
    ) -> Option<Note> {
        if message.property(property::TRACE_ON) == Some("false") {
            return None;
        }
        let all = message.property(property::KEYS).unwrap_or_default();
        let id = message.id();
        let is_done = matches!(how, Consumed::Done);
        let cost = millis(cost);
        let text = line(&[&"SubAfter", &delivery, &id, &cost, &is_done, &all, &(how as i32), &now.0, &group]);
        Some(Note { text, keys: keys(&id, all) })
    }
}

/// How the application was done with a message (`ConsumeReturnType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Consumed {
    Done = 0,
    TimedOut = 1,
    Later = 4,
}

/// Gathers notes and sends them.
#[derive(Debug)]
pub(super) struct Tracer {
    topic: String,
    producer: Producer,
    waiting: VecDeque<Note>,
    /// When the oldest of them leaves.
    leaves: Option<Instant>,
    has_dropped: bool,
}

impl Tracer {
    pub(super) fn new(config: &TraceConfig, traced_group: &str) -> Tracer {
        let producer = ProducerConfig::new(format!("{GROUP}-{traced_group}"));
        Tracer {
            topic: config.topic.clone(),
            producer: Producer::unheard(producer, MessageIds::new(config.origin), Tag::Trace),
            waiting: VecDeque::new(),
            leaves: None,
            has_dropped: false,
        }
    }

    /// Takes notes. One about a trace is passed over: somebody may consume them.
    pub(super) fn take<D>(&mut self, notes: Vec<Note>, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        for note in notes {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(note);
                self.leaves.get_or_insert(tools.now.mono + DELAY);
            } else if !core::mem::replace(&mut self.has_dropped, true) {
                let problem = format!("traces to {} do not leave, and further ones are dropped", self.topic);
                tools.env.out.push(Effect::Emit(ClientEvent::Problem(problem)));
            }
        }
    }

    /// Sends what is due: all there is, if nothing more will come.
    pub(super) fn settle<D: Disk>(&mut self, is_last: bool, tools: &mut Tools<'_, '_, D, ClientEvent>) {
        let is_due = self.leaves.is_some_and(|at| at <= tools.now.mono) || is_last;
        while (self.waiting.len() >= BATCH || (is_due && !self.waiting.is_empty()))
            && self.producer.under_way() < UNDER_WAY_MAX
        {
            let count = self.waiting.len().min(BATCH);
            let batch: Vec<Note> = self.waiting.drain(..count).collect();
            let body: String = batch.iter().map(|note| note.text.as_str()).collect();
            let mut keys: Vec<String> = batch.into_iter().flat_map(|note| note.keys).collect();
            keys.sort();
            keys.dedup();
            let message =
                Message::new(self.topic.as_str(), body).with_property(property::KEYS, keys.join(" "));
            // Nobody is told what becomes of it.
            let (id, messages, target) = (RequestId(0), Vec::from([message]), Target::RoundRobin);
            self.producer.on_send(Send { id, messages, target, oneway: false, timeout: None }, tools);
        }
        if self.waiting.is_empty() {
            self.leaves = None;
            self.has_dropped = false;
        }
        self.producer.settle(tools);
    }

    pub(super) fn on_outcome<D: Disk>(
        &mut self,
        id: JobId,
        outcome: Outcome,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) {
        self.producer.on_outcome(id, outcome, tools);
    }

    /// Where the topic of traces is cannot be found out now: what was to leave is lost.
    pub(super) fn on_no_route<D: Disk>(
        &mut self,
        topic: &str,
        error: &SendError,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        self.producer.on_no_route(topic, error, env);
    }

    /// Whether all has left.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.producer.is_idle()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let leaves = self.leaves.filter(|_| self.producer.under_way() < UNDER_WAY_MAX);
        leaves.into_iter().chain(self.producer.deadline()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_as_rocketmq_writes_them() {
        let message = Message::new("T", "body").with_tag("t").with_key("k").with_key("l");
        let message = message.with_property(property::UNIQ_KEY, "ID");
        let sent = Sent {
            group: "P",
            message: &message,
            offset_id: "OFFSET",
            broker: "127.0.0.1:10911",
            region: None,
            now: WallMs(1_700_000_000_007),
            cost: Duration::from_millis(7),
        };
        let note = Note::sent(&sent);
        let expect = "Pub|1700000000000|DefaultRegion|P|T|ID|t|k l|127.0.0.1:10911|4|7|0|OFFSET|true;";
        assert_eq!(note.text.replace('\u{1}', "|").replace('\u{2}', ";"), expect);
        assert_eq!(note.keys, ["ID", "k", "l"]);
        let note = Note::ended(WallMs(9), "P", ("T", "ID"), "b:1", (Resolution::RollBack, true));
        let expect = "EndTransaction|9|DefaultRegion|P|T|ID|||b:1|2|ID|ROLLBACK_MESSAGE|true;";
        assert_eq!(note.text.replace('\u{1}', "|").replace('\u{2}', ";"), expect);
    }
}
