//! A checkpoint in, a smaller checkpoint of the same architecture out, and what was lost.

mod outcome;
mod planning;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use slmc_calibration::TokenBatches;
use slmc_checkpoint::config::set_dimensions;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, ExistingTarget};
use slmc_model::{CheckpointSource, WeightSource};
use slmc_quant::plan::IntFacts;

pub use outcome::{Layer, StructuredOutcome};
pub use slmc_prune::structured::{Kind, StructuredImportance, Widths};

use super::as_gguf;
pub use super::as_gguf::AsGguf;
use super::directory::{PROVENANCE, may_replace};
use super::durable::Durable;
use super::job::{self, JobSettings};
use super::quantize::{Effort, KeepZeros, Mix};
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq;
use crate::memory::{Demands, Footing, peak_resident_bytes};
use crate::packing::{PackTensors, pack_tensors};
use crate::progress::Reporter;
use crate::pruning::PrunedWriter;
use crate::rescaling::Rescaling;
pub use crate::structured::{Asked, Budget, Damage, PlannedCut, Shape, StructuredPlan};
use crate::structured::{LayerProfile, Profile, State, StreamDetail, Surgeon, follows};
use crate::walker::Walk;
use crate::work::Work;

/// What to do.
#[derive(Clone, Debug)]
pub struct StructuredSettings {
    /// From where, to which directory or GGUF file, calibrated and measured on what.
    pub job: JobSettings,
    /// What the result may be; `None` where all that goes is asked for by number.
    pub budget: Option<Budget>,
    /// How many of each kind are asked for.
    pub asked: Asked,
    /// Kinds that a budget may be spread over; empty for all that the family allows.
    pub kinds: Vec<Kind>,
    /// How channels and heads are chosen.
    pub importance: StructuredImportance,
    /// Whether what stays is solved for.
    pub solves: bool,
    /// Whether biases make up for the means of what goes.
    pub compensates: bool,
    /// How long to look, and whether to aim at the original's outputs.
    pub effort: Effort,
    /// Blocks that stay.
    pub keep_layers: Vec<usize>,
    /// What numbers of channels and dimensions are multiples of; `None` for what GGUF's types like.
    pub multiple: Option<usize>,
    /// A file of importance scores to read, or to write if it is not there.
    pub scores: Option<PathBuf>,
    /// The GGUF file that is wanted; `None` for a checkpoint, which keeps its element types.
    pub gguf: Option<AsGguf>,
}

/// Everything that is known before the model is run.
pub struct PreparedStructured {
    settings: StructuredSettings,
    checkpoint: Arc<Checkpoint>,
    source: Box<dyn WeightSource>,
    tensors: Vec<ExportTensor>,
    facts: Vec<IntFacts>,
    /// `None` where nothing is run through the model.
    batches: Option<TokenBatches>,
    existing: ExistingTarget,
    left_out: Vec<String>,
    detail: StreamDetail,
    started: Instant,
    /// How memory is used.
    pub footing: Footing,
}

/// The same with what becomes of every tensor.
pub struct PlannedStructured {
    prepared: PreparedStructured,
    profile: Profile,
    layout: CheckpointPlan,
    /// The plan.
    pub plan: StructuredPlan,
}

impl PreparedStructured {
    /// Opens the checkpoint, looks at the target, tokenizes the calibration text.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(settings: StructuredSettings) -> Result<Self, PipelineError> {
        let started = Instant::now();
        let (model, checkpoint) = settings.job.open()?;
        let written = as_gguf::checkpoint_of(&settings.job.output, settings.gguf);
        let existing = may_replace(&written, &settings.job.model)?;
        let source = model.source()?;
        let PackTensors { tensors, facts, left_out } = pack_tensors(&checkpoint, source.config())?;
        let (detail, calibrates) = {
            let sizing = settings.sizing(source.config(), &facts)?;
            (settings.detail(&sizing), settings.calibrates(&sizing))
        };
        let batches = settings.job.tokens(&model, source.config(), calibrates)?;
        // where dimensions go and what stays is solved for, the original runs beside: see `PlannedStructured::effort`
        let effort = match settings.effort {
            Effort::Fast if settings.solves && detail > StreamDetail::Nothing => Effort::Balanced,
            effort => effort,
        };
        let method = if calibrates { slmc_quant::Method::Gptq } else { slmc_quant::Method::Rtn };
        let demands = Demands { method, follows: follows(effort), run_len: None };
        let footing = settings.job.footing(demands, source.config(), batches.as_ref())?;
        Ok(Self {
            settings,
            checkpoint,
            source,
            tensors,
            facts,
            batches,
            existing,
            left_out,
            detail,
            started,
            footing,
        })
    }

    fn warn(&self, reporter: &dyn Reporter) {
        let (left_out, config) = (self.left_out.as_slice(), self.source.config());
        job::warn((left_out, config), (&self.footing, self.batches.as_ref()), reporter);
        if self.batches.is_none() && self.settings.scores.is_some() {
            reporter.warn(
                "weights and numbers alone say what goes: no scores are needed, and the file of --scores is left alone",
            );
        }
    }
}

