//! A teacher's predictions for a run's sequences or the windows of an evaluation, written once to be used many times.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use slmc_calibration::TextSource;
use slmc_distill::{
    Batch, CacheHeader, CacheWriter, CachedRows, HeadInput, LogitCache, Predictor, Records, Sequence,
};
use slmc_eval::{EvaluateError, Protocol, Windows};
use slmc_model::{Device, ModelConfig, ModelError};

use super::DistillSettings;
use super::text::{Reading, Sequences, tokenizer_hash};
use crate::PipelineError;
use crate::jobs::evaluate::sha256;
use crate::jobs::tokenized::Reader;
use crate::memory::peak_resident_bytes;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};

/// What the predictions of a file are for.
#[derive(Clone, Debug)]
pub enum CacheOf {
    /// A training run.
    Run {
        /// The text that will be trained on.
        texts: Vec<TextSource>,
        /// Text to judge by; `None` to hold out a part of the other.
        held_out: Option<TextSource>,
        /// Whether all of a conversation will be learned.
        all_tokens: bool,
        /// Tokens of a sequence.
        seq_len: usize,
    },
    /// `slmc eval` and `slmc gate`: the scored half of every window.
    Evaluation {
        /// The text that will be scored.
        text: TextSource,
        /// Tokens of a window.
        n_ctx: usize,
        /// So many windows at most.
        max_windows: Option<usize>,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// The model whose predictions are wanted.
    pub teacher: PathBuf,
    /// What for.
    pub of: CacheOf,
    /// The likeliest tokens that are kept of each position.
    pub k: usize,
    /// What logits are divided by; 1 for an evaluation.
    pub temperature: f32,
    /// Sequences that run through the model at a time.
    pub batch_size: usize,
    /// Where the model runs.
    pub device: Device,
    /// The file to write.
    pub output: PathBuf,
    /// Whether to go on with what an earlier run of the same settings left.
    pub resume: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct CacheOutcome {
    /// The file written.
    pub output: PathBuf,
    /// What it says of itself.
    #[serde(flatten)]
    pub header: CacheHeader,
    /// Tokens of all sequences or windows.
    pub tokens: usize,
    /// The mean probability of what was not kept.
    pub mean_rest: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Peak resident memory.
    pub peak_memory_bytes: Option<u64>,
}

/// Writes the file.
///
/// # Errors
/// Reading, running or writing fails; the user stops it. What was written by then stays beside the file's place.
pub fn cache_logits(settings: CacheSettings, reporter: &dyn Reporter) -> Result<CacheOutcome, PipelineError> {
    if settings.output.exists() {
        return Err(PipelineError::Output {
            path: settings.output,
            reason: "exists already; delete it, or name another file".into(),
        });
    }
    let file = ModelFile::open(&settings.teacher)?;
    let source = file.source()?;
    let config = source.config();
    let tokenizer = file.tokenizer(config.vocab_size)?;
    // Rows of the head without a token are no predictions.
    let vocab = tokenizer.vocab_size().min(config.vocab_size);
    let ToPredict { records, inputs, labels, scored, sha256 } =
        ToPredict::new(&settings.of, &file, config, vocab)?;
    let seq_len = inputs.first().map_or(0, |sequence| sequence.tokens.len());
    let header = CacheHeader {
        records,
        k: settings.k.min(vocab),
        temperature: settings.temperature,
        vocab,
        seq_len,
        sequences: inputs.len(),
        tokenizer_sha256: tokenizer_hash(&tokenizer),
        data_sha256: sha256,
        teacher: settings.teacher.display().to_string(),
    };
    let mut writer = CacheWriter::begin(&settings.output, header.clone(), settings.resume)?;
    if writer.done() > 0 {
        reporter.warn(&format!("resuming after {} of {} sequences", writer.done(), inputs.len()));
    }
    let device = settings.device.burn().map_err(ModelError::from)?;
    let teacher = Predictor::load(source.as_ref(), seq_len, &device)?;
    reporter.begin_at("caching logits", inputs.len() as u64, Unit::Steps, writer.done() as u64);
    while writer.done() < inputs.len() {
        if reporter.is_cancelled() {
            reporter.end();
            return Err(PipelineError::Interrupted {
                directory: CacheWriter::partial(&settings.output),
                steps: writer.done(),
            });
        }
        let next = writer.done()..inputs.len().min(writer.done() + settings.batch_size);
        let states = teacher.predict(&Batch::new(&inputs[next.clone()]))?;
        let whole = teacher.with_head(&states);
        let width = seq_len * whole.width;
        let scored = scored.start * whole.width..scored.end * whole.width;
        let hidden: Vec<f32> =
            whole.hidden.chunks_exact(width).flat_map(|rows| &rows[scored.clone()]).copied().collect();
        let labels = labels.get(next.clone()).unwrap_or_default().concat();
        let head = HeadInput { hidden: &hidden, ..whole };
        let rows = CachedRows::with_labels(head, &labels, vocab, header.k, settings.temperature);
        writer.push(&rows)?;
        reporter.advance(next.len() as u64);
    }
    reporter.end();
    writer.finish(&settings.output)?;
    Ok(CacheOutcome {
        mean_rest: mean_rest(&LogitCache::open(&settings.output)?)?,
        tokens: inputs.len() * seq_len,
        bytes: std::fs::metadata(&settings.output).map_or(0, |metadata| metadata.len()),
        peak_memory_bytes: peak_resident_bytes(),
        output: settings.output,
        header,
    })
}

/// What a model is to predict.
struct ToPredict {
    records: Records,
    /// What it reads, all of one length.
    inputs: Vec<Sequence>,
    /// Of each the tokens that come, where their probabilities are wanted.
    labels: Vec<Vec<u32>>,
    /// The positions of each whose predictions are kept.
    scored: Range<usize>,
    /// What tells it from another.
    sha256: String,
}

impl ToPredict {
    fn new(
        of: &CacheOf,
        file: &ModelFile,
        config: &ModelConfig,
        vocab: usize,
    ) -> Result<Self, PipelineError> {
        match of {
            CacheOf::Run { texts, held_out, all_tokens, seq_len } => {
                let seq_len = (*seq_len).min(config.max_position_embeddings);
                let reading =
                    Reading { texts, held_out: held_out.as_ref(), all_tokens: *all_tokens, seq_len };
                let Sequences { train, held_out, hash } = Sequences::new(file, config, &reading)?;
                Ok(Self {
                    records: Records::Sequences,
                    inputs: train.into_iter().chain(held_out).collect(),
                    labels: Vec::new(),
                    scored: 0..seq_len,
                    sha256: hash,
                })
            }
            CacheOf::Evaluation { text, n_ctx, max_windows } => {
                let text = text.to_measure()?;
                let tokenized = Reader::new(file, config.vocab_size)?.tokenize(&text)?;
                let protocol =
                    Protocol { n_ctx: *n_ctx, max_windows: *max_windows, ..Protocol::new(tokenized.bos) };
                let windows = Windows::new(&tokenized.tokens, &protocol).map_err(EvaluateError::from)?;
                windows.check_vocabulary(vocab).map_err(EvaluateError::from)?;
                let inputs = (0..windows.count()).map(|window| {
                    let mut tokens = Vec::new();
                    windows.extend_inputs(window, &mut tokens);
                    tokens.into()
                });
                Ok(Self {
                    records: Records::Windows,
                    inputs: inputs.collect(),
                    labels: (0..windows.count()).map(|window| windows.targets(window).to_vec()).collect(),
                    scored: windows.all()[0].scored.clone(),
                    sha256: sha256(&tokenized.tokens),
                })
            }
        }
    }
}

/// The mean over positions of the probability of all tokens that are not kept.
fn mean_rest(cache: &LogitCache) -> Result<f64, PipelineError> {
    let (mut sum, mut positions) = (0.0, 0usize);
    for sequence in 0..cache.header().sequences {
        let rows = cache.read(&[sequence])?;
        sum += (0..rows.positions()).map(|at| f64::from(rows.token(at).log_rest).exp()).sum::<f64>();
        positions += rows.positions();
    }
    Ok(sum / positions.max(1) as f64)
}

/// Opens a file of predictions for a run, and refuses one of another temperature.
///
/// # Errors
/// See the messages.
pub(super) fn open(path: &Path, settings: &DistillSettings) -> Result<LogitCache, PipelineError> {
    let cache = LogitCache::open(path)?;
    let (header, objective) = (cache.header(), &settings.train.objective);
    if header.records != Records::Sequences {
        return Err(refuse(
            path,
            "holds predictions for windows of `slmc eval` (--for-eval), not for a run; write another one without that",
        ));
    }
    if objective.divergence == slmc_distill::Divergence::LogitMse {
        return Err(refuse(
            path,
            "holds probabilities, and logit-mse compares logits; choose another --loss",
        ));
    }
    if header.temperature != objective.temperature {
        let (cached, wanted) = (header.temperature, objective.temperature);
        return Err(refuse(
            path,
            &format!(
                "holds predictions at temperature {cached}, and the run's is {wanted}; give --temperature {cached}"
            ),
        ));
    }
    Ok(cache)
}

/// Refuses a file that is of another tokenizer or other sequences than a run's.
///
/// # Errors
/// See the messages.
pub(super) fn check(
    cache: &LogitCache,
    (student, rows): (&ModelFile, usize),
    sequences: &Sequences,
) -> Result<(), PipelineError> {
    let header = cache.header();
    let tokenizer = student.tokenizer(rows)?;
    if header.tokenizer_sha256 != tokenizer_hash(&tokenizer) || header.vocab > rows {
        return Err(refuse(
            cache.path(),
            &format!("is of a teacher with another tokenizer than `{}`", student.path().display()),
        ));
    }
    if header.data_sha256 != sequences.hash {
        return Err(refuse(
            cache.path(),
            &format!(
                "is of other sequences than this run's; give the --text, --held-out, --all-tokens and --seq-len ({}) that it was \
                 written with",
                header.seq_len
            ),
        ));
    }
    Ok(())
}

fn refuse(path: &Path, reason: &str) -> PipelineError {
    PipelineError::Distill { reason: format!("`{}` {reason}", path.display()) }
}
