//! What the machines log, kept for the world to look at: an ERROR that nothing explains is a finding.
//!
//! The lines of a thread are those of the one world that runs on it.

use std::cell::RefCell;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A line of a log.
#[derive(Clone, Debug)]
pub struct Line {
    /// How grave.
    pub level: Level,
    /// Message and fields.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level, self.text)
    }
}

/// The lines written on this thread since the last call.
pub fn take() -> Vec<Line> {
    LINES.with(|lines| if lines.borrow().is_empty() { Vec::new() } else { lines.take() })
}

/// Runs `body` with the machines' log lines kept: errors only, or all from INFO up when `verbose`.
pub fn with_log<T>(verbose: bool, body: impl FnOnce() -> T) -> T {
    LINES.with(RefCell::take);
    tracing::subscriber::with_default(
        Keeper { level: if verbose { Level::DEBUG } else { Level::ERROR } },
        body,
    )
}

struct Keeper {
    level: Level,
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = Line { level: *event.metadata().level(), text: text.0 };
        LINES.with(|lines| lines.borrow_mut().push(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let separator = if self.0.is_empty() { "" } else { " " };
        let _ = if field.name() == "message" {
            write!(self.0, "{separator}{value:?}")
        } else {
            write!(self.0, "{separator}{}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_kept_and_the_rest_is_not() {
        with_log(false, || {
            tracing::info!("nothing to see");
            tracing::error!(offset = 7, "the store is damaged");
            let lines = take();
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0].to_string(), "ERROR the store is damaged offset=7");
            assert!(take().is_empty());
        });
    }
}
