//! GPTQ over a whole model: every block is rounded under the Hessians of its inputs, and the next block sees the outputs of
//! the rounded one.
//!
//! The algorithm itself is in `slmc_quant::gptq`; here is what needs the model. A block's tensors are written when they are
//! rounded; the embedding and the vectors are left to [`write_tensors`](crate::export::write_tensors).

mod hessians;
mod restore;
mod rounder;

use slmc_model::{Block, Context, Head, LinearInput};

use crate::PipelineError;
use crate::export::TensorReport;
use crate::hidden::HiddenStates;
use crate::progress::Reporter;
use crate::walker::{Walk, run_block};
use crate::work::Step;
use hessians::{BlockHessians, head_hessian};

pub use rounder::{RoundTensors, Rounder};

/// What is added to the Hessian's diagonal, in parts of its median: more than the paper's 0.01 (section 3.3, step 3). Measured
/// on an 11.5M-parameter Llama and 65 thousand tokens, the KL divergence of Q4_K_M and Q2_K is least between 0.1 and 0.2.
const DAMPING: f64 = 0.1;

/// The same for the head, whose weights are often the embedding too and then matter in directions that the head's inputs do
/// not have.
const HEAD_DAMPING: f64 = 1.0;

/// Rounds and writes the matrices of all blocks and the head. Returns what became of each; the other tensors of the file are
/// still to be written. Finished blocks are kept in the rounder's work directory, and taken from there where an earlier run
/// finished them.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; writing fails; the user cancels.
pub fn quantize(walk: &Walk<'_>, rounder: &dyn RoundTensors) -> Result<Vec<TensorReport>, PipelineError> {
    let (work, blocks) = (rounder.work(), walk.source.config().num_hidden_layers);
    if let Some(reports) = restore::all(rounder, blocks)? {
        return Ok(reports);
    }
    let mut reports = Vec::new();
    let (source, device, reporter) = (walk.source, walk.device, walk.reporter);
    let finished = work.finished_blocks(Step::RoundedBlock);
    let hidden = Walk { finished, ..*walk }.blocks(|layer, block, hidden, context| {
        let rounded = match work.finished(Step::RoundedBlock(layer)) {
            Some(finished) => restore::block(rounder, &finished, block)?,
            None => round_block(block, hidden, context, rounder, reporter)?,
        };
        reports.extend(rounded);
        run_block(block, hidden, context)
    })?;
    if rounder.rounds_head() {
        let head = Head::load(source, device)?;
        let hessian = head_hessian(source, &head, &hidden)?;
        drop(hidden);
        let report = rounder.round_head(hessian, HEAD_DAMPING)?;
        restore::keep(work, Step::RoundedHead, std::slice::from_ref(&report))?;
        reports.push(report);
    }
    Ok(reports)
}

/// Rounds and writes a block's matrices, and leaves it with the rounded ones.
fn round_block(
    block: &mut Block,
    hidden: &HiddenStates,
    context: &Context,
    rounder: &dyn RoundTensors,
    reporter: &dyn Reporter,
) -> Result<Vec<TensorReport>, PipelineError> {
    let layer = block.layer();
    let mut reports = Vec::new();
    let mut hessians = BlockHessians::collect(layer, block, hidden, context)?;
    for input in LinearInput::ALL {
        if reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let factor = hessians.factor(input, DAMPING)?;
        let damping = factor.damping();
        if damping.raised > 0 {
            reporter.warn(&format!(
                "block {layer}, {input}: the Hessian could be factored only with {} of its diagonal's median added; more \
                 calibration text would help",
                damping.relative
            ));
        }
        for &role in input.roles() {
            let (report, values) = rounder.round_linear(layer, role, &factor)?;
            block.set_weight(role, values)?;
            reports.push(report);
        }
    }
    restore::keep(rounder.work(), Step::RoundedBlock(layer), &reports)?;
    Ok(reports)
}
