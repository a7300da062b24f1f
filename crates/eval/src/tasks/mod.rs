//! Tasks with right and wrong answers: items from local JSON lines, and what is asked of a model about them.
//!
//! The layouts are those of the sets that EleutherAI's lm-evaluation-harness knows ([`Format`]), and the prompts, the delimiters
//! and the scores are its own (version 0.4.13: `lm_eval/tasks/*`, `lm_eval/api/task.py`), so that figures line up. Nothing in
//! here runs a model: an item becomes pairs of context and continuation, their log-likelihoods come back
//! ([`crate::likelihood`]), and [`ChoiceItem::answer`] makes a choice of them.

mod adapters;
mod fields;
mod file;
mod format;
mod hellaswag;
mod item;
mod kobest;
pub mod python;
mod score;

pub use file::{LineError, TaskFile, read};
pub use format::Format;
pub use item::{ChoiceItem, Choices, GenerationItem, Item, TooFewExamples, examples};
pub use score::{Accuracy, Answer, macro_f1};

/// The bundled items, as JSON lines in the plain layout: endings of simple English sentences.
pub const SMOKE: &str = include_str!("../../data/smoke.jsonl");
