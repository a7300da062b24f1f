//! A report as people read it: headline figures, then sections of charts and tables. HTML and Markdown lay it out.

mod accuracy;
mod cut;
mod documents;
mod figures;
mod gate;
mod latency;
mod layers;
mod losses;
mod positions;
mod settings;
mod sizes;
mod tensors;
mod training;
mod windows;

use serde::Serialize;

pub use gate::table as gate_table;

use crate::charts::Chart;
use crate::checks::{Verdict, verdict};
use crate::{Report, ReportError, report};

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// What was done: `eval`, `quantize` …
    pub verb: String,
    /// The model's name.
    pub name: String,
    /// The model, as the user named it.
    pub model: String,
    /// What it was compared with.
    pub base: Option<String>,
    /// The gate's conclusion: its name and its sentence.
    pub verdict: Option<(&'static str, &'static str)>,
    /// What to know first.
    pub figures: Vec<Figure>,
    /// Things to know about the figures.
    pub warnings: Vec<String>,
    /// Everything else.
    pub sections: Vec<Section>,
}

/// A headline figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub label: String,
    /// It.
    pub value: String,
    /// Its uncertainty, or what it was before.
    pub note: String,
}

/// One topic.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// Its place in the page: letters and hyphens.
    pub id: &'static str,
    /// Its heading.
    pub heading: &'static str,
    /// What is shown, and how to read it.
    pub lead: String,
    /// Names of the colours of its charts.
    pub legend: Vec<Key>,
    /// Its charts.
    pub charts: Vec<Chart>,
    /// Whether the charts are many small ones.
    pub small: bool,
    /// Its tables.
    pub tables: Vec<Table>,
}

/// A colour of a chart: the name of its CSS variable, and what it is for.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// The variable.
    pub variable: String,
    /// What has it.
    pub label: String,
}

/// Rows of texts; all but the first column hold numbers, unless a column says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What it holds.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The cells.
    pub rows: Vec<Vec<Cell>>,
    /// Whether it is shown only when asked for.
    pub folded: bool,
}

/// A cell of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What stands in it.
    pub text: String,
    /// What is special about it: `best`, or a verdict's name; mostly nothing.
    pub mark: &'static str,
}

/// A column of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Its title.
    pub title: String,
    /// Whether it holds numbers.
    pub number: bool,
}

impl Table {
    /// A table whose first column holds names and whose other columns hold numbers.
    pub(crate) fn new(caption: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Self {
        let columns = columns.iter().enumerate();
        let columns =
            columns.map(|(n, title)| Column { title: (*title).to_owned(), number: n > 0 }).collect();
        let cells = |row: Vec<String>| row.into_iter().map(|text| Cell { text, mark: "" }).collect();
        Self {
            caption: caption.to_owned(),
            columns,
            rows: rows.into_iter().map(cells).collect(),
            folded: false,
        }
    }

    /// Columns of these titles hold texts.
    fn texts(mut self, titles: &[&str]) -> Self {
        for column in self.columns.iter_mut().filter(|column| titles.contains(&column.title.as_str())) {
            column.number = false;
        }
        self
    }

    /// Leaves out columns in which no row has anything.
    fn without_empty_columns(mut self) -> Self {
        for column in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row[column].text.is_empty()) {
                self.columns.remove(column);
                self.rows.iter_mut().for_each(|row| drop(row.remove(column)));
            }
        }
        self
    }

    /// Says what is special about a cell.
    pub(crate) fn mark(&mut self, row: usize, column: usize, mark: &'static str) {
        if let Some(cell) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            cell.mark = mark;
        }
    }

    /// Shown only when asked for, if it has more than `rows` rows.
    fn folded_beyond(mut self, rows: usize) -> Self {
        self.folded = self.rows.len() > rows;
        self
    }
}

impl Document {
    /// Of a report.
    ///
    /// # Errors
    /// A chart cannot be drawn.
    pub fn new(report: &Report) -> Result<Self, ReportError> {
        let sections = [
            gate::section(report),
            sizes::section(report)?,
            cut::section(report)?,
            training::section(report)?,
            losses::section(report)?,
            positions::section(report)?,
            windows::section(report)?,
            windows::texts(report),
            documents::section(report),
            accuracy::section(report)?,
            latency::section(report)?,
            layers::section(report)?,
            tensors::section(report),
            Some(settings::section(report)),
        ];
        Ok(Self {
            verb: report.verb(),
            name: report::name(report.model()).to_owned(),
            model: report.model().to_owned(),
            base: report.base().map(str::to_owned),
            verdict: verdict(report).map(|verdict: Verdict| (verdict.name(), verdict.sentence())),
            figures: figures::figures(report),
            warnings: settings::warnings(report),
            sections: sections.into_iter().flatten().collect(),
        })
    }
}
