//! How fast a checkpoint's weights become f32, on one thread, and what of them stays resident.
//!
//! `cargo run --release -p slmc-checkpoint --example read_speed -- MODEL`

use std::path::Path;
use std::time::Instant;

use slmc_checkpoint::Checkpoint;

/// Values converted at a time: a buffer of 1 MiB, which a second-level cache holds.
const BUFFER: usize = 1 << 18;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: read_speed MODEL")?;
    let checkpoint = Checkpoint::open(Path::new(&dir))?;
    let mut buffer = vec![0.0f32; BUFFER];
    for release in [false, false, true, true] {
        let (start, mut bytes) = (Instant::now(), 0);
        for info in checkpoint.tensors() {
            let step = (BUFFER / info.row_elements().max(1)).max(1);
            for first in (0..info.rows()).step_by(step) {
                let rows = first..(first + step).min(info.rows());
                buffer.resize(rows.len() * info.row_elements(), 0.0);
                checkpoint.read_rows_f32(&info.name, rows.clone(), &mut buffer)?;
                if release {
                    checkpoint.release_rows(&info.name, rows)?;
                }
            }
            bytes += info.bytes();
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:5.2} GB/s of file, {:5.2} G values/s, resident {} ({})",
            bytes as f64 / seconds / 1e9,
            bytes as f64 / seconds / 2e9,
            resident(),
            if release { "released row by row" } else { "kept mapped" },
        );
    }
    Ok(())
}

/// Resident memory of this process, in the kernel's words.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".into(), |value| value.trim().to_owned())
}
