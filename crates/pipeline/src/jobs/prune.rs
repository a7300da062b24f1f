//! A checkpoint in, the same checkpoint with zeros among its weights out, and what was lost.

mod spread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use slmc_calibration::TokenBatches;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, ExistingTarget};
use slmc_model::WeightSource;
use slmc_quant::plan::Pattern;

pub use slmc_prune::{LayerSparsity, Method, PrunePlan, Scope, Sparsity, owl};

use super::as_gguf;
pub use super::as_gguf::AsGguf;
use super::directory::{PROVENANCE, may_replace};
use super::durable::Durable;
use super::evaluate::EvaluateOutcome;
use super::job::{self, JobSettings};
use super::quantize::{Effort, KeepZeros, Prepared, QuantizeSettings};
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq;
use crate::memory::{Demands, Footing, peak_resident_bytes};
use crate::packing::{PackTensors, pack_tensors};
use crate::progress::Reporter;
pub use crate::pruning::PrunedTensor;
use crate::pruning::{PrunedWriter, Pruner, Scores, prune_blocks, verify};
use crate::rescaling::Rescaling;
use crate::walker::Walk;
use crate::work::Work;

/// What to do.
#[derive(Clone, Debug)]
pub struct PruneSettings {
    /// From where, to which directory or GGUF file, calibrated and measured on what.
    pub job: JobSettings,
    /// How weights are chosen.
    pub method: Method,
    /// How many.
    pub sparsity: Sparsity,
    /// Among which.
    pub scope: Scope,
    /// How the share is spread over the layers.
    pub layer_sparsity: LayerSparsity,
    /// Where the dense model's statistics are kept, to be taken from there the next time; with them Wanda prunes by those.
    pub scores: Option<PathBuf>,
    /// How long SparseGPT looks for better weights.
    pub effort: Effort,
    /// Linear layers that stay whole.
    pub keep: Vec<Pattern>,
    /// The GGUF file that is wanted; `None` for a checkpoint, which keeps its element types.
    pub gguf: Option<AsGguf>,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct PruneOutcome {
    /// The directory or file written.
    pub output: PathBuf,
    /// The Ollama Modelfile beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelfile: Option<PathBuf>,
    /// The checkpoint that it was made from.
    pub source: PathBuf,
    /// How weights were chosen.
    pub method: Method,
    /// How many.
    pub sparsity: Sparsity,
    /// How they are spread over the layers.
    #[serde(skip_serializing_if = "LayerSparsity::is_uniform")]
    pub layer_sparsity: LayerSparsity,
    /// Bytes of the weight files: as many as before, but for a GGUF file of another type.
    pub bytes: u64,
    /// Bytes of the checkpoint's weight files.
    pub source_bytes: u64,
    /// Number of weights.
    pub total_weights: u64,
    /// Zeros counted in the written file, among the tensors that were pruned.
    pub pruned_weights: u64,
    /// Wall time of calibrating and writing.
    pub seconds: f64,
    /// Peak resident memory of calibrating and writing.
    pub peak_memory_bytes: Option<u64>,
    /// SHA-256 of the calibration tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_sha256: Option<String>,
    /// Every tensor.
    pub tensors: Vec<PrunedTensor>,
    /// The loss, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
}

/// Everything that is known before any weight is read.
pub struct PreparedPrune {
    settings: PruneSettings,
    checkpoint: Arc<Checkpoint>,
    source: Box<dyn WeightSource>,
    tensors: Vec<ExportTensor>,
    batches: Option<TokenBatches>,
    scores: Option<Scores>,
    is_spread: bool,
    layout: CheckpointPlan,
    existing: ExistingTarget,
    /// How memory is used.
    pub footing: Footing,
    /// The plan.
    pub plan: PrunePlan,
    /// Checkpoint tensors that are not part of the model and are left out.
    pub left_out: Vec<String>,
}

impl PreparedPrune {
    /// Resolves settings to a plan: opens the checkpoint, looks at the target, tokenizes the calibration text.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(settings: PruneSettings) -> Result<Self, PipelineError> {
        let (model, checkpoint) = settings.job.open()?;
        let existing =
            may_replace(&as_gguf::checkpoint_of(&settings.job.output, settings.gguf), &settings.job.model)?;
        let source = model.source()?;
        let PackTensors { tensors, facts, left_out } = pack_tensors(&checkpoint, source.config())?;
        let how = (settings.method, settings.sparsity, settings.scope);
        let plan = PrunePlan::new(how, &facts, &settings.keep)?;
        let layout = PrunedWriter::layout(&plan)?;
        let calibrates = settings.method.needs_calibration() || spread::needs_scores(&settings);
        let batches = settings.job.tokens(&model, source.config(), calibrates)?;
        let footing = settings.job.footing(demands(&settings), source.config(), batches.as_ref())?;
        Ok(Self {
            footing,
            settings,
            checkpoint,
            source,
            tensors,
            batches,
            scores: None,
            is_spread: false,
            layout,
            existing,
            plan,
            left_out,
        })
    }

    /// Bytes of the weight files to be written.
    ///
    /// # Errors
    /// A model that GGUF cannot carry, where it is to.
    pub fn output_bytes(&self) -> Result<u64, PipelineError> {
        match self.conversion(&self.settings.job.model) {
            // of the same shapes
            Some(conversion) => Ok(Prepared::new(conversion)?.output_bytes()),
            None => Ok(self.layout.total_bytes()),
        }
    }

    /// Calibrates, writes, counts what was written, measures.
    ///
    /// # Errors
    /// Reading, running, writing or measuring fails; the user cancels. Before the last step nothing is left behind but the
    /// work directory of what is finished; a directory that was written stays when measuring fails.
    pub fn run(self, reporter: &dyn Reporter) -> Result<PruneOutcome, PipelineError> {
        let started = Instant::now();
        let (left_out, config) = (self.left_out.as_slice(), self.source.config());
        job::warn((left_out, config), (&self.footing, self.batches.as_ref()), reporter);
        let this = self.spread(reporter)?;
        this.prune(started, reporter)
    }

