//! Shares by block after how many outliers a block has: blocks with many keep more.
//!
//! Source: Yin et al., "Outlier Weighed Layerwise Sparsity (OWL)", arXiv 2310.05175, section 3.2. A block's layerwise outlier
//! distribution is the share of its weights whose importance |w|·‖x‖ is more than M times the block's mean. The shares of kept weights
//! lie in a band of 2 λ around the mean share, in the order of the blocks' outliers.

use rayon::prelude::*;

/// OWL's M where nothing is said: the paper uses 5 or 7.
pub const THRESHOLD: f64 = 5.0;

/// OWL's λ where nothing is said, the paper's.
pub const LAMBDA: f64 = 0.08;

/// Sum of importances, in an order that does not depend on the number of threads.
pub fn sum(importance: &[f32]) -> f64 {
    let parts: Vec<f64> =
        importance.par_chunks(1 << 14).map(|part| part.iter().map(|x| f64::from(*x)).sum()).collect();
    parts.iter().sum()
}

/// Importances above `threshold`.
pub fn above(importance: &[f32], threshold: f64) -> u64 {
    importance.par_iter().filter(|x| f64::from(**x) > threshold).count() as u64
}

/// Shares to prune of every block, of which the mean is `share`, from the blocks' shares of outliers. All alike where the outliers are.
/// Where the band would leave 0 to 1 it is narrowed.
pub fn shares(outliers: &[f64], share: f64, lambda: f64) -> Vec<f64> {
    let least = outliers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = outliers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if outliers.is_empty() || most <= least {
        return vec![share; outliers.len()];
    }
    // 0 for the fewest outliers, 1 for the most
    let rank: Vec<f64> = outliers.iter().map(|d| (d - least) / (most - least)).collect();
    let mean = rank.iter().sum::<f64>() / rank.len() as f64;
    let room = (share / (1.0 - mean)).min((1.0 - share) / mean);
    let band = (2.0 * lambda).min(room);
    rank.iter().map(|rank| (share - band * (rank - mean)).clamp(0.0, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_outliers_keep_more_within_the_band() {
        let shares = shares(&[0.01, 0.05, 0.02, 0.03], 0.6, 0.08);
        let mean = shares.iter().sum::<f64>() / 4.0;
        assert!((mean - 0.6).abs() < 1e-12);
        let (least, most) = (shares[1], shares[0]);
        assert!((most - least - 0.16).abs() < 1e-12, "{shares:?}");
        assert!(shares[0] > shares[2] && shares[2] > shares[3] && shares[3] > shares[1]);
    }

    #[test]
    fn equal_outliers_make_equal_shares_and_none_leaves_its_range() {
        assert_eq!(shares(&[0.1, 0.1], 0.5, 0.08), [0.5, 0.5]);
        assert!(shares(&[], 0.5, 0.08).is_empty());
        for share in [0.02, 0.98] {
            assert!(shares(&[0.0, 0.2, 1.0], share, 0.4).iter().all(|s| (0.0..=1.0).contains(s)));
        }
    }

    #[test]
    fn outliers_are_above_m_times_the_mean() {
        let importance: Vec<f32> = (0..100_000).map(|i| if i % 1000 == 0 { 50.0 } else { 1.0 }).collect();
        let mean = sum(&importance) / 1e5;
        assert!((mean - 1.049).abs() < 1e-9);
        assert_eq!(above(&importance, 5.0 * mean), 100);
    }
}
