//! Time as values.
//!
//! A machine never asks what time it is: [`crate::io::Now`] is handed to it. Two clocks exist because they answer
//! different questions: [`Instant`] never goes back and drives deadlines; [`WallMs`] is what people and stored
//! records call the time, and may jump either way.

use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A point on the monotonic clock, in nanoseconds since an origin that only the clock knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The clock's origin.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` lies ahead.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Milliseconds since the Unix epoch, as RocketMQ stores them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallMs(pub i64);

impl WallMs {
    /// The later of the two.
    pub fn max(self, other: WallMs) -> WallMs {
        WallMs(self.0.max(other.0))
    }
}

/// The soonest of the deadlines that a machine has, and what it is for. Of several at the same time the one whose reason comes first in the
/// alphabet, so that it does not matter in which order they are named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Soonest(pub(crate) Option<(Instant, &'static str)>);

impl Soonest {
    /// There is this one, if any.
    pub(crate) fn take(&mut self, due: Option<(Instant, &'static str)>) {
        if let Some(due) = due
            && self.0.is_none_or(|soonest| due < soonest)
        {
            self.0 = Some(due);
        }
    }

    /// The same, with the reason by itself.
    pub(crate) fn at(&mut self, at: Option<Instant>, why: &'static str) {
        self.take(at.map(|at| (at, why)));
    }
}
