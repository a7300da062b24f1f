//! slmc beside Python peers: what each makes of the same model with the same calibration tokens, all scored in PyTorch.

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
    pub windows: usize,
}

/// The comparison as it is run: programs write into a directory that is gone at the end.
pub struct Runs<'a> {
    tools: &'a Tools,
    comparison: &'a Comparison<'a>,
    work: tempfile::TempDir,
    /// The part of the calibration text that everything calibrates on.
    calibration: PathBuf,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    output: PathBuf,
    run: Finished,
    /// Without start and saving, where the peer says so.
    seconds: f64,
}

impl<'a> Runs<'a> {
    pub fn new(tools: &'a Tools, comparison: &'a Comparison<'a>) -> Result<Self, String> {
        let work = tempfile::tempdir().map_err(|error| error.to_string())?;
        let calibration = work.path().join("calibration.txt");
        // of more windows than it needs, slmc would draw some, where the scripts take the first ones
        let mut command = comparison.script("cut_text.py");
        command.arg(comparison.model).arg(comparison.calibration).arg(&calibration);
        command.args(["--samples", &comparison.samples.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        run_command(&mut command)?;
        Ok(Self { tools, comparison, work, calibration, rows: Vec::new() })
    }

    /// Runs a script beside this program, with these arguments beside the usual ones.
    pub fn peer(&mut self, name: &str, script: &str, arguments: &[&str]) -> Result<(), String> {
        let comparison = self.comparison;
        let (output, mut command) = (self.output(), comparison.script(script));
        command.arg(comparison.model).arg(&self.calibration).arg(&output);
        command.args(["--samples", &comparison.samples.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        command.args(["--threads", &self.tools.threads.to_string()]).args(arguments);
        self.run(name, output, &mut command)
    }

    /// Runs slmc.
    pub fn slmc(&mut self, name: &str, verb: &str, arguments: &[&str]) -> Result<(), String> {
        let comparison = self.comparison;
        let (output, mut command) = (self.output(), self.tools.slmc(verb));
        command.arg(comparison.model).args(arguments).arg("--no-eval");
        command.args(["--samples", &comparison.samples.to_string(), "--seq-len", &SEQ_LEN.to_string()]);
        command.arg("--calibration").arg(&self.calibration).arg("--output").arg(&output);
        self.run(name, output, &mut command)
    }

    /// Scores everything and prints it, `what` was made in front.
    pub fn print(self, what: &str) -> Result<(), String> {
        let (tools, comparison) = (self.tools, self.comparison);
        let scores = self.scores()?;
        let table: Vec<Vec<String>> =
            self.rows.iter().zip(&scores).map(|(row, score)| row.cells(score)).collect::<Result<_, _>>()?;
        print(&["", "mean KL", "perplexity", "same top-1", "time", "whole command", "peak memory"], &table);
        println!(
            "{what}, {} × {SEQ_LEN} calibration tokens, {} threads; scored in PyTorch on the second halves of {} windows of \
             {SEQ_LEN} tokens. The time of a Python peer is that of its call, without start and saving.",
            comparison.samples, tools.threads, comparison.windows
        );
        Ok(())
    }

    fn output(&self) -> PathBuf {
        self.work.path().join(self.rows.len().to_string())
    }

    fn run(&mut self, name: &str, output: PathBuf, command: &mut Command) -> Result<(), String> {
        let run = run_command(command)?;
        let said = run.stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let seconds = said.as_ref().and_then(|said| said.get("seconds")).and_then(Value::as_f64);
        let seconds = seconds.unwrap_or(run.wall.as_secs_f64());
        self.rows.push(Row { name: name.to_owned(), output, run, seconds });
        Ok(())
    }

    fn scores(&self) -> Result<Vec<Value>, String> {
        let comparison = self.comparison;
        let mut command = comparison.script("score.py");
        command.arg(comparison.model).arg(comparison.text).args(self.rows.iter().map(|row| &row.output));
        command.args(["--windows", &comparison.windows.to_string()]);
        command.args(["--threads", &self.tools.threads.to_string()]);
        let said = run_command(&mut command)?;
        let scores: Vec<Value> =
            said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        match scores.len() == self.rows.len() {
            true => Ok(scores),
            false => Err("score.py did not score every model".into()),
        }
    }
}

impl Comparison<'_> {
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
        command
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
