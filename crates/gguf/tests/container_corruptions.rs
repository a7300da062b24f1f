//! One hand-made malicious file for each kind of corruption, each with its own error.

use slmc_gguf::TensorType;
use slmc_gguf::container::{ContainerError, FormatError, GgufFile, Header, Place};

/// Writes GGUF fields without any check.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn start(version: u32, tensors: u64, entries: u64) -> Self {
        Raw(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn bytes(mut self, b: &[u8]) -> Self {
        self.0.extend_from_slice(b);
        self
    }

    fn u8(self, v: u8) -> Self {
        self.bytes(&[v])
    }

    fn u32(self, v: u32) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    fn u64(self, v: u64) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    fn str(self, s: &str) -> Self {
        self.u64(s.len() as u64).bytes(s.as_bytes())
    }

    /// `extents` innermost first, as the file has them.
    fn tensor(self, name: &str, extents: &[u64], ty: u32, offset: u64) -> Self {
        let head = self.str(name).u32(extents.len() as u32);
        extents.iter().fold(head, |r, &e| r.u64(e)).u32(ty).u64(offset)
    }

    /// Padding to 32 and `n` bytes of data.
    fn data(mut self, n: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + n, 0);
        self
    }

    fn error(&self) -> FormatError {
        let error = Header::parse(&self.0).expect_err("the file is corrupt");
        assert!(!error.to_string().is_empty());
        error
    }
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A file with one metadata entry `key` whose value type and value follow.
fn entry(key: &str) -> Raw {
    Raw::start(3, 0, 1).str(key)
}

fn one_tensor(extents: &[u64], ty: u32, offset: u64, data: usize) -> FormatError {
    Raw::start(3, 1, 0).tensor("w", extents, ty, offset).data(data).error()
}

#[test]
fn the_builder_makes_sound_files() {
    let raw = Raw::start(3, 1, 1).str("k").u32(U32).u32(7).tensor("w", &[8, 2], 0, 0).data(64);
    let header = Header::parse(&raw.0).unwrap();
    assert_eq!(header.metadata.u32("k"), Ok(7));
    assert_eq!(header.tensors[0].shape, [2, 8]);
}

#[test]
fn magic_and_version() {
    assert_eq!(
        Raw(b"PK\x03\x04....".to_vec()).error(),
        FormatError::NotGguf { found: b"PK\x03\x04".to_vec() }
    );
    assert_eq!(Raw::start(1, 0, 0).error(), FormatError::UnsupportedVersion { version: 1 });
    assert_eq!(Raw::start(4, 0, 0).error(), FormatError::UnsupportedVersion { version: 4 });
    assert_eq!(Raw::start(3 << 24, 0, 0).error(), FormatError::BigEndian { version: 3 << 24 });
}

#[test]
fn truncated_anywhere() {
    let sound = Raw::start(3, 1, 2)
        .str("general.name")
        .u32(STRING)
        .str("x")
        .str("list")
        .u32(ARRAY)
        .u32(U32)
        .u64(2)
        .u32(1)
        .u32(2)
        .tensor("w", &[32], 8, 0)
        .data(34);
    Header::parse(&sound.0).unwrap();
    for length in 0..sound.0.len() {
        assert!(Header::parse(&sound.0[..length]).is_err(), "cut to {length} bytes");
    }
    assert_eq!(
        Raw(Vec::new()).error(),
        FormatError::Truncated { place: Place::Header, at: 0, needed: 4, available: 0 }
    );
    assert_eq!(
        Raw::start(3, 0, 1).str("key").u32(U32).bytes(&[1, 2]).error(),
        FormatError::Truncated { place: Place::Value("key".into()), at: 39, needed: 4, available: 2 }
    );
}

