//! A teacher's predictions for a run's sequences, written once to be trained on many times.

use std::path::{Path, PathBuf};

use serde::Serialize;
use slmc_calibration::TextSource;
use slmc_distill::{Batch, CacheHeader, CacheWriter, CachedRows, LogitCache, Predictor, Sequence};
use slmc_model::{Device, ModelError};

use super::DistillSettings;
use super::text::{Reading, Sequences, tokenizer_hash};
use crate::PipelineError;
use crate::memory::peak_resident_bytes;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};

/// What to do.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// The model whose predictions are wanted.
    pub teacher: PathBuf,
    /// The text that will be trained on.
    pub texts: Vec<TextSource>,
    /// Text to judge by; `None` to hold out a part of the other.
    pub held_out: Option<TextSource>,
    /// Whether all of a conversation will be learned.
    pub all_tokens: bool,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// The likeliest tokens that are kept of each position.
    pub k: usize,
    /// What logits are divided by.
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
    /// Tokens of all sequences.
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
    let seq_len = settings.seq_len.min(config.max_position_embeddings);
    let reading = Reading {
        texts: &settings.texts,
        held_out: settings.held_out.as_ref(),
        all_tokens: settings.all_tokens,
        seq_len,
    };
    let sequences = Sequences::new(&file, config, &reading)?;
    let tokenizer = file.tokenizer(config.vocab_size)?;
    // Rows of the head without a token are no predictions.
    let vocab = tokenizer.vocab_size().min(config.vocab_size);
    let all: Vec<&Sequence> = sequences.train.iter().chain(&sequences.held_out).collect();
    let header = CacheHeader {
        k: settings.k.min(vocab),
        temperature: settings.temperature,
        vocab,
        seq_len,
        sequences: all.len(),
        tokenizer_sha256: tokenizer_hash(&tokenizer),
        data_sha256: sequences.hash.clone(),
        teacher: settings.teacher.display().to_string(),
    };
    let mut writer = CacheWriter::begin(&settings.output, header.clone(), settings.resume)?;
    if writer.done() > 0 {
        reporter.warn(&format!("resuming after {} of {} sequences", writer.done(), all.len()));
    }
    let device = settings.device.burn().map_err(ModelError::from)?;
    let teacher = Predictor::load(source.as_ref(), seq_len, &device)?;
    reporter.begin_at("caching logits", all.len() as u64, Unit::Steps, writer.done() as u64);
    while writer.done() < all.len() {
        if reporter.is_cancelled() {
            reporter.end();
            return Err(PipelineError::Interrupted {
                directory: CacheWriter::partial(&settings.output),
                steps: writer.done(),
            });
        }
        let next = &all[writer.done()..all.len().min(writer.done() + settings.batch_size)];
        let batch = Batch::new(next.iter().copied());
        let states = teacher.predict(&batch)?;
        let rows = CachedRows::of(teacher.with_head(&states), vocab, header.k, settings.temperature);
        writer.push(&rows)?;
        reporter.advance(next.len() as u64);
    }
    reporter.end();
    writer.finish(&settings.output)?;
    Ok(CacheOutcome {
        mean_rest: mean_rest(&LogitCache::open(&settings.output)?)?,
        tokens: all.len() * seq_len,
        bytes: std::fs::metadata(&settings.output).map_or(0, |metadata| metadata.len()),
        peak_memory_bytes: peak_resident_bytes(),
        output: settings.output,
        header,
    })
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
