//! A model as the user names it: a checkpoint directory or a GGUF file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use slmc_calibration::{ChatTemplate, Tokenizer};
use slmc_checkpoint::Checkpoint;
use slmc_gguf::container::GgufFile;
use slmc_gguf::vocabulary::{ENDS_BY_TEXT, Vocabulary};
use slmc_model::{CheckpointSource, GgufSource, WeightSource};

use crate::PipelineError;

/// An opened model. No weight is read yet.
pub enum ModelFile {
    /// A Hugging Face directory.
    Checkpoint(Arc<Checkpoint>),
    /// A GGUF file.
    Gguf(Arc<GgufFile>),
}

impl ModelFile {
    /// Opens a checkpoint to be compressed. Of a model for several modalities it is the text model alone, which must be what is
    /// wanted: `text_only`.
    ///
    /// # Errors
    /// As [`ModelFile::open`]; a GGUF file, or a checkpoint whose weights are packed integers: both are outputs already. A model
    /// for several modalities where that is not said.
    pub fn open_original(path: &Path, text_only: bool) -> Result<(Self, Arc<Checkpoint>), PipelineError> {
        let refuse =
            |reason: &str| PipelineError::NoModel { path: path.to_owned(), reason: reason.to_owned() };
        let model = Self::open(path)?;
        let Self::Checkpoint(checkpoint) = &model else {
            return Err(refuse(
                "a GGUF file is already an output; give the checkpoint directory it was made from",
            ));
        };
        refuse_quantized(checkpoint)?;
        if let Some(whole) = checkpoint.text_part_of().filter(|_| !text_only) {
            return Err(refuse(&format!(
                "a {whole} model sees as well as reads; --text-only takes its text model and leaves the rest out"
            )));
        }
        let checkpoint = Arc::clone(checkpoint);
        Ok((model, checkpoint))
    }

    /// Opens what stands at `path`.
    ///
    /// # Errors
    /// Nothing is there, or it is neither a checkpoint nor a GGUF file, or a bad one.
    pub fn open(path: &Path) -> Result<Self, PipelineError> {
        if path.is_dir() {
            return Ok(Self::Checkpoint(Arc::new(Checkpoint::open(path)?)));
        }
        if path.is_file() {
            if path.extension().is_some_and(|e| e == "safetensors") {
                return Err(PipelineError::NoModel {
                    path: path.to_path_buf(),
                    reason: "name the checkpoint's directory (with config.json), not a weight file in it"
                        .into(),
                });
            }
            return Ok(Self::Gguf(Arc::new(GgufFile::open(path)?)));
        }
        Err(PipelineError::NoModel {
            path: path.to_path_buf(),
            reason: "no such file or directory; expected a Hugging Face checkpoint directory or a GGUF file"
                .into(),
        })
    }

    /// The model's weights.
    ///
    /// # Errors
    /// An architecture that is not supported; tensors that do not fit the configuration.
    pub fn source(&self) -> Result<Box<dyn WeightSource>, PipelineError> {
        Ok(match self {
            Self::Checkpoint(checkpoint) => Box::new(CheckpointSource::new(Arc::clone(checkpoint))?),
            Self::Gguf(file) => Box::new(GgufSource::new(Arc::clone(file))?),
        })
    }

