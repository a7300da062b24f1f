//! A student trained on what its teacher predicts, from a checkpoint to a checkpoint.

mod cache;
mod cut;
mod fresh;
mod grid;
mod run;
mod stored;
mod student;
mod text;
mod write;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use slmc_calibration::TextSource;
use slmc_checkpoint::{CheckpointWriter, ExistingTarget};
use slmc_matmul::Precision;
use slmc_model::{Device, WeightSource};

pub use cache::{CacheOf, CacheOutcome, CacheSettings, cache_logits};
pub use cut::Cut;
pub use grid::StoredGrid;
pub use slmc_distill::Records;
pub use slmc_distill::{
    AdamWSettings, Decay, Divergence, End, HeldOut, Length, Lora, Objective, Progress, Schedule,
    TrainSettings, Trained,
};
use slmc_distill::{LogitCache, Store};

pub use slmc_quant::Mix;

use super::directory::may_replace;
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::modelfile::Modelfile;
use crate::progress::Reporter;
use crate::work::{Fingerprint, Work, WorkError};
pub(super) use stored::DISTILL;
use stored::StoredStudent;
use student::StudentSource;
pub(super) use text::tokenizer_hash;
use text::{Reading, Sequences};

/// Where the student comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StudentFrom {
    /// A checkpoint.
    Checkpoint(PathBuf),
    /// So many of the teacher's layers, evenly spaced, the first and the last among them, and everything else.
    Layers(usize),
    /// What structured pruning leaves of the teacher at these sizes.
    Cut(Cut),
    /// A `config.json`: fresh weights of these dimensions, and the teacher's tokenizer.
    Config(PathBuf),
}

