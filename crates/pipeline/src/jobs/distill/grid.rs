//! The grid that a student's weights will be stored on, for training that sees them so.

use std::collections::HashMap;

use slmc_gguf::TensorType;
use slmc_model::{ModelConfig, ModelError, TensorId};
use slmc_quant::mix::TensorFacts;
use slmc_quant::rtn::round_trip;
use slmc_quant::{Method, Mix, Plan, PlanRequest};

use crate::PipelineError;
use crate::export::model_facts;

/// The type of every matrix in a GGUF mix.
#[derive(Clone, Debug)]
pub struct StoredGrid(HashMap<TensorId, (TensorType, usize)>);

impl StoredGrid {
    /// The types that `slmc quantize --method rtn --type MIX` gives a model's tensors.
    ///
    /// # Errors
    /// The mix cannot be planned for this model.
    pub fn new(config: &ModelConfig, mix: Mix) -> Result<Self, PipelineError> {
        let name = |id| config.arch.gguf_name(id).ok_or(ModelError::NoSuchTensor { id });
        let facts: Vec<TensorFacts> = config
            .tensors()
            .into_iter()
            .map(|id| {
                Ok(TensorFacts { name: name(id)?, shape: config.shape(id.role), source: TensorType::F32 })
            })
            .collect::<Result<_, ModelError>>()?;
        let plan = Plan::new(&model_facts(config), &facts, &PlanRequest::new(mix, Method::Rtn))?;
        let mut types = HashMap::new();
        for id in config.tensors() {
            let planned = plan.tensor(&name(id)?).filter(|planned| planned.shape.len() == 2);
            if let Some(planned) = planned.filter(|planned| planned.ty != TensorType::F32) {
                types.insert(id, (planned.ty, planned.columns()));
            }
        }
        Ok(Self(types))
    }

    /// What a tensor reads as once it is stored, row-major as it is given; `None` where nothing changes.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn round(&self, id: TensorId, values: &[f32]) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(&(ty, columns)) = self.0.get(&id) else { return Ok(None) };
        let mut rounded = vec![0.0; values.len()];
        round_trip(ty, values, columns, None, &mut rounded)
            .map_err(|error| ModelError::Change { id, reason: Box::new(error) })?;
        Ok(Some(rounded))
    }
}
