//! Low-rank changes of a linear layer's weight.

use slmc_matmul::{Onto, Operand, Precision, product_into};

/// W + scale · B A in the place of W (Hu et al. 2021, arXiv:2106.09685, section 4.1): `scale` is α / rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// A, `[rank, d_in]`, row-major.
    pub a: Vec<f32>,
    /// B, `[d_out, rank]`, row-major.
    pub b: Vec<f32>,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Factor of the product.
    pub scale: f32,
}

impl Adapter {
    /// Adds scale · B A to `weight`, `[d_out, d_in]`.
    ///
    /// # Panics
    /// If the shapes do not go together.
    pub fn merge_into(&self, weight: &mut [f32]) {
        let (d_in, d_out) = (self.a.len() / self.rank, self.b.len() / self.rank);
        let scaled: Vec<f32> = self.b.iter().map(|b| b * self.scale).collect();
        let (b, a) = (Operand::new(&scaled, [d_out, self.rank]), Operand::new(&self.a, [self.rank, d_in]));
        product_into(Precision::F32, weight, Onto::Itself, b, a);
    }
}
