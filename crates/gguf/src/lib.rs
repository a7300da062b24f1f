//! The GGUF container (version 3) and the ggml block formats. Knows no model and no tensor library.

pub mod activation;
pub mod blocks;
pub mod container;
mod tensor_type;
pub mod vocabulary;

pub use tensor_type::{QK_K, TensorType, UnknownTensorType};
