//! `slmc eval`.

use slmc_pipeline::jobs::evaluate::EvaluateSettings;
use slmc_pipeline::jobs::worst::WorstSettings;

use super::Resolver;
use crate::args::eval::Eval;
use crate::failure::Failure;

/// Worst windows of a comparison that a program or a report reads.
const DEFAULT_WORST: u16 = 10;
const DEFAULT_CONTINUATION: u16 = 24;

impl Resolver {
    /// `kept` says that the outcome is written down, so that it should be all there.
    pub fn eval(&self, args: &Eval, kept: bool) -> Result<EvaluateSettings, Failure> {
        if args.base.is_none() && args.worst.is_some_and(|windows| windows > 0) {
            return Err(Failure::usage(
                "--worst shows where a model departs from its original: name that with --base",
            ));
        }
        let default = if kept && args.base.is_some() { DEFAULT_WORST } else { 0 };
        Ok(EvaluateSettings {
            model: self.model(args.model.as_deref())?,
            base: args.base.clone(),
            measure: self.measure(&args.measure)?,
            worst: WorstSettings {
                windows: usize::from(args.worst.unwrap_or(default)),
                continuation: usize::from(args.continuation.unwrap_or(DEFAULT_CONTINUATION)),
            },
        })
    }
}
