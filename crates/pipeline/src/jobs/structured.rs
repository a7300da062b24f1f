//! A checkpoint in, a smaller checkpoint of the same architecture out, and what was lost.

mod outcome;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use slmc_calibration::TokenBatches;
use slmc_checkpoint::config::set_dimensions;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, ExistingTarget};
use slmc_model::{CheckpointSource, ModelError, WeightSource};
use slmc_quant::plan::IntFacts;

pub use outcome::{Layer, StructuredOutcome};
pub use slmc_prune::structured::{Kind, StructuredImportance, Widths};

use super::as_gguf;
use super::directory::{PROVENANCE, may_replace};
use super::durable::{self, Durable};
use super::evaluate::{Measure, evaluate_written};
use super::quantize::{
    BatchOptions, ByteSize, Device, Effort, KeepZeros, Mix, QuantizeSettings, TextSource, summary,
};
use crate::PipelineError;
use crate::allocation::split;
use crate::batches::{calibration_batches, warn_of_missing};
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq;
use crate::hidden::Storage;
use crate::memory::{Footing, peak_resident_bytes};
use crate::model_file::ModelFile;
use crate::packing::{PackTensors, pack_tensors};
use crate::progress::Reporter;
use crate::pruning::PrunedWriter;
use crate::rescaling::Rescaling;
use crate::scores::{Identity, ScoreFile};
pub use crate::structured::{Asked, Budget, Damage, PlannedCut, Shape, StructuredPlan};
use crate::structured::{
    Choice, Cutting, Profile, Ranked, Sizing, State, StreamDetail, Surgeon, cuts, measure, profile,
    ranked_dimensions,
};
use crate::walker::Walk;
use crate::work::Work;

/// What to do.
#[derive(Clone, Debug)]
pub struct StructuredSettings {
    /// The checkpoint.
    pub model: PathBuf,
    /// Whether the text model of one for several modalities is meant.
    pub text_only: bool,
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
    /// Calibration text; empty for the bundled corpus.
    pub calibration: Vec<TextSource>,
    /// Calibration samples, their length and seed.
    pub batches: BatchOptions,
    /// Where the model runs during calibration.
    pub device: Device,
    /// The directory to write, or the GGUF file.
    pub output: PathBuf,
    /// The type of a GGUF file; `None` for a checkpoint, which keeps its element types.
    pub gguf: Option<Mix>,
    /// How to measure the result; `None` not to.
    pub measure: Option<Measure>,
    /// Resident memory that calibrating and writing may take; `None` for what the machine has.
    pub max_memory: Option<ByteSize>,
    /// Whether to go on with what an earlier run of the same settings left.
    pub resume: bool,
}

