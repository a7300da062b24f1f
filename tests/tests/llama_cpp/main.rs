//! What we write, read by llama.cpp: files of every mix and family load, tokenize and score as ours do.
//!
//! `cargo test --workspace --features slmc-tests/llama-cpp` (needs cmake and libclang).

mod engine;

#[path = "../families/models.rs"]
mod models;

#[path = "../../../crates/model/tests/decoder/forward.rs"]
mod forward;
#[path = "../../../crates/gguf/tests/tokenizers_to_carry/mod.rs"]
mod tokenizers_to_carry;

mod logits;
mod tokenization;
