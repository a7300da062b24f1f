//! The main job: a checkpoint in, a GGUF file out, and what was lost.

mod allocate;
mod provenance;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use slmc_calibration::TokenBatches;
use slmc_checkpoint::Checkpoint;
use slmc_gguf::container::{Layout, Metadata, Writer};
use slmc_gguf::vocabulary::Vocabulary;
use slmc_matmul::Precision;
use slmc_model::{ModelConfig, WeightSource};
use slmc_quant::PlanRequest;
use slmc_quant::awq::GridPlan;
use slmc_quant::gptq::Order;

pub use crate::export::{OutputError, TensorReport};
pub use crate::memory::ByteSize;
pub use crate::zeros::KeptZeros;
pub use settings::{MadeFrom, QuantizeSettings};
pub use slmc_calibration::{BatchOptions, TextSource};
pub use slmc_model::Device;
pub use slmc_quant::plan::{KeepZeros, Plan, PlannedTensor, Prediction, Target};
pub use slmc_quant::{Effort, Method, Mix, Rounding};

use super::durable::{self, Durable};
pub use super::job::JobSettings;
use super::job::warn_of_left_out;
pub use super::outcome::{QuantizeOutcome, Types};
use provenance::{check_takes_imatrix, provenance};

use crate::PipelineError;
use crate::allocation::starting_mix;
use crate::awq::{self, Calibrated};
use crate::batches::warn_of_missing;
use crate::export::{
    ExportTensor, Provenance, RowReader, export_tensors, metadata, model_facts, write_tensors,
};
use crate::gptq::{self, Rounder};
use crate::imatrix::{self, ImportanceFile};
use crate::memory::{Demands, Footing, peak_resident_bytes};
use crate::modelfile::Modelfile;
use crate::progress::Reporter;
use crate::rescaling::RescaledSource;
use crate::walker::Walk;
use crate::work::Work;
use crate::zeros;

/// Everything that is known before any weight is read.
pub struct Prepared {
    settings: QuantizeSettings,
    checkpoint: Arc<Checkpoint>,
    source: Box<dyn WeightSource>,
    tensors: Vec<ExportTensor>,
    vocabulary: Vocabulary,
    name: String,
    batches: Option<TokenBatches>,
    imatrix: Option<ImportanceFile>,
    provenance: Provenance,
    modelfile: Option<Modelfile>,
    layout: Layout,
    /// Shares of zeros, by GGUF name.
    zero_shares: HashMap<String, f64>,
    /// How memory is used.
    pub footing: Footing,
    /// The plan.
    pub plan: Plan,
    /// Checkpoint tensors that are not part of the model and are left out.
    pub left_out: Vec<String>,
    /// Bytes of the checkpoint's weight files.
    pub source_bytes: u64,
}

impl Prepared {
    /// What calibration multiplies in; f32 without calibration.
    pub fn precision(&self) -> Precision {
        if self.batches.is_some() { self.settings.job.precision } else { Precision::F32 }
    }