/// Whom to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TeacherFrom {
    /// A model.
    Model(PathBuf),
    /// A file that [`cache_logits`] wrote.
    Logits(PathBuf),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct DistillSettings {
    /// The model to learn from.
    pub teacher: TeacherFrom,
    /// The model that learns.
    pub student: StudentFrom,
    /// What of it is trained.
    pub trained: Trained,
    /// Whether adapters are merged into the student that is written, instead of standing alone.
    pub merge: bool,
    /// Text to train on.
    pub texts: Vec<TextSource>,
    /// Text to judge by; `None` to hold out a part of the other.
    pub held_out: Option<TextSource>,
    /// Whether all of a conversation is learned, and not the assistant's answers alone.
    pub all_tokens: bool,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// How to train; without a length once over the text.
    pub train: TrainSettings,
    /// Passes over the text, where the length is not said otherwise.
    pub epochs: Option<f64>,
    /// The mix that the student will be stored in: training sees its weights rounded to that.
    pub qat: Option<Mix>,
    /// Where models run.
    pub device: Device,
    /// The directory to write, or GGUF file.
    pub output: PathBuf,
    /// Whether to write an Ollama Modelfile beside a GGUF file.
    pub modelfile: bool,
    /// Whether to go on with what an earlier run of the same settings left.
    pub resume: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct DistillOutcome {
    /// The directory or file written.
    pub output: PathBuf,
    /// The Ollama Modelfile beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelfile: Option<PathBuf>,
    /// The model learned from.
    pub teacher: PathBuf,
    /// Where the student came from.
    pub student: String,
    /// Its parameters.
    pub parameters: usize,
    /// What of it was trained.
    pub trained: Trained,
    /// Numbers that were trained.
    pub trained_parameters: usize,
    /// What was trained towards.
    pub objective: Objective,
    /// What products of a step were computed in.
    pub precision: Precision,
    /// Why training ended.
    pub end: End,
    /// Steps done.
    pub steps: u64,
    /// Steps that were skipped, for something was not finite.
    pub skipped_steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Held-out text, as the student came.
    pub start: HeldOut,
    /// Held-out text, of the student that was written.
    pub best: HeldOut,
    /// The step after which it was.
    pub best_step: u64,
    /// Zeros of a pruned student that were kept.
    pub kept_zeros: u64,
    /// Seconds of training and evaluation, those of resumed runs included.
    pub seconds: f64,
    /// Tokens trained on in a second, evaluations included.
    pub tokens_per_second: f64,
    /// Peak resident memory.
    pub peak_memory_bytes: Option<u64>,
    /// The mix that training rounded weights to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qat: Option<Mix>,
    /// Bytes of the weight files.
    pub bytes: u64,
}

/// A teacher, opened.
enum OpenTeacher {
    Model { file: ModelFile, source: Box<dyn WeightSource> },
    Logits(LogitCache),
}

/// Everything that is known before training begins.
pub struct PreparedDistill {
    settings: DistillSettings,
    teacher: OpenTeacher,
    student: StudentSource,
    /// The student, where it is trained on the grid of its file.
    stored: Option<StoredStudent>,
    modelfile: Option<Modelfile>,
    sequences: Sequences,
    grid: Option<StoredGrid>,
    vocab: usize,
    existing: ExistingTarget,
}

impl PreparedDistill {
    /// Opens the models, compares their vocabularies, tokenizes the text. A student that is cut out of the teacher is made now.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(settings: DistillSettings, reporter: &dyn Reporter) -> Result<Self, PipelineError> {
        let (directory, cuts) =
            (Work::path(&settings.output), matches!(settings.student, StudentFrom::Cut(_)));
        let prepared = Self::prepare(settings, reporter);
        // A student that nothing comes of is not left behind; what is left of one that was not finished is.
        if let Err(error) = &prepared
            && cuts
            && !matches!(error, PipelineError::Interrupted { .. })
            && matches!(Store::begun(&directory), Ok(None))
            && run::lock(&directory).is_ok()
        {
            let _ = std::fs::remove_dir_all(&directory);
        }
        prepared
    }

    fn prepare(mut settings: DistillSettings, reporter: &dyn Reporter) -> Result<Self, PipelineError> {
        let teacher = match &settings.teacher {
            TeacherFrom::Model(path) => {
                let file = ModelFile::open(path)?;
                OpenTeacher::Model { source: file.source()?, file }
            }
            TeacherFrom::Logits(path) => OpenTeacher::Logits(cache::open(path, &settings)?),
        };
        let mut existing = ExistingTarget::Refuse;
        let student = match (&settings.student, &settings.teacher) {
            (StudentFrom::Checkpoint(path), _) => {
                existing = may_replace(&settings.output, path)?;
                StudentSource::whole(ModelFile::open(path)?, &settings.trained)?
            }
            (StudentFrom::Layers(layers), TeacherFrom::Model(path)) => {
                StudentSource::of_layers(ModelFile::open(path)?, *layers, &settings.trained)?
            }
            (StudentFrom::Cut(sizes), TeacherFrom::Model(path)) => {
                let student = cut::cut(path, *sizes, &settings, reporter)?;
                StudentSource::whole(ModelFile::open(&student)?, &settings.trained)?
            }
            (StudentFrom::Config(config), TeacherFrom::Model(path)) => {
                let seed = settings.train.seed;
                StudentSource::fresh(config, ModelFile::open(path)?, &settings.trained, seed)?
            }
            (
                StudentFrom::Layers(_) | StudentFrom::Cut(_) | StudentFrom::Config(_),
                TeacherFrom::Logits(_),
            ) => {
                let reason = "a student made from the teacher needs the teacher itself (--teacher), not its predictions alone";
                return Err(PipelineError::Distill { reason: reason.into() });
            }
        };
        if let TeacherFrom::Model(path) = &settings.teacher {
            existing = may_replace(&settings.output, path)?;
        }
        check_parts(&settings, &student)?;
        let stored = match (&student.file, &settings.trained) {
            (ModelFile::Gguf(file), Trained::All | Trained::Scales) => Some(StoredStudent::new(file)?),
            _ => None,
        };
        let modelfile = match (&stored, settings.modelfile) {
            (_, false) => None,
            (Some(stored), true) => Some(stored.modelfile(&settings.output)?),
            (None, true) => {
                let reason = "--modelfile stands beside a GGUF file, and this run writes none; slmc quantize takes it, too";
                return Err(PipelineError::Distill { reason: reason.into() });
            }
        };
        let mut longest = student.config().max_position_embeddings;
        if let OpenTeacher::Model { source, .. } = &teacher {
            longest = longest.min(source.config().max_position_embeddings);
        }
        settings.seq_len = settings.seq_len.min(longest);
        let grid = settings.qat.map(|mix| StoredGrid::new(student.config(), mix)).transpose()?;
        let reading = Reading {
            texts: &settings.texts,
            held_out: settings.held_out.as_ref(),
            all_tokens: settings.all_tokens,
            seq_len: settings.seq_len,
        };
        let sequences = Sequences::new(&student.file, student.config(), &reading)?;
        let vocab = match &teacher {
            OpenTeacher::Model { file, source } => text::shared_vocabulary(
                &student.file,
                student.config(),
                file,
                source.config(),
                &settings.texts,
            )?,
            OpenTeacher::Logits(cache) => {
                cache::check(cache, (&student.file, student.config().vocab_size), &sequences)?;
                cache.header().vocab
            }
        };
        if let Some(epochs) = settings.epochs {
            let per_step = settings.train.sequences_per_step() as f64;
            let steps = (epochs * sequences.train.len() as f64 / per_step).round().max(1.0);
            settings.train.length = Length::Steps(steps as u64);
        }
        if let Length::Steps(steps) = settings.train.length {
            settings.train.schedule.warmup_steps = settings.train.schedule.warmup_steps.min(steps / 5);
        }
        sequences.check(settings.train.sequences_per_step(), settings.seq_len)?;
        let prepared =
            Self { grid, settings, teacher, student, stored, modelfile, sequences, vocab, existing };
        // Says now what is wrong with the target; nothing of it stays.
        if let Some(stored) = &prepared.stored {
            drop(stored.writer(&Value::Null, &prepared.settings.output)?);
            return Ok(prepared);
        }
        let plan = match prepared.adapters_alone() {
            Some(_) => {
                let Self { student, settings, .. } = &prepared;
                student.adapter_layout(&student.begin(&settings.trained, settings.train.seed)?)?
            }
            None => prepared.student.layout(prepared.grid.is_some())?,
        };
        drop(CheckpointWriter::create(&prepared.settings.output, plan, existing)?);
        Ok(prepared)
    }

    /// What the weights that come out depend on: this version of slmc, every setting, the text, and both models. Not the number
    /// of threads, which changes nothing.
    fn fingerprint(&self) -> Result<Fingerprint, PipelineError> {
        let mut inputs = Fingerprint::default();
        inputs.value("slmc's version", env!("CARGO_PKG_VERSION"));
        let train = json!(self.settings.train);
        let mut add =
            |values: &Value, name: &str| flatten(values, name, &mut |name, value| inputs.value(name, value));
        add(&train, "");
        if let Some(mix) = self.settings.qat {
            inputs.value("qat", mix);
        }
        inputs.value("device", self.settings.device.name());
        inputs.content("the text", self.sequences.hash.as_bytes());
        match &self.settings.student {
            StudentFrom::Layers(layers) => inputs.value("layers", layers),
            StudentFrom::Cut(sizes) => inputs.value("the student's sizes", sizes),
            StudentFrom::Config(_) => {
                inputs.content("the student's config.json", self.student.config_json.to_string().as_bytes());
            }
            StudentFrom::Checkpoint(_) => {}
        }
        if self.settings.trained != Trained::All {
            inputs.value("trained", json!(self.settings.trained));
        }
        add_model(&mut inputs, &self.student.file)?;
        match &self.teacher {
            OpenTeacher::Model { file, .. } => add_model(&mut inputs, file)?,
            OpenTeacher::Logits(cache) => inputs.path(cache.path()).map_err(WorkError::io(cache.path()))?,
        }
        Ok(inputs)
    }
}