    /// The vocabulary, for a checkpoint of `vocab_size` embedding rows with the pre-tokenizer named by `pre`, if given.
    ///
    /// # Errors
    /// No tokenizer, or one that GGUF cannot carry.
    pub fn vocabulary(&self, vocab_size: usize, pre: Option<&str>) -> Result<Vocabulary, PipelineError> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let config = checkpoint.tokenizer_config()?;
                let json = checkpoint.tokenizer_json()?;
                let mut vocabulary =
                    Vocabulary::from_tokenizer_json(&json, config.as_ref(), vocab_size, pre).map_err(
                        |source| PipelineError::Vocabulary { path: checkpoint.tokenizer_json_path(), source },
                    )?;
                vocabulary.fill_special_ids(checkpoint.config_json());
                if let Some(generation) = checkpoint.generation_config()? {
                    vocabulary.fill_special_ids(&generation);
                }
                vocabulary.end_at(&named_ends(checkpoint)?);
                if let Some(template) = checkpoint.chat_template()? {
                    vocabulary.set_chat_template(template);
                }
                for (name, template) in checkpoint.additional_chat_templates()? {
                    vocabulary.add_chat_template(&name, template);
                }
                Ok(vocabulary)
            }
            Self::Gguf(file) => Vocabulary::from_metadata(file.metadata())
                .map_err(|source| PipelineError::Vocabulary { path: file.path().to_path_buf(), source }),
        }
    }

    /// The tokenizer: of a checkpoint its `tokenizer.json`, of a GGUF file one rebuilt from its metadata.
    ///
    /// # Errors
    /// No tokenizer, or a broken one.
    pub fn tokenizer(&self, vocab_size: usize) -> Result<Tokenizer, PipelineError> {
        Ok(match self {
            Self::Checkpoint(checkpoint) => {
                let path = checkpoint.tokenizer_json_path();
                let mut json = checkpoint.tokenizer_json()?;
                match drop_beyond(&mut json, vocab_size) {
                    true => Tokenizer::from_json(&json, &path)?,
                    false => Tokenizer::from_file(&path)?,
                }
            }
            Self::Gguf(file) => {
                let json = self.vocabulary(vocab_size, None)?.to_tokenizer_json().map_err(|source| {
                    PipelineError::Vocabulary { path: file.path().to_path_buf(), source }
                })?;
                Tokenizer::from_json(&json, file.path())?
            }
        })
    }

    /// What lm-evaluation-harness puts in place of an empty context: the beginning of a sequence, else the end of a text.
    ///
    /// # Errors
    /// A tokenizer configuration or vocabulary that cannot be read.
    pub fn prefix_token(&self, tokenizer: &Tokenizer) -> Result<Option<u32>, PipelineError> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let config = checkpoint.tokenizer_config()?;
                let named = |name: &str| {
                    let token = config.as_ref()?.get(name)?;
                    // as text, or as an object that also says how to strip it
                    tokenizer.token_to_id(token.get("content").unwrap_or(token).as_str()?)
                };
                Ok(named("bos_token").or_else(|| tokenizer.bos()).or_else(|| named("eos_token")))
            }
            Self::Gguf(_) => {
                let vocabulary = self.vocabulary(tokenizer.vocab_size(), None)?;
                Ok(vocabulary.special().bos.or(vocabulary.special().eos))
            }
        }
    }

    /// The chat template with the special tokens it names, where the model has one.
    ///
    /// # Errors
    /// A tokenizer configuration or vocabulary that cannot be read; a template that is broken.
    pub fn chat_template(&self, vocab_size: usize) -> Result<Option<ChatTemplate>, PipelineError> {
        let (source, tokens) = match self {
            Self::Checkpoint(checkpoint) => (checkpoint.chat_template()?, checkpoint.tokenizer_config()?),
            Self::Gguf(_) => {
                let vocabulary = self.vocabulary(vocab_size, None)?;
                let text = |id: Option<u32>| vocabulary.tokens().get(id? as usize);
                let ids = vocabulary.special();
                let tokens = serde_json::json!({
                    "bos_token": text(ids.bos), "eos_token": text(ids.eos),
                    "unk_token": text(ids.unk), "pad_token": text(ids.pad),
                });
                (vocabulary.chat_templates().default.clone(), Some(tokens))
            }
        };
        Ok(source.map(|source| ChatTemplate::new(&source, tokens.as_ref())).transpose()?)
    }

    /// The tokens that end a text or an answer, sorted.
    ///
    /// What the files name (`eos_token_id` of `config.json` and `generation_config.json`, `eos_token` of
    /// `tokenizer_config.json`; the GGUF keys of EOS, EOT and EOM), and, as in llama.cpp, tokens known by their text: chat
    /// models often end an answer with a token that no key names.
    ///
    /// # Errors
    /// A file beside the weights or a vocabulary that cannot be read.
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, PipelineError> {
        let mut ids: Vec<u32> = ENDS_BY_TEXT.iter().filter_map(|text| tokenizer.token_to_id(text)).collect();
        match self {
            Self::Checkpoint(checkpoint) => {
                ids.extend(named_ends(checkpoint)?);
                if let Some(config) = checkpoint.tokenizer_config()? {
                    let eos = &config["eos_token"];
                    let text = eos.as_str().or_else(|| eos["content"].as_str());
                    ids.extend(text.and_then(|text| tokenizer.token_to_id(text)));
                }
            }
            Self::Gguf(_) => {
                // The number of embedding rows is in the file.
                let special = self.vocabulary(0, None)?.special().clone();
                ids.extend([special.eos, special.eot, special.eom].into_iter().flatten());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.dir().to_path_buf(),
            Self::Gguf(file) => file.path().to_path_buf(),
        }
    }

    /// Bytes of the weights on disk: all weight files of a checkpoint, the whole GGUF file.
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.weight_files().map(size).sum(),
            Self::Gguf(file) => size(file.path()),
        }
    }

    /// A name for people: the directory's, or the file's without its ending.
    pub fn name(&self) -> String {
        let path = self.path();
        let path = path.canonicalize().unwrap_or(path);
        let name = match self {
            Self::Checkpoint(_) => path.file_name(),
            Self::Gguf(_) => path.file_stem(),
        };
        name.map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned())
    }
}

/// `eos_token_id` of `generation_config.json`, then of `config.json`: an id or a list of ids.
fn named_ends(checkpoint: &Checkpoint) -> Result<Vec<u32>, PipelineError> {
    let generation = checkpoint.generation_config()?;
    let named = generation.iter().chain([checkpoint.config_json()]).flat_map(|config| {
        let named = &config["eos_token_id"];
        named.as_array().map_or(std::slice::from_ref(named), Vec::as_slice)
    });
    Ok(named.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect())
}

/// Takes the special tokens out of a `tokenizer.json` that the model's embedding has no rows for, so that no text becomes them; true if
/// there were any. Gemma 3's text models have one for images.
fn drop_beyond(tokenizer: &mut Value, vocab_size: usize) -> bool {
    let Some(added) = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut) else { return false };
    let is_beyond = |token: &Value| {
        token["special"] == true && token["id"].as_u64().is_some_and(|id| id >= vocab_size as u64)
    };
    let beyond: Vec<Value> = added.extract_if(.., |token| is_beyond(token)).collect();
    let vocab = tokenizer.get_mut("model").and_then(|model| model.get_mut("vocab"));
    if let Some(vocab) = vocab.and_then(Value::as_object_mut) {
        for token in &beyond {
            let spelling = token["content"].as_str().unwrap_or_default();
            if vocab.get(spelling) == token.get("id") {
                vocab.remove(spelling);
            }
        }
    }
    !beyond.is_empty()
}

/// An error where the checkpoint's weights are packed integers already.
pub(crate) fn refuse_quantized(checkpoint: &Checkpoint) -> Result<(), PipelineError> {
    if checkpoint.config().quantization.is_none() {
        return Ok(());
    }
    Err(PipelineError::NoModel {
        path: checkpoint.dir().to_path_buf(),
        reason: "its weights are quantized already; give the checkpoint they were made from".into(),
    })
}
