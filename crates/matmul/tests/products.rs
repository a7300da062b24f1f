//! Products against three loops in f64, in both precisions, for shapes that fill no tile.

use half::bf16;
use proptest::prelude::*;
use slmc_matmul::{
    Onto, Operand, PART_GRID, Part, Precision, multiply_at, multiply_in, parts_of_product, product,
    product_into, products_into,
};

/// What the operand's values are in a product.
fn read(precision: Precision, value: f32) -> f64 {
    match precision {
        Precision::F32 => f64::from(value),
        Precision::Bf16 if value.is_subnormal() => 0.0,
        Precision::Bf16 => bf16::from_f32(value).to_f64(),
    }
}

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() - 0.5).collect()
}

/// A matrix of this shape, lying as it is or turned, with a gap behind every row.
struct Matrix {
    values: Vec<f32>,
    shape: [usize; 2],
    turned: bool,
    gap: usize,
}

impl Matrix {
    fn new(shape: [usize; 2], turned: bool, gap: usize, seed: u64) -> Self {
        let [rows, columns] = if turned { [shape[1], shape[0]] } else { shape };
        Self { values: noise(rows * (columns + gap), seed), shape, turned, gap }
    }

    fn operand(&self) -> Operand<'_> {
        let [rows, columns] = self.shape;
        match self.turned {
            true => Operand::spaced(&self.values, [columns, rows], rows + self.gap).transposed(),
            false => Operand::spaced(&self.values, [rows, columns], columns + self.gap),
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        match self.turned {
            true => self.values[column * (self.shape[0] + self.gap) + row],
            false => self.values[row * (self.shape[1] + self.gap) + column],
        }
    }
}

fn precisions() -> impl Iterator<Item = Precision> {
    Precision::ALL.into_iter().filter(|precision| precision.is_native())
}

proptest! {
    #[test]
    fn agree_with_three_loops(
        (m, n, k) in (1usize..70, 1usize..110, 1usize..600),
        turned in any::<[bool; 2]>(),
        gaps in [0usize..3, 0usize..3, 0usize..3],
        onto in prop_oneof![Just(Onto::Zero), Just(Onto::Itself)],
        factor in prop_oneof![Just(1.0f32), Just(-0.5)],
    ) {
        let (a, b) = (Matrix::new([m, k], turned[0], gaps[0], 1), Matrix::new([k, n], turned[1], gaps[1], 2));
        let stride = n + gaps[2];
        for precision in precisions() {
            let mut out = vec![7.0f32; m * stride];
            multiply_in(precision, &mut out, stride, onto, factor, a.operand(), b.operand());
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k)
                        .map(|l| read(precision, a.at(i, l)) * read(precision, b.at(l, j)))
                        .sum();
                    let before = if onto == Onto::Itself { 7.0 } else { 0.0 };
                    let (expected, found) = (before + f64::from(factor) * sum, f64::from(out[i * stride + j]));
                    prop_assert!((found - expected).abs() < 1e-4, "{precision} [{i}, {j}]: {found} {expected}");
                }
                prop_assert!(out[i * stride + n..(i + 1) * stride].iter().all(|&gap| gap == 7.0), "the gap was written");
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let (m, n, k) = (700, 530, 97);
    let (a, b) = (noise(m * k, 3), noise(n * k, 4));
    let (a, b) = (Operand::new(&a, [m, k]), Operand::new(&b, [n, k]).transposed());
    for precision in precisions() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(|| product(precision, a, b));
        let three = pool(3).install(|| product(precision, a, b));
        assert_eq!(one, three);
        let mut twice = one.clone();
        product_into(precision, &mut twice, Onto::Itself, a, b);
        for (twice, once) in twice.iter().zip(&one) {
            assert!((twice - 2.0 * once).abs() < 1e-4);
        }
    }
}

#[test]
fn more_than_is_packed_at_a_time() {
    // 5 MiB of inner indices: a tile of rows and a tile of columns at a time.
    let (m, n, k) = (300, 400, 40_000);
    let (a, b) = (noise(m * k, 6), noise(n * k, 7));
    let (a, b) = (Operand::new(&a, [m, k]), Operand::new(&b, [n, k]).transposed());
    for precision in precisions() {
        let mut one_thread = vec![0.0; m * n];
        multiply_in(precision, &mut one_thread, n, Onto::Zero, 1.0, a, b);
        let all = product(precision, a, b);
        assert!(all.iter().zip(&one_thread).all(|(all, one)| (all - one).abs() < 1e-2));
    }
}

