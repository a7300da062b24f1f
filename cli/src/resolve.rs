//! Flags, then `slmc.toml`, then defaults: typed settings for a job, or what is wrong with them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use slmc_pipeline::jobs::evaluate::{EvaluateSettings, Measure};
use slmc_pipeline::jobs::gate::{GateSettings, Limits};
use slmc_pipeline::jobs::imatrix::ImatrixSettings;
use slmc_pipeline::jobs::pack::{GroupSize, IntScheme, PackSettings};
use slmc_pipeline::jobs::quantize::{
    BatchOptions, ByteSize, Device, Effort, Method, Mix, QuantizeSettings, Rounding, Target, TextSource,
};

use crate::args::convert::Convert;
use crate::args::eval::Eval;
use crate::args::gate::Gate;
use crate::args::imatrix::Imatrix;
use crate::args::quantize::Quantize;
use crate::failure::Failure;
use crate::settings::{FILE_NAME, Settings};

const DEFAULT_N_CTX: u32 = 512;
const DEFAULT_BITS: u32 = 4;
const DEFAULT_CONFIDENCE: f64 = 0.95;
const DEFAULT_KL_GROWTH: f64 = 0.1;

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

    pub fn quantize(&self, args: &Quantize) -> Result<QuantizeSettings, Failure> {
        let file = &self.settings.quantize;
        let model = self.model(args.model.as_deref())?;
        // an importance matrix on the command line beats the method in the file: others could not use it
        let method = match (&args.method, &args.imatrix) {
            (None, Some(_)) => Method::Imatrix,
            (typed, _) => parse_or("--method", typed.as_ref().or(file.method.as_ref()), Method::Awq)?,
        };
        let target = target(args, &self.settings)?;
        let mix = if target.is_some() { Mix::Q4_K_M } else { mix(args, &self.settings)? };
        let measure = match args.no_eval {
            true => None,
            false => Some(self.measure(args.text.as_ref(), None, None, args.device.as_deref())?),
        };
        let types = target.map_or_else(|| mix.to_string(), named);
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{method}-{types}.gguf")));
        Ok(QuantizeSettings {
            act_order: act_order(args, method)?,
            method,
            effort: parse_or("--effort", args.effort.as_ref().or(file.effort.as_ref()), Effort::default())?,
            mix,
            target,
            overrides: parse_all("--tensor-type", &args.tensor_type, &file.tensor_type)?,
            keep: parse_all("--keep", &args.keep, &file.keep)?,
            imatrix: args.imatrix.clone(),
            calibration: self.calibration(&args.calibration),
            batches: self.batches(args.samples, args.seq_len, args.seed),
            device: self.device(args.device.as_deref())?,
            pre: args.pre.clone().or_else(|| file.pre.clone()),
            output,
            measure,
            max_memory: self.max_memory(args)?,
            resume: args.resume,
            model,
        })
    }

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
        let measure = match args.no_eval {
            true => None,
            false => Some(self.measure(args.text.as_ref(), None, None, args.device.as_deref())?),
        };
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{method}-{scheme}")));
        Ok(PackSettings {
            method,
            effort: parse_or("--effort", args.effort.as_ref().or(file.effort.as_ref()), Effort::default())?,
            scheme,
            act_order: act_order(args, method)?,
            keep: parse_all("--keep", &args.keep, &file.keep)?,
            calibration: self.calibration(&args.calibration),
            batches: self.batches(args.samples, args.seq_len, args.seed),
            device: self.device(args.device.as_deref())?,
            output,
            measure,
            max_memory: self.max_memory(args)?,
            resume: args.resume,
            model,
        })
    }

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

    pub fn eval(&self, args: &Eval) -> Result<EvaluateSettings, Failure> {
        let device = args.device.as_deref();
        Ok(EvaluateSettings {
            model: self.model(args.model.as_deref())?,
            base: args.base.clone(),
            measure: self.measure(args.text.as_ref(), args.n_ctx, args.windows, device)?,
        })
    }

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
        };
        let baseline = args.baseline.clone().or_else(|| file.baseline.clone());
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
            measure: self.measure(args.text.as_ref(), args.n_ctx, args.windows, args.device.as_deref())?,
            limits,
            baseline,
            max_kl_growth: share(
                "--max-kl-growth",
                args.max_kl_growth.as_ref(),
                file.max_kl_growth.as_ref(),
            )?
            .unwrap_or(DEFAULT_KL_GROWTH),
            save_baseline: args.save_baseline.clone(),
            confidence,
        })
    }

    pub fn imatrix(&self, args: &Imatrix) -> Result<ImatrixSettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let output = args.output.clone().unwrap_or_else(|| {
            let named = if model.is_dir() { model.clone() } else { model.with_extension("") };
            in_working_directory(&named, ".imatrix.gguf")
        });
        Ok(ImatrixSettings {
            calibration: self.calibration(&args.calibration),
            batches: self.batches(args.samples, args.seq_len, args.seed),
            all: args.all,
            device: self.device(args.device.as_deref())?,
            output,
            model,
        })
    }

    fn calibration(&self, typed: &[TextSource]) -> Vec<TextSource> {
        if typed.is_empty() { self.settings.calibration.files.clone() } else { typed.to_vec() }
    }

    fn batches(&self, samples: Option<u32>, seq_len: Option<u32>, seed: Option<u64>) -> BatchOptions {
        let (file, default) = (&self.settings.calibration, BatchOptions::default());
        BatchOptions {
            samples: samples.or(file.samples).map_or(default.samples, |n| n as usize),
            seq_len: seq_len.or(file.seq_len).map_or(default.seq_len, |n| n as usize),
            seed: seed.or(file.seed).unwrap_or_default(),
            ..default
        }
    }

    fn measure(
        &self,
        text: Option<&TextSource>,
        n_ctx: Option<u32>,
        windows: Option<u32>,
        device: Option<&str>,
    ) -> Result<Measure, Failure> {
        Ok(Measure {
            text: text.or(self.settings.eval.text.as_ref()).cloned().unwrap_or_default(),
            n_ctx: n_ctx.or(self.settings.eval.n_ctx).unwrap_or(DEFAULT_N_CTX) as usize,
            max_windows: windows.map(|n| n as usize),
            device: self.device(device)?,
        })
    }

    fn max_memory(&self, args: &Quantize) -> Result<Option<ByteSize>, Failure> {
        let size = args.max_memory.as_ref().or(self.settings.quantize.max_memory.as_ref());
        size.map(|size| parse("--max-memory", size)).transpose()
    }

    fn device(&self, named: Option<&str>) -> Result<Device, Failure> {
        parse_or("--device", named.or(self.settings.device.as_deref()), Device::Cpu)
    }
}

