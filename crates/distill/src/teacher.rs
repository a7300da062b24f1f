//! Whom a student learns from: a model that runs beside it, or what a model once said.

use slmc_matmul::Precision;
use slmc_model::{BurnDevice, HostView, WeightSource};

use crate::batch::Batch;
use crate::cache::{CachedRows, LogitCache};
use crate::error::DistillError;
use crate::head::HeadInput;
use crate::predictor::{FinalStates, Predictor};

/// A teacher.
#[derive(Clone, Copy)]
pub enum Teacher<'a> {
    /// A model.
    Model(&'a dyn WeightSource),
    /// Its predictions for the sequences of a run, those to judge by behind those to train on.
    Cached(&'a LogitCache),
}

/// What it says about some tokens.
#[derive(Clone, Copy, Debug)]
pub enum Teaching<'a> {
    /// What a model hands its head, and the head.
    Live(HeadInput<'a>),
    /// The likeliest tokens of every position.
    Cached(&'a CachedRows),
}

/// A teacher that is ready.
pub(crate) enum TeacherAtWork<'a> {
    Model(Box<Predictor<'a>>),
    Cached(&'a LogitCache),
}

/// What it said about a batch.
pub(crate) enum Said {
    States(FinalStates),
    Rows(CachedRows),
}

impl Said {
    /// What left the layers that were asked for.
    pub fn layers(&self) -> &[HostView] {
        match self {
            Self::States(states) => states.layers(),
            Self::Rows(_) => &[],
        }
    }
}

impl<'a> TeacherAtWork<'a> {
    /// Loads a model for sequences of up to `positions` tokens.
    ///
    /// # Errors
    /// Whatever its source reports.
    pub fn new(teacher: Teacher<'a>, positions: usize, device: &BurnDevice) -> Result<Self, DistillError> {
        Ok(match teacher {
            Teacher::Model(source) => Self::Model(Box::new(Predictor::load(source, positions, device)?)),
            Teacher::Cached(cache) => Self::Cached(cache),
        })
    }

    /// What it says about a batch of these sequences; of a model also what leaves some layers, computed in a precision.
    ///
    /// # Errors
    /// A model that cannot be run; a file that cannot be read.
    pub fn say(
        &self,
        batch: &Batch,
        sequences: &[usize],
        layers: &[usize],
        precision: Precision,
    ) -> Result<Said, DistillError> {
        Ok(match self {
            Self::Model(model) => Said::States(model.predict_with(batch, layers, precision)?),
            Self::Cached(cache) => Said::Rows(cache.read(sequences)?),
        })
    }

    /// The same in the form of a loss.
    ///
    /// # Panics
    /// If another teacher said it.
    pub fn teach<'b>(&'b self, said: &'b Said) -> Teaching<'b> {
        match (self, said) {
            (Self::Model(model), Said::States(states)) => Teaching::Live(model.with_head(states)),
            (_, Said::Rows(rows)) => Teaching::Cached(rows),
            (Self::Cached(_), Said::States(_)) => unreachable!("a file says rows"),
        }
    }
}
