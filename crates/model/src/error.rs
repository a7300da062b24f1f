//! What can go wrong when a model is loaded or run.

use std::ops::Range;
use std::path::PathBuf;

use slmc_checkpoint::CheckpointError;
use slmc_gguf::TensorType;
use slmc_gguf::blocks::BlockError;
use slmc_gguf::container::ContainerError;
use thiserror::Error;

use crate::arch::TensorId;
use crate::config::ConfigError;
use crate::device::DeviceError;

/// A model that cannot be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The GGUF file cannot be read.
    #[error(transparent)]
    Gguf(#[from] ContainerError),
    /// The configuration is not one the decoder can run.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ConfigError,
    },
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor the configuration asks for is not in the file.
    #[error("{path}: no tensor {tensor} ({id})")]
    MissingTensor {
        /// The file or directory.
        path: PathBuf,
        /// The name it should have.
        tensor: String,
        /// Its part.
        id: TensorId,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{path}: tensor {tensor} is {found:?}; the configuration says {expected:?}")]
    Shape {
        /// The file or directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Blocks of a GGUF tensor do not decode.
    #[error("{path}: tensor {tensor} ({ty}): {source}")]
    Blocks {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// The reason.
        source: BlockError,
    },
    /// NaN or infinity among the weights.
    #[error("{path}: tensor {tensor} holds {value} at index {index}")]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in the tensor, row-major.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Rows that a tensor does not have.
    #[error("rows {rows:?} of {id}, which has {found}")]
    Rows {
        /// The tensor.
        id: TensorId,
        /// The rows asked for.
        rows: Range<usize>,
        /// The rows there are.
        found: usize,
    },
    /// A token id without an embedding.
    #[error("token {token} is not in the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// The rows of the embedding.
        vocab_size: usize,
    },
    /// Values that do not fit the place they are for.
    #[error("{place}: {found} values; expected {expected}")]
    Length {
        /// Where they were to go.
        place: String,
        /// How many fit.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A part this place of the model does not have.
    #[error("there is no {id} here")]
    NoSuchTensor {
        /// The part.
        id: TensorId,
    },
    /// A sequence longer than the context was made for.
    #[error("a sequence of {found} tokens; the context was made for {expected}")]
    SequenceLength {
        /// The context's length.
        expected: usize,
        /// The sequence's length.
        found: usize,
    },
    /// A source that changes another's weights could not.
    #[error("{id} cannot be changed: {reason}")]
    Change {
        /// The tensor.
        id: TensorId,
        /// Why.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Activations that overflowed, or a file that was changed while it was read.
    #[error(
        "the logits after {tokens} tokens are not finite: the model's activations overflow, or its file was changed meanwhile"
    )]
    NonFiniteLogits {
        /// Tokens of the sequence so far.
        tokens: usize,
    },
    /// An observer refused what it saw.
    #[error("{0}")]
    Observer(Box<dyn std::error::Error + Send + Sync>),
}
