//! Importance matrices: llama-imatrix's files are read, what is written comes back, corrupt files are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use slmc_gguf::TensorType;
use slmc_gguf::container::{FormatError, GgufFile, Layout, Metadata, MetadataError, Strings, Writer};
use slmc_gguf::imatrix::{Entry, EntryError, ImatrixError, ImatrixFormatError, ImportanceMatrix};

/// A file that llama-imatrix wrote; `golden/llama_imatrix.sh` says how.
fn golden(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama_imatrix").with_extension(extension)
}

const TOKENS: u64 = 34 * 64;

#[test]
fn both_formats_of_llama_imatrix_say_the_same() {
    let gguf = ImportanceMatrix::read(&golden("gguf")).unwrap();
    let legacy = ImportanceMatrix::read(&golden("dat")).unwrap();
    assert_eq!((gguf.chunk_count, gguf.chunk_size), (34, 64));
    assert_eq!((legacy.chunk_count, legacy.chunk_size), (34, 0));
    assert_eq!(gguf.datasets, ["english.txt"]);
    assert_eq!(legacy.datasets, gguf.datasets);
    assert_eq!(gguf.entries.len(), 4 * 7);
    assert!(legacy.entries.keys().eq(gguf.entries.keys()));
    for (name, entry) in &gguf.entries {
        assert_eq!(entry.counts(), [TOKENS], "{name}");
        assert_eq!(entry.sums().len(), if name.contains("ffn_down") { 512 } else { 256 }, "{name}");
        let (exact, other) = (entry.importance().unwrap(), legacy.entries[name].importance().unwrap());
        for (a, b) in exact.iter().zip(&other) {
            assert!((a - b).abs() <= 3.0 * f32::EPSILON * a, "{name}: {a} and {b}");
        }
    }
}

/// One entry of one matrix, one of three experts of which one saw nothing.
fn matrix() -> ImportanceMatrix {
    let entries = BTreeMap::from([
        ("blk.0.ffn_down.weight".to_owned(), Entry::new(vec![1.5, 0.0, 1e30, 2.0], &[5.0]).unwrap()),
        ("blk.0.ffn_up_exps.weight".to_owned(), Entry::new(vec![3.0; 6], &[4.0, 0.0, 6.0]).unwrap()),
    ]);
    ImportanceMatrix {
        entries,
        datasets: vec!["a.txt".into(), "b c.txt".into()],
        chunk_count: 3,
        chunk_size: 512,
        calibration_sha256: Some("00ff".into()),
    }
}

#[test]
fn what_is_written_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imatrix.gguf");
    let bytes = matrix().write(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
    assert_eq!(ImportanceMatrix::read(&path).unwrap(), matrix());

    // The names, types and shapes of llama-imatrix.
    let (ours, theirs) = (GgufFile::open(&path).unwrap(), GgufFile::open(&golden("gguf")).unwrap());
    for (key, value) in theirs.metadata().iter() {
        let found = ours.metadata().get(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(found.value_type(), value.value_type(), "{key}");
    }
    assert_eq!(theirs.tensor("blk.0.ffn_down.weight.in_sum2").unwrap().shape, [512]);
    assert_eq!(theirs.tensor("blk.0.ffn_down.weight.counts").unwrap().shape, [1]);
    let shapes: Vec<_> = ours.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.ty)).collect();
    let expected: [(&str, &[usize], TensorType); 4] = [
        ("blk.0.ffn_down.weight.in_sum2", &[4], TensorType::F32),
        ("blk.0.ffn_down.weight.counts", &[1], TensorType::F32),
        ("blk.0.ffn_up_exps.weight.in_sum2", &[3, 2], TensorType::F32),
        ("blk.0.ffn_up_exps.weight.counts", &[3, 1], TensorType::F32),
    ];
    assert_eq!(shapes, expected);
}

#[test]
fn an_empty_matrix_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imatrix.gguf");
    let error = ImportanceMatrix::default().write(&path).unwrap_err();
    assert!(matches!(error, ImatrixError::Malformed { error: ImatrixFormatError::Empty, .. }));
    assert!(!path.exists());
}

#[test]
fn errors_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.dat");
    assert!(ImportanceMatrix::read(&path).unwrap_err().to_string().contains("none.dat"));
    std::fs::write(&path, b"").unwrap();
    let message = ImportanceMatrix::read(&path).unwrap_err().to_string();
    assert!(message.contains("none.dat") && message.contains("the number of entries"), "{message}");
    assert!(ImportanceMatrix::read(directory.path()).unwrap_err().to_string().contains("not a regular file"));
}

