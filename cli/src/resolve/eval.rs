//! `slmc eval`.

use slmc_pipeline::jobs::evaluate::EvaluateSettings;
use slmc_pipeline::jobs::tasks::TasksSettings;
use slmc_pipeline::jobs::worst::WorstSettings;

use super::Resolver;
use super::tasks::tasks;
use crate::args::eval::Eval;
use crate::failure::Failure;

/// Worst windows of a comparison that a program or a report reads.
const DEFAULT_WORST: u16 = 10;
const DEFAULT_CONTINUATION: u16 = 24;

impl Resolver {
    /// What is measured on text, unless there are tasks and no text beside them, and the tasks. `kept` says that the outcome is
    /// written down, so that it should be all there.
    pub fn eval(
        &self,
        args: &Eval,
        kept: bool,
    ) -> Result<(Option<EvaluateSettings>, Option<TasksSettings>), Failure> {
        if args.base.is_none() && args.worst.is_some_and(|windows| windows > 0) {
            return Err(Failure::usage(
                "--worst shows where a model departs from its original: name that with --base",
            ));
        }
        let default = if kept && args.base.is_some() { DEFAULT_WORST } else { 0 };
        let worst = WorstSettings {
            windows: usize::from(args.worst.unwrap_or(default)),
            continuation: usize::from(args.continuation.unwrap_or(DEFAULT_CONTINUATION)),
        };
        let (model, base) = (self.model(args.model.as_deref())?, args.base.clone());
        let measure = self.measure(&args.measure)?;
        let device = measure.device;
        let tasks = tasks(&args.tasks, &[])?;
        if tasks.is_none() && args.flips {
            return Err(Failure::usage("--flips without --tasks: no items that could flip"));
        }
        let text = tasks.is_none() || args.measure.text.is_some();
        if !text && args.base_logits.is_some() {
            return Err(Failure::usage("--base-logits are of a text: name it with --text beside --tasks"));
        }
        Ok((
            text.then(|| EvaluateSettings {
                model: model.clone(),
                base: base.clone(),
                base_logits: args.base_logits.clone(),
                measure,
                worst,
            }),
            tasks.map(|tasks| TasksSettings { model, base, tasks, device }),
        ))
    }
}
