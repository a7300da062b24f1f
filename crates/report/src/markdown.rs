//! Reports as Markdown: the whole one, and a gate's outcome for a pull-request comment.

use std::fmt::Write;

use crate::checks::{Check, verdict};
use crate::document::{Cell, Document, Table};
use crate::{Metric, Report, ReportError, document, report};

/// The whole report.
///
/// # Errors
/// A report that cannot be laid out.
pub fn write(report: &Report) -> Result<String, ReportError> {
    let document = Document::new(report)?;
    let mut text = format!("# slmc {}: {}\n", escape(&document.verb), escape(&document.name));
    if let Some((_, sentence)) = document.verdict {
        let _ = write!(text, "\n**{sentence}**\n");
    }
    text.push('\n');
    text += &figures(&document);
    for warning in &document.warnings {
        let _ = write!(text, "\n> {}\n", escape(warning));
    }
    for section in &document.sections {
        let _ = write!(text, "\n## {}\n", section.heading);
        if !section.lead.is_empty() {
            let _ = write!(text, "\n{}\n", section.lead);
        }
        for table in &section.tables {
            let _ = write!(text, "\n{}:\n\n{}", escape(&table.caption), rows(table));
        }
    }
    Ok(text)
}

/// A gate's outcome, short enough for a comment: the verdict, the limits, the headline figures.
///
/// # Errors
/// A report that cannot be laid out.
pub fn gate(report: &Report) -> Result<String, ReportError> {
    let document = Document::new(report)?;
    let mut text = format!("### slmc gate: {}\n", escape(&document.name));
    if let Some(verdict) = verdict(report) {
        let _ = write!(text, "\n**{}**\n", verdict.sentence());
    }
    if !Check::all(report).is_empty() {
        let _ = write!(text, "\n{}", rows(&document::gate_table(report)));
    }
    let _ = write!(text, "\n{}", figures(&document));
    for warning in &document.warnings {
        let _ = write!(text, "\n> {}\n", escape(warning));
    }
    if let Some(base) = report.base() {
        let _ = write!(text, "\nCompared with {}", escape(report::name(base)));
        if let Some(measured) = report.setting_shown(Metric::MeasuredText) {
            let _ = write!(text, " on {}", escape(&measured));
        }
        text += ".\n";
    }
    Ok(text)
}

fn figures(document: &Document) -> String {
    let cells = document
        .figures
        .iter()
        .map(|figure| vec![figure.label.clone(), figure.value.clone(), figure.note.clone()]);
    rows(&Table::new("", &["", "measured", ""], cells.collect()))
}

/// A table of GitHub Flavored Markdown.
pub(crate) fn rows(table: &Table) -> String {
    let mut text = String::new();
    let line = |text: &mut String, cells: &mut dyn Iterator<Item = String>| {
        text.push('|');
        for cell in cells {
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    };
    line(&mut text, &mut table.columns.iter().map(|column| escape(&column.title)));
    line(&mut text, &mut table.columns.iter().map(|c| if c.number { "---:" } else { "---" }.to_owned()));
    for row in &table.rows {
        line(&mut text, &mut row.iter().map(cell));
    }
    text
}

/// What is best, or decides against the model, is bold.
fn cell(cell: &Cell) -> String {
    match cell.mark {
        "best" | "regression" | "undecided" => format!("**{}**", escape(&cell.text)),
        _ => escape(&cell.text),
    }
}

/// Text that means nothing to Markdown, on one line.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '<' | '>' | '@' | '!' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '&' => escaped += "&amp;",
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
