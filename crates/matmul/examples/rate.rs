//! The rate of products in both precisions: `cargo run --release -p slmc-matmul --example rate [M N K]`.

use std::time::Instant;

use slmc_matmul::{Operand, Precision, product};

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|n| n.parse().expect("a number")).collect();
    let shapes = match numbers[..] {
        [m, n, k] => vec![[m, n, k]],
        _ => vec![
            [2048, 384, 384],
            [2048, 1024, 384],
            [2048, 384, 1024],
            [384, 1024, 2048],
            [2048, 2048, 2048],
        ],
    };
    for [m, n, k] in shapes {
        let value = |i: usize| (i * 37 % 101) as f32 / 101.0 - 0.5;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(value).collect(), (0..n * k).map(value).collect());
        for (name, a, b) in [
            ("x Wᵀ", Operand::new(&a, [m, k]), Operand::new(&b, [n, k]).transposed()),
            ("dy W", Operand::new(&a, [m, k]), Operand::new(&b, [k, n])),
            ("dyᵀ x", Operand::new(&a, [k, m]).transposed(), Operand::new(&b, [k, n])),
        ] {
            print!("[{m}, {n}, {k}] {name}:");
            for precision in Precision::ALL.into_iter().filter(|precision| precision.is_native()) {
                let mut best = f64::INFINITY;
                for _ in 0..10 {
                    let start = Instant::now();
                    std::hint::black_box(product(precision, a, b));
                    best = best.min(start.elapsed().as_secs_f64());
                }
                print!("  {precision} {:.0} GFLOP/s", 2e-9 * (m * n * k) as f64 / best);
            }
            println!();
        }
    }
}
