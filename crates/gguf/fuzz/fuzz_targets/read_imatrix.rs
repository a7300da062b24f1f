//! Any bytes: an importance matrix of either format, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slmc_gguf::imatrix::ImportanceMatrix;

fuzz_target!(|file: &[u8]| {
    let Ok(matrix) = ImportanceMatrix::parse(file) else { return };
    for entry in matrix.entries.values() {
        assert!(4 * entry.sums().len() <= file.len());
        if let Some(importance) = entry.importance() {
            assert_eq!(importance.len(), entry.sums().len());
            assert!(importance.iter().all(|weight| weight.is_finite() && *weight >= 0.0));
        }
    }
});
