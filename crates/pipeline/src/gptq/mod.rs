//! GPTQ over a whole model: every block is rounded under the Hessians of its inputs, and the next block sees the outputs of
//! the rounded one.
//!
//! The algorithm itself is in `slmc_quant::gptq`; here is what needs the model. A block's tensors are written when they are
//! rounded; the embedding and the vectors are left to [`write_tensors`](crate::export::write_tensors).

mod hessians;
mod rounder;

use slmc_model::{Block, BurnDevice, Head, LinearInput, NoObserver, WeightSource};

use crate::PipelineError;
use crate::export::TensorReport;
use crate::progress::Reporter;
use crate::walker::{HiddenStates, walk};
use hessians::{BlockHessians, head_hessian};

pub use rounder::{RoundTensors, Rounder};

/// What is added to the Hessian's diagonal, in parts of its median: more than the paper's 0.01 (section 3.3, step 3). Measured
/// on an 11.5M-parameter Llama and 65 thousand tokens, the KL divergence of Q4_K_M and Q2_K is least between 0.1 and 0.2.
const DAMPING: f64 = 0.1;

/// The same for the head, whose weights are often the embedding too and then matter in directions that the head's inputs do
/// not have.
const HEAD_DAMPING: f64 = 1.0;

/// Rounds and writes the matrices of all blocks and the head, on calibration `sequences` (token ids, all of one length).
/// Returns what became of each; the other tensors of the file are still to be written.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; writing fails; the user cancels.
pub fn quantize(
    source: &dyn WeightSource,
    sequences: &[Vec<u32>],
    device: &BurnDevice,
    rounder: &dyn RoundTensors,
    reporter: &dyn Reporter,
) -> Result<Vec<TensorReport>, PipelineError> {
    let mut reports = Vec::new();
    let hidden = walk(source, sequences, device, reporter, |layer, block, hidden, context| {
        let mut hessians = BlockHessians::collect(layer, block, hidden, context)?;
        for input in LinearInput::ALL {
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
        run(block, hidden, context)
    })?;
    if rounder.rounds_head() {
        let head = Head::load(source, device)?;
        let hessian = head_hessian(source, &head, hidden)?;
        reports.push(rounder.round_head(hessian, HEAD_DAMPING)?);
    }
    Ok(reports)
}

fn run(block: &Block, hidden: &mut HiddenStates, context: &slmc_model::Context) -> Result<(), PipelineError> {
    for states in hidden.iter_mut() {
        *states = block.forward(states.clone(), context, &mut NoObserver)?;
    }
    Ok(())
}
