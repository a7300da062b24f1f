//! Types by measured cost: what is tried for each tensor, and which of it is chosen.

use std::collections::HashMap;

use slmc_gguf::TensorType::{self, *};
use slmc_quant::allocate::{AllocateError, Budget, Candidate, allocate};
use slmc_quant::mix::fit_columns;
use slmc_quant::plan::{AllocatedType, KeepZeros, Prediction, Reason, Target};
use slmc_quant::{Mix, Plan, PlannedTensor};

use crate::PipelineError;
use crate::sensitivity::{Cost, Costs, Curve, Sensitivity, Types};

/// Types that a tensor may get, where their blocks divide its columns.
const WIDE: [TensorType; 7] = [Q2_K, Q3_K, IQ4_XS, Q4_K, Q5_K, Q6_K, Q8_0];

/// The same for columns that no super-block divides.
const NARROW: [TensorType; 6] = [Q4_0, IQ4_NL, Q4_1, Q5_0, Q5_1, Q8_0];

/// The same where zeros must stay.
const ZEROS: [TensorType; 5] = [Q3_K, Q4_0, Q5_0, Q6_K, Q8_0];

/// Windows that costs are measured on. The divergence of a token varies about as much as its mean: four windows of 512 tokens
/// give the mean to 3 %.
const WINDOWS: usize = 4;

/// Solutions that are tried, each under the factor of the one before.
const SOLUTIONS: usize = 6;

/// The mix that a plan starts from before costs are known, where `asked` is the one that was named: AWQ searches its scales on it, and
/// its base type is the one whose divergence is measured.
pub fn starting_mix(target: Target, asked: Mix, weights: u64) -> Mix {
    let bits = match target {
        Target::Mix => return asked,
        Target::BitsPerWeight(bits) => bits,
        Target::FileBytes(bytes) => 8.0 * bytes as f64 / weights.max(1) as f64,
        Target::KlDivergence(_) => return Mix::Q4_K_M,
    };
    match bits {
        ..3.0 => Mix::Q2_K,
        3.0..4.0 => Mix::Q3_K_M,
        4.0..5.0 => Mix::Q4_K_M,
        5.0..6.0 => Mix::Q5_K_M,
        _ => Mix::Q6_K,
    }
}

/// What to try for every tensor of `plan`: tensors that a pattern pins have one type, those that its mix decides have all that
/// fit, and where zeros must stay, can hold them; where the target is the mix itself, only those that its types do not fit have a
/// choice. Tensors whose columns no block divides, and vectors, are not measured.
pub fn types(plan: &Plan, target: Target, keep: KeepZeros) -> HashMap<String, Types> {
    let mut types = HashMap::new();
    for tensor in &plan.tensors {
        let columns = tensor.columns();
        let fits = |ty: &TensorType| columns.is_multiple_of(ty.block_len());
        let reference = fit_columns(plan.mix.base_type(), columns);
        let candidates = match tensor.reason {
            Reason::Mix { .. } if target == Target::Mix && tensor.fallback.is_none() => vec![tensor.ty],
            Reason::Mix { .. } => {
                let known = match tensor.zeros {
                    Some(_) if keep == KeepZeros::Always => &ZEROS[..],
                    _ if fits(&Q4_K) => &WIDE[..],
                    _ => &NARROW[..],
                };
                known.iter().copied().filter(fits).collect()
            }
            Reason::Override { .. } | Reason::Kept { .. } => vec![tensor.ty],
            Reason::MeasuredCost | Reason::OneDimensional | Reason::NeverQuantized => Vec::new(),
        };
        if !candidates.is_empty() && reference.is_quantized() {
            types.insert(
                tensor.name.clone(),
                Types { candidates, reference, hold_zeros: tensor.zeros.is_some() },
            );
        }
    }
    types
}

