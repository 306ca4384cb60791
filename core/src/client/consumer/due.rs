//! When a consumer has something to do next. What is named here must be done when it comes: a deadline that stays in the past is
//! a busy loop.

use super::*;

impl Consumer {
    pub(in super::super) fn deadline(&self) -> Option<Instant> {
        if self.is_stopped {
            return None;
        }
        let needs_lock = self.needs_lock();
        let never = Instant::from_nanos(u64::MAX);
        let mut due = if self.is_asking_members { never } else { self.rebalance_at };
        if needs_lock && !self.lanes.is_empty() {
            due = due.min(self.lock_at);
        }
        if self.has_progressed {
            due = due.min(self.commit_at);
        }
        for (queue, lane) in &self.lanes {
            let is_paused = self.paused.contains(queue);
            // Who is idle has nothing to commit, and need not be called for it; who commits by hand, neither.
            if self.config.auto_commit && self.commit_at < due && lane.has_news() {
                due = self.commit_at;
            }
            if let Doing::Nothing(at) = lane.doing
                && (!needs_lock || lane.locked_until.is_some_and(|until| until > at))
                && !lane.is_full(&self.config)
                && !is_paused
            {
                due = due.min(at);
            }
            let parked_until = lane.parked_until();
            due = due.min(parked_until.unwrap_or(due));
            // What is parked comes first: until then there is nothing to do, and a deadline that has passed would be a busy loop.
            if self.config.orderly
                && !is_paused
                && parked_until.is_none()
                && lane.has_waiting()
                && lane.is_all_here()
                && !self.is_held(queue)
                && self.out.len() < self.config.deliveries_max
                && (!needs_lock || lane.locked_until.is_some_and(|until| until > lane.paused_until))
            {
                due = due.min(lane.paused_until);
            }
        }
        if !self.config.orderly {
            // Handed out in the order of their numbers.
            let oldest = self.out.values().next().map(|out| out.since + self.config.consume_timeout);
            due = due.min(oldest.unwrap_or(due));
        }
        (due != never).then_some(due)
    }
}
