//! Times on the command line.

/// A time, or how far away it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// ms since 1970.
    At(i64),
    /// ms from now, back or ahead.
    Away(i64),
}

/// Reads `2026-01-31T12:00:00Z`, ms since 1970, or a span as `90s`, `15m`, `2h`, `1d`.
pub(crate) fn when(text: &str) -> Option<When> {
    if let Ok(ms) = text.parse() {
        return Some(When::At(ms));
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(When::At(time.timestamp_millis()));
    }
    let unit_ms = match text.as_bytes().last()? {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    let count: i64 = text.get(..text.len() - 1)?.parse().ok()?;
    (count >= 0).then(|| When::Away(count.saturating_mul(unit_ms)))
}

/// ms since 1970.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
