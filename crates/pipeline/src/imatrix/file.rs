//! An importance matrix from a file, checked against what it shall weigh.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use slmc_gguf::container::ContainerError;
use slmc_gguf::imatrix::{Entry, ImportanceMatrix};
use slmc_model::{ModelConfig, TensorId};
use slmc_quant::{Plan, PlannedTensor};

use crate::PipelineError;

/// What a file says of a plan's tensors.
#[derive(Clone, Debug)]
pub struct ImportanceFile {
    path: PathBuf,
    sha256: String,
    datasets: Vec<String>,
    /// SHA-256 of the calibration tokens, where slmc wrote the file.
    pub calibration_sha256: Option<String>,
    /// E\[x²\] of the input columns of every tensor that the plan quantizes and the file knows, `[d_in]`, by GGUF name.
    pub importance: HashMap<String, Vec<f32>>,
    /// A head that the plan quantizes and the file has no entry for: llama-imatrix leaves it out.
    pub plain_head: Option<String>,
}

impl ImportanceFile {
    /// Reads a file and takes the entries of all matrices that `plan` quantizes.
    ///
    /// # Errors
    /// The file is no importance matrix; it lacks a linear layer's entry, or an entry has another length than the tensor.
    pub fn open(path: &Path, config: &ModelConfig, plan: &Plan) -> Result<Self, PipelineError> {
        let matrix = ImportanceMatrix::read(path)?;
        let mut file = Self {
            path: path.to_owned(),
            sha256: sha256(path)?,
            datasets: matrix.datasets,
            calibration_sha256: matrix.calibration_sha256,
            importance: HashMap::new(),
            plain_head: None,
        };
        let head = config.arch.gguf_name(config.head());
        for tensor in plan.tensors.iter().filter(|t| t.ty.is_quantized()) {
            let id = config.arch.by_gguf_name(&tensor.name);
            match matrix.entries.get(&tensor.name) {
                Some(entry) => {
                    let importance = file.fitting(tensor, entry)?;
                    file.importance.insert(tensor.name.clone(), importance);
                }
                None if head.as_ref() == Some(&tensor.name) => file.plain_head = Some(tensor.name.clone()),
                None if id.is_some_and(|id: TensorId| id.layer.is_none()) => {} // a lookup has no inputs
                None => return Err(file.unfit(tensor, "has no entry".into(), "one".into())),
            }
        }
        Ok(file)
    }

    /// What a recipe says of it: its hash and the names of its texts. Directories stay out.
    pub fn provenance(&self) -> Value {
        let name = |dataset: &String| match dataset.rsplit(['/', '\\']).next() {
            Some(name) => name.to_owned(),
            None => dataset.clone(),
        };
        json!({ "sha256": self.sha256, "datasets": self.datasets.iter().map(name).collect::<Vec<_>>() })
    }

    fn fitting(&self, tensor: &PlannedTensor, entry: &Entry) -> Result<Vec<f32>, PipelineError> {
        let found = entry.sums().len();
        if found != tensor.columns() {
            return Err(self.unfit(tensor, format!("{found} values"), format!("{}", tensor.columns())));
        }
        entry.importance().ok_or_else(|| self.unfit(tensor, "saw no tokens".into(), "some".into()))
    }

    fn unfit(&self, tensor: &PlannedTensor, found: String, expected: String) -> PipelineError {
        PipelineError::Importance { path: self.path.clone(), tensor: tensor.name.clone(), found, expected }
    }
}

/// Of a whole file, in hexadecimal.
fn sha256(path: &Path) -> Result<String, PipelineError> {
    let failed = |error| ContainerError::Open { path: path.to_owned(), error };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => hash.update(&piece[..length]),
        }
    }
}
