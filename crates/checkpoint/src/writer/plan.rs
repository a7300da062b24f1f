//! What will be written where, known before the first weight.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::WriteError;
use crate::Dtype;
use crate::header::LENGTH_BYTES;
use crate::index::INDEX_FILE;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its Hugging Face name.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Where one tensor goes.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub spec: TensorSpec,
    /// Number of its shard.
    pub shard: usize,
    /// First byte in the shard's data section.
    pub begin: u64,
    pub bytes: u64,
}

/// One file to be written.
#[derive(Clone, Debug)]
pub(super) struct ShardPlan {
    pub file: String,
    /// Length prefix and JSON, padded so that the data begins at a multiple of 8 bytes.
    pub header: Vec<u8>,
    pub data_bytes: u64,
}

/// What PEFT calls the files of adapters.
pub(super) const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The layout of a checkpoint's weights: shards, headers, offsets and the index.
#[derive(Clone, Debug)]
pub struct CheckpointPlan {
    pub(super) shards: Vec<ShardPlan>,
    pub(super) placements: Vec<Placement>,
    pub(super) by_name: HashMap<String, usize>,
    /// What its configuration is called.
    pub(super) config_file: &'static str,
}

impl CheckpointPlan {
    /// Hugging Face's customary shard size, in bytes.
    pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

    /// Lays the tensors out, in their order, in shards of at most `max_shard_bytes` of data; a larger tensor
    /// gets a shard of its own. One shard is called `model.safetensors`, several
    /// `model-00001-of-00002.safetensors` and so on, with an index.
    ///
    /// # Errors
    /// No tensor; a name twice, or the reserved `__metadata__`; a size that overflows.
    pub fn new(tensors: Vec<TensorSpec>, max_shard_bytes: u64) -> Result<Self, WriteError> {
        if tensors.is_empty() {
            return Err(WriteError::NoTensors);
        }
        let mut by_name = HashMap::with_capacity(tensors.len());
        let mut placements: Vec<Placement> = Vec::with_capacity(tensors.len());
        let mut sizes = vec![0u64];
        for spec in tensors {
            if by_name.insert(spec.name.clone(), placements.len()).is_some() || spec.name == "__metadata__" {
                return Err(WriteError::BadName { tensor: spec.name });
            }
            let size = |product: u64, d: &usize| product.checked_mul((*d).max(1) as u64);
            if spec.shape.iter().try_fold(spec.dtype.bytes() as u64, size).is_none() {
                return Err(WriteError::ShapeOverflow { tensor: spec.name, shape: spec.shape });
            }
            let bytes = spec.shape.iter().product::<usize>() as u64 * spec.dtype.bytes() as u64;
            let shard = sizes.len() - 1;
            let shard = match sizes[shard].checked_add(bytes) {
                Some(sum) if sum <= max_shard_bytes || sizes[shard] == 0 => shard,
                _ => {
                    sizes.push(0);
                    shard + 1
                }
            };
            sizes[shard] += bytes;
            placements.push(Placement { spec, shard, begin: 0, bytes });
        }
        let shards = (0..sizes.len()).map(|n| lay_out_shard(n, sizes.len(), &mut placements)).collect();
        Ok(Self { shards, placements, by_name, config_file: "config.json" })
    }

    /// The layout of adapters in PEFT's files: `adapter_model.safetensors` and `adapter_config.json`.
    ///
    /// # Errors
    /// As [`CheckpointPlan::new`].
    pub fn adapter(tensors: Vec<TensorSpec>) -> Result<Self, WriteError> {
        let mut plan = Self::new(tensors, u64::MAX)?;
        plan.config_file = ADAPTER_FILES[0];
        plan.shards.iter_mut().for_each(|shard| ADAPTER_FILES[1].clone_into(&mut shard.file));
        Ok(plan)
    }

    /// Bytes of all weight files together, headers included.
    pub fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.header.len() as u64 + shard.data_bytes).sum()
    }

    /// The names of the weight files.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &str> {
        self.shards.iter().map(|shard| shard.file.as_str())
    }

    /// Name and contents of the index, if there are several shards.
    pub(super) fn index(&self) -> Option<(&'static str, Value)> {
        if self.shards.len() == 1 {
            return None;
        }
        let total: u64 = self.placements.iter().map(|p| p.bytes).sum();
        let file = |p: &Placement| Value::from(self.shards[p.shard].file.as_str());
        let weight_map: Map<String, Value> =
            self.placements.iter().map(|p| (p.spec.name.clone(), file(p))).collect();
        Some((INDEX_FILE, json!({ "metadata": { "total_size": total }, "weight_map": weight_map })))
    }
}

/// Gives the tensors of one shard their offsets and writes its header. Wider elements come first, as the
/// reference writer has it, so that all are aligned.
fn lay_out_shard(shard: usize, shards: usize, placements: &mut [Placement]) -> ShardPlan {
    let mut members: Vec<&mut Placement> = placements.iter_mut().filter(|p| p.shard == shard).collect();
    members.sort_by_key(|p| std::cmp::Reverse(p.spec.dtype.bytes()));
    let mut header = Map::new();
    // transformers refuses a file that does not say which framework's layout it has.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for placement in members {
        let TensorSpec { name, dtype, shape } = &placement.spec;
        placement.begin = end;
        end += placement.bytes;
        header.insert(
            name.clone(),
            json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [placement.begin, end] }),
        );
    }
    let mut json = Value::Object(header).to_string();
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(LENGTH_BYTES as usize) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    let file = match shards {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
    };
    ShardPlan { file, header: bytes, data_bytes: end }
}
