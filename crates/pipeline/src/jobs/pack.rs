//! A checkpoint in, the same checkpoint with packed integers for its linear layers out, and what was lost.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use slmc_calibration::TokenBatches;
use slmc_checkpoint::packed::quantization_config;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, ExistingTarget};
use slmc_model::WeightSource;
use slmc_quant::awq::GridPlan;
use slmc_quant::gptq::{IntOptions, Order};
use slmc_quant::int::ScaleRule;
use slmc_quant::plan::{KeepZeros, Pattern};
use slmc_quant::{IntPlan, Rounding};

pub use slmc_quant::IntScheme;
pub use slmc_quant::int::GroupSize;

use super::directory::{PROVENANCE, may_replace};
use super::durable::Durable;
use super::job::{self, JobSettings};
use super::quantize::{Effort, Method, QuantizeOutcome, Types};
use crate::PipelineError;
use crate::awq::{self, Calibrated};
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq;
use crate::imatrix;
use crate::memory::{Demands, Footing, peak_resident_bytes};
use crate::packing::{PackRounder, PackTensors, PackedWriter, pack_tensors, write_tensors};
use crate::progress::Reporter;
use crate::rescaling::RescaledSource;
use crate::walker::Walk;
use crate::work::Work;
use crate::zeros;

/// What to do.
#[derive(Clone, Debug)]
pub struct PackSettings {
    /// From where, to which directory, calibrated and measured on what.
    pub job: JobSettings,
    /// How values are chosen.
    pub method: Method,
    /// How long to look for better values than the first ones found.
    pub effort: Effort,
    /// Bits, groups, symmetry.
    pub scheme: IntScheme,
    /// Whether columns are rounded by falling activations.
    pub act_order: bool,
    /// Whether zeros among the weights stay zeros.
    pub keep_zeros: KeepZeros,
    /// Linear layers kept in the checkpoint's precision.
    pub keep: Vec<Pattern>,
}

/// Everything that is known before any weight is read.
pub struct PreparedPack {
    settings: PackSettings,
    checkpoint: Arc<Checkpoint>,
    source: Box<dyn WeightSource>,
    tensors: Vec<ExportTensor>,
    batches: Option<TokenBatches>,
    layout: CheckpointPlan,
    existing: ExistingTarget,
    /// How memory is used.
    pub footing: Footing,
    /// The plan.
    pub plan: IntPlan,
    /// Checkpoint tensors that are not part of the model and are left out.
    pub left_out: Vec<String>,
    /// Bytes of the checkpoint's weight files.
    pub source_bytes: u64,
}

impl PreparedPack {
    /// Resolves settings to a plan: opens the checkpoint, looks at the target, tokenizes the calibration text.
    ///
    /// # Errors
    /// Anything that would make the job fail and can be known now.
    pub fn new(settings: PackSettings) -> Result<Self, PipelineError> {
        let (model, checkpoint) = settings.job.open()?;
        let existing = may_replace(&settings.job.output, &settings.job.model)?;
        let source = model.source()?;
        let PackTensors { tensors, facts, left_out } = pack_tensors(&checkpoint, source.config())?;
        let mut plan = IntPlan::new(settings.scheme, settings.method, &facts, &settings.keep)?;
        let linear = plan.tensors.iter().filter(|tensor| tensor.grid.is_some());
        let linear = linear.map(|tensor| tensor.name.as_str());
        plan.plan_zeros(&zeros::shares(source.as_ref(), linear, settings.keep_zeros)?, settings.keep_zeros);
        let layout = PackedWriter::layout(&plan)?;
        let batches = settings.job.tokens(&model, source.config(), settings.method.needs_calibration())?;
        let source_bytes = model.bytes();
        let demands = Demands::new(settings.method, settings.effort, plan.run_len());
        let footing = settings.job.footing(demands, source.config(), batches.as_ref())?;
        Ok(Self {
            footing,
            settings,
            checkpoint,
            source,
            tensors,
            batches,
            layout,
            existing,
            plan,
            left_out,
            source_bytes,
        })
    }

    /// Bytes of the weight files to be written.
    pub fn output_bytes(&self) -> u64 {
        self.layout.total_bytes()
    }

