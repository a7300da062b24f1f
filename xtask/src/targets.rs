//! Types chosen by measured cost beside the mix of the same size: bytes, KL divergence, and what was predicted of it.

use std::path::Path;

use crate::command::run as run_command;
use crate::report::print;
use crate::tools::{Tools, number};

pub fn run(
    tools: &Tools,
    model: &Path,
    text: &Path,
    calibration: &Path,
    method: &str,
    types: &[String],
) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (original, file) = (work.path().join("f16.gguf"), work.path().join("out.gguf"));
    tools.convert(model, "f16", &original)?;
    let bytes = || std::fs::metadata(&file).map(|facts| facts.len()).map_err(|error| error.to_string());
    let measured = || -> Result<f64, String> {
        let mut eval = tools.slmc("eval");
        number(
            &run_command(
                eval.arg(&file).arg("--base").arg(&original).arg("--text").arg(text).args(["--worst", "0"]),
            )?,
            "/kl_divergence/mean",
        )
    };
    let mut rows = Vec::new();
    for ty in types {
        tools.slmc_quantize(model, method, ty, Some(calibration), &file)?;
        let (mix_bytes, mix) = (bytes()?, measured()?);
        let mut quantize = tools.slmc("quantize");
        quantize.arg(model).args(["--method", method, "--no-eval", "--target-size", &mix_bytes.to_string()]);
        let made = run_command(quantize.arg("--calibration").arg(calibration).arg("--output").arg(&file))?;
        let (predicted, kl) = (number(&made, "/prediction/kl_divergence")?, measured()?);
        rows.push(vec![
            ty.clone(),
            mix_bytes.to_string(),
            format!("{mix:.6}"),
            bytes()?.to_string(),
            format!("{kl:.6}"),
            format!("{:.2}", kl / mix),
            format!("{predicted:.6}"),
            format!("{:+.0} %", 100.0 * (predicted / kl - 1.0)),
            format!("{:.0} s", made.wall.as_secs_f64()),
        ]);
    }
    print(&["mix", "bytes", "KL", "chosen, bytes", "KL", "ratio", "predicted", "off by", "time"], &rows);
    println!("slmc's {method}; mean KL divergence by `slmc eval`, {} threads.", tools.threads);
    Ok(())
}
