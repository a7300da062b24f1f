//! Products of activations, summed over tokens: Σ a bᵀ, tile by tile.

use gemm::Parallelism;
use rayon::prelude::*;

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

/// Adds the products of the same tokens' `a` and `b` to the sums, which hold one tile behind the other.
///
/// One tile is one task, computed by one thread: the order of its sums does not depend on how many threads there are.
///
/// # Panics
/// Where a tile lies outside of `a` or `b`, or these have unlike numbers of tokens.
pub(super) fn add_products(tiles: &[Tile], sums: &mut [f64], a: Activations<'_>, b: Activations<'_>) {
    let mut rest = sums;
    let each = |tile| {
        let (sums, behind) = std::mem::take(&mut rest).split_at_mut(Tile::len(tile));
        rest = behind;
        (tile, sums)
    };
    let tiles: Vec<(&Tile, &mut [f64])> = tiles.iter().map(each).collect();
    tiles.into_par_iter().for_each_init(Vec::new, |product, (tile, sums)| tile.add(a, b, product, sums));
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
    fn add(&self, a: Activations<'_>, b: Activations<'_>, product: &mut Vec<f32>, sums: &mut [f64]) {
        let tokens = a.values.len() / a.width;
        assert!(self.first_row + self.rows <= a.width && self.first_column + self.columns <= b.width);
        assert!(a.values.len() == tokens * a.width && b.values.len() == tokens * b.width);
        product.resize(self.len(), 0.0);
        for first in (0..tokens).step_by(TOKENS) {
            let count = TOKENS.min(tokens - first);
            // SAFETY: `product` holds rows · columns values, row-major. Element (i, t) of the left factor is
            // a[(first + t) · width + first_row + i], element (t, j) of the right one
            // b[(first + t) · width + first_column + j], with first + t < tokens; both lie within their slices by the
            // assertions.
            unsafe {
                gemm::gemm(
                    self.rows,
                    self.columns,
                    count,
                    product.as_mut_ptr(),
                    1,
                    self.columns as isize,
                    false,
                    a.values.as_ptr().add(first * a.width + self.first_row),
                    a.width as isize,
                    1,
                    b.values.as_ptr().add(first * b.width + self.first_column),
                    1,
                    b.width as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    Parallelism::None,
                );
            }
            sums.iter_mut().zip(product.iter()).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
}
