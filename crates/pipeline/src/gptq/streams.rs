//! The hidden states of the rounded model, and beside them those of the float model, on their way through one block.
//!
//! A block has four inputs of linear layers, which come one after the other: when the layers behind one are rounded, the
//! next input is that of the rounded model. The residual stream stands in front of attention for the first two, and in
//! front of the MLP for the others; it is moved on as soon as what lies between is rounded.

use slmc_calibration::statistics::{CrossMoment, SecondMoment};
use slmc_model::{Block, Context, HostView, LinearInput, NoObserver, Role, Tensor};

use crate::PipelineError;
use crate::hidden::{HiddenStates, Storage};

/// A block before rounding and while it is being rounded.
pub struct Blocks<'a> {
    /// The block as it was.
    pub float: Option<&'a Block>,
    /// Blocks of the float model that follow and that the rounded one leaves out: this one aims at what they gave.
    pub left_out: &'a [Block],
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
    /// 2/n Σ (y − W x̃) x̃ᵀ, where y is what the layer must give for the residual stream behind it to be the float model's. Only of
    /// layers with nothing but a factor between them and the stream: what a norm behind them needs is no linear matter.
    Outputs(CrossMoment),
}

impl Drift {
    /// Tokens that it was seen in.
    pub fn tokens(&self) -> u64 {
        match self {
            Self::Inputs(moment) | Self::Outputs(moment) => moment.tokens(),
        }
    }
}

/// The float model's hidden states, of every so many batches.
pub struct FloatStream {
    /// Those batches.
    pub states: HiddenStates,
    /// Of every how many batches.
    pub every: usize,
}

impl FloatStream {
    /// Of every `every`-th batch, as the rounded model has them now.
    ///
    /// # Errors
    /// The states cannot be kept.
    pub fn beside(rounded: &HiddenStates, every: usize) -> Result<Self, PipelineError> {
        Ok(Self { states: rounded.every(every)?, every })
    }

    /// Where batch `at` of the rounded model is, if it is here.
    fn index(&self, at: usize) -> Option<usize> {
        at.is_multiple_of(self.every).then_some(at / self.every)
    }
}

/// The streams, batch by batch.
pub struct Streams<'a> {
    rounded: &'a mut HiddenStates,
    float: Option<&'a mut FloatStream>,
    keep_bytes: u64,
    /// The inputs of the layer that is being rounded, of which its outputs are made then.
    kept: Option<HiddenStates>,
}

