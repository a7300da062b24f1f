//! What the commands do: one job a file. Each takes typed settings, resolves them, and returns a typed outcome.

mod as_gguf;
mod base_logits;
pub mod bench;
mod directory;
pub mod distill;
mod durable;
pub mod evaluate;
pub mod gate;
pub mod generate;
pub mod imatrix;
pub mod inspect;
mod job;
mod outcome;
pub mod pack;
pub mod prune;
pub mod quantize;
pub mod structured;
pub mod tasks;
mod tokenized;
pub mod vocabulary;
pub mod worst;
