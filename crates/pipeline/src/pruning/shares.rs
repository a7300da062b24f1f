//! How many weights each linear layer loses, where not all lose the same share.

use slmc_prune::budget::{Share, counts};
use slmc_prune::plan::PlannedTensor;
use slmc_prune::smallest::Threshold;
use slmc_prune::{PruneError, PrunePlan, importance, owl};
use slmc_quant::allocate::{Budget, Candidate, allocate};

use super::{BlockCosts, Scores};
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader};
use crate::progress::{Reporter, Unit};

/// Weights that are looked at together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// By how much shares of blocks may differ from the whole model's where they follow measured costs.
const REACH: f64 = 0.2;

/// Shares of a block that are weighed against each other.
const STEPS: usize = 40;

/// The linear layers that are pruned, and where their weights come from.
pub struct Layers<'a> {
    /// Reads them.
    pub reader: &'a RowReader<'a>,
    /// All tensors of the checkpoint.
    pub tensors: &'a [ExportTensor],
    /// What becomes of them.
    pub plan: &'a PrunePlan,
    /// Hears of the progress.
    pub reporter: &'a dyn Reporter,
}

/// The shares at which block costs are measured, for a share of the whole model: as far below as above, and never all or nothing.
pub fn measured_shares(share: f64) -> Vec<f64> {
    let reach = REACH.min(0.5 * share).min(0.5 * (1.0 - share));
    vec![share - reach, share, share + reach]
}

impl Layers<'_> {
    /// Counts by the smallest magnitudes of all layers together.
    ///
    /// # Errors
    /// A tensor cannot be read; the user cancels.
    pub fn by_magnitude(&self) -> Result<Vec<u64>, PipelineError> {
        let total = self.total();
        let weights: u64 = self.pruned().map(|(_, planned)| planned.weights()).sum();
        self.reporter.begin("Comparing", 3 * weights, Unit::Weights);
        let mut threshold = Threshold::new(total.max(1));
        let mut bound = None;
        for _ in 0..2 {
            for (tensor, _) in self.pruned() {
                self.each(tensor, |weights| threshold.add(&importance::magnitude(weights)))?;
            }
            bound = threshold.turn();
        }
        let mut bound = bound.expect("no more are pruned than there are");
        let mut counts = Vec::new();
        for (tensor, _) in self.pruned() {
            let mut count = 0;
            self.each(tensor, |weights| count += bound.take(&importance::magnitude(weights)))?;
            counts.push(count);
        }
        self.reporter.end();
        Ok(counts)
    }

    /// Counts after the blocks' outliers (`slmc_prune::owl`), whose importance is Wanda's.
    ///
    /// # Errors
    /// A tensor cannot be read or has no score; the user cancels.
    pub fn by_outliers(&self, scores: &Scores, m: f64, lambda: f64) -> Result<Vec<u64>, PipelineError> {
        let weights: u64 = self.pruned().map(|(_, planned)| planned.weights()).sum();
        self.reporter.begin("Looking for outliers", 2 * weights, Unit::Weights);
        let mut outliers = Vec::new();
        for layer in self.blocks() {
            let (mut sum, mut count, mut above) = (0.0, 0u64, 0u64);
            for pass in 0..2 {
                for (tensor, planned) in self.pruned().filter(|(_, planned)| block_of(planned) == layer) {
                    let moments = moments(scores, planned)?;
                    let mut failure = Ok(());
                    self.each(tensor, |weights| match importance::wanda(weights, moments) {
                        Ok(importance) if pass == 0 => {
                            sum += owl::sum(&importance);
                            count += importance.len() as u64;
                        }
                        Ok(importance) => above += owl::above(&importance, m * sum / count.max(1) as f64),
                        Err(source) => failure = Err(source),
                    })?;
                    failure.map_err(failed(planned))?;
                }
            }
            outliers.push(above as f64 / count.max(1) as f64);
        }
        self.reporter.end();
        self.counts(&owl::shares(&outliers, self.plan.sparsity.share(), lambda))
    }

    /// Counts by what pruning each block costs, under which the sum of costs is least.
    ///
    /// # Errors
    /// Costs that are none.
    pub fn by_cost(&self, costs: &BlockCosts) -> Result<Vec<u64>, PipelineError> {
        let blocks = self.blocks();
        let weights: Vec<u64> = blocks
            .iter()
            .map(|layer| self.pruned().filter(|(_, p)| block_of(p) == *layer).map(|(_, p)| p.weights()).sum())
            .collect();
        let (low, high) = (costs.shares[0], costs.shares[costs.shares.len() - 1]);
        let share = |step: usize| low + (high - low) * step as f64 / STEPS as f64;
        let candidates: Vec<Vec<Candidate>> = blocks
            .iter()
            .zip(&weights)
            .map(|(layer, weights)| {
                let of = layer.and_then(|layer| costs.divergences.get(layer));
                let cost = |step: usize| Candidate {
                    // what is kept stands for bytes
                    bytes: ((1.0 - share(step)) * *weights as f64).round() as u64,
                    loss: of.map_or(0.0, |of| interpolated(&costs.shares, of, share(step))),
                };
                (0..=STEPS).map(cost).collect()
            })
            .collect();
        let kept = weights.iter().sum::<u64>() - self.total();
        let found = allocate(&candidates, Budget::Bytes(kept)).map_err(|error| PipelineError::Search {
            tensor: "the blocks' shares".into(),
            reason: error.to_string(),
        })?;
        self.counts(&found.choices.iter().map(|step| share(*step)).collect::<Vec<_>>())
    }

    /// Exact counts of all layers for shares of their blocks.
    fn counts(&self, shares: &[f64]) -> Result<Vec<u64>, PipelineError> {
        let blocks = self.blocks();
        let share = |planned: &PlannedTensor| {
            let at = blocks.iter().position(|layer| *layer == block_of(planned)).unwrap_or_default();
            Share { weights: planned.weights(), share: shares[at] }
        };
        let tensors: Vec<Share> = self.pruned().map(|(_, planned)| share(planned)).collect();
        Ok(counts(&tensors, self.total())?)
    }

    /// Weights that become zero, all together.
    fn total(&self) -> u64 {
        let weights: u64 = self.pruned().map(|(_, planned)| planned.weights()).sum();
        self.plan.sparsity.pruned_of(weights as usize) as u64
    }

    fn pruned(&self) -> impl Iterator<Item = (&ExportTensor, &PlannedTensor)> {
        self.tensors.iter().zip(&self.plan.tensors).filter(|(_, planned)| planned.pruned.is_some())
    }

    /// The blocks that have layers to prune, in order.
    fn blocks(&self) -> Vec<Option<usize>> {
        let mut blocks: Vec<_> = self.pruned().map(|(_, planned)| block_of(planned)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// Calls `look` with all weights of a tensor, some rows at a time.
    fn each(&self, tensor: &ExportTensor, mut look: impl FnMut(&[f32])) -> Result<(), PipelineError> {
        let step = (CHUNK_WEIGHTS / tensor.columns()).max(1);
        let mut weights = Vec::new();
        for first in (0..tensor.rows()).step_by(step) {
            if self.reporter.is_cancelled() {
                return Err(PipelineError::Cancelled);
            }
            self.reader.read(
                tensor,
                first..tensor.rows().min(first + step),
                &mut weights,
                &mut Vec::new(),
            )?;
            look(&weights);
            self.reporter.advance(weights.len() as u64);
        }
        Ok(())
    }
}

/// The second moments of a layer's inputs.
///
/// # Errors
/// The scores have none.
pub fn moments<'a>(scores: &'a Scores, planned: &PlannedTensor) -> Result<&'a [f32], PipelineError> {
    let found = scores.moments.get(&planned.name).filter(|moments| moments.len() == planned.shape[1]);
    found.map(Vec::as_slice).ok_or_else(|| PipelineError::Search {
        tensor: planned.hf_name.clone(),
        reason: "the scores have no moments of its inputs".into(),
    })
}

