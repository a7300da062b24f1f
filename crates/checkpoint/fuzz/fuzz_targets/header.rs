//! Any bytes as a safetensors file: the header parses or is refused, and what it promises holds.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run header` in `crates/checkpoint`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slmc_checkpoint::{Header, convert};

fuzz_target!(|file: &[u8]| {
    let Ok(header) = Header::parse(file) else { return };
    let data = &file[header.data_start..];
    let mut covered = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.begin, covered, "a hole or an overlap");
        covered = tensor.end;
        let bytes = &data[tensor.begin..tensor.end];
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(bytes.len(), elements * tensor.dtype.bytes());
        let mut out = vec![0.0; elements];
        if convert::to_f32(tensor.dtype, bytes, &mut out).is_ok() {
            assert!(out.iter().all(|value| value.is_finite()));
        }
    }
    assert_eq!(covered, data.len());
});
