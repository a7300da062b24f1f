//! A linear layer's weight, in the layout its device multiplies fastest.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device as BurnDevice, Tensor};
use rayon::prelude::*;

use slmc_matmul::Precision;
use slmc_matmul::memory::uninitialized;

use super::StoredRows;
use super::stored::read_stored;
use crate::error::ModelError;
use crate::host;

/// Rows of a panel: the height of gemm's f32 micro-kernel with AVX-512, and three times that with AVX2.
pub(super) const PANEL: usize = 48;

/// A matrix `[d_out, d_in]`. On a device with gradients it is a tensor that wants its own.
///
/// On the cpu device its rows are kept in panels of 48, each `[d_in, 48]`: then a product reads the weight as
/// its inner loop wants it, whatever the number of tokens, and nothing is packed anew for every product. Or they stay in
/// their file, and every product decodes them anew: see [`StoredRows`].
#[derive(Clone, Debug)]
pub struct Matrix {
    shape: [usize; 2],
    storage: Storage,
    precision: Precision,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // there are few matrices, each of many numbers
enum Storage {
    Panels(Arc<Vec<f32>>),
    Tensor(Tensor<2>),
    Stored(Arc<dyn StoredRows>),
}

/// Some consecutive rows of a matrix.
pub(super) struct Panel<'a> {
    pub first_row: usize,
    pub rows: usize,
    pub values: PanelValues<'a>,
}

/// Where a panel's values are.
pub(super) enum PanelValues<'a> {
    /// In memory, transposed: `[d_in, rows]`.
    Turned(&'a [f32]),
    /// In the file.
    Stored(&'a dyn StoredRows),
}

impl Panel<'_> {
    /// Its rows out of the file, `[rows, d_in]`; nothing of a panel in memory.
    pub fn decode(&self, d_in: usize) -> Vec<f32> {
        let PanelValues::Stored(stored) = self.values else { return Vec::new() };
        // SAFETY: it is read whole, first.
        let mut decoded = unsafe { uninitialized(self.rows * d_in) };
        read_stored(stored, self.first_row..self.first_row + self.rows, &mut decoded);
        decoded
    }
}

impl Matrix {
    /// A matrix from its rows.
    ///
    /// # Panics
    /// If `values` is not `[d_out, d_in]`.
    pub fn new(values: Vec<f32>, shape: [usize; 2], device: &BurnDevice) -> Self {
        assert_eq!(values.len(), shape[0] * shape[1], "values of a matrix {shape:?}");
        let storage = if host::is_cpu_without_gradients(device) {
            Storage::Panels(Arc::new(into_panels(&values, shape)))
        } else {
            Storage::Tensor(host::parameter(values, shape, device))
        };
        Self { shape, storage, precision: Precision::F32 }
    }

    /// A matrix that wants no gradient on a device that has them, off the cpu device.
    ///
    /// # Panics
    /// If `values` is not `[d_out, d_in]`.
    pub fn constant(values: Vec<f32>, shape: [usize; 2], device: &BurnDevice) -> Self {
        assert_eq!(values.len(), shape[0] * shape[1], "values of a matrix {shape:?}");
        let storage = Storage::Tensor(host::tensor(values, shape, device));
        Self { shape, storage, precision: Precision::F32 }
    }

    /// The same on a device with gradients, without wanting one.
    pub(crate) fn untracked(&self) -> Self {
        let storage = match &self.storage {
            Storage::Tensor(tensor) => Storage::Tensor(host::untracked(tensor)),
            other => other.clone(),
        };
        Self { storage, ..*self }
    }

    /// A matrix on the cpu device whose rows stay where they are stored. All of them are read once, so that what is
    /// wrong with them is said here.
    ///
    /// # Errors
    /// Whatever reading reports.
    pub fn stored(rows: Arc<dyn StoredRows>, shape: [usize; 2]) -> Result<Self, ModelError> {
        let [d_out, d_in] = shape;
        (0..d_out.div_ceil(PANEL)).into_par_iter().try_for_each_init(Vec::new, |values, panel| {
            let panel = panel * PANEL..d_out.min((panel + 1) * PANEL);
            values.resize(panel.len() * d_in, 0.0);
            rows.read(panel, values)
        })?;
        Ok(Self { shape, storage: Storage::Stored(rows), precision: Precision::F32 })
    }

