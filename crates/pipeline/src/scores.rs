//! A file of what was found out about a dense model on a calibration text, for the next run on the same.
//!
//! It is a safetensors file whose metadata say of which model, tokens and device it is. Each kind of pruning finds its own there and adds
//! what it was missing:
//!
//! * an F32 tensor `[d_in]` a linear layer, under its GGUF name: second moments of its inputs;
//! * `shares` (F64 `[n]`) and `divergences` (F64 `[blocks · n]`): what pruning one block alone costs, by the method in the metadata;
//! * `profile.…` (F64): what structured pruning knows of blocks (`influence`), of the inputs of their two halves' last layers (`heads`,
//!   `channels`) and of what is read of the residual stream (`stream.0` block 0's attention, `stream.1` its MLP, …, the head).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slmc_model::{Role, TensorId, WeightSource};
use slmc_prune::Method;

use crate::PipelineError;

/// The metadata's key.
const KEY: &str = "slmc_scores";

/// Version of the file.
const FORMAT: u32 = 2;

/// Rows of every linear layer that tell one model from another of the same shapes.
const SAMPLED_ROWS: usize = 4;

/// Whose scores they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// Of the model: its configuration, and some rows of every linear layer.
    model_sha256: String,
    /// Of the calibration tokens.
    calibration_sha256: String,
    /// Where the model ran.
    device: String,
}

/// The file.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreFile {
    /// Whose scores they are.
    pub identity: Identity,
    /// How blocks were pruned whose costs were measured.
    pub method: Option<Method>,
    moments: BTreeMap<String, Vec<f32>>,
    figures: BTreeMap<String, Vec<f64>>,
}

/// The metadata's value.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    identity: Identity,
    method: Option<Method>,
}

impl Identity {
    /// Of a model and what it is calibrated on.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn new(
        source: &dyn WeightSource,
        config_json: &serde_json::Value,
        calibration_sha256: &str,
        device: &str,
    ) -> Result<Self, PipelineError> {
        let mut hash = Sha256::new();
        hash.update(config_json.to_string());
        let config = source.config();
        for layer in 0..config.num_hidden_layers {
            for role in Role::LINEAR.into_iter().filter(|&role| config.has(role)) {
                let (id, rows) = (TensorId::block(layer, role), config.shape(role)[0]);
                for n in 0..SAMPLED_ROWS.min(rows) {
                    let row = n * rows / SAMPLED_ROWS.min(rows);
                    let values = source.load_rows(id, row..row + 1)?.values;
                    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
                }
                source.release(id);
            }
        }
        let model_sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (calibration_sha256, device) = (calibration_sha256.to_owned(), device.to_owned());
        Ok(Self { format: FORMAT, model_sha256, calibration_sha256, device })
    }

    /// What is otherwise in `found`, for a message.
    fn difference(&self, found: &Self) -> Option<&'static str> {
        match found {
            found if found.format != self.format => Some("another version of slmc wrote them"),
            found if found.model_sha256 != self.model_sha256 => Some("they are those of another model"),
            found if found.calibration_sha256 != self.calibration_sha256 => Some(
                "they were gathered on other calibration tokens (--calibration, --samples, --seq-len, --seed)",
            ),
            found if found.device != self.device => Some("they were gathered on another device (--device)"),
            _ => None,
        }
    }
}

impl ScoreFile {
    /// Nothing yet.
    pub const fn new(identity: Identity) -> Self {
        Self { identity, method: None, moments: BTreeMap::new(), figures: BTreeMap::new() }
    }

    /// Second moments by GGUF name.
    pub const fn moments(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.moments
    }

    /// Figures under a name.
    pub fn figures(&self, name: &str) -> Option<&[f64]> {
        self.figures.get(name).map(Vec::as_slice)
    }

    /// Puts second moments of a linear layer's inputs under its GGUF name.
    pub fn put_moments(&mut self, name: &str, values: Vec<f32>) {
        self.moments.insert(name.to_owned(), values);
    }

    /// Puts figures under a name.
    pub fn put_figures(&mut self, name: &str, values: Vec<f64>) {
        self.figures.insert(name.to_owned(), values);
    }

