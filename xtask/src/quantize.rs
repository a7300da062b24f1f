//! Rounding to nearest: wall time and memory, pair by pair.

use std::path::Path;

use crate::report::{median, print};
use crate::tools::Tools;

const MEBIBYTE: f64 = (1 << 20) as f64;

pub fn run(tools: &Tools, model: &Path, types: &[String], rounds: usize) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (original, output) = (work.path().join("bf16.gguf"), work.path().join("out.gguf"));
    tools.convert(model, "bf16", &original)?;
    let mut rows = Vec::new();
    for ty in types {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut our_peak, mut their_peak) = (0, 0);
        for _ in 0..rounds {
            let llama = tools.llama_quantize(&original, ty, None, &output)?;
            let slmc = tools.slmc_quantize(model, "rtn", ty, None, &output)?;
            our_peak = our_peak.max(slmc.peak_bytes);
            their_peak = their_peak.max(llama.peak_bytes);
            let (slmc, llama) = (slmc.wall.as_secs_f64(), llama.wall.as_secs_f64());
            ratios.push(slmc / llama);
            ours.push(slmc);
            theirs.push(llama);
        }
        rows.push(vec![
            ty.clone(),
            format!("{:.2} s", median(theirs)),
            format!("{:.2} s", median(ours)),
            format!("{:.2}", median(ratios)),
            format!("{:.0} MiB", their_peak as f64 / MEBIBYTE),
            format!("{:.0} MiB", our_peak as f64 / MEBIBYTE),
        ]);
    }
    print(&["type", "llama-quantize", "slmc", "ratio", "llama-quantize, peak", "slmc, peak"], &rows);
    println!("Medians of {rounds} pairs, {} threads, whole commands.", tools.threads);
    Ok(())
}
