//! Figures: how many messages and bytes went in and out, over the last minute, hour and day.
//!
//! A counter is read at each client scan (every 10 s) and keeps a few readings; a rate is the difference of the newest and the
//! oldest of them, as in RocketMQ's `StatsItem`. Nothing wakes the broker for figures alone.

use alloc::collections::{BTreeMap, VecDeque};

use super::offset::Pair;
use crate::time::{Duration, Instant};
use crate::wire::body::{BrokerStatsData, BrokerStatsItem};

/// A series of readings: so many, so far apart.
#[derive(Clone, Copy, Debug)]
struct Series {
    readings_max: usize,
    interval: Duration,
}

/// RocketMQ's: seven readings 10 s apart, seven 10 min apart, twenty-five an hour apart.
const SERIES: [Series; 3] = [
    Series { readings_max: 7, interval: Duration::from_secs(10) },
    Series { readings_max: 7, interval: Duration::from_secs(600) },
    Series { readings_max: 25, interval: Duration::from_secs(3600) },
];

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    sum: u64,
    times: u64,
}

/// What is counted, and readings of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    sum: u64,
    times: u64,
    series: [VecDeque<Reading>; 3],
}

impl Counter {
    /// Counts one event that adds so much.
    pub(super) fn add(&mut self, amount: u64) {
        self.sum += amount;
        self.times += 1;
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    fn read(&mut self, now: Instant) {
        let reading = Reading { at: now, sum: self.sum, times: self.times };
        for (series, readings) in SERIES.iter().zip(&mut self.series) {
            if readings.is_empty() {
                // As RocketMQ does: what came before the first reading counts, as if it had begun one interval ago.
                let ago = u64::try_from(series.interval.as_nanos()).unwrap_or(u64::MAX);
                let at = Instant::from_nanos(now.as_nanos().saturating_sub(ago));
                readings.push_back(Reading { at, sum: 0, times: 0 });
                readings.push_back(reading);
                continue;
            }
            if readings
                .back()
                .is_some_and(|last| now.since(last.at) + Duration::from_secs(1) < series.interval)
            {
                continue;
            }
            if readings.len() == series.readings_max {
                readings.pop_front();
            }
            readings.push_back(reading);
        }
    }

    fn item(readings: &VecDeque<Reading>) -> BrokerStatsItem {
        let (Some(first), Some(last)) = (readings.front(), readings.back()) else {
            return BrokerStatsItem::default();
        };
        let (sum, times) = (last.sum - first.sum, last.times - first.times);
        let millis = last.at.since(first.at).as_millis() as f64;
        BrokerStatsItem {
            avgpt: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
            sum: sum as i64,
            tps: if millis > 0.0 { sum as f64 * 1000.0 / millis } else { 0.0 },
        }
    }

    /// The answer to VIEW_BROKER_STATS_DATA.
    pub(super) fn data(&self) -> BrokerStatsData {
        BrokerStatsData {
            stats_minute: Self::item(&self.series[0]),
            stats_hour: Self::item(&self.series[1]),
            stats_day: Self::item(&self.series[2]),
        }
    }

    /// A second, over the last minute.
    pub(super) fn tps(&self) -> f64 {
        Self::item(&self.series[0]).tps
    }
}

/// What went into a topic.
#[derive(Clone, Debug, Default)]
pub(super) struct PutStats {
    pub(super) messages: Counter,
    pub(super) bytes: Counter,
}

/// What a group took from a topic, and sent back.
#[derive(Clone, Debug, Default)]
pub(super) struct GetStats {
    pub(super) messages: Counter,
    pub(super) bytes: Counter,
    pub(super) sent_back: Counter,
}

/// All figures.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// By topic and group.
    pairs: BTreeMap<Pair, GetStats>,
    /// All topics.
    pub(super) put: PutStats,
    /// All groups.
    pub(super) get: GetStats,
    /// Pulls that found nothing.
    pub(super) missed: Counter,
}

impl Stats {
    /// A pull found messages.
    pub(super) fn got(&mut self, pair: Pair, messages: u64, bytes: u64) {
        let of = self.pairs.entry(pair).or_default();
        of.messages.add(messages);
        of.bytes.add(bytes);
        self.get.messages.add(messages);
        self.get.bytes.add(bytes);
    }

    /// A message was sent back.
    pub(super) fn sent_back(&mut self, pair: Pair) {
        self.pairs.entry(pair).or_default().sent_back.add(1);
    }

    /// What a group took from a topic.
    pub(super) fn pair(&self, pair: Pair) -> Option<&GetStats> {
        self.pairs.get(&pair)
    }

    /// Takes a reading of everything here.
    pub(super) fn read(&mut self, now: Instant) {
        for of in self.pairs.values_mut() {
            of.messages.read(now);
            of.bytes.read(now);
            of.sent_back.read(now);
        }
        self.put.read(now);
        self.get.messages.read(now);
        self.get.bytes.read(now);
        self.missed.read(now);
    }
}

impl PutStats {
    /// Messages were stored.
    pub(super) fn put(&mut self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }

    /// Takes a reading.
    pub(super) fn read(&mut self, now: Instant) {
        self.messages.read(now);
        self.bytes.read(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_of_readings() {
        let mut counter = Counter::default();
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        assert_eq!(counter.data(), BrokerStatsData::default());
        for second in (1000..=1120).step_by(10) {
            counter.add(30);
            counter.read(at(second));
        }
        let data = counter.data();
        assert_eq!((data.stats_minute.sum, data.stats_minute.tps, data.stats_minute.avgpt), (180, 3.0, 30.0));
        assert_eq!((data.stats_hour.sum, data.stats_hour.tps), (30, 0.05), "one reading so far");
        assert_eq!(counter.sum(), 390);
    }
}
