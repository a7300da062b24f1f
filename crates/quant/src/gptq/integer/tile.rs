//! Some rows of a matrix on their way to an integer grid: columns first, so that rows lie side by side.

use std::borrow::Cow;

use crate::gptq::tile::{ALL_FREE, Lanes, ROWS, hold, load_free};
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
    /// 0 where a weight is held at zero, `[columns]`; empty where none is.
    free: Vec<Lanes>,
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
            free: Vec::new(),
        }
    }

    /// Takes at most `ROWS` rows, and which of their weights are not held at zero; lanes without a row are zero.
    #[inline(always)]
    pub fn load(&mut self, weights: &[f32], free: Option<&[bool]>) {
        let columns = self.weights.len();
        load_free(&mut self.free, free, columns);
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

    /// What the values of a column are multiplied by before they are stored.
    #[inline(always)]
    pub fn free(&self, column: usize) -> &Lanes {
        self.free.get(column).unwrap_or(&ALL_FREE)
    }

    /// The weights, zero where they are held there.
    pub fn storable(&self) -> Cow<'_, [Lanes]> {
        if self.free.is_empty() {
            return Cow::Borrowed(&self.weights);
        }
        let mut values = self.weights.clone();
        values.iter_mut().zip(&self.free).for_each(|(values, free)| hold(values, free));
        Cow::Owned(values)
    }

    /// Fits all steps to the weights, each column's error weighed by the diagonal of `hessian` (`[columns, columns]`).
    #[inline(always)]
    pub fn fit_all(&mut self, rule: ScaleRule, hessian: &[f32]) {
        let (columns, len) = (self.weights.len(), self.grid.group_len());
        let importance: Vec<Lanes> = (0..columns).map(|k| [hessian[k * columns + k]; ROWS]).collect();
        let storable = self.storable().into_owned();
        let groups = storable.chunks_exact(len).zip(importance.chunks_exact(len));
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
