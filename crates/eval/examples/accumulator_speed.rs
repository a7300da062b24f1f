//! Nanoseconds per logit and thread of the accumulators, beside the plain loop over `f32::exp` that they replace.
//!
//! cargo run --release -p slmc-eval --example accumulator_speed

use std::time::Instant;

use slmc_eval::accumulate::Accumulator;

const TOKENS: usize = 512;
const VOCABULARY: usize = 128_256;
const WIDTH: usize = 2048;

fn logits(phase: f32) -> Vec<f32> {
    (0..TOKENS * WIDTH).map(|i| 8.0 * (i as f32 * 0.618 + phase).sin()).collect()
}

/// The least of several runs, in nanoseconds per logit (of one model) and thread.
fn measure(name: &str, models: usize, mut run: impl FnMut()) {
    let seconds = (0..5)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let count = TOKENS * (VOCABULARY / WIDTH * WIDTH) * models;
    let threads = rayon::current_num_threads();
    println!("{name}: {:.3} ns per logit and thread", seconds * 1e9 * threads as f64 / count as f64);
}

fn main() {
    let (base, model) = (logits(0.0), logits(0.1));
    let targets: Vec<u32> = (0..TOKENS as u32).map(|i| i * 240).collect();
    let slices = VOCABULARY / WIDTH;
    measure("perplexity", 1, || {
        let mut accumulator = Accumulator::single(targets.clone());
        (0..slices).for_each(|_| accumulator.add(WIDTH, None, &model).expect("finite"));
        assert!(accumulator.finish().nll[0].is_finite());
    });
    measure("perplexity and KL divergence", 2, || {
        let mut accumulator = Accumulator::pair(targets.clone());
        (0..slices).for_each(|_| accumulator.add(WIDTH, Some(&base), &model).expect("finite"));
        assert!(accumulator.finish().nll[0].is_finite());
    });
    let threads = rayon::current_num_threads();
    measure("plain f32 loop, one thread's share", 1, || {
        let mut total = 0.0;
        for _ in 0..slices {
            for row in model.chunks(WIDTH).take(TOKENS / threads) {
                total += row.iter().map(|x| f64::from((x - 8.0).exp())).sum::<f64>();
            }
        }
        assert!(total > 0.0);
    });
}