impl<'a> Streams<'a> {
    /// The rounded model's, and beside it the float model's, without which nothing is known of drift. The inputs of a layer
    /// that adds to the residual stream are kept where they take at most `keep_bytes`, and else computed twice.
    pub fn new(rounded: &'a mut HiddenStates, float: Option<&'a mut FloatStream>, keep_bytes: u64) -> Self {
        Self { rounded, float, keep_bytes, kept: None }
    }

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
            if input == LinearInput::Mlp {
                self.pass(LinearInput::Output, at, blocks.rounded, blocks.context)?;
            }
            let states = self.rounded.get(at)?;
            let x = blocks.rounded.linear_input(input, &states, blocks.context)?;
            let (d_in, [.., width]) = (x.dims()[1], states.dims());
            let precision = blocks.rounded.precision();
            let gathered = gathered.get_or_insert_with(|| Gathered {
                hessian: SecondMoment::new(&name, d_in).in_precision(precision),
                drift: (has_drifted && self.float.is_some()).then(|| {
                    match adds_plainly(input, blocks.rounded) {
                        true => {
                            Drift::Outputs(CrossMoment::new(&name, [width, d_in]).in_precision(precision))
                        }
                        false => Drift::Inputs(CrossMoment::new(&name, [d_in, d_in]).in_precision(precision)),
                    }
                }),
            });
            gathered.hessian.add(&HostView::of(&x))?;
            self.drift(input, at, blocks, (states, &x), gathered.drift.as_mut())?;
            self.keep(input, x)?;
        }
        if input == LinearInput::Mlp {
            self.kept = None;
        }
        gathered.ok_or_else(|| unreachable!("calibration has at least one batch"))
    }

    /// Moves the float stream on over what is done, and adds to the drift; `states` is the rounded model's stream and `x` what
    /// its layers behind `input` see.
    fn drift(
        &mut self,
        input: LinearInput,
        at: usize,
        blocks: &Blocks<'_>,
        (states, x): (Tensor<3>, &Tensor<2>),
        drift: Option<&mut Drift>,
    ) -> Result<(), PipelineError> {
        let (Some(float), Some(block)) = (self.float.as_deref_mut(), blocks.float) else { return Ok(()) };
        let Some(index) = float.index(at) else { return Ok(()) };
        // What the float model's layers saw, before its stream is moved on over them.
        let float_input = match &drift {
            Some(Drift::Inputs(_)) => {
                Some(block.linear_input(input, &float.states.get(index)?, blocks.context)?)
            }
            _ => None,
        };
        match input {
            LinearInput::Attention | LinearInput::Mlp => {}
            LinearInput::Output => float
                .states
                .update(index, |states| Ok(block.attention(states, blocks.context, &mut NoObserver)?))?,
            LinearInput::Down => {
                float.states.update(index, |states| Ok(block.mlp(states, &mut NoObserver)?))?;
                for block in blocks.left_out {
                    float.states.update(index, |states| {
                        Ok(block.forward(states, blocks.context, &mut NoObserver)?)
                    })?;
                }
            }
        }
        let wanted = float.states.get(index)?;
        let seen = HostView::of(x);
        match (drift, float_input, input.adding()) {
            (Some(Drift::Inputs(drift)), Some(float_input), _) => {
                drift.add(&HostView::of(&(float_input - x.clone())), &seen)?;
            }
            (Some(Drift::Outputs(drift)), _, Some(role)) => {
                let lost = rows(wanted) - rows(block.linear_onto(role, states, x)?);
                let scale = block.config().residual_scale;
                let lost = if scale == 1.0 { lost } else { lost / scale as f32 };
                drift.add(&HostView::of(&lost), &seen)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps a batch of the inputs of a layer that adds to the residual stream, where there is room for all batches.
    fn keep(&mut self, input: LinearInput, x: Tensor<2>) -> Result<(), PipelineError> {
        let [tokens, d_in] = x.dims();
        let bytes = (self.rounded.tokens() * d_in * size_of::<f32>()) as u64;
        if input.adding().is_some() && bytes <= self.keep_bytes {
            let kept = match &mut self.kept {
                Some(kept) => kept,
                None => self.kept.insert(HiddenStates::new(&Storage::Memory, &x.device())?),
            };
            kept.push(x.reshape([1, tokens, d_in]))?;
        }
        Ok(())
    }

    /// Moves batch `at` of the rounded stream on over the half of the block that ends with the layer behind `input`.
    fn pass(
        &mut self,
        input: LinearInput,
        at: usize,
        block: &Block,
        context: &Context,
    ) -> Result<(), PipelineError> {
        let kept = &self.kept;
        self.rounded.update(at, |states| {
            Ok(match (kept, input.adding()) {
                (Some(kept), Some(role)) => block.linear_onto(role, states, &rows(kept.get(at)?))?,
                (_, Some(Role::Output)) => block.attention(states, context, &mut NoObserver)?,
                (_, _) => block.mlp(states, &mut NoObserver)?,
            })
        })
    }

    /// Moves the rounded stream on over the MLP: the block is done.
    ///
    /// # Errors
    /// The block cannot be run.
    pub fn leave(mut self, block: &Block, context: &Context) -> Result<(), PipelineError> {
        (0..self.rounded.len()).try_for_each(|at| self.pass(LinearInput::Down, at, block, context))
    }
}

/// Whether what the layer behind an input gives is added to the residual stream with nothing but a factor between.
fn adds_plainly(input: LinearInput, block: &Block) -> bool {
    input.adding().is_some_and(|role| block.config().adds_plainly(role))
}

fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use slmc_model::{Device, host};

    use super::*;
    use crate::model_file::ModelFile;
    use crate::progress::Silent;
    use crate::walker::Walk;

    /// The rounded stream behind the first block, whose weights stay: two batches of sequences, the last one shorter.
    fn behind_the_first_block(keep_bytes: impl Fn(u64) -> u64) -> Vec<f32> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
        let source = ModelFile::open(&path).unwrap().source().unwrap();
        let sequences: Vec<Vec<u32>> = (0..3).map(|n| (n * 8..n * 8 + 8).collect()).collect();
        let device = Device::Cpu.burn().unwrap();
        let walk = Walk { batch_tokens: 16, ..Walk::new(source.as_ref(), &sequences, &device, &Silent) };
        let mut states = Vec::new();
        walk.blocks(|layer, block, hidden, context| {
            if layer > 0 {
                return Ok(());
            }
            assert_eq!((hidden.len(), hidden.tokens()), (2, 24));
            let bytes_of_a_token = (hidden.width() * size_of::<f32>()) as u64;
            let mut streams = Streams::new(hidden, None, keep_bytes(bytes_of_a_token));
            let blocks = Blocks { float: None, left_out: &[], rounded: block, context };
            for input in LinearInput::ALL {
                streams.gather(input, &blocks, false)?;
            }
            streams.leave(block, context)?;
            hidden.each(|batch| {
                states.extend(host::into_vec(batch));
                Ok(())
            })
        })
        .unwrap();
        states
    }

    #[test]
    fn inputs_are_kept_of_all_batches_or_of_none() {
        let computed_twice = behind_the_first_block(|_| 0);
        assert!(computed_twice == behind_the_first_block(|_| u64::MAX));
        // room for two batches as long as the last, and not for both as they are
        assert!(computed_twice == behind_the_first_block(|of_a_token| 20 * of_a_token));
    }
}
