//! Every tensor's output error, as plain rounding would have left it and as it is: blocks as rows, layers as columns.

use comfy_table::Table;
use slmc_pipeline::jobs::quantize::{OutputError, TensorReport};

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

/// The block's number and the layer's name in a tensor name of GGUF or of Hugging Face: `blk.3.attn_q.weight`,
/// `model.layers.3.self_attn.q_proj.weight`.
fn place(name: &str) -> Option<(&str, &str)> {
    let inner = name.strip_prefix("blk.").or_else(|| name.strip_prefix("model.layers."))?;
    let (block, layer) = inner.strip_suffix(".weight")?.split_once('.')?;
    Some((block, layer.rsplit('.').next()?))
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
    fn names_of_both_kinds_have_their_place() {
        assert_eq!(place("blk.12.ffn_down.weight"), Some(("12", "ffn_down")));
        assert_eq!(place("model.layers.3.self_attn.q_proj.weight"), Some(("3", "q_proj")));
        assert_eq!(place("token_embd.weight"), None);
    }

    #[test]
    fn errors_have_three_digits() {
        let cell = |before, after| cell(&OutputError { before, after });
        assert_eq!(cell(0.123_44, 0.060_171), "12.3 → 6.02");
        assert_eq!(cell(0.0999, 0.000_123), "9.99 → 0.01");
    }
}
