//! From text to calibration data: documents, token batches, and statistics of what a layer is fed with.
//!
//! - [`TextSource`]: files ([`documents`]: plain text, JSON lines, chats through the model's own template) and
//!   the [`bundled`] corpus;
//! - [`Tokenizer`]: the `tokenizers` crate with the checks that calibration and evaluation need;
//! - [`TrimmedVocabulary`]: a tokenizer without the tokens that a text never uses;
//! - [`batches`]: windows of tokens, chosen by a seed, with a hash that goes into the output's metadata;
//! - [`statistics`]: collectors over activations `[tokens, d_in]`, with sums in f64.

pub mod batches;
pub mod bundled;
pub mod chat;
pub mod documents;
mod error;
mod sampling;
mod source;
pub mod statistics;
mod text_stream;
mod tokenizer;
mod training;
mod trim;

pub use batches::{BatchOptions, Calibration, Packing, TokenBatches};
pub use chat::ChatTemplate;
pub use documents::{Document, TextKind};
pub use error::CalibrationError;
pub use source::{MeasuredText, TextSource};
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
pub use training::{TrainingTokens, tokenize_to_train};
pub use trim::TrimmedVocabulary;
