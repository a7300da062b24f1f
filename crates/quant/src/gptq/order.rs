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
    /// their errors. Where columns of a block share scales that are fitted when their turn comes, whole blocks.
    Activation,
}

/// A factor whose position k is column `columns[k]`.
pub struct OrderedFactor {
    pub columns: Vec<usize>,
    pub factor: FeedbackFactor,
}

/// The factor of the same Hessian, its blocks of `block_len` columns by falling sum of the diagonal, equal ones as they stand;
/// what columns a last, shorter block has stays behind the others.
pub fn by_activation(factor: &FeedbackFactor, block_len: usize) -> Result<OrderedFactor, QuantError> {
    let (n, hessian) = (factor.columns(), factor.hessian());
    let diagonal: Vec<f32> = hessian.iter().step_by(n + 1).copied().collect();
    let sums: Vec<f32> = diagonal.chunks_exact(block_len).map(|block| block.iter().sum()).collect();
    let mut blocks: Vec<usize> = (0..sums.len()).collect();
    blocks.sort_by(|&a, &b| sums[b].partial_cmp(&sums[a]).unwrap_or(Ordering::Equal));
    let columns = blocks.iter().flat_map(|block| block * block_len..(block + 1) * block_len);
    let columns: Vec<usize> = columns.chain(sums.len() * block_len..n).collect();
    let rows = columns.iter().map(|&row| &hessian[row * n..][..n]);
    let permuted = rows.flat_map(|row| columns.iter().map(|&column| row[column])).collect();
    Ok(OrderedFactor { factor: FeedbackFactor::new(permuted, n, 0.0)?, columns })
}

impl OrderedFactor {
    /// Rows (`[n, columns]`) with their values in this order.
    pub fn arrange<T: Copy>(&self, rows: &[T]) -> Vec<T> {
        let n = self.columns.len();
        rows.chunks_exact(n).flat_map(|row| self.columns.iter().map(|&column| row[column])).collect()
    }

    /// Puts the blocks of a row that was arranged whole blocks at a time back where they belong.
    pub fn put_back(&self, row: &mut [u8], block_len: usize, block_bytes: usize) {
        let arranged = row.to_vec();
        let first_columns = self.columns.iter().step_by(block_len);
        for (block, column) in arranged.chunks_exact(block_bytes).zip(first_columns) {
            let at = column / block_len * block_bytes;
            row[at..at + block_bytes].copy_from_slice(block);
        }
    }
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
