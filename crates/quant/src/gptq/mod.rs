//! GPTQ on any grid: columns are rounded one after the other, and each column's error is fed forward to those behind it.
//!
//! Source: Frantar et al., "GPTQ", arXiv 2210.17323. In the form of Chee et al., "QuIP", arXiv 2307.13304, theorem 6, which
//! gives the same values: with H = (U + I) D (U + I)ᵀ, U strictly upper triangular and D diagonal,
//!
//!   tr((W − Ŵ) H (W − Ŵ)ᵀ) = Σ over rows and columns k of D_k (t_k − ŵ_k)²,  t_k = w_k + Σ_{j<k} (w_j − ŵ_j) U_jk.
//!
//! So every column has a target t_k that is known when its turn comes, and D_k is what an error there costs. No inverse is
//! needed, and what earlier columns did to a whole block of columns is one matrix product.
//!
//! The scales of a block are fitted to its targets when its first column's turn comes, under the importance D.

mod cholesky;
mod descent;
mod factor;
mod feedback;
mod integer;
mod order;
mod round;
mod targets;
pub(crate) mod tile;

pub use factor::{Damping, FeedbackFactor, damping_for};
pub use integer::{IntOptions, quantize_int};
pub use order::{Order, damping_of_mean};
pub use round::quantize;
pub use targets::{InputCorrection, aim_at_outputs, times_inverse};