/// Adds a model to what a run depends on.
fn add_model(inputs: &mut Fingerprint, file: &ModelFile) -> Result<(), WorkError> {
    match file {
        ModelFile::Checkpoint(checkpoint) => {
            inputs.content(
                format!("{}/config.json", checkpoint.dir().display()),
                checkpoint.config_json().to_string().as_bytes(),
            );
            for path in checkpoint.weight_files() {
                inputs.weight_file(path).map_err(WorkError::io(path))?;
            }
        }
        ModelFile::Gguf(file) => inputs.path(file.path()).map_err(WorkError::io(file.path()))?,
    }
    Ok(())
}

/// Whether what is to be trained can be trained and written.
fn check_parts(settings: &DistillSettings, student: &StudentSource) -> Result<(), PipelineError> {
    let refuse = |reason: &str| Err(PipelineError::Distill { reason: reason.to_owned() });
    if settings.trained != Trained::All && settings.qat.is_some() {
        return refuse("--qat trains all weights for their grid; leave out --lora-rank and --train norms");
    }
    if let Trained::Lora(lora) = &settings.trained
        && let Err(missing) = lora.targets_of(student.config())
    {
        return refuse(&format!("--lora-targets: {missing}"));
    }
    if settings.qat.is_some() && matches!(student.file, ModelFile::Gguf(_)) {
        return refuse("a GGUF student is trained on the grid that it is stored on; leave --qat out");
    }
    if settings.train.hidden_mse > 0.0 && matches!(settings.teacher, TeacherFrom::Logits(_)) {
        return refuse(
            "hidden states (--hidden-mse) need the teacher itself (--teacher), not its predictions alone",
        );
    }
    if settings.train.on_policy > 0.0 {
        if matches!(settings.teacher, TeacherFrom::Logits(_)) {
            return refuse(
                "what the student writes (--on-policy) needs the teacher itself (--teacher) to judge it",
            );
        }
        if !settings.train.objective.needs_teacher() {
            return refuse(
                "what the student writes (--on-policy) has no hard labels; --alpha must be less than 1",
            );
        }
    }
    if !settings.merge {
        return Ok(());
    }
    match (&settings.trained, &student.file) {
        (Trained::Lora(_), ModelFile::Checkpoint(checkpoint))
            if checkpoint.config().quantization.is_none() =>
        {
            Ok(())
        }
        (Trained::Lora(_), _) => refuse(
            "adapters cannot be merged into a quantized student (--merge); leave it out, and merge them into the checkpoint that the student \
             was made from",
        ),
        _ => refuse("--merge merges adapters, and none are trained; give --lora-rank"),
    }
}

/// Every number and word of nested settings, under its last names.
fn flatten(value: &Value, name: &str, add: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let key = key.replace('_', " ");
            flatten(value, &if name.is_empty() { key.clone() } else { format!("{name} {key}") }, add);
        }),
        value => add(name.to_owned(), value.to_string()),
    }
}
