//! Choosing steps by the products of a sub-block's inputs, where rounding by their squares alone has chosen before.
//!
//! With e the rounding error of the weights that share a step and G = E\[u uᵀ\] over their inputs u, an output changes by eᵀ G e
//! in the mean square. The fit of a format knows the diagonal of G; neighbouring inputs are far from independent, though, and
//! which clipping of a group is best depends on that. Here steps around the fitted one are tried, each with the least squares
//! under G of the levels it gives, and the one that costs least is taken: what AWQ's clipping search (Lin et al., arXiv
//! 2306.00978, `auto_clip.py`) asks of sample inputs, from their moments. Codes stay the nearest ones.

use super::format::{BlockFormat, Levels, Step, quantize};
use super::gain::ALONG;

/// By how much the fitted step is changed, before least squares.
const FACTORS: [f32; 8] = [1.0, 0.85, 0.9, 0.95, 1.05, 1.1, 1.16, 1.23];

/// Mean products of inputs of neighbouring columns: a matrix `[len, len]` for each run of `len` columns.
#[derive(Clone, Debug, PartialEq)]
pub struct GramBlocks {
    len: usize,
    /// `[columns / len, len, len]`.
    values: Vec<f32>,
}

impl GramBlocks {
    /// From `[runs, len, len]` values, each matrix symmetric; `None` where they are no such.
    pub fn new(len: usize, values: Vec<f32>) -> Option<Self> {
        let whole = len > 0 && values.len().is_multiple_of(len * len);
        (whole && values.iter().all(|value| value.is_finite())).then_some(Self { len, values })
    }

    /// Columns of a run.
    pub fn run_len(&self) -> usize {
        self.len
    }

    /// All columns.
    pub fn columns(&self) -> usize {
        self.values.len() / self.len
    }

    /// `[columns / len, len, len]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The products of inputs that were divided by `scales`, one for each column.
    ///
    /// # Panics
    /// If there is not one for each column.
    pub fn divided(&self, scales: &[f32]) -> Self {
        assert_eq!(scales.len(), self.columns(), "a scale of each column");
        let mut values = self.values.clone();
        for (matrix, scales) in
            values.chunks_exact_mut(self.len * self.len).zip(scales.chunks_exact(self.len))
        {
            for (row, a) in matrix.chunks_exact_mut(self.len).zip(scales) {
                row.iter_mut().zip(scales).for_each(|(value, b)| *value = *value / a / b);
            }
        }
        Self { len: self.len, values }
    }

    /// The products of `len` columns from `first` on, all of one run.
    #[inline(always)]
    fn of(&self, first: usize, len: usize) -> Gram<'_> {
        let (run, at) = (first / self.len, first % self.len);
        debug_assert!(at + len <= self.len, "columns of one run");
        Gram { values: &self.values[(run * self.len + at) * self.len + at..], stride: self.len }
    }
}

/// A symmetric matrix among others.
#[derive(Clone, Copy)]
struct Gram<'a> {
    values: &'a [f32],
    stride: usize,
}

