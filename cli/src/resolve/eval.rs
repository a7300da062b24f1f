//! `slmc eval`.

use slmc_pipeline::jobs::evaluate::EvaluateSettings;
use slmc_pipeline::jobs::tasks::TasksSettings;

use super::Resolver;
use super::tasks::tasks;
use crate::args::eval::Eval;
use crate::failure::Failure;

impl Resolver {
    /// What is measured on text, unless there are tasks and no text beside them, and the tasks.
    pub fn eval(&self, args: &Eval) -> Result<(Option<EvaluateSettings>, Option<TasksSettings>), Failure> {
        let model = self.model(args.model.as_deref())?;
        let base = args.base.clone();
        let measure = self.measure(&args.measure)?;
        let device = measure.device;
        let tasks = tasks(&args.tasks, &[])?;
        if tasks.is_none() && args.flips {
            return Err(Failure::usage("--flips without --tasks: no items that could flip"));
        }
        let text = tasks.is_none() || args.measure.text.is_some();
        Ok((
            text.then(|| EvaluateSettings { model: model.clone(), base: base.clone(), measure }),
            tasks.map(|tasks| TasksSettings { model, base, tasks, device }),
        ))
    }
}
