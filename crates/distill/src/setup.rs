//! What a run is made of, beside its settings.

use slmc_model::{BurnDevice, MemorySource, ModelError, TensorId};

use crate::adamw::AdamW;
use crate::masks::Masks;
use crate::progress::Progress;
use crate::scales::ScaledGrid;
use crate::sequence::Sequence;
use crate::settings::TrainSettings;
use crate::teacher::Teacher;

/// What a run is made on.
pub struct Data<'a> {
    /// Sequences to train on, all of one length.
    pub train: &'a [Sequence],
    /// Sequences to judge by.
    pub held_out: &'a [Sequence],
}

/// What a weight reads as once it is stored; `None` where nothing changes. The loss is that of the weights so rounded, and its
/// gradient by them is taken for that by the weights themselves (the straight-through estimator: Bengio, Léonard and Courville 2013,
/// arXiv:1308.3432, section 4).
pub type Rounding<'a> = dyn Fn(TensorId, &[f32]) -> Result<Option<Vec<f32>>, ModelError> + 'a;

/// What a run needs beside its settings and the student.
pub struct Setup<'a> {
    /// The text.
    pub data: Data<'a>,
    /// Whom to learn from; it may be left out where the objective does not need it.
    pub teacher: Option<Teacher<'a>>,
    /// Entries that both vocabularies share, from the first on.
    pub vocab: usize,
    /// Tokens that end a text, where the student writes itself.
    pub ends: Vec<u32>,
    /// The student's zeros that stay.
    pub masks: Masks,
    /// How the student's weights are seen; `None` for as they are.
    pub rounding: Option<Box<Rounding<'a>>>,
    /// What the student's scales mean, where these are trained.
    pub grid: Option<&'a dyn ScaledGrid>,
    /// Where both models run.
    pub device: BurnDevice,
}

/// A student on its way: what a run begins or goes on with.
pub struct State {
    /// The student's weights.
    pub weights: MemorySource,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Where it is.
    pub progress: Progress,
    /// What turns the student's hidden states into the teacher's width, once that is in training.
    pub projection: Option<Vec<f32>>,
}

impl State {
    /// The beginning of a run.
    pub fn new(weights: MemorySource, settings: &TrainSettings) -> Self {
        let optimizer = AdamW::new(settings.optimizer);
        Self { weights, optimizer, progress: Progress::default(), projection: None }
    }
}
