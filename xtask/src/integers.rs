//! INT4 with groups of 128 beside the Python peers: accuracy, wall time and memory.

use crate::scored::{Comparison, Runs};
use crate::tools::Tools;

/// AutoRound with so many `iterations`; 0 leaves it out.
pub fn run(tools: &Tools, comparison: &Comparison<'_>, iterations: usize) -> Result<(), String> {
    let mut runs = Runs::new(tools, comparison)?;
    runs.peer("llm-compressor GPTQ", "run_llm_compressor.py", &["--method", "gptq"])?;
    if iterations > 0 {
        let count = iterations.to_string();
        runs.peer(&format!("AutoRound, {count} iterations"), "run_auto_round.py", &["--iters", &count])?;
    }
    for effort in ["fast", "balanced", "best"] {
        let how = ["--method", "gptq", "--bits", "4", "--group-size", "128", "--effort", effort];
        runs.slmc(&format!("slmc gptq, {effort}"), "quantize", &how)?;
    }
    runs.print("INT4 symmetric, groups of 128")
}
