//! Looking at what goes into linear layers.

use std::error::Error;
use std::fmt;

use burn::tensor::Tensor;

use crate::arch::Role;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::host::HostView;

/// The inputs of a block's linear layers. Layers that share their input are seen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinearInput {
    /// The normed residual stream, `[tokens, hidden_size]`: into query, key and value.
    Attention,
    /// The heads' outputs, `[tokens, num_attention_heads · head_dim]`: into output.
    Output,
    /// The normed residual stream, `[tokens, hidden_size]`: into gate and up.
    Mlp,
    /// The gated activations, `[tokens, intermediate_size]`: into down.
    Down,
}

impl LinearInput {
    /// Every input, in the order a block computes them.
    pub const ALL: [LinearInput; 4] = [Self::Attention, Self::Output, Self::Mlp, Self::Down];

    /// Its position in [`LinearInput::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The linear layers of a model that it goes into.
    pub fn roles(self, config: &ModelConfig) -> impl Iterator<Item = Role> {
        let all: &[Role] = match self {
            Self::Attention => &[Role::QueryKeyValue, Role::Query, Role::Key, Role::Value],
            Self::Output => &[Role::Output],
            Self::Mlp => &[Role::GateUp, Role::Gate, Role::Up],
            Self::Down => &[Role::Down],
        };
        all.iter().copied().filter(move |&role| config.has(role))
    }

    /// The layer that it goes into where what that gives is added to the residual stream.
    pub const fn adding(self) -> Option<Role> {
        match self {
            Self::Output => Some(Role::Output),
            Self::Down => Some(Role::Down),
            Self::Attention | Self::Mlp => None,
        }
    }
}

impl fmt::Display for LinearInput {
    /// The layers it goes into.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "query, key and value",
            Self::Output => "attention output",
            Self::Mlp => "gate and up",
            Self::Down => "down",
        })
    }
}

/// Sees the inputs of a block's linear layers while it runs.
pub trait LinearObserver {
    /// Whether this input shall be shown; one that is not costs nothing.
    fn wants(&self, input: LinearInput) -> bool {
        let _ = input;
        true
    }

    /// Shows an input, `[tokens, d_in]` row-major, as it is before any rounding of activations.
    ///
    /// # Errors
    /// Whatever the observer objects to; the block stops and passes it on.
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LinearObserver for NoObserver {
    fn wants(&self, _: LinearInput) -> bool {
        false
    }

    fn observe(&mut self, _: LinearInput, _: &[f32], _: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// Shows an input to an observer that wants it.
pub(super) fn show(
    observer: &mut dyn LinearObserver,
    input: LinearInput,
    x: &Tensor<2>,
) -> Result<(), ModelError> {
    if !observer.wants(input) {
        return Ok(());
    }
    observer.observe(input, &HostView::of(x), x.dims()[1]).map_err(ModelError::Observer)
}
