//! Verifies, at the master's own door, of topics that are deleted and made again: from the moment when a deletion is
//! acknowledged, nothing that was sent to the topic before the deletion was asked for is handed out to who asks from then on, by a
//! pull, by a key or by its place, whatever dies (who asked before may get either); nothing that was never sent is handed out; and a topic that is made again begins at offset 0: an
//! acknowledgement names no higher offset than there are messages of this life that may lie before it. In the end a slave that has
//! its master's log has the same offsets in the queues of those topics.
//!
//! Does not verify: what slaves hand out meanwhile (they hear of a deletion ten seconds later); that what was acknowledged in a life
//! is there ([`super::administration`] does).

use std::collections::BTreeMap;

use gantry_core::broker::Broker;
use gantry_core::io::ConnId;
use gantry_core::wire::Command;

use super::told::RequestKey;
use super::{Checker, Cx, Verdict, stuck_because, unsafe_because};
use crate::history::MessageId;
use crate::workload::manager::{self, NAMES, QUEUES_MAX};
use crate::workload::record;
use crate::workload::requests::{code, reply, reply_number};
use crate::world::{Fact, Violation};

const NAME: &str = "lives";

#[derive(Debug)]
enum Pending {
    Send(MessageId),
    Delete {
        topic: String,
        taken: u64,
    },
    /// Asked for when so many requests were taken.
    Read(u64),
}

#[derive(Debug)]
struct Sent {
    topic: String,
    queue: i32,
    taken: u64,
    refused: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Lives {
    pending: BTreeMap<RequestKey, Pending>,
    /// Requests taken so far.
    taken: u64,
    sent: BTreeMap<MessageId, Sent>,
    /// By topic, its deletions: how many requests were taken when it was acknowledged, and before which one all is of an
    /// earlier life.
    begins: BTreeMap<String, Vec<(u64, u64)>>,
    looked: u64,
}

/// One of the topics in question.
fn topic_of(command: &Command, field: &str) -> Option<String> {
    let topic = command.ext.get(field)?;
    topic.starts_with("made-").then(|| topic.into_owned())
}

impl Lives {
    /// Where the life of a topic begins for a request.
    fn begin_for(&self, topic: &str, asked: u64) -> u64 {
        let deletions = self.begins.get(topic).into_iter().flatten();
        deletions
            .filter(|(acknowledged, _)| *acknowledged < asked)
            .map(|(_, begin)| *begin)
            .max()
            .unwrap_or(0)
    }

    fn on_request(&mut self, conn: ConnId, command: &Command) {
        self.taken += 1;
        let taken = self.taken;
        let pending = match command.code {
            code::SEND_MESSAGE_V2 => {
                let (Some(topic), Some(id)) = (topic_of(command, "b"), MessageId::from_body(&command.body))
                else {
                    return;
                };
                let queue = command.ext.get("e").and_then(|id| id.parse().ok()).unwrap_or(-1);
                self.sent.insert(id, Sent { topic, queue, taken, refused: false });
                Pending::Send(id)
            }
            code::DELETE_TOPIC_IN_BROKER => {
                let Some(topic) = topic_of(command, "topic") else { return };
                Pending::Delete { topic, taken }
            }
            code::PULL_MESSAGE | code::QUERY_MESSAGE | code::VIEW_MESSAGE_BY_ID => Pending::Read(taken),
            _ => return,
        };
        self.pending.insert(RequestKey { conn, opaque: command.opaque }, pending);
    }

    fn on_answer(&mut self, conn: ConnId, command: &Command) -> Verdict {
        let is_done = command.code == reply::SUCCESS;
        match self.pending.remove(&RequestKey { conn, opaque: command.opaque }) {
            Some(Pending::Send(id)) if is_done => self.on_stored(id, command),
            Some(Pending::Send(id)) => {
                let not_stored = [
                    reply::SERVICE_NOT_AVAILABLE,
                    reply::TOPIC_NOT_EXIST,
                    reply::NO_PERMISSION,
                    reply::SYSTEM_BUSY,
                    reply::MESSAGE_ILLEGAL,
                ];
                if let Some(sent) = self.sent.get_mut(&id) {
                    sent.refused = not_stored.contains(&command.code);
                }
                Ok(())
            }
            Some(Pending::Delete { topic, taken }) if is_done => {
                self.begins.entry(topic).or_default().push((self.taken, taken));
                Ok(())
            }
            Some(Pending::Read(asked)) if is_done => self.on_read(asked, command),
            Some(Pending::Delete { .. } | Pending::Read(_)) | None => Ok(()),
        }
    }

    fn on_stored(&mut self, id: MessageId, command: &Command) -> Verdict {
        let (Some(sent), Some(offset)) = (self.sent.get(&id), reply_number(command, "queueOffset")) else {
            return Ok(());
        };
        let begins = self.begin_for(&sent.topic, u64::MAX);
        let may_lie_before = self.sent.iter().filter(|(other, of)| {
            let is_here = of.topic == sent.topic && of.queue == sent.queue && of.taken >= begins;
            **other != id && is_here && !of.refused
        });
        let most = may_lie_before.count() as i64;
        self.looked += 1;
        if offset > most {
            let what = format!(
                "{id:?} was acknowledged in {}/{} at offset {offset}, and at most {most} were sent there since the topic began anew",
                sent.topic, sent.queue
            );
            return unsafe_because(NAME, what);
        }
        Ok(())
    }

    fn on_read(&mut self, asked: u64, command: &Command) -> Verdict {
        let Some(records) = record::split(&command.body) else { return Ok(()) };
        for record in records.iter().filter(|record| record.topic.starts_with(b"made-")) {
            self.looked += 1;
            let topic = String::from_utf8_lossy(record.topic);
            let at = format!(
                "{topic}/{} offset {} at log {}",
                record.queue_id, record.queue_offset, record.physical_offset
            );
            let id = record.message();
            let Some((id, sent)) = id.and_then(|id| Some((id, self.sent.get(&id)?))) else {
                return unsafe_because(NAME, format!("{at} holds {id:?}, which was never sent"));
            };
            if sent.taken < self.begin_for(&topic, asked) {
                return unsafe_because(
                    NAME,
                    format!("{at} holds {id:?}, which was sent before the topic was deleted"),
                );
            }
        }
        Ok(())
    }
}

impl Checker for Lives {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if let Fact::Died(_) = fact {
            self.pending.clear();
        }
        if let Some((conn, command)) = fact.asked() {
            self.on_request(conn, command);
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

/// How many queues of those topics master and slave have alike, in the end.
///
/// # Errors
/// The first difference.
pub fn compare(master: &Broker, slave: &Broker) -> Result<u64, Violation> {
    let (master, slave) = (master.store(), slave.store());
    // One that lost its master or what it was to copy is judged elsewhere.
    if !master.is_ready() || !slave.is_ready() || master.log_end() != slave.log_end() {
        return Ok(0);
    }
    let mut same = 0;
    for number in 0..NAMES as u8 {
        for queue in 0..QUEUES_MAX as i32 {
            let topic = manager::topic(number);
            let [here, there] = [master, slave]
                .map(|store| store.find_queue(&topic, queue).map_or(0, |queue| store.max_offset(queue)));
            if here != there {
                let what =
                    format!("{topic}/{queue} ends at {here} at the master and at {there} at its slave");
                stuck_because(NAME, what)?;
            }
            same += u64::from(here > 0);
        }
    }
    Ok(same)
}
