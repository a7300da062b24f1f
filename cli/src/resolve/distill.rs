//! `slmc distill`: flags, then the run's own file, then defaults.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use slmc_pipeline::jobs::distill::{
    AdamWSettings, CacheOf, CacheSettings, Decay, DistillSettings, Divergence, Length, Lora, Objective,
    Schedule, StudentFrom, TeacherFrom, TrainSettings, Trained,
};
use slmc_pipeline::jobs::evaluate::Measure;
use slmc_pipeline::jobs::quantize::TextSource;

use super::Resolver;
use super::output::default_output;
use super::parse::{parse, parse_or, precision};
use super::sizes::Sizes;
use crate::args::distill::{CacheLogits, Distill};
use crate::failure::Failure;

const LEARNING_RATE: f64 = 2e-4;
/// Of scales, which are numbers around 1.
const SCALES_LEARNING_RATE: f64 = 1e-3;
const WARMUP_STEPS: u64 = 20;
const BATCH_SIZE: u32 = 8;
const SEQ_LEN: u32 = 256;
const EVALUATE_EVERY: u64 = 50;

/// The options as keys of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Run {
    teacher: Option<PathBuf>,
    teacher_logits: Option<PathBuf>,
    student: Option<PathBuf>,
    layers: Option<u32>,
    layer_choice: Option<String>,
    hidden_size: Option<u32>,
    channels: Option<u32>,
    query_heads: Option<u32>,
    kv_heads: Option<u32>,
    #[serde(default)]
    text: Vec<String>,
    train: Option<String>,
    lora_rank: Option<u32>,
    lora_alpha: Option<f32>,
    lora_targets: Option<String>,
    #[serde(default)]
    merge: bool,
    held_out: Option<String>,
    #[serde(default)]
    all_tokens: bool,
    output: Option<PathBuf>,
    #[serde(default)]
    modelfile: bool,
    loss: Option<String>,
    temperature: Option<f32>,
    alpha: Option<f32>,
    hidden_mse: Option<f32>,
    on_policy: Option<f64>,
    qat: Option<String>,
    steps: Option<u64>,
    epochs: Option<f64>,
    max_minutes: Option<f64>,
    learning_rate: Option<f64>,
    schedule: Option<String>,
    warmup_steps: Option<u64>,
    batch_size: Option<u32>,
    accumulation: Option<u32>,
    seq_len: Option<u32>,
    clip_norm: Option<f32>,
    weight_decay: Option<f32>,
    seed: Option<u64>,
    evaluate_every: Option<u64>,
    patience: Option<u32>,
    #[serde(default)]
    train_zeros: bool,
    #[serde(default)]
    gradient_checkpointing: bool,
    precision: Option<String>,
    device: Option<String>,
}

impl Run {
    fn sizes(&self) -> Sizes {
        Sizes {
            layers: self.layers,
            layer_choice: self.layer_choice.clone(),
            hidden_size: self.hidden_size,
            channels: self.channels,
            query_heads: self.query_heads,
            kv_heads: self.kv_heads,
        }
    }

    /// Reads a file; its paths are relative to it.
    fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Failure::failed(format!("{}: {source}", path.display())))?;
        let mut run: Self = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        for path in [&mut run.teacher, &mut run.teacher_logits, &mut run.student, &mut run.output]
            .into_iter()
            .flatten()
        {
            *path = directory.join(&*path);
        }
        for name in run.text.iter_mut().chain(&mut run.held_out) {
            let source: TextSource = parse("text", name)?;
            *name = source.relative_to(directory).to_string();
        }
        Ok(run)
    }
}