    /// Resolves settings to a plan: opens the checkpoint, carries the vocabulary over, tokenizes the calibration text.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(mut settings: QuantizeSettings) -> Result<Self, PipelineError> {
        let (model, checkpoint) = settings.job.open()?;
        let source = model.source()?;
        let config = source.config().clone();
        if let Some(reason) = config.gguf_obstacle() {
            let (path, model_type) = (checkpoint.dir().to_path_buf(), config.arch.model_type);
            return Err(PipelineError::GgufObstacle { path, model_type, reason });
        }
        let vocabulary = model.vocabulary(config.vocab_size, settings.pre.as_deref())?;
        let (tensors, left_out) = export_tensors(&checkpoint, &config)?;
        let facts: Vec<_> = tensors.iter().map(ExportTensor::facts).collect();
        if let Some(target) = settings.target {
            settings.mix = starting_mix(target, settings.mix, config.parameters() as u64);
        }
        let request = PlanRequest {
            overrides: settings.overrides.clone(),
            keep: settings.keep.clone(),
            ..PlanRequest::new(settings.mix, settings.method)
        };
        let mut plan = Plan::new(&model_facts(&config), &facts, &request)?;
        if settings.target == Some(Target::Mix) && plan.tensors.iter().all(|tensor| tensor.fallback.is_none())
        {
            settings.target = None; // every shape fits: there is nothing to choose
        }
        let matrices = plan.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
        let matrices = matrices.map(|tensor| tensor.name.as_str());
        let zero_shares = zeros::shares(source.as_ref(), matrices, settings.keep_zeros)?;
        plan.plan_zeros(&zero_shares, settings.keep_zeros);
        if settings.target.is_none() {
            plan.check_zeros(settings.keep_zeros)?;
        }
        let imatrix = match &settings.imatrix {
            Some(path) => {
                check_takes_imatrix(settings.method)?;
                Some(ImportanceFile::open(path, &config, &plan)?)
            }
            None => None,
        };
        let calibrates = settings.method.needs_calibration() && imatrix.is_none();
        let batches = settings.job.tokens(&model, &config, calibrates || settings.target.is_some())?;
        let name = settings.made_from.as_ref().map_or_else(|| model.name(), |from| from.name.clone());
        let provenance = provenance(&settings, &checkpoint, batches.as_ref(), imatrix.as_ref());
        let metadata = metadata(&name, &config, &vocabulary, settings.mix, &provenance);
        let layout = lay_out(&settings, metadata, &plan)?;
        let modelfile = match settings.modelfile {
            true => {
                let generation = checkpoint.generation_config()?;
                Some(Modelfile::new(&settings.job.output, &vocabulary, generation.as_ref()))
            }
            false => None,
        };
        let source_bytes = model.bytes();
        let demands = Demands::new(settings.method, settings.effort, plan.run_len());
        let footing = settings.job.footing(demands, &config, batches.as_ref())?;
        Ok(Self {
            footing,
            settings,
            checkpoint,
            source,
            tensors,
            vocabulary,
            name,
            batches,
            imatrix,
            provenance,
            modelfile,
            layout,
            zero_shares,
            plan,
            left_out,
            source_bytes,
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    /// The vocabulary as GGUF gets it.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Bytes of the file to be written.
    pub fn output_bytes(&self) -> u64 {
        self.layout.total_bytes()
    }

    /// Calibrates, writes, measures.
    ///
    /// # Errors
    /// Reading, running, writing or measuring fails; the user cancels. Before the last step nothing is left behind but the
    /// work directory of what is finished; a file that was written stays when measuring fails.
    pub fn run(self, reporter: &dyn Reporter) -> Result<QuantizeOutcome, PipelineError> {
        let started = Instant::now();
        self.warn(reporter);
        let this = self.allocated(reporter)?;
        this.quantize(started, reporter)
    }

    fn quantize(self, started: Instant, reporter: &dyn Reporter) -> Result<QuantizeOutcome, PipelineError> {
        let bytes = self.output_bytes();
        let durable = Durable {
            job: &self.settings.job,
            output: &self.settings.job.output,
            demands: Demands::new(self.settings.method, self.settings.effort, self.plan.run_len()),
            recipe: &self.provenance.recipe,
            pre: self.settings.pre.as_deref(),
            checkpoint: &self.checkpoint,
            source: self.source.as_ref(),
            batches: self.batches.as_ref(),
        };
        let (calibrated, mut tensors) =
            durable.run(&self.plan, self.footing, reporter, |walk, footing| {
                let calibrated = self.calibrate(walk.map(|(walk, _)| walk), walk.map(|(_, work)| work))?;
                let tensors = self.write(&calibrated, walk, footing, reporter)?;
                Ok((calibrated, tensors))
            })?;
        let modelfile =
            self.modelfile.map(|modelfile| modelfile.write(&self.settings.job.output)).transpose()?;
        let seconds = started.elapsed().as_secs_f64();
        let peak_memory_bytes = peak_resident_bytes();
        let planned = self.plan.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.zeros));
        zeros::count(self.source.as_ref(), &self.settings.job.output, planned.zip(&mut tensors))?;
        let evaluation = self.settings.job.evaluate(reporter)?;
        Ok(QuantizeOutcome {
            output: self.settings.job.output,
            modelfile,
            source: self.settings.job.model,
            method: self.settings.method,
            types: Types::Mix(self.settings.mix),
            prediction: self.plan.prediction,
            bytes,
            source_bytes: self.source_bytes,
            bits_per_weight: self.plan.bits_per_weight,
            seconds,
            peak_memory_bytes,
            calibration_sha256: self.provenance.calibration_sha256,
            tensors,
            groups: calibrated.groups,
            evaluation,
        })
    }

