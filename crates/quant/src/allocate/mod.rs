//! Which of several ways to store each tensor: a multiple-choice knapsack over bytes and loss, solved exactly.
//!
//! Losses add up over tensors and so do bytes, so a part of the tensors can be solved by itself: of all ways to store the first
//! n tensors only those matter that no other beats in bytes and in loss. The list of those for n + 1 tensors is made from
//! the list for n. Source: Nemhauser and Ullmann, "Discrete dynamic programming and capital allocation", Management Science 15
//! (1969), 494–505.
//!
//! No list is longer than there are different sums of bytes, and those are multiples of a common divisor: some ten thousand for
//! a Llama of 1B parameters. Shapes that would make more than [`MOST_POINTS`] are thinned, and the solution says so.

mod list;

use list::{List, Step};

/// Points that a list may have before it is thinned: at eight bytes a point and tensor, what is kept to find the choices of a
/// 300-tensor model again stays below 400 MB, and is a small part of that for shapes that occur.
pub const MOST_POINTS: usize = 1 << 17;

/// One way to store a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Bytes it takes.
    pub bytes: u64,
    /// What it loses, in any unit that adds up over tensors; finite and not negative.
    pub loss: f64,
}

/// What must be kept, while the other is made as small as can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// At most so many bytes.
    Bytes(u64),
    /// At most so much loss.
    Loss(f64),
}

/// A solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// For every tensor the index of its candidate.
    pub choices: Vec<usize>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Their loss.
    pub loss: f64,
    /// Bytes of the budget that may have been wasted, where lists had to be thinned: no solution within so many bytes less is
    /// better. 0 for an exact solution. (Under [`Budget::Loss`], none that takes so many bytes less keeps the budget.)
    pub slack: u64,
}

/// An allocation that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum AllocateError {
    /// A tensor without candidates, or with more than can be counted.
    #[error("tensor {tensor} has {found} candidates, expected 1 to {most}", most = list::MOST_CANDIDATES)]
    Candidates {
        /// Its position.
        tensor: usize,
        /// How many it has.
        found: usize,
    },
    /// A loss that is not finite or negative.
    #[error("tensor {tensor}, candidate {candidate}: a loss of {loss}")]
    Loss {
        /// The tensor's position.
        tensor: usize,
        /// The candidate's.
        candidate: usize,
        /// The loss.
        loss: f64,
    },
    /// Bytes that overflow 64 bits.
    #[error("the tensors' bytes overflow")]
    Overflow,
    /// Even the smallest candidates take more bytes.
    #[error("{budget} bytes cannot be met: the smallest candidates take {least}")]
    TooFewBytes {
        /// The budget.
        budget: u64,
        /// What the smallest candidates take.
        least: u64,
    },
    /// Even the best candidates lose more.
    #[error("a loss of {budget} cannot be met: the best candidates lose {least}")]
    TooLittleLoss {
        /// The budget.
        budget: f64,
        /// What the best candidates lose.
        least: f64,
    },
}

/// The least loss within a budget of bytes, or the fewest bytes within a budget of loss. Of equal solutions the one with fewer
/// bytes, then with earlier candidates, is taken.
///
/// # Errors
/// See [`AllocateError`].
pub fn allocate(tensors: &[Vec<Candidate>], budget: Budget) -> Result<Allocation, AllocateError> {
    check(tensors)?;
    let rest = Rest::of(tensors);
    let mut list = List::start();
    let mut steps: Vec<Step> = Vec::with_capacity(tensors.len());
    let mut slack = 0;
    for (n, candidates) in tensors.iter().enumerate() {
        let keep = |point: &Candidate| match budget {
            Budget::Bytes(most) => point.bytes + rest.bytes[n + 1] <= most,
            // sums in another order may differ in their last digits: what is kept wrongly is refused at the end
            Budget::Loss(most) => point.loss + rest.loss[n + 1] <= most * (1.0 + 1e-9) + f64::MIN_POSITIVE,
        };
        let (next, step, wasted) = list.add(candidates, keep);
        list = next;
        steps.push(step);
        slack += wasted;
    }
    let chosen = match budget {
        Budget::Bytes(_) => list.points.len().checked_sub(1),
        Budget::Loss(most) => list.points.iter().position(|point| point.loss <= most),
    };
    let Some(chosen) = chosen else {
        return Err(match budget {
            Budget::Bytes(budget) => AllocateError::TooFewBytes { budget, least: rest.bytes[0] },
            Budget::Loss(budget) => AllocateError::TooLittleLoss { budget, least: rest.loss[0] },
        });
    };
    let Candidate { bytes, loss } = list.points[chosen];
    let mut choices = vec![0; tensors.len()];
    let mut point = chosen;
    for (choice, step) in choices.iter_mut().zip(&steps).rev() {
        (point, *choice) = step.origin(point);
    }
    Ok(Allocation { choices, bytes, loss, slack })
}

fn check(tensors: &[Vec<Candidate>]) -> Result<(), AllocateError> {
    for (tensor, candidates) in tensors.iter().enumerate() {
        let found = candidates.len();
        if found == 0 || found > list::MOST_CANDIDATES {
            return Err(AllocateError::Candidates { tensor, found });
        }
        for (candidate, &Candidate { loss, .. }) in candidates.iter().enumerate() {
            if !loss.is_finite() || loss < 0.0 {
                return Err(AllocateError::Loss { tensor, candidate, loss });
            }
        }
    }
    let most = tensors.iter().try_fold(0u64, |sum, candidates| {
        sum.checked_add(candidates.iter().map(|candidate| candidate.bytes).max().unwrap_or(0))
    });
    most.map(drop).ok_or(AllocateError::Overflow)
}

/// The least that the tensors from each position on take and lose; one entry more than tensors.
struct Rest {
    bytes: Vec<u64>,
    loss: Vec<f64>,
}

impl Rest {
    fn of(tensors: &[Vec<Candidate>]) -> Self {
        let mut rest = Self { bytes: vec![0; tensors.len() + 1], loss: vec![0.0; tensors.len() + 1] };
        for (n, candidates) in tensors.iter().enumerate().rev() {
            let bytes = candidates.iter().map(|candidate| candidate.bytes).min().unwrap_or(0);
            let loss = candidates.iter().map(|candidate| candidate.loss).fold(f64::INFINITY, f64::min);
            rest.bytes[n] = rest.bytes[n + 1] + bytes;
            rest.loss[n] = rest.loss[n + 1] + loss;
        }
        rest
    }
}
