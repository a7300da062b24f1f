//! A checkpoint whose linear layers are pruned, in and out in Hugging Face's own layout and element types.
//!
//! Which weights go is `slmc_prune`'s; here tensors travel from one checkpoint to the other. SparseGPT walks as GPTQ does
//! ([`crate::gptq::quantize`]), towards the float model's outputs; Wanda needs no more than the moments of the inputs
//! ([`wanda`]); magnitude needs no walk at all, and nor does Wanda where the dense model's moments will do ([`Scores`]). [`Layers`]
//! spreads a share over the layers in other ways than evenly.

mod pruner;
mod scores;
mod shares;
pub(crate) mod stored;
mod verify;
mod wanda;
mod writer;

pub use pruner::Pruner;
pub use scores::{BlockCosts, Scores};
pub use shares::{Layers, measured_shares, moments};
pub use verify::{PrunedTensor, verify};
pub use wanda::prune_blocks;
pub use writer::PrunedWriter;