impl PlannedStructured {
    /// How memory is used.
    pub fn footing(&self) -> &Footing {
        &self.prepared.footing
    }

    /// Bytes of the weight files to be written, or of a GGUF file's tensors.
    pub fn output_bytes(&self) -> u64 {
        let Some(AsGguf { mix, .. }) = self.prepared.settings.gguf else { return self.layout.total_bytes() };
        let bytes = |cut: &PlannedCut| match (cut.shape.len(), mix) {
            (1, _) | (_, Mix::F32) => 4 * cut.weights(),
            _ => 2 * cut.weights(),
        };
        self.plan.tensors.iter().map(bytes).sum()
    }

    /// The checkpoint to write: the output, or one beside a GGUF file.
    fn checkpoint_path(&self) -> PathBuf {
        let settings = &self.prepared.settings;
        as_gguf::checkpoint_of(&settings.job.output, settings.gguf)
    }

    /// Whether the model is walked through to be cut: where what stays is solved for, and where Hessians decide what goes.
    fn walks(&self) -> bool {
        let (before, after) = (self.plan.before, self.plan.shape.widths);
        let inside = [Kind::KeyValueHeads, Kind::QueryHeads, Kind::Channels];
        let chooses = inside.iter().any(|kind| after.of(*kind) < before.of(*kind));
        self.plan.solves || (chooses && self.prepared.settings.choice().needs_hessians())
    }

    /// How long to look. What was read of dimensions that went can be made up for only beside the original.
    fn effort(&self) -> Effort {
        match self.prepared.settings.effort {
            Effort::Fast if self.plan.solves && self.plan.shape.dimensions.is_some() => Effort::Balanced,
            effort => effort,
        }
    }

    /// Every block of the original.
    pub fn layers(&self) -> Vec<Layer> {
        let kept = |layer| self.plan.shape.layers.contains(&layer);
        let influence = |of: &LayerProfile| self.plan.calibrates.then_some(of.influence);
        let layers = self.profile.layers.iter().enumerate();
        layers.map(|(layer, of)| Layer { layer, influence: influence(of), kept: kept(layer) }).collect()
    }

