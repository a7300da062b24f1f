//! `slmc prune --vocab`.

use slmc_pipeline::jobs::vocabulary::VocabularySettings;

use super::Resolver;
use super::output::default_output;
use crate::args::prune::Prune;
use crate::failure::Failure;

impl Resolver {
    pub fn vocabulary(&self, args: &Prune) -> Result<VocabularySettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let measure = self.measure_unless(args.no_eval, args.text.as_ref(), args.device.as_deref())?;
        let output = args.output.clone().unwrap_or_else(|| default_output(&model, "trimmed"));
        Ok(VocabularySettings {
            text_only: args.text_only,
            corpus: args.vocab.clone(),
            output,
            measure,
            model,
        })
    }
}
