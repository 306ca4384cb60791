//! What the machines are told about the system: time and its zone, a seed, the host's name, and room for file descriptors.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Instant as SystemInstant, SystemTime};

use gantry_core::io::{Clock, Now};
use gantry_core::time::{Instant, WallMs};

/// The system's clocks. The monotonic origin is the making of the clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: SystemInstant,
}

impl SystemClock {
    /// A clock whose [`Instant::ZERO`] is now.
    pub fn new() -> SystemClock {
        SystemClock { origin: SystemInstant::now() }
    }

    /// The system's name for an instant of this clock.
    pub(crate) fn to_system(self, at: Instant) -> SystemInstant {
        self.origin + std::time::Duration::from_nanos(at.as_nanos())
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&mut self) -> Now {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Instant::from_nanos(nanos),
            wall: WallMs(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// A seed that differs from life to life, from the system's entropy (by way of the keys of std's hash maps).
pub fn entropy_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Raises this process's limit of open files to what it may have, and says how many that is.
///
/// A broker holds a file per consume queue beside its sockets, and the usual soft limit of 1,024 is soon used up.
#[cfg(unix)]
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it was, which accepting survives.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// Where there is no such limit.
#[cfg(not(unix))]
pub fn raise_file_limit() -> Option<u64> {
    None
}

/// Local time minus UTC, in ms, as it is now.
pub fn local_offset_ms() -> i64 {
    i64::from(chrono::Local::now().offset().local_minus_utc()) * 1000
}

/// RAM of this machine, in bytes.
#[cfg(target_os = "linux")]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// Where nobody tells.
#[cfg(not(target_os = "linux"))]
pub fn memory_bytes() -> u64 {
    u64::MAX
}

/// The name of this host, RocketMQ's default for `brokerName`.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { String::from("DEFAULT_BROKER") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_translates_both_ways() {
        let mut clock = SystemClock::new();
        let now = clock.now();
        let system = clock.to_system(now.mono);
        assert!(system <= SystemInstant::now());
        assert!(system.elapsed().as_secs() < 60);
        assert!(now.wall > WallMs(1_600_000_000_000));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(entropy_seed(), entropy_seed());
    }
}
