//! Measuring a model, alone or beside its original.

use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};
use slmc_calibration::TextSource;
use slmc_eval::{Evaluation, Options, Progress, Protocol};
use slmc_model::{Device, WeightSource};

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateSettings {
    /// The model.
    pub model: PathBuf,
    /// The original to compare with.
    pub base: Option<PathBuf>,
    /// How.
    pub measure: Measure,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Text to score; of the bundled corpus, what is held out.
    pub text: TextSource,
    /// Tokens a window.
    pub n_ctx: usize,
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
    /// The original's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// What was scored.
    pub text: String,
    /// SHA-256 of its token ids, as little-endian 32-bit numbers.
    pub tokens_sha256: String,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Wall time of the pass.
    pub seconds: f64,
    /// Tokens run through each model a second, those that are only context included.
    pub tokens_per_second: f64,
    /// Peak resident memory of the process so far.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs the job.
///
/// # Errors
/// A model or text that cannot be read; tokenizers that differ; text too short; logits that are not finite.
pub fn evaluate(
    settings: &EvaluateSettings,
    reporter: &dyn Reporter,
) -> Result<EvaluateOutcome, PipelineError> {
    let model = ModelFile::open(&settings.model)?;
    let base = settings.base.as_deref().map(ModelFile::open).transpose()?;
    let source = model.source()?;
    let base_source = base.as_ref().map(ModelFile::source).transpose()?;

    let text = settings.measure.text.to_measure()?;
    let (tokens, bos) = tokenize(&model, source.as_ref(), &text)?;
    if let (Some(base), Some(base_source)) = (&base, &base_source) {
        let in_base = tokenize(base, base_source.as_ref(), &text)?;
        if in_base != (tokens.clone(), bos) {
            return Err(PipelineError::TokenizersDiffer { model: model.path(), base: base.path() });
        }
    }
    let measured = Measured { bos, tokens, measure: &settings.measure };
    let started = std::time::Instant::now();
    let evaluation = measured.run(source.as_ref(), base_source.as_deref(), reporter)?;
    let seconds = started.elapsed().as_secs_f64();
    let run = (evaluation.windows * evaluation.n_ctx * (1 + usize::from(base.is_some()))) as f64;
    Ok(EvaluateOutcome {
        model: settings.model.clone(),
        base: settings.base.clone(),
        text: name(&settings.measure.text),
        tokens_sha256: sha256(&measured.tokens),
        evaluation,
        seconds,
        tokens_per_second: run / seconds,
        peak_memory_bytes: crate::memory::peak_resident_bytes(),
    })
}

struct Measured<'a> {
    bos: Option<u32>,
    tokens: Vec<u32>,
    measure: &'a Measure,
}

impl Measured<'_> {
    fn run(
        &self,
        model: &dyn WeightSource,
        base: Option<&dyn WeightSource>,
        reporter: &dyn Reporter,
    ) -> Result<Evaluation, PipelineError> {
        let protocol =
            Protocol { n_ctx: self.measure.n_ctx, bos: self.bos, max_windows: self.measure.max_windows };
        let options = Options::new(protocol);
        let mut bar = Bar { reporter, begun: false, done: 0 };
        let evaluation =
            slmc_eval::evaluate(model, base, &self.tokens, self.measure.device, &options, &mut bar);
        reporter.end();
        if reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let evaluation = evaluation?;
        for warning in &evaluation.warnings {
            reporter.warn(&warning.to_string());
        }
        Ok(evaluation)
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
}

fn sha256(tokens: &[u32]) -> String {
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

/// The text's token ids, and the token the model expects in front of every window.
fn tokenize(
    model: &ModelFile,
    source: &dyn WeightSource,
    text: &str,
) -> Result<(Vec<u32>, Option<u32>), PipelineError> {
    let vocab_size = source.config().vocab_size;
    let tokenizer = model.tokenizer(vocab_size)?;
    tokenizer.check_vocab_size(vocab_size)?;
    let bos = tokenizer.bos();
    // as llama-perplexity, which lets its tokenizer add BOS to the whole text and again to every window
    let tokens = bos.into_iter().chain(tokenizer.encode_text(text)?).collect();
    Ok((tokens, bos))
}
