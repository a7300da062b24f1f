//! Training steps beside PyTorch's: tokens a second and memory.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{Finished, run as run_command};
use crate::report::{median, print};
use crate::tools::Tools;

const BATCH_SIZE: usize = 8;
const SEQ_LEN: usize = 256;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// A teacher and a student, and what is run on them.
pub struct Training<'a> {
    pub teacher: &'a Path,
    pub student: &'a Path,
    pub text: &'a Path,
    pub python: &'a Path,
    pub steps: usize,
}

/// Runs PyTorch in float32, in bfloat16 autocast, and slmc, one after the other; the first step, which warms up, does not count.
pub fn run(tools: &Tools, training: &Training<'_>) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, more) in [("PyTorch, float32", &[][..]), ("PyTorch, bfloat16 autocast", &["--bfloat16"])] {
        let finished = run_command(training.pytorch(tools).args(more))?;
        let said = finished.stdout.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(said).map_err(|error| format!("run_training.py: {error}"))?;
        let seconds = said["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        rows.push(row(name, seconds.skip(1).collect(), &finished));
    }
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (name, precision) in [("slmc distill, f32", Some("f32")), ("slmc distill, as it chooses", None)] {
        let output = work.path().join(precision.unwrap_or("chosen"));
        let mut command = training.slmc(tools);
        command.args(precision.map(|precision| ["--precision", precision]).into_iter().flatten());
        let finished = run_command(command.arg("--output").arg(&output))?;
        let metrics =
            std::fs::read_to_string(output.join("metrics.jsonl")).map_err(|error| error.to_string())?;
        let steps = metrics.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let speeds = steps.filter_map(|step| step["tokens_per_second"].as_f64());
        rows.push(row(name, speeds.skip(1).map(|speed| tokens() / speed).collect(), &finished));
    }
    print(&["", "tokens/s", "seconds a step", "processor time", "peak memory"], &rows);
    println!(
        "The teacher's forward pass, the student's and back, and AdamW; {BATCH_SIZE} × {SEQ_LEN} tokens a step, medians of {} \
         steps, {} threads. Processor time and memory are those of the whole program; slmc's also evaluates.",
        training.steps - 1,
        tools.threads
    );
    Ok(())
}

fn tokens() -> f64 {
    (BATCH_SIZE * SEQ_LEN) as f64
}

fn row(name: &str, seconds: Vec<f64>, finished: &Finished) -> Vec<String> {
    let seconds = median(seconds);
    vec![
        name.to_owned(),
        format!("{:.0}", tokens() / seconds),
        format!("{seconds:.3}"),
        format!("{:.1} s", finished.cpu.as_secs_f64()),
        format!("{:.0} MiB", finished.peak_bytes as f64 / MEBIBYTE),
    ]
}

impl Training<'_> {
    fn pytorch(&self, tools: &Tools) -> Command {
        let mut command = Command::new(self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/run_training.py"));
        command.arg(self.teacher).arg(self.student).arg(self.text);
        command.args(["--steps", &self.steps.to_string(), "--threads", &tools.threads.to_string()]);
        command.args(["--batch-size", &BATCH_SIZE.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        command
    }

    fn slmc(&self, tools: &Tools) -> Command {
        let mut command = tools.slmc("distill");
        command.arg("--teacher").arg(self.teacher).arg("--student").arg(self.student);
        command.arg("--text").arg(self.text).args(["--steps", &self.steps.to_string()]);
        command.args(["--batch-size", &BATCH_SIZE.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        command.args(["--learning-rate", "1e-5", "--train-zeros"]);
        command
    }
}
