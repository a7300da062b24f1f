//! A student that is a GGUF file: trained on the grid that it is stored on, and stored again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;
use slmc_distill::ScaledGrid;
use slmc_gguf::TensorType;
use slmc_gguf::blocks::{BlockError, decode, recode, rescale, scale_gradient, scale_numbers, settle};
use slmc_gguf::container::{GgufFile, Layout, TensorInfo, Writer};
use slmc_model::arch::{permute_rows, unpermute_rows};
use slmc_model::{GgufSource, MemorySource, ModelConfig, ModelError, TensorId, WeightSource};

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::modelfile::Modelfile;

/// The key that says how a file was trained, as JSON, beside the recipe that made it.
pub const DISTILL: &str = "slmc.distill";

/// A GGUF file whose weights are trained as they will be stored: every value on the grid of its block.
pub struct StoredStudent {
    source: Arc<GgufSource>,
}

impl StoredStudent {
    /// A file's weights.
    ///
    /// # Errors
    /// An architecture that is not supported; tensors that do not fit it.
    pub fn new(file: &Arc<GgufFile>) -> Result<Self, PipelineError> {
        Ok(Self { source: Arc::new(GgufSource::new(Arc::clone(file))?) })
    }

    /// The file.
    pub fn file(&self) -> &Arc<GgufFile> {
        self.source.file()
    }

    /// Its dimensions.
    pub fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    /// Its weights as training begins: each where it is rounded to what the file holds, and as near to the weights of `teacher` as
    /// that leaves it. A weight near the middle between two codes needs little to take the other one: of what was rounded away, the
    /// teacher's weights tell which those are. Tensors of another shape, or that are nearer to zero than to the teacher's, begin at
    /// what the file holds.
    ///
    /// # Errors
    /// Whatever the files report.
    pub fn weights(&self, teacher: Option<&dyn WeightSource>) -> Result<MemorySource, PipelineError> {
        let stored = MemorySource::copy_of(self.source.as_ref())?;
        let Some(teacher) = teacher.filter(|teacher| teacher.config().tensors() == self.config().tensors())
        else {
            return Ok(stored);
        };
        Ok(MemorySource::new(self.config().clone(), |id| {
            let (held, info) = (stored.values(id)?, self.tensor(id)?);
            let shape = self.config().shape(id.role);
            if shape.len() == 1 || teacher.config().shape(id.role) != shape {
                return Ok(held.to_vec());
            }
            let mut values = teacher.load(id)?.values;
            teacher.release(id);
            if !is_rounded(held, &values) {
                return Ok(held.to_vec());
            }
            self.in_file_order(id, &mut values, permute_rows);
            values
                .par_chunks_exact_mut(info.columns())
                .zip(self.file().data(info).par_chunks_exact(info.row_bytes()))
                .try_for_each(|(row, bytes)| settle(info.ty, row, info.columns(), bytes))
                .map_err(changed(id))?;
            self.in_file_order(id, &mut values, unpermute_rows);
            Ok(values)
        })?)
    }

    /// The numbers of its blocks' scales, to be trained under codes that stay.
    ///
    /// # Errors
    /// No tensor has scales.
    pub fn scales(&self) -> Result<MemorySource, PipelineError> {
        let source: Arc<dyn WeightSource> = Arc::clone(&self.source) as _;
        let mut weights = MemorySource::over(source, &[])?;
        for id in self.config().tensors() {
            let info = self.tensor(id)?;
            if let Some(scales) = scale_numbers(info.ty, self.file().data(info)).map_err(changed(id))? {
                weights = weights.with_scales(id, scales);
            }
        }
        if weights.scales().next().is_none() {
            return Err(PipelineError::Distill {
                reason: format!(
                    "{} has no quantized tensors, so no scales to train; leave out --train scales",
                    self.file().path().display()
                ),
            });
        }
        Ok(weights)
    }

    /// Lets `turn` bring rows into the file's order or back, where that is another one.
    fn in_file_order(&self, id: TensorId, values: &mut Vec<f32>, turn: Turn) {
        if let Some(heads) = self.config().permuted_heads(id.role) {
            let mut turned = vec![0.0; values.len()];
            let rows = self.config().shape(id.role)[0];
            turn(values, &mut turned, heads, values.len() / rows);
            *values = turned;
        }
    }

    fn tensor(&self, id: TensorId) -> Result<&TensorInfo, ModelError> {
        let name = self.config().arch.gguf_name(id).ok_or(ModelError::NoSuchTensor { id })?;
        self.file().tensor(&name).ok_or(ModelError::NoSuchTensor { id })
    }

