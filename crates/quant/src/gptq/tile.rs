//! Some rows of a matrix on their way to a block format: codes and scales, columns first, so that rows lie side by side.

use slmc_gguf::blocks::{BlockFormat, MAX_SUB_BLOCKS};

use slmc_matmul::{Onto, Operand, multiply};

/// Rows of a tile: the lanes of every vector operation.
pub const ROWS: usize = 64;

/// Columns that are brought up to date together; a multiple of every block length.
pub const BLOCK: usize = 256;

/// Values of one column in all rows of a tile.
pub type Lanes = [f32; ROWS];

/// Of a column of which every weight may be stored as anything.
pub static ALL_FREE: Lanes = [1.0; ROWS];

/// Brings the flags of some rows (`[n, columns]`) into lanes: 0 where a weight is held at zero, 1 elsewhere. A value times that is
/// what may be stored.
pub fn load_free(lanes: &mut Vec<Lanes>, free: Option<&[bool]>, columns: usize) {
    lanes.clear();
    let Some(free) = free else { return };
    lanes.resize(columns, ALL_FREE);
    for (r, row) in free.chunks_exact(columns).enumerate() {
        for (lanes, free) in lanes.iter_mut().zip(row) {
            lanes[r] = f32::from(u8::from(*free));
        }
    }
}

/// Values of weights that are held at zero become 0, whatever earlier columns' errors were worth there.
#[inline(always)]
pub fn hold(values: &mut Lanes, free: &Lanes) {
    values.iter_mut().zip(free).for_each(|(value, free)| *value *= free);
}

/// The steps of one format block in all rows.
pub struct Steps {
    pub sizes: [Lanes; MAX_SUB_BLOCKS],
    pub offsets: [Lanes; MAX_SUB_BLOCKS],
    pub inverses: [Lanes; MAX_SUB_BLOCKS],
}

/// The rows' weights, what is stored of them, and the difference.
pub struct Tile<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> {
    /// Rows in use.
    pub rows: usize,
    /// W, `[columns]`.
    pub weights: Vec<Lanes>,
    /// Codes, `[columns]`.
    pub codes: Vec<[u8; ROWS]>,
    /// Scales of every format block, `[columns / N]`.
    pub scales: Vec<[F::Scales; ROWS]>,
    /// W − Ŵ, `[columns]`.
    pub errors: Vec<Lanes>,
    /// 0 where a weight is held at zero, `[columns]`; empty where none is.
    free: Vec<Lanes>,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> Tile<F, N, BYTES> {
    pub fn new(columns: usize) -> Self {
        Self {
            rows: 0,
            weights: vec![[0.0; ROWS]; columns],
            codes: vec![[0; ROWS]; columns],
            scales: vec![[F::Scales::default(); ROWS]; columns / N],
            errors: vec![[0.0; ROWS]; columns],
            free: Vec::new(),
        }
    }

    /// Takes at most `ROWS` rows, and which of their weights are not held at zero.
    #[inline(always)]
    pub fn load(&mut self, weights: &[f32], free: Option<&[bool]>) {
        let columns = self.weights.len();
        load_free(&mut self.free, free, columns);
        self.rows = weights.len() / columns;
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

    /// The steps of format block `block`.
    #[inline(always)]
    pub fn steps(&self, block: usize) -> Steps {
        let zero = [[0.0; ROWS]; MAX_SUB_BLOCKS];
        let mut steps = Steps { sizes: zero, offsets: zero, inverses: zero };
        for (r, scales) in self.scales[block][..self.rows].iter().enumerate() {
            for (s, step) in F::steps(scales)[..N / F::SUB_BLOCK].iter().enumerate() {
                steps.sizes[s][r] = step.size;
                steps.offsets[s][r] = step.offset;
                steps.inverses[s][r] = if step.size == 0.0 { 0.0 } else { 1.0 / step.size };
            }
        }
        steps
    }

    /// Lays the rows out as stored.
    #[inline(always)]
    pub fn pack(&self, out: &mut [u8]) {
        let row_bytes = self.scales.len() * BYTES;
        let mut codes = [0; N];
        for (r, row) in out.chunks_exact_mut(row_bytes).enumerate() {
            for (b, bytes) in row.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                for (code, lanes) in codes.iter_mut().zip(&self.codes[b * N..]) {
                    *code = lanes[r];
                }
                F::pack(&self.scales[b][r], &codes, bytes);
            }
        }
    }
}

/// targets\[i\] += Σ_j M\[source + j, column + i\] · values\[j\], where M is `[n, n]`, row-major; on the calling thread.
///
/// # Panics
/// If the rows and columns named are not those of M.
pub fn accumulate(
    targets: &mut [Lanes],
    matrix: &[f32],
    n: usize,
    source: usize,
    column: usize,
    values: &[Lanes],
) {
    let (m, k) = (targets.len(), values.len());
    if m == 0 || k == 0 {
        return;
    }
    assert!(source + k <= n && column + m <= n);
    let coefficients = Operand::spaced(&matrix[source * n + column..], [k, m], n).transposed();
    let values = Operand::spaced(values.as_flattened(), [k, ROWS], ROWS);
    multiply(targets.as_flattened_mut(), ROWS, Onto::Itself, 1.0, coefficients, values);
}
