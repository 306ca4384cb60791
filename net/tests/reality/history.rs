//! What happens, in the order in which it is told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Clock};

use gantry_core::time::Instant;
use gantry_sim::check::outside::{What, Witnessed};
use gantry_sim::history::Report;
use gantry_sim::plan::CAST;
use gantry_sim::world::HostId;

/// Everybody adds to it; cheap to clone.
#[derive(Clone)]
pub(crate) struct History {
    begin: Clock,
    events: Arc<Mutex<Vec<Witnessed>>>,
    next: Arc<AtomicU32>,
}

impl History {
    pub(crate) fn new() -> History {
        History { begin: Clock::now(), events: Arc::default(), next: Arc::default() }
    }

    /// The time is taken while nobody else adds anything, so that the order is that of the times.
    pub(crate) fn add(&self, host: HostId, what: What) {
        let mut events = self.events.lock().unwrap();
        let nanos = u64::try_from(self.begin.elapsed().as_nanos()).unwrap();
        events.push(Witnessed { at: Instant::from_nanos(nanos), host, what });
    }

    /// Since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn report(&self, host: HostId, report: Report) {
        self.add(host, What::Report(report));
    }

    /// Something is wrong that no checker has to look for.
    pub(crate) fn broken(&self, what: String) {
        self.report(CAST.auditor, Report::Broken { what });
    }

    /// A number that nobody else gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn events(&self) -> Vec<Witnessed> {
        self.events.lock().unwrap().clone()
    }
}