impl Resolver {
    pub fn distill(&self, args: &Distill) -> Result<DistillSettings, Failure> {
        let run = args.run.as_deref().map(Run::load).transpose()?.unwrap_or_default();
        let named = (args.teacher.as_ref(), args.teacher_logits.as_ref());
        let teacher = match if named == (None, None) {
            (run.teacher.as_ref(), run.teacher_logits.as_ref())
        } else {
            named
        } {
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "teacher and teacher-logits are two ways to say the same; leave one out",
                ));
            }
            (None, Some(logits)) => TeacherFrom::Logits(logits.clone()),
            (model, None) => TeacherFrom::Model(self.model(model.map(PathBuf::as_path))?),
        };
        let sizes = args.sizes();
        let typed = args.student.is_some() || sizes != Sizes::default();
        let (student, sizes) = if typed { (&args.student, sizes) } else { (&run.student, run.sizes()) };
        let student = match (student, sizes.student()?) {
            (Some(path), None) if path.extension().is_some_and(|e| e == "json") && !path.is_dir() => {
                StudentFrom::Config(path.clone())
            }
            (Some(path), None) => StudentFrom::Checkpoint(path.clone()),
            (None, Some(made)) => made,
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "a student, and sizes of one to be cut out of the teacher: two ways to say the same; leave one out",
                ));
            }
            (None, None) => {
                return Err(Failure::usage("no student given").help(
                    "Name a checkpoint that shall learn with --student (a pruned model, for example), or make one of a part of \
                     the teacher with --layers N, --channels N and the like.",
                ));
            }
        };
        let mut texts = args.text.clone();
        if texts.is_empty() {
            texts = run.text.iter().map(|name| parse("text", name)).collect::<Result<_, _>>()?;
        }
        if texts.is_empty() {
            return Err(Failure::usage("no text given to train on")
                .help("Name a text or JSON-lines file with --text; `--text bundled` is small, and good for trying out."));
        }
        let held_out = match (&args.held_out, &run.held_out) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(name)) => Some(parse("held-out", name)?),
            (None, None) => None,
        };
        // A quantized file is so near to its teacher that anything but the divergence itself draws it away.
        let usual = match &student {
            StudentFrom::Checkpoint(path) if path.extension().is_some_and(|ending| ending == "gguf") => {
                Objective { temperature: 1.0, alpha: 0.0, ..Objective::default() }
            }
            _ => Objective::default(),
        };
        let objective = Objective {
            divergence: parse_or("--loss", args.loss.as_ref().or(run.loss.as_ref()), Divergence::ForwardKl)?,
            temperature: args.temperature.or(run.temperature).unwrap_or(usual.temperature),
            alpha: args.alpha.or(run.alpha).unwrap_or(usual.alpha),
        };
        let trained = trained(args, &run)?;
        let usual_rate = if trained == Trained::Scales { SCALES_LEARNING_RATE } else { LEARNING_RATE };
        let schedule = Schedule {
            peak: args.learning_rate.or(run.learning_rate).unwrap_or(usual_rate),
            warmup_steps: args.warmup_steps.or(run.warmup_steps).unwrap_or(WARMUP_STEPS),
            decay: parse_or(
                "--schedule",
                args.schedule.as_ref().or(run.schedule.as_ref()),
                Decay::default(),
            )?,
        };
        let (steps, epochs, minutes) = match (args.steps, args.epochs, args.max_minutes) {
            (None, None, None) => (run.steps, run.epochs, run.max_minutes),
            typed => typed,
        };
        let (length, epochs) = match (steps, epochs, minutes) {
            (Some(0), None, None) => return Err(Failure::usage("--steps 0: expected 1 or more")),
            (Some(steps), None, None) => (Length::Steps(steps), None),
            (None, None, Some(minutes)) => {
                (Length::Seconds(60.0 * above_zero("--max-minutes", minutes)?), None)
            }
            (None, epochs, None) => (Length::Steps(0), Some(above_zero("--epochs", epochs.unwrap_or(1.0))?)),
            _ => {
                return Err(Failure::usage(
                    "steps, epochs and max-minutes say the same in three ways; leave two out",
                ));
            }
        };
        let device = self.device(args.device.as_deref().or(run.device.as_deref()))?;
        let train = TrainSettings {
            objective,
            optimizer: AdamWSettings {
                weight_decay: args.weight_decay.or(run.weight_decay).unwrap_or_default(),
                ..AdamWSettings::default()
            },
            schedule,
            length,
            batch_size: args.batch_size.or(run.batch_size).unwrap_or(BATCH_SIZE) as usize,
            accumulation: args.accumulation.or(run.accumulation).unwrap_or(1) as usize,
            clip_norm: args.clip_norm.or(run.clip_norm).unwrap_or(1.0),
            seed: args.seed.or(run.seed).unwrap_or_default(),
            evaluate_every: args.evaluate_every.or(run.evaluate_every).unwrap_or(EVALUATE_EVERY),
            patience: args.patience.or(run.patience),
            keep_zeros: !(args.train_zeros || run.train_zeros),
            hidden_mse: args.hidden_mse.or(run.hidden_mse).unwrap_or_default(),
            on_policy: args.on_policy.or(run.on_policy).unwrap_or_default(),
            precision: precision(args.precision.as_ref().or(run.precision.as_ref()), None, device)?,
            gradient_checkpointing: args.gradient_checkpointing || run.gradient_checkpointing,
        };
        check(&train)?;
        let merge = args.merge || run.merge;
        let ending = if matches!(trained, Trained::Lora(_)) && !merge { "lora" } else { "distilled" };
        let (TeacherFrom::Model(teacher_path) | TeacherFrom::Logits(teacher_path)) = &teacher;
        let named = match &student {
            StudentFrom::Checkpoint(path) => (path.clone(), ending.to_owned()),
            StudentFrom::Config(_) => (teacher_path.clone(), format!("fresh-{ending}")),
            StudentFrom::Layers(layers) => (teacher_path.clone(), format!("{layers}-layers-{ending}")),
            StudentFrom::Cut(_) => (teacher_path.clone(), format!("cut-{ending}")),
        };
        let output = args.output.clone().or(run.output).unwrap_or_else(|| match named.0.extension() {
            Some(ending) if ending == "gguf" => {
                default_output(&named.0.with_extension(""), &format!("{}.gguf", named.1))
            }
            _ => default_output(&named.0, &named.1),
        });
        let seq_len = args.seq_len.or(run.seq_len).unwrap_or(SEQ_LEN) as usize;
        if seq_len < 2 {
            return Err(Failure::usage(
                "--seq-len: at least 2 tokens, for the second to be predicted from the first",
            ));
        }
        let qat = args.qat.as_ref().or(run.qat.as_ref()).map(|mix| parse("--qat", mix)).transpose()?;
        Ok(DistillSettings {
            teacher,
            student,
            trained,
            merge,
            texts,
            held_out,
            all_tokens: args.all_tokens || run.all_tokens,
            seq_len,
            train,
            epochs,
            qat,
            device,
            output,
            modelfile: args.modelfile || run.modelfile,
            resume: args.resume,
        })
    }
}

