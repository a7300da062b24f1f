//! One file a verb: resolve, run the job, print.

pub mod bench;
pub mod compare;
pub mod convert;
pub mod distill;
pub mod eval;
pub mod gate;
pub mod generate;
pub mod imatrix;
pub mod inspect;
pub mod prune;
pub mod quantize;
pub mod report;
pub mod run;
mod structured;
mod tasks;
mod vocabulary;

use serde::Serialize;
use slmc_pipeline::PipelineError;

use crate::failure::Failure;

/// Exit code of a measurement that Ctrl-C ended early: 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// One JSON object on standard output.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("cannot print the result as JSON: {error}")))?;
    println!("{text}");
    Ok(())
}

/// A job's error as a failure of the command: a wrong pattern, options that do not go together or a limit too low are wrong
/// usage, an interrupted measurement has its own code, everything else is failed work.
fn failure(error: PipelineError) -> Failure {
    let mut failure = Failure::from_error(&error);
    if matches!(
        error,
        PipelineError::Plan(_)
            | PipelineError::ImatrixMethod { .. }
            | PipelineError::Memory(_)
            | PipelineError::NoBase
            | PipelineError::CannotPrune { .. }
            | PipelineError::NoLlamaCpp
            | PipelineError::NotGguf { .. }
    ) {
        failure.code = 2;
    }
    if matches!(error, PipelineError::NothingMeasured) {
        failure.code = INTERRUPTED;
    }
    failure
}