/// Everything that is known before the model is run.
pub struct PreparedStructured {
    settings: StructuredSettings,
    checkpoint: Arc<Checkpoint>,
    source: Box<dyn WeightSource>,
    tensors: Vec<ExportTensor>,
    facts: Vec<IntFacts>,
    batches: TokenBatches,
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
        let (model, checkpoint) = ModelFile::open_original(&settings.model, settings.text_only)?;
        let written = as_gguf::checkpoint_of(&settings.output, settings.gguf);
        let existing = may_replace(&written, &settings.model)?;
        let source = model.source()?;
        let PackTensors { tensors, facts, left_out } = pack_tensors(&checkpoint, source.config())?;
        let batches = calibration_batches(&model, source.config(), &settings.calibration, &settings.batches)?;
        let how = (slmc_quant::Method::Gptq, settings.effort, None);
        let footing = durable::footing(how, settings.max_memory, source.config(), Some(&batches), None)?;
        let mut this = Self {
            settings,
            checkpoint,
            source,
            tensors,
            facts,
            batches,
            existing,
            left_out,
            detail: StreamDetail::Nothing,
            started,
            footing,
        };
        let narrows = this.sizing()?.may_narrow();
        if narrows {
            let hessians = this.choice().needs_hessians();
            this.detail = if hessians { StreamDetail::Hessians } else { StreamDetail::Moments };
        }
        if narrows && this.settings.solves && this.settings.effort == Effort::Fast {
            // the original runs beside: see `PlannedStructured::effort`
            let (how, limit) = ((how.0, Effort::Balanced, how.2), this.settings.max_memory);
            this.footing = durable::footing(how, limit, this.source.config(), Some(&this.batches), None)?;
        }
        Ok(this)
    }

    fn sizing(&self) -> Result<Sizing<'_>, PipelineError> {
        let (settings, config) = (&self.settings, self.source.config());
        if let Some(layer) = settings.keep_layers.iter().find(|layer| **layer >= config.num_hidden_layers) {
            let blocks = config.num_hidden_layers;
            return Err(PipelineError::CannotPrune {
                reason: format!(
                    "there is no layer {layer} to keep: they are numbered from 0 to {}",
                    blocks - 1
                ),
            });
        }
        let bytes: u64 = self
            .facts
            .iter()
            .map(|t| t.shape.iter().product::<usize>() as u64 * t.dtype.bytes() as u64)
            .sum();
        let parameter_bytes = bytes as f64 / config.parameters() as f64;
        Sizing::new(
            config,
            (settings.asked, settings.budget, &settings.kinds),
            (parameter_bytes, settings.compensates),
            (settings.keep_layers.len(), settings.multiple),
        )
    }

    /// Looks at the whole model, measures where a budget is to be spread, and chooses what stays: a forward pass over the calibration
    /// text, and about as much again for every kind.
    ///
    /// # Errors
    /// The model cannot be run; no size fits the budget; nothing would go; the user cancels.
    pub fn planned(self, reporter: &dyn Reporter) -> Result<PlannedStructured, PipelineError> {
        self.warn(reporter);
        let device = self.settings.device.burn().map_err(ModelError::from)?;
        let directory = self.settings.output.parent().filter(|directory| !directory.as_os_str().is_empty());
        let storage = match self.footing.spill {
            true => Storage::File(directory.unwrap_or(Path::new(".")).to_owned()),
            false => Storage::Memory,
        };
        let walk = Walk {
            batch_tokens: self.footing.batch_tokens,
            storage: &storage,
            ..Walk::new(self.source.as_ref(), &self.batches.tokens, &device, reporter)
        };
        let profile = self.profile(&walk)?;
        let config = self.source.config();
        let (blocks, choice) = (profile.dispensable(&self.settings.keep_layers), self.choice());
        let dimensions = match self.detail {
            StreamDetail::Nothing => Vec::new(),
            _ => ranked_dimensions(self.source.as_ref(), &profile, choice.importance, choice.seed)?,
        };
        let ranked = Ranked { blocks: &blocks, dimensions: &dimensions };
        let sizing = self.sizing()?;
        let removals = sizing.removals();
        let damages =
            match removals.iter().map(|(kind, _)| kind).collect::<std::collections::HashSet<_>>().len() {
                0 | 1 => Vec::new(),
                _ => {
                    let (windows, sequences) = split(&self.batches.tokens);
                    let walk = Walk { sequences: &sequences, ..walk };
                    let StructuredSettings { solves, compensates: biases, .. } = self.settings;
                    let how = Cutting { choice, solves, biases, profile: &profile, ranked };
                    measure(&walk, &windows, &removals, how)?
                }
            };
        let chosen = sizing.choose(&damages)?;
        let mut shape = Shape::new(chosen.widths, config, ranked);
        shape.biases = self.settings.compensates;
        let before = Shape::widths_of(config);
        let (parameters_before, block_parameters_before) = sizing.parameters(before);
        let (parameters, block_parameters) = sizing.parameters(chosen.widths);
        let plan = StructuredPlan {
            importance: self.settings.importance,
            solves: self.settings.solves,
            before,
            tensors: cuts(config, &shape, &self.facts),
            shape,
            predicted_divergence: (!damages.is_empty()).then_some(chosen.predicted),
            damages,
            parameters_before,
            parameters,
            block_parameters_before,
            block_parameters,
        };
        let specs = plan.tensors.iter().map(PlannedCut::spec).collect();
        let layout = CheckpointPlan::new(specs, CheckpointPlan::DEFAULT_SHARD_BYTES)?;
        Ok(PlannedStructured { prepared: self, profile, layout, plan })
    }

    fn profile(&self, walk: &Walk<'_>) -> Result<Profile, PipelineError> {
        let (path, config) = (self.settings.scores.as_ref(), self.source.config());
        let Some(path) = path else { return profile(walk, self.detail) };
        let (config_json, device) = (self.checkpoint.config_json(), self.settings.device.name());
        let identity = Identity::new(self.source.as_ref(), config_json, &self.batches.hash, device)?;
        let mut file = ScoreFile::open(path, identity)?;
        if let Some(profile) = Profile::find(&file, config, self.detail) {
            return Ok(profile);
        }
        let profile = profile(walk, self.detail)?;
        profile.put(&mut file);
        file.write(path)?;
        Ok(profile)
    }

    fn choice(&self) -> Choice {
        Choice {
            importance: self.settings.importance,
            rounds: rounds(self.settings.effort),
            seed: self.settings.batches.seed,
        }
    }

    fn warn(&self, reporter: &dyn Reporter) {
        if !self.left_out.is_empty() {
            reporter.warn(&format!(
                "{} tensors of the checkpoint are not part of a {} model and are left out: {}",
                self.left_out.len(),
                self.source.config().arch.model_type,
                summary(&self.left_out),
            ));
        }
        durable::warn_of_memory(&self.footing, reporter);
        warn_of_missing(&self.batches, reporter);
    }
}