    /// Calibrates, writes, measures.
    ///
    /// # Errors
    /// Reading, running, writing or measuring fails; the user cancels. Before the last step nothing is left behind but the
    /// work directory of what is finished; a directory that was written stays when measuring fails.
    pub fn run(self, reporter: &dyn Reporter) -> Result<QuantizeOutcome, PipelineError> {
        let started = Instant::now();
        let (left_out, config) = (self.left_out.as_slice(), self.source.config());
        job::warn((left_out, config), (&self.footing, self.batches.as_ref()), reporter);
        let bytes = self.output_bytes();
        let durable = Durable {
            job: &self.settings.job,
            output: &self.settings.job.output,
            demands: Demands::new(self.settings.method, self.settings.effort, self.plan.run_len()),
            recipe: &self.recipe().to_string(),
            pre: None,
            checkpoint: &self.checkpoint,
            source: self.source.as_ref(),
            batches: self.batches.as_ref(),
        };
        let (calibrated, mut tensors) = durable.run(&self.plan, self.footing, reporter, |walk, _| {
            let calibrated = self.calibrate(walk)?;
            let tensors = self.write(&calibrated, walk, reporter)?;
            Ok((calibrated, tensors))
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let peak_memory_bytes = peak_resident_bytes();
        let planned = self.plan.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.zeros));
        zeros::count(self.source.as_ref(), &self.settings.job.output, planned.zip(&mut tensors))?;
        let Self { settings, plan, source_bytes, batches, .. } = self;
        let evaluation = settings.job.evaluate(reporter)?;
        Ok(QuantizeOutcome {
            output: settings.job.output,
            modelfile: None,
            source: settings.job.model,
            method: settings.method,
            types: Types::Grid(settings.scheme),
            prediction: None,
            bytes,
            source_bytes,
            bits_per_weight: plan.bits_per_weight,
            seconds,
            peak_memory_bytes,
            calibration_sha256: batches.map(|b| b.hash),
            tensors,
            groups: calibrated.groups,
            evaluation,
        })
    }

    /// Scales and importances, as far as the method needs any before the first tensor is rounded.
    fn calibrate(&self, walk: Option<(&Walk<'_>, &Work)>) -> Result<Calibrated, PipelineError> {
        let method = self.settings.method;
        match walk {
            Some((walk, work)) if method.rescales() => awq::calibrate(walk, &self.plan, Some(work)),
            Some((walk, work)) if method.rounding() == Rounding::Weighted => {
                let entries = imatrix::gather(walk, Some(work))?;
                Ok(Calibrated { importance: imatrix::importance(&entries), ..Calibrated::default() })
            }
            _ => Ok(Calibrated::default()),
        }
    }

    fn write(
        &self,
        calibrated: &Calibrated,
        walk: Option<(&Walk<'_>, &Work)>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let room = walk.map(|(_, work)| work.room()).transpose()?;
        let writer = PackedWriter::create(
            &self.settings.job.output,
            room.as_deref(),
            self.layout.clone(),
            self.existing,
        )?;
        let reader = RowReader::new(&self.checkpoint, &calibrated.rescaling);
        let done = match walk {
            Some((walk, work)) if self.settings.method.rounding() == Rounding::Feedback => {
                let source = RescaledSource::new(self.source.as_ref(), &calibrated.rescaling);
                let rounder = PackRounder {
                    config: self.source.config(),
                    reader: &reader,
                    tensors: &self.tensors,
                    plan: &self.plan,
                    writer: &writer,
                    options: self.options(),
                    work,
                    effort: self.settings.effort,
                };
                gptq::quantize(&Walk { source: &source, ..*walk }, &rounder)?
            }
            _ => Vec::new(),
        };
        let reports = write_tensors(&reader, &self.tensors, &self.plan, calibrated, done, &writer, reporter)?;
        writer.finish(&self.plan, &self.config_json(), &self.checkpoint)?;
        Ok(reports)
    }

    fn options(&self) -> IntOptions {
        let order = if self.settings.act_order { Order::Activation } else { Order::Natural };
        IntOptions { scales: ScaleRule::Search, order, passes: self.settings.effort.passes() }
    }

    /// What a user would type again. Paths and thread counts stay out.
    fn recipe(&self) -> Value {
        let settings = &self.settings;
        let mut recipe = json!({ "method": settings.method, "grid": settings.scheme });
        if !settings.keep.is_empty() {
            recipe["keep"] = settings.keep.iter().map(ToString::to_string).collect();
        }
        if settings.method.rounding() == Rounding::Feedback {
            recipe["effort"] = json!(settings.effort);
            recipe["act_order"] = settings.act_order.into();
        }
        if settings.keep_zeros != KeepZeros::Auto {
            recipe["keep_zeros"] = json!(settings.keep_zeros);
        }
        if let Some(batches) = &self.batches {
            settings.job.describe_samples(&mut recipe);
            recipe["calibration_sha256"] = batches.hash.as_str().into();
        }
        recipe
    }

    /// The checkpoint's `config.json`, with how its weights are packed and where they come from.
    fn config_json(&self) -> Value {
        let settings = &self.settings;
        // the head is not in the plan's hands; readers look for it among linear layers too
        let kept = self.plan.kept().map(|name| name.trim_end_matches(".weight").to_owned());
        let ignore: Vec<String> = kept.chain(["lm_head".to_owned()]).collect();
        let mut config = self.checkpoint.config_json().clone();
        config["quantization_config"] =
            quantization_config(settings.scheme.packing(), &ignore, settings.act_order);
        config[PROVENANCE] = json!({ "version": env!("CARGO_PKG_VERSION"), "recipe": self.recipe() });
        config
    }
}
