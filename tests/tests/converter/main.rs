//! Our F16 files beside those that llama.cpp's own converter writes from the same checkpoints: the same tensors, byte by byte, and
//! the same metadata but for differences that `docs/gguf.md` explains. `make.py` made the listings.

#[path = "../../../crates/gguf/tests/tokenizers_to_carry/mod.rs"]
mod tokenizers_to_carry;

mod checkpoints;
mod listing;
mod vocabularies;
