//! From mix, overrides and shapes to a plan.

use std::collections::{HashMap, HashSet};

use slmc_gguf::TensorType;

use super::{
    AllocatedType, Pattern, PatternOption, Plan, PlanError, PlannedTensor, Prediction, Reason, Target,
    TypeOverride,
};
use crate::Method;
use crate::mix::{Choice, Mix, ModelFacts, TensorFacts};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The mix.
    pub mix: Mix,
    /// The method.
    pub method: Method,
    /// `--tensor-type`: the first pattern that matches a tensor decides it, as in llama-quantize. Vectors and norms, which
    /// no mix quantizes, are not touched. Unlike there, overrides also work on the mixes f32, f16 and bf16.
    pub overrides: Vec<TypeOverride>,
    /// `--keep`: tensors stored in [`TensorFacts::source`]'s precision; stronger than `overrides`.
    pub keep: Vec<Pattern>,
    /// Types chosen by measured cost, by GGUF name; weaker than `overrides` and `keep`, which they know of. Tensors without an
    /// entry follow the mix.
    pub allocated: HashMap<String, AllocatedType>,
    /// What the allocated types are expected to lose.
    pub prediction: Option<Prediction>,
}

impl PlanRequest {
    /// A mix and a method, nothing else.
    pub fn new(mix: Mix, method: Method) -> Self {
        Self {
            mix,
            method,
            overrides: Vec::new(),
            keep: Vec::new(),
            allocated: HashMap::new(),
            prediction: None,
        }
    }
}

impl Plan {
    /// Plans all tensors of a model.
    ///
    /// # Errors
    /// A pattern that matches no quantizable tensor or that decides none, a name listed twice, a shape without size.
    pub fn new(
        model: &ModelFacts,
        tensors: &[TensorFacts],
        request: &PlanRequest,
    ) -> Result<Self, PlanError> {
        let mut names = HashSet::new();
        if let Some(twice) = tensors.iter().find(|t| !names.insert(t.name.as_str())) {
            return Err(PlanError::Duplicate { tensor: twice.name.clone() });
        }
        check_patterns(tensors, request)?;

        let choices = request.mix.choose(tensors, model);
        let mut planned = Vec::with_capacity(tensors.len());
        let (mut total_bytes, mut total_weights) = (0u64, 0u64);
        for (tensor, choice) in tensors.iter().zip(choices) {
            let (choice, reason) = request.resolve(tensor, choice);
            let shape_error =
                || PlanError::Shape { tensor: tensor.name.clone(), shape: tensor.shape.clone() };
            let (weights, bytes) = size(choice.ty, &tensor.shape).ok_or_else(shape_error)?;
            total_weights = total_weights.checked_add(weights).ok_or_else(shape_error)?;
            total_bytes = total_bytes.checked_add(bytes).ok_or_else(shape_error)?;
            planned.push(PlannedTensor {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                ty: choice.ty,
                bytes,
                reason,
                fallback: choice.fallback,
                kl_divergence: request.allocated.get(&tensor.name).map(|chosen| chosen.kl_divergence),
                zeros: None,
            });
        }
        let bits_per_weight =
            if total_weights == 0 { 0.0 } else { 8.0 * total_bytes as f64 / total_weights as f64 };
        Ok(Self {
            mix: request.mix,
            method: request.method,
            tensors: planned,
            total_bytes,
            total_weights,
            bits_per_weight,
            prediction: request.prediction,
        })
    }
}

impl PlanRequest {
    /// Whether costs decide only about tensors that the mix's types do not fit.
    fn follows_mix(&self) -> bool {
        self.prediction.is_some_and(|prediction| prediction.target == Target::Mix)
    }

    fn resolve(&self, tensor: &TensorFacts, choice: Choice) -> (Choice, Reason) {
        let Some(rule) = choice.rule else {
            let reason = if tensor.rank() < 2 { Reason::OneDimensional } else { Reason::NeverQuantized };
            return (choice, reason);
        };
        let instead_of = choice.ty;
        if let Some(keep) = self.keep.iter().find(|p| p.matches(&tensor.name)) {
            let reason = Reason::Kept { pattern: keep.to_string(), instead_of };
            return (Choice::fitted(tensor.source, tensor.columns()), reason);
        }
        if let Some(TypeOverride { pattern, ty }) =
            self.overrides.iter().find(|o| o.pattern.matches(&tensor.name))
        {
            let reason = Reason::Override { pattern: pattern.to_string(), instead_of };
            return (Choice::fitted(*ty, tensor.columns()), reason);
        }
        let chosen = self.allocated.get(&tensor.name);
        if let Some(allocated) = chosen.filter(|_| choice.fallback.is_some() || !self.follows_mix()) {
            return (Choice::fitted(allocated.ty, tensor.columns()), Reason::MeasuredCost);
        }
        (choice, Reason::Mix { mix: self.mix, rule })
    }
}

/// Every pattern must match something; every override must decide something.
fn check_patterns(tensors: &[TensorFacts], request: &PlanRequest) -> Result<(), PlanError> {
    let names = || tensors.iter().filter(|t| t.is_quantizable()).map(|t| t.name.as_str());
    let no_match =
        |option, pattern: &Pattern| Err(PlanError::NoMatch { option, pattern: pattern.to_string() });
    for keep in &request.keep {
        if !names().any(|name| keep.matches(name)) {
            return no_match(PatternOption::Keep, keep);
        }
    }
    for (i, TypeOverride { pattern, .. }) in request.overrides.iter().enumerate() {
        let earlier = |name: &str| {
            let keep = request.keep.iter().map(|p| (PatternOption::Keep, p));
            let overrides = request.overrides[..i].iter().map(|o| (PatternOption::TensorType, &o.pattern));
            keep.chain(overrides).find(|(_, p)| p.matches(name))
        };
        let mut before = None;
        let mut decides = false;
        for name in names().filter(|name| pattern.matches(name)) {
            match earlier(name) {
                None => decides = true,
                Some(found) => before = Some(found),
            }
        }
        match (decides, before) {
            (true, _) => {}
            (false, None) => return no_match(PatternOption::TensorType, pattern),
            (false, Some((option, by))) => {
                return Err(PlanError::Shadowed { pattern: pattern.to_string(), option, by: by.to_string() });
            }
        }
    }
    Ok(())
}

/// (weights, bytes) of a tensor; `None` for no weights, an overflow, or rows that are no whole blocks.
fn size(ty: TensorType, shape: &[usize]) -> Option<(u64, u64)> {
    let weights =
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n > 0 && !shape.is_empty())?;
    let columns = *shape.last()?;
    let bytes = ty.bytes_for(columns)?.checked_mul(weights / columns)?;
    Some((u64::try_from(weights).ok()?, u64::try_from(bytes).ok()?))
}