/// `--act-order`, which only error feedback can follow.
fn act_order(args: &Quantize, method: Method) -> Result<bool, Failure> {
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

/// What types chosen by measured cost shall reach. A flag beats the file as a whole, and so do `--bits` and `--type`.
fn target(args: &Quantize, settings: &Settings) -> Result<Option<Target>, Failure> {
    let file = &settings.quantize;
    let typed = (args.target_bpw, args.target_size.as_ref(), args.max_kl);
    let (bits, size, kl) = match typed {
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
fn named(target: Target) -> String {
    match target {
        Target::BitsPerWeight(bits) => format!("{bits}bpw"),
        Target::FileBytes(bytes) => format!("{bytes}bytes"),
        Target::KlDivergence(kl) => format!("kl{kl}"),
    }
}

/// `2%` or `0.02`.
fn share(option: &str, text: &str) -> Result<f64, Failure> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number / unit),
        _ => Err(Failure::usage(format!("{option} {text}: expected a share such as 2% or 0.02"))),
    }
}

/// `700MB`, `1.5GiB`, `7515936`: decimal and binary units, or bytes.
fn bytes(option: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: Option<f64> = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        "gb" => Some(1e9),
        "kib" => Some(1024.0),
        "mib" => Some(1024.0 * 1024.0),
        "gib" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    let number = digits.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    match (number, factor) {
        (Some(number), Some(factor)) if number * factor >= 1.0 && number * factor < 9e18 => {
            Ok((number * factor) as u64)
        }
        _ => {
            Err(Failure::usage(format!("{option} {text}: expected a size such as 700MB, 1.5GiB or 7515936")))
        }
    }
}

/// `NAME-SUFFIX` in the working directory.
fn default_output(model: &Path, suffix: &str) -> PathBuf {
    in_working_directory(model, &format!("-{suffix}"))
}

/// The model's name and `ending`, in the working directory.
fn in_working_directory(model: &Path, ending: &str) -> PathBuf {
    let model = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
    let name = model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy());
    PathBuf::from(format!("{name}{ending}"))
}

fn parse<T: FromStr<Err: Display>>(option: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|error| Failure::usage(format!("{option} {value}: {error}")))
}

fn parse_or<T: FromStr<Err: Display>>(
    option: &str,
    value: Option<impl AsRef<str>>,
    default: T,
) -> Result<T, Failure> {
    value.map_or(Ok(default), |value| parse(option, value.as_ref()))
}

fn parse_all<T: FromStr<Err: Display>>(
    option: &str,
    typed: &[String],
    file: &[String],
) -> Result<Vec<T>, Failure> {
    let values = if typed.is_empty() { file } else { typed };
    values.iter().map(|value| parse(option, value)).collect()
}
