//! Scales and zeros of groups, 64 groups side by side.
//!
//! For given codes, Σ w (x − s (q − z))² is least at s = Σ w x (q − z) / Σ w (q − z)² and then less than Σ w x² by
//! s Σ w x (q − z). So the range of x, shrunk little by little, is laid over the codes; of all tries the one that explains
//! most is refined by rounding and least squares in turn. Where all groups have the same zero, the side with one level more
//! may be either: the scale may be negative.

use super::grid::IntGrid;
use crate::gptq::tile::{Lanes, ROWS};

/// How scales are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleRule {
    /// From the largest and the smallest weight: 2 max|x| / (2^b − 1) where symmetric, else (max − min) / (2^b − 1) over a
    /// range that holds 0. Source: `Quantizer.find_params` of the GPTQ paper's code, `quant.py`.
    MinMax,
    /// The least weighted squared error that a search finds.
    Search,
}

/// Scales and zeros of 64 groups.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    /// Scale, as it can be stored.
    pub size: Lanes,
    /// Code of 0.
    pub zero: Lanes,
    /// 1 / scale, 0 for 0.
    pub inverse: Lanes,
}

impl Steps {
    /// Steps for scales that need not be storable yet.
    #[inline(always)]
    fn stored(grid: IntGrid, size: &Lanes, zero: &Lanes) -> Self {
        let size = size.map(|size| grid.stored_scale(size));
        Self { size, zero: *zero, inverse: size.map(invert) }
    }

    /// The same with scales multiplied by `factor`.
    #[inline(always)]
    pub fn stretched(&self, grid: IntGrid, factor: f32) -> Self {
        Self::stored(grid, &self.size.map(|size| size * factor), &self.zero)
    }
}

/// 1 / x, 0 for 0.
#[inline(always)]
fn invert(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// By how much ranges are shrunk or stretched, for up to 4 bits and beyond: many levels leave little to gain by clipping.
const FEW_LEVELS: [f32; 22] = [
    1.04, 1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.69, 0.66, 0.63, 0.6, 0.57, 0.54, 0.51, 0.48, 0.45,
    0.42, 0.39, 0.36, 0.33,
];
const MANY_LEVELS: [f32; 8] = [1.004, 1.0, 0.99, 0.98, 0.96, 0.93, 0.89, 0.84];

/// The same for each end of an asymmetric range, in pairs.
const ENDS: [f32; 9] = [1.05, 1.0, 0.93, 0.86, 0.79, 0.72, 0.64, 0.55, 0.45];

/// Rounding and least squares in turn, at the end of the search.
const REFITS: usize = 3;

/// The steps of the groups whose k-th values are `values[k]`, with weights `importance[k]`.
#[inline(always)]
pub(crate) fn fit(grid: IntGrid, rule: ScaleRule, values: &[Lanes], importance: &[Lanes]) -> Steps {
    let (mut least, mut most) = ([0.0f32; ROWS], [0.0f32; ROWS]);
    for x in values {
        for r in 0..ROWS {
            least[r] = least[r].min(x[r]);
            most[r] = most[r].max(x[r]);
        }
    }
    match (rule, grid.is_symmetric()) {
        (ScaleRule::MinMax, symmetric) => min_max(grid, symmetric, &least, &most),
        (ScaleRule::Search, true) => search_symmetric(grid, values, importance, &least, &most),
        (ScaleRule::Search, false) => search_asymmetric(grid, values, importance, &least, &most),
    }
}

fn min_max(grid: IntGrid, symmetric: bool, least: &Lanes, most: &Lanes) -> Steps {
    let (highest, middle) = (f32::from(grid.highest()), f32::from(grid.middle()));
    let (mut size, mut zero) = ([0.0; ROWS], [middle; ROWS]);
    for r in 0..ROWS {
        if symmetric {
            size[r] = 2.0 * most[r].max(-least[r]) / highest;
        } else {
            size[r] = (most[r] - least[r]) / highest;
            zero[r] = (-least[r] * invert(size[r])).round_ties_even().clamp(0.0, highest);
        }
    }
    Steps::stored(grid, &size, &zero)
}

#[inline(always)]
fn search_symmetric(
    grid: IntGrid,
    values: &[Lanes],
    importance: &[Lanes],
    least: &Lanes,
    most: &Lanes,
) -> Steps {
    let middle = f32::from(grid.middle());
    let mut search = Search::new(values, importance, f32::from(grid.highest()));
    let shrinkings: &[f32] = if grid.highest() > 15 { &MANY_LEVELS } else { &FEW_LEVELS };
    let zero = [middle; ROWS];
    // the largest |x|, with its sign
    let mut extreme = [0.0; ROWS];
    for r in 0..ROWS {
        extreme[r] = if most[r] > -least[r] { most[r] } else { least[r] };
    }
    for end in [-middle, middle - 1.0] {
        for shrinking in shrinkings {
            search.consider(&extreme.map(|extreme| end * invert(extreme * shrinking)), &zero);
        }
    }
    search.finish(grid)
}

#[inline(always)]
fn search_asymmetric(
    grid: IntGrid,
    values: &[Lanes],
    importance: &[Lanes],
    least: &Lanes,
    most: &Lanes,
) -> Steps {
    let highest = f32::from(grid.highest());
    let mut search = Search::new(values, importance, highest);
    for below in ENDS {
        for above in ENDS {
            let (mut inverse, mut zero) = ([0.0; ROWS], [0.0; ROWS]);
            for r in 0..ROWS {
                inverse[r] = highest * invert(most[r] * above - least[r] * below);
                zero[r] = (-least[r] * below * inverse[r]).round_ties_even().clamp(0.0, highest);
            }
            search.consider(&inverse, &zero);
        }
    }
    for shift in [-1.0, 1.0] {
        let (inverse, zero) = (search.size.map(invert), search.zero);
        search.consider(&inverse, &zero.map(|zero| (zero + shift).clamp(0.0, highest)));
    }
    search.finish(grid)
}

/// The best steps so far.
struct Search<'a> {
    values: &'a [Lanes],
    importance: &'a [Lanes],
    highest: f32,
    size: Lanes,
    zero: Lanes,
    /// Part of Σ w x² that they explain.
    explained: Lanes,
}

