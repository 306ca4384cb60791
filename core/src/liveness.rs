//! When a periodic scan is due, and whether what it finds silent may be believed.
//!
//! A process that was itself paused sees everybody silent. [`Scan`] notices the gap and lets one more interval pass
//! before anybody is expired, so that peers which kept sending are heard first.

use crate::probe::Probe;
use crate::time::{Duration, Instant};

/// A scan that comes later than this behind its due time was held up by a pause of this process.
pub const PAUSE_GAP: Duration = Duration::from_secs(5);

/// What a due scan may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Silence is the peers': expire them.
    Expire,
    /// This process was paused: look again in one interval.
    WaitOneMore,
}

/// The timer of a scan.
#[derive(Clone, Debug)]
pub struct Scan {
    interval: Duration,
    due: Instant,
}

impl Scan {
    /// A scan every `interval`, the first one interval after `start`.
    pub fn new(start: Instant, interval: Duration) -> Scan {
        Scan { interval, due: start + interval }
    }

    /// The next due time.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// When due at `now`: sets the next one and says what this one may do.
    pub fn take(&mut self, now: Instant) -> Option<Verdict> {
        if now < self.due {
            return None;
        }
        let late = now.since(self.due);
        self.due = now + self.interval;
        if late > PAUSE_GAP {
            Probe::ScanAfterPause.reached();
            return Some(Verdict::WaitOneMore);
        }
        Some(Verdict::Expire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_paused_process_waits_one_more_scan() {
        let mut scan = Scan::new(at(0), Duration::from_secs(10));
        assert_eq!(scan.take(at(9)), None);
        assert_eq!(scan.take(at(10)), Some(Verdict::Expire));
        assert_eq!(scan.take(at(200)), Some(Verdict::WaitOneMore));
        assert_eq!(scan.take(at(209)), None);
        assert_eq!(scan.take(at(210)), Some(Verdict::Expire));
    }
}
