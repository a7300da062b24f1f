//! `slmc quantize --group-size`, to a packed checkpoint.

use slmc_pipeline::jobs::pack::{GroupSize, IntScheme, PackSettings};
use slmc_pipeline::jobs::quantize::{Effort, Method};

use super::output::default_output;
use super::parse::{parse, parse_all, parse_or};
use super::quantize::{act_order, keep_zeros};
use super::{DEFAULT_BITS, Resolver};
use crate::args::quantize::Quantize;
use crate::failure::Failure;

impl Resolver {
    /// `--group-size`: integers in groups instead of GGUF's block formats.
    pub fn pack(&self, args: &Quantize, group_size: &str) -> Result<PackSettings, Failure> {
        for (typed, option) in
            [(args.r#type.is_some(), "--type"), (!args.tensor_type.is_empty(), "--tensor-type")]
        {
            if typed {
                return Err(Failure::usage(format!("{option} and --group-size exclude each other")).help(
                    "Types such as q4_k_m are GGUF's, and bring their own blocks and scales; integers in groups are stored \
                     in safetensors, all linear layers alike. Leave one of the two out.",
                ));
            }
        }
        if args.imatrix.is_some() {
            return Err(Failure::usage("--imatrix and --group-size exclude each other").help(
                "Importance matrices are llama.cpp's, for GGUF files; integers in groups are calibrated on text: \
                 --method imatrix --calibration FILE weighs errors by the same moments.",
            ));
        }
        let file = &self.settings.quantize;
        let model = self.model(args.model.as_deref())?;
        let method = parse_or("--method", args.method.as_ref().or(file.method.as_ref()), Method::Awq)?;
        let group: GroupSize = parse("--group-size", group_size)?;
        let bits = args.bits.or(file.bits).unwrap_or(DEFAULT_BITS);
        let scheme = IntScheme::new(bits, group, !args.asymmetric).map_err(Failure::usage)?;
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{method}-{scheme}")));
        let effort = parse_or("--effort", args.effort.as_ref().or(file.effort.as_ref()), Effort::default())?;
        let job = self.quantize_job(model, output, args, method, effort)?;
        Ok(PackSettings {
            job,
            method,
            effort,
            scheme,
            act_order: act_order(args, method)?,
            keep_zeros: keep_zeros(args)?,
            keep: parse_all("--keep", &args.keep, &file.keep)?,
        })
    }
}
