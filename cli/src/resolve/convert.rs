//! `slmc convert`.

use slmc_pipeline::jobs::quantize::{BatchOptions, Device, Effort, KeepZeros, Method, Mix, QuantizeSettings};

use super::Resolver;
use super::output::default_output;
use crate::args::convert::Convert;
use crate::failure::Failure;

impl Resolver {
    /// A conversion is rounding to an unquantized type.
    pub fn convert(&self, args: &Convert) -> Result<QuantizeSettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let mix = match args.dtype.to_ascii_lowercase().as_str() {
            "f16" => Mix::F16,
            "bf16" => Mix::BF16,
            "f32" => Mix::F32,
            other => {
                return Err(Failure::usage(format!("--dtype {other}: expected f16, bf16 or f32"))
                    .help("`slmc quantize` writes the quantized types"));
            }
        };
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{}.gguf", mix.name())));
        Ok(QuantizeSettings {
            model,
            method: Method::Rtn,
            effort: Effort::default(),
            act_order: false,
            mix,
            target: None,
            overrides: Vec::new(),
            keep: Vec::new(),
            keep_zeros: KeepZeros::Never, // all of these types hold them
            imatrix: None,
            calibration: Vec::new(),
            batches: BatchOptions::default(),
            device: Device::Cpu,
            pre: args.pre.clone().or_else(|| self.settings.quantize.pre.clone()),
            output,
            measure: None,
            max_memory: None,
            resume: false,
        })
    }
}
