//! What all blocks of a forward pass share.

use burn::tensor::Device as BurnDevice;

use crate::config::ModelConfig;
use crate::ops::{Documents, RopeTables};

/// What keys (after rotation) and values are rounded to before attention reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvPrecision {
    /// Nothing.
    #[default]
    F32,
    /// Half precision: llama.cpp's default cache. Its CPU attention computes the rest in f32
    /// (`ggml_compute_forward_flash_attn_ext_tiled`).
    F16,
}

/// Dimensions, positions and precision of a forward pass. Sequences begin at position 0.
#[derive(Clone, Debug)]
pub struct Context {
    pub(super) rope: RopeTables,
    pub(super) positions: usize,
    pub(super) kv_precision: KvPrecision,
    pub(super) documents: Option<Documents>,
}

impl Context {
    /// A context for sequences of up to `positions` tokens.
    pub fn new(
        config: &ModelConfig,
        positions: usize,
        device: &BurnDevice,
        kv_precision: KvPrecision,
    ) -> Self {
        let rope = RopeTables::new(config, positions, device);
        Self { rope, positions, kv_precision, documents: None }
    }

    /// The same for sequences into which several documents are packed; of `None`, for those that are one document each.
    pub fn packed(&self, documents: Option<Documents>) -> Self {
        Self { documents, ..self.clone() }
    }

    /// The longest sequence it serves.
    pub fn positions(&self) -> usize {
        self.positions
    }
}
