//! Backward steps of the cpu kernels, for burn's automatic differentiation.
//!
//! A kernel computes on slices, of which burn knows nothing: what it gives would be a constant. [`record`] puts its result
//! into burn's graph together with a closure that turns the result's gradient into those of the inputs.

use std::fmt;
use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device as BurnDevice, Tensor};

use crate::host::{self, HostView};

/// An input of a recorded operation.
pub(super) type Variable = FloatTensor<Autodiff<Flex>>;

/// A tensor on the cpu device as an input of [`record`]; one that carries no gradient is a constant.
pub(super) fn variable<const D: usize>(tensor: &Tensor<D>) -> Variable {
    let tensor = tensor.clone().autodiff().try_into_primitive::<Autodiff<Flex>>();
    tensor.unwrap_or_else(|error| panic!("kernels run on the cpu device: {error:?}"))
}

/// The result of a kernel, row-major, as a tensor through which gradients flow. `backward` is called at most once, with the
/// gradient of the result and which inputs want theirs; it gives the gradients of these, row-major, each of its input's
/// shape.
pub(super) fn record<const N: usize, const D: usize>(
    inputs: [Variable; N],
    values: Vec<f32>,
    shape: [usize; D],
    backward: impl FnOnce(&[f32], [bool; N]) -> [Option<Vec<f32>>; N] + Send + 'static,
) -> Tensor<D> {
    let shapes = inputs.each_ref().map(|input| input.primitive().layout().shape().to_vec());
    let output = host::tensor(values, shape, &BurnDevice::flex());
    let output = output.try_into_primitive::<Flex>().expect("made on this device just now");
    let nodes = inputs.each_ref().map(|input| input.node());
    let tracked = match Recorded.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let step: Step<N> = Box::new(backward);
            prepared.finish(Pullback { step: Arc::new(Mutex::new(Some(step))), shapes }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(tracked)
}

type Step<const N: usize> = Box<dyn FnOnce(&[f32], [bool; N]) -> [Option<Vec<f32>>; N] + Send>;

/// A closure in the shape that burn keeps states in. It is taken out by the one backward pass there is.
#[derive(Clone)]
struct Pullback<const N: usize> {
    step: Arc<Mutex<Option<Step<N>>>>,
    shapes: [Vec<usize>; N],
}

impl<const N: usize> fmt::Debug for Pullback<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pullback").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Recorded;

impl<const N: usize> Backward<Flex, N> for Recorded {
    type State = Pullback<N>;

    fn backward(self, ops: Ops<Pullback<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let step = ops.state.step.lock().ok().and_then(|mut step| step.take());
        let step = step.expect("burn goes back through a graph once");
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let inputs = step(&HostView::of_primitive(gradient), wanted);
        for ((parent, gradient), shape) in ops.parents.into_iter().zip(inputs).zip(&ops.state.shapes) {
            if let Some((parent, gradient)) = parent.zip(gradient) {
                grads.register::<Flex>(parent.id, host::primitive(gradient, shape));
            }
        }
    }
}

/// The sum of each column of `[rows, width]`, in an order that the number of rows decides.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    use rayon::prelude::*;
    const ROWS: usize = 64;
    let task = (width * ROWS).max(1);
    let parts: Vec<Vec<f32>> = values
        .par_chunks(task)
        .map(|rows| {
            let mut sums = vec![0.0f32; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
            }
            sums
        })
        .collect();
    add_up(&parts, width)
}

/// The sum of partial sums, in their order.
pub(super) fn add_up(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}