#[test]
fn enormous_counts() {
    let all = u64::MAX;
    assert_eq!(Raw::start(3, 0, all).error(), FormatError::TooManyEntries { count: all, room: 0 });
    assert_eq!(Raw::start(3, all, 0).error(), FormatError::TooManyTensors { count: all, room: 0 });
    assert_eq!(
        Raw::start(3, 0, 1).u64(all).bytes(&[b'k'; 16]).error(),
        FormatError::StringTooLong { place: Place::Key(0), length: all, available: 16 }
    );
    assert_eq!(
        entry("k").u32(STRING).u64(1 << 60).bytes(&[0; 8]).error(),
        FormatError::StringTooLong { place: Place::Value("k".into()), length: 1 << 60, available: 8 }
    );
    for element in [U32, STRING, ARRAY, 0] {
        assert_eq!(
            entry("k").u32(ARRAY).u32(element).u64(all).bytes(&[0; 24]).error(),
            FormatError::ArrayTooLong { key: "k".into(), count: all, available: 24 }
        );
    }
    assert_eq!(
        Raw::start(3, 1, 0).u64(1 << 40).bytes(&[b'w'; 40]).error(),
        FormatError::StringTooLong { place: Place::Tensor(0), length: 1 << 40, available: 40 }
    );
}

#[test]
fn keys_and_values() {
    assert_eq!(entry("").u32(U32).u32(0).error(), FormatError::EmptyKey { index: 0 });
    let long = "k".repeat(65536);
    assert_eq!(entry(&long).u32(U32).u32(0).error(), FormatError::KeyTooLong { length: 65536 });
    assert_eq!(
        Raw::start(3, 0, 2).str("k").u32(U32).u32(1).str("k").u32(U32).u32(2).error(),
        FormatError::DuplicateKey { key: "k".into() }
    );
    assert_eq!(entry("k").u32(13).u64(0).error(), FormatError::UnknownValueType { key: "k".into(), id: 13 });
    assert_eq!(
        entry("k").u32(ARRAY).u32(99).u64(0).error(),
        FormatError::UnknownValueType { key: "k".into(), id: 99 }
    );
    assert_eq!(entry("k").u32(7).u8(2).error(), FormatError::NotABoolean { key: "k".into(), value: 2 });
    assert_eq!(
        entry("k").u32(ARRAY).u32(7).u64(2).bytes(&[1, 255]).error(),
        FormatError::NotABoolean { key: "k".into(), value: 255 }
    );
    assert_eq!(
        entry("k").u32(STRING).u64(2).bytes(b"\xff\xfe").error(),
        FormatError::NotUtf8 { place: Place::Value("k".into()) }
    );
    assert_eq!(
        Raw::start(3, 0, 1).u64(1).bytes(b"\xc3").bytes(&[0; 8]).error(),
        FormatError::NotUtf8 { place: Place::Key(0) }
    );
    let mut nested = entry("k").u32(ARRAY);
    for _ in 0..10_000 {
        nested = nested.u32(ARRAY).u64(1);
    }
    assert_eq!(nested.bytes(&[0; 16]).error(), FormatError::ArrayTooDeep { key: "k".into(), at_most: 4 });
}

#[test]
fn alignment() {
    for bad in [0, 24, u32::MAX] {
        let error = entry("general.alignment").u32(U32).u32(bad).error();
        assert_eq!(error, FormatError::BadAlignment { found: format!("u32 {bad}") });
    }
    let error = entry("general.alignment").u32(STRING).str("32").error();
    assert_eq!(error, FormatError::BadAlignment { found: "str \"32\"".into() });
    let error = Raw::start(3, 1, 1)
        .str("general.alignment")
        .u32(U32)
        .u32(1 << 31)
        .tensor("w", &[1], 0, 0)
        .data(64)
        .error();
    assert!(matches!(error, FormatError::OutOfBounds { available: 0, .. }), "{error:?}");
}

