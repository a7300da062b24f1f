//! The `tokenizer.*` keys of GGUF, written and read.

use super::differences::{self, Differences};
use super::error::VocabularyError;
use super::pre_tokenizer::PreTokenizer;
use super::special::{ChatTemplates, ROLES, SpecialIds};
use super::{MAX_TOKENS, Model, TokenKind, Vocabulary};
use crate::container::{Metadata, Strings};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const REMOVE_EXTRA_WHITESPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
const CHAT_TEMPLATES: &str = "tokenizer.chat_templates";

impl Vocabulary {
    /// Adds the vocabulary's keys to `metadata`.
    pub fn write(&self, metadata: &mut Metadata) {
        let kinds: Vec<i32> = self.kinds.iter().map(|&kind| kind as i32).collect();
        match &self.model {
            Model::ByteLevel { merges, pre } => {
                metadata.insert(MODEL, "gpt2");
                metadata.insert(PRE, *pre);
                metadata.insert(TOKENS, self.tokens.clone());
                metadata.insert(TOKEN_TYPE, kinds);
                metadata.insert(MERGES, merges.clone());
            }
            Model::SentencePiece { scores, add_space_prefix } => {
                metadata.insert(MODEL, "llama");
                metadata.insert(PRE, "default");
                metadata.insert(TOKENS, self.tokens.clone());
                metadata.insert(SCORES, scores.clone());
                metadata.insert(TOKEN_TYPE, kinds);
                metadata.insert(ADD_SPACE_PREFIX, *add_space_prefix);
            }
            Model::Unigram { scores, add_space_prefix, remove_extra_whitespaces, charsmap } => {
                metadata.insert(MODEL, "t5");
                metadata.insert(PRE, "default");
                metadata.insert(TOKENS, self.tokens.clone());
                metadata.insert(SCORES, scores.clone());
                metadata.insert(TOKEN_TYPE, kinds);
                metadata.insert(ADD_SPACE_PREFIX, *add_space_prefix);
                metadata.insert(REMOVE_EXTRA_WHITESPACES, *remove_extra_whitespaces);
                if !charsmap.is_empty() {
                    metadata.insert(CHARSMAP, charsmap.clone());
                }
            }
        }
        let mut special = self.special.clone();
        for (_, key, place) in ROLES {
            if let Some(id) = *place(&mut special) {
                metadata.insert(key, id);
            }
        }
        metadata.insert(ADD_BOS, self.add_bos);
        metadata.insert(ADD_EOS, self.add_eos);
        let ChatTemplates { default, named } = &self.chat_templates;
        if !named.is_empty() {
            metadata.insert(CHAT_TEMPLATES, named.iter().map(|(name, _)| name).collect::<Strings>());
        }
        for (name, template) in named {
            metadata.insert(format!("{CHAT_TEMPLATE}.{name}"), template.as_str());
        }
        if let Some(template) = default {
            metadata.insert(CHAT_TEMPLATE, template.as_str());
        }
        if let Some(text) = self.differences.to_text() {
            metadata.insert(differences::KEY, text);
        }
    }

