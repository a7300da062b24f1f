//! Wanda over a whole model: every block is pruned by its weights and the norms of its inputs, and what follows sees the outputs of
//! what is pruned.

use slmc_model::LinearInput;
use slmc_prune::importance::wanda;
use slmc_quant::loss::InputStatistics;

use super::Pruner;
use crate::PipelineError;
use crate::export::TensorReport;
use crate::gptq::{RoundTensors, restore};
use crate::moments::InputMoments;
use crate::walker::{Walk, run_block};
use crate::work::Step;

/// Prunes and writes the linear layers of all blocks. Returns what became of each; the other tensors are still to be written. Finished
/// blocks are kept in the pruner's work directory, and taken from there where an earlier run finished them.
///
/// # Errors
/// The model cannot be run; an activation is not finite; writing fails; the user cancels.
pub fn prune_blocks(walk: &Walk<'_>, pruner: &Pruner<'_>) -> Result<Vec<TensorReport>, PipelineError> {
    let work = pruner.work();
    let finished = work.finished_blocks(Step::RoundedBlock);
    let mut reports = Vec::new();
    Walk { finished, ..*walk }.blocks(|layer, block, hidden, context| {
        if let Some(finished) = work.finished(Step::RoundedBlock(layer)) {
            reports.extend(restore::block(pruner, &finished, block)?);
            return run_block(block, hidden, context);
        }
        let mut moments = InputMoments::new(layer);
        hidden.each(|states| Ok(block.observe(states, context, &mut moments)?))?;
        let mut pruned = Vec::new();
        for (input, moments) in LinearInput::ALL.into_iter().zip(moments.finish()) {
            let second_moments = moments.second_moments();
            let inputs = InputStatistics::SecondMoments(&second_moments);
            for role in input.roles(walk.source.config()) {
                let by = |weights: &[f32]| wanda(weights, &second_moments);
                let (report, weights) =
                    pruner.prune_by_importance(layer, role, block.weight(role)?, by, inputs)?;
                block.set_weight(role, weights)?;
                pruned.push(report);
            }
        }
        restore::keep(work, Step::RoundedBlock(layer), &pruned)?;
        reports.extend(pruned);
        // nothing looks at what the last one gives
        if layer + 1 < walk.source.config().num_hidden_layers {
            run_block(block, hidden, context)?;
        }
        Ok(())
    })?;
    Ok(reports)
}
