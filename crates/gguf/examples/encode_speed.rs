//! Prints nanoseconds a weight that encoding and decoding take on one thread, for each type or those named.
//!
//! `cargo run --release -p slmc-gguf --example encode_speed [TYPE…]`

use std::time::Instant;

use slmc_gguf::TensorType;
use slmc_gguf::blocks::{decode, encode};

const COLUMNS: usize = 2048;
const ROWS: usize = 64;
const REPEATS: usize = 15;

/// The least of `REPEATS` times, in nanoseconds a weight: other work on the machine only ever adds.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(once).fold(f64::INFINITY, f64::min) * 1e9 / (ROWS * COLUMNS) as f64
}

fn main() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    // Sums of uniform numbers: nearly Gaussian.
    let rows: Vec<f32> = (0..ROWS * COLUMNS).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.02).collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|_| uniform() + 0.6).collect();

    let named: Vec<TensorType> =
        std::env::args().skip(1).map(|name| name.parse().unwrap_or_else(|e| panic!("{e}"))).collect();
    println!("type    encode  with importance  decode   (ns a weight)");
    for ty in if named.is_empty() { TensorType::ALL.to_vec() } else { named } {
        let mut bytes = vec![0; ty.bytes_for(rows.len()).expect("rows are whole blocks of every type")];
        let mut decoded = vec![0.0; rows.len()];
        let plain = nanoseconds(|| encode(ty, &rows, COLUMNS, None, &mut bytes).expect("finite rows"));
        let weighted =
            nanoseconds(|| encode(ty, &rows, COLUMNS, Some(&importance), &mut bytes).expect("finite rows"));
        let back = nanoseconds(|| decode(ty, &bytes, &mut decoded).expect("whole blocks"));
        println!("{ty:7} {plain:6.2} {weighted:16.2} {back:7.2}");
    }
}