impl<'a> Search<'a> {
    fn new(values: &'a [Lanes], importance: &'a [Lanes], highest: f32) -> Self {
        let none = [0.0; ROWS];
        Self { values, importance, highest, size: none, zero: none, explained: [-1.0; ROWS] }
    }

    /// Rounds under an inverse scale and a zero, and takes the best scale for the codes if it explains more.
    #[inline(always)]
    fn consider(&mut self, inverse: &Lanes, zero: &Lanes) {
        let (mut product, mut square) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for (x, w) in self.values.iter().zip(self.importance) {
            for r in 0..ROWS {
                let level = nearest(x[r] * inverse[r], -zero[r], self.highest - zero[r]);
                let weighted = w[r] * level;
                product[r] += weighted * x[r];
                square[r] += weighted * level;
            }
        }
        for r in 0..ROWS {
            let size = product[r] * invert(square[r]);
            let explained = size * product[r];
            if explained > self.explained[r] {
                self.explained[r] = explained;
                self.size[r] = size;
                self.zero[r] = zero[r];
            }
        }
    }

    #[inline(always)]
    fn finish(mut self, grid: IntGrid) -> Steps {
        for _ in 0..REFITS {
            let (inverse, zero) = (self.size.map(invert), self.zero);
            self.consider(&inverse, &zero);
        }
        Steps::stored(grid, &self.size, &self.zero)
    }
}

/// The integer in `low..=high` nearest to `x`, ties to even, for small bounds.
#[inline(always)]
fn nearest(x: f32, low: f32, high: f32) -> f32 {
    // a sum with 1.5 · 2²³ has no fraction bits; two additions on every instruction set
    const ROUNDING: f32 = 12_582_912.0;
    let x = if x > low { x } else { low };
    let x = if x < high { x } else { high };
    (x + ROUNDING) - ROUNDING
}
