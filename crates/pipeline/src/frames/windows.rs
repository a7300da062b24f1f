//! What single tokens lost, as far as a report holds it: how it is distributed, and the means of windows.

use std::ops::Range;

use slmc_eval::Evaluation;
use slmc_report::{Metric, Rows, Scope};

use crate::jobs::evaluate::EvaluateOutcome;
use crate::jobs::worst::WorstCase;

/// Characters that are told of the text in front of a worst place.
const TOLD_BEFORE: usize = 80;
/// Bins a decade. They lie the same for every model, so that histograms can be laid over each other.
const PER_DECADE: i32 = 4;
/// The exponents of ten between which there are bins; below and above, all is one bin.
const DECADES: Range<i32> = -8..1;

/// Adds the histogram of the divergence, and every window's perplexity and divergence, the worst with what both models say.
pub(super) fn add(rows: &mut Rows, outcome: &EvaluateOutcome) {
    let evaluation = &outcome.evaluation;
    let scores = &evaluation.scores;
    if let Some(drift) = &scores.drift {
        histogram(rows, drift.iter().map(|drift| drift.kl));
    }
    for (window, range) in evaluation.window_rows().enumerate() {
        let nll = mean(&scores.nll[range.clone()], |nll| *nll);
        rows.add(Scope::Window, Metric::Perplexity).item(window).value(nll.exp());
        if let Some(drift) = &scores.drift {
            let kl = mean(&drift[range], |drift| drift.kl);
            let row = rows.add(Scope::Window, Metric::KlDivergence).item(window).value(kl);
            row.text = outcome.worst.iter().find(|case| case.place.window == window).map(told);
        }
    }
}

/// Adds every window's perplexity of the base.
pub(super) fn add_base(rows: &mut Rows, evaluation: &Evaluation) {
    let Some(drift) = &evaluation.scores.drift else { return };
    for (window, range) in evaluation.window_rows().enumerate() {
        let nll = mean(&drift[range], |drift| drift.base_nll);
        rows.add(Scope::Window, Metric::Perplexity).item(window).value(nll.exp());
    }
}

/// What stands in front of a window's worst place, what comes there, and how both models go on.
fn told(case: &WorstCase) -> String {
    let before = case.context.chars().count().saturating_sub(TOLD_BEFORE);
    let context: String = case.context.chars().skip(before).collect();
    let (token, base, model) = (&case.token, &case.base.continuation, &case.model.continuation);
    format!("…{context}⟨{token}⟩ — original: “{base}” — this model: “{model}”")
}

fn mean<T>(values: &[T], of: impl Fn(&T) -> f64) -> f64 {
    values.iter().map(of).sum::<f64>() / values.len() as f64
}

/// Adds the number of values in each quarter of a decade, from the first that has any to the last.
fn histogram(rows: &mut Rows, values: impl Iterator<Item = f64>) {
    let first = DECADES.start * PER_DECADE;
    let bins = (DECADES.len() as i32 * PER_DECADE) as usize;
    let mut counts = vec![0_u64; bins + 2];
    for value in values {
        // a divergence of 0 has no logarithm and belongs to the lowest bin
        let quarter =
            if value > 0.0 { (value.log10() * f64::from(PER_DECADE)).floor() } else { f64::NEG_INFINITY };
        counts[(quarter - f64::from(first) + 1.0).clamp(0.0, (bins + 1) as f64) as usize] += 1;
    }
    let edge = |bin: usize| 10_f64.powf(f64::from(first + bin as i32) / f64::from(PER_DECADE));
    let used: Vec<usize> = (0..counts.len()).filter(|bin| counts[*bin] > 0).collect();
    let (Some(from), Some(to)) = (used.first(), used.last()) else { return };
    for bin in *from..=*to {
        let (low, high) = (bin.checked_sub(1).map(edge), (bin <= bins).then(|| edge(bin)));
        rows.add(Scope::Histogram, Metric::Tokens).item(bin).between(low, high).value(counts[bin] as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bin_whose_edges_hold_it() {
        let values = [0.0, 1e-12, 0.9e-8, 1.1e-8, 3e-5, 0.02, 0.02, 1.5, 9.9, 10.1, 700.0];
        let mut rows = Rows::new("m", Some("b"));
        histogram(&mut rows, values.into_iter());
        let rows = rows.finish();
        assert_eq!(rows.iter().filter_map(|row| row.value).sum::<f64>(), values.len() as f64);
        for row in &rows {
            let (low, high) = (row.low.unwrap_or(0.0), row.high.unwrap_or(f64::INFINITY));
            let inside = values.iter().filter(|value| (low..high).contains(value)).count();
            assert_eq!(row.value, Some(inside as f64), "{row:?}");
        }
        // neighbours share their edge
        assert!(rows.windows(2).all(|pair| pair[0].high == pair[1].low));
        assert_eq!((rows[0].low, rows[rows.len() - 1].high), (None, None));
    }
}
