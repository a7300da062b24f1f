//! Some rows of a matrix on their way to an integer grid: columns first, so that rows lie side by side.

use crate::gptq::tile::{Lanes, ROWS};
use crate::int::IntGrid;
use crate::int::fit::{ScaleRule, Steps, fit};

/// The rows' weights, what is stored of them, and the difference. Columns stand in the matrix's own order.
pub struct IntTile {
    pub grid: IntGrid,
    /// Rows in use.
    pub rows: usize,
    /// W, `[columns]`.
    pub weights: Vec<Lanes>,
    /// Codes, `[columns]`.
    pub codes: Vec<[u8; ROWS]>,
    /// W − Ŵ, `[columns]`.
    pub errors: Vec<Lanes>,
    /// Steps of every group.
    pub steps: Vec<Steps>,
}

impl IntTile {
    pub fn new(grid: IntGrid, columns: usize) -> Self {
        let zero = [0.0; ROWS];
        let none = Steps { size: zero, zero, inverse: zero };
        Self {
            grid,
            rows: 0,
            weights: vec![zero; columns],
            codes: vec![[0; ROWS]; columns],
            errors: vec![zero; columns],
            steps: vec![none; columns / grid.group_len()],
        }
    }

    /// Takes at most `ROWS` rows; lanes without one are zero.
    #[inline(always)]
    pub fn load(&mut self, weights: &[f32]) {
        let columns = self.weights.len();
        self.rows = weights.len() / columns;
        if self.rows < ROWS {
            self.weights.fill([0.0; ROWS]);
        }
        for (r, row) in weights.chunks_exact(columns).enumerate() {
            for (lanes, w) in self.weights.iter_mut().zip(row) {
                lanes[r] = *w;
            }
        }
    }

    /// Fits all steps to the weights, each column's error weighed by the diagonal of `hessian` (`[columns, columns]`).
    #[inline(always)]
    pub fn fit_all(&mut self, rule: ScaleRule, hessian: &[f32]) {
        let (columns, len) = (self.weights.len(), self.grid.group_len());
        let importance: Vec<Lanes> = (0..columns).map(|k| [hessian[k * columns + k]; ROWS]).collect();
        let groups = self.weights.chunks_exact(len).zip(importance.chunks_exact(len));
        for (steps, (weights, importance)) in self.steps.iter_mut().zip(groups) {
            *steps = fit(self.grid, rule, weights, importance);
        }
    }

    /// Lays the rows out as stored.
    pub fn pack(&self, out: &mut [u8]) {
        let (len, bytes) = (self.grid.group_len(), self.grid.group_bytes());
        let mut codes = vec![0; len];
        for (r, row) in out.chunks_exact_mut(self.steps.len() * bytes).enumerate() {
            for (group, (out, steps)) in row.chunks_exact_mut(bytes).zip(&self.steps).enumerate() {
                for (code, lanes) in codes.iter_mut().zip(&self.codes[group * len..]) {
                    *code = lanes[r];
                }
                self.grid.pack(&codes, steps.size[r], steps.zero[r] as u8, out);
            }
        }
    }
}
