//! Logits against transformers' in float32, on every device.

use crate::common::{CASES, golden, largest_difference, logits};
use slmc_model::{BurnDevice, CheckpointSource, Device, KvPrecision};

fn compare(device: &BurnDevice, limit: f32) {
    for case in CASES {
        let golden = golden(case);
        let source = CheckpointSource::open(&golden.dir).unwrap();
        let found = logits(&source, &golden.tokens, golden.seq, device, KvPrecision::F32);
        let difference = largest_difference(&found, &golden.logits);
        println!("{case} on {device:?}: largest difference {difference:e}");
        assert!(difference <= limit, "{case} on {device:?}: largest difference {difference:e}");
    }
}

#[test]
fn cpu() {
    compare(&Device::Cpu.burn().unwrap(), 1e-4);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray() {
    compare(&Device::NdArray.burn().unwrap(), 1e-4);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu() {
    if let Some(device) = crate::common::wgpu() {
        compare(&device, 1e-3);
    }
}
