//! A checkpoint directory opened for reading.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Config;
use crate::convert;
use crate::header::TensorEntry;
use crate::index::{INDEX_FILE, IndexError, ShardIndex};
use crate::json_file::{read_json, read_text};
use crate::packed::{PackedTensor, find_packed};
use crate::shard::Shard;
use crate::text_part::{text_config, text_name};
use crate::{CheckpointError, Dtype};

/// The weights of a checkpoint that is not sharded.
const SINGLE_FILE: &str = "model.safetensors";

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its Hugging Face name, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first: `[d_out, d_in]` for a linear layer.
    pub shape: Vec<usize>,
    shard: usize,
    entry: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product() // the header's check excluded an overflow
    }

    /// Rows: the first dimension (1 for a scalar).
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of all dimensions but the first.
    pub fn row_elements(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }
}

/// A Hugging Face checkpoint directory: mapped weights, typed configuration, the files beside them.
///
/// Reading takes `&self`, so several threads can convert different row ranges at once.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Config,
    config_json: Value,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    packed: HashMap<String, PackedTensor>,
    text_part_of: Option<String>,
}

impl Checkpoint {
    /// Opens the directory: parses `config.json`, maps every shard and checks every header and the index.
    /// No weight is read.
    ///
    /// As in transformers, `model.safetensors` wins over an index if both are there. A shard may be a
    /// symbolic link only within the directory, or to the blobs of the Hugging Face cache it lies in.
    ///
    /// Of a model for several modalities whose text model is one that stands by itself, that is opened
    /// ([`text_part_of`](Self::text_part_of)): its settings, its tensors under the names that they have then.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        if !dir.is_dir() {
            return Err(match dir.symlink_metadata() {
                Ok(_) => CheckpointError::NotADirectory { path: dir.to_path_buf() },
                Err(source) => CheckpointError::Io { path: dir.to_path_buf(), source },
            });
        }
        let config_path = dir.join("config.json");
        let mut config_json = read_json(&config_path)?
            .ok_or_else(|| CheckpointError::MissingFile { dir: dir.to_path_buf(), file: "config.json" })?;
        let text_part_of = match text_config(&config_json) {
            Some(text) => {
                let whole = config_json["model_type"].as_str().unwrap_or_default().to_owned();
                config_json = text;
                Some(whole)
            }
            None => None,
        };
        let config = Config::from_json(&config_json)
            .map_err(|source| CheckpointError::Config { path: config_path, source })?;
        let (shards, index) = open_shards(dir)?;
        let (mut tensors, mut by_name) = list_tensors(dir, &shards, index.as_ref())?;
        if text_part_of.is_some() {
            tensors = tensors
                .into_iter()
                .filter_map(|tensor| Some(TensorInfo { name: text_name(&tensor.name)?, ..tensor }))
                .collect();
            by_name.clear();
            for (n, tensor) in tensors.iter().enumerate() {
                if let Some(first) = by_name.insert(tensor.name.clone(), n) {
                    return Err(CheckpointError::Index {
                        path: dir.join(INDEX_FILE),
                        source: IndexError::TensorInTwoShards {
                            tensor: tensor.name.clone(),
                            first: shards[tensors[first].shard].name(),
                            second: shards[tensor.shard].name(),
                        },
                    });
                }
            }
        }
        let packed = match config.quantization {
            None => HashMap::new(),
            Some(scheme) => {
                let bytes = |info: &TensorInfo| {
                    shards[info.shard].bytes(&shards[info.shard].header().tensors[info.entry])
                };
                find_packed(scheme, &tensors, &by_name, bytes).map_err(|(tensor, source)| {
                    CheckpointError::Packed { dir: dir.to_path_buf(), tensor, source }
                })?
            }
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            config_json,
            shards,
            tensors,
            by_name,
            packed,
            text_part_of,
        })
    }

    /// The `model_type` of the model for several modalities that this is the text model of, if it is part of one.
    pub fn text_part_of(&self) -> Option<&str> {
        self.text_part_of.as_deref()
    }

    /// The checkpoint's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `config.json`, typed.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// `config.json` as it is.
    pub fn config_json(&self) -> &Value {
        &self.config_json
    }

    /// Every tensor, in the order of the files' data.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&n| &self.tensors[n])
    }

    /// The weight with this name, where it is stored as packed integers. Its parts are tensors of their own.
    pub fn packed(&self, name: &str) -> Option<&PackedTensor> {
        self.packed.get(name)
    }

    /// Every packed weight, sorted by name.
    pub fn packed_weights(&self) -> Vec<(&str, &PackedTensor)> {
        let mut weights: Vec<_> = self.packed.iter().map(|(name, packed)| (name.as_str(), packed)).collect();
        weights.sort_by_key(|(name, _)| *name);
        weights
    }

    /// The dimensions of a tensor or of a packed weight, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let packed = || self.packed(name).map(|packed| packed.shape.as_slice());
        self.tensor(name).map(|info| info.shape.as_slice()).or_else(packed)
    }

    /// Paths of the weight files, sorted by name.
    pub fn weight_files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(Shard::path)
    }

    /// The file that holds a tensor, or the codes of a packed weight.
    pub fn file_of(&self, name: &str) -> Result<&Path, CheckpointError> {
        let name = self.packed(name).map_or(name, |packed| &packed.packed);
        Ok(self.find(name)?.1.path())
    }

    /// Reads a whole tensor into `out`, which is resized to its number of elements.
    ///
    /// # Errors
    /// No such tensor; NaN or infinity in it; integers.
    pub fn read_f32(&self, name: &str, out: &mut Vec<f32>) -> Result<(), CheckpointError> {
        if let Some(packed) = self.packed(name) {
            out.resize(packed.shape.iter().product(), 0.0);
            return self.decode(name, packed, 0..packed.shape[0], out);
        }
        let (info, shard, entry) = self.find(name)?;
        out.resize(info.elements(), 0.0);
        self.convert(info, shard, shard.bytes(entry), 0, out)
    }

    /// Reads rows of a tensor, or of a packed weight: `out` is `[rows.len(), row_elements]`.
    ///
    /// # Errors
    /// No such tensor; rows it does not have; an `out` of another size; NaN or infinity in these rows; integers.
    pub fn read_rows_f32(
        &self,
        name: &str,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let check_length = |expected| match out.len() {
            found if found == expected => Ok(()),
            found => Err(CheckpointError::OutputLength { tensor: name.to_owned(), expected, found }),
        };
        if let Some(packed) = self.packed(name) {
            let (info, shard, _) = self.find(&packed.packed)?;
            byte_range(info, shard, &rows)?;
            check_length(rows.len() * packed.shape[1])?;
            return self.decode(name, packed, rows, out);
        }
        let (info, shard, entry) = self.find(name)?;
        let bytes = byte_range(info, shard, &rows)?;
        check_length(rows.len() * info.row_elements())?;
        let first = rows.start * info.row_elements();
        self.convert(info, shard, &shard.bytes(entry)[bytes], first, out)
    }

    /// The tensor's bytes as they are in the file: little-endian, possibly unaligned.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckpointError> {
        let (_, shard, entry) = self.find(name)?;
        Ok(shard.bytes(entry))
    }

    /// Stops counting a tensor's pages as resident memory; reading it again is allowed, and maps them again.
    pub fn release(&self, name: &str) -> Result<(), CheckpointError> {
        let name = self.packed(name).map_or(name, |packed| &packed.packed);
        let (_, shard, entry) = self.find(name)?;
        shard.release(entry, 0..entry.end - entry.begin);
        Ok(())
    }

    /// As [`release`](Self::release), for some rows only.
    pub fn release_rows(&self, name: &str, rows: Range<usize>) -> Result<(), CheckpointError> {
        let (info, shard, entry) = self.find(name)?;
        shard.release(entry, byte_range(info, shard, &rows)?);
        Ok(())
    }

    /// Asks the operating system to start reading a tensor from the disk, in the background.
    pub fn prefetch(&self, name: &str) -> Result<(), CheckpointError> {
        let (_, shard, entry) = self.find(name)?;
        shard.prefetch(entry);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<(&TensorInfo, &Shard, &TensorEntry), CheckpointError> {
        let info = self.tensor(name).ok_or_else(|| CheckpointError::NoSuchTensor {
            dir: self.dir.clone(),
            tensor: name.to_owned(),
        })?;
        let shard = &self.shards[info.shard];
        Ok((info, shard, &shard.header().tensors[info.entry]))
    }

    fn decode(
        &self,
        name: &str,
        packed: &PackedTensor,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let zero_point = packed.zero_point.as_deref().map(|zero| self.bytes(zero)).transpose()?;
        let first = rows.start * packed.shape[1];
        packed.decode(rows, self.bytes(&packed.packed)?, self.bytes(&packed.scale)?, zero_point, out).map_err(
            |found| CheckpointError::NonFinite {
                path: self.dir.clone(),
                tensor: name.to_owned(),
                index: first + found.index,
                value: found.value,
            },
        )
    }

    fn convert(
        &self,
        info: &TensorInfo,
        shard: &Shard,
        bytes: &[u8],
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        if !info.dtype.is_float() {
            return Err(CheckpointError::NotFloat { tensor: info.name.clone(), found: info.dtype });
        }
        convert::to_f32(info.dtype, bytes, out).map_err(|found| CheckpointError::NonFinite {
            path: shard.path().to_path_buf(),
            tensor: info.name.clone(),
            index: first + found.index,
            value: found.value,
        })
    }
}

