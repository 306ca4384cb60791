//! A host's clocks: the monotonic one counts from an origin of its own, the wall clock may be off.

use gantry_core::io::{Clock, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant, WallMs};

/// What every wall clock shows when a world begins, give or take its skew: 2023-11-14T22:13:20Z.
pub const WALL_AT_START_MS: i64 = 1_700_000_000_000;

/// Wall clocks of hosts differ from true time by at most this, in ms.
const SKEW_MS_MAX: u64 = 2_000;
/// Monotonic clocks begin anywhere below this.
const UPTIME_MAX: Duration = Duration::from_hours(24);

/// How a host sees virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    uptime: Duration,
    wall_ms: i64,
    /// Both clocks have gained so much by `since`, and gain so many millionths from then on.
    gained_nanos: i64,
    since: Instant,
    gains_ppm: i64,
}

impl Skew {
    /// True time.
    pub const NONE: Skew = Skew {
        uptime: Duration::ZERO,
        wall_ms: WALL_AT_START_MS,
        gained_nanos: 0,
        since: Instant::ZERO,
        gains_ppm: 0,
    };

    /// A host's own view.
    pub fn draw(rng: &mut Rng) -> Skew {
        let uptime = Duration::from_nanos(rng.below(UPTIME_MAX.as_nanos() as u64));
        let wall_ms = WALL_AT_START_MS + rng.below(2 * SKEW_MS_MAX + 1) as i64 - SKEW_MS_MAX as i64;
        Skew { uptime, wall_ms, ..Skew::NONE }
    }

    fn gained_nanos(&self, at: Instant) -> i64 {
        let passed = (at - self.since).as_nanos() as i64;
        self.gained_nanos + (i128::from(passed) * i128::from(self.gains_ppm) / MILLION) as i64
    }

    /// What the host's clocks show at `at`.
    pub fn now(&self, at: Instant) -> Now {
        let shown = Instant::from_nanos(at.as_nanos().saturating_add_signed(self.gained_nanos(at)));
        Now { mono: shown + self.uptime, wall: WallMs(self.wall_ms + (shown.as_nanos() / 1_000_000) as i64) }
    }

    /// The wall clock shows so much more from now on.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
    }

    /// Both clocks gain so many millionths more from now on.
    pub fn drift(&mut self, now: Instant, by_ppm: i64) {
        self.gained_nanos = self.gained_nanos(now);
        self.since = now;
        self.gains_ppm += by_ppm;
    }

    /// When the host's monotonic clock shows `mono`, if its pace stays.
    pub fn real(&self, mono: Instant) -> Instant {
        let true_nanos = mono.as_nanos().saturating_sub(self.uptime.as_nanos() as u64);
        let since = i128::from(self.since.as_nanos());
        let ahead = i128::from(true_nanos) - since - i128::from(self.gained_nanos);
        // Not a moment before: who is woken early and told the same time again is woken for ever.
        let pace = MILLION + i128::from(self.gains_ppm);
        let passed = if ahead > 0 { (ahead * MILLION + pace - 1) / pace } else { 0 };
        let slack = i128::from(self.gains_ppm != 0);
        Instant::from_nanos((since + passed + slack).try_into().unwrap_or(u64::MAX))
    }
}

const MILLION: i128 = 1_000_000;

/// Shows what the world last set.
#[derive(Clone, Copy, Debug)]
pub struct SimClock(pub Now);

impl Clock for SimClock {
    fn now(&mut self) -> Now {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_hardly_late_however_the_clock_drifts() {
        let mut skew = Skew::draw(&mut Rng::from_seed(3));
        for (at, ppm) in [(7, 900), (30, -1_700), (31, 0), (90, 801), (100, -1)] {
            let now = Instant::from_nanos(at * 1_000_000_007);
            let before = skew.now(now).mono;
            skew.drift(now, ppm);
            assert_eq!(skew.now(now).mono, before, "it goes on from where it is");
            for nanos in [0, 1, 999, 123_456_789, 77_000_000_001] {
                let mono = before + Duration::from_nanos(nanos);
                let real = skew.real(mono);
                assert!(skew.now(real).mono >= mono, "{nanos} ns at {ppm}");
                assert!(skew.now(real).mono.as_nanos() <= mono.as_nanos() + 3, "{nanos} ns at {ppm}");
            }
        }
    }
}
