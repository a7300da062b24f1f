//! One model in a process of its own, told when to run through pipes: so its peak memory is nobody else's.
//!
//! The parent writes a [`Request`] as one line of JSON and then a line for every repetition it wants; the worker answers
//! each with one line of JSON, and ends when its input does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use slmc_eval::Repetition;
use slmc_model::Device;

use super::engine::{Engine, EngineKind, OwnEngine};
use crate::PipelineError;
use crate::memory::peak_resident_bytes;
use crate::model_file::ModelFile;

/// How to start a worker: this very program with arguments that have it call [`serve`].
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// What a worker runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub model: PathBuf,
    pub engine: EngineKind,
    pub device: String,
    pub prompt: Vec<u32>,
    pub tokens: usize,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Loaded { seconds: f64 },
    Ran { repetition: Repetition, ids: Vec<u32>, peak_memory_bytes: Option<u64> },
    Failed { message: String },
}

/// Does a worker's work: loads the model that the first line of `input` asks for and runs it once for every further line.
///
/// # Errors
/// The parent is gone, or does not speak as it should. What goes wrong with the model goes to the parent.
pub fn serve(input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let mut lines = input.lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let request: Request = serde_json::from_str(&first?)?;
    let mut say = |answer: &Answer| {
        serde_json::to_writer(&mut output, answer)?;
        output.write_all(b"\n")?;
        output.flush()
    };
    let mut gone = Ok(());
    let mut run = |engine: &mut dyn Engine, load_seconds: f64| {
        gone = say(&Answer::Loaded { seconds: load_seconds });
        for line in lines.by_ref() {
            if gone.is_err() || line.is_err() {
                break;
            }
            let (repetition, ids) = engine.repeat(&request.prompt, request.tokens)?;
            gone = say(&Answer::Ran { repetition, ids, peak_memory_bytes: peak_resident_bytes() });
        }
        Ok(())
    };
    let done = match request.engine {
        EngineKind::Slmc => with_own(&request, &mut run),
        EngineKind::LlamaCpp => with_llama_cpp(&request, &mut run),
    };
    if let Err(error) = done {
        say(&Answer::Failed { message: named(&request.model, &error) })?;
    }
    gone
}

/// What went wrong, with the model's path if that does not say it.
fn named(model: &Path, error: &PipelineError) -> String {
    let (path, message) = (model.display().to_string(), error.to_string());
    if message.contains(&path) { message } else { format!("{path}: {message}") }
}

/// Whoever runs an engine, given the seconds it took to load.
type Run<'a> = &'a mut dyn FnMut(&mut dyn Engine, f64) -> Result<(), PipelineError>;

fn with_own(request: &Request, run: Run<'_>) -> Result<(), PipelineError> {
    let started = Instant::now();
    let source = ModelFile::open(&request.model)?.source()?;
    let device: Device = request.device.parse().map_err(slmc_model::ModelError::Device)?;
    let mut engine = OwnEngine::new(source.as_ref(), request.prompt.len() + request.tokens, device)?;
    run(&mut engine, started.elapsed().as_secs_f64())
}

#[cfg(feature = "llama-cpp")]
fn with_llama_cpp(request: &Request, run: Run<'_>) -> Result<(), PipelineError> {
    let started = Instant::now();
    let model = super::llama_cpp::LlamaModelFile::load(&request.model)?;
    let mut engine = model.engine(request.prompt.len() + request.tokens)?;
    run(&mut engine, started.elapsed().as_secs_f64())
}

#[cfg(not(feature = "llama-cpp"))]
fn with_llama_cpp(_: &Request, _: Run<'_>) -> Result<(), PipelineError> {
    Err(PipelineError::NoLlamaCpp)
}

/// A running worker, seen from its parent.
pub(super) struct Worker {
    model: PathBuf,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Seconds it took to load the model.
    pub load_seconds: f64,
    /// Its process's peak resident memory so far.
    pub peak_memory_bytes: Option<u64>,
}

impl Worker {
    /// Starts a worker and waits until it has loaded its model.
    pub fn start(program: &WorkerProgram, request: &Request) -> Result<Self, PipelineError> {
        let failed = |reason: String| PipelineError::Worker { model: request.model.clone(), reason };
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("{} does not start: {error}", program.program.display())))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for as pipes")
        };
        let answers = BufReader::new(answers);
        let (model, load_seconds) = (request.model.clone(), f64::NAN);
        let mut worker = Self { model, child, requests, answers, load_seconds, peak_memory_bytes: None };
        match worker.ask(&serde_json::to_string(request).map_err(|error| failed(error.to_string()))?)? {
            Answer::Loaded { seconds } => worker.load_seconds = seconds,
            Answer::Ran { .. } | Answer::Failed { .. } => return Err(worker.broken()),
        }
        Ok(worker)
    }

    /// Writes a line and reads the answer.
    fn ask(&mut self, line: &str) -> Result<Answer, PipelineError> {
        let mut answer = String::new();
        let said = writeln!(self.requests, "{line}").and_then(|()| self.requests.flush());
        // What the worker said before it ended tells more than that its pipe is closed.
        self.answers.read_line(&mut answer).map_err(|_| self.broken())?;
        match serde_json::from_str(&answer) {
            Ok(Answer::Failed { message }) => Err(PipelineError::Engine { message }),
            Ok(answer) if said.is_ok() => Ok(answer),
            _ => Err(self.broken()),
        }
    }

    fn broken(&mut self) -> PipelineError {
        let reason = match self.child.try_wait() {
            Ok(Some(status)) => format!("its process ended ({status})"),
            _ => "its process does not answer as it should".to_owned(),
        };
        PipelineError::Worker { model: self.model.clone(), reason }
    }

    /// The model it runs.
    pub fn model(&self) -> &Path {
        &self.model
    }
}

impl Engine for Worker {
    fn repeat(&mut self, _: &[u32], _: usize) -> Result<(Repetition, Vec<u32>), PipelineError> {
        match self.ask("run")? {
            Answer::Ran { repetition, ids, peak_memory_bytes } => {
                self.peak_memory_bytes = peak_memory_bytes;
                Ok((repetition, ids))
            }
            Answer::Loaded { .. } | Answer::Failed { .. } => Err(self.broken()),
        }
    }
}

impl Drop for Worker {
    /// A worker at rest ends by itself when its pipe closes; one at work need not go on.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bundled model, asked for twice.
    #[test]
    fn a_worker_answers_every_line() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
        let request = |model: PathBuf, device: &str| {
            let (prompt, device) = (vec![0, 47, 1006], device.to_owned());
            serde_json::to_string(&Request { model, engine: EngineKind::Slmc, device, prompt, tokens: 4 })
                .unwrap()
        };
        let answers = |input: String| -> Vec<Answer> {
            let mut output = Vec::new();
            serve(input.as_bytes(), &mut output).unwrap();
            String::from_utf8(output)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let found = answers(format!("{}\nrun\nrun\n", request(model, "cpu")));
        let [Answer::Loaded { .. }, Answer::Ran { repetition, ids, .. }, Answer::Ran { ids: again, .. }] =
            &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!((ids.len(), repetition.token_seconds.len()), (4, 3));
        assert_eq!(ids, again);
        let found = answers(request("missing".into(), "cpu"));
        assert!(
            matches!(&found[..], [Answer::Failed { message }] if message.contains("missing")),
            "{found:?}"
        );
    }
}
