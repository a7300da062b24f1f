//! Which parts of a student are trained.

use std::sync::Arc;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use slmc_model::{Adapter, MemorySource, ModelConfig, ModelError, Role, TensorId, WeightSource};
use thiserror::Error;

/// What is trained of a student; the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// Every weight.
    #[default]
    All,
    /// Norms and biases.
    Norms,
    /// The scales of a grid that the student is stored on, its codes as they are.
    Scales,
    /// Low-rank changes beside linear layers.
    Lora(Lora),
}

/// Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685, section 4.1): W + α/rank · B A. A begins as PEFT begins it, uniform
/// within ±1/√d_in, and B as zeros, so that the student begins as it came. Beside a matrix of several layers stands one adapter, as PEFT
/// has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// α.
    pub alpha: f32,
    /// The names of the linear layers, as in [`Lora::TARGETS`].
    pub targets: Vec<String>,
}

/// A target that a model has not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{model_type} models have no {name}; name {instead} instead")]
pub struct MissingTarget {
    /// Its name.
    pub name: &'static str,
    /// What it would be.
    pub role: Role,
    /// The model's family.
    pub model_type: &'static str,
    /// What holds it, or is held in it, there.
    pub instead: String,
}

impl Lora {
    /// The matrices of linear layers by the last part of their Hugging Face names, those of any family.
    pub const TARGETS: [(&str, Role); 9] = [
        ("qkv_proj", Role::QueryKeyValue),
        ("q_proj", Role::Query),
        ("k_proj", Role::Key),
        ("v_proj", Role::Value),
        ("o_proj", Role::Output),
        ("gate_up_proj", Role::GateUp),
        ("gate_proj", Role::Gate),
        ("up_proj", Role::Up),
        ("down_proj", Role::Down),
    ];

    /// All linear layers, which a quantized base needs to be as good as full training (Dettmers et al. 2023, arXiv:2305.14314,
    /// section 4).
    pub fn all_targets() -> Vec<String> {
        Self::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    /// Names separated by commas, with or without `_proj`; `all` for all.
    ///
    /// # Errors
    /// A name that no linear layer has, or none at all.
    pub fn targets_named(names: &str) -> Result<Vec<String>, String> {
        if names == "all" {
            return Ok(Self::all_targets());
        }
        let wanted: Vec<&str> = names.split(',').map(str::trim).collect();
        let is = |known: &str, name: &str| known == name || known.strip_suffix("_proj") == Some(name);
        if let Some(unknown) =
            wanted.iter().find(|name| !Self::TARGETS.iter().any(|(known, _)| is(known, name)))
        {
            let known = Self::all_targets().join(", ");
            return Err(format!("no linear layer is called {unknown:?}; expected all, or some of {known}"));
        }
        let chosen = Self::TARGETS.iter().filter(|(known, _)| wanted.iter().any(|name| is(known, name)));
        Ok(chosen.map(|(name, _)| (*name).to_owned()).collect())
    }

    /// Those of the targets that a model has.
    ///
    /// # Errors
    /// It has not one of them, and what holds that or is held in it is no target either.
    pub fn targets_of(&self, config: &ModelConfig) -> Result<Vec<(&'static str, Role)>, MissingTarget> {
        let is_target = |(name, _): &(&str, Role)| self.targets.iter().any(|target| target == name);
        let chosen = || Self::TARGETS.into_iter().filter(is_target);
        let related = |role: Role| {
            let near = move |other: Role| role.parts().contains(&other) || other.parts().contains(&role);
            Self::TARGETS.into_iter().filter(move |(_, other)| *other != role && near(*other))
        };
        for (name, role) in chosen().filter(|(_, role)| !config.has(*role)) {
            if !related(role).any(|other| is_target(&other)) {
                let instead = related(role).filter(|(_, other)| config.has(*other));
                return Err(MissingTarget {
                    name,
                    role,
                    model_type: config.arch.model_type,
                    instead: instead.map(|(name, _)| name).collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(chosen().filter(|(_, role)| config.has(*role)).collect())
    }
}

impl Trained {
    /// The student in training, before its first step. Of everything that is not trained no copy is made. `seed` decides how adapters
    /// begin.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn begin(&self, student: Arc<dyn WeightSource>, seed: u64) -> Result<MemorySource, ModelError> {
        let tensors = student.config().tensors();
        let lora = match self {
            Self::All => return MemorySource::copy_of(student.as_ref()),
            // Whoever knows the grid adds them.
            Self::Scales => return MemorySource::over(student, &[]),
            Self::Norms => {
                let vectors = |id: &TensorId| student.config().shape(id.role).len() == 1;
                let trained: Vec<TensorId> = tensors.into_iter().filter(vectors).collect();
                return MemorySource::over(student, &trained);
            }
            Self::Lora(lora) => lora,
        };
        let targets = lora
            .targets_of(student.config())
            .map_err(|missing| ModelError::NoSuchTensor { id: TensorId::block(0, missing.role) })?;
        let (mut random, rank) = (Rng::with_seed(seed ^ 0x4C6F_5241), lora.rank);
        let mut weights = MemorySource::over(Arc::clone(&student), &[])?;
        for layer in 0..student.config().num_hidden_layers {
            for &(_, role) in &targets {
                let shape = student.config().shape(role);
                let bound = 1.0 / (shape[1] as f32).sqrt();
                let a = (0..rank * shape[1]).map(|_| bound * (2.0 * random.f32() - 1.0)).collect();
                let b = vec![0.0; shape[0] * rank];
                let adapter = Adapter { a, b, rank, scale: lora.alpha / rank as f32 };
                weights = weights.with_adapter(TensorId::block(layer, role), adapter)?;
            }
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_their_names() {
        assert_eq!(Lora::targets_named("v,q_proj").unwrap(), ["q_proj", "v_proj"]);
        assert_eq!(Lora::targets_named("all").unwrap(), Lora::all_targets());
        assert_eq!(Lora::targets_named("qkv,gate_up").unwrap(), ["qkv_proj", "gate_up_proj"]);
        for wrong in ["", "q,x", "proj"] {
            assert!(Lora::targets_named(wrong).unwrap_err().contains("down_proj"), "{wrong}");
        }
    }
}
