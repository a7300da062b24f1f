//! The importance matrix as a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, ImatrixError, ImatrixFormatError, ImportanceMatrix};
use crate::TensorType;
use crate::container::{Header, Layout, Metadata, Strings, TensorInfo, Writer};

const GENERAL_TYPE: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const CALIBRATION: &str = "slmc.calibration.sha256";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

pub(super) fn parse(file: &[u8]) -> Result<ImportanceMatrix, ImatrixFormatError> {
    let header = Header::parse(file)?;
    let metadata = &header.metadata;
    let found: Option<&str> = metadata.optional(GENERAL_TYPE)?;
    if found != Some(TYPE) {
        return Err(ImatrixFormatError::NotAnImatrix { found: found.unwrap_or("not set").to_owned() });
    }
    // llama.cpp's reader passes over tensors of other names, and so does this one
    let mut pairs: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in &header.tensors {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            pairs.entry(name).or_default()[0] = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            pairs.entry(name).or_default()[1] = Some(tensor);
        }
    }
    let unpaired = |found: &TensorInfo, missing: String| {
        Err(ImatrixFormatError::Unpaired { found: found.name.clone(), missing })
    };
    let mut entries = BTreeMap::new();
    for (name, pair) in pairs {
        let (sums, counts) = match pair {
            [Some(sums), Some(counts)] => (sums, counts),
            [Some(sums), None] => return unpaired(sums, format!("{name}{COUNTS}")),
            [None, Some(counts)] => return unpaired(counts, format!("{name}{SUMS}")),
            [None, None] => unreachable!("a pair is made for a tensor"),
        };
        let counts: Vec<f64> = values(file, &header, counts)?.map(f64::from).collect();
        let sums: Vec<f32> = values(file, &header, sums)?.collect();
        let entry = Entry::new(sums, &counts)
            .map_err(|error| ImatrixFormatError::Entry { tensor: name.to_owned(), error })?;
        entries.insert(name.to_owned(), entry);
    }
    if entries.is_empty() {
        return Err(ImatrixFormatError::Empty);
    }
    Ok(ImportanceMatrix {
        entries,
        datasets: metadata.strings(DATASETS)?.iter().map(str::to_owned).collect(),
        chunk_count: metadata.u32(CHUNK_COUNT)?,
        chunk_size: metadata.u32(CHUNK_SIZE)?,
        calibration_sha256: metadata.optional::<&str>(CALIBRATION)?.map(str::to_owned),
    })
}

/// The values of an f32 tensor, which [`Header::parse`] has found to lie within the file.
fn values<'a>(
    file: &'a [u8],
    header: &Header,
    tensor: &TensorInfo,
) -> Result<impl Iterator<Item = f32> + 'a, ImatrixFormatError> {
    if tensor.ty != TensorType::F32 {
        return Err(ImatrixFormatError::NotF32 { tensor: tensor.name.clone(), found: tensor.ty });
    }
    let start = (header.data_offset + tensor.offset) as usize;
    let bytes = &file[start..start + tensor.byte_len()];
    Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
}

pub(super) fn write(matrix: &ImportanceMatrix, path: &Path) -> Result<u64, ImatrixError> {
    let malformed = |error| ImatrixError::Malformed { path: path.to_owned(), error };
    if matrix.entries.is_empty() {
        return Err(malformed(ImatrixFormatError::Empty));
    }
    let mut metadata = Metadata::new();
    metadata.insert(GENERAL_TYPE, TYPE);
    metadata.insert(DATASETS, matrix.datasets.iter().collect::<Strings>());
    metadata.insert(CHUNK_COUNT, matrix.chunk_count);
    metadata.insert(CHUNK_SIZE, matrix.chunk_size);
    if let Some(hash) = &matrix.calibration_sha256 {
        metadata.insert(CALIBRATION, hash.as_str());
    }
    // one dimension where there is one matrix, as ggml drops trailing dimensions of 1
    let shape = |matrices: usize, of_each: usize| match (matrices, of_each) {
        (1, n) => vec![n],
        shape => vec![shape.0, shape.1],
    };
    let planned = matrix.entries.iter().flat_map(|(name, entry)| {
        let matrices = entry.counts().len();
        [
            (format!("{name}{SUMS}"), shape(matrices, entry.sums().len() / matrices), TensorType::F32),
            (format!("{name}{COUNTS}"), shape(matrices, 1), TensorType::F32),
        ]
    });
    let layout = Layout::new(metadata, planned).map_err(|error| malformed(error.into()))?;
    let bytes = layout.total_bytes();
    let writer = Writer::create(path, layout)?;
    for (name, entry) in &matrix.entries {
        let sums: Vec<u8> = entry.sums().iter().flat_map(|sum| sum.to_le_bytes()).collect();
        writer.write(&format!("{name}{SUMS}"), 0, &sums)?;
        let counts: Vec<u8> = entry.counts().iter().flat_map(|&count| (count as f32).to_le_bytes()).collect();
        writer.write(&format!("{name}{COUNTS}"), 0, &counts)?;
    }
    writer.finish()?;
    Ok(bytes)
}
