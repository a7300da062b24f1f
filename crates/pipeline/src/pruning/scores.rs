//! What is known of the dense model before pruning, gathered once and kept in a file for the next time: the second moments of every
//! linear layer's inputs, and what pruning one block at a time costs.
//!
//! The file is a safetensors file: an F32 tensor `[d_in]` a linear layer under its GGUF name, and where block costs were measured
//! `shares` (F64 `[n]`) and `divergences` (F64 `[blocks, n]`). Its metadata say of which model, tokens and device they are.

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
const FORMAT: u32 = 1;

/// Rows of every linear layer that tell one model from another of the same shapes.
const SAMPLED_ROWS: usize = 4;

/// Whose scores they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// Of the model: its configuration, and some rows of every linear layer.
    model_sha256: String,
    /// Of the calibration tokens.
    calibration_sha256: String,
    /// Where the model ran.
    device: String,
}

/// The scores of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Whose.
    pub identity: Identity,
    /// Second moments of the inputs, `[d_in]`, by GGUF name of the linear layer.
    pub moments: HashMap<String, Vec<f32>>,
    /// What pruning costs block by block, where it was measured.
    pub costs: Option<BlockCosts>,
}

/// Mean KL divergences, in nats per token, of the model of which one block alone is pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCosts {
    /// How it was pruned.
    pub method: Method,
    /// Shares that were pruned, rising.
    pub shares: Vec<f64>,
    /// For every block, one value a share.
    pub divergences: Vec<Vec<f64>>,
}

/// The metadata's value.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    identity: Identity,
    /// How blocks were pruned whose costs were measured.
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

impl Scores {
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// It is no file of scores, or not `identity`'s.
    pub fn read(path: &Path, identity: &Identity) -> Result<Option<Self>, PipelineError> {
        let failed = |reason: String| PipelineError::Scores { path: path.to_owned(), reason };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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
        let (mut moments, mut costs) = (HashMap::new(), HashMap::new());
        for (name, view) in tensors.iter() {
            match view.dtype() {
                Dtype::F32 => {
                    let values: Vec<f32> = view
                        .data()
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|bytes| f32::from_le_bytes(*bytes))
                        .collect();
                    if values.iter().any(|value| !(value.is_finite() && *value >= 0.0)) {
                        return Err(failed(format!("{name} holds a value that is no mean of squares")));
                    }
                    moments.insert(name.to_owned(), values);
                }
                Dtype::F64 => {
                    let values: Vec<f64> = view
                        .data()
                        .as_chunks::<8>()
                        .0
                        .iter()
                        .map(|bytes| f64::from_le_bytes(*bytes))
                        .collect();
                    costs.insert(name.to_owned(), values);
                }
                other => return Err(failed(format!("{name} is {other:?}, expected F32 or F64"))),
            }
        }
        let costs = match (costs.remove("shares"), costs.remove("divergences")) {
            (Some(shares), Some(divergences)) if !shares.is_empty() => {
                let divergences = divergences.chunks(shares.len()).map(<[f64]>::to_vec).collect();
                method.map(|method| BlockCosts { method, shares, divergences })
            }
            _ => None,
        };
        Ok(Some(Self { identity: of, moments, costs }))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> Result<(), PipelineError> {
        let failed = |reason: String| PipelineError::Scores { path: path.to_owned(), reason };
        let mut tensors: BTreeMap<&str, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (name, values) in &self.moments {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(name, (Dtype::F32, vec![values.len()], bytes));
        }
        if let Some(BlockCosts { shares, divergences, .. }) = &self.costs {
            let bytes =
                |values: &mut dyn Iterator<Item = &f64>| values.flat_map(|v| v.to_le_bytes()).collect();
            tensors.insert("shares", (Dtype::F64, vec![shares.len()], bytes(&mut shares.iter())));
            let shape = vec![divergences.len(), shares.len()];
            tensors.insert("divergences", (Dtype::F64, shape, bytes(&mut divergences.iter().flatten())));
        }
        let mut views = Vec::new();
        for (name, (dtype, shape, bytes)) in &tensors {
            let view =
                TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| failed(error.to_string()))?;
            views.push((*name, view));
        }
        let method = self.costs.as_ref().map(|costs| costs.method);
        let header = Header { identity: self.identity.clone(), method };
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
        let moments =
            (0..9).map(|n| (format!("blk.{n}.attn_q.weight"), vec![0.1 * n as f32, 1e-30])).collect();
        let costs = BlockCosts {
            method: Method::Wanda,
            shares: vec![0.3, 0.5],
            divergences: vec![vec![0.1 + 0.2, 1.0 / 3.0]; 4],
        };
        let mut scores = Scores { identity: identity("c"), moments, costs: Some(costs) };
        assert_eq!(Scores::read(&path, &scores.identity).unwrap(), None);
        scores.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(Scores::read(&path, &scores.identity).unwrap().unwrap(), scores);
        scores.write(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        scores.costs = None;
        scores.write(&path).unwrap();
        assert_eq!(Scores::read(&path, &scores.identity).unwrap().unwrap(), scores);
        let refused = Scores::read(&path, &identity("d")).unwrap_err().to_string();
        assert!(refused.contains("other calibration tokens"), "{refused}");
        for cut in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Scores::read(&path, &identity("c")).is_err(), "{cut}");
        }
    }
}
