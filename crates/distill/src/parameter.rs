//! What is trained: tensors of the model, the matrices of adapters beside them, or the scales of a grid.

use slmc_model::{MemorySource, ModelError, PartsMut, TensorId, WeightSource};

/// Something that has a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parameter {
    /// A tensor of the model.
    Weight(TensorId),
    /// A of a linear layer's adapter, `[rank, d_in]`.
    LoraA(TensorId),
    /// B of a linear layer's adapter, `[d_out, rank]`.
    LoraB(TensorId),
    /// The numbers that the scales of a tensor on a grid are.
    Scales(TensorId),
    /// What turns the student's hidden states into the teacher's width, `[teacher's, student's]`: beside the model, and gone with the run.
    Projection,
}

impl From<TensorId> for Parameter {
    fn from(id: TensorId) -> Self {
        Self::Weight(id)
    }
}

/// A parameter with its values.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// Which one.
    pub parameter: Parameter,
    /// Its name in a checkpoint: the tensor's, or PEFT's for an adapter.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: &'a [f32],
}

impl Parameter {
    /// Everything of a student that is trained, in the order of the model's tensors, adapters and scales last.
    ///
    /// # Errors
    /// None of a student whose family names its tensors.
    pub fn all(student: &MemorySource) -> Result<Vec<Values<'_>>, ModelError> {
        let config = student.config();
        let name = |id| config.arch.hf_name(id).ok_or(ModelError::NoSuchTensor { id });
        let mut all = Vec::new();
        for id in config.tensors().into_iter().filter(|&id| student.trains(id)) {
            let (shape, values) = (config.shape(id.role), student.values(id)?);
            all.push(Values { parameter: Self::Weight(id), name: name(id)?, shape, values });
        }
        for (id, adapter) in student.adapters() {
            let (tensor, rank) = (name(id)?, adapter.rank);
            let module = tensor.strip_suffix(".weight").unwrap_or(&tensor);
            let part = |which: &str| format!("base_model.model.{module}.{which}.weight");
            let [d_out, d_in] = [adapter.b.len() / rank, adapter.a.len() / rank];
            let (a, b) = (Self::LoraA(id), Self::LoraB(id));
            all.push(Values {
                parameter: a,
                name: part("lora_A"),
                shape: vec![rank, d_in],
                values: &adapter.a,
            });
            all.push(Values {
                parameter: b,
                name: part("lora_B"),
                shape: vec![d_out, rank],
                values: &adapter.b,
            });
        }
        for (id, scales) in student.scales() {
            let (parameter, name) = (Self::Scales(id), format!("{}.scales", name(id)?));
            all.push(Values { parameter, name, shape: vec![scales.len()], values: scales });
        }
        Ok(all)
    }

    /// The same to be changed, without names.
    pub fn all_mut(student: &mut MemorySource) -> impl Iterator<Item = (Self, &mut Vec<f32>)> {
        let PartsMut { tensors, adapters, scales } = student.parts_mut();
        let tensors = tensors.iter_mut().map(|(&id, values)| (Self::Weight(id), values));
        let adapters = adapters.iter_mut().flat_map(|(&id, adapter)| {
            [(Self::LoraA(id), &mut adapter.a), (Self::LoraB(id), &mut adapter.b)]
        });
        let scales = scales.iter_mut().map(|(&id, scales)| (Self::Scales(id), scales));
        tensors.chain(adapters).chain(scales)
    }
}
