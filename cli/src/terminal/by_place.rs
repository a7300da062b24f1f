//! A figure of every tensor where it stands in the model: blocks as rows, layers as columns.

use comfy_table::Table;
use slmc_pipeline::jobs::prune::PrunedTensor;
use slmc_pipeline::jobs::quantize::{KeptZeros, OutputError, TensorReport};
use slmc_report::layers::place;

use super::table::table;

/// Every tensor's output error, as the plain way would have left it and as it is: the table, and the tensors that are in no block;
/// `None` where no output error was measured.
pub fn output_errors(tensors: &[TensorReport]) -> Option<(Table, Vec<String>)> {
    by_place(tensors, |tensor| tensor.output_error.as_ref().map(error_cell))
}

/// How many zeros every pruned tensor had, and how many of them it has in the file.
pub fn kept_zeros(tensors: &[TensorReport]) -> Option<Table> {
    let weights = |tensor: &TensorReport| tensor.shape.iter().map(|&d| d as f64).product::<f64>();
    let cell = |tensor: &TensorReport| Some(zeros_cell(tensor.zeros?, weights(tensor)));
    by_place(tensors, cell).map(|(table, _)| table)
}

/// How many zeros every tensor has, where not all that were pruned have as many.
pub fn sparsities(tensors: &[PrunedTensor]) -> Option<Table> {
    let cell = |tensor: &PrunedTensor| (tensor.sparsity > 0.0).then(|| percent(tensor.sparsity));
    let of = |tensor: &&PrunedTensor| place(&tensor.report.name).is_some();
    let mut cells: Vec<String> = tensors.iter().filter(of).filter_map(cell).collect();
    cells.dedup();
    (cells.len() > 1).then(|| by_place(tensors, cell)).flatten().map(|(table, _)| table)
}

/// What stands at a place.
trait Named {
    fn name(&self) -> &str;
}

impl Named for TensorReport {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for PrunedTensor {
    fn name(&self) -> &str {
        &self.report.name
    }
}

fn by_place<T: Named>(tensors: &[T], cell: impl Fn(&T) -> Option<String>) -> Option<(Table, Vec<String>)> {
    let (mut columns, mut rows, mut others) = (vec!["block"], Vec::<Vec<String>>::new(), Vec::new());
    for tensor in tensors {
        let Some(cell) = cell(tensor) else { continue };
        let Some((block, layer)) = place(tensor.name()) else {
            others.push(format!("{} {cell}", tensor.name()));
            continue;
        };
        let column = columns.iter().position(|c| *c == layer).unwrap_or_else(|| {
            columns.push(layer);
            columns.len() - 1
        });
        if rows.last().is_none_or(|row| row[0] != block) {
            rows.push(vec![block.to_owned()]);
        }
        let row = rows.last_mut()?;
        row.resize(row.len().max(column + 1), String::new());
        row[column] = cell;
    }
    if rows.is_empty() && others.is_empty() {
        return None;
    }
    for row in &mut rows {
        row.resize(columns.len(), String::new());
    }
    Some((table(columns, rows), others))
}

fn error_cell(error: &OutputError) -> String {
    format!("{} → {}", percent(error.before), percent(error.after))
}

fn zeros_cell(zeros: KeptZeros, weights: f64) -> String {
    let kept = match zeros.kept == zeros.before {
        true => "all".to_owned(),
        false => percent(zeros.kept as f64 / zeros.before.max(1) as f64),
    };
    format!("{} → {kept}", percent(zeros.before as f64 / weights.max(1.0)))
}

/// Three digits that matter.
fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    let digits = if percent >= 9.995 { 1 } else { 2 };
    format!("{percent:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_three_digits() {
        let cell = |before, after| error_cell(&OutputError { before, after });
        assert_eq!(cell(0.123_44, 0.060_171), "12.3 → 6.02");
        assert_eq!(cell(0.0999, 0.000_123), "9.99 → 0.01");
    }

    #[test]
    fn all_is_said_only_of_all() {
        let cell = |kept| zeros_cell(KeptZeros { before: 50_000, kept }, 100_000.0);
        assert_eq!(cell(50_000), "50.0 → all");
        assert_eq!(cell(49_999), "50.0 → 100.0");
        assert_eq!(cell(1_000), "50.0 → 2.00");
    }
}
