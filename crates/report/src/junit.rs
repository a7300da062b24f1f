//! A gate's outcome as JUnit XML: a test case for each limit. A regression is a failure, what cannot be decided an error.

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use crate::checks::{Check, Verdict};
use crate::{Metric, Report, ReportError};

/// The file's text. It holds no time, so that the same outcome is the same text.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report) -> Result<String, ReportError> {
    let mut suite = TestSuite::new("slmc gate");
    suite.add_property(Property::new("model", report.model()));
    if let Some(base) = report.base() {
        suite.add_property(Property::new("base", base));
    }
    for metric in [Metric::MeasuredText, Metric::TokensSha256, Metric::NCtx, Metric::Windows, Metric::Version]
    {
        if let Some(setting) = report.setting_shown(metric) {
            suite.add_property(Property::new(metric.name(), setting));
        }
    }
    for check in Check::all(report) {
        let status = match check.verdict {
            Verdict::Passed => TestCaseStatus::success(),
            Verdict::Regression => broken(&check, NonSuccessKind::Failure, "regression"),
            Verdict::Undecided => broken(&check, NonSuccessKind::Error, "undecided"),
        };
        let mut case = TestCase::new(format!("{} {}", check.requirement(), check.shown(check.limit)), status);
        case.set_classname(format!("slmc.gate.{}", check.item)).set_system_out(check.sentence());
        suite.add_test_case(case);
    }
    let mut junit = quick_junit::Report::new("slmc gate");
    junit.add_test_suite(suite);
    junit
        .to_string()
        .map_err(|error| ReportError::Rendering { format: "JUnit XML", reason: error.to_string() })
}

fn broken(check: &Check, kind: NonSuccessKind, ty: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(check.sentence()).set_type(ty);
    status
}