    /// Reads the vocabulary of a GGUF file, written by slmc or another program.
    ///
    /// Absent keys mean what llama.cpp takes them for.
    ///
    /// # Errors
    /// A key is missing or of the wrong type, lengths or ids do not fit, or the model or pre-tokenizer is not known.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, VocabularyError> {
        let tokens = metadata.strings(TOKENS)?.clone();
        if tokens.len() > MAX_TOKENS {
            return Err(VocabularyError::TooManyTokens { size: tokens.len(), at_most: MAX_TOKENS });
        }
        let kinds = read_kinds(metadata, tokens.len())?;
        let (model, add_bos, add_eos) = match metadata.str(MODEL)? {
            "gpt2" => {
                let (pre, known) = PreTokenizer::named(metadata.str(PRE)?)?;
                let merges = metadata.strings(MERGES)?.clone();
                // llama.cpp's own defaults for these two names (`llama_vocab::impl::load`).
                (Model::ByteLevel { merges, pre }, matches!(known.name, "llama-bpe" | "tekken"), false)
            }
            "llama" => {
                let scores = metadata.f32_array(SCORES)?.to_vec();
                check_length(SCORES, tokens.len(), scores.len())?;
                let add_space_prefix = metadata.optional(ADD_SPACE_PREFIX)?.unwrap_or(true);
                (Model::SentencePiece { scores, add_space_prefix }, true, false)
            }
            "t5" => {
                let scores = metadata.f32_array(SCORES)?.to_vec();
                check_length(SCORES, tokens.len(), scores.len())?;
                let model = Model::Unigram {
                    scores,
                    add_space_prefix: metadata.optional(ADD_SPACE_PREFIX)?.unwrap_or(true),
                    remove_extra_whitespaces: metadata.optional(REMOVE_EXTRA_WHITESPACES)?.unwrap_or(false),
                    charsmap: metadata.optional::<&[u8]>(CHARSMAP)?.unwrap_or_default().to_vec(),
                };
                (model, false, true)
            }
            other => return Err(VocabularyError::UnsupportedFileModel { found: other.to_owned() }),
        };
        let mut special = SpecialIds::default();
        for (_, key, place) in ROLES {
            let id = metadata.optional::<u32>(key)?;
            if let Some(id) = id.filter(|&id| id as usize >= tokens.len()) {
                return Err(VocabularyError::SpecialIdOutOfRange { key, id, vocab_size: tokens.len() });
            }
            *place(&mut special) = id;
        }
        let mut default = |place: fn(&mut SpecialIds) -> &mut Option<u32>, id: u32| {
            let slot = place(&mut special);
            *slot = slot.or(Some(id).filter(|&id| (id as usize) < tokens.len()));
        };
        match model {
            Model::ByteLevel { .. } => {}
            Model::SentencePiece { .. } => {
                default(|s| &mut s.unk, 0);
                default(|s| &mut s.bos, 1);
                default(|s| &mut s.eos, 2);
            }
            Model::Unigram { .. } => {
                default(|s| &mut s.pad, 0);
                default(|s| &mut s.eos, 1);
                default(|s| &mut s.unk, 2);
            }
        }
        let add_bos = metadata.optional(ADD_BOS)?.unwrap_or(add_bos);
        let add_eos = metadata.optional(ADD_EOS)?.unwrap_or(add_eos);
        for (key, add, id) in [(ADD_BOS, add_bos, special.bos), (ADD_EOS, add_eos, special.eos)] {
            if add && id.is_none() {
                return Err(VocabularyError::NothingToAdd { key });
            }
        }
        let differences =
            metadata.optional::<&str>(differences::KEY)?.map(Differences::from_text).transpose()?;
        Ok(Self {
            model,
            tokens,
            kinds,
            special,
            add_bos,
            add_eos,
            chat_templates: read_chat_templates(metadata)?,
            differences: differences.unwrap_or_default(),
            notes: Vec::new(),
        })
    }
}

fn read_kinds(metadata: &Metadata, count: usize) -> Result<Vec<TokenKind>, VocabularyError> {
    let Some(stored) = metadata.optional::<&[i32]>(TOKEN_TYPE)? else {
        return Ok(vec![TokenKind::Normal; count]);
    };
    check_length(TOKEN_TYPE, count, stored.len())?;
    stored
        .iter()
        .enumerate()
        .map(|(id, &kind)| {
            TokenKind::from_id(kind).ok_or(VocabularyError::UnknownTokenType { id, found: kind })
        })
        .collect()
}

fn check_length(key: &'static str, expected: usize, found: usize) -> Result<(), VocabularyError> {
    if found == expected { Ok(()) } else { Err(VocabularyError::LengthMismatch { key, expected, found }) }
}

fn read_chat_templates(metadata: &Metadata) -> Result<ChatTemplates, VocabularyError> {
    let default = metadata.optional::<&str>(CHAT_TEMPLATE)?.map(str::to_owned);
    let mut named = Vec::new();
    if let Some(names) = metadata.optional::<&Strings>(CHAT_TEMPLATES)? {
        for name in names.iter() {
            named.push((name.to_owned(), metadata.str(&format!("{CHAT_TEMPLATE}.{name}"))?.to_owned()));
        }
    }
    Ok(ChatTemplates { default, named })
}