/// Where these rows are within the tensor's bytes.
fn byte_range(
    info: &TensorInfo,
    shard: &Shard,
    rows: &Range<usize>,
) -> Result<Range<usize>, CheckpointError> {
    if rows.start > rows.end || rows.end > info.rows() {
        return Err(CheckpointError::RowsOutOfRange {
            path: shard.path().to_path_buf(),
            tensor: info.name.clone(),
            start: rows.start,
            end: rows.end,
            found: info.rows(),
        });
    }
    let row_bytes = info.row_elements() * info.dtype.bytes();
    Ok(rows.start * row_bytes..rows.end * row_bytes)
}

/// The single weight file, or the shards of the index, sorted by name.
fn open_shards(dir: &Path) -> Result<(Vec<Shard>, Option<ShardIndex>), CheckpointError> {
    let single = dir.join(SINGLE_FILE);
    if exists(&single)? {
        return Ok((vec![Shard::open(&within(dir, single)?)?], None));
    }
    let index_path = dir.join(INDEX_FILE);
    let Some(text) = read_text(&index_path)? else { return Err(no_weights(dir)) };
    let bad_index = |source| CheckpointError::Index { path: index_path.clone(), source };
    let index = ShardIndex::parse(&text).map_err(bad_index)?;
    let mut shards = Vec::new();
    for name in index.shards() {
        let path = dir.join(name);
        if !exists(&path)? {
            return Err(bad_index(IndexError::MissingShard { shard: name.to_owned() }));
        }
        shards.push(Shard::open(&within(dir, path)?)?);
    }
    Ok((shards, Some(index)))
}

