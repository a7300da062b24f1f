//! How good a language model is, and how far a compressed one has drifted from its original.
//!
//! Perplexity follows the protocol of llama.cpp's llama-perplexity ([`windows`]), so that the figures line up. The KL
//! divergence from a base model is computed in the same pass, from logits that exist a slice of the vocabulary at a
//! time ([`accumulate`]); llama.cpp writes the base model's log-probabilities to a file of 16-bit values instead.

pub mod accumulate;
mod exponential;
mod kernel;
pub mod scores;
pub mod statistics;
pub mod summary;
pub mod windows;
