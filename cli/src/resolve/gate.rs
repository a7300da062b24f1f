//! `slmc gate`.

use slmc_pipeline::jobs::bench::Amount;
use slmc_pipeline::jobs::gate::{GateSettings, Limits};

use super::Resolver;
use super::parse::{bytes, share};
use super::tasks::tasks;
use crate::args::gate::Gate;
use crate::failure::Failure;
use crate::settings::FILE_NAME;

const DEFAULT_CONFIDENCE: f64 = 0.95;
const DEFAULT_KL_GROWTH: f64 = 0.1;
const DEFAULT_BASELINE_ACCURACY: f64 = 0.98;

/// What is timed for a limit on latency: enough tokens for a steady median, few enough for many repetitions.
const TIMING: Amount = Amount { prompt_tokens: 32, generated_tokens: 33, repetitions: 10, warmup: 1 };

impl Resolver {
    /// Flags beat the file limit by limit: a limit in the file stays in force beside one on the command line.
    pub fn gate(&self, args: &Gate) -> Result<GateSettings, Failure> {
        let file = &self.settings.gate;
        let share = |option: &str, typed: Option<&String>, written: Option<&String>| {
            typed.or(written).map(|text| share(option, text)).transpose()
        };
        let limits = Limits {
            max_kl: args.max_kl.or(file.max_kl),
            max_ppl_increase: share(
                "--max-ppl-increase",
                args.max_ppl_increase.as_ref(),
                file.max_ppl_increase.as_ref(),
            )?,
            min_top1: share("--min-top1", args.min_top1.as_ref(), file.min_top1.as_ref())?,
            max_bytes: args
                .max_size
                .as_ref()
                .or(file.max_size.as_ref())
                .map(|size| bytes("--max-size", size))
                .transpose()?,
            min_accuracy_ratio: share(
                "--min-accuracy-ratio",
                args.min_accuracy_ratio.as_ref(),
                file.min_accuracy_ratio.as_ref(),
            )?,
            max_latency_increase: share(
                "--max-latency-increase",
                args.max_latency_increase.as_ref(),
                file.max_latency_increase.as_ref(),
            )?,
        };
        let tasks = tasks(&args.tasks, &file.tasks)?;
        if tasks.is_none() && limits.min_accuracy_ratio.is_some() {
            return Err(Failure::usage("a limit on accuracy, but no tasks").help(
                "Name files of items with --tasks FILE, or the bundled ones with --tasks bundled:smoke.",
            ));
        }
        let baseline = args.baseline.clone().or_else(|| file.baseline.clone());
        let wants_tasks =
            limits.min_accuracy_ratio.is_some() || baseline.is_some() || args.save_baseline.is_some();
        if !args.tasks.tasks.is_empty() && !wants_tasks {
            return Err(Failure::usage("tasks, but no limit on accuracy").help(
                "Say how much of the original's accuracy must be left, for example --min-accuracy-ratio 98%, or keep the answers \
                 with --save-baseline FILE.",
            ));
        }
        if limits.is_empty() && baseline.is_none() && args.save_baseline.is_none() {
            return Err(Failure::usage("no limit given").help(format!(
                "Say what may be lost, for example --max-kl 0.01 --max-ppl-increase 2%, or in {FILE_NAME}:\n  [gate]\n  \
                 max_kl = 0.01"
            )));
        }
        if let Some(share) = limits.min_top1.filter(|share| *share > 1.0) {
            return Err(Failure::usage(format!("--min-top1 {share}: expected a share such as 95% or 0.95")));
        }
        if let Some(kl) = limits.max_kl.filter(|kl| !(kl.is_finite() && *kl >= 0.0)) {
            return Err(Failure::usage(format!("--max-kl {kl}: expected a number of at least 0")));
        }
        let confidence = args.confidence.or(file.confidence).unwrap_or(DEFAULT_CONFIDENCE);
        if !(confidence > 0.5 && confidence < 1.0) {
            return Err(Failure::usage(format!(
                "--confidence {confidence}: expected a share above 0.5 and below 1"
            )));
        }
        let model = args.model.clone().or_else(|| file.model.clone()).ok_or_else(|| {
            Failure::usage("no compressed model given").help(format!(
                "Name the GGUF file or checkpoint directory to check, or put it into {FILE_NAME}:\n  [gate]\n  model = \
                 \"out.gguf\""
            ))
        })?;
        Ok(GateSettings {
            model,
            base: args.base.clone().or_else(|| self.settings.model.clone()),
            // An original that is named runs.
            base_logits: match args.base {
                None => args.base_logits.clone().or_else(|| file.base_logits.clone()),
                Some(_) => args.base_logits.clone(),
            },
            measure: self.measure(&args.measure)?,
            tasks: tasks.filter(|_| wants_tasks),
            limits,
            timing: Amount { repetitions: args.latency_repetitions as usize, ..TIMING },
            baseline,
            max_kl_growth: share(
                "--max-kl-growth",
                args.max_kl_growth.as_ref(),
                file.max_kl_growth.as_ref(),
            )?
            .unwrap_or(DEFAULT_KL_GROWTH),
            min_baseline_accuracy: share(
                "--min-baseline-accuracy",
                args.min_baseline_accuracy.as_ref(),
                file.min_baseline_accuracy.as_ref(),
            )?
            .unwrap_or(DEFAULT_BASELINE_ACCURACY),
            save_baseline: args.save_baseline.clone(),
            confidence,
        })
    }
}
