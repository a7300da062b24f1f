//! Corrupt checkpoints: each kind of damage has its own error, and none is opened.

mod directory;

use directory::{Directory, entry, member, safetensors};
use slmc_checkpoint::{CheckpointError, Dtype, HeaderError, IndexError, MAX_HEADER_BYTES};

fn header_error(file: &[u8]) -> HeaderError {
    match Directory::with_model(file).error() {
        CheckpointError::Header { source, .. } => source,
        other => panic!("{other}"),
    }
}

fn index_error(directory: &Directory) -> IndexError {
    match directory.error() {
        CheckpointError::Index { source, .. } => source,
        other => panic!("{other}"),
    }
}

/// Opens if nothing is wrong: the other tests' errors come from their damage alone.
#[test]
fn the_undamaged_ones_open() {
    let header = format!(
        "{{\"__metadata__\":{{\"format\":\"pt\"}},{},{}}}",
        member("y", "BF16", "[]", 24, 26),
        member("x", "F32", "[2,3]", 0, 24)
    );
    let checkpoint = Directory::with_model(&safetensors(&header, &[0; 26])).open().unwrap();
    assert_eq!(checkpoint.tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    let map = r#"{"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#;
    assert_eq!(Directory::with_shards(map).open().unwrap().tensors().len(), 2);
}

#[test]
fn shorter_than_the_length_prefix() {
    assert_eq!(header_error(b""), HeaderError::TooShort { found: 0 });
    assert_eq!(header_error(b"1234567"), HeaderError::TooShort { found: 7 });
}

#[test]
fn enormous_header_length() {
    let mut file = safetensors("{}", b"");
    file[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(header_error(&file), HeaderError::TooLong { found: u64::MAX, limit: MAX_HEADER_BYTES });
    file[..8].copy_from_slice(&(MAX_HEADER_BYTES + 1).to_le_bytes());
    assert!(matches!(header_error(&file), HeaderError::TooLong { .. }));
}

#[test]
fn truncated_within_the_header() {
    let file = safetensors(&entry("x", "F32", "[2]", 0, 8), &[0; 8]);
    assert_eq!(
        header_error(&file[..20]),
        HeaderError::PastEnd { found: file.len() as u64 - 16, available: 12 }
    );
}

#[test]
fn truncated_within_the_data() {
    let file = safetensors(&entry("x", "F32", "[2]", 0, 8), &[0; 8]);
    let found = header_error(&file[..file.len() - 1]);
    assert_eq!(found, HeaderError::OffsetsPastEnd { tensor: "x".into(), end: 8, available: 7 });
}

#[test]
fn header_that_is_not_utf8() {
    let mut file = safetensors("{\"a\":1}", b"");
    file[10] = 0xff;
    assert_eq!(header_error(&file), HeaderError::NotUtf8 { valid_up_to: 2 });
}

#[test]
fn header_that_is_not_the_expected_json() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    for header in ["", " {}", "[]", "{", "{\"a\":}", "{\"__metadata__\":{\"a\":1}}", deep.as_str()] {
        let found = header_error(&safetensors(header, b""));
        assert!(matches!(found, HeaderError::Json { .. }), "{header:.20}: {found}");
    }
}

#[test]
fn tensor_listed_twice() {
    let header = format!("{{{},{}}}", member("x", "F32", "[1]", 0, 4), member("x", "F32", "[1]", 4, 8));
    let found = header_error(&safetensors(&header, &[0; 8]));
    assert_eq!(found, HeaderError::Duplicate { tensor: "x".into() });
}

#[test]
fn malformed_entries() {
    for header in [
        r#"{"x":{"dtype":"F32","shape":[1]}}"#,
        r#"{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"x":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
        r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]}}"#,
        r#"{"x":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":0}}"#,
        r#"{"x":7}"#,
    ] {
        let found = header_error(&safetensors(header, &[0; 4]));
        assert!(matches!(&found, HeaderError::Entry { tensor, .. } if tensor == "x"), "{header}: {found}");
    }
}

