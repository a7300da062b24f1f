//! The order in which columns are rounded.

use std::cmp::Ordering;

use crate::QuantError;
use crate::gptq::FeedbackFactor;

/// Which columns are rounded first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they stand.
    #[default]
    Natural,
    /// By falling diagonal of the Hessian (`act_order`): columns with large inputs while most others can still make up for
    /// their errors.
    Activation,
}

/// A factor whose position k is column `columns[k]`.
pub struct OrderedFactor {
    pub columns: Vec<usize>,
    pub factor: FeedbackFactor,
}

/// The factor of the same Hessian, its columns by falling diagonal, equal ones as they stand.
pub fn by_activation(factor: &FeedbackFactor) -> Result<OrderedFactor, QuantError> {
    let (n, hessian) = (factor.columns(), factor.hessian());
    let mut columns: Vec<usize> = (0..n).collect();
    columns.sort_by(|&a, &b| hessian[b * n + b].partial_cmp(&hessian[a * n + a]).unwrap_or(Ordering::Equal));
    let rows = columns.iter().map(|&row| &hessian[row * n..][..n]);
    let permuted = rows.flat_map(|row| columns.iter().map(|&column| row[column])).collect();
    Ok(OrderedFactor { factor: FeedbackFactor::new(permuted, n, 0.0)?, columns })
}

/// The paper's damping, `part` of the diagonal's mean (section 3.3), in parts of its median as [`FeedbackFactor::new`]
/// takes it. Columns without input are left out of both.
pub fn damping_of_mean(hessian: &[f32], columns: usize, part: f64) -> f64 {
    let mut diagonal: Vec<f32> = hessian.iter().step_by(columns + 1).copied().filter(|d| *d > 0.0).collect();
    diagonal.sort_unstable_by(f32::total_cmp);
    let Some(median) = diagonal.get(diagonal.len() / 2) else { return part };
    let mean = diagonal.iter().map(|d| f64::from(*d)).sum::<f64>() / diagonal.len() as f64;
    part * mean / f64::from(*median)
}
