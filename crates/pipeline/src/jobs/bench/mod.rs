//! Timing a model, alone or beside its original: each in a process of its own, the runs in turn.

mod engine;
#[cfg(feature = "llama-cpp")]
mod llama_cpp;
mod worker;

use std::path::{Path, PathBuf};

use serde::Serialize;
use slmc_calibration::TextSource;
use slmc_eval::{Latency, LatencyIncrease};
use slmc_model::Device;

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;
use worker::{Request, Worker};

pub use engine::{Engine, EngineKind, OwnEngine, Schedule};
pub use slmc_eval::Spread;
pub use worker::{WorkerProgram, serve};

/// Of each bound of the comparison.
const CONFIDENCE: f64 = 0.95;

/// What to time.
#[derive(Clone, Debug)]
pub struct BenchSettings {
    /// The model.
    pub model: PathBuf,
    /// The original to compare with.
    pub base: Option<PathBuf>,
    /// What runs the models.
    pub engine: EngineKind,
    /// Where slmc's own decoder runs.
    pub device: Device,
    /// How much, and how often.
    pub amount: Amount,
    /// How to start the processes that run the models.
    pub worker: WorkerProgram,
}

/// How much is timed, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Tokens of the prompt, from the bundled text's held-out part.
    pub prompt_tokens: usize,
    /// Tokens to write; at least 2.
    pub generated_tokens: usize,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Repetitions before those.
    pub warmup: usize,
}

/// One model's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmarked {
    /// The model's path.
    pub model: PathBuf,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// Seconds from opening the model to being ready; its file is in the system's cache or not, as it was.
    pub load_seconds: f64,
    /// Peak resident memory of the process that ran it alone, mapped file pages included.
    pub peak_memory_bytes: Option<u64>,
    /// Times.
    #[serde(flatten)]
    pub latency: Latency,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchOutcome {
    /// What ran the models.
    pub engine: EngineKind,
    /// Where, if it was slmc's own decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Worker threads.
    pub threads: usize,
    /// How much, and how often.
    #[serde(flatten)]
    pub amount: Amount,
    /// The model's figures.
    #[serde(flatten)]
    pub model: Benchmarked,
    /// The original's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Benchmarked>,
    /// The model's median latency per token over the original's, less 1, with bounds of 95 % each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_increase: Option<LatencyIncrease>,
}

/// Runs the job.
///
/// # Errors
/// A model that cannot be read, run, or on this engine; models that read the prompt as other tokens; a prompt and tokens beyond
/// a model's context; the user stopped it.
pub fn bench(settings: &BenchSettings, reporter: &dyn Reporter) -> Result<BenchOutcome, PipelineError> {
    let paths: Vec<&Path> =
        [Some(&settings.model), settings.base.as_ref()].into_iter().flatten().map(|p| &**p).collect();
    let files = paths.iter().map(|path| ModelFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    if settings.engine == EngineKind::LlamaCpp {
        files.iter().try_for_each(for_llama_cpp)?;
    }
    let schedule = settings.amount.schedule(&files)?;
    let start = |path: &&Path| {
        let request = Request {
            model: path.to_path_buf(),
            engine: settings.engine,
            device: settings.device.to_string(),
            prompt: schedule.prompt.clone(),
            tokens: schedule.tokens,
        };
        Worker::start(&settings.worker, &request)
    };
    let mut workers = paths.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let mut engines: Vec<&mut dyn Engine> = workers.iter_mut().map(|w| w as &mut dyn Engine).collect();
    let times = schedule.run(&mut engines, reporter)?;
    let latency_increase = match &times[..] {
        [model, base] => Some(LatencyIncrease::of(base, model, CONFIDENCE)),
        _ => None,
    };
    let mut figures = workers.iter().zip(&files).zip(&times).map(|((worker, file), times)| Benchmarked {
        model: worker.model().to_path_buf(),
        bytes: file.bytes(),
        load_seconds: worker.load_seconds,
        peak_memory_bytes: worker.peak_memory_bytes,
        latency: Latency::of(times, schedule.prompt.len()),
    });
    let Some(model) = figures.next() else { unreachable!("there is a model") };
    Ok(BenchOutcome {
        engine: settings.engine,
        device: (settings.engine == EngineKind::Slmc).then(|| settings.device.to_string()),
        threads: rayon::current_num_threads(),
        amount: settings.amount,
        model,
        base: figures.next(),
        latency_increase,
    })
}

fn for_llama_cpp(file: &ModelFile) -> Result<(), PipelineError> {
    match file {
        ModelFile::Gguf(_) if cfg!(feature = "llama-cpp") => Ok(()),
        ModelFile::Gguf(_) => Err(PipelineError::NoLlamaCpp),
        ModelFile::Checkpoint(_) => Err(PipelineError::NotGguf { path: file.path() }),
    }
}

impl Amount {
    /// The schedule for these models, which read the bundled text as the same tokens.
    ///
    /// # Errors
    /// A tokenizer that cannot be read, or that differs from another's; more tokens than there are in the text or in a model's
    /// context.
    pub fn schedule(&self, models: &[ModelFile]) -> Result<Schedule, PipelineError> {
        let text = TextSource::default().to_measure()?;
        let mut prompt: Option<(Vec<u32>, &ModelFile)> = None;
        for model in models {
            let source = model.source()?;
            let config = source.config();
            let tokenizer = model.tokenizer(config.vocab_size)?;
            tokenizer.check_vocab_size(config.vocab_size)?;
            let mut tokens: Vec<u32> =
                tokenizer.bos().into_iter().chain(tokenizer.encode_text(&text)?).collect();
            let refused = |reason: String| PipelineError::Prompt { path: model.path(), reason };
            if tokens.len() < self.prompt_tokens {
                return Err(refused(format!("the bundled text has {} tokens for a prompt", tokens.len())));
            }
            let (all, context) = (self.prompt_tokens + self.generated_tokens, config.max_position_embeddings);
            if all > context {
                return Err(refused(format!("{all} tokens are more than the model's context of {context}")));
            }
            tokens.truncate(self.prompt_tokens);
            match &prompt {
                Some((first, other)) if *first != tokens => {
                    return Err(PipelineError::TokenizersDiffer { model: other.path(), base: model.path() });
                }
                Some(_) => {}
                None => prompt = Some((tokens, model)),
            }
        }
        let prompt = prompt.map(|(tokens, _)| tokens).unwrap_or_default();
        let Amount { generated_tokens: tokens, repetitions, warmup, .. } = *self;
        Ok(Schedule { prompt, tokens, repetitions, warmup })
    }
}
