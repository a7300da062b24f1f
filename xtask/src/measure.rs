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
        let seconds = scoring_seconds(&said).ok_or("llama-perplexity printed no times")?;
        let rate = (windows * N_CTX) as f64 / seconds;
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

/// Seconds from the line that begins the work to the one that ends it: `0.00.095.272 I perplexity: calculating …` and
/// `0.08.287.874 I Final estimate: …` (minutes, seconds, milliseconds, microseconds).
fn scoring_seconds(said: &str) -> Option<f64> {
    let stamp = |label: &str| {
        // the last one before the label: what is printed without a line's end may stand in between
        said[..said.find(label)?].split_whitespace().rev().find_map(|word| {
            let parts: Vec<f64> = word.split('.').map_while(|n| n.parse().ok()).collect();
            let [minutes, seconds, milliseconds, microseconds] = parts[..] else { return None };
            Some(60.0 * minutes + seconds + 1e-3 * milliseconds + 1e-6 * microseconds)
        })
    };
    Some(stamp("Final estimate")? - stamp("calculating perplexity")?)
}

/// `Final estimate: PPL = 51.6219 +/- 0.81469`
fn final_estimate(said: &str) -> Option<f64> {
    said.split_once("Final estimate: PPL = ")?.1.split_whitespace().next()?.parse().ok()
}
