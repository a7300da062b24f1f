//! The main job: a checkpoint in, a GGUF file out, and what was lost.

mod allocate;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use slmc_calibration::TokenBatches;
use slmc_checkpoint::Checkpoint;
use slmc_gguf::container::{Layout, Metadata, Writer};
use slmc_gguf::vocabulary::Vocabulary;
use slmc_model::{ModelConfig, WeightSource};
use slmc_quant::PlanRequest;
use slmc_quant::awq::GridPlan;
use slmc_quant::gptq::Order;
use slmc_quant::plan::{Pattern, TypeOverride};

pub use crate::export::{OutputError, TensorReport};
pub use crate::memory::ByteSize;
pub use crate::zeros::KeptZeros;
pub use slmc_calibration::{BatchOptions, TextSource};
pub use slmc_model::Device;
pub use slmc_quant::plan::{KeepZeros, Plan, PlannedTensor, Prediction, Target};
pub use slmc_quant::{Effort, Method, Mix, Rounding};

use super::directory::PROVENANCE;
use super::durable::{self, Durable};
use super::evaluate::{Measure, evaluate_written};
pub use super::outcome::{QuantizeOutcome, Types};
use crate::PipelineError;
use crate::allocation::starting_mix;
use crate::awq::{self, Calibrated};
use crate::batches::{calibration_batches, warn_of_missing};
use crate::export::{
    ExportTensor, Provenance, RowReader, export_tensors, metadata, model_facts, write_tensors,
};
use crate::gptq::{self, Rounder};
use crate::imatrix::{self, ImportanceFile};
use crate::memory::{Footing, peak_resident_bytes};
use crate::model_file::ModelFile;
use crate::modelfile::Modelfile;
use crate::progress::Reporter;
use crate::rescaling::RescaledSource;
use crate::walker::Walk;
use crate::work::Work;
use crate::zeros;

/// What to do.
#[derive(Clone, Debug)]
pub struct QuantizeSettings {
    /// The checkpoint.
    pub model: PathBuf,
    /// Whether the text model of one for several modalities is meant.
    pub text_only: bool,
    /// What slmc made the checkpoint from, where that is not to be read from the checkpoint itself.
    pub made_from: Option<MadeFrom>,
    /// How values are chosen.
    pub method: Method,
    /// How long to look for better values than the first ones found.
    pub effort: Effort,
    /// Whether error feedback rounds blocks with large activations first.
    pub act_order: bool,
    /// Which types.
    pub mix: Mix,
    /// Types by measured cost instead of the mix's, and what they shall reach.
    pub target: Option<Target>,
    /// Types of single tensors.
    pub overrides: Vec<TypeOverride>,
    /// Tensors kept in the checkpoint's precision.
    pub keep: Vec<Pattern>,
    /// Whether zeros among the weights stay zeros.
    pub keep_zeros: KeepZeros,
    /// An importance matrix to take instead of calibrating; [`Method::Imatrix`] alone can use one.
    pub imatrix: Option<PathBuf>,
    /// Calibration text; empty for the bundled corpus.
    pub calibration: Vec<TextSource>,
    /// Calibration samples, their length and seed.
    pub batches: BatchOptions,
    /// Where the model runs during calibration.
    pub device: Device,
    /// Name of the pre-tokenizer, where it is not recognized.
    pub pre: Option<String>,
    /// The file to write.
    pub output: PathBuf,
    /// Whether to write an Ollama Modelfile beside it.
    pub modelfile: bool,
    /// How to measure the result; `None` not to.
    pub measure: Option<Measure>,
    /// Resident memory that calibrating and writing may take; `None` for what the machine has.
    pub max_memory: Option<ByteSize>,
    /// Whether to go on with what an earlier run of the same settings left.
    pub resume: bool,
}

/// The model behind a checkpoint that was only made to be converted.
#[derive(Clone, Debug)]
pub struct MadeFrom {
    /// Its name.
    pub name: String,
    /// How the checkpoint was made of it.
    pub recipe: Value,
}