    fn prune(self, started: Instant, reporter: &dyn Reporter) -> Result<PruneOutcome, PipelineError> {
        let (bytes, source_bytes) = (self.output_bytes()?, self.layout.total_bytes());
        let checkpoint = self.checkpoint_path();
        let durable = Durable {
            job: &self.settings.job,
            output: &checkpoint,
            demands: demands(&self.settings),
            recipe: &self.recipe().to_string(),
            pre: None,
            checkpoint: &self.checkpoint,
            source: self.source.as_ref(),
            batches: self.batches.as_ref().filter(|_| spread::walks(&self.settings)),
        };
        let reports =
            durable.run(&self.plan, self.footing, reporter, |walk, _| self.write(walk, reporter))?;
        let tensors = verify(&checkpoint, &self.plan, reports)?;
        let modelfile = match self.conversion(&checkpoint) {
            Some(conversion) => as_gguf::convert(conversion, reporter)?,
            None => None,
        };
        let (seconds, peak_memory_bytes) = (started.elapsed().as_secs_f64(), peak_resident_bytes());
        let Self { settings, plan, batches, .. } = self;
        let planned = tensors.iter().zip(&plan.tensors).filter(|(_, planned)| planned.pruned.is_some());
        let pruned_weights = planned.map(|(tensor, _)| tensor.zeros).sum();
        let evaluation = settings.job.evaluate(reporter)?;
        Ok(PruneOutcome {
            output: settings.job.output,
            modelfile,
            source: settings.job.model,
            method: settings.method,
            sparsity: settings.sparsity,
            layer_sparsity: plan.layer_sparsity,
            bytes,
            source_bytes,
            total_weights: plan.total_weights,
            pruned_weights,
            seconds,
            peak_memory_bytes,
            calibration_sha256: batches.map(|b| b.hash),
            tensors,
            evaluation,
        })
    }

    /// The checkpoint to write: the output, or one beside a GGUF file.
    fn checkpoint_path(&self) -> PathBuf {
        as_gguf::checkpoint_of(&self.settings.job.output, self.settings.gguf)
    }

    /// What makes the GGUF file of a checkpoint, if one is wanted.
    fn conversion(&self, checkpoint: &Path) -> Option<QuantizeSettings> {
        let files = (checkpoint, self.settings.job.output.as_path(), self.settings.gguf?);
        Some(as_gguf::conversion(files, (&self.checkpoint, self.recipe()), KeepZeros::Always))
    }

    fn write(
        &self,
        walk: Option<(&Walk<'_>, &Work)>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let room = walk.map(|(_, work)| work.room()).transpose()?;
        let writer = PrunedWriter::create(
            &self.checkpoint_path(),
            room.as_deref(),
            self.layout.clone(),
            self.existing,
        )?;
        let rescaling = Rescaling::default();
        let reader = RowReader::new(&self.checkpoint, &rescaling);
        let pruner = Pruner {
            config: self.source.config(),
            reader: &reader,
            tensors: &self.tensors,
            plan: &self.plan,
            writer: &writer,
            scores: self.scores.as_ref().filter(|_| self.settings.method == Method::Wanda && walk.is_none()),
            effort: self.settings.effort,
            work: walk.map(|(_, work)| work),
        };
        let done = match (walk, self.settings.method) {
            (Some((walk, _)), Method::SparseGpt) => gptq::quantize(walk, &pruner)?,
            (Some((walk, _)), Method::Wanda) => prune_blocks(walk, &pruner)?,
            _ => Vec::new(),
        };
        let reports = pruner.write_others(done, reporter)?;
        writer.finish(&self.config_json(), &self.checkpoint)?;
        Ok(reports)
    }

    /// What a user would type again. Paths and thread counts stay out.
    fn recipe(&self) -> Value {
        let settings = &self.settings;
        let mut recipe = json!({ "prune": settings.method, "sparsity": settings.sparsity });
        if !settings.keep.is_empty() {
            recipe["keep"] = settings.keep.iter().map(ToString::to_string).collect();
        }
        match settings.method {
            Method::SparseGpt => recipe["effort"] = json!(settings.effort),
            Method::Magnitude | Method::Wanda => recipe["scope"] = json!(settings.scope),
        }
        if !settings.layer_sparsity.is_uniform() {
            recipe["layer_sparsity"] = json!(settings.layer_sparsity);
        }
        if settings.method == Method::Wanda && settings.scores.is_some() {
            recipe["statistics"] = "of the dense model".into();
        }
        if let Some(batches) = &self.batches {
            settings.job.describe_samples(&mut recipe);
            recipe["calibration_sha256"] = batches.hash.as_str().into();
        }
        recipe
    }

    /// The checkpoint's `config.json`, with where its weights come from.
    fn config_json(&self) -> Value {
        let mut config = self.checkpoint.config_json().clone();
        config[PROVENANCE] = json!({ "version": env!("CARGO_PKG_VERSION"), "recipe": self.recipe() });
        config
    }
}

/// What decides how much memory the job needs: as much as quantization by the method that walks in the same way.
fn demands(settings: &PruneSettings) -> Demands {
    let as_heavy_as = match settings.method {
        Method::Magnitude if !spread::needs_scores(settings) => slmc_quant::Method::Rtn,
        Method::Magnitude | Method::Wanda => slmc_quant::Method::Imatrix,
        Method::SparseGpt => slmc_quant::Method::Gptq,
    };
    Demands::new(as_heavy_as, settings.effort, None)
}
