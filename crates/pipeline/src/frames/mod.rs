//! Outcomes as measurements: one file an outcome. What they are called and how they are shown, [`slmc_report`] knows.
//!
//! A report's first rows say what ran and on what; then come the rows of the outcome. Rows about the model name the base beside it,
//! rows about the base alone name none.
//!
//! What a report shows beside that, it shows where there are rows of it: per task [`Scope::Task`] with an accuracy, `items`, `items_lost`
//! and `items_won`; per length of context [`Scope::Position`] and per document [`Scope::Document`] with `perplexity` and
//! `kl_divergence`; per stage of work [`Scope::Latency`] with `latency_p50`, `latency_p95` and `tokens_per_second`; a text on a
//! window's `kl_divergence` stands beside it among the worst windows.

pub mod bench;
pub mod distill;
pub mod eval;
mod evaluation;
pub mod gate;
mod parts;
pub mod prune;
pub mod quantize;
mod sizes;
pub mod structured;
mod tasks;
mod windows;

use std::path::Path;

use slmc_report::{Measurement, Metric, Rows, Scope};

/// What ran.
#[derive(Clone, Debug)]
pub struct Run {
    /// The version of slmc.
    pub version: String,
    /// The command line.
    pub command: String,
}

impl Run {
    fn rows(&self, verb: &str, model: &Path, base: Option<&Path>) -> Vec<Measurement> {
        let mut rows = about(model, base);
        rows.add(Scope::Run, Metric::Verb).text(verb);
        rows.add(Scope::Run, Metric::Version).text(&self.version);
        rows.add(Scope::Run, Metric::Command).text(&self.command);
        rows.finish()
    }
}

fn about(model: &Path, base: Option<&Path>) -> Rows {
    Rows::new(model.display(), base.map(Path::display))
}
