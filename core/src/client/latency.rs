//! Which brokers to leave alone for a while, after slow or failed sends (RocketMQ's `LatencyFaultTolerance`).

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::time::{Duration, Instant};

/// A send at least this slow (`latencyMax`, in ms) keeps its broker from being chosen for so long
/// (`notAvailableDuration`, in ms).
const LADDER_MS: [(u64, u64); 7] =
    [(50, 0), (100, 0), (550, 2000), (1800, 5000), (3000, 6000), (5000, 10_000), (15_000, 30_000)];

/// What a failed send counts as.
const FAILED: Duration = Duration::from_millis(10_000);

/// When each broker may be chosen again.
#[derive(Clone, Debug, Default)]
pub(super) struct LatencyTable {
    until: BTreeMap<String, Instant>,
}

impl LatencyTable {
    /// Takes note of a send; `None` for one that failed.
    pub(super) fn note(&mut self, now: Instant, broker: &str, latency: Option<Duration>) {
        let pause = pause(latency.unwrap_or(FAILED));
        self.until.insert(broker.into(), now + pause);
    }

    /// Whether to send to it.
    pub(super) fn is_available(&self, now: Instant, broker: &str) -> bool {
        self.until.get(broker).is_none_or(|until| *until <= now)
    }
}

fn pause(latency: Duration) -> Duration {
    let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    let step = LADDER_MS.iter().rev().find(|(at_least, _)| ms >= *at_least);
    Duration::from_millis(step.map_or(0, |(_, pause)| *pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_of_rocketmq() {
        for (latency, expect) in [
            (0, 0),
            (549, 0),
            (550, 2000),
            (1799, 2000),
            (1800, 5000),
            (3000, 6000),
            (5000, 10_000),
            (14_999, 10_000),
            (15_000, 30_000),
        ] {
            assert_eq!(pause(Duration::from_millis(latency)), Duration::from_millis(expect), "{latency}");
        }
    }

    #[test]
    fn a_broker_comes_back() {
        let mut table = LatencyTable::default();
        assert!(table.is_available(Instant::ZERO, "b"));
        table.note(Instant::ZERO, "b", None);
        assert!(!table.is_available(Instant::ZERO + Duration::from_millis(9_999), "b"));
        assert!(table.is_available(Instant::ZERO + Duration::from_secs(10), "b"));
        table.note(Instant::ZERO, "b", Some(Duration::from_millis(3)));
        assert!(table.is_available(Instant::ZERO, "b"));
    }
}
