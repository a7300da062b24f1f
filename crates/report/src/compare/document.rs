//! A comparison as people read it.

use super::{Comparison, Line};
use crate::charts::{Bar, Colour, Description, Interval, intervals, stacked};
use crate::document::{Document, Section, Table};
use crate::{Measurement, Metric, ReportError};

impl Comparison {
    /// All figures, the best of each line marked.
    pub fn table(&self) -> Table {
        let mut titles = vec![""];
        titles.extend(self.columns.iter().map(|column| column.label.as_str()));
        let rows = self.lines.iter().map(|line| {
            let shown =
                line.cells.iter().map(|cell| cell.as_ref().map_or_else(String::new, Measurement::shown));
            let note = if line.comparable { "" } else { " (not comparable)" };
            std::iter::once(format!("{}{note}", line.label())).chain(shown).collect()
        });
        let mut table = Table::new(
            "Figures, ± one standard error; the best run of each line is bold",
            &titles,
            rows.collect(),
        );
        for (row, line) in self.lines.iter().enumerate() {
            for best in &line.best {
                table.mark(row, best + 1, "best");
            }
        }
        table
    }

    /// What cannot be compared, and why; nothing where everything can.
    pub fn warnings(&self) -> Vec<String> {
        let runs = self.columns.iter().filter(|column| column.run.is_some());
        let labels: Vec<&str> = runs.map(|column| column.label.as_str()).collect();
        let mut warnings: Vec<String> =
            self.differences.iter().map(|difference| difference.sentence(&labels)).collect();
        let of_task = |line: &&Line| {
            use Metric::{Accuracy, AccuracyNormalized, ExactMatch, MacroF1};
            matches!(line.metric, Accuracy | AccuracyNormalized | MacroF1 | ExactMatch)
        };
        for line in self.lines.iter().filter(of_task).filter(|line| !line.comparable) {
            warnings.push(format!("{}: the runs answered different numbers of items.", line.label()));
        }
        warnings
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("### slmc compare\n\n");
        for warning in self.warnings() {
            text += &format!("> {}\n\n", crate::markdown::escape(&warning));
        }
        text + &crate::markdown::rows(&self.table())
    }

    /// As a page.
    ///
    /// # Errors
    /// A chart or the page cannot be written.
    pub fn html(&self) -> Result<String, ReportError> {
        let figures =
            Section { id: "figures", heading: "Figures", tables: vec![self.table()], ..Section::default() };
        let mut sections = vec![figures];
        let mut charts = Vec::new();
        for line in &self.lines {
            let (id, caption) = (format!("chart-{}", charts.len()), line.label());
            let text = "One bar or mark for each run; the table has the figures.";
            let description = Description { id: &id, caption: &caption, text };
            let plain = |value: f64, decimals: usize| format!("{value:.decimals$}");
            let percent = |value: f64, _: usize| format!("{:.0} %", 100.0 * value);
            charts.push(match line.metric {
                Metric::Bytes => stacked(&description, &self.bars(line))?,
                Metric::Perplexity | Metric::KlDivergence => {
                    intervals(&description, &self.marks(line), plain)?
                }
                Metric::Accuracy | Metric::AccuracyNormalized => {
                    intervals(&description, &self.marks(line), percent)?
                }
                _ => continue,
            });
        }
        if !charts.is_empty() {
            let lead = "Lines are 95 % intervals.".into();
            sections.push(Section { id: "charts", heading: "Charts", lead, charts, ..Section::default() });
        }
        let labels: Vec<&str> = self.columns.iter().map(|column| column.label.as_str()).collect();
        crate::html::render(Document {
            verb: "compare".into(),
            name: labels.join(", "),
            model: String::new(),
            base: None,
            verdict: None,
            figures: Vec::new(),
            warnings: self.warnings(),
            sections,
        })
    }

    fn bars(&self, line: &Line) -> Vec<Bar> {
        let cells = self.columns.iter().zip(&line.cells);
        cells
            .filter_map(|(column, cell)| {
                let cell = cell.as_ref()?;
                Some(Bar { label: column.label.clone(), parts: vec![cell.value?], shown: cell.shown() })
            })
            .collect()
    }

    fn marks(&self, line: &Line) -> Vec<Interval> {
        let cells = self.columns.iter().zip(&line.cells);
        cells
            .filter_map(|(column, cell)| {
                let cell = cell.as_ref()?;
                let colour = if column.run.is_some() { Colour::Model } else { Colour::Base };
                let (label, shown) = (column.label.clone(), cell.shown());
                Some(Interval { label, colour, value: cell.value?, bounds: cell.bounds(), shown })
            })
            .collect()
    }
}
