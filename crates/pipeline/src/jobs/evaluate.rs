//! Measuring a model, alone or beside its original.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use slmc_calibration::TextSource;
use slmc_eval::{EvaluateError, Options, Progress, Protocol};
use slmc_model::Device;

use super::base_logits::BaseLogits;
use super::tokenized::Reader;
use super::worst::{Evaluated, WorstCase, WorstSettings};
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};

pub use slmc_eval::statistics::Estimate;
pub use slmc_eval::{Evaluation, Figures, Windowing};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateSettings {
    /// The model.
    pub model: PathBuf,
    /// The original to compare with.
    pub base: Option<PathBuf>,
    /// The original's predictions from a file, in its place.
    pub base_logits: Option<PathBuf>,
    /// How.
    pub measure: Measure,
    /// Which of the windows that differ most to look at; needs an original.
    pub worst: WorstSettings,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Text to score; of the bundled corpus, what is held out.
    pub text: TextSource,
    /// Tokens a window.
    pub n_ctx: usize,
    /// Tokens from one window to the next, scored as Hugging Face's guide does; `None` for llama-perplexity's windows.
    pub stride: Option<usize>,
    /// Score at most this many windows.
    pub max_windows: Option<usize>,
    /// Where the model runs.
    pub device: Device,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct EvaluateOutcome {
    /// The model's path.
    pub model: PathBuf,
    /// The original's path; of predictions from a file, as whoever wrote it named it, or the file's own where it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// What was scored.
    pub text: String,
    /// SHA-256 of its token ids, as little-endian 32-bit numbers.
    pub tokens_sha256: String,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The windows that differ most, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstCase>,
    /// Wall time of the pass.
    pub seconds: f64,
    /// Tokens run through each model a second, those that are only context included.
    pub tokens_per_second: f64,
    /// Peak resident memory of the process so far.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs the job. An evaluation that the reporter cancels has the figures of the windows before, and says that it is incomplete.
///
/// # Errors
/// A model or text that cannot be read; tokenizers that differ; text too short; logits that are not finite; cancelled before
/// anything was measured.
pub fn evaluate(
    settings: &EvaluateSettings,
    reporter: &dyn Reporter,
) -> Result<EvaluateOutcome, PipelineError> {
    let measure = &settings.measure;
    let model = ModelFile::open(&settings.model)?;
    let base = settings.base.as_deref().map(ModelFile::open).transpose()?;
    let source = model.source()?;
    let base_source = base.as_ref().map(ModelFile::source).transpose()?;

    let text = measure.text.to_measure()?;
    let reader = Reader::new(&model, source.config().vocab_size)?;
    let tokenized = reader.tokenize(&text)?;
    let shared_vocabulary = match (&base, &base_source) {
        (Some(base), Some(base_source)) => {
            let base = Reader::new(base, base_source.config().vocab_size)?;
            reader.compare(&base, &text, &tokenized)?
        }
        _ => None,
    };
    let open = |path: &PathBuf| BaseLogits::open(path, &model, &reader, &tokenized, measure);
    let kept = settings.base_logits.as_ref().map(open).transpose()?;
    let Measure { n_ctx, stride, mut max_windows, .. } = *measure;
    if let Some(kept) = &kept {
        max_windows = max_windows.or(Some(kept.windows()));
    }
    let protocol = Protocol { n_ctx, stride, bos: tokenized.bos, max_windows };
    let options = Options { shared_vocabulary, ..Options::new(protocol) };
    let started = std::time::Instant::now();
    let mut bar = Bar { reporter, begun: false, done: 0 };
    let (tokens, device) = (&tokenized.tokens, measure.device);
    let evaluation = match &kept {
        Some(kept) => {
            let base = kept.predictions();
            slmc_eval::evaluate_against(source.as_ref(), base, tokens, device, &options, &mut bar)
        }
        None => {
            let base = base_source.as_deref();
            slmc_eval::evaluate(source.as_ref(), base, tokens, device, &options, &mut bar)
        }
    };
    reporter.end();
    let evaluation = match evaluation {
        Err(EvaluateError::Cancelled) => return Err(PipelineError::NothingMeasured),
        other => other?.with_text(&tokenized.spans),
    };
    let seconds = started.elapsed().as_secs_f64();
    for warning in &evaluation.warnings {
        reporter.warn(&warning.to_string());
    }
    if !evaluation.complete {
        let (done, planned) = (evaluation.windows, evaluation.windows_planned);
        reporter.warn(&format!("interrupted: the figures are of the first {done} of {planned} windows"));
    }
    let worst = match &base_source {
        Some(base) if settings.worst.windows > 0 && evaluation.complete => {
            let (model_source, tokenizer) = (source.as_ref(), &reader.tokenizer);
            Evaluated {
                evaluation: &evaluation,
                tokens: &tokenized.tokens,
                tokenizer,
                ends: &model.end_tokens(tokenizer)?,
                model: model_source,
                base: base.as_ref(),
                device: measure.device,
            }
            .worst(settings.worst, reporter)?
        }
        _ => Vec::new(),
    };
    let run = (evaluation.tokens_read() * (1 + usize::from(base.is_some()))) as f64;
    Ok(EvaluateOutcome {
        model: settings.model.clone(),
        base: kept.map(|kept| kept.base()).or_else(|| settings.base.clone()),
        text: name(&measure.text),
        tokens_sha256: sha256(&tokenized.tokens),
        evaluation,
        worst,
        seconds,
        tokens_per_second: run / seconds,
        peak_memory_bytes: crate::memory::peak_resident_bytes(),
    })
}

/// Measures a model that was just written beside what it was made from, or by itself; nothing where no `measure` is asked for. Stopped
/// before anything was measured, the model is still there, so that is said and no error.
///
/// # Errors
/// Those of [`evaluate`].
pub(super) fn evaluate_written(
    model: &Path,
    base: Option<&Path>,
    measure: Option<Measure>,
    reporter: &dyn Reporter,
) -> Result<Option<EvaluateOutcome>, PipelineError> {
    let Some(measure) = measure else { return Ok(None) };
    let (base, worst) = (base.map(Path::to_owned), WorstSettings::default());
    let settings = EvaluateSettings { model: model.to_owned(), base, base_logits: None, measure, worst };
    match evaluate(&settings, reporter) {
        Err(PipelineError::NothingMeasured) => {
            let model = model.display();
            reporter.warn(&format!("interrupted: `{model}` is written, but what it lost was not measured"));
            Ok(None)
        }
        measured => measured.map(Some),
    }
}

/// Fits the pass's progress to a bar of tokens.
struct Bar<'a> {
    reporter: &'a dyn Reporter,
    begun: bool,
    done: u64,
}

impl slmc_eval::Reporter for Bar<'_> {
    fn progress(&mut self, progress: &Progress) {
        if !self.begun {
            self.begun = true;
            self.reporter.begin("Measuring", progress.tokens_total as u64, Unit::Tokens);
        }
        let done = (progress.fraction * progress.tokens_total as f64) as u64;
        self.reporter.advance(done.saturating_sub(self.done));
        self.done = done.max(self.done);
        if let Some(running) = progress.running {
            let perplexity = running.perplexity;
            self.reporter.status(&match running.kl_divergence {
                Some(kl) => format!("perplexity {perplexity:.3}, KL {kl:.5}"),
                None => format!("perplexity {perplexity:.3}"),
            });
        }
    }

    fn is_cancelled(&self) -> bool {
        self.reporter.is_cancelled()
    }
}

/// SHA-256, in hexadecimal, of token ids as little-endian 32-bit numbers.
pub(super) fn sha256(tokens: &[u32]) -> String {
    let mut hash = Sha256::new();
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(text: &TextSource) -> String {
    match text {
        TextSource::File(path) => path.display().to_string(),
        TextSource::Bundled(_) => format!("{text}, held out"),
    }
}