/// A GGUF file of these f32 tensors, with the metadata of an importance matrix.
fn container(tensors: &[(&str, &[f32])], change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "imatrix");
    metadata.insert("imatrix.datasets", Strings::default());
    metadata.insert("imatrix.chunk_count", 1u32);
    metadata.insert("imatrix.chunk_size", 512u32);
    change(&mut metadata);
    let planned = tensors.iter().map(|(name, v)| ((*name).to_owned(), vec![v.len()], TensorType::F32));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.gguf");
    let writer = Writer::create(&path, Layout::new(metadata, planned).unwrap()).unwrap();
    for (name, values) in tensors {
        writer.write(name, 0, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Why a file with an entry `w` of these sums and counts is refused.
fn refused(sums: &[f32], counts: &[f32]) -> EntryError {
    let file = container(&[("w.in_sum2", sums), ("w.counts", counts)], |_| ());
    match ImportanceMatrix::parse(&file).unwrap_err() {
        ImatrixFormatError::Entry { tensor, error } if tensor == "w" => error,
        other => panic!("{other}"),
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    let sound = container(&[("w.in_sum2", &[1.0, 2.0]), ("w.counts", &[3.0]), ("w.other", &[1.0])], |_| ());
    assert_eq!(ImportanceMatrix::parse(&sound).unwrap().entries.len(), 1);
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        assert!(matches!(refused(&[1.0, value], &[1.0]), EntryError::Sum { index: 1, .. }), "{value}");
        assert!(matches!(refused(&[1.0], &[value]), EntryError::Count { index: 0, .. }), "{value}");
    }
    for value in [0.5, 1e30] {
        assert!(matches!(refused(&[1.0], &[value]), EntryError::Count { index: 0, .. }), "{value}");
    }
    assert_eq!(refused(&[1.0; 5], &[1.0; 2]), EntryError::Lengths { sums: 5, counts: 2 });
    assert_eq!(refused(&[1.0], &[1.0; 2]), EntryError::Lengths { sums: 1, counts: 2 });
}

#[test]
fn other_gguf_files_are_refused() {
    let parse = |tensors: &[(&str, &[f32])], change: fn(&mut Metadata)| {
        ImportanceMatrix::parse(&container(tensors, change)).unwrap_err()
    };
    let pair: &[(&str, &[f32])] = &[("w.in_sum2", &[1.0]), ("w.counts", &[1.0])];
    let not = |found: &str| ImatrixFormatError::NotAnImatrix { found: found.into() };
    assert_eq!(parse(pair, |m| drop(m.insert("general.type", "model"))), not("model"));
    assert_eq!(parse(pair, |m| drop(m.remove("general.type"))), not("not set"));
    for key in ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"] {
        let error = ImportanceMatrix::parse(&container(pair, |m| drop(m.remove(key)))).unwrap_err();
        assert_eq!(error, ImatrixFormatError::Metadata(MetadataError::Missing { key: key.into() }));
    }
    let error = parse(pair, |m| drop(m.insert("imatrix.chunk_size", -1i32)));
    assert!(matches!(error, ImatrixFormatError::Metadata(MetadataError::WrongType { .. })), "{error}");
    assert_eq!(parse(&[("w.other", &[1.0])], |_| ()), ImatrixFormatError::Empty);
    let unpaired = |found: &str, missing: &str| ImatrixFormatError::Unpaired {
        found: found.into(),
        missing: missing.into(),
    };
    assert_eq!(parse(&pair[..1], |_| ()), unpaired("w.in_sum2", "w.counts"));
    assert_eq!(parse(&pair[1..], |_| ()), unpaired("w.counts", "w.in_sum2"));

    let mut half = container(pair, |_| ());
    let at = half.windows(9).position(|w| w == b"w.in_sum2").unwrap() + 9 + 4 + 8; // dims, one extent
    half[at] = TensorType::F16.ggml_id() as u8;
    let error = ImportanceMatrix::parse(&half).unwrap_err();
    assert_eq!(error, ImatrixFormatError::NotF32 { tensor: "w.in_sum2".into(), found: TensorType::F16 });
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let gguf = container(&[("w.in_sum2", &[1.0, 2.0]), ("w.counts", &[3.0])], |_| ());
    let end_of_data = gguf.len() - (32 - 4); // the last tensor is padded to the alignment
    for length in 4..end_of_data {
        let error = ImportanceMatrix::parse(&gguf[..length]).unwrap_err();
        assert!(matches!(error, ImatrixFormatError::Container(_)), "{length}: {error}");
    }
    let error = ImportanceMatrix::parse(&gguf[..end_of_data - 1]).unwrap_err();
    assert!(matches!(error, ImatrixFormatError::Container(FormatError::OutOfBounds { .. })), "{error}");

    // a legacy file may end behind its entries or behind its chunks
    let legacy = legacy(&[("weight", 7, &[1.0, 2.0])]);
    let (entries, chunks) = (4 + 4 + 6 + 4 + 4 + 8, 4);
    for length in (0..legacy.len()).filter(|&length| length != entries && length != entries + chunks) {
        assert!(ImportanceMatrix::parse(&legacy[..length]).is_err(), "{length}");
    }
    assert!(ImportanceMatrix::parse(&legacy[..entries]).unwrap().datasets.is_empty());
    assert_eq!(ImportanceMatrix::parse(&legacy[..entries + chunks]).unwrap().chunk_count, 9);
}

/// A legacy file of entries (name, calls, values), 9 chunks of `a.txt`.
fn legacy(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut file = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, calls, values) in entries {
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.bytes());
        file.extend(calls.to_le_bytes());
        file.extend((values.len() as i32).to_le_bytes());
        file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    file.extend(9i32.to_le_bytes());
    file.extend(5i32.to_le_bytes());
    file.extend(b"a.txt");
    file
}