#[test]
fn tensor_names() {
    let error = Raw::start(3, 1, 0).tensor("", &[8], 0, 0).data(32).error();
    assert_eq!(error, FormatError::EmptyTensorName { index: 0 });
    let long = "w".repeat(64);
    let error = Raw::start(3, 1, 0).tensor(&long, &[8], 0, 0).data(32).error();
    assert_eq!(error, FormatError::TensorNameTooLong { name: long, length: 64 });
    let error = Raw::start(3, 2, 0).tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64).error();
    assert_eq!(error, FormatError::DuplicateTensor { tensor: "w".into() });
    let error = Raw::start(3, 1, 0).u64(2).bytes(b"\x80w").bytes(&[0; 40]).error();
    assert_eq!(error, FormatError::NotUtf8 { place: Place::Tensor(0) });
}

#[test]
fn shapes() {
    let tensor = || "w".to_owned();
    assert_eq!(one_tensor(&[], 0, 0, 64), FormatError::BadDimensions { tensor: tensor(), dimensions: 0 });
    assert_eq!(one_tensor(&[1; 5], 0, 0, 64), FormatError::BadDimensions { tensor: tensor(), dimensions: 5 });
    let enormous = Raw::start(3, 1, 0).str("w").u32(u32::MAX).bytes(&[0; 64]).error();
    assert_eq!(enormous, FormatError::BadDimensions { tensor: tensor(), dimensions: u32::MAX.into() });
    assert_eq!(
        one_tensor(&[8, 0], 0, 0, 64),
        FormatError::EmptyDimension { tensor: tensor(), shape: vec![0, 8] }
    );
    for extents in [vec![1 << 33, 1 << 33], vec![u64::MAX], vec![1 << 62, 2], vec![1 << 61], vec![1 << 32; 4]]
    {
        let shape = extents.iter().rev().copied().collect();
        assert_eq!(one_tensor(&extents, 0, 0, 64), FormatError::ShapeOverflow { tensor: tensor(), shape });
    }
    assert_eq!(
        one_tensor(&[255], TensorType::Q4_K.ggml_id(), 0, 256),
        FormatError::PartialBlock { tensor: tensor(), columns: 255, ty: TensorType::Q4_K }
    );
}

#[test]
fn tensor_types() {
    let error = one_tensor(&[256], 16, 0, 256);
    assert_eq!(error, FormatError::UnknownTensorType { tensor: "w".into(), id: 16 });
    assert!(error.to_string().contains("iq2_xxs"), "{error}");
    assert_eq!(
        one_tensor(&[256], 777, 0, 256),
        FormatError::UnknownTensorType { tensor: "w".into(), id: 777 }
    );
}

#[test]
fn places() {
    let tensor = || "w".to_owned();
    assert_eq!(
        one_tensor(&[8], 0, 8, 64),
        FormatError::Misaligned { tensor: tensor(), offset: 8, alignment: 32 }
    );
    assert_eq!(
        one_tensor(&[8], 0, 32, 63),
        FormatError::OutOfBounds { tensor: tensor(), offset: 32, bytes: 32, available: 63 }
    );
    let far = u64::MAX - 31;
    assert_eq!(
        one_tensor(&[8], 0, far, 64),
        FormatError::OutOfBounds { tensor: tensor(), offset: far, bytes: 32, available: 64 }
    );
    let overlapping = Raw::start(3, 3, 0)
        .tensor("c", &[8], 0, 64)
        .tensor("a", &[16], 0, 0)
        .tensor("b", &[8], 0, 32)
        .data(128);
    assert_eq!(overlapping.error(), FormatError::Overlap { first: "a".into(), second: "b".into() });
}

#[test]
fn the_path_is_in_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.gguf");
    let message = |path| GgufFile::open(path).unwrap_err().to_string();
    assert!(message(&path).contains("broken.gguf"), "{}", message(&path));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(
        GgufFile::open(&path),
        Err(ContainerError::Malformed { error: FormatError::Truncated { .. }, .. })
    ));
    assert!(message(&path).contains("broken.gguf"), "{}", message(&path));
    assert!(matches!(GgufFile::open(dir.path()), Err(ContainerError::NotAFile { .. })));
}
