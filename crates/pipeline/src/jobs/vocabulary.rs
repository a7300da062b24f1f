//! A checkpoint without the tokens that a text never uses: fewer rows of the embedding and the head, everything else as it was.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use slmc_calibration::{CalibrationError, Document, TextKind, Tokenizer, TrimmedVocabulary};
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, ExistingTarget, SIDE_FILES, TensorSpec};
use slmc_model::{CheckpointSource, ModelConfig, Role, TensorId, WeightSource};

use super::directory::{PROVENANCE, may_replace};
use super::evaluate::{EvaluateOutcome, Measure, evaluate_written};
use super::quantize::TextSource;
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::packing::pack_tensors;
use crate::progress::{Reporter, Unit};

/// Files that list the vocabulary once more, in another form; `tokenizer.json` says it all.
const OTHER_VOCABULARIES: [&str; 4] = ["vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"];

/// Files whose fields name tokens by number.
const WITH_TOKEN_IDS: [&str; 3] =
    ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json"];

/// What to do.
#[derive(Clone, Debug)]
pub struct VocabularySettings {
    /// The checkpoint.
    pub model: PathBuf,
    /// Whether the text model of one for several modalities is meant.
    pub text_only: bool,
    /// Texts whose tokens stay.
    pub corpus: Vec<TextSource>,
    /// The directory to write.
    pub output: PathBuf,
    /// How to measure the result; `None` not to.
    pub measure: Option<Measure>,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct VocabularyOutcome {
    /// The directory written.
    pub output: PathBuf,
    /// The checkpoint that it was made from.
    pub source: PathBuf,
    /// Tokens of the corpus.
    pub corpus_tokens: u64,
    /// Rows of the original's embedding.
    pub tokens_before: usize,
    /// Rows of the embedding.
    pub tokens: usize,
    /// Parameters of the original.
    pub parameters_before: u64,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the original's weight files.
    pub bytes_before: u64,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Wall time of reading and writing.
    pub seconds: f64,
    /// The original by itself: the vocabularies differ, so that bits per byte compare and perplexities do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_before: Option<EvaluateOutcome>,
    /// The result by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
}

/// Everything that is known before anything is written.
pub struct PreparedVocabulary {
    settings: VocabularySettings,
    checkpoint: Arc<Checkpoint>,
    config: ModelConfig,
    trimmed: TrimmedVocabulary,
    layout: CheckpointPlan,
    existing: ExistingTarget,
    corpus_tokens: u64,
    started: Instant,
}

impl PreparedVocabulary {
    /// Tokenizes the corpus, makes the smaller tokenizer, and checks that it gives the same tokens of the corpus.
    ///
    /// # Errors
    /// The checkpoint, its tokenizer or the corpus cannot be read; a tokenizer of another kind; nothing would go.
    pub fn new(settings: VocabularySettings) -> Result<Self, PipelineError> {
        let started = Instant::now();
        let (model, checkpoint) = ModelFile::open_original(&settings.model, settings.text_only)?;
        let existing = may_replace(&settings.output, &settings.model)?;
        let config = model.source()?.config().clone();
        let (tokenizer, template) =
            (model.tokenizer(config.vocab_size)?, model.chat_template(config.vocab_size)?);
        tokenizer.check_vocab_size(config.vocab_size)?;
        let mut documents = Vec::new();
        for text in &settings.corpus {
            documents.extend(text.to_calibrate(template.as_ref())?);
        }
        let tokens = encode(&tokenizer, &documents)?;
        let mut used: BTreeSet<u32> = tokens.iter().flatten().copied().collect();
        if used.is_empty() {
            return Err(PipelineError::cannot_prune(
                "the text has no tokens, so that none would stay; give more".into(),
            ));
        }
        for file in ["config.json"].iter().chain(&WITH_TOKEN_IDS) {
            used.extend(ids_named(&read_json(&checkpoint, file)?));
        }
        let trimmed = TrimmedVocabulary::new(&checkpoint.tokenizer_json()?, &used, tokenizer.path())?;
        if trimmed.kept.len() >= config.vocab_size {
            return Err(PipelineError::cannot_prune(
                "nothing would be pruned: the text uses every token".into(),
            ));
        }
        let smaller = Tokenizer::from_json(&trimmed.json, tokenizer.path())?;
        for (before, after) in tokens.iter().zip(encode(&smaller, &documents)?) {
            if !before.iter().map(|id| trimmed.renumbered(*id)).eq(after.iter().map(|id| Some(*id))) {
                return Err(PipelineError::cannot_prune(format!(
                    "{}: without the tokens that the text does not use it is tokenized otherwise; such vocabularies cannot be trimmed",
                    tokenizer.path().display()
                )));
            }
        }
        let specs = specs(&checkpoint, &config, trimmed.kept.len())?;
        let layout = CheckpointPlan::new(specs, CheckpointPlan::DEFAULT_SHARD_BYTES)?;
        let corpus_tokens = tokens.iter().map(|tokens| tokens.len() as u64).sum();
        Ok(Self { settings, checkpoint, config, trimmed, layout, existing, corpus_tokens, started })
    }

    /// Rows of the embedding before and after.
    pub fn tokens(&self) -> [usize; 2] {
        [self.config.vocab_size, self.trimmed.kept.len()]
    }

    /// Tokens of the corpus.
    pub fn corpus_tokens(&self) -> u64 {
        self.corpus_tokens
    }

    /// Parameters before and after.
    pub fn parameters(&self) -> [u64; 2] {
        let after = ModelConfig { vocab_size: self.trimmed.kept.len(), ..self.config.clone() };
        [self.config.parameters() as u64, after.parameters() as u64]
    }

