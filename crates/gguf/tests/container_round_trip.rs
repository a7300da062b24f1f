//! What the writer writes, the reader reads: any metadata, any shapes, written in any order from several threads.

use proptest::prelude::*;
use slmc_gguf::TensorType;
use slmc_gguf::container::{Array, GgufFile, Header, Layout, Metadata, Value, Writer};

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i8>(), 0..9).prop_map(Array::I8),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Array::U16),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(Array::U32),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(Array::I32),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Array::U64),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(Array::I64),
        prop::collection::vec(-1e30f32..1e30, 0..9).prop_map(Array::F32),
        prop::collection::vec(-1e300f64..1e300, 0..9).prop_map(Array::F64),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(".{0,12}", 0..9).prop_map(|v| Array::Strings(v.into_iter().collect())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Arrays))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e30f32..1e30).prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        array().prop_map(Value::from),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    (prop::collection::vec(("[a-z][a-z._]{0,20}", value()), 0..12), prop::option::of(0u32..9)).prop_map(
        |(entries, alignment)| {
            let mut m = Metadata::new();
            for (key, value) in entries {
                m.insert(key, value);
            }
            if let Some(log) = alignment {
                m.insert("general.alignment", 1u32 << log);
            }
            m
        },
    )
}

/// Type and shape (outermost first), small.
fn tensor() -> impl Strategy<Value = (Vec<usize>, TensorType)> {
    let ty = prop::sample::select(TensorType::ALL.to_vec());
    (ty, 1usize..4, prop::collection::vec(1usize..5, 0..4)).prop_map(|(ty, blocks, mut shape)| {
        shape.push(blocks * ty.block_len());
        (shape, ty)
    })
}

/// Content that differs for every tensor and place.
fn content(tensor: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 251 + tensor * 97) as u8).collect()
}

fn plan(metadata: Metadata, tensors: &[(Vec<usize>, TensorType)]) -> Layout {
    let tensors = tensors.iter().enumerate().map(|(i, (shape, ty))| (format!("t.{i}"), shape.clone(), *ty));
    Layout::new(metadata, tensors).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn written_files_read_back_equal(
        metadata in metadata(),
        tensors in prop::collection::vec(tensor(), 0..6),
        piece in 1usize..3000,
        reversed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let layout = plan(metadata, &tensors);
        let writer = Writer::create(&path, layout.clone()).unwrap();
        let mut pieces: Vec<(usize, usize)> = layout
            .tensors()
            .iter()
            .enumerate()
            .flat_map(|(i, t)| (0..t.byte_len()).step_by(piece).map(move |at| (i, at)))
            .collect();
        if reversed {
            pieces.reverse();
        }
        for (i, at) in pieces {
            let info = &layout.tensors()[i];
            let all = content(i, info.byte_len());
            writer.write(&info.name, at as u64, &all[at..(at + piece).min(all.len())]).unwrap();
        }
        writer.finish().unwrap();

        let file = GgufFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), layout.metadata());
        prop_assert_eq!(file.tensors(), layout.tensors());
        prop_assert_eq!(file.file_bytes(), layout.total_bytes());
        prop_assert_eq!(file.version(), 3);
        for (i, info) in file.tensors().iter().enumerate() {
            prop_assert_eq!(file.data(info), content(i, info.byte_len()));
            file.prefetch(info);
            file.release(info);
            prop_assert_eq!(file.data(info), content(i, info.byte_len()));
        }
        // Padding is zero, so equal inputs give equal bytes.
        let bytes = std::fs::read(&path).unwrap();
        let mut gap = 0;
        for info in file.tensors() {
            let start = (layout.data_offset() + info.offset) as usize;
            prop_assert!(gap == 0 || bytes[gap..start].iter().all(|&b| b == 0));
            gap = start + info.byte_len();
        }
        prop_assert!(gap == 0 || bytes[gap..].iter().all(|&b| b == 0));
    }

    #[test]
    fn any_bytes_parse_or_fail_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::parse(&bytes);
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend_from_slice(&bytes);
        let _ = Header::parse(&file);
    }
}

#[test]
fn threads_write_large_tensors_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    // Larger than all chunks in flight together, with sizes that share pages.
    let tensors: Vec<_> = (0..5).map(|i| (vec![1001 + i, 1024], TensorType::F32)).collect();
    let layout = plan(Metadata::new(), &tensors);
    let writer = Writer::create(&path, layout.clone()).unwrap();
    std::thread::scope(|scope| {
        for (i, info) in layout.tensors().iter().enumerate() {
            let writer = &writer;
            scope.spawn(move || {
                let all = content(i, info.byte_len());
                for (k, piece) in all.chunks(700_001).enumerate() {
                    writer.write(&info.name, k as u64 * 700_001, piece).unwrap();
                }
            });
        }
    });
    writer.finish().unwrap();
    let file = GgufFile::open(&path).unwrap();
    for (i, info) in file.tensors().iter().enumerate() {
        assert!(file.data(info) == content(i, info.byte_len()), "{}", info.name);
    }
}

#[test]
fn version_2_is_read() {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    Writer::create(&path, plan(metadata.clone(), &[])).unwrap().finish().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 2;
    let header = Header::parse(&bytes).unwrap();
    assert_eq!((header.version, header.metadata), (2, metadata));
}
