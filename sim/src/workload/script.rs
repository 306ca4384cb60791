//! What a client does, by the world's time: each item when it is due, in whatever life that is.

use std::rc::Rc;

use gantry_core::io::Now;
use gantry_core::time::{Duration, Instant};

/// An item of a script.
pub trait Timed {
    /// When, in ns from the beginning of the world.
    fn at_ns(&self) -> u64;
}

/// What is left of a script in one life.
#[derive(Debug)]
pub struct Script<T> {
    items: Rc<Vec<T>>,
    /// The beginning of the world by the host's own clock.
    origin: Instant,
    next: usize,
}

impl<T: Timed> Script<T> {
    /// Of a life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(items: Rc<Vec<T>>, at: Duration, now: Now) -> Script<T> {
        let at_ns = at.as_nanos() as u64;
        let next = items.partition_point(|item| item.at_ns() < at_ns);
        Script { items, origin: Instant::from_nanos(now.mono.as_nanos() - at_ns), next }
    }

    /// The beginning of the world by the host's own clock.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// When the next item is due.
    pub fn due(&self) -> Option<Instant> {
        self.items.get(self.next).map(|item| self.origin + Duration::from_nanos(item.at_ns()))
    }

    /// The next item, if it is due.
    pub fn take(&mut self, now: Now) -> Option<&T> {
        self.due().filter(|due| *due <= now.mono)?;
        self.next += 1;
        self.items.get(self.next - 1)
    }
}