impl Gram<'_> {
    /// G v.
    #[inline(always)]
    fn times(self, v: &[f32], out: &mut [f32]) {
        if v.len().is_multiple_of(32) { self.times_by::<32>(v, out) } else { self.times_by::<16>(v, out) }
    }

    #[inline(always)]
    fn times_by<const WIDTH: usize>(self, v: &[f32], out: &mut [f32]) {
        for (c, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
            let mut sums = [0.0; WIDTH];
            for (row, v) in self.values.chunks(self.stride).zip(v) {
                let row: &[f32; WIDTH] = row[c * WIDTH..][..WIDTH].try_into().expect("as long as that");
                for i in 0..WIDTH {
                    sums[i] += v * row[i];
                }
            }
            *out = sums;
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const WIDTH: usize = 16;
    let mut sums = [0.0f32; WIDTH];
    for (a, b) in a.as_chunks::<WIDTH>().0.iter().zip(b.as_chunks::<WIDTH>().0) {
        for i in 0..WIDTH {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

/// Most weights that share a step and are refined.
pub const LONGEST_RUN: usize = 128;

/// What weights that share a step are rounded to.
#[derive(Clone, Copy)]
pub struct Rounding {
    /// What codes stand for.
    pub levels: Levels,
    /// Whether the step has an offset that may be another.
    pub affine: bool,
    /// How much more an error along the weights counts, beyond eᵀ G e.
    along: f32,
}

impl Rounding {
    /// Of the integers from 0 to `highest` less a zero, which is `middle` for all groups or chosen for each.
    pub fn integers(highest: u8, middle: Option<u8>) -> Self {
        let zero = i32::from(middle.unwrap_or(0));
        let levels = Levels::Uniform { lowest: -zero, highest: i32::from(highest) - zero };
        Self { levels, affine: middle.is_none(), along: 0.0 }
    }

    fn of<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(step: Step) -> Self {
        // a format without an offset has −0.0; a minimum of 0, which is that too, stays
        let affine = step.offset.to_bits() != (-0.0f32).to_bits();
        Self { levels: F::LEVELS, affine, along: ALONG }
    }
}

/// A step for the weights `x`, in columns from `first` on, that costs no more under `gram` than `start`: `store` makes of a step
/// the nearest that can be stored. The number of weights is a multiple of 16, [`LONGEST_RUN`] at most, all of one run of `gram`.
#[inline(always)]
pub fn refined_step(
    x: &[f32],
    (gram, first): (&GramBlocks, usize),
    rounding: Rounding,
    start: Step,
    store: impl Fn(Step) -> Step,
) -> Step {
    let mut work = Work::new(x, gram.of(first, x.len()), rounding);
    if !(work.energy > 0.0 && work.energy.is_finite()) {
        return start;
    }
    let mut best = (work.cost(start), start);
    let consider = |work: &mut Work<'_>, step: Step, best: &mut (f32, Step)| {
        let step = store(work.least_squares(step));
        let cost = work.cost(step);
        if cost < best.0 && step.size != 0.0 {
            *best = (cost, step);
        }
    };
    let middle = work.mean_level(start);
    for factor in FACTORS {
        let size = factor * start.size;
        let offset = if rounding.affine { start.offset + (start.size - size) * middle } else { start.offset };
        consider(&mut work, Step { size, offset }, &mut best);
    }
    let once_more = best.1;
    consider(&mut work, once_more, &mut best);
    best.1
}

/// The weights, and room for what is computed of them.
struct Work<'a> {
    x: &'a [f32],
    gram: Gram<'a>,
    rounding: Rounding,
    /// G x.
    gram_x: [f32; LONGEST_RUN],
    /// xᵀ G x.
    energy: f32,
    /// G 1, 1ᵀ G 1 and 1ᵀ G x, where there is an offset.
    gram_one: [f32; LONGEST_RUN],
    ones: f32,
    one_x: f32,
    levels: [f32; LONGEST_RUN],
    product: [f32; LONGEST_RUN],
}

impl<'a> Work<'a> {
    #[inline(always)]
    fn new(x: &'a [f32], gram: Gram<'a>, rounding: Rounding) -> Self {
        const ROOM: [f32; LONGEST_RUN] = [0.0; LONGEST_RUN];
        let n = x.len();
        let mut work = Self {
            x,
            gram,
            rounding,
            gram_x: ROOM,
            energy: 0.0,
            gram_one: ROOM,
            ones: 0.0,
            one_x: 0.0,
            levels: ROOM,
            product: ROOM,
        };
        gram.times(x, &mut work.gram_x[..n]);
        work.energy = dot(x, &work.gram_x[..n]);
        if rounding.affine {
            gram.times(&[1.0; LONGEST_RUN][..n], &mut work.gram_one[..n]);
            work.ones = work.gram_one[..n].iter().sum();
            work.one_x = work.gram_x[..n].iter().sum();
        }
        work
    }

    /// The levels nearest to the weights under a step.
    #[inline(always)]
    fn round(&mut self, step: Step) {
        let inverse = if step.size == 0.0 { 0.0 } else { 1.0 / step.size };
        for (level, x) in self.levels.iter_mut().zip(self.x) {
            *level = self.rounding.levels.level(self.rounding.levels.nearest((x - step.offset) * inverse));
        }
    }

    #[inline(always)]
    fn mean_level(&mut self, step: Step) -> f32 {
        self.round(step);
        self.levels[..self.x.len()].iter().sum::<f32>() / self.x.len() as f32
    }

    /// eᵀ G e + λ (xᵀ G e)² / xᵀ G x.
    #[inline(always)]
    fn cost(&mut self, step: Step) -> f32 {
        let n = self.x.len();
        self.round(step);
        for (level, x) in self.levels.iter_mut().zip(self.x) {
            *level = x - (step.size * *level + step.offset);
        }
        let (errors, product) = (&self.levels[..n], &mut self.product[..n]);
        self.gram.times(errors, product);
        let along = dot(&self.gram_x[..n], errors);
        dot(errors, product) + self.rounding.along * along * along / self.energy
    }

    /// The step of least cost for the levels that `step` gives; `step` itself where there is none.
    #[inline(always)]
    fn least_squares(&mut self, step: Step) -> Step {
        let n = self.x.len();
        self.round(step);
        let (levels, product) = (&self.levels[..n], &mut self.product[..n]);
        self.gram.times(levels, product);
        let (squares, towards) = (dot(levels, product), dot(levels, &self.gram_x[..n]));
        let along = self.rounding.along / self.energy;
        let a = squares + along * towards * towards;
        let target = (1.0 + self.rounding.along) * towards;
        let found = if self.rounding.affine {
            let b = dot(levels, &self.gram_one[..n]) + along * towards * self.one_x;
            let c = self.ones + along * self.one_x * self.one_x;
            let offset_target = (1.0 + self.rounding.along) * self.one_x;
            let determinant = a * c - b * b;
            if determinant <= 1e-5 * a * c {
                return step;
            }
            Step {
                size: (target * c - offset_target * b) / determinant,
                offset: (offset_target * a - target * b) / determinant,
            }
        } else {
            Step { size: target / a, offset: step.offset }
        };
        if found.size.is_finite() && found.offset.is_finite() { found } else { step }
    }
}

/// Improves the steps of one row of encoded blocks; codes become the nearest ones again.
#[inline(always)]
pub(super) fn refine_row<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    x: &[[f32; N]],
    gram: &GramBlocks,
    bytes: &mut [[u8; BYTES]],
) {
    let mut codes = [0; N];
    for (block, (x, bytes)) in x.iter().zip(bytes).enumerate() {
        let mut scales = F::unpack(bytes, &mut codes);
        for (s, x) in x.chunks_exact(F::SUB_BLOCK).enumerate() {
            let start = F::steps(&scales)[s];
            let rounding = Rounding::of::<F, N, BYTES>(start);
            let with = |step| {
                let mut changed = scales;
                F::set_step(&mut changed, s, step);
                changed
            };
            let place = (gram, block * N + s * F::SUB_BLOCK);
            let best = refined_step(x, place, rounding, start, |step| F::steps(&with(step))[s]);
            if best != start {
                scales = with(best);
            }
        }
        quantize::<F, N, BYTES>(x, &scales, &mut codes);
        F::pack(&scales, &codes, bytes);
    }
}
