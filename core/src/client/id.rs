//! Names: of clients in their group, and of messages.
//!
//! A client id is `address@instance[@unit]`. RocketMQ gives every process an instance name of its own (pid and time), so
//! that two of them on one machine are two members of their group; only broadcasting consumers keep `DEFAULT`, because
//! their offsets are stored under their id. Source: `ClientConfig.buildMQClientId`, `MessageClientIDSetter`.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use crate::time::WallMs;

/// The instance name that stands for "none was chosen".
pub const DEFAULT_INSTANCE: &str = "DEFAULT";

/// The id of a client; `instance` is taken as it is.
pub fn client_id(address: &str, instance: &str, unit: Option<&str>) -> String {
    match unit {
        Some(unit) => format!("{address}@{instance}@{unit}"),
        None => format!("{address}@{instance}"),
    }
}

/// The instance name of a producer or a clustering consumer for which none was chosen.
pub fn process_instance(pid: u32, nanos: u128) -> String {
    format!("{pid}#{nanos}")
}

/// What tells the messages of one client from those of all others: IPv4 address, low half of the process id, and a
/// number that differs within the process.
pub type Origin = [u8; 10];

/// Makes the ids of messages (UNIQ_KEY): 32 hexadecimal digits, the origin, the ms of the month and a counter.
#[derive(Clone, Debug)]
pub(super) struct MessageIds {
    origin: Origin,
    counter: u16,
    /// Of the newest id. It never goes back, as the clock may: a second message of the same id would be taken for the first.
    wall: i64,
}

const DAY_MS: i64 = 86_400_000;

impl MessageIds {
    pub(super) fn new(origin: Origin) -> MessageIds {
        MessageIds { origin, counter: 0, wall: i64::MIN }
    }

    pub(super) fn next(&mut self, now: WallMs) -> String {
        self.wall = self.wall.max(now.0);
        let mut id = String::with_capacity(32);
        for byte in self.origin {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02X}");
        }
        let _ = write!(id, "{:08X}{:04X}", month_ms(WallMs(self.wall)), self.counter);
        self.counter = self.counter.wrapping_add(1);
        if self.counter == 0 {
            self.wall += 1;
        }
        id
    }
}

/// Time since the beginning of the month, in ms. The tools read it back, to show when a message was made.
fn month_ms(now: WallMs) -> u32 {
    let days = now.0.div_euclid(DAY_MS);
    // Day of the month by the civil calendar, from days since 1970-01-01 (Hinnant's algorithm, years begin in March).
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5;
    u32::try_from(day * DAY_MS + now.0.rem_euclid(DAY_MS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_address_and_instance() {
        assert_eq!(client_id("10.0.0.1", DEFAULT_INSTANCE, None), "10.0.0.1@DEFAULT");
        assert_eq!(client_id("10.0.0.1", &process_instance(7, 99), Some("u")), "10.0.0.1@7#99@u");
    }

    #[test]
    fn message_ids_count_and_tell_the_time_of_the_month() {
        let mut ids = MessageIds::new([127, 0, 0, 1, 0, 7, 1, 2, 3, 4]);
        for (wall, expect) in [
            (0, "7F00000100070102030400000000" /* 1970-01-01 */),
            (951_782_400_000, "7F00000100070102030490321000" /* 2000-02-29 */),
            (951_868_801_000, "7F000001000701020304000003E8" /* 2000-03-01, one second */),
        ] {
            assert_eq!(ids.next(WallMs(wall))[..28], *expect, "{wall}");
        }
        assert!(ids.next(WallMs(0)).ends_with("03E80003"), "the clock went back, ids do not");
    }
}
