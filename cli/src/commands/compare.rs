//! `slmc compare`

use slmc_report::Report;
use slmc_report::compare::Comparison;
use slmc_report::document::Cell;

use super::{print_json, report};
use crate::args::compare::Compare;
use crate::failure::Failure;
use crate::terminal::table::table;

pub fn run(args: &Compare, json: bool) -> Result<(), Failure> {
    let read = |path: &std::path::PathBuf| {
        let run = Report::read(path).map_err(|error| report::failure(&error))?;
        Ok((path.display().to_string(), run))
    };
    let runs = args.runs.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
    let comparison = Comparison::new(&runs);
    if let Some(path) = &args.markdown {
        report::write_file(path, Ok(comparison.markdown()))?;
    }
    if let Some(path) = &args.html {
        report::write_file(path, comparison.html())?;
    }
    if json {
        return print_json(&comparison);
    }
    print(&comparison);
    Ok(())
}

fn print(comparison: &Comparison) {
    let shown = comparison.table();
    let titles: Vec<String> = shown.columns.iter().map(|column| format!("{}  ", column.title)).collect();
    let marked = |cell: &Cell| format!("{} {}", cell.text, if cell.mark == "best" { "*" } else { " " });
    let rows = shown.rows.iter().map(|row| row.iter().map(marked).collect::<Vec<_>>());
    println!("{}", table(titles, rows));
    if comparison.lines.iter().any(|line| !line.best.is_empty()) {
        println!(" * the best run");
    }
    for warning in comparison.warnings() {
        println!("{warning}");
    }
}
