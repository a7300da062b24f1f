//! The GGUF container (version 3), the ggml block formats, and what else llama.cpp keeps in GGUF: the vocabulary, the
//! importance matrix. Knows no model and no tensor library.

pub mod activation;
pub mod blocks;
pub mod container;
pub mod imatrix;
mod tensor_type;
pub mod vocabulary;

pub use tensor_type::{QK_K, TensorType, UnknownTensorType};