/// Splits calibration sequences into windows to measure on, spread evenly, and the others.
pub fn split(sequences: &[Vec<u32>]) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let count = WINDOWS.min(sequences.len() / 4).max(1);
    let stride = sequences.len() / count;
    let is_window = |n: usize| n % stride == stride / 2 && n / stride < count;
    let take = |wanted: bool| {
        let chosen = sequences.iter().enumerate().filter(|(n, _)| is_window(*n) == wanted);
        chosen.map(|(_, sequence)| sequence.clone()).collect::<Vec<_>>()
    };
    let (windows, others) = (take(true), take(false));
    if others.is_empty() { (windows.clone(), windows) } else { (windows, others) }
}

/// Chosen types and what they are expected to lose.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// By GGUF name.
    pub types: HashMap<String, AllocatedType>,
    /// Over all tensors.
    pub prediction: Prediction,
}

/// Where a plan's bytes are counted.
#[derive(Clone, Copy, Debug)]
pub struct FileFacts {
    /// Bytes of the file beside its tensors.
    pub overhead: u64,
    /// What tensors are padded to.
    pub alignment: u64,
}

/// Refuses a target that no choice of `types` reaches in bytes, before anything is measured.
///
/// # Errors
/// The least that can be reached.
pub fn check(
    plan: &Plan,
    types: &HashMap<String, Types>,
    target: Target,
    file: FileFacts,
) -> Result<(), PipelineError> {
    let free = |ty: &TensorType| Cost { ty: *ty, weights: 0.0, inputs: 0.0 };
    let tensors = types.iter().map(|(tensor, types)| Costs {
        tensor: tensor.clone(),
        candidates: types.candidates.iter().map(free).collect(),
    });
    let costless = Sensitivity { tensors: tensors.collect(), curve: Curve::new([]) };
    Problem::new(plan, &costless, target, file).solve(1.0).map(drop)
}

/// Chooses a type for every tensor of `plan` that was measured, on `tokens` tokens.
///
/// # Errors
/// No choice reaches the target: the error says what can be reached.
pub fn choose(
    plan: &Plan,
    measured: &Sensitivity,
    target: Target,
    tokens: usize,
    file: FileFacts,
) -> Result<Chosen, PipelineError> {
    let problem = Problem::new(plan, measured, target, file);
    let mut best: Option<(Choice, f64)> = None;
    // The curve's factor depends on the solution: that of one is tried on the next, and hardly moves after the second. Of a
    // solution that loses too much it is raised at least so far that the next ones cannot all do so.
    let mut factor = 1.0;
    for _ in 0..SOLUTIONS {
        let choice = match (problem.solve(factor), &best) {
            (Ok(choice), _) => choice,
            (Err(_), Some(_)) => break,
            (Err(error), None) => return Err(error),
        };
        let tried = factor;
        factor = measured.curve.factor(choice.weights);
        let predicted = factor * choice.weights + choice.inputs;
        if matches!(target, Target::KlDivergence(most) if predicted > most) {
            factor = factor.max(1.02 * tried);
        }
        if problem.is_better(&choice, predicted, best.as_ref()) {
            best = Some((choice, predicted));
        }
    }
    let (choice, predicted) = best.ok_or_else(|| problem.missed(None))?;
    let factor = measured.curve.factor(choice.weights);
    let types = problem.tensors.iter().zip(&choice.candidates).map(|((tensor, costs), &n)| {
        let Cost { ty, weights, inputs } = costs[n];
        (tensor.name.clone(), AllocatedType { ty, kl_divergence: factor * weights + inputs })
    });
    let prediction = Prediction { target, kl_divergence: predicted, kl_inputs: choice.inputs, tokens };
    Ok(Chosen { types: types.collect(), prediction })
}

/// One candidate of every tensor.
struct Choice {
    candidates: Vec<usize>,
    bytes: u64,
    weights: f64,
    inputs: f64,
}

/// The measured tensors of a plan, and what is to be reached.
struct Problem<'a> {
    plan: &'a Plan,
    target: Target,
    file: FileFacts,
    tensors: Vec<(&'a PlannedTensor, &'a [Cost])>,
    /// Bytes of the tensors that were not measured, as the target counts.
    fixed: u64,
}

