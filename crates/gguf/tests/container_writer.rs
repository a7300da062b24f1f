//! The writer's refusals, and that it leaves nothing behind.

use std::fs;
use std::path::Path;

use slmc_gguf::TensorType::{self, F32, Q4_K};
use slmc_gguf::container::{Array, ContainerError, FormatError, GgufFile, Layout, Metadata, Value, Writer};

fn plan(tensors: &[(&str, &[usize], TensorType)]) -> Result<Layout, FormatError> {
    Layout::new(Metadata::new(), tensors.iter().map(|(n, s, t)| (n.to_string(), s.to_vec(), *t)))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Tensors as a layout gets them.
type Tensors<'a> = [(&'a str, &'a [usize], TensorType)];

#[test]
fn layout_refuses_what_the_reader_would() {
    let long = "n".repeat(64);
    let cases: [(&Tensors<'_>, &str); 8] = [
        (&[("", &[4], F32)], "EmptyTensorName"),
        (&[(&long, &[4], F32)], "TensorNameTooLong"),
        (&[("a", &[], F32)], "BadDimensions"),
        (&[("a", &[1, 1, 1, 1, 1], F32)], "BadDimensions"),
        (&[("a", &[3, 0], F32)], "EmptyDimension"),
        (&[("a", &[usize::MAX, usize::MAX], F32)], "ShapeOverflow"),
        (&[("a", &[2, 255], Q4_K)], "PartialBlock"),
        (&[("a", &[4], F32), ("a", &[4], F32)], "DuplicateTensor"),
    ];
    for (tensors, variant) in cases {
        let error = plan(tensors).unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{error:?} is not {variant}");
    }
    let half = usize::MAX / 16;
    assert_eq!(
        plan(&[("a", &[half], F32), ("b", &[half], F32), ("c", &[half], F32)]),
        Err(FormatError::TooLarge)
    );

    let mut metadata = Metadata::new();
    metadata.insert("general.alignment", 24u32);
    assert!(matches!(Layout::new(metadata, []), Err(FormatError::BadAlignment { .. })));
    let mut metadata = Metadata::new();
    metadata.insert("", 1u32);
    assert_eq!(Layout::new(metadata, []), Err(FormatError::EmptyKey { index: 0 }));
    let mut metadata = Metadata::new();
    metadata.insert("k".repeat(65536), 1u32);
    assert_eq!(Layout::new(metadata, []), Err(FormatError::KeyTooLong { length: 65536 }));
    let mut deep = Array::U8(vec![1]);
    for _ in 0..4 {
        deep = Array::Arrays(vec![deep]);
    }
    let mut metadata = Metadata::new();
    metadata.insert("deep", Value::Array(deep));
    assert!(matches!(Layout::new(metadata, []), Err(FormatError::ArrayTooDeep { .. })));
}

#[test]
fn shapes_are_outermost_first_and_offsets_aligned() {
    let layout = plan(&[("a", &[3, 5], F32), ("b", &[2, 256], Q4_K)]).unwrap();
    let (a, b) = (layout.tensor("a").unwrap(), layout.tensor("b").unwrap());
    assert_eq!((a.rows(), a.columns(), a.row_bytes(), a.byte_len(), a.offset), (3, 5, 20, 60, 0));
    assert_eq!((b.rows(), b.columns(), b.row_bytes(), b.byte_len(), b.offset), (2, 256, 144, 288, 64));
    assert_eq!(layout.total_bytes(), layout.data_offset() + 64 + 288);
    assert_eq!(layout.data_offset() % 32, 0);
}

#[test]
fn misuse_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let writer = Writer::create(&path, plan(&[("a", &[8], F32)]).unwrap()).unwrap();
    assert!(matches!(writer.write("b", 0, &[0]), Err(ContainerError::NotPlanned { .. })));
    assert!(matches!(writer.write("a", 30, &[0; 3]), Err(ContainerError::BeyondTensor { .. })));
    assert!(matches!(writer.write("a", u64::MAX, &[0; 3]), Err(ContainerError::BeyondTensor { .. })));
    writer.write("a", 4, &[1; 20]).unwrap();
    assert!(matches!(writer.write("a", 0, &[0; 5]), Err(ContainerError::WrittenTwice { .. })));
    let error = writer.finish().unwrap_err();
    assert!(matches!(&error, ContainerError::Incomplete { written: 20, bytes: 32, .. }), "{error:?}");
    assert!(error.to_string().contains("out.gguf") && error.to_string().contains("`a`"), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_dropped_writer_leaves_the_old_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    fs::write(&path, "old").unwrap();
    let writer = Writer::create(&path, plan(&[("a", &[100_000], F32)]).unwrap()).unwrap();
    writer.write("a", 0, &vec![1; 300_000]).unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["out.gguf"]);

    let writer = Writer::create(&path, plan(&[("a", &[4], F32)]).unwrap()).unwrap();
    writer.write("a", 0, &[2; 16]).unwrap();
    writer.finish().unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.data(file.tensor("a").unwrap()), [2; 16]);
    assert_eq!(names(dir.path()), ["out.gguf"]);
}

#[cfg(unix)]
#[test]
fn others_may_read_the_result_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain"), "").unwrap();
    Writer::create(&dir.path().join("out"), plan(&[]).unwrap()).unwrap().finish().unwrap();
    let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("plain"));
}

#[test]
fn impossible_targets_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("missing/out.gguf"), dir.path().to_owned()] {
        let error = Writer::create(&path, plan(&[]).unwrap()).err().unwrap();
        assert!(matches!(error, ContainerError::Create { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Linux reserves the room first, so a disk too small shows before any work.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_shows_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let layout = plan(&[("a", &[1 << 50], F32)]).unwrap();
    let error = Writer::create(&dir.path().join("out.gguf"), layout).err().unwrap();
    assert!(matches!(error, ContainerError::DiskFull { needed: 0x10_0000_0000_0000.., .. }), "{error:?}");
    assert_eq!(names(dir.path()), [""; 0]);
}