#[test]
fn an_empty_sum_is_zero() {
    for precision in precisions() {
        let mut out = [1.0; 6];
        let (a, b) = (Operand::new(&[], [2, 0]), Operand::new(&[], [0, 3]));
        multiply_in(precision, &mut out, 3, Onto::Itself, 1.0, a, b);
        assert_eq!(out, [1.0; 6]);
        multiply_in(precision, &mut out, 3, Onto::Zero, 1.0, a, b);
        assert_eq!(out, [0.0; 6]);
    }
}

#[test]
fn not_a_number_stays_none() {
    for precision in precisions() {
        let mut out = [0.0; 4];
        let (a, b) = ([f32::NAN, 1.0, f32::INFINITY, 1.0], [1.0, 1.0, 1.0, 1.0]);
        multiply_in(
            precision,
            &mut out,
            2,
            Onto::Zero,
            1.0,
            Operand::new(&a, [2, 2]),
            Operand::new(&b, [2, 2]),
        );
        assert!(out[0].is_nan() && out[1].is_nan());
        assert_eq!(out[2..], [f32::INFINITY; 2]);
    }
}

#[test]
fn products_stand_side_by_side() {
    let (m, k, widths) = (20, 300, [48, 5, 100]);
    let a = noise(m * k, 5);
    let a = Operand::new(&a, [m, k]);
    let right: Vec<Vec<f32>> = widths.iter().map(|n| noise(n * k, *n as u64)).collect();
    let right: Vec<Operand<'_>> = right.iter().zip(widths).map(|(b, n)| Operand::new(b, [k, n])).collect();
    let all: usize = widths.iter().sum();
    for precision in precisions() {
        let mut out = vec![0.0; m * all];
        // SAFETY: there is room for all of it.
        unsafe { multiply_at(precision, out.as_mut_ptr(), all, Onto::Zero, 1.0, a, &right) };
        let mut on_all_threads = vec![0.0; m * all];
        products_into(precision, &mut on_all_threads, all, Onto::Zero, a, &right);
        assert_eq!(out, on_all_threads);
        let mut before = 0;
        for (&b, n) in right.iter().zip(widths) {
            let own = product(precision, a, b);
            for row in 0..m {
                assert_eq!(out[row * all + before..][..n], own[row * n..][..n]);
            }
            before += n;
        }
    }
}

/// The product, part by part.
fn by_parts(
    precision: Precision,
    a: Operand<'_>,
    b: Operand<'_>,
    [m, n]: [usize; 2],
    step: usize,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * n];
    let places = std::sync::Mutex::new(&mut out);
    let mut parts = Vec::new();
    for row in (0..m).step_by(step) {
        for column in (0..n).step_by(step) {
            let part = Part { rows: row..m.min(row + step), columns: column..n.min(column + step) };
            parts.push((part.clone(), part));
        }
    }
    parts_of_product(precision, a, b, parts, |part, values| {
        assert_eq!(values.len(), part.values());
        let mut out = places.lock().unwrap();
        for (row, values) in part.rows.zip(values.chunks_exact(part.columns.len())) {
            out[row * n..][part.columns.clone()].copy_from_slice(values);
        }
    });
    out
}

/// A matrix times its own transpose is packed once.
#[test]
fn parts_of_a_square_are_those_of_a_product() {
    for [m, k] in [[1, 3], [48, 16], [100, 601], [230, 256]] {
        let (a, copy) = (Matrix::new([m, k], true, 0, 1), Matrix::new([m, k], true, 0, 1));
        for precision in precisions() {
            let square = by_parts(precision, a.operand(), a.operand().transposed(), [m, m], PART_GRID);
            let product = by_parts(precision, a.operand(), copy.operand().transposed(), [m, m], PART_GRID);
            assert!(square == product, "{precision} {m} {k}");
        }
    }
}

proptest! {
    /// Parts are what the whole product has there.
    #[test]
    fn parts_are_parts(
        (m, n, k) in (1usize..230, 1usize..230, 1usize..600),
        multiple in 1usize..3,
        turned in any::<[bool; 2]>(),
    ) {
        let step = multiple * PART_GRID;
        let (a, b) = (Matrix::new([m, k], turned[0], 0, 1), Matrix::new([k, n], turned[1], 0, 2));
        for precision in precisions() {
            let whole = product(precision, a.operand(), b.operand());
            let out = by_parts(precision, a.operand(), b.operand(), [m, n], step);
            for (at, (found, expected)) in out.iter().zip(&whole).enumerate() {
                prop_assert!((found - expected).abs() < 1e-4, "{precision} {at}: {found} {expected}");
            }
        }
    }
}
