//! What is known of one matrix's inputs.

/// Sums of squares of the input columns of one matrix, or of a stack of expert matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    sums: Vec<f32>,
    counts: Vec<u64>,
}

/// Sums or counts that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum EntryError {
    #[error("{sums} sums for {counts} counts; expected as many sums for each count, and at least one")]
    Lengths { sums: usize, counts: usize },
    #[error("sum {index} is {value}; sums of squares are finite and not negative")]
    Sum { index: usize, value: f32 },
    #[error("count {index} is {value}; counts of tokens are whole, not negative and at most 2^53")]
    Count { index: usize, value: f64 },
}

/// The largest count: whole numbers are exact in f64 up to here.
const MAX_COUNT: f64 = (1u64 << 53) as f64;

impl Entry {
    /// `sums` is `[counts, d_in]`: Σx² of every column, of one matrix after the other; `counts` says over how many tokens.
    ///
    /// # Errors
    /// Lengths that do not belong together; a sum or count that none can be.
    pub fn new(sums: Vec<f32>, counts: &[f64]) -> Result<Self, EntryError> {
        if sums.is_empty() || counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            return Err(EntryError::Lengths { sums: sums.len(), counts: counts.len() });
        }
        if let Some(index) = sums.iter().position(|sum| !sum.is_finite() || *sum < 0.0) {
            return Err(EntryError::Sum { index, value: sums[index] });
        }
        let is_count = |count: f64| (0.0..=MAX_COUNT).contains(&count) && count.fract() == 0.0;
        if let Some(index) = counts.iter().position(|&count| !is_count(count)) {
            return Err(EntryError::Count { index, value: counts[index] });
        }
        Ok(Self { sums, counts: counts.iter().map(|&count| count as u64).collect() })
    }

    /// Σx² of every column, `[matrices, d_in]`.
    pub fn sums(&self) -> &[f32] {
        &self.sums
    }

    /// Tokens that each matrix was fed with.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// E\[x²\] of every column, `[matrices, d_in]`; `None` where no token was seen. As in llama-quantize, an expert without a
    /// token weighs all its columns alike.
    pub fn importance(&self) -> Option<Vec<f32>> {
        if self.counts.iter().all(|&count| count == 0) {
            return None;
        }
        let of_matrix = self.sums.chunks_exact(self.sums.len() / self.counts.len()).zip(&self.counts);
        let mean = |sum: f32, count: u64| match count {
            0 => 1.0,
            // rounded once: f64 holds more than twice f32's digits
            _ => (f64::from(sum) / count as f64) as f32,
        };
        Some(of_matrix.flat_map(|(sums, &count)| sums.iter().map(move |&sum| mean(sum, count))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_is_the_mean_square_of_each_matrix() {
        let entry = Entry::new(vec![2.0, 0.0, 9.0, 3.0, 7.0, 0.0], &[2.0, 3.0, 0.0]).unwrap();
        assert_eq!(entry.importance().unwrap(), [1.0, 0.0, 3.0, 1.0, 1.0, 1.0]);
        assert_eq!(Entry::new(vec![0.0; 4], &[0.0]).unwrap().importance(), None);
    }
}