impl QuantizeSettings {
    /// A checkpoint as a GGUF file of a mix's types: rounded to nearest, without calibration, and nothing measured.
    pub fn conversion(model: PathBuf, mix: Mix, output: PathBuf, pre: Option<String>) -> Self {
        Self {
            model,
            text_only: false,
            made_from: None,
            method: Method::Rtn,
            effort: Effort::default(),
            act_order: false,
            mix,
            target: None,
            overrides: Vec::new(),
            keep: Vec::new(),
            keep_zeros: KeepZeros::Never,
            imatrix: None,
            calibration: Vec::new(),
            batches: BatchOptions::default(),
            device: Device::Cpu,
            pre,
            output,
            modelfile: false,
            measure: None,
            max_memory: None,
            resume: false,
        }
    }
}

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
    /// Resolves settings to a plan: opens the checkpoint, carries the vocabulary over, tokenizes the calibration text.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(mut settings: QuantizeSettings) -> Result<Self, PipelineError> {
        let (model, checkpoint) = ModelFile::open_original(&settings.model, settings.text_only)?;
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
        let batches = match calibrates || settings.target.is_some() {
            true => Some(calibration_batches(&model, &config, &settings.calibration, &settings.batches)?),
            false => None,
        };
        let name = settings.made_from.as_ref().map_or_else(|| model.name(), |from| from.name.clone());
        let provenance = provenance(&settings, &checkpoint, batches.as_ref(), imatrix.as_ref());
        let metadata = metadata(&name, &config, &vocabulary, settings.mix, &provenance);
        let layout = lay_out(&settings, metadata, &plan)?;
        let modelfile = match settings.modelfile {
            true => {
                let generation = checkpoint.generation_config()?;
                Some(Modelfile::new(&settings.output, &vocabulary, generation.as_ref()))
            }
            false => None,
        };
        let source_bytes = model.bytes();
        let footing = durable::footing(
            (settings.method, settings.effort, plan.run_len()),
            settings.max_memory,
            &config,
            batches.as_ref(),
            None,
        )?;
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
            output: &self.settings.output,
            method: self.settings.method,
            effort: self.settings.effort,
            run_len: self.plan.run_len(),
            recipe: &self.provenance.recipe,
            device: self.settings.device,
            pre: self.settings.pre.as_deref(),
            checkpoint: &self.checkpoint,
            source: self.source.as_ref(),
            batches: self.batches.as_ref(),
            max_memory: self.settings.max_memory,
            resume: self.settings.resume,
        };
        let (calibrated, mut tensors) =
            durable.run(&self.plan, self.footing, reporter, |walk, footing| {
                let calibrated = self.calibrate(walk.map(|(walk, _)| walk), walk.map(|(_, work)| work))?;
                let tensors = self.write(&calibrated, walk, footing, reporter)?;
                Ok((calibrated, tensors))
            })?;
        let modelfile = self.modelfile.map(|modelfile| modelfile.write(&self.settings.output)).transpose()?;
        let seconds = started.elapsed().as_secs_f64();
        let peak_memory_bytes = peak_resident_bytes();
        let planned = self.plan.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.zeros));
        zeros::count(self.source.as_ref(), &self.settings.output, planned.zip(&mut tensors))?;
        let evaluation = evaluate_written(
            &self.settings.output,
            Some(&self.settings.model),
            self.settings.measure.clone(),
            reporter,
        )?;
        Ok(QuantizeOutcome {
            output: self.settings.output,
            modelfile,
            source: self.settings.model,
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
        if !self.left_out.is_empty() {
            reporter.warn(&format!(
                "{} tensors of the checkpoint are not part of a {} model and are left out: {}",
                self.left_out.len(),
                self.config().arch.model_type,
                summary(&self.left_out),
            ));
        }
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
        let writer = Writer::create(&self.settings.output, self.layout.clone())?;
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
        .map_err(|source| PipelineError::Layout { path: settings.output.clone(), source })
}

pub(super) fn summary(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

/// Whether an importance matrix is all that the method needs to know of the activations.
fn check_takes_imatrix(method: Method) -> Result<(), PipelineError> {
    let reason = match method {
        Method::Imatrix => return Ok(()),
        Method::Rtn => "it weighs no errors, so the file would change nothing",
        Method::Awq => "it searches its scales on the activations themselves, which the file does not hold",
        Method::Gptq => {
            "it needs the whole matrix of the inputs' second moments, of which the file holds the diagonal"
        }
        Method::AwqGptq => "it needs the activations themselves, which the file does not hold",
    };
    Err(PipelineError::ImatrixMethod { method, reason })
}

/// The recipe that goes into the file: what a user would type again. Paths and thread counts stay out.
fn provenance(
    settings: &QuantizeSettings,
    checkpoint: &Checkpoint,
    batches: Option<&TokenBatches>,
    imatrix: Option<&ImportanceFile>,
) -> Provenance {
    let mut recipe = match settings.target {
        Some(Target::Mix) => {
            json!({ "method": settings.method, "mix": settings.mix, "fallback": "measured" })
        }
        Some(target) => json!({ "method": settings.method, "target": target }),
        None => json!({ "method": settings.method, "mix": settings.mix }),
    };
    // what slmc made the checkpoint from, pruning for one
    let kept = checkpoint.config_json().get(PROVENANCE).and_then(|made| made.get("recipe"));
    if let Some(source) = settings.made_from.as_ref().map(|from| &from.recipe).or(kept) {
        recipe["source"] = source.clone();
    }
    if !settings.overrides.is_empty() {
        recipe["tensor_type"] = settings.overrides.iter().map(ToString::to_string).collect();
    }
    if !settings.keep.is_empty() {
        recipe["keep"] = settings.keep.iter().map(ToString::to_string).collect();
    }
    if settings.method.rounding() == Rounding::Feedback {
        recipe["effort"] = json!(settings.effort);
        if settings.act_order {
            recipe["act_order"] = true.into();
        }
    }
    if batches.is_some() {
        recipe["samples"] = settings.batches.samples.into();
        recipe["seq_len"] = settings.batches.seq_len.into();
        recipe["seed"] = settings.batches.seed.into();
    }
    if settings.keep_zeros != KeepZeros::Auto {
        recipe["keep_zeros"] = json!(settings.keep_zeros);
    }
    if let Some(file) = imatrix {
        recipe["imatrix"] = file.provenance();
    }
    let calibration_sha256 = batches.map(|b| b.hash.clone()).or_else(|| imatrix?.calibration_sha256.clone());
    Provenance { recipe: recipe.to_string(), calibration_sha256 }
}
