//! What `slmc quantize` and `slmc prune` are told alike.

use std::path::PathBuf;

use slmc_pipeline::jobs::quantize::{JobSettings, TextSource};

use super::Resolver;
use super::parse::parse;
use crate::args::calibration::CalibrationArgs;
use crate::args::prune::Prune;
use crate::args::quantize::Quantize;
use crate::failure::Failure;

/// The options that both have.
pub(super) struct JobOptions<'a> {
    text_only: bool,
    calibration: &'a CalibrationArgs,
    device: Option<&'a str>,
    pub max_memory: Option<&'a String>,
    text: Option<&'a TextSource>,
    no_eval: bool,
    resume: bool,
}

impl<'a> From<&'a Quantize> for JobOptions<'a> {
    fn from(args: &'a Quantize) -> Self {
        Self {
            text_only: args.text_only,
            calibration: &args.calibration,
            device: args.device.as_deref(),
            max_memory: args.max_memory.as_ref(),
            text: args.text.as_ref(),
            no_eval: args.no_eval,
            resume: args.resume,
        }
    }
}

impl<'a> From<&'a Prune> for JobOptions<'a> {
    fn from(args: &'a Prune) -> Self {
        Self {
            text_only: args.text_only,
            calibration: &args.calibration,
            device: args.device.as_deref(),
            max_memory: args.max_memory.as_ref(),
            text: args.text.as_ref(),
            no_eval: args.no_eval,
            resume: args.resume,
        }
    }
}

impl Resolver {
    /// A job from `model` to `output`.
    pub(super) fn job(
        &self,
        model: PathBuf,
        output: PathBuf,
        options: JobOptions<'_>,
    ) -> Result<JobSettings, Failure> {
        Ok(JobSettings {
            text_only: options.text_only,
            calibration: self.calibration(options.calibration),
            batches: self.batches(options.calibration),
            device: self.device(options.device)?,
            measure: self.measure_unless(options.no_eval, options.text, options.device)?,
            max_memory: options.max_memory.map(|size| parse("--max-memory", size)).transpose()?,
            resume: options.resume,
            ..JobSettings::new(model, output)
        })
    }
}
