//! `slmc generate`.

use slmc_pipeline::jobs::generate::{GenerateSettings, Sampling};

use super::Resolver;
use crate::args::generate::Generate;
use crate::failure::Failure;

impl Resolver {
    pub fn generate(&self, args: &Generate) -> Result<GenerateSettings, Failure> {
        let within = |option: &str, value: f32, fits: bool, expected: &str| match fits {
            true => Ok(()),
            false => Err(Failure::usage(format!("{option} {value}: expected {expected}"))),
        };
        let (temperature, penalty) = (args.temperature, args.repeat_penalty);
        within("--temperature", temperature, temperature.is_finite() && temperature >= 0.0, "0 or more")?;
        within("--repeat-penalty", penalty, penalty.is_finite() && penalty > 0.0, "a number above 0")?;
        for (option, share) in [("--top-p", args.top_p), ("--min-p", args.min_p)] {
            if let Some(share) = share {
                within(option, share, share > 0.0 && share <= 1.0, "a share above 0, at most 1")?;
            }
        }
        let prompt = match (&args.prompt, &args.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                let failed = |error| Failure::failed(format!("{}: {error}", path.display()));
                let text = std::fs::read_to_string(path).map_err(failed)?;
                text.strip_suffix('\n').map_or(text.clone(), |text| text.trim_end_matches('\r').to_owned())
            }
            (None, None) => {
                return Err(Failure::usage("no prompt given: --prompt TEXT or --prompt-file FILE"));
            }
        };
        Ok(GenerateSettings {
            model: self.model(args.model.as_deref())?,
            base: args.base.clone(),
            prompt,
            chat: args.chat,
            max_tokens: args.max_tokens as usize,
            sampling: Sampling {
                temperature,
                top_k: args.top_k.map(|k| k as usize),
                top_p: args.top_p,
                min_p: args.min_p,
                repeat_penalty: penalty,
                seed: args.seed,
            },
            device: self.device(args.device.as_deref())?,
        })
    }
}
