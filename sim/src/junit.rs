//! What ran and what failed, as the reports that CI systems read.
//!
//! One suite a scenario. Worlds that passed are counted in one case, for a report of ten thousand equal lines helps nobody;
//! each that failed is a case of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::report;
use crate::work::{Done, Named};

/// Collects worlds.
#[derive(Default)]
pub(crate) struct Suite {
    scenarios: BTreeMap<String, Ran>,
}

#[derive(Default)]
struct Ran {
    passed: u64,
    took: Duration,
    failures: Vec<TestCase>,
}

impl Suite {
    pub(crate) fn add(&mut self, named: &Named, done: &Done) {
        let ran = self.scenarios.entry(named.name.clone()).or_default();
        ran.took += done.took;
        let Some((at, violation)) = &done.outcome.violation else {
            ran.passed += 1;
            return;
        };
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_type(format!("{:?} ({})", violation.kind, violation.checker))
            .set_message(report::violation_line(*at, violation))
            .set_description(report::failure(named, &done.outcome));
        let mut case = TestCase::new(format!("seed {}", done.outcome.seed), status);
        case.set_classname(&named.name).set_time(done.took);
        ran.failures.push(case);
    }

    /// Writes the file.
    pub(crate) fn write(self, path: &Path) -> Result<(), String> {
        let mut report = Report::new("gantry-sim");
        for (name, ran) in self.scenarios {
            let mut suite = TestSuite::new(name.clone());
            if ran.passed > 0 {
                let mut case = TestCase::new(format!("{} worlds", ran.passed), TestCaseStatus::success());
                case.set_classname(name).set_time(ran.took);
                suite.add_test_case(case);
            }
            suite.add_test_cases(ran.failures);
            report.add_test_suite(suite);
        }
        let text = report.to_string().map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
