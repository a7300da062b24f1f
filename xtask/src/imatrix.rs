//! Importance matrices: tokens a second of making one, pair by pair.

use std::path::Path;

use crate::command::Finished;
use crate::report::{median, print};
use crate::tools::Tools;

const SEQ_LEN: usize = 512;
const MEBIBYTE: f64 = (1 << 20) as f64;

pub fn run(
    tools: &Tools,
    model: &Path,
    calibration: &Path,
    chunks: usize,
    rounds: usize,
) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (gguf, output) = (work.path().join("f16.gguf"), work.path().join("imatrix.gguf"));
    tools.convert(model, "f16", &gguf)?;
    let tokens = (chunks * SEQ_LEN) as f64;
    let (mut ours, mut theirs, mut ratios, mut peaks) = (Vec::new(), Vec::new(), Vec::new(), (0, 0));
    let (mut our_work, mut their_work) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let llama = tools.llama_imatrix(&gguf, calibration, chunks, &output)?;
        let slmc = tools.slmc_imatrix(&gguf, calibration, chunks, &output)?;
        let rate = |run: &Finished| tokens / run.wall.as_secs_f64();
        ratios.push(rate(&slmc) / rate(&llama));
        theirs.push(rate(&llama));
        ours.push(rate(&slmc));
        their_work.push(llama.cpu.as_secs_f64());
        our_work.push(slmc.cpu.as_secs_f64());
        peaks = (peaks.0.max(llama.peak_bytes), peaks.1.max(slmc.peak_bytes));
    }
    let row =
        |what: &str, theirs: String, ours: String, ratio: String| vec![what.into(), theirs, ours, ratio];
    let (their_work, our_work) = (median(their_work), median(our_work));
    print(
        &["", "llama-imatrix", "slmc imatrix", "ratio"],
        &[
            row(
                "tokens/s",
                format!("{:.1}", median(theirs)),
                format!("{:.1}", median(ours)),
                format!("{:.2}", median(ratios)),
            ),
            row(
                "processor time",
                format!("{their_work:.1} s"),
                format!("{our_work:.1} s"),
                format!("{:.2}", our_work / their_work),
            ),
            row(
                "peak memory",
                format!("{:.0} MiB", peaks.0 as f64 / MEBIBYTE),
                format!("{:.0} MiB", peaks.1 as f64 / MEBIBYTE),
                String::new(),
            ),
        ],
    );
    println!(
        "Medians of {rounds} pairs, {} threads, F16 file, {chunks} chunks of {SEQ_LEN} tokens, whole commands.",
        tools.threads
    );
    Ok(())
}
