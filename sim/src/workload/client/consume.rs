//! What an application does with deliveries: it holds each for a while, and then says that it is done or is to come again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use gantry_core::client::{Delivery, DeliveryId, Received, Verdict};
use gantry_core::io::Now;
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};

use super::{AppEnv, ClientReport, GroupPlan, Handed, tell};
use crate::history::MessageId;

/// Levels that an application asks for itself, now and then; 0 leaves it to the broker.
const LEVELS: u64 = 3;

#[derive(Debug)]
struct Held {
    due: Instant,
    verdict: Verdict,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Hands {
    group: Option<Rc<GroupPlan>>,
    rng: Rng,
    held: BTreeMap<DeliveryId, Held>,
}

impl Hands {
    pub(super) fn new(group: Option<Rc<GroupPlan>>, rng: Rng) -> Hands {
        Hands { group, rng, held: BTreeMap::new() }
    }

    pub(super) fn on_delivered(&mut self, now: Now, delivery: &Delivery, env: &mut AppEnv<'_>) {
        let Some(group) = &self.group else { return };
        let handed = |message: &Arc<Received>| Handed {
            id: MessageId::from_body(&message.body),
            offset: message.queue_offset,
            times: message.reconsume_times,
        };
        let messages: Vec<Handed> = delivery.messages.iter().map(handed).collect();
        let fails = |handed: &Handed| handed.id.is_some_and(|id| group.fails(id.message, handed.times));
        let verdict = match messages.iter().any(fails) {
            false => Verdict::Consumed,
            true if group.orderly || self.rng.one_in(2) => Verdict::Later(0),
            true => Verdict::Later(1 + self.rng.below(LEVELS) as i32),
        };
        let pace = &group.pace;
        let most = if self.rng.one_in(pace.slow_one_in) { pace.slow } else { pace.usual };
        let due = now.mono + Duration::from_nanos(self.rng.below(most.as_nanos() as u64 + 1));
        self.held.insert(delivery.id, Held { due, verdict });
        let queue = delivery.messages.first().map(|message| message.queue.clone()).unwrap_or_default();
        tell(env, ClientReport::Delivered { delivery: delivery.id, queue, messages });
    }

    /// The next delivery that the application is done with.
    pub(super) fn due(&mut self, now: Now, env: &mut AppEnv<'_>) -> Option<(DeliveryId, Verdict)> {
        let delivery = self.held.iter().find(|(_, held)| held.due <= now.mono).map(|(id, _)| *id)?;
        let held = self.held.remove(&delivery)?;
        let consumed = held.verdict == Verdict::Consumed;
        tell(env, ClientReport::Settled { delivery, consumed });
        Some((delivery, held.verdict))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|held| held.due).min()
    }
}