impl Resolver {
    pub fn cache_logits(&self, args: &CacheLogits) -> Result<CacheSettings, Failure> {
        let seq_len = args.seq_len.unwrap_or(SEQ_LEN);
        let top_k = args.top_k.unwrap_or(if args.for_eval { 256 } else { 64 });
        for (option, value, least) in
            [("--top-k", top_k, 1), ("--batch-size", args.batch_size, 1), ("--seq-len", seq_len, 2)]
        {
            if value < least {
                return Err(Failure::usage(format!("{option} {value}: expected {least} or more")));
            }
        }
        let usual = if args.for_eval { 1.0 } else { Objective::default().temperature };
        let temperature = above_zero("--temperature", args.temperature.unwrap_or(usual).into())? as f32;
        let of = match (args.for_eval, &args.text[..]) {
            (true, [text]) => {
                let measure = self.measure_by(Some(text), args.n_ctx, args.windows, None)?;
                let Measure { text, n_ctx, max_windows, .. } = measure;
                CacheOf::Evaluation { text, n_ctx, max_windows }
            }
            (true, _) => {
                return Err(Failure::usage("--for-eval: expected one --text, as `slmc eval` takes it"));
            }
            (false, _) => CacheOf::Run {
                texts: args.text.clone(),
                held_out: args.held_out.clone(),
                all_tokens: args.all_tokens,
                seq_len: seq_len as usize,
            },
        };
        Ok(CacheSettings {
            teacher: self.model(args.teacher.as_deref())?,
            of,
            k: top_k as usize,
            temperature,
            batch_size: args.batch_size as usize,
            device: self.device(args.device.as_deref())?,
            output: args.output.clone(),
            resume: args.resume,
        })
    }
}

