//! `slmc convert`.

use slmc_pipeline::jobs::quantize::{Mix, QuantizeSettings};

use super::Resolver;
use super::output::default_output;
use crate::args::convert::Convert;
use crate::failure::Failure;

impl Resolver {
    /// A conversion is rounding to an unquantized type.
    pub fn convert(&self, args: &Convert) -> Result<QuantizeSettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let mix = unquantized(&args.dtype)?;
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{}.gguf", mix.name())));
        let pre = args.pre.clone().or_else(|| self.settings.quantize.pre.clone());
        let mut settings = QuantizeSettings::conversion(model, mix, output, pre);
        settings.job.text_only = args.text_only;
        settings.modelfile = args.modelfile;
        Ok(settings)
    }
}

/// `--dtype`.
pub(super) fn unquantized(dtype: &str) -> Result<Mix, Failure> {
    match dtype.to_ascii_lowercase().as_str() {
        "f16" => Ok(Mix::F16),
        "bf16" => Ok(Mix::BF16),
        "f32" => Ok(Mix::F32),
        other => Err(Failure::usage(format!("--dtype {other}: expected f16, bf16 or f32"))
            .help("`slmc quantize` writes the quantized types")),
    }
}
