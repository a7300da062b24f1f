//! Products of activations, summed over tokens: Σ a bᵀ, tile by tile.

use slmc_matmul::{Operand, PART_GRID, Part, Precision, parts_of_product};

/// Tokens whose products are summed in f32, inside one matrix product, before they go into the f64 sums.
const TOKENS: usize = 4096;

/// Most values of an activation that go through one product, which in bfloat16 packs both of its operands.
pub const VALUES_AT_ONCE: usize = 16 << 20;

/// Rows and columns of a tile: small, as of symmetric sums the tiles on the diagonal compute what is there already.
pub(super) const TILE: usize = 2 * PART_GRID;

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
    fn tokens(self) -> usize {
        self.values.len() / self.width
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
    let tokens = a.tokens();
    let step = (VALUES_AT_ONCE / a.width.max(b.width)).clamp(1, TOKENS);
    let [a, b] = [a, b].map(|x| Operand::new(x.values, [tokens, x.width]));
    for first in (0..tokens).step_by(step) {
        let some = first..tokens.min(first + step);
        let mut rest = &mut *sums;
        let each = |tile: &Tile| {
            let (sums, behind) = std::mem::take(&mut rest).split_at_mut(tile.len());
            rest = behind;
            (tile.part(), sums)
        };
        let parts = tiles.iter().map(each).collect();
        let (a, b) = (a.rows(some.clone()).transposed(), b.rows(some));
        parts_of_product(precision, a, b, parts, |sums: &mut [f64], product| {
            sums.iter_mut().zip(product).for_each(|(sum, &value)| *sum += f64::from(value));
        });
    }
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

    fn part(&self) -> Part {
        Part {
            rows: self.first_row..self.first_row + self.rows,
            columns: self.first_column..self.first_column + self.columns,
        }
    }
}