#[test]
fn unsupported_dtypes() {
    for dtype in ["I8", "U8", "I16", "F64", "F8_E4M3", "BOOL", "f32", ""] {
        let found = header_error(&safetensors(&entry("x", dtype, "[1]", 0, 8), &[0; 8]));
        assert_eq!(found, HeaderError::UnsupportedDtype { tensor: "x".into(), found: dtype.into() });
    }
}

#[test]
fn shapes_that_overflow() {
    for shape in ["[4294967296,4294967296]", "[18446744073709551615,2]", "[0,4294967296,4294967296]"] {
        let found = header_error(&safetensors(&entry("x", "F32", shape, 0, 0), b""));
        assert!(matches!(found, HeaderError::ShapeOverflow { .. }), "{shape}: {found}");
    }
}

#[test]
fn reversed_offsets() {
    let found = header_error(&safetensors(&entry("x", "F32", "[1]", 4, 0), &[0; 4]));
    assert_eq!(found, HeaderError::OffsetsReversed { tensor: "x".into(), begin: 4, end: 0 });
}

#[test]
fn offsets_out_of_range() {
    let found = header_error(&safetensors(&entry("x", "F32", "[1]", u64::MAX - 4, u64::MAX), &[0; 4]));
    assert_eq!(found, HeaderError::OffsetsPastEnd { tensor: "x".into(), end: u64::MAX, available: 4 });
}

#[test]
fn bytes_that_do_not_fit_dtype_and_shape() {
    for (dtype, shape, size) in
        [(Dtype::F16, vec![3], 6), (Dtype::F32, vec![2, 2], 16), (Dtype::F32, vec![0], 0)]
    {
        let header = entry("x", dtype.name(), &format!("{shape:?}"), 0, 8);
        let found = header_error(&safetensors(&header, &[0; 8]));
        let tensor = "x".into();
        assert_eq!(found, HeaderError::ByteLength { tensor, dtype, shape, expected: size, found: 8 });
    }
}

#[test]
fn overlapping_tensors() {
    let header = format!("{{{},{}}}", member("x", "F32", "[2]", 0, 8), member("y", "F32", "[1]", 4, 8));
    let found = header_error(&safetensors(&header, &[0; 8]));
    assert_eq!(found, HeaderError::Overlap { first: "x".into(), second: "y".into(), begin: 4, end: 8 });
}

#[test]
fn hole_between_tensors() {
    let header = format!("{{{},{}}}", member("x", "F32", "[1]", 0, 4), member("y", "F32", "[1]", 8, 12));
    let found = header_error(&safetensors(&header, &[0; 12]));
    assert_eq!(found, HeaderError::Hole { tensor: "y".into(), from: 4, to: 8 });
}

#[test]
fn bytes_after_the_last_tensor() {
    let found = header_error(&safetensors(&entry("x", "F32", "[1]", 0, 4), &[0; 5]));
    assert_eq!(found, HeaderError::TrailingBytes { expected: 4, found: 5 });
}