impl PlannedStructured {
    /// How memory is used.
    pub fn footing(&self) -> &Footing {
        &self.prepared.footing
    }

    /// Bytes of the weight files to be written, or of a GGUF file's tensors.
    pub fn output_bytes(&self) -> u64 {
        let Some(mix) = self.prepared.settings.gguf else { return self.layout.total_bytes() };
        let bytes = |cut: &PlannedCut| match (cut.shape.len(), mix) {
            (1, _) | (_, Mix::F32) => 4 * cut.weights(),
            _ => 2 * cut.weights(),
        };
        self.plan.tensors.iter().map(bytes).sum()
    }

    /// The checkpoint to write: the output, or one beside a GGUF file.
    fn checkpoint_path(&self) -> PathBuf {
        let settings = &self.prepared.settings;
        as_gguf::checkpoint_of(&settings.output, settings.gguf)
    }

    /// Whether the model is walked through to be cut: where what stays is solved for, and where Hessians decide what goes.
    fn walks(&self) -> bool {
        let (before, after) = (self.plan.before, self.plan.shape.widths);
        let inside = [Kind::KeyValueHeads, Kind::QueryHeads, Kind::Channels];
        let chooses = inside.iter().any(|kind| after.of(*kind) < before.of(*kind));
        self.plan.solves || (chooses && self.prepared.choice().needs_hessians())
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
        let layers = self.profile.layers.iter().enumerate();
        layers.map(|(layer, of)| Layer { layer, influence: of.influence, kept: kept(layer) }).collect()
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
            output: &checkpoint,
            method: slmc_quant::Method::Gptq,
            effort: self.effort(),
            run_len: None,
            recipe: &self.recipe().to_string(),
            device: settings.device,
            pre: None,
            checkpoint: &prepared.checkpoint,
            source: prepared.source.as_ref(),
            batches: Some(&prepared.batches).filter(|_| self.walks()),
            max_memory: settings.max_memory,
            resume: settings.resume,
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
        if let Some(mix) = settings.gguf {
            let made = (&prepared.checkpoint, self.recipe());
            let conversion: QuantizeSettings =
                as_gguf::conversion((&checkpoint, &settings.output, mix), made, KeepZeros::Never);
            as_gguf::convert(conversion, reporter)?;
        }
        let (seconds, peak_memory_bytes) = (prepared.started.elapsed().as_secs_f64(), peak_resident_bytes());
        let (bytes, layers) = (self.output_bytes(), self.layers());
        let evaluation =
            evaluate_written(&settings.output, Some(&settings.model), settings.measure.clone(), reporter)?;
        let mut bytes_before = 0;
        for path in prepared.checkpoint.weight_files() {
            bytes_before += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        }
        let Self { prepared, plan, .. } = self;
        Ok(StructuredOutcome {
            output: prepared.settings.output,
            source: prepared.settings.model,
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
            calibration_sha256: prepared.batches.hash,
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
            choice: prepared.choice(),
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
        json!({
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
            "samples": settings.batches.samples,
            "seq_len": settings.batches.seq_len,
            "seed": settings.batches.seed,
            "calibration_sha256": self.prepared.batches.hash,
        })
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

/// After how many removals the costs of what is left are told anew: about so many times a block.
const fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Fast => 4,
        Effort::Balanced => 16,
        Effort::Best => 64,
    }
}
