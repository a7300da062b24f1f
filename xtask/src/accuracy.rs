//! Accuracy at the same size, scored by llama.cpp: everybody's files against one F16 file.

use std::path::Path;

use crate::command;
use crate::report::print;
use crate::tools::{Tools, number};

/// Writes a quantized file.
type Maker<'a> = &'a dyn Fn() -> Result<command::Finished, String>;

/// What llama-perplexity and `slmc eval` say of one file.
struct Score {
    perplexity: f64,
    kl: f64,
    top1: f64,
}

pub fn run(
    tools: &Tools,
    model: &Path,
    text: &Path,
    calibration: &Path,
    types: &[String],
) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| work.path().join(name);
    let (original, logits, file) = (path("f16.gguf"), path("logits"), path("out.gguf"));
    let (imatrix, own_imatrix) = (path("llama.imatrix.gguf"), path("slmc.imatrix.gguf"));
    tools.convert(model, "f16", &original)?;
    command::run(perplexity(tools, &original).arg("-f").arg(text).arg("--kl-divergence-base").arg(&logits))?;
    tools.llama_imatrix(&original, calibration, 128, &imatrix)?;
    tools.slmc_imatrix(&original, calibration, 128, &own_imatrix)?;

    let mut rows = Vec::new();
    let mut largest = (0.0f64, 0.0f64);
    for ty in types {
        let methods: [(&str, Maker<'_>); 7] = [
            ("llama-quantize", &|| tools.llama_quantize(&original, ty, None, &file)),
            ("llama-quantize, imatrix", &|| tools.llama_quantize(&original, ty, Some(&imatrix), &file)),
            ("llama-quantize, slmc imatrix", &|| {
                tools.llama_quantize(&original, ty, Some(&own_imatrix), &file)
            }),
            ("slmc rtn", &|| tools.slmc_quantize(model, "rtn", ty, None, &file)),
            ("slmc awq", &|| tools.slmc_quantize(model, "awq", ty, Some(calibration), &file)),
            ("slmc gptq", &|| tools.slmc_quantize(model, "gptq", ty, Some(calibration), &file)),
            ("slmc gptq, best", &|| tools.slmc_quantize(model, "gptq, best", ty, Some(calibration), &file)),
        ];
        for (name, make) in methods {
            make()?;
            let bytes = std::fs::metadata(&file).map_err(|error| error.to_string())?.len();
            let score = score(tools, &file, &logits)?;
            let ours = own_score(tools, &file, &original, text)?;
            let off = (ours.perplexity / score.perplexity - 1.0, ours.kl / score.kl - 1.0);
            largest = (largest.0.max(off.0.abs()), largest.1.max(off.1.abs()));
            rows.push(vec![
                format!("{ty}, {name}"),
                bytes.to_string(),
                format!("{:.4}", score.perplexity),
                format!("{:.6}", score.kl),
                format!("{:.2} %", score.top1),
                format!("{:+.3} %", 100.0 * off.0),
                format!("{:+.2} %", 100.0 * off.1),
            ]);
        }
    }
    print(
        &["file", "bytes", "perplexity", "mean KL", "same top-1", "slmc eval: perplexity", "slmc eval: KL"],
        &rows,
    );
    println!(
        "Scored by llama-perplexity -c 512; the last columns say how far `slmc eval` of the same file is off, at most \
         {:.3} % and {:.2} %.",
        100.0 * largest.0,
        100.0 * largest.1
    );
    Ok(())
}

fn perplexity(tools: &Tools, model: &Path) -> std::process::Command {
    let mut command = tools.llama("llama-perplexity");
    command.arg("-m").arg(model).args(["-c", "512", "-t", &tools.threads.to_string()]);
    command
}

/// llama-perplexity's lines now and then run into each other; then it is asked again.
fn score(tools: &Tools, file: &Path, logits: &Path) -> Result<Score, String> {
    for _ in 0..3 {
        let said = command::run(
            perplexity(tools, file).arg("--kl-divergence-base").arg(logits).arg("--kl-divergence"),
        )?;
        let said = [said.stdout.as_str(), said.stderr.as_str()].concat();
        let value = |label: &str| {
            let line = said.lines().find(|line| line.contains(label))?;
            line.split_once(':')?.1.split_whitespace().next()?.parse::<f64>().ok()
        };
        let all = (value("Mean PPL(Q)  "), value("Mean    KLD"), value("Same top p:"));
        if let (Some(perplexity), Some(kl), Some(top1)) = all {
            return Ok(Score { perplexity, kl, top1 });
        }
    }
    Err("llama-perplexity printed no statistics".into())
}

fn own_score(tools: &Tools, file: &Path, base: &Path, text: &Path) -> Result<Score, String> {
    let said = command::run(
        tools.slmc("eval").arg(file).arg("--base").arg(base).arg("--text").arg(text).args(["--worst", "0"]),
    )?;
    Ok(Score {
        perplexity: number(&said, "/perplexity")?,
        kl: number(&said, "/kl_divergence/mean")?,
        top1: 100.0 * number(&said, "/top1_agreement")?,
    })
}
