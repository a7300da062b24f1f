//! The windows through models of which every tensor is rounded, to about the same bits each.

use slmc_gguf::TensorType;
use slmc_model::{Block, Role};

use super::costs::Types;
use super::rounding::decode;
use super::stream::{Stream, WindowStates};
use crate::PipelineError;

/// One such model.
pub struct Level {
    /// The type that every tensor has, or the nearest that it may have.
    pub ty: TensorType,
    /// The windows so far.
    pub hidden: WindowStates,
}

/// A linear layer of the current block, as each of its candidate types.
pub struct StoredLayer<'a> {
    /// Which.
    pub role: Role,
    /// d_in.
    pub columns: usize,
    /// The candidates.
    pub types: &'a Types,
    /// Their bytes.
    pub candidates: Vec<Vec<u8>>,
}

impl Level {
    /// Takes the windows through a block. Its layers' weights stay the rounded ones.
    ///
    /// # Errors
    /// The block cannot be run.
    pub fn step(
        &mut self,
        stream: &Stream<'_>,
        block: &mut Block,
        layers: &[StoredLayer<'_>],
    ) -> Result<(), PipelineError> {
        for layer in layers {
            let n = layer.types.nearest(self.ty);
            let values =
                decode(layer.types.candidates[n], &layer.candidates[n], layer.columns).map_err(|source| {
                    PipelineError::Rounding {
                        tensor: format!("{:?} of block {}", layer.role, block.layer()),
                        source,
                    }
                })?;
            block.set_weight(layer.role, values)?;
        }
        self.hidden = stream.step(block, &self.hidden, &mut slmc_model::NoObserver)?;
        Ok(())
    }
}
