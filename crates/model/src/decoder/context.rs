//! What all blocks of a forward pass share.

use burn::tensor::Device as BurnDevice;

use crate::config::{ModelConfig, Rotation};
use crate::ops::RopeTables;

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
    global: Option<RopeTables>,
    local: Option<RopeTables>,
    pub(super) positions: usize,
    pub(super) kv_precision: KvPrecision,
}

impl Context {
    /// A context for sequences of up to `positions` tokens.
    pub fn new(
        config: &ModelConfig,
        positions: usize,
        device: &BurnDevice,
        kv_precision: KvPrecision,
    ) -> Self {
        let of = |rotation| match config.rotation.contains(&rotation) {
            true => RopeTables::new(config, rotation, positions, device),
            false => None,
        };
        Self { global: of(Rotation::Global), local: of(Rotation::Local), positions, kv_precision }
    }

    /// What blocks of this kind rotate with; `None` where they do not.
    pub(super) fn rope(&self, rotation: Rotation) -> Option<&RopeTables> {
        match rotation {
            Rotation::None => None,
            Rotation::Global => self.global.as_ref(),
            Rotation::Local => self.local.as_ref(),
        }
    }

    /// The longest sequence it serves.
    pub fn positions(&self) -> usize {
        self.positions
    }
}
