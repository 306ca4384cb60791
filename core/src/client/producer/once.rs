//! Sending so that each message is stored once ([`super::ProducerConfig::idempotent`]).
//!
//! Every send names its producer, and an attempt after an unknown outcome says so; a Gantry broker then looks whether the message is
//! there and answers as it would have. So an unknown outcome is tried again at the same broker first, also while that restarts, and
//! only the last third of the time belongs to the others, who cannot know. A queue that the application chose has no others.
//!
//! A broker that did not say that it honours this is RocketMQ's, or has no key index: with it everything is as without.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{Job, JobId, PAUSE, Producer, State, Tools, request};
use crate::client::ClientEvent;
use crate::client::message::{Message, property};
use crate::client::route::MASTER_ID;
use crate::io::Disk;
use crate::time::{Duration, Instant};
use crate::wire::request::SendMessageReceipt;

/// Tries at a broker that comes back are at most so far apart.
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// The share of a send's time that other brokers keep.
const OTHERS: u32 = 3;

/// Where an attempt has an unknown outcome.
#[derive(Debug)]
pub(super) struct Bound {
    address: Arc<str>,
    /// Until then no other broker is tried.
    until: Instant,
    pause: Duration,
}

/// What a producer knows for it.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// Tells this life of the producer from all others.
    name: String,
    /// Brokers that do not do it.
    plain: BTreeSet<String>,
}

impl Once {
    pub(super) fn begin(&mut self, draw: u64) {
        self.name = format!("{draw:016x}");
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A broker has stored a message.
    pub(super) fn on_stored(&mut self, broker: &str, receipt: Option<&SendMessageReceipt>) {
        if receipt.is_some_and(|receipt| receipt.once == Some(true)) {
            self.plain.remove(broker);
        } else {
            self.plain.insert(broker.to_string());
        }
    }

    /// The outcome of a job's try is unknown.
    pub(super) fn on_lost(&self, job: &mut Job, broker: &str) {
        let Some(address) = &job.address else { return };
        if job.is_once && job.bound.is_none() && !self.plain.contains(broker) {
            let until =
                if job.has_other { job.begun + job.timeout * (OTHERS - 1) / OTHERS } else { job.deadline };
            job.bound = Some(Bound { address: address.clone(), until, pause: PAUSE });
        }
    }
}

/// Whether a message can be stored once: not a reply, which goes at once, nor a half message, which is ended by its place.
pub(super) fn is_fit(message: &Message) -> bool {
    let is_half = message.property(property::TRANSACTION_PREPARED) == Some("true");
    !message.is_reply() && !is_half && !message.topic.starts_with("%RETRY%")
}

impl Job {
    /// When to try the same broker again, while it must be that one.
    pub(super) fn next_try_there(&mut self, now: Instant) -> Option<Instant> {
        let bound = self.bound.as_mut()?;
        let at = now + bound.pause;
        bound.pause = (bound.pause * 2).min(PAUSE_MAX);
        (at < bound.until).then_some(at)
    }
}

impl Producer {
    /// Tries the broker again that may have stored it; false when another one may be tried.
    pub(super) fn attempt_there<D: Disk>(
        &mut self,
        id: JobId,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) -> bool {
        let now = tools.now.mono;
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let (Some(bound), Some(queue)) = (&job.bound, &job.queue) else { return false };
        if bound.until <= now {
            return false;
        }
        // A slave that took its place has its log.
        let address = tools.routes.address(&queue.broker_name, MASTER_ID).unwrap_or(&bound.address).clone();
        let share = bound.until.since(now);
        let command = request(&self.config.group, &self.once, job, queue, tools.now);
        job.tried_at = now;
        job.state = State::Broker;
        tools.calls.call(tools.now, &address, command, share, (self.tag)(id), tools.env);
        true
    }
}
