//! Verifies: no machine gives itself up, and none writes an ERROR into its log, unless its disk has refused something lately. One
//! that gives itself up for want of descriptors says which limit to raise.
//! (A panic is caught by whoever runs the world.)
//!
//! Does not verify: WARN lines, nor that what a machine says of a broken disk is right.

use super::{Checker, Cx, Verdict};
use crate::world::{Fact, Kind, Violation};

const NAME: &str = "crash";

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Crash {
    looked: u64,
}

impl Checker for Crash {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        let what = match fact {
            Fact::TurnEnded { .. } => {
                self.looked += 1;
                return Ok(());
            }
            // A slave goes back to where its log is its master's by starting again.
            Fact::Failed { reason, restart: true }
                if reason.starts_with("this log parted from its master's") =>
            {
                return Ok(());
            }
            // What such a disk left may be refused at the next start, or found to be nonsense.
            Fact::Failed { restart: false, .. } | Fact::Log(_) if cx.setup.has_lied(cx.host, cx.at) => {
                return Ok(());
            }
            Fact::Failed { reason, .. }
                if cx.setup.lacks_descriptors_only(cx.host, cx.at) && !reason.contains("raise the limit") =>
            {
                format!("what is out of descriptors gives itself up and does not say what to do: {reason}")
            }
            Fact::Failed { .. } | Fact::Log(_) if cx.setup.is_disk_broken(cx.host, cx.at) => return Ok(()),
            Fact::Failed { reason, restart } => {
                format!("the machine gave itself up: {reason} (restart: {restart})")
            }
            Fact::Log(line)
                if line.level == tracing::Level::ERROR && !cx.setup.is_disk_broken(cx.host, cx.at) =>
            {
                format!("no fault explains the line: {line}")
            }
            Fact::Started { .. }
            | Fact::Died(_)
            | Fact::PowerLost
            | Fact::AskedToStop { .. }
            | Fact::BodyDamaged { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::Seen(_)
            | Fact::Report(_)
            | Fact::DiskCompleted { .. }
            | Fact::Log(_) => return Ok(()),
        };
        Err(Violation { kind: Kind::Crash, checker: NAME, what })
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