    fn warn(&self, reporter: &dyn Reporter) {
        if let Some(window) = self.config().window_lost_in_gguf() {
            reporter.warn(&format!(
                "llama.cpp runs {} models without their attention window of {window} tokens: longer texts come out otherwise than the \
                 original's",
                self.config().arch.model_type
            ));
        }
        warn_of_left_out(&self.left_out, self.config(), reporter);
        for note in self.vocabulary.notes() {
            reporter.warn(&note.to_string());
        }
        if let Some(reason) = self.modelfile.as_ref().and_then(|modelfile| modelfile.left_out.as_ref()) {
            reporter.warn(&format!("the Modelfile has no TEMPLATE: {reason}"));
        }
        durable::warn_of_memory(&self.footing, reporter);
        if let Some(lost) = self.plan.zeros_lost().filter(|_| self.settings.target.is_none()) {
            reporter.warn(&lost.to_string());
        }
        if let Some(batches) = &self.batches {
            warn_of_missing(batches, reporter);
        }
        if let Some(tensor) = self.imatrix.as_ref().and_then(|file| file.plain_head.as_ref()) {
            reporter.warn(&format!(
                "the importance matrix has no entry for {tensor}, which is rounded plainly; slmc imatrix writes one"
            ));
        }
    }

    /// Scales and importances, as far as the method needs any before the first tensor is rounded.
    fn calibrate(&self, walk: Option<&Walk<'_>>, work: Option<&Work>) -> Result<Calibrated, PipelineError> {
        let method = self.settings.method;
        if let Some(file) = &self.imatrix {
            return Ok(Calibrated { importance: file.importance.clone(), ..Calibrated::default() });
        }
        match walk {
            Some(walk) if method.rescales() => awq::calibrate(walk, &self.plan, work),
            Some(walk) if method.rounding() == Rounding::Weighted => {
                // the same numbers as through a file
                let entries = imatrix::gather(walk, work)?;
                Ok(Calibrated { importance: imatrix::importance(&entries), ..Calibrated::default() })
            }
            _ => Ok(Calibrated::default()),
        }
    }

    /// Writes the file; a run that is calibrated has a walk and a work directory.
    fn write(
        &self,
        calibrated: &Calibrated,
        walk: Option<(&Walk<'_>, &Work)>,
        footing: &Footing,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let writer = Writer::create(&self.settings.job.output, self.layout.clone())?;
        let reader = RowReader::new(&self.checkpoint, &calibrated.rescaling);
        let done = match walk {
            Some((walk, work)) if self.settings.method.rounding() == Rounding::Feedback => {
                let source = RescaledSource::new(self.source.as_ref(), &calibrated.rescaling);
                let (config, tensors) = (self.config(), &self.tensors);
                let (plan, effort, chunk_weights) = (&self.plan, self.settings.effort, footing.chunk_weights);
                let (reader, writer) = (&reader, &writer);
                let order = if self.settings.act_order { Order::Activation } else { Order::Natural };
                let rounder =
                    Rounder { config, reader, tensors, plan, writer, effort, order, chunk_weights, work };
                gptq::quantize(&Walk { source: &source, ..*walk }, &rounder)?
            }
            _ => Vec::new(),
        };
        let reports = write_tensors(&reader, &self.tensors, &self.plan, calibrated, done, &writer, reporter)?;
        writer.finish()?;
        Ok(reports)
    }
}

fn lay_out(settings: &QuantizeSettings, metadata: Metadata, plan: &Plan) -> Result<Layout, PipelineError> {
    let planned = plan.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    Layout::new(metadata, planned)
        .map_err(|source| PipelineError::Layout { path: settings.job.output.clone(), source })
}
