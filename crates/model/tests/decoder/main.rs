//! Tests of the decoder, in one program: every program that holds burn and its backends takes minutes to link.

mod blocks;
mod common;
mod forward;
mod gguf_source;
mod golden_logits;
#[cfg(feature = "ndarray")]
mod gradients;
#[cfg(feature = "ndarray")]
mod kernels;
mod precision;
mod session;
