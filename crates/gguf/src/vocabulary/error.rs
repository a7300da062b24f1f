//! What makes a tokenizer impossible to store in GGUF, and what llama.cpp will do differently with it.

use std::fmt;

use crate::container::MetadataError;

/// A tokenizer cannot be converted, or a file's vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum VocabularyError {
    #[error("tokenizer field `{field}` should be {expected}, found {found}")]
    WrongField { field: String, expected: &'static str, found: String },
    #[error(
        "tokenizer model {found} is not supported; byte-level BPE, BPE with byte fallback and Unigram are"
    )]
    UnsupportedModel { found: String },
    #[error("the tokenizer model's `{option}` = {value} cannot be stored in GGUF")]
    UnsupportedOption { option: &'static str, value: String },
    #[error("llama.cpp has no byte fallback for unigram vocabularies: text without tokens would be lost")]
    UnigramBytes,
    #[error("the normalizer's table of characters is no base64: {reason}")]
    Charsmap { reason: String },
    #[error("llama.cpp has no counterpart of the normalizer {found}")]
    UnsupportedNormalizer { found: String },
    #[error("llama.cpp has no counterpart of the post-processor {found}")]
    UnsupportedPostProcessor { found: String },
    #[error(
        "the pre-tokenizer is none that llama.cpp has a name for: {found}\n\
         pass --pre NAME if you know one that splits text the same way; known are {known}"
    )]
    UnknownPreTokenizer { found: String, known: String },
    #[error("unknown pre-tokenizer name `{name}`; known are {known}")]
    UnknownPreName { name: String, known: String },
    #[error("a pre-tokenizer name (`{name}`) is of no use to a SentencePiece-style tokenizer")]
    UselessPreName { name: String },
    #[error("a vocabulary of {size} tokens; at most {at_most} are supported")]
    TooManyTokens { size: usize, at_most: usize },
    #[error("token {token:?} has id {id}, the model's embedding has {vocab_size} rows")]
    IdOutOfRange { token: String, id: u64, vocab_size: usize },
    #[error("tokens {first:?} and {second:?} share the id {id}")]
    SharedId { id: usize, first: String, second: String },
    #[error("token {token:?} occurs twice, with ids {first} and {second}; llama.cpp refuses that")]
    DuplicateToken { token: String, first: usize, second: usize },
    #[error("merge {index} ({merge:?}) is not two tokens that make up a third")]
    BadMerge { index: usize, merge: String },
    #[error("a token of {bytes} bytes; at most {at_most} are supported")]
    TokenTooLong { bytes: usize, at_most: usize },
    #[error("byte fallback needs a token for every byte, {token} is missing")]
    MissingByteToken { token: String },
    #[error("tokenizer model `{found}` of the GGUF file is not supported; `gpt2`, `llama` and `t5` are")]
    UnsupportedFileModel { found: String },
    #[error("`{key}` has {found} elements for {expected} tokens")]
    LengthMismatch { key: &'static str, expected: usize, found: usize },
    #[error("token {id} has the unknown type {found}")]
    UnknownTokenType { id: usize, found: i32 },
    #[error("`{key}` is {id}, the vocabulary has {vocab_size} tokens")]
    SpecialIdOutOfRange { key: &'static str, id: u32, vocab_size: usize },
    #[error("`{key}` is set, but the file names no such token")]
    NothingToAdd { key: &'static str },
    #[error("the {role} token {token:?}, which the tokenizer adds to every text, is not in the vocabulary")]
    UnknownSpecialToken { role: &'static str, token: String },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// A way in which llama.cpp, reading the GGUF file, will tokenize otherwise than the original tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// llama.cpp does not normalize text for these vocabularies; the normalizer as JSON.
    NotNormalized(String),
    /// llama.cpp always puts a space before text that starts the input or follows a special token.
    SpacePrefix,
    /// The tokenizer splits text at every space first, llama.cpp merges across.
    NotSplit,
    /// GGUF cannot say that these added tokens swallow spaces beside them or stand as whole words only.
    AddedTokenFlags(Vec<String>),
    /// llama.cpp merges any two neighbours that make up a token; these pairs have no merge in the tokenizer.
    ExtraMerges {
        /// Number of such pairs.
        pairs: usize,
        /// One of them.
        example: (String, String),
    },
    /// Whether a word that is a token needs no merges: what the tokenizer says, where the pre-tokenizer's name makes
    /// llama.cpp do the opposite.
    IgnoreMerges(bool),
    /// The name was given by the caller; the tokenizer's own pre-tokenizer is another one.
    PreTokenizerOverridden,
    /// A special token that `tokenizer_config.json` names is not in the vocabulary: role and token.
    UnknownSpecialToken(&'static str, String),
    /// Added tokens without a row in the model's embedding; they are left out.
    BeyondEmbedding(Vec<String>),
    /// The model's own settings end a generation at these tokens, llama.cpp will not: GGUF has no more keys for them.
    NoEnd(Vec<String>),
    /// No end-of-text token is named, for which llama.cpp takes the token with id 11, this one.
    DefaultEnd(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NotNormalized(normalizer) => {
                write!(f, "llama.cpp does not apply the normalizer {normalizer}")
            }
            Note::SpacePrefix => f.write_str(
                "llama.cpp puts a space before every text that starts the input or follows a special token",
            ),
            Note::NotSplit => f.write_str("llama.cpp merges across spaces, the tokenizer does not"),
            Note::AddedTokenFlags(tokens) => {
                write!(f, "llama.cpp ignores lstrip, rstrip and single_word of {}", tokens.join(", "))
            }
            Note::ExtraMerges { pairs, example: (a, b) } => {
                write!(
                    f,
                    "llama.cpp will merge {pairs} pairs that the tokenizer does not, such as {a:?} + {b:?}"
                )
            }
            Note::IgnoreMerges(true) => {
                f.write_str("llama.cpp will merge words that are tokens by themselves")
            }
            Note::IgnoreMerges(false) => {
                f.write_str("llama.cpp will not merge words that are tokens by themselves")
            }
            Note::PreTokenizerOverridden => {
                f.write_str("the pre-tokenizer was named by hand, not recognized")
            }
            Note::UnknownSpecialToken(role, token) => {
                write!(f, "the {role} token {token:?} is not in the vocabulary")
            }
            Note::BeyondEmbedding(tokens) => {
                write!(f, "left out, as the model's embedding has no rows for them: {}", tokens.join(", "))
            }
            Note::NoEnd(tokens) => write!(f, "llama.cpp will not end a generation at {}", tokens.join(", ")),
            Note::DefaultEnd(token) => {
                write!(f, "no end-of-text token is named; llama.cpp will take {token:?} for one")
            }
        }
    }
}
