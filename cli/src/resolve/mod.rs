//! Flags, then `slmc.toml`, then defaults: typed settings for a job, or what is wrong with them.

mod bench;
mod convert;
mod distill;
mod eval;
mod gate;
mod generate;
mod imatrix;
mod job;
mod output;
mod pack;
mod parse;
mod prune;
mod quantize;
mod sizes;
mod structured;
mod tasks;
mod vocabulary;

use std::path::{Path, PathBuf};

use slmc_pipeline::jobs::evaluate::Measure;
use slmc_pipeline::jobs::quantize::{BatchOptions, Device, TextSource};

use crate::args::calibration::CalibrationArgs;
use crate::args::measure::MeasureArgs;
use crate::failure::Failure;
use crate::settings::{FILE_NAME, Settings};
use parse::parse_or;

const DEFAULT_N_CTX: u32 = 512;
const DEFAULT_BITS: u32 = 4;

/// Joins what was typed with the settings file.
pub struct Resolver {
    settings: Settings,
}

impl Resolver {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The model named on the command line, else the settings file's.
    pub fn model(&self, named: Option<&Path>) -> Result<PathBuf, Failure> {
        named.map(Path::to_path_buf).or_else(|| self.settings.model.clone()).ok_or_else(|| {
            Failure::usage("no model given").help(format!(
                "Name a Hugging Face checkpoint directory (config.json, tokenizer.json, *.safetensors), for example\n  \
                 slmc quantize path/to/Llama-3.2-1B --method awq --bits 4\n\
                 or put it into {FILE_NAME} in this directory:\n  model = \"path/to/Llama-3.2-1B\""
            ))
        })
    }

    fn calibration(&self, args: &CalibrationArgs) -> Vec<TextSource> {
        match args.calibration.is_empty() {
            true => self.settings.calibration.files.clone(),
            false => args.calibration.clone(),
        }
    }

    fn batches(&self, args: &CalibrationArgs) -> BatchOptions {
        let (file, default) = (&self.settings.calibration, BatchOptions::default());
        BatchOptions {
            samples: args.samples.or(file.samples).map_or(default.samples, |n| n as usize),
            seq_len: args.seq_len.or(file.seq_len).map_or(default.seq_len, |n| n as usize),
            seed: args.seed.or(file.seed).unwrap_or_default(),
            ..default
        }
    }

    fn measure(&self, args: &MeasureArgs) -> Result<Measure, Failure> {
        let measure =
            self.measure_by(args.text.as_ref(), args.n_ctx, args.windows, args.device.as_deref())?;
        let stride = args.stride.map(|n| n as usize).or(measure.stride);
        let n_ctx = measure.n_ctx;
        if let Some(stride) = stride.filter(|&stride| stride > n_ctx) {
            return Err(Failure::usage(format!(
                "a stride of {stride} leaves tokens out between windows of {n_ctx}; it can be 1 to {n_ctx} (--stride, --n-ctx)"
            )));
        }
        Ok(Measure { stride, ..measure })
    }

    /// How to measure what a job writes; `None` not to.
    fn measure_unless(
        &self,
        no_eval: bool,
        text: Option<&TextSource>,
        device: Option<&str>,
    ) -> Result<Option<Measure>, Failure> {
        if no_eval { Ok(None) } else { self.measure_by(text, None, None, device).map(Some) }
    }

    fn measure_by(
        &self,
        text: Option<&TextSource>,
        n_ctx: Option<u32>,
        windows: Option<u32>,
        device: Option<&str>,
    ) -> Result<Measure, Failure> {
        Ok(Measure {
            text: text.or(self.settings.eval.text.as_ref()).cloned().unwrap_or_default(),
            n_ctx: n_ctx.or(self.settings.eval.n_ctx).unwrap_or(DEFAULT_N_CTX) as usize,
            stride: self.settings.eval.stride.map(|n| n as usize),
            max_windows: windows.map(|n| n as usize),
            device: self.device(device)?,
        })
    }

    fn device(&self, named: Option<&str>) -> Result<Device, Failure> {
        parse_or("--device", named.or(self.settings.device.as_deref()), Device::Cpu)
    }
}
