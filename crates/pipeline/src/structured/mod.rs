//! A checkpoint out of which channels, heads and blocks are cut, and the smaller checkpoint of the same architecture that remains.
//!
//! Which groups of columns go and what the others become is `slmc_prune::structured`'s. Here
//! [`profile`] looks at the whole model once, [`measure`] finds out what removing some of each kind does to it, so that a budget can be
//! spread over the kinds, and [`Surgeon`] walks as GPTQ does ([`crate::gptq::quantize`]), towards the original's outputs, with full
//! shapes and zeros; the zeros are cut out when a tensor is written.

mod budget;
mod damage;
mod kept;
mod plan;
mod profile;
mod scores;
mod shape;
mod surgeon;

pub use budget::{Asked, Budget, Sizing};
pub use damage::{Damage, measure};
pub use kept::{Choice, Kept};
pub use plan::{PlannedCut, StructuredPlan, cuts};
pub use profile::{LayerProfile, Profile, profile};
pub use scores::Scores;
pub use shape::Shape;
pub use surgeon::{State, Surgeon};