    /// Removes figures whose name begins so.
    pub fn remove(&mut self, prefix: &str) {
        self.figures.retain(|name, _| !name.starts_with(prefix));
    }

    /// Reads a file; one without scores if there is none.
    ///
    /// # Errors
    /// It is no file of scores, or not `identity`'s.
    pub fn open(path: &Path, identity: Identity) -> Result<Self, PipelineError> {
        let failed = |reason: String| PipelineError::Scores { path: path.to_owned(), reason };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(identity)),
            Err(error) => return Err(failed(error.to_string())),
        };
        let foreign = |error: SafeTensorError| failed(format!("is no file of scores: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(foreign)?;
        let of = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let Header { identity: of, method } = of
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| failed("is no file of scores: slmc prune --scores did not write it".into()))?;
        if let Some(difference) = identity.difference(&of) {
            return Err(failed(format!(
                "{difference}; name another file, or remove this one to gather them anew"
            )));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(foreign)?;
        let mut file = Self { method, ..Self::new(of) };
        for (name, view) in tensors.iter() {
            match view.dtype() {
                Dtype::F32 => {
                    let words = view.data().as_chunks().0.iter();
                    let values: Vec<f32> = words.map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    if values.iter().any(|value| !(value.is_finite() && *value >= 0.0)) {
                        return Err(failed(format!("{name} holds a value that is no mean of squares")));
                    }
                    file.moments.insert(name.to_owned(), values);
                }
                Dtype::F64 => {
                    let words = view.data().as_chunks().0.iter();
                    let values: Vec<f64> = words.map(|bytes| f64::from_le_bytes(*bytes)).collect();
                    if values.iter().any(|value| !value.is_finite()) {
                        return Err(failed(format!("{name} holds NaN or infinity")));
                    }
                    file.figures.insert(name.to_owned(), values);
                }
                other => return Err(failed(format!("{name} is {other:?}, expected F32 or F64"))),
            }
        }
        Ok(file)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> Result<(), PipelineError> {
        let failed = |reason: String| PipelineError::Scores { path: path.to_owned(), reason };
        let mut tensors: Vec<(&str, Dtype, usize, Vec<u8>)> = Vec::new();
        for (name, values) in &self.moments {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name, Dtype::F32, values.len(), bytes));
        }
        for (name, values) in &self.figures {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name, Dtype::F64, values.len(), bytes));
        }
        let mut views = Vec::new();
        for (name, dtype, len, bytes) in &tensors {
            let view =
                TensorView::new(*dtype, vec![*len], bytes).map_err(|error| failed(error.to_string()))?;
            views.push((*name, view));
        }
        let header = Header { identity: self.identity.clone(), method: self.method };
        let header = serde_json::to_string(&header).map_err(|error| failed(error.to_string()))?;
        // one entry alone: the order of several would be another in every run
        let metadata = HashMap::from([(KEY.to_owned(), header)]);
        let bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;
        slmc_report::file::write_whole(path, &bytes).map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(calibration: &str) -> Identity {
        let (model_sha256, calibration_sha256) = ("m".into(), calibration.into());
        Identity { format: FORMAT, model_sha256, calibration_sha256, device: "cpu".into() }
    }

    #[test]
    fn scores_read_back_bit_for_bit_and_those_of_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores");
        let mut scores = ScoreFile::open(&path, identity("c")).unwrap();
        assert_eq!(scores, ScoreFile::new(identity("c")));
        for n in 0..9 {
            scores.put_moments(&format!("blk.{n}.attn_q.weight"), vec![0.1 * n as f32, 1e-30]);
        }
        scores.put_figures("shares", vec![0.3, 0.5]);
        scores.put_figures("profile.influence", vec![0.1 + 0.2, 1.0 / 3.0]);
        scores.method = Some(Method::Wanda);
        scores.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(ScoreFile::open(&path, identity("c")).unwrap(), scores);
        scores.write(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        scores.remove("profile.");
        assert_eq!(scores.figures("profile.influence"), None);
        assert!(scores.figures("shares").is_some());
        let refused = ScoreFile::open(&path, identity("d")).unwrap_err().to_string();
        assert!(refused.contains("other calibration tokens"), "{refused}");
        for cut in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(ScoreFile::open(&path, identity("c")).is_err(), "{cut}");
        }
    }
}
