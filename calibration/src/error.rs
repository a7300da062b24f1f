//! What can go wrong between a text and its statistics.

use std::path::PathBuf;

use thiserror::Error;

/// Calibration text, a tokenizer or activations that cannot be used.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The operating system refused.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A text file is in another encoding.
    #[error("{path} is not UTF-8 text (byte {valid_up_to})")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Bytes before the first that does not fit.
        valid_up_to: usize,
    },
    /// A line of a JSONL file is no record.
    #[error("{path}, line {line}: {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A record holds `messages`, but there is no template to render them with.
    #[error(
        "{path}, line {line}: chat messages, but the model has no chat template; \
         give the records a \"text\" instead"
    )]
    NoChatTemplate {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The chat template itself is broken.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// The template engine's message.
        reason: String,
    },
    /// The chat template refuses these messages, or fails on them.
    #[error("{path}, line {line}: the chat template fails: {reason}")]
    ChatRender {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The template's message.
        reason: String,
    },
    /// `tokenizer.json` is not what the `tokenizers` crate reads.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The tokenizer knows tokens for which the model has no embedding.
    #[error(
        "{path}: token {token:?} has id {id}, but the model's embedding has {rows} rows; \
         tokenizer and model do not belong together"
    )]
    VocabularyMismatch {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token with the largest id.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// No samples or no tokens were asked for.
    #[error("{option} is {found}; expected at least {expected}")]
    BatchOption {
        /// The option.
        option: &'static str,
        /// Its value.
        found: usize,
        /// The least that makes sense.
        expected: usize,
    },
    /// There is no text at all.
    #[error("the calibration text is empty ({documents} documents)")]
    EmptyText {
        /// Documents looked at.
        documents: usize,
    },
    /// There is less text than one sample takes.
    #[error(
        "the calibration text is too short: one sample takes {needed} tokens, \
         {what} has {found} ({documents} documents)"
    )]
    TooShort {
        /// Tokens a sample takes.
        needed: usize,
        /// What was measured: the whole text or its longest document.
        what: &'static str,
        /// Its tokens.
        found: usize,
        /// Documents looked at.
        documents: usize,
    },
    /// An activation is NaN or infinite.
    #[error("input of {input}: {value} at token {token}, column {column}; activations must be finite")]
    NonFinite {
        /// The name given to the collector.
        input: String,
        /// Token, counted over everything that was observed.
        token: u64,
        /// Column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// Activations that do not have the collector's width.
    #[error("input of {input}: {found} values do not make rows of {d_in}")]
    ActivationShape {
        /// The name given to the collector.
        input: String,
        /// Columns of the input.
        d_in: usize,
        /// Values given (or, when collectors are merged, the other's columns).
        found: usize,
    },
}