fn exists(path: &Path) -> Result<bool, CheckpointError> {
    path.try_exists().map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })
}

/// The path itself, if following its links stays in the directory or in the blobs of the Hugging Face cache
/// (`…/blobs/` beside `…/snapshots/<revision>/`).
fn within(dir: &Path, path: PathBuf) -> Result<PathBuf, CheckpointError> {
    let real = |path: &Path| {
        path.canonicalize().map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })
    };
    let (real_dir, target) = (real(dir)?, real(&path)?);
    let snapshots = real_dir.parent().filter(|p| p.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repo| repo.join("blobs"));
    if target.starts_with(&real_dir) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        Ok(path)
    } else {
        Err(CheckpointError::LinkLeavesDirectory { path, target })
    }
}

/// The error for a directory without safetensors: names the pickled weights if there are any.
fn no_weights(dir: &Path) -> CheckpointError {
    let pickled = |name: &str| {
        name.ends_with(".bin") && name.starts_with("pytorch_model")
            || name == "pytorch_model.bin.index.json"
            || name.ends_with(".pth")
            || name.ends_with(".pt")
            || name.ends_with(".gguf")
    };
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| pickled(name))
        .collect();
    names.sort();
    match names.into_iter().next() {
        Some(found) => CheckpointError::OtherWeightFormat { dir: dir.to_path_buf(), found },
        None => CheckpointError::MissingFile { dir: dir.to_path_buf(), file: SINGLE_FILE },
    }
}

/// Collects the tensors of all shards and compares them with the index.
fn list_tensors(
    dir: &Path,
    shards: &[Shard],
    index: Option<&ShardIndex>,
) -> Result<(Vec<TensorInfo>, HashMap<String, usize>), CheckpointError> {
    let bad_index = |source| CheckpointError::Index { path: dir.join(INDEX_FILE), source };
    let mut tensors: Vec<TensorInfo> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for (shard, file) in shards.iter().enumerate() {
        for (entry, tensor) in file.header().tensors.iter().enumerate() {
            if let Some(first) = by_name.insert(tensor.name.clone(), tensors.len()) {
                return Err(bad_index(IndexError::TensorInTwoShards {
                    tensor: tensor.name.clone(),
                    first: shards[tensors[first].shard].name(),
                    second: file.name(),
                }));
            }
            let TensorEntry { name, dtype, shape, .. } = tensor.clone();
            tensors.push(TensorInfo { name, dtype, shape, shard, entry });
        }
    }
    let Some(index) = index else { return Ok((tensors, by_name)) };
    for (tensor, shard) in &index.weight_map {
        if by_name.get(tensor).is_none_or(|&n| shards[tensors[n].shard].name() != *shard) {
            return Err(bad_index(IndexError::TensorNotInShard {
                tensor: tensor.clone(),
                shard: shard.clone(),
            }));
        }
    }
    if index.weight_map.len() != tensors.len() {
        let listed: std::collections::HashSet<&str> =
            index.weight_map.iter().map(|(tensor, _)| tensor.as_str()).collect();
        if let Some(unlisted) = tensors.iter().find(|t| !listed.contains(t.name.as_str())) {
            return Err(bad_index(IndexError::UnlistedTensor {
                tensor: unlisted.name.clone(),
                shard: shards[unlisted.shard].name(),
            }));
        }
    }
    Ok((tensors, by_name))
}