    /// What a tensor reads as once it is stored again; `None` where nothing changes.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn round(&self, id: TensorId, values: &[f32]) -> Result<Option<Vec<f32>>, ModelError> {
        let info = self.tensor(id)?;
        if info.ty == TensorType::F32 {
            return Ok(None);
        }
        self.decoded(id, &self.encode(id, values)?).map(Some)
    }

    /// What a tensor's bytes in the file are, in the checkpoint's order.
    fn decoded(&self, id: TensorId, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
        let info = self.tensor(id)?;
        let mut values = vec![0.0; self.config().shape(id.role).iter().product()];
        bytes
            .par_chunks_exact(info.row_bytes())
            .zip(values.par_chunks_exact_mut(info.columns()))
            .try_for_each(|(bytes, out)| decode(info.ty, bytes, out))
            .map_err(changed(id))?;
        self.in_file_order(id, &mut values, unpermute_rows);
        Ok(values)
    }

    /// A tensor's bytes in the file under other scales.
    fn rescaled(&self, id: TensorId, scales: &[f32]) -> Result<Vec<u8>, ModelError> {
        let info = self.tensor(id)?;
        let mut bytes = self.file().data(info).to_vec();
        let rows = bytes.len() / info.row_bytes();
        bytes
            .par_chunks_exact_mut(info.row_bytes())
            .zip(scales.par_chunks_exact(scales.len() / rows))
            .try_for_each(|(bytes, scales)| rescale(info.ty, scales, bytes))
            .map_err(changed(id))?;
        Ok(bytes)
    }

    /// A tensor's bytes in the file, for values in the checkpoint's order.
    fn encode(&self, id: TensorId, values: &[f32]) -> Result<Vec<u8>, ModelError> {
        let info = self.tensor(id)?;
        let mut values = values.to_vec();
        self.in_file_order(id, &mut values, permute_rows);
        let mut bytes = self.file().data(info).to_vec();
        bytes
            .par_chunks_exact_mut(info.row_bytes())
            .zip(values.par_chunks_exact(info.columns()))
            .try_for_each(|(bytes, row)| recode(info.ty, row, info.columns(), bytes))
            .map_err(changed(id))?;
        Ok(bytes)
    }

    /// Writes the file again with these weights; what is no part of the model as it was, and all metadata, beside which `told` says how
    /// they were trained.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(&self, weights: &MemorySource, told: &Value, output: &Path) -> Result<u64, PipelineError> {
        let (file, writer) = (self.file(), self.writer(told, output)?);
        let trained: Vec<(TensorId, &str)> = self
            .config()
            .tensors()
            .into_iter()
            .map(|id| Ok((id, self.tensor(id)?.name.as_str())))
            .collect::<Result<_, ModelError>>()?;
        let scales: BTreeMap<TensorId, &[f32]> = weights.scales().collect();
        for info in file.tensors() {
            match trained.iter().find(|(_, name)| *name == info.name) {
                Some((id, _)) if scales.contains_key(id) => {
                    writer.write(&info.name, 0, &self.rescaled(*id, scales[id])?)?;
                }
                Some(&(id, _)) if weights.trains(id) => {
                    writer.write(&info.name, 0, &self.encode(id, weights.values(id)?)?)?;
                }
                _ => writer.write(&info.name, 0, file.data(info))?,
            }
        }
        let bytes = writer.layout().total_bytes();
        writer.finish()?;
        Ok(bytes)
    }

    /// The Ollama Modelfile of the file to be written, as far as the student's own metadata tell.
    ///
    /// # Errors
    /// A vocabulary that cannot be read.
    pub fn modelfile(&self, output: &Path) -> Result<Modelfile, PipelineError> {
        let vocabulary =
            ModelFile::Gguf(Arc::clone(self.file())).vocabulary(self.config().vocab_size, None)?;
        Ok(Modelfile::new(output, &vocabulary, None))
    }

    /// The file to be written.
    ///
    /// # Errors
    /// It cannot be.
    pub fn writer(&self, told: &Value, output: &Path) -> Result<Writer, PipelineError> {
        let (file, mut told) = (self.file(), told.clone());
        let mut metadata = file.metadata().clone();
        // A file that was trained before says both.
        if let Some(before) = metadata.str(DISTILL).ok().and_then(|text| serde_json::from_str(text).ok()) {
            told["before"] = before;
        }
        metadata.insert(DISTILL, told.to_string());
        let tensors = file.tensors().iter().map(|info| (info.name.clone(), info.shape.clone(), info.ty));
        let layout = Layout::new(metadata, tensors)
            .map_err(|error| PipelineError::Output { path: output.to_owned(), reason: error.to_string() })?;
        Ok(Writer::create(output, layout)?)
    }
}

impl ScaledGrid for StoredStudent {
    fn values(&self, id: TensorId, scales: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.decoded(id, &self.rescaled(id, scales)?)
    }

    fn gradient(&self, id: TensorId, scales: &[f32], values: &[f32]) -> Result<Vec<f32>, ModelError> {
        let (info, mut values, mut gradient) = (self.tensor(id)?, values.to_vec(), vec![0.0; scales.len()]);
        self.in_file_order(id, &mut values, permute_rows);
        let numbers = scales.len() / (values.len() / info.columns());
        let rows = self.file().data(info).par_chunks_exact(info.row_bytes());
        gradient
            .par_chunks_exact_mut(numbers)
            .zip(scales.par_chunks_exact(numbers))
            .zip(rows.zip(values.par_chunks_exact(info.columns())))
            .try_for_each(|((out, scales), (bytes, values))| {
                scale_gradient(info.ty, scales, bytes, values, out)
            })
            .map_err(changed(id))?;
        Ok(gradient)
    }
}

fn changed(id: TensorId) -> impl Fn(BlockError) -> ModelError {
    move |error| ModelError::Change { id, reason: Box::new(error) }
}

/// [`permute_rows`] or what undoes it.
type Turn = fn(&[f32], &mut [f32], usize, usize);

/// Whether `held` is nearer to `values` than zeros are.
fn is_rounded(held: &[f32], values: &[f32]) -> bool {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = held.iter().zip(values).map(|(held, value)| square(held - value)).sum();
    error < values.iter().copied().map(square).sum()
}
