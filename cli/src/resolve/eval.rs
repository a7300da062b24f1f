//! `slmc eval`.

use slmc_pipeline::jobs::evaluate::EvaluateSettings;

use super::Resolver;
use crate::args::eval::Eval;
use crate::failure::Failure;

impl Resolver {
    pub fn eval(&self, args: &Eval) -> Result<EvaluateSettings, Failure> {
        Ok(EvaluateSettings {
            model: self.model(args.model.as_deref())?,
            base: args.base.clone(),
            measure: self.measure(&args.measure)?,
        })
    }
}
