//! What a run leaves: a whole student, or the adapters that were trained beside it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slmc_checkpoint::{CheckpointPlan, CheckpointWriter, Dtype};
use slmc_distill::{Lora, Parameter, Progress, Trained};
use slmc_model::{MemorySource, WeightSource};

use super::{PreparedDistill, TeacherFrom};
use crate::PipelineError;
use crate::jobs::directory::PROVENANCE;
use crate::progress::Reporter;

/// The metrics' name beside the weights.
const METRICS: &str = "metrics.jsonl";

/// The share of zeros from which a matrix counts as pruned, as in [`slmc_distill::Masks`].
const PRUNED: f64 = 0.2;

impl PreparedDistill {
    /// The adapters, where they are what is written.
    pub(super) fn adapters_alone(&self) -> Option<&Lora> {
        match &self.settings.trained {
            Trained::Lora(lora) if !self.settings.merge => Some(lora),
            _ => None,
        }
    }

    /// The files of weights that will be written.
    ///
    /// # Errors
    /// None of a student that was opened.
    pub(super) fn layout(&self, weights: &MemorySource) -> Result<CheckpointPlan, PipelineError> {
        match self.adapters_alone() {
            Some(_) => self.student.adapter_layout(weights),
            None => self.student.layout(self.grid.is_some()),
        }
    }

    /// Writes the outcome, and says how many bytes its weights are and where the Modelfile is, if one was wanted.
    ///
    /// # Errors
    /// The file system; weights that the student's type does not hold.
    pub(super) fn write(
        &self,
        weights: &MemorySource,
        (metrics, progress): (&str, &Progress),
        reporter: &dyn Reporter,
    ) -> Result<(u64, Option<PathBuf>), PipelineError> {
        if let Some(stored) = &self.stored {
            let bytes = stored.write(weights, &self.told(progress), &self.settings.output)?;
            let path = self.settings.output.with_extension(METRICS);
            let failed = |error: std::io::Error| PipelineError::Output {
                path: path.clone(),
                reason: error.to_string(),
            };
            slmc_report::file::write_whole(&path, metrics.as_bytes()).map_err(failed)?;
            let modelfile = self.modelfile.as_ref().map(|modelfile| modelfile.write(&self.settings.output));
            return Ok((bytes, modelfile.transpose()?));
        }
        let plan = self.layout(weights)?;
        let bytes = plan.total_bytes();
        let mut writer = CheckpointWriter::create(&self.settings.output, plan, self.existing)?;
        match self.adapters_alone() {
            Some(lora) => {
                for part in Parameter::all(weights)? {
                    writer.write_f32(&part.name, part.values)?;
                }
                writer.write_config(&self.adapter_config(lora))?;
            }
            None => self.write_whole(weights, &mut writer, progress, reporter)?,
        }
        writer.write_file(METRICS, metrics.as_bytes())?;
        writer.finish()?;
        Ok((bytes, None))
    }

    fn write_whole(
        &self,
        weights: &MemorySource,
        writer: &mut CheckpointWriter,
        progress: &Progress,
        reporter: &dyn Reporter,
    ) -> Result<(), PipelineError> {
        // Trained for a grid, weights are written exactly; the student's own type would move them off it.
        let exact = self.grid.is_some();
        let mut filled = 0;
        for id in weights.config().tensors() {
            let mut values = weights.merged(id)?;
            if weights.adapter(id).is_some() {
                let zeros = |values: &[f32]| values.iter().filter(|value| **value == 0.0).count();
                let before = zeros(&weights.load(id)?.values);
                filled +=
                    usize::from(before as f64 >= PRUNED * values.len() as f64 && zeros(&values) < before);
            }
            let offset = weights.config().offset(id.role);
            values.iter_mut().for_each(|value| *value -= offset);
            writer.write_f32(&self.student.stored(id, exact)?.0, &values)?;
        }
        if filled > 0 {
            reporter.warn(&format!(
                "{filled} pruned matrices are no longer sparse: their adapters are merged into them"
            ));
        }
        let mut config: Value = self.student.config_json.clone();
        if exact && let Some(fields) = config.as_object_mut() {
            slmc_checkpoint::config::set_dtype(fields, Dtype::F32);
        }
        let mut recipe = self.told(progress);
        if let Some(before) = config.get(PROVENANCE).and_then(|provenance| provenance.get("recipe")) {
            recipe["student"] = before.clone();
        }
        config[PROVENANCE] = json!({ "version": env!("CARGO_PKG_VERSION"), "recipe": recipe });
        writer.write_config(&config)?;
        Ok(writer.copy_side_files(&*self.student.checkpoint()?)?)
    }

    /// How the student was trained, and what came of it: what the same command makes again, without paths, threads and seconds.
    fn told(&self, progress: &Progress) -> Value {
        let (TeacherFrom::Model(teacher) | TeacherFrom::Logits(teacher)) = &self.settings.teacher;
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        json!({
            "distill": self.settings.train,
            "trained": self.settings.trained,
            "teacher": teacher.canonicalize().ok().as_deref().and_then(name).or_else(|| name(teacher)),
            "steps": progress.step,
            "tokens": progress.tokens,
            "best_step": progress.best.map(|best| best.step),
            "held_out": { "start": progress.start, "best": progress.best.map(|best| best.held_out) },
            "text_sha256": self.sequences.hash,
        })
    }

    /// PEFT's `adapter_config.json` (`LoraConfig`).
    fn adapter_config(&self, lora: &Lora) -> Value {
        let targets = lora.targets_of(self.student.config()).unwrap_or_default();
        let targets: Vec<&str> = targets.into_iter().map(|(name, _)| name).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.student.file.path(),
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "target_modules": targets,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
            "rank_pattern": {},
            "alpha_pattern": {},
            "revision": null,
        })
    }
}
