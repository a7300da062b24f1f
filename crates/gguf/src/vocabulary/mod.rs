//! A Hugging Face `tokenizer.json` as the `tokenizer.*` metadata of GGUF, and back.
//!
//! Three kinds of vocabulary are known: byte-level BPE (GGUF model `gpt2`), SentencePiece-style BPE with byte fallback (GGUF
//! model `llama`) and SentencePiece's unigram model (GGUF model `t5`). The rules are those of llama.cpp's
//! `convert_hf_to_gguf.py` (`get_vocab_base`, `SpecialVocab`) and of its reader `src/llama-vocab.cpp`, with these
//! departures: the pre-tokenizer is recognized by its structure instead of by a hash of test tokens; SentencePiece scores
//! come from the merges, where the converter has a placeholder; `add_bos_token` and `add_eos_token` are always written.
//!
//! What llama.cpp will do differently from the original tokenizer is listed in [`Vocabulary::notes`].

mod added_tokens;
mod differences;
mod ends;
mod error;
mod from_json;
mod json;
mod metadata;
mod pre_tokenizer;
mod sentence_piece;
mod spaces;
mod special;
mod to_json;
mod unigram;

pub use ends::ENDS_BY_TEXT;
pub use error::{Note, VocabularyError};
pub use pre_tokenizer::PreTokenizer;
pub use special::{ChatTemplates, SpecialIds};

use crate::container::Strings;
use differences::Differences;

/// Most tokens of a vocabulary; guards against absurd sizes in a configuration.
pub const MAX_TOKENS: usize = 1 << 24;

/// What a token is (`enum llama_token_type`), with the number GGUF stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum TokenKind {
    /// An ordinary piece of text.
    Normal = 1,
    /// Stands for text that no token covers.
    Unknown = 2,
    /// A special token: matched in text only on request, and not shown.
    Control = 3,
    /// An added token that stands for its own text.
    UserDefined = 4,
    /// A row of the embedding without a token.
    Unused = 5,
    /// One byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number in GGUF.
    pub fn from_id(id: i32) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|kind| *kind as i32 == id)
    }
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// Byte-level BPE, GGUF model `gpt2`.
    ByteLevel {
        /// `left right`, in order of rank.
        merges: Strings,
        /// The name for `tokenizer.ggml.pre`.
        pre: &'static str,
    },
    /// BPE over characters with byte fallback, GGUF model `llama`.
    SentencePiece {
        /// One for every token; of two possible merges, the one whose result has the higher score is done first.
        scores: Vec<f32>,
        /// Whether a space is put before text.
        add_space_prefix: bool,
    },
    /// SentencePiece's unigram language model, GGUF model `t5`.
    Unigram {
        /// Log probabilities by id.
        scores: Vec<f32>,
        /// Whether a space is put before text.
        add_space_prefix: bool,
        /// Whether runs of spaces become one, and those at both ends go.
        remove_extra_whitespaces: bool,
        /// SentencePiece's compiled table of what characters become; empty where they stay.
        charsmap: Vec<u8>,
    },
}

/// A vocabulary with everything that GGUF stores about it. Tokens are indexed by id and unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    model: Model,
    tokens: Strings,
    kinds: Vec<TokenKind>,
    special: SpecialIds,
    add_bos: bool,
    add_eos: bool,
    chat_templates: ChatTemplates,
    differences: Differences,
    notes: Vec<Note>,
}

impl Vocabulary {
    /// How text becomes tokens.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Number of tokens, padding included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens by id, as GGUF stores them.
    pub fn tokens(&self) -> &Strings {
        &self.tokens
    }

    /// The tokens' kinds by id.
    pub fn kinds(&self) -> &[TokenKind] {
        &self.kinds
    }

    /// The special tokens' ids.
    pub fn special(&self) -> &SpecialIds {
        &self.special
    }

    /// Whether the BOS token starts every text.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the EOS token ends every text.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// The chat templates.
    pub fn chat_templates(&self) -> &ChatTemplates {
        &self.chat_templates
    }

    /// Sets the default chat template, for one that stands in a file of its own (`chat_template.jinja`).
    pub fn set_chat_template(&mut self, template: String) {
        self.chat_templates.default = Some(template);
    }

    /// Adds a chat template with a name, for one that stands in a file of its own (`additional_chat_templates/NAME.jinja`).
    pub fn add_chat_template(&mut self, name: &str, template: String) {
        self.chat_templates.add(name, template);
    }

    /// Takes special ids that are still unset from a `config.json` or `generation_config.json` (`bos_token_id` …), as
    /// llama.cpp's converter does. Lists of ids and ids outside the vocabulary are left alone.
    pub fn fill_special_ids(&mut self, config: &serde_json::Value) {
        self.special.fill(config, self.tokens.len());
    }

    /// What llama.cpp will do differently from the original tokenizer. Empty for a vocabulary read from GGUF.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
