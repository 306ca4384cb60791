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
}

impl Skew {
    /// True time.
    pub const NONE: Skew = Skew { uptime: Duration::ZERO, wall_ms: WALL_AT_START_MS };

    /// A host's own view.
    pub fn draw(rng: &mut Rng) -> Skew {
        let uptime = Duration::from_nanos(rng.below(UPTIME_MAX.as_nanos() as u64));
        let wall_ms = WALL_AT_START_MS + rng.below(2 * SKEW_MS_MAX + 1) as i64 - SKEW_MS_MAX as i64;
        Skew { uptime, wall_ms }
    }

    /// What the host's clocks show at `at`.
    pub fn now(&self, at: Instant) -> Now {
        Now { mono: at + self.uptime, wall: WallMs(self.wall_ms + (at.as_nanos() / 1_000_000) as i64) }
    }

    /// The wall clock shows so much more from now on.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
    }

    /// When the host's monotonic clock shows `mono`.
    pub fn real(&self, mono: Instant) -> Instant {
        Instant::from_nanos(mono.as_nanos().saturating_sub(self.uptime.as_nanos() as u64))
    }
}

/// Shows what the world last set.
#[derive(Clone, Copy, Debug)]
pub struct SimClock(pub Now);

impl Clock for SimClock {
    fn now(&mut self) -> Now {
        self.0
    }
}
