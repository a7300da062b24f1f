//! Every tensor's output error, as plain rounding would have left it and as it is: blocks as rows, layers as columns.

use comfy_table::Table;
use slmc_pipeline::jobs::quantize::{OutputError, TensorReport};
use slmc_report::layers::place;

use super::table::table;

/// The table, and the tensors that are in no block; `None` where no output error was measured.
pub fn output_errors(tensors: &[TensorReport]) -> Option<(Table, Vec<String>)> {
    let (mut columns, mut rows, mut others) = (vec!["block"], Vec::<Vec<String>>::new(), Vec::new());
    for tensor in tensors {
        let Some(error) = &tensor.output_error else { continue };
        let Some((block, layer)) = place(&tensor.name) else {
            others.push(format!("{} {}", tensor.name, cell(error)));
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
        row[column] = cell(error);
    }
    if rows.is_empty() && others.is_empty() {
        return None;
    }
    for row in &mut rows {
        row.resize(columns.len(), String::new());
    }
    Some((table(columns, rows), others))
}

fn cell(error: &OutputError) -> String {
    format!("{} → {}", percent(error.before), percent(error.after))
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
        let cell = |before, after| cell(&OutputError { before, after });
        assert_eq!(cell(0.123_44, 0.060_171), "12.3 → 6.02");
        assert_eq!(cell(0.0999, 0.000_123), "9.99 → 0.01");
    }
}
