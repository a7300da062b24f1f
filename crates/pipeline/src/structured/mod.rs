//! A checkpoint out of which channels, heads, blocks and dimensions of the residual stream are cut, and the smaller checkpoint of the same architecture that remains.
//!
//! Which groups of columns go and what the others become is `slmc_prune::structured`'s. Here
//! [`profile`] looks at the whole model once, [`measure`] finds out what removing some of each kind does to it, so that a budget can be
//! spread over the kinds, and [`Surgeon`] walks as GPTQ does ([`crate::gptq::quantize`]), towards the original's outputs, with full
//! shapes and zeros; the zeros are cut out when a tensor is written.

mod budget;
mod cutting;
mod damage;
mod end;
mod kept;
mod others;
mod plan;
mod profile;
mod reader;
mod scores;
mod shape;
mod surgeon;

pub use budget::{Asked, Budget, Sizing};
pub use damage::{Cutting, Damage, measure};
pub use kept::{Choice, Kept};
pub use plan::{PlannedCut, StructuredPlan, cuts};
pub use profile::{LayerProfile, Profile, StreamDetail, profile};
pub use reader::ranked_dimensions;
pub use shape::{Ranked, Shape};
pub use surgeon::{State, Surgeon, follows};
