//! INT4 with groups of 128 beside the Python peers: accuracy, wall time and memory on the same calibration tokens, all scored in
//! PyTorch.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{Finished, run as run_command};
use crate::report::print;
use crate::tools::Tools;

const MEBIBYTE: f64 = (1 << 20) as f64;
const SEQ_LEN: usize = 512;

/// What is run on what.
pub struct Comparison<'a> {
    pub model: &'a Path,
    pub calibration: &'a Path,
    pub text: &'a Path,
    pub python: &'a Path,
    pub samples: usize,
    /// AutoRound's iterations; 0 leaves it out.
    pub iterations: usize,
    pub windows: usize,
}

struct Row {
    name: String,
    output: PathBuf,
    run: Finished,
    /// Without start and saving, where the peer says so.
    seconds: f64,
}

pub fn run(tools: &Tools, comparison: &Comparison<'_>) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    let mut add = |name: String, output: PathBuf, run: Finished| {
        let said = run.stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let seconds = said.as_ref().and_then(|said| said.get("seconds")).and_then(Value::as_f64);
        rows.push(Row { seconds: seconds.unwrap_or(run.wall.as_secs_f64()), name, output, run });
    };
    let output = work.path().join("llm-compressor");
    let made =
        run_command(comparison.peer(tools, "run_llm_compressor.py", &output).args(["--method", "gptq"]))?;
    add("llm-compressor GPTQ".into(), output, made);
    if comparison.iterations > 0 {
        let (output, iterations) = (work.path().join("auto-round"), comparison.iterations.to_string());
        let made =
            run_command(comparison.peer(tools, "run_auto_round.py", &output).args(["--iters", &iterations]))?;
        add(format!("AutoRound, {iterations} iterations"), output, made);
    }
    for effort in ["fast", "balanced", "best"] {
        let output = work.path().join(effort);
        let made = run_command(&mut comparison.slmc(tools, effort, &output))?;
        add(format!("slmc gptq, {effort}"), output, made);
    }
    let scores = comparison.scores(tools, &rows)?;
    let table: Vec<Vec<String>> =
        rows.iter().zip(&scores).map(|(row, score)| row.cells(score)).collect::<Result<_, _>>()?;
    print(&["", "mean KL", "perplexity", "same top-1", "time", "whole command", "peak memory"], &table);
    println!(
        "INT4 symmetric, groups of 128, {} × {SEQ_LEN} calibration tokens, {} threads; scored in PyTorch on the second halves \
         of {} windows of {SEQ_LEN} tokens. The time of a Python peer is that of its call, without start and saving.",
        comparison.samples, tools.threads, comparison.windows
    );
    Ok(())
}

impl Comparison<'_> {
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
        command
    }

    fn peer(&self, tools: &Tools, script: &str, output: &Path) -> Command {
        let mut command = self.script(script);
        command.arg(self.model).arg(self.calibration).arg(output);
        command.args(["--samples", &self.samples.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        command.args(["--threads", &tools.threads.to_string()]);
        command
    }

    fn slmc(&self, tools: &Tools, effort: &str, output: &Path) -> Command {
        let mut command = tools.slmc("quantize");
        command.arg(self.model).args(["--method", "gptq", "--bits", "4", "--group-size", "128", "--no-eval"]);
        command.args(["--effort", effort, "--samples", &self.samples.to_string()]);
        command.args(["--seq-len", &SEQ_LEN.to_string()]);
        command.arg("--calibration").arg(self.calibration).arg("--output").arg(output);
        command
    }

    fn scores(&self, tools: &Tools, rows: &[Row]) -> Result<Vec<Value>, String> {
        let mut command = self.script("score.py");
        command.arg(self.model).arg(self.text).args(rows.iter().map(|row| &row.output));
        command.args(["--windows", &self.windows.to_string(), "--threads", &tools.threads.to_string()]);
        let said = run_command(&mut command)?;
        let scores: Vec<Value> =
            said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if scores.len() == rows.len() { Ok(scores) } else { Err("score.py did not score every model".into()) }
    }
}

impl Row {
    fn cells(&self, score: &Value) -> Result<Vec<String>, String> {
        let number = |key: &str| {
            score.get(key).and_then(Value::as_f64).ok_or_else(|| format!("score.py gave no {key}"))
        };
        Ok(vec![
            self.name.clone(),
            format!("{:.6}", number("kl")?),
            format!("{:.3}", number("perplexity")?),
            format!("{:.2} %", 100.0 * number("top1")?),
            format!("{:.1} s", self.seconds),
            format!("{:.1} s", self.run.wall.as_secs_f64()),
            format!("{:.0} MiB", self.run.peak_bytes as f64 / MEBIBYTE),
        ])
    }
}
