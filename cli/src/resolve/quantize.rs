//! `slmc quantize`, to a GGUF file.

use std::path::PathBuf;

use slmc_pipeline::Precision;
use slmc_pipeline::jobs::quantize::{
    Effort, JobSettings, KeepZeros, Method, Mix, QuantizeSettings, Rounding, Target,
};

use super::job::JobOptions;
use super::output::default_output;
use super::parse::{bytes, parse, parse_all, parse_or, precision};
use super::{DEFAULT_BITS, Resolver};
use crate::args::quantize::Quantize;
use crate::failure::Failure;
use crate::settings::{FILE_NAME, Settings};

impl Resolver {
    pub fn quantize(&self, args: &Quantize) -> Result<QuantizeSettings, Failure> {
        let file = &self.settings.quantize;
        let model = self.model(args.model.as_deref())?;
        // an importance matrix on the command line beats the method in the file: others could not use it
        let method = match (&args.method, &args.imatrix) {
            (None, Some(_)) => Method::Imatrix,
            (typed, _) => parse_or("--method", typed.as_ref().or(file.method.as_ref()), Method::Awq)?,
        };
        let target = target(args, &self.settings)?;
        let mix = match target {
            None | Some(Target::Mix) => mix(args, &self.settings)?,
            Some(_) => Mix::Q4_K_M,
        };
        let types = target.map_or_else(|| mix.to_string(), |target| named(target, mix));
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{method}-{types}.gguf")));
        let effort = parse_or("--effort", args.effort.as_ref().or(file.effort.as_ref()), Effort::default())?;
        let job = self.quantize_job(model, output, args, method, effort)?;
        Ok(QuantizeSettings {
            job,
            made_from: None,
            act_order: act_order(args, method)?,
            method,
            effort,
            mix,
            target,
            overrides: parse_all("--tensor-type", &args.tensor_type, &file.tensor_type)?,
            keep: parse_all("--keep", &args.keep, &file.keep)?,
            keep_zeros: keep_zeros(args)?,
            imatrix: args.imatrix.clone(),
            pre: args.pre.clone().or_else(|| file.pre.clone()),
            modelfile: args.modelfile,
        })
    }

    /// A job of either container, with what `[quantize]` of slmc.toml says where the command does not. Error feedback, which sums over many
    /// tokens, multiplies in the fastest precision unless it is to be the best.
    pub(super) fn quantize_job(
        &self,
        model: PathBuf,
        output: PathBuf,
        args: &Quantize,
        method: Method,
        effort: Effort,
    ) -> Result<JobSettings, Failure> {
        let file = &self.settings.quantize;
        let mut options = JobOptions::from(args);
        options.max_memory = options.max_memory.or(file.max_memory.as_ref());
        let job = self.job(model, output, options)?;
        let usual = match method.rounding() == Rounding::Feedback && effort != Effort::Best {
            true => None,
            false => Some(Precision::F32),
        };
        let precision = precision(args.precision.as_ref().or(file.precision.as_ref()), usual, job.device)?;
        Ok(JobSettings { precision, ..job })
    }
}

/// `--keep-zeros`.
pub(super) fn keep_zeros(args: &Quantize) -> Result<KeepZeros, Failure> {
    parse_or("--keep-zeros", args.keep_zeros.as_ref(), KeepZeros::default())
}

/// `--act-order`, which only error feedback can follow.
pub(super) fn act_order(args: &Quantize, method: Method) -> Result<bool, Failure> {
    if args.act_order && method.rounding() != Rounding::Feedback {
        return Err(Failure::usage(format!("--act-order means nothing to {method}"))
            .help("The order of columns matters where errors are fed forward: --method gptq or awq+gptq."));
    }
    Ok(args.act_order)
}

/// Flags beat the file as a whole: `--bits` on the command line is not overruled by `type` in the file.
fn mix(args: &Quantize, settings: &Settings) -> Result<Mix, Failure> {
    let (bits, name) = match (args.bits, &args.r#type) {
        (None, None) => (settings.quantize.bits, settings.quantize.r#type.as_ref()),
        (bits, name) => (bits, name.as_ref()),
    };
    match (bits, name) {
        (Some(_), Some(_)) => Err(Failure::usage(format!("{FILE_NAME}: give either `bits` or `type`"))),
        (_, Some(name)) => parse("--type", name),
        (bits, None) => Mix::from_bits(bits.unwrap_or(DEFAULT_BITS))
            .map_err(|error| Failure::usage(format!("--bits: {error}"))),
    }
}

/// `--fallback`.
fn fallback_measured(args: &Quantize) -> Result<bool, Failure> {
    match args.fallback.as_deref() {
        None | Some("mix") => Ok(false),
        Some("measured") => Ok(true),
        Some(other) => Err(Failure::usage(format!("--fallback {other}: expected mix or measured"))),
    }
}

/// What types chosen by measured cost shall reach. A flag beats the file as a whole, and so do `--bits` and `--type`.
fn target(args: &Quantize, settings: &Settings) -> Result<Option<Target>, Failure> {
    let file = &settings.quantize;
    let typed = (args.target_bpw, args.target_size.as_ref(), args.max_kl);
    let (bits, size, kl) = match typed {
        (None, None, None) if fallback_measured(args)? => return Ok(Some(Target::Mix)),
        (None, None, None) if args.bits.is_some() || args.r#type.is_some() => return Ok(None),
        (None, None, None) => (file.target_bpw, file.target_size.as_ref(), file.max_kl),
        typed => typed,
    };
    let positive = |option: &str, value: f64| match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Failure::usage(format!("{option} {value}: expected a number above 0"))),
    };
    match (bits, size, kl) {
        (None, None, None) => Ok(None),
        (Some(bits), None, None) => Ok(Some(Target::BitsPerWeight(positive("--target-bpw", bits)?))),
        (None, Some(size), None) => Ok(Some(Target::FileBytes(bytes("--target-size", size)?))),
        (None, None, Some(kl)) => Ok(Some(Target::KlDivergence(positive("--max-kl", kl)?))),
        _ => {
            Err(Failure::usage(format!("{FILE_NAME}: give one of `target_bpw`, `target_size` and `max_kl`")))
        }
    }
}

/// A target as part of a file's name.
fn named(target: Target, mix: Mix) -> String {
    match target {
        Target::Mix => mix.to_string(),
        Target::BitsPerWeight(bits) => format!("{bits}bpw"),
        Target::FileBytes(bytes) => format!("{bytes}bytes"),
        Target::KlDivergence(kl) => format!("kl{kl}"),
    }
}
