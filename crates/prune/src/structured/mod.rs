//! Whole channels, heads and blocks go, and what stays is an ordinary smaller model.
//!
//! * [`Groups`]: the columns of a matrix that can only go together;
//! * [`StructuredImportance`]: what a group is worth by itself;
//! * [`eliminate`]: which groups can be spared, where the others make up for them;
//! * [`solve`]: what the columns that stay become for it;
//! * `dimensions`: which dimensions of the residual stream can be spared;
//! * [`allocate`]: how much of which kind goes, by measured damage.
//!
//! A channel of the MLP goes with its column of down and its rows of gate and up, a head with its columns of the attention's output
//! projection and its rows of query, or of query, key and value: what is lost is lost in the one product behind it, so that choosing
//! and solving look at that product's matrix and inputs alone. A dimension of the residual stream goes everywhere at once.

pub mod allocate;
mod dimensions;
pub mod eliminate;
mod groups;
mod importance;
pub mod solve;

pub use allocate::{Curve, Kind, Widths};
pub use dimensions::{StreamMoments, told_by_others};
pub use eliminate::{Elimination, eliminate};
pub use groups::Groups;
pub use importance::{InputMoments, StructuredImportance, squared_norms};
pub use solve::solve;
