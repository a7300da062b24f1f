//! Activations rounded as ggml's CPU backend rounds them, bit for bit (golden files: `tests/golden`).

use std::path::Path;

use slmc_gguf::TensorType;
use slmc_gguf::activation::{ActivationFormat, round_rows};

const COLUMNS: usize = 512;

fn golden(name: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/activations").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn every_format_rounds_as_ggml_does() {
    let formats = [
        ("f32", ActivationFormat::F32),
        ("f16", ActivationFormat::F16),
        ("bf16", ActivationFormat::BF16),
        ("q8_0", ActivationFormat::Q8_0),
        ("q8_1", ActivationFormat::Q8_1),
        ("q8_k", ActivationFormat::Q8_K),
    ];
    let rows = golden("f32.f32");
    for (name, format) in formats {
        let mut rounded = rows.clone();
        round_rows(format, &mut rounded, COLUMNS);
        for (i, (found, expected)) in rounded.iter().zip(golden(&format!("{name}.f32"))).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{name} value {i}: {found} for {expected}");
        }
    }
}

#[test]
fn rows_of_weight_blocks_are_rows_of_activation_blocks() {
    for ty in TensorType::ALL {
        let block = ActivationFormat::for_weights(ty).block_len();
        assert!(ty.block_len().is_multiple_of(block), "{ty}");
    }
}

#[test]
#[should_panic(expected = "not whole rows of 256-wide Q8_K blocks")]
fn rows_that_are_no_whole_blocks_are_refused() {
    round_rows(ActivationFormat::Q8_K, &mut [1.0; 256], 128);
}

#[test]
fn blocks_do_not_see_each_other() {
    for format in [ActivationFormat::Q8_0, ActivationFormat::Q8_K] {
        let block = format.block_len();
        let mut both: Vec<f32> = (0..2 * block).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        both[..block].iter_mut().for_each(|x| *x *= 1e-20);
        let mut alone = both[block..].to_vec();
        round_rows(format, &mut both, 2 * block);
        round_rows(format, &mut alone, block);
        assert_eq!(both[block..], alone);
    }
}