fn block_of(planned: &PlannedTensor) -> Option<usize> {
    slmc_report::layers::place(&planned.name)?.0.parse().ok()
}

/// ln D straight between the measured shares: what one more weight costs grows with what is pruned already.
fn interpolated(shares: &[f64], divergences: &[f64], at: f64) -> f64 {
    const LEAST: f64 = 1e-12;
    let n = shares.windows(2).position(|pair| at <= pair[1]).unwrap_or(shares.len().saturating_sub(2));
    let (Some(low), Some(high)) = (divergences.get(n), divergences.get(n + 1)) else { return 0.0 };
    let part = ((at - shares[n]) / (shares[n + 1] - shares[n])).clamp(0.0, 1.0);
    let [low, high] = [low, high].map(|d| d.max(LEAST).ln());
    (low + part * (high - low)).exp()
}

fn failed(planned: &PlannedTensor) -> impl FnOnce(PruneError) -> PipelineError {
    |source| PipelineError::Pruning { tensor: planned.hf_name.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_between_measured_shares_are_between_and_meet_them() {
        let (shares, costs) = ([0.3, 0.5, 0.7], [0.01, 0.04, 0.4]);
        for (share, cost) in shares.iter().zip(costs) {
            assert!((interpolated(&shares, &costs, *share) - cost).abs() < 1e-12);
        }
        assert!((interpolated(&shares, &costs, 0.4) - 0.02).abs() < 1e-12);
        let all: Vec<f64> = (0..=40).map(|n| interpolated(&shares, &costs, 0.3 + 0.01 * n as f64)).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn measured_shares_lie_inside_and_around() {
        for share in [0.05, 0.5, 0.9, 0.99] {
            let shares = measured_shares(share);
            assert!(shares.is_sorted() && shares[0] > 0.0 && shares[2] < 1.0 && shares[1] == share);
        }
    }
}