    /// Calibrates, writes, opens what was written, measures.
    ///
    /// # Errors
    /// Reading, running, writing or measuring fails; the user cancels. Before the last step nothing is left behind but the
    /// work directory of what is finished; a directory that was written stays when measuring fails.
    pub fn run(self, reporter: &dyn Reporter) -> Result<StructuredOutcome, PipelineError> {
        let Self { prepared, plan, .. } = &self;
        let (settings, checkpoint) = (&prepared.settings, self.checkpoint_path());
        let durable = Durable {
            job: &settings.job,
            output: &checkpoint,
            demands: Demands {
                method: slmc_quant::Method::Gptq,
                follows: follows(self.effort()),
                run_len: None,
            },
            recipe: &self.recipe().to_string(),
            pre: None,
            checkpoint: &prepared.checkpoint,
            source: prepared.source.as_ref(),
            batches: prepared.batches.as_ref().filter(|_| self.walks()),
        };
        let tensors = durable.run(plan, prepared.footing, reporter, |walk, _| self.write(walk, reporter))?;
        // a stock reader must accept it: every tensor there, of the shape that its configuration says
        let written = CheckpointSource::open(&checkpoint)?;
        let parameters = written.config().parameters() as u64;
        if parameters != plan.parameters {
            return Err(PipelineError::CannotPrune {
                reason: format!(
                    "{}: {parameters} parameters instead of {}; please report this",
                    checkpoint.display(),
                    plan.parameters
                ),
            });
        }
        drop(written);
        let modelfile = match settings.gguf {
            Some(gguf) => {
                let made = (&prepared.checkpoint, self.recipe());
                let files = (checkpoint.as_path(), settings.job.output.as_path(), gguf);
                as_gguf::convert(as_gguf::conversion(files, made, KeepZeros::Never), reporter)?
            }
            None => None,
        };
        let (seconds, peak_memory_bytes) = (prepared.started.elapsed().as_secs_f64(), peak_resident_bytes());
        let (bytes, layers) = (self.output_bytes(), self.layers());
        let evaluation = settings.job.evaluate(reporter)?;
        let mut bytes_before = 0;
        for path in prepared.checkpoint.weight_files() {
            bytes_before += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        }
        let Self { prepared, plan, .. } = self;
        Ok(StructuredOutcome {
            output: prepared.settings.job.output,
            modelfile,
            source: prepared.settings.job.model,
            importance: plan.importance,
            solved: plan.solves,
            before: plan.before,
            bytes_before,
            bytes,
            parameters_before: plan.parameters_before,
            parameters,
            sparsity: 1.0 - plan.block_parameters as f64 / plan.block_parameters_before as f64,
            damages: plan.damages,
            predicted_divergence: plan.predicted_divergence,
            shape: plan.shape,
            layers,
            seconds,
            peak_memory_bytes,
            calibration_sha256: prepared.batches.map(|batches| batches.hash),
            tensors,
            evaluation,
        })
    }

    fn write(
        &self,
        walk: Option<(&Walk<'_>, &Work)>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let Self { prepared, profile, layout, plan } = self;
        let room = walk.map(|(_, work)| work.room()).transpose()?;
        let (output, layout) = (self.checkpoint_path(), layout.clone());
        let writer = PrunedWriter::create(&output, room.as_deref(), layout, prepared.existing)?;
        let rescaling = Rescaling::default();
        let reader = RowReader::new(&prepared.checkpoint, &rescaling);
        let surgeon = Surgeon {
            config: prepared.source.config(),
            reader: &reader,
            tensors: &prepared.tensors,
            plan,
            profile,
            choice: prepared.settings.choice(),
            writer: &writer,
            effort: self.effort(),
            work: walk.map(|(_, work)| work),
            state: Mutex::new(State::default()),
        };
        let done = match walk {
            Some((walk, _)) => gptq::quantize(walk, &surgeon)?,
            None => surgeon.cut_plainly(reporter)?,
        };
        let reports = surgeon.write_others(done, reporter)?;
        writer.finish(&self.config_json(), &prepared.checkpoint)?;
        Ok(reports)
    }

    /// What a user would type again. Paths and thread counts stay out.
    fn recipe(&self) -> Value {
        let settings = &self.prepared.settings;
        let mut recipe = json!({
            "prune": "structured",
            "importance": settings.importance,
            "solve": settings.solves,
            "compensate_bias": settings.compensates,
            "effort": self.effort(),
            "layers": self.plan.shape.layers,
            "key_value_heads": self.plan.shape.widths.key_value_heads,
            "query_heads": self.plan.shape.widths.query_heads(),
            "channels": self.plan.shape.widths.channels,
            "hidden_size": self.plan.shape.widths.hidden_size,
        });
        match &self.prepared.batches {
            Some(batches) => {
                settings.job.describe_samples(&mut recipe);
                recipe["calibration_sha256"] = batches.hash.as_str().into();
            }
            None => recipe["seed"] = settings.job.batches.seed.into(),
        }
        recipe
    }

    /// The checkpoint's `config.json` for what stays, with where its weights come from.
    fn config_json(&self) -> Value {
        let mut config = self.prepared.checkpoint.config_json().clone();
        if let Some(fields) = config.as_object_mut() {
            set_dimensions(fields, &self.plan.shape.dimensions(self.prepared.source.config()));
        }
        config[PROVENANCE] = json!({ "version": env!("CARGO_PKG_VERSION"), "recipe": self.recipe() });
        config
    }
}
