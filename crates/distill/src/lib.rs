//! Distillation: a student learns what its teacher predicts.
//!
//! [`Objective`] says what is learned, [`HeadLoss`] computes it with its gradients from both models' final states, [`Student`] goes
//! back through the decoder of slmc-model, [`AdamW`] changes the weights, and [`Trainer`] does all of it until it is done.
//! [`Store`] keeps a run's state so that it can go on after a kill.

mod adamw;
mod batch;
mod cache;
mod error;
mod gradients;
mod head;
mod hidden;
mod masks;
mod objective;
mod on_policy;
mod parameter;
mod predictor;
mod progress;
mod rows;
mod scales;
mod schedule;
mod sequence;
mod settings;
mod setup;
mod store;
mod student;
mod teacher;
mod top_k;
mod trained;
mod trainer;

pub use adamw::{AdamW, AdamWSettings, Moments};
pub use batch::{Batch, Order};
pub use cache::{CacheHeader, CacheWriter, CachedRows, LogitCache, Records};
pub use error::DistillError;
pub use gradients::WeightGradients;
pub use head::{HeadInput, HeadLoss, LossSums};
pub use hidden::{HiddenTargets, matched_layers};
pub use masks::Masks;
pub use objective::{Divergence, Objective};
pub use parameter::{Parameter, Values};
pub use predictor::{FinalStates, Predictor};
pub use progress::{Best, End, HeldOut, Progress, Record};
pub use scales::ScaledGrid;
pub use schedule::{Decay, Schedule};
pub use sequence::{Document, Sequence};
pub use settings::{Length, TrainSettings};
pub use setup::{Data, Rounding, Setup, State};
pub use store::Store;
pub use student::Student;
pub use teacher::{Teacher, Teaching};
pub use top_k::TopK;
pub use trained::{Lora, MissingTarget, Trained};
pub use trainer::{Trainer, Watcher};
