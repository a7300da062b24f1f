//! The hidden states of the rounded model, and beside them those of the float model, on their way through one block.
//!
//! A block has four inputs of linear layers, which come one after the other: when the layers behind one are rounded, the
//! next input is that of the rounded model. The residual stream stands in front of attention for the first two, and in
//! front of the MLP for the others; it is moved on as soon as what lies between is rounded.

use slmc_calibration::statistics::{CrossMoment, SecondMoment};
use slmc_model::{Block, Context, HostView, LinearInput, NoObserver, Tensor};

use crate::PipelineError;
use crate::hidden::HiddenStates;

/// A block before rounding and while it is being rounded.
pub struct Blocks<'a> {
    /// The block as it was.
    pub float: Option<&'a Block>,
    /// The block with what is rounded so far.
    pub rounded: &'a Block,
    /// What both share.
    pub context: &'a Context,
}

/// What an input's layers are rounded with.
pub struct Gathered {
    /// 2/n Σ x̃ x̃ᵀ of the rounded model's inputs x̃.
    pub hessian: SecondMoment,
    /// What the rounded model has lost so far, as these layers see it.
    pub drift: Option<Drift>,
}

/// How the rounded model has drifted from the float one.
pub enum Drift {
    /// 2/n Σ (x − x̃) x̃ᵀ, where x is what the float model's layers see.
    Inputs(CrossMoment),
    /// 2/n Σ (y − W x̃) x̃ᵀ, where y is what the layer must add for the residual stream behind it to be the float model's.
    Outputs(CrossMoment),
}

/// The streams, batch by batch.
pub struct Streams<'a> {
    /// The rounded model's.
    pub rounded: &'a mut HiddenStates,
    /// The float model's; without them nothing is known of drift.
    pub float: Option<&'a mut HiddenStates>,
}

impl Streams<'_> {
    /// Gathers what the layers behind `input` need, moving the streams on over what is done.
    ///
    /// # Errors
    /// The block cannot be run; NaN or infinity in its inputs.
    pub fn gather(
        &mut self,
        input: LinearInput,
        blocks: &Blocks<'_>,
        has_drifted: bool,
    ) -> Result<Gathered, PipelineError> {
        let name = format!("block {}, {input}", blocks.rounded.layer());
        let mut gathered: Option<Gathered> = None;
        for at in 0..self.rounded.len() {
            let mut states = self.rounded.get(at)?;
            if input == LinearInput::Mlp {
                states = blocks.rounded.attention(states, blocks.context, &mut NoObserver)?;
                self.rounded.set(at, states.clone())?;
            }
            let x = blocks.rounded.linear_input(input, &states, blocks.context)?;
            let (d_in, width) = (x.dims()[1], states.dims()[2]);
            let gathered = gathered.get_or_insert_with(|| Gathered {
                hessian: SecondMoment::new(&name, d_in),
                drift: (has_drifted && self.float.is_some()).then(|| match input {
                    LinearInput::Attention | LinearInput::Mlp => {
                        Drift::Inputs(CrossMoment::new(&name, [d_in, d_in]))
                    }
                    LinearInput::Output | LinearInput::Down => {
                        Drift::Outputs(CrossMoment::new(&name, [width, d_in]))
                    }
                }),
            });
            let seen = HostView::of(&x);
            gathered.hessian.add(&seen)?;
            let (Some(float), Some(block)) = (self.float.as_deref_mut(), blocks.float) else { continue };
            let mut wanted = float.get(at)?;
            if let LinearInput::Output | LinearInput::Down = input {
                wanted = match input {
                    LinearInput::Output => block.attention(wanted, blocks.context, &mut NoObserver)?,
                    _ => block.mlp(wanted, &mut NoObserver)?,
                };
                float.set(at, wanted.clone())?;
            }
            match &mut gathered.drift {
                None => {}
                Some(Drift::Inputs(drift)) => {
                    let lost = block.linear_input(input, &wanted, blocks.context)? - x.clone();
                    drift.add(&HostView::of(&lost), &seen)?;
                }
                Some(Drift::Outputs(drift)) => {
                    let reached = rows(states) + block.linear(input.roles()[0], &x)?;
                    let lost = rows(wanted) - reached;
                    drift.add(&HostView::of(&lost), &seen)?;
                }
            }
        }
        gathered.ok_or_else(|| unreachable!("calibration has at least one batch"))
    }

    /// Moves the rounded stream on over the MLP: the block is done.
    ///
    /// # Errors
    /// The block cannot be run.
    pub fn leave(&mut self, block: &Block) -> Result<(), PipelineError> {
        self.rounded.replace(|states| Ok(block.mlp(states, &mut NoObserver)?))
    }
}

fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}