    /// Bytes of the weight files to be written.
    pub fn output_bytes(&self) -> u64 {
        self.layout.total_bytes()
    }

    /// Writes, opens what was written, measures.
    ///
    /// # Errors
    /// Reading, writing or measuring fails; the user cancels. Nothing is left behind then, but what was written when measuring fails.
    pub fn run(self, reporter: &dyn Reporter) -> Result<VocabularyOutcome, PipelineError> {
        self.write(reporter)?;
        let written = CheckpointSource::open(&self.settings.output)?;
        let (seconds, [parameters_before, _]) = (self.started.elapsed().as_secs_f64(), self.parameters());
        let measure =
            |model: &PathBuf| evaluate_written(model, None, self.settings.measure.clone(), reporter);
        let (evaluation_before, evaluation) =
            (measure(&self.settings.model)?, measure(&self.settings.output)?);
        let length = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(VocabularyOutcome {
            corpus_tokens: self.corpus_tokens,
            tokens_before: self.config.vocab_size,
            tokens: written.config().vocab_size,
            parameters_before,
            parameters: written.config().parameters() as u64,
            bytes_before: self.checkpoint.weight_files().map(length).sum(),
            bytes: self.layout.total_bytes(),
            seconds,
            evaluation_before,
            evaluation,
            output: self.settings.output,
            source: self.settings.model,
        })
    }

    fn write(&self, reporter: &dyn Reporter) -> Result<(), PipelineError> {
        let Self { checkpoint, config, trimmed, .. } = self;
        let mut writer = CheckpointWriter::create(&self.settings.output, self.layout.clone(), self.existing)?;
        let ids = config.tensors();
        reporter.begin("Writing", ids.len() as u64, Unit::Steps);
        for id in ids {
            if reporter.is_cancelled() {
                return Err(PipelineError::Cancelled);
            }
            let name = hf_name(config, id);
            let bytes = checkpoint.bytes(&name)?;
            if has_token_rows(id.role) {
                let (row, elements) = (bytes.len() / config.vocab_size, config.hidden_size);
                for (new, old) in trimmed.kept.iter().enumerate() {
                    let at = *old as usize * row;
                    writer.write_elements(&name, new * elements, &bytes[at..at + row])?;
                }
            } else {
                writer.write_elements(&name, 0, bytes)?;
            }
            checkpoint.release(&name)?;
            reporter.advance(1);
        }
        let mut json = checkpoint.config_json().clone();
        trimmed.renumber_ids(&mut json);
        json["vocab_size"] = trimmed.kept.len().into();
        let recipe = json!({ "prune": "vocabulary", "corpus_tokens": self.corpus_tokens, "tokens": trimmed.kept.len() });
        json[PROVENANCE] = json!({ "version": env!("CARGO_PKG_VERSION"), "recipe": recipe });
        writer.write_config(&json)?;
        writer.write_json("tokenizer.json", &trimmed.json)?;
        for file in SIDE_FILES {
            let path = checkpoint.dir().join(file);
            if file == "tokenizer.json" || !path.is_file() {
                continue;
            }
            if OTHER_VOCABULARIES.contains(&file) {
                reporter.warn(&format!(
                    "{file} lists the old vocabulary and is left out: tokenizer.json has the new one"
                ));
            } else if WITH_TOKEN_IDS.contains(&file) {
                let mut json = read_json(checkpoint, file)?;
                trimmed.renumber_ids(&mut json);
                writer.write_json(file, &json)?;
            } else {
                let contents =
                    std::fs::read(&path).map_err(|source| CalibrationError::Io { path, source })?;
                writer.write_file(file, &contents)?;
            }
        }
        writer.finish()?;
        reporter.end();
        Ok(())
    }
}

/// Whether a tensor has a row for every token.
const fn has_token_rows(role: Role) -> bool {
    matches!(role, Role::TokenEmbedding | Role::Head)
}

fn hf_name(config: &ModelConfig, id: TensorId) -> String {
    config.arch.hf_name(id).expect("an architecture names every tensor it has")
}

/// The tensors of the smaller checkpoint.
fn specs(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    tokens: usize,
) -> Result<Vec<TensorSpec>, PipelineError> {
    // every tensor is there and has its shape
    pack_tensors(checkpoint, config)?;
    let spec = |id: TensorId| {
        let name = hf_name(config, id);
        let tensor = checkpoint.tensor(&name).expect("it was looked for");
        let mut shape = tensor.shape.clone();
        if has_token_rows(id.role) {
            shape[0] = tokens;
        }
        TensorSpec { dtype: tensor.dtype, name, shape }
    };
    Ok(config.tensors().into_iter().map(spec).collect())
}

fn encode(tokenizer: &Tokenizer, documents: &[Document]) -> Result<Vec<Vec<u32>>, CalibrationError> {
    let encode = |document: &Document| match document.kind {
        TextKind::Plain => tokenizer.encode_text(&document.text),
        TextKind::Markup => tokenizer.encode_markup(&document.text),
    };
    documents.par_iter().map(encode).collect()
}

/// A file beside the weights; null if there is none.
fn read_json(checkpoint: &Checkpoint, file: &str) -> Result<Value, PipelineError> {
    let path = checkpoint.dir().join(file);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(CalibrationError::Io { path, source }.into()),
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| PipelineError::NoModel { path, reason: format!("is no JSON: {error}") }),
    }
}

/// The numbers of tokens that a file's fields name.
fn ids_named(json: &Value) -> Vec<u32> {
    let fields = json.as_object().into_iter().flatten();
    let named = fields.filter(|(name, _)| name.ends_with("_token_id") || name.ends_with("_token_ids"));
    let ids = named.flat_map(|(_, value)| match value {
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    });
    ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
