//! How much goes over a stream a second, for people.

use crate::time::Instant;

const SECOND_NANOS: u64 = 1_000_000_000;

/// Bytes by the second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    second: u64,
    /// In that second.
    bytes: u64,
    /// In the one before.
    before: u64,
}

impl Flow {
    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        let second = now.as_nanos() / SECOND_NANOS;
        if second != self.second {
            self.before = self.last_second(now);
            (self.second, self.bytes) = (second, 0);
        }
        self.bytes += bytes;
    }

    /// Bytes in the last full second.
    pub(super) fn last_second(&self, now: Instant) -> u64 {
        match (now.as_nanos() / SECOND_NANOS).saturating_sub(self.second) {
            0 => self.before,
            1 => self.bytes,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_full_second_counts() {
        let at = |tenths: u64| Instant::from_nanos(tenths * SECOND_NANOS / 10);
        let mut flow = Flow::default();
        flow.add(at(20), 5);
        flow.add(at(29), 7);
        assert_eq!([20, 29, 30, 39, 40].map(|tenths| flow.last_second(at(tenths))), [0, 0, 12, 12, 0]);
        flow.add(at(31), 1);
        assert_eq!([35, 40, 50].map(|tenths| flow.last_second(at(tenths))), [12, 1, 0]);
    }
}
