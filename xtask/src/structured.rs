//! Structured pruning beside what it must beat, all scored by transformers.

use crate::scored::{Comparison, Runs};
use crate::tools::Tools;

/// A quarter of the layers' parameters cut out, in several ways.
pub fn run(tools: &Tools, comparison: &Comparison<'_>, sparsity: &str) -> Result<(), String> {
    let mut runs = Runs::new(tools, comparison)?;
    let widths = ["--kinds", "channels,kv-heads"];
    for (name, how) in [
        ("random channels and heads", &[&widths[..], &["--importance", "random", "--no-solve"]].concat()[..]),
        ("layers by block influence", &["--kinds", "layers", "--no-solve"]),
        ("layers by block influence, solved", &["--kinds", "layers"]),
        (
            "activation (Minitron), not solved",
            &[&widths[..], &["--importance", "activation", "--no-solve"]].concat(),
        ),
        (
            "variance with bias compensation (FLAP), not solved",
            &[&widths[..], &["--importance", "variance", "--no-solve", "--compensate-bias"]].concat(),
        ),
        ("hidden size", &["--kinds", "hidden-size"]),
        ("slmc, fast", &["--effort", "fast"]),
        ("slmc", &[]),
        ("slmc, with biases", &["--compensate-bias"]),
        ("slmc, best", &["--effort", "best"]),
    ] {
        runs.slmc(name, "prune", &[&["--structured", "--sparsity", sparsity], how].concat())?;
    }
    runs.print(&format!("{sparsity} of the layers' parameters cut out"))
}