impl Distill {
    fn sizes(&self) -> Sizes {
        Sizes {
            layers: self.layers,
            layer_choice: self.layer_choice.clone(),
            hidden_size: self.hidden_size,
            channels: self.channels,
            query_heads: self.query_heads,
            kv_heads: self.kv_heads,
        }
    }
}

/// What of the student is trained.
fn trained(args: &Distill, run: &Run) -> Result<Trained, Failure> {
    let (train, rank) = match (&args.train, args.lora_rank) {
        (None, None) => (&run.train, run.lora_rank),
        typed => typed,
    };
    let (alpha, targets) =
        (args.lora_alpha.or(run.lora_alpha), args.lora_targets.as_ref().or(run.lora_targets.as_ref()));
    match (train.as_deref(), rank) {
        (None | Some("all" | "norms" | "scales"), None) if alpha.is_some() || targets.is_some() => {
            Err(Failure::usage("--lora-alpha and --lora-targets need --lora-rank"))
        }
        (None | Some("all"), None) => Ok(Trained::All),
        (Some("norms"), None) => Ok(Trained::Norms),
        (Some("scales"), None) => Ok(Trained::Scales),
        (Some(other), None) => {
            Err(Failure::usage(format!("--train {other:?}: expected all, norms or scales")))
        }
        (Some(_), Some(_)) => {
            Err(Failure::usage("train and lora-rank say what is trained in two ways; leave one out"))
        }
        (None, Some(0)) => Err(Failure::usage("--lora-rank 0: expected 1 or more")),
        (None, Some(rank)) => {
            let alpha = above_zero("--lora-alpha", alpha.map_or(2.0 * f64::from(rank), f64::from))? as f32;
            let targets = targets.map_or("all", String::as_str);
            let targets = Lora::targets_named(targets)
                .map_err(|error| Failure::usage(format!("--lora-targets: {error}")))?;
            Ok(Trained::Lora(Lora { rank: rank as usize, alpha, targets }))
        }
    }
}

/// What no run can use.
fn check(train: &TrainSettings) -> Result<(), Failure> {
    let Objective { temperature, alpha, .. } = train.objective;
    let finite_above = |option: &str, value: f64| above_zero(option, value).map(|_| ());
    finite_above("--temperature", temperature.into())?;
    finite_above("--learning-rate", train.schedule.peak)?;
    finite_above("--clip-norm", train.clip_norm.into())?;
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Failure::usage(format!("--alpha {alpha}: expected a number from 0 to 1")));
    }
    if !(train.hidden_mse >= 0.0 && train.hidden_mse.is_finite()) {
        return Err(Failure::usage(format!("--hidden-mse {}: expected 0 or more", train.hidden_mse)));
    }
    if !(0.0..=1.0).contains(&train.on_policy) {
        return Err(Failure::usage(format!(
            "--on-policy {}: expected a number from 0 to 1",
            train.on_policy
        )));
    }
    let decay = train.optimizer.weight_decay;
    if !(0.0..=1.0).contains(&decay) {
        return Err(Failure::usage(format!("--weight-decay {decay}: expected a number from 0 to 1")));
    }
    for (option, value) in [
        ("--batch-size", train.batch_size as u64),
        ("--accumulation", train.accumulation as u64),
        ("--evaluate-every", train.evaluate_every),
    ] {
        if value == 0 {
            return Err(Failure::usage(format!("{option} 0: expected 1 or more")));
        }
    }
    Ok(())
}

fn above_zero(option: &str, value: f64) -> Result<f64, Failure> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Failure::usage(format!("{option} {value}: expected a number above 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_an_error_and_paths_are_relative_to_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        std::fs::write(&path, "teacher = 'm'\ntext = ['t.txt', 'bundled']\nlearning-rate = 1e-4\n").unwrap();
        let run = Run::load(&path).unwrap();
        assert_eq!(run.teacher, Some(directory.path().join("m")));
        assert_eq!(run.text, [directory.path().join("t.txt").display().to_string(), "bundled".into()]);
        assert_eq!(run.learning_rate, Some(1e-4));
        std::fs::write(&path, "learning_rate = 1e-4\n").unwrap();
        assert!(Run::load(&path).unwrap_err().to_string().contains("learning_rate"));
    }
}
