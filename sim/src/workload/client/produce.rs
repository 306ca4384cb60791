//! What an application sends, and what it does when that fails: it tries again, under another id, as long as its world lasts.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gantry_core::client::{Message, Receipt, RequestId, Send, SendError, SendStatus, Target};
use gantry_core::io::Now;
use gantry_core::time::{Duration, Instant};

use super::plan::{tag_of, topic_of};
use super::{AppEnv, AppPlan, ClientReport, FleetSend, SendEnd, Way, tell};
use crate::history::MessageId;

/// Before another try.
const AGAIN: Duration = Duration::from_secs(2);
/// Tries of the application, each of which the machine tries several times.
const TRIES_MAX: u32 = 1_000;
const BODY_BYTES: usize = 60;

#[derive(Clone, Debug)]
struct Job {
    send: FleetSend,
    attempt: u32,
    not_before: Instant,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sends {
    plan: Rc<AppPlan>,
    origin: Instant,
    next: usize,
    waiting: VecDeque<Job>,
    under_way: BTreeMap<RequestId, Job>,
    next_id: u64,
    given_up: u32,
    has_told: bool,
}

impl Sends {
    /// Of a life that begins `at` after the world did, and leaves out what was due before.
    pub(super) fn new(plan: Rc<AppPlan>, at: Duration, origin: Instant) -> Sends {
        let at_ns = at.as_nanos() as u64;
        Sends {
            next: plan.sends.partition_point(|send| send.at_ns < at_ns),
            plan,
            origin,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            next_id: 1,
            given_up: 0,
            has_told: false,
        }
    }

    fn planned(&self) -> Option<Instant> {
        self.plan.sends.get(self.next).map(|send| self.origin + Duration::from_nanos(send.at_ns))
    }

    /// The next send that is due.
    pub(super) fn due(&mut self, now: Now, env: &mut AppEnv<'_>) -> Option<Send> {
        while self.planned().is_some_and(|at| at <= now.mono) {
            let send = self.plan.sends[self.next].clone();
            self.waiting.push_back(Job { send, attempt: 0, not_before: now.mono });
            self.next += 1;
        }
        let is_idle = self.waiting.is_empty() && self.under_way.is_empty();
        if is_idle && self.planned().is_none() && !self.has_told && !self.plan.sends.is_empty() {
            self.has_told = true;
            tell(env, ClientReport::AllSent { given_up: self.given_up });
        }
        let at = self.waiting.iter().position(|job| job.not_before <= now.mono)?;
        let job = self.waiting.remove(at)?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let send = build(id, &job);
        let messages = ids(&job).collect();
        tell(env, ClientReport::SendBegun { send: id.0, topic: topic_of(job.send.topic), messages });
        self.under_way.insert(id, job);
        Some(send)
    }

    /// The machine says how a send ended.
    pub(super) fn on_sent(
        &mut self,
        now: Now,
        id: RequestId,
        result: Result<Vec<Receipt>, SendError>,
        env: &mut AppEnv<'_>,
    ) {
        let Some(job) = self.under_way.remove(&id) else { return };
        let how = match result {
            Ok(receipts) if receipts.iter().all(|receipt| receipt.status == SendStatus::Ok) => SendEnd::Ok(
                receipts.into_iter().map(|receipt| (receipt.queue, receipt.queue_offset)).collect(),
            ),
            Ok(_) => SendEnd::Weak,
            Err(error) if error.may_be_stored() => SendEnd::Unknown(error.to_string()),
            Err(error) => SendEnd::Refused(error.to_string()),
        };
        if !how.is_stored() {
            if job.attempt + 1 < TRIES_MAX {
                let not_before = now.mono + AGAIN;
                self.waiting.push_back(Job { attempt: job.attempt + 1, not_before, ..job });
            } else {
                self.given_up += 1;
            }
        }
        tell(env, ClientReport::SendEnded { send: id.0, how });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|job| job.not_before).chain(self.planned()).min()
    }
}

fn ids(job: &Job) -> impl Iterator<Item = MessageId> {
    let attempt = job.attempt;
    (job.send.first..job.send.first + job.send.way.count()).map(move |message| MessageId { message, attempt })
}

fn build(id: RequestId, job: &Job) -> Send {
    let topic = topic_of(job.send.topic);
    let message = |id: MessageId| {
        let message = Message::new(topic.clone(), id.body(BODY_BYTES)).with_tag(tag_of(id.message));
        match job.send.way {
            Way::Delay(level) => message.with_delay_level(level),
            Way::RoundRobin | Way::Random | Way::Key(_) | Way::Batch(_) => message,
        }
    };
    let target = match job.send.way {
        Way::RoundRobin | Way::Batch(_) | Way::Delay(_) => Target::RoundRobin,
        Way::Random => Target::Random,
        Way::Key(key) => Target::Hash(format!("key-{key}")),
    };
    Send { id, messages: ids(job).map(message).collect(), target, oneway: false, timeout: None }
}