    /// `[d_out, d_in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// What its values and those it is multiplied with are rounded to in products, those of the backward pass too; f32 unless it is said.
    /// Only the cpu device has others.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Says so. The matrix itself stays as it is.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The rows, as they were given.
    pub fn values(&self) -> Vec<f32> {
        match &self.storage {
            Storage::Panels(panels) => from_panels(panels, self.shape),
            Storage::Tensor(tensor) => host::into_vec(tensor.clone()),
            Storage::Stored(rows) => {
                let mut values = vec![0.0; self.shape[0] * self.shape[1]];
                read_stored(&**rows, 0..self.shape[0], &mut values);
                values
            }
        }
    }

    /// The matrix as a tensor `[d_out, d_in]`, where it is kept as one: off the cpu device, and where gradients are wanted.
    pub(crate) fn tensor(&self) -> Option<&Tensor<2>> {
        match &self.storage {
            Storage::Panels(_) | Storage::Stored(_) => None,
            Storage::Tensor(tensor) => Some(tensor),
        }
    }

    /// The rows of some panels, `[rows, d_in]`, of a matrix on the cpu device that is no tensor.
    pub(super) fn panel_rows(&self, panels: Range<usize>) -> Vec<f32> {
        let columns = self.shape[1];
        let rows = self.shape[0].min(panels.end * PANEL) - panels.start * PANEL;
        // SAFETY: every row is filled below.
        let mut values = unsafe { uninitialized(rows * columns) };
        values.par_chunks_mut((PANEL * columns).max(1)).zip(panels).for_each(|(values, index)| {
            let panel = self.panel(index);
            match panel.values {
                PanelValues::Turned(turned) => turn_back(turned, values, columns),
                PanelValues::Stored(stored) => {
                    read_stored(stored, panel.first_row..panel.first_row + panel.rows, values);
                }
            }
        });
        values
    }

    /// Whether its rows stay in their file.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.storage, Storage::Stored(_))
    }

    /// Number of panels; none off the cpu device.
    pub(super) fn panels(&self) -> usize {
        self.shape[0].div_ceil(PANEL)
    }

    /// The panel's rows and values.
    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let first_row = index * PANEL;
        let rows = PANEL.min(self.shape[0] - first_row);
        let values = match &self.storage {
            Storage::Panels(values) => {
                let start = first_row * self.shape[1];
                PanelValues::Turned(&values[start..start + rows * self.shape[1]])
            }
            Storage::Stored(stored) => PanelValues::Stored(&**stored),
            Storage::Tensor(_) => {
                unreachable!("kernels run where tensors and weights are both on the cpu device")
            }
        };
        Panel { first_row, rows, values }
    }
}

/// Columns that are turned at a time: a tile of a panel stays in the first-level cache.
const TILE: usize = 16;

fn into_panels(values: &[f32], [_, columns]: [usize; 2]) -> Vec<f32> {
    // SAFETY: every panel is filled below, and the panels are the whole.
    let mut panels = unsafe { uninitialized(values.len()) };
    let panel_len = (PANEL * columns).max(1);
    panels.par_chunks_mut(panel_len).zip(values.par_chunks(panel_len)).for_each(|(panel, rows)| {
        let height = rows.len() / columns;
        for first in (0..columns).step_by(TILE) {
            let last = columns.min(first + TILE);
            for (i, row) in rows.chunks_exact(columns).enumerate() {
                for column in first..last {
                    panel[column * height + i] = row[column];
                }
            }
        }
    });
    panels
}

fn from_panels(panels: &[f32], [_, columns]: [usize; 2]) -> Vec<f32> {
    // SAFETY: every row is filled below.
    let mut values = unsafe { uninitialized(panels.len()) };
    let panel_len = (PANEL * columns).max(1);
    let pairs = values.par_chunks_mut(panel_len).zip(panels.par_chunks(panel_len));
    pairs.for_each(|(rows, panel)| turn_back(panel, rows, columns));
    values
}

/// A panel's rows.
fn turn_back(panel: &[f32], rows: &mut [f32], columns: usize) {
    let height = panel.len() / columns;
    for first in (0..columns).step_by(TILE) {
        let last = columns.min(first + TILE);
        for i in 0..height {
            for column in first..last {
                rows[i * columns + column] = panel[column * height + i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_the_rows() {
        for shape in [[1, 1], [47, 5], [48, 16], [100, 33], [0, 4]] {
            let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| i as f32).collect();
            let matrix = Matrix::new(values.clone(), shape, &BurnDevice::flex());
            assert_eq!(matrix.values(), values, "{shape:?}");
        }
    }
}