#[test]
fn nan_and_infinity_are_named() {
    let mut data = Vec::new();
    (0..20_000u32).for_each(|n| data.extend((n as f32).to_le_bytes()));
    data[4 * 10_001..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let directory = Directory::with_model(&safetensors(&entry("x", "F32", "[200,100]", 0, 80_000), &data));
    let checkpoint = directory.open().unwrap();
    let mut out = Vec::new();
    match checkpoint.read_f32("x", &mut out).unwrap_err() {
        CheckpointError::NonFinite { path, tensor, index, value } => {
            assert_eq!(path, directory.path().join("model.safetensors"));
            assert_eq!((tensor.as_str(), index), ("x", 10_001));
            assert!(value.is_nan());
        }
        other => panic!("{other}"),
    }
    out.resize(100, 0.0);
    checkpoint.read_rows_f32("x", 99..100, &mut out).unwrap();
    let found = checkpoint.read_rows_f32("x", 100..101, &mut out);
    assert!(matches!(found, Err(CheckpointError::NonFinite { index: 10_001, .. })));
}

#[test]
fn what_is_asked_for_must_exist() {
    let directory = Directory::with_model(&safetensors(&entry("x", "F32", "[2,2]", 0, 16), &[0; 16]));
    let checkpoint = directory.open().unwrap();
    let found = checkpoint.read_f32("y", &mut Vec::new());
    assert!(matches!(found, Err(CheckpointError::NoSuchTensor { tensor, .. }) if tensor == "y"));
    let found = checkpoint.read_rows_f32("x", 1..3, &mut [0.0; 4]);
    assert!(matches!(found, Err(CheckpointError::RowsOutOfRange { start: 1, end: 3, found: 2, .. })));
    #[allow(clippy::reversed_empty_ranges)]
    let found = checkpoint.release_rows("x", 2..1);
    assert!(matches!(found, Err(CheckpointError::RowsOutOfRange { .. })));
    let found = checkpoint.read_rows_f32("x", 0..2, &mut [0.0; 3]);
    assert!(matches!(found, Err(CheckpointError::OutputLength { expected: 4, found: 3, .. })));
}

#[test]
fn index_that_is_not_the_expected_json() {
    for text in ["", "[]", "{}", r#"{"weight_map":[]}"#, r#"{"weight_map":{"x":1}}"#] {
        assert!(matches!(index_error(&Directory::with_shards(text)), IndexError::Json { .. }), "{text}");
    }
    let twice = r#"{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}"#;
    match index_error(&Directory::with_shards(twice)) {
        IndexError::Json { reason } => assert!(reason.contains("tensor x is listed twice"), "{reason}"),
        other => panic!("{other}"),
    }
    assert_eq!(index_error(&Directory::with_shards(r#"{"weight_map":{}}"#)), IndexError::Empty);
}

#[test]
fn shard_names_that_leave_the_directory() {
    for shard in ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", ".", "", "C:\\\\x", "..\\\\x"]
    {
        let map = format!(r#"{{"weight_map":{{"x":"{shard}"}}}}"#);
        let found = index_error(&Directory::with_shards(&map));
        assert!(matches!(found, IndexError::ShardLeavesDirectory { .. }), "{shard}: {found}");
    }
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_directory() {
    let outside = Directory::with_model(&safetensors(&entry("x", "F32", "[1]", 0, 4), &[0; 4]));
    let target = outside.path().join("model.safetensors");
    let directory = Directory::new();
    std::os::unix::fs::symlink(&target, directory.path().join("model.safetensors")).unwrap();
    assert!(matches!(directory.error(), CheckpointError::LinkLeavesDirectory { .. }));
    std::fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    let map = r#"{"weight_map":{"x":"a.safetensors"}}"#;
    directory.write("model.safetensors.index.json", map.as_bytes());
    std::os::unix::fs::symlink(&target, directory.path().join("a.safetensors")).unwrap();
    assert!(matches!(directory.error(), CheckpointError::LinkLeavesDirectory { .. }));
}

/// The Hugging Face cache keeps its files in `blobs` and links to them from `snapshots/<revision>`.
#[cfg(unix)]
#[test]
fn links_within_a_hugging_face_cache() {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/0123"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    let files = [
        ("config.json", directory::config().to_string().into_bytes()),
        ("model.safetensors", safetensors(&entry("x", "F32", "[1]", 0, 4), &[0; 4])),
    ];
    for (n, (name, contents)) in files.iter().enumerate() {
        std::fs::write(blobs.join(n.to_string()), contents).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{n}"), snapshot.join(name)).unwrap();
    }
    assert_eq!(slmc_checkpoint::Checkpoint::open(&snapshot).unwrap().tensors().len(), 1);
}

#[test]
fn missing_shard() {
    let map = r#"{"weight_map":{"x":"a.safetensors","z":"c.safetensors"}}"#;
    let found = index_error(&Directory::with_shards(map));
    assert_eq!(found, IndexError::MissingShard { shard: "c.safetensors".into() });
}

#[test]
fn index_and_shards_that_disagree() {
    let x_in = |shard: &str| format!(r#"{{"weight_map":{{"x":"{shard}","y":"b.safetensors"}}}}"#);
    let (tensor, shard) = ("x".to_owned(), "b.safetensors".to_owned());
    let found = index_error(&Directory::with_shards(&x_in(&shard)));
    assert_eq!(found, IndexError::TensorNotInShard { tensor: tensor.clone(), shard });

    let directory = Directory::with_shards(&x_in("a.safetensors"));
    let both = format!("{{{},{}}}", member("x", "F32", "[1]", 0, 4), member("y", "F32", "[1]", 4, 8));
    directory.write("b.safetensors", &safetensors(&both, &[0; 8]));
    let (first, second) = ("a.safetensors".to_owned(), "b.safetensors".to_owned());
    assert_eq!(index_error(&directory), IndexError::TensorInTwoShards { tensor, first, second });

    let more = format!("{{{},{}}}", member("y", "F32", "[1]", 0, 4), member("z", "F32", "[1]", 4, 8));
    directory.write("b.safetensors", &safetensors(&more, &[0; 8]));
    let (tensor, shard) = ("z".to_owned(), "b.safetensors".to_owned());
    assert_eq!(index_error(&directory), IndexError::UnlistedTensor { tensor, shard });
}

#[test]
fn corrupt_shard_is_named() {
    let directory = Directory::with_shards(r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#);
    directory.write("b.safetensors", b"short");
    match directory.error() {
        CheckpointError::Header { path, .. } => assert!(path.ends_with("b.safetensors")),
        other => panic!("{other}"),
    }
}

#[test]
fn directories_that_are_no_checkpoints() {
    let directory = Directory::new();
    assert!(matches!(directory.error(), CheckpointError::MissingFile { file: "model.safetensors", .. }));
    directory.write("pytorch_model.bin", b"");
    let found = directory.error();
    assert!(
        matches!(&found, CheckpointError::OtherWeightFormat { found, .. } if found == "pytorch_model.bin")
    );
    assert!(found.to_string().contains("only safetensors are read"));
    let empty = tempfile::tempdir().unwrap();
    let found = slmc_checkpoint::Checkpoint::open(empty.path()).unwrap_err();
    assert!(matches!(found, CheckpointError::MissingFile { file: "config.json", .. }), "{found}");
    let file = directory.path().join("config.json");
    let found = slmc_checkpoint::Checkpoint::open(&file).unwrap_err();
    assert!(matches!(found, CheckpointError::NotADirectory { .. }), "{found}");
    let found = slmc_checkpoint::Checkpoint::open(&empty.path().join("none")).unwrap_err();
    assert!(matches!(found, CheckpointError::Io { .. }), "{found}");
    std::fs::create_dir(directory.path().join("model.safetensors")).unwrap();
    assert!(matches!(directory.error(), CheckpointError::Io { .. }));
}

/// Only `tokenizer.json` is read; the message is what to type where the tokenizer has another form.
#[test]
fn tokenizers_in_other_forms() {
    let directory = Directory::with_model(&safetensors("{}", b""));
    let error = || directory.open().unwrap().tokenizer_json().unwrap_err();
    assert!(matches!(error(), CheckpointError::MissingFile { file: "tokenizer.json", .. }));
    for found in ["merges.txt", "tokenizer.model"] {
        directory.write(found, b"");
        let (message, path) = (error().to_string(), directory.path().display().to_string());
        assert!(
            message.contains(&format!("{path} has its tokenizer as {found} and no tokenizer.json")),
            "{message}"
        );
        let command = format!("AutoTokenizer.from_pretrained('{path}').save_pretrained('{path}')\"");
        assert!(message.ends_with(&command), "{message}");
    }
}

#[test]
fn json_files_that_do_not_parse() {
    let directory = Directory::with_model(&safetensors("{}", b""));
    directory.write("tokenizer.json", b"{");
    let checkpoint = directory.open().unwrap();
    assert!(matches!(checkpoint.tokenizer_json(), Err(CheckpointError::Json { .. })));
    directory.write("config.json", b"{\"model_type\": ");
    assert!(matches!(directory.error(), CheckpointError::Json { .. }));
}
