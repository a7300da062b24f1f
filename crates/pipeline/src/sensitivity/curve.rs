//! From the sum of the tensors' costs to the divergence of the whole model.
//!
//! Costs add up as long as errors are small and independent. A model of which every tensor is rounded shows how far that goes: it
//! was measured at several types, and what lies between is told from the two next to it.

/// Sums of costs and the divergences measured at them.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// (logarithm of the sum, logarithm of measured / sum), with rising sums.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// From pairs of a sum and the divergence measured at it; pairs in which one is not positive say nothing.
    pub fn new(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<_> = pairs
            .into_iter()
            .filter(|&(sum, measured)| sum > 0.0 && measured > 0.0)
            .map(|(sum, measured)| (sum.ln(), (measured / sum).ln()))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by_key(|point| point.0);
        Self { points }
    }

    /// What a sum is to be multiplied with: by the logarithms, linear between two points, and that of the nearest beyond the
    /// outermost; 1 without points.
    pub fn factor(&self, sum: f64) -> f64 {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return 1.0 };
        let at = sum.ln().clamp(first.0, last.0);
        let above = self.points.partition_point(|point| point.0 < at);
        let (b, a) = (self.points[above], self.points[above.saturating_sub(1)]);
        let share = if b.0 > a.0 { (at - a.0) / (b.0 - a.0) } else { 0.0 };
        (a.1 + share * (b.1 - a.1)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::Curve;

    #[test]
    fn a_curve_goes_through_its_points_and_stays_at_its_ends() {
        let curve = Curve::new([(1e-2, 2e-2), (1e-4, 1e-4), (0.0, 1.0), (1e-3, 0.0)]);
        for (sum, factor) in
            [(1e-4, 1.0), (1e-2, 2.0), (1e-3, 2f64.sqrt()), (1e-9, 1.0), (1.0, 2.0), (0.0, 1.0)]
        {
            assert!((curve.factor(sum) - factor).abs() < 1e-12, "{sum}: {}", curve.factor(sum));
        }
        assert_eq!(Curve::new([]).factor(0.1), 1.0);
        assert!((Curve::new([(1.0, 3.0)]).factor(0.1) - 3.0).abs() < 1e-12);
    }
}
