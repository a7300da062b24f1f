//! Products of activations, summed over tokens: Σ a bᵀ, tile by tile.

use std::ops::Range;

use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, Precision, multiply_in};

/// Tokens whose products are summed in f32, inside one matrix product, before they go into the f64 sums.
const TOKENS: usize = 4096;

/// Where Σ a\[rows\] b\[columns\]ᵀ, row-major in f64, lies among the sums of all tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub first_row: usize,
    pub rows: usize,
    pub first_column: usize,
    pub columns: usize,
    /// Where its sums begin.
    pub at: usize,
}

/// Activations `[tokens, width]` of which a tile takes some columns.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    pub values: &'a [f32],
    pub width: usize,
}

impl<'a> Activations<'a> {
    /// Some tokens' values in some columns.
    fn of(self, tokens: Range<usize>, columns: Range<usize>) -> Operand<'a> {
        let Self { values, width } = self;
        Operand::new(&values[tokens.start * width..tokens.end * width], [tokens.len(), width])
            .columns(columns)
    }
}

/// Adds the products of the same tokens' `a` and `b` to the sums, which hold one tile behind the other.
///
/// One tile is one task, computed by one thread: the order of its sums does not depend on how many threads there are.
///
/// # Panics
/// Where a tile lies outside of `a` or `b`, or these have unlike numbers of tokens.
pub(super) fn add_products(
    precision: Precision,
    tiles: &[Tile],
    sums: &mut [f64],
    a: Activations<'_>,
    b: Activations<'_>,
) {
    let mut rest = sums;
    let each = |tile| {
        let (sums, behind) = std::mem::take(&mut rest).split_at_mut(Tile::len(tile));
        rest = behind;
        (tile, sums)
    };
    let tiles: Vec<(&Tile, &mut [f64])> = tiles.iter().map(each).collect();
    tiles
        .into_par_iter()
        .for_each_init(Vec::new, |product, (tile, sums)| tile.add(precision, a, b, product, sums));
}

impl Tile {
    /// Number of sums.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Its part of all sums.
    pub fn of<'a>(&self, sums: &'a [f64]) -> &'a [f64] {
        &sums[self.at..][..self.len()]
    }

    /// Adds the products to the tile's sums, on the calling thread; `product` is room for them.
    fn add(
        &self,
        precision: Precision,
        a: Activations<'_>,
        b: Activations<'_>,
        product: &mut Vec<f32>,
        sums: &mut [f64],
    ) {
        let tokens = a.values.len() / a.width;
        assert!(self.first_row + self.rows <= a.width && self.first_column + self.columns <= b.width);
        assert!(a.values.len() == tokens * a.width && b.values.len() == tokens * b.width);
        product.resize(self.len(), 0.0);
        for first in (0..tokens).step_by(TOKENS) {
            let some = first..tokens.min(first + TOKENS);
            let a = a.of(some.clone(), self.first_row..self.first_row + self.rows);
            let b = b.of(some, self.first_column..self.first_column + self.columns);
            multiply_in(precision, product, self.columns, Onto::Zero, 1.0, a.transposed(), b);
            sums.iter_mut().zip(product.iter()).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
}
