//! What a measurement is about.

use serde::{Deserialize, Serialize};

/// The part of a run or of a model that a measurement is about; which one of its kind, the measurement's item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The run itself: what was measured, and how.
    Run,
    /// The whole model.
    Summary,
    /// A percentile over tokens; the item is `min`, `p5`, `median` …
    Distribution,
    /// A bin of a histogram: `low` and `high` are its edges (none where it is open), the value is the count.
    Histogram,
    /// A window of the text; the item is its number.
    Window,
    /// Predictions that had about the same length of context; the item is the least number of tokens of it.
    Position,
    /// A document of the text; the item is its number or name.
    Document,
    /// A tensor; the item is its name.
    Tensor,
    /// A block of the original model; the item is its number from 0.
    Layer,
    /// A dimension of the model; the item is `layers`, `kv-heads`, `query-heads` or `channels`.
    Dimension,
    /// All tensors of a kind; the item is the kind.
    Kind,
    /// A task; the item is its name.
    Task,
    /// Time and memory at work; the item is the stage, such as `prompt` or `generation`.
    Latency,
    /// A step of training; the item is its number, from 1.
    Step,
    /// Held-out text while training; the item is the number of steps before.
    HeldOut,
    /// A limit of a gate; the item is the limit's name.
    Check,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Run,
        Self::Summary,
        Self::Distribution,
        Self::Histogram,
        Self::Window,
        Self::Position,
        Self::Document,
        Self::Tensor,
        Self::Layer,
        Self::Dimension,
        Self::Kind,
        Self::Task,
        Self::Latency,
        Self::Step,
        Self::HeldOut,
        Self::Check,
    ];

    /// Its name in a frame.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Summary => "summary",
            Self::Distribution => "distribution",
            Self::Histogram => "histogram",
            Self::Window => "window",
            Self::Position => "position",
            Self::Document => "document",
            Self::Tensor => "tensor",
            Self::Layer => "layer",
            Self::Dimension => "dimension",
            Self::Kind => "kind",
            Self::Task => "task",
            Self::Latency => "latency",
            Self::Step => "step",
            Self::HeldOut => "held_out",
            Self::Check => "check",
        }
    }

    /// The scope of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}
