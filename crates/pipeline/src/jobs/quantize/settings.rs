//! What quantizing is told.

use std::path::PathBuf;

use serde_json::Value;
use slmc_quant::plan::{KeepZeros, Pattern, Target, TypeOverride};
use slmc_quant::{Effort, Method, Mix};

use crate::jobs::job::JobSettings;

/// What to do.
#[derive(Clone, Debug)]
pub struct QuantizeSettings {
    /// From where, to which file, calibrated and measured on what.
    pub job: JobSettings,
    /// What slmc made the checkpoint from, where that is not to be read from the checkpoint itself.
    pub made_from: Option<MadeFrom>,
    /// How values are chosen.
    pub method: Method,
    /// How long to look for better values than the first ones found.
    pub effort: Effort,
    /// Whether error feedback rounds blocks with large activations first.
    pub act_order: bool,
    /// Which types.
    pub mix: Mix,
    /// Types by measured cost instead of the mix's, and what they shall reach.
    pub target: Option<Target>,
    /// Types of single tensors.
    pub overrides: Vec<TypeOverride>,
    /// Tensors kept in the checkpoint's precision.
    pub keep: Vec<Pattern>,
    /// Whether zeros among the weights stay zeros.
    pub keep_zeros: KeepZeros,
    /// An importance matrix to take instead of calibrating; [`Method::Imatrix`] alone can use one.
    pub imatrix: Option<PathBuf>,
    /// Name of the pre-tokenizer, where it is not recognized.
    pub pre: Option<String>,
    /// Whether to write an Ollama Modelfile beside it.
    pub modelfile: bool,
}

/// The model behind a checkpoint that was only made to be converted.
#[derive(Clone, Debug)]
pub struct MadeFrom {
    /// Its name.
    pub name: String,
    /// How the checkpoint was made of it.
    pub recipe: Value,
}

impl QuantizeSettings {
    /// A checkpoint as a GGUF file of a mix's types: rounded to nearest, without calibration, and nothing measured.
    pub fn conversion(model: PathBuf, mix: Mix, output: PathBuf, pre: Option<String>) -> Self {
        Self {
            job: JobSettings::new(model, output),
            made_from: None,
            method: Method::Rtn,
            effort: Effort::default(),
            act_order: false,
            mix,
            target: None,
            overrides: Vec::new(),
            keep: Vec::new(),
            keep_zeros: KeepZeros::Never,
            imatrix: None,
            pre,
            modelfile: false,
        }
    }
}
