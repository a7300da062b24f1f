//! Measuring perplexity: tokens a second, pair by pair.

use std::path::Path;

use crate::command;
use crate::report::{median, print};
use crate::tools::{Tools, number};

const N_CTX: usize = 512;

pub fn run(tools: &Tools, model: &Path, text: &Path, windows: usize, rounds: usize) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let gguf = work.path().join("f16.gguf");
    tools.convert(model, "f16", &gguf)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut our_perplexity, mut their_perplexity) = (f64::NAN, f64::NAN);
    for _ in 0..rounds {
        let threads = tools.threads.to_string();
        let llama =
            command::run(tools.llama("llama-perplexity").arg("-m").arg(&gguf).arg("-f").arg(text).args([
                "-c",
                &N_CTX.to_string(),
                "-t",
                &threads,
                "--chunks",
                &windows.to_string(),
            ]))?;
        let slmc = command::run(tools.slmc("eval").arg(&gguf).arg("--text").arg(text).args([
            "--n-ctx",
            &N_CTX.to_string(),
            "--windows",
            &windows.to_string(),
        ]))?;
        let said = [llama.stderr.as_str(), llama.stdout.as_str()].concat();
        let rate = prompt_rate(&said).ok_or("llama-perplexity printed no prompt eval time")?;
        their_perplexity = final_estimate(&said).ok_or("llama-perplexity printed no estimate")?;
        our_perplexity = number(&slmc, "/perplexity")?;
        let our_rate = number(&slmc, "/tokens_per_second")?;
        ratios.push(our_rate / rate);
        ours.push(our_rate);
        theirs.push(rate);
    }
    print(
        &["", "llama-perplexity", "slmc eval", "ratio"],
        &[
            vec![
                "tokens/s".into(),
                format!("{:.1}", median(theirs)),
                format!("{:.1}", median(ours)),
                format!("{:.2}", median(ratios)),
            ],
            vec![
                "perplexity".into(),
                format!("{their_perplexity:.4}"),
                format!("{our_perplexity:.4}"),
                format!("{:.5}", our_perplexity / their_perplexity),
            ],
        ],
    );
    println!(
        "Medians of {rounds} pairs, {} threads, F16 file, {windows} windows of {N_CTX} tokens; loading not counted.",
        tools.threads
    );
    Ok(())
}

/// `prompt eval time = 1234.56 ms / 789 tokens ( …, 640.12 tokens per second)`
fn prompt_rate(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("prompt eval time"))?;
    line.split_once(" tokens per second")?.0.split_whitespace().last()?.parse().ok()
}

/// `Final estimate: PPL = 51.6219 +/- 0.81469`
fn final_estimate(said: &str) -> Option<f64> {
    said.split_once("Final estimate: PPL = ")?.1.split_whitespace().next()?.parse().ok()
}
