//! Pruning beside llm-compressor's: accuracy, wall time and memory.

use crate::scored::{Comparison, Runs};
use crate::tools::Tools;

/// Half of every linear layer, or two of every four with `pattern`.
pub fn run(tools: &Tools, comparison: &Comparison<'_>, pattern: bool) -> Result<(), String> {
    let (structure, how, what) = match pattern {
        true => ("2:4", ["--pattern", "2:4"], "Two of every four weights of the linear layers zero"),
        false => ("0:0", ["--sparsity", "0.5"], "Half of the linear layers' weights zero"),
    };
    let mut runs = Runs::new(tools, comparison)?;
    for method in ["wanda", "sparsegpt"] {
        let arguments = ["--method", method, "--mask-structure", structure];
        runs.peer(&format!("llm-compressor {method}"), "run_llm_compressor.py", &arguments)?;
    }
    for method in ["magnitude", "wanda"] {
        runs.slmc(&format!("slmc {method}"), "prune", &[&["--method", method], &how[..]].concat())?;
    }
    for effort in ["fast", "balanced", "best"] {
        let arguments = [&["--method", "sparsegpt", "--effort", effort], &how[..]].concat();
        runs.slmc(&format!("slmc sparsegpt, {effort}"), "prune", &arguments)?;
    }
    runs.print(what)
}
