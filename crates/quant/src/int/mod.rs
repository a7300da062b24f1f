//! Integer grids: weights as scale · (code − zero) with codes of 2, 3, 4 or 8 bits, one scale (and zero) for every group of
//! neighbouring columns or for a whole row.
//!
//! Encoded, a row is its groups one after the other; a group is its codes, packed as `slmc_checkpoint::packed` says, its
//! scale, and where not symmetric a byte for its zero. Containers sort these into tensors of their own.

pub(crate) mod fit;
mod grid;
mod refine;
pub(crate) mod tile;

pub use fit::ScaleRule;
pub use grid::{EncodedGroup, IntGrid, IntScheme};
pub use slmc_checkpoint::packed::GroupSize;
