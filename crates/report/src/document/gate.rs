//! The limits of a gate and what was measured.

use super::{Section, Table};
use crate::Report;
use crate::checks::{Check, bounds_title, verdict};

/// Each limit with its verdict; none where the report is not a gate's.
pub fn section(report: &Report) -> Option<Section> {
    verdict(report)?;
    Some(Section { id: "limits", heading: "Limits", tables: vec![table(report)], ..Section::default() })
}

/// Each limit with its verdict.
pub fn table(report: &Report) -> Table {
    let checks = Check::all(report);
    let rows = checks.iter().map(|check| {
        vec![
            check.requirement(),
            check.outcome(),
            check.shown(check.limit),
            check.shown(check.value),
            check.shown_bounds(),
        ]
    });
    let bounds = bounds_title(report);
    let columns = ["limit on", "verdict", "limit", "measured", &bounds];
    let mut table = Table::new("Every limit, what was measured, and the verdict", &columns, rows.collect());
    for (row, check) in checks.iter().enumerate() {
        table.mark(row, 1, check.verdict.name());
    }
    table.texts(&["verdict"])
}