impl<'a> Problem<'a> {
    fn new(plan: &'a Plan, measured: &'a Sensitivity, target: Target, file: FileFacts) -> Self {
        let mut problem = Self { plan, target, file, tensors: Vec::new(), fixed: 0 };
        for tensor in &plan.tensors {
            match measured.tensors.iter().find(|costs| costs.tensor == tensor.name) {
                Some(costs) => problem.tensors.push((tensor, &costs.candidates)),
                None => problem.fixed += problem.counted(tensor.bytes),
            }
        }
        problem
    }

    /// Bytes as the target counts them.
    fn counted(&self, bytes: u64) -> u64 {
        match self.target {
            Target::FileBytes(_) => bytes.next_multiple_of(self.file.alignment),
            Target::BitsPerWeight(_) | Target::KlDivergence(_) | Target::Mix => bytes,
        }
    }

    /// The solution under a factor on the weights' costs.
    fn solve(&self, factor: f64) -> Result<Choice, PipelineError> {
        let candidates = self.tensors.iter().map(|(tensor, costs)| {
            let candidate = |cost: &Cost| {
                // its blocks divide the columns, so they divide all weights
                let bytes = cost.ty.bytes_for(tensor.weights() as usize).unwrap_or(usize::MAX);
                Candidate { bytes: self.counted(bytes as u64), loss: factor * cost.weights + cost.inputs }
            };
            costs.iter().map(candidate).collect()
        });
        let candidates: Vec<Vec<Candidate>> = candidates.collect();
        let budget = match self.target {
            Target::BitsPerWeight(bits) => {
                let bytes = (bits * self.plan.total_weights as f64 / 8.0) as u64;
                Budget::Bytes(bytes.saturating_sub(self.fixed))
            }
            Target::FileBytes(bytes) => Budget::Bytes(bytes.saturating_sub(self.fixed + self.file.overhead)),
            Target::Mix => Budget::Bytes(self.plan.total_bytes.saturating_sub(self.fixed)),
            Target::KlDivergence(kl) => Budget::Loss(kl),
        };
        let found = allocate(&candidates, budget).map_err(|error| self.missed(Some(error)))?;
        let chosen = || self.tensors.iter().zip(&found.choices).map(|((_, costs), &n)| costs[n]);
        Ok(Choice {
            bytes: found.bytes,
            weights: chosen().map(|cost| cost.weights).sum(),
            inputs: chosen().map(|cost| cost.inputs).sum(),
            candidates: found.choices,
        })
    }

    /// Whether a solution is better than the best so far, if it reaches the target at all.
    fn is_better(&self, choice: &Choice, predicted: f64, best: Option<&(Choice, f64)>) -> bool {
        match (self.target, best) {
            (Target::KlDivergence(most), _) if predicted > most => false,
            (_, None) => true,
            (Target::KlDivergence(_), Some((best, best_predicted))) => {
                (choice.bytes, predicted) < (best.bytes, *best_predicted)
            }
            (_, Some((_, best))) => predicted < *best,
        }
    }

    fn missed(&self, error: Option<AllocateError>) -> PipelineError {
        let (target, plan) = (self.target, self.plan);
        let reachable = match error {
            Some(AllocateError::TooFewBytes { least, .. }) => match target {
                Target::BitsPerWeight(_) => {
                    let bits = 8.0 * (least + self.fixed) as f64 / plan.total_weights as f64;
                    format!("the least that can be reached is {bits:.4} bits per weight")
                }
                _ => {
                    let bytes = least + self.fixed + self.file.overhead;
                    format!("the least that can be reached is {bytes} bytes")
                }
            },
            Some(AllocateError::TooLittleLoss { least, .. }) => {
                format!("the least that can be reached is a predicted {least:.3e}")
            }
            Some(other) => other.to_string(),
            None => "no solution keeps it".into(),
        };
        PipelineError::Target { target, reachable }
    }
}

/// The mix of the type that most of a plan's weights have.
pub fn mostly(plan: &Plan) -> Mix {
    let weights = |ty: TensorType| -> u64 {
        plan.tensors.iter().filter(|tensor| tensor.ty == ty).map(slmc_quant::PlannedTensor::weights).sum()
    };
    TensorType::ALL.into_iter().max_by_key(|&ty| weights(ty)).map_or(plan.mix, Mix::mostly)
}