#[test]
fn legacy_numbers_that_cannot_be_are_refused() {
    let sound = legacy(&[("w", 7, &[14.0, 7.0])]);
    let read = ImportanceMatrix::parse(&sound).unwrap();
    assert_eq!(read.entries["w"].importance().unwrap(), [2.0, 1.0]);
    assert_eq!((read.chunk_count, &read.datasets[..]), (9, &["a.txt".to_owned()][..]));

    let with = |at: usize, number: i32| {
        let mut file = sound.clone();
        file[at..at + 4].copy_from_slice(&number.to_le_bytes());
        ImportanceMatrix::parse(&file).unwrap_err()
    };
    let (name, calls, values, chunks) = (4, 9, 13, 25);
    for number in [0, -1, 1 << 30, i32::MIN] {
        for (at, what) in
            [(0, "entries"), (name, "bytes for the name of entry 0"), (values, "values in entry `w`")]
        {
            let error = with(at, number);
            assert!(
                matches!(&error, ImatrixFormatError::Number { what: found, .. } if found == what),
                "{error}"
            );
        }
    }
    assert!(matches!(with(calls, -7), ImatrixFormatError::Entry { error: EntryError::Count { .. }, .. }));
    assert!(matches!(with(chunks, -7), ImatrixFormatError::Number { .. }));
    let entry = |values: &[f32]| ImportanceMatrix::parse(&legacy(&[("w", 1, values)])).unwrap_err();
    for value in [f32::NAN, -1.0] {
        assert!(matches!(
            entry(&[value]),
            ImatrixFormatError::Entry { error: EntryError::Sum { index: 0, .. }, .. }
        ));
    }
    let twice = ImportanceMatrix::parse(&legacy(&[("w", 1, &[1.0]), ("w", 1, &[1.0])])).unwrap_err();
    assert_eq!(twice, ImatrixFormatError::Duplicate { tensor: "w".into() });
    let longer = ImportanceMatrix::parse(&[&sound[..], b"more"].concat()).unwrap_err();
    assert_eq!(longer, ImatrixFormatError::Trailing { bytes: 4 });
    let mut file = sound.clone();
    file[8] = 0xff;
    assert_eq!(ImportanceMatrix::parse(&file).unwrap_err(), ImatrixFormatError::NotUtf8 { index: 0 });
    let text = ImportanceMatrix::parse(b"Once there was a model.").unwrap_err().to_string();
    assert!(text.contains("no GGUF file"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever becomes of a sound file's bytes, what is read has finite weights, and no more of them than the file has room for.
    #[test]
    fn changed_bytes_are_refused_or_read_within_the_file(
        is_legacy: bool,
        cut in 0usize..10,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let mut file = match is_legacy {
            true => legacy(&[("w", 7, &[14.0, 7.0]), ("weight", 7, &[1.0; 9])]),
            false => small_container().to_vec(),
        };
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        file.truncate(file.len().saturating_sub(cut));
        if let Ok(matrix) = ImportanceMatrix::parse(&file) {
            for entry in matrix.entries.values() {
                prop_assert!(4 * entry.sums().len() <= file.len());
                prop_assert!(entry.importance().is_none_or(|all| all.iter().all(|w| w.is_finite() && *w >= 0.0)));
            }
        }
    }
}

/// Made once: the disk is slower than what is tested.
fn small_container() -> &'static [u8] {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| container(&[("w.in_sum2", &[1.0, 2.0]), ("w.counts", &[3.0])], |_| ()))
}
