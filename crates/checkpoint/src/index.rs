//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::Deserialize;
use thiserror::Error;

use crate::header::UniqueStrings;

/// The index of a sharded checkpoint.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The most shards an index may name.
const MAX_SHARDS: usize = 10_000;

/// What can be wrong with the index of a sharded checkpoint.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)] // the messages say it
pub enum IndexError {
    #[error("not the expected JSON object with a weight_map: {reason}")]
    Json { reason: String },
    #[error("weight_map names no tensor")]
    Empty,
    #[error("tensor {tensor} is said to be in {shard:?}; expected the plain name of a file beside the index")]
    ShardLeavesDirectory { tensor: String, shard: String },
    #[error("weight_map names {found} shards; at most {limit} are opened")]
    TooManyShards { found: usize, limit: usize },
    #[error("shard {shard} is named, but missing")]
    MissingShard { shard: String },
    #[error("tensor {tensor} is said to be in {shard}, but is not")]
    TensorNotInShard { tensor: String, shard: String },
    #[error("tensor {tensor} is in two shards: {first} and {second}")]
    TensorInTwoShards { tensor: String, first: String, second: String },
    #[error("shard {shard} holds tensor {tensor}, which weight_map does not name")]
    UnlistedTensor { tensor: String, shard: String },
}

/// A parsed index.
#[derive(Debug)]
pub(crate) struct ShardIndex {
    /// (tensor, shard file name), as listed.
    pub weight_map: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: UniqueStrings,
}

impl ShardIndex {
    /// Parses the index and checks that each shard's name stays in the directory.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        let raw: RawIndex =
            serde_json::from_str(text).map_err(|e| IndexError::Json { reason: e.to_string() })?;
        let weight_map = raw.weight_map.0;
        if weight_map.is_empty() {
            return Err(IndexError::Empty);
        }
        if let Some((tensor, shard)) = weight_map.iter().find(|(_, shard)| !is_plain_file_name(shard)) {
            return Err(IndexError::ShardLeavesDirectory { tensor: tensor.clone(), shard: shard.clone() });
        }
        let index = Self { weight_map };
        let found = index.shards().len();
        if found > MAX_SHARDS {
            return Err(IndexError::TooManyShards { found, limit: MAX_SHARDS });
        }
        Ok(index)
    }

    /// The shard names, each once, in order.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.iter().map(|(_, shard)| shard.as_str()).collect()
    }
}

/// One normal component, with no separator of any platform in it.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
        && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_stay_in_the_directory() {
        assert!(is_plain_file_name("model-00001-of-00002.safetensors"));
        for bad in ["", ".", "..", "../x", "/x", "a/b", "a/", "./a", "C:\\x", "..\\x", "x\0"] {
            assert!(!is_plain_file_name(bad), "{bad:?}");
        }
    }
}
