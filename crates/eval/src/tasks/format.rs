//! The layouts of items that are known.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::item::Item;
use super::{adapters, hellaswag, kobest};

/// A layout: which fields an item has, and how a prompt is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// slmc's own: `{"context", "choices", "answer"}`.
    Plain,
    /// slmc's own for free answers: `{"prompt", "answer", "until"}`.
    Generation,
    /// ARC, easy and challenge.
    Arc,
    /// HellaSwag.
    Hellaswag,
    /// PIQA.
    Piqa,
    /// WinoGrande.
    Winogrande,
    /// MMLU.
    Mmlu,
    /// BoolQ.
    Boolq,
    /// KoBEST BoolQ.
    KobestBoolq,
    /// KoBEST COPA.
    KobestCopa,
    /// KoBEST WiC.
    KobestWic,
    /// KoBEST HellaSwag.
    KobestHellaswag,
    /// KoBEST SentiNeg.
    KobestSentineg,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Plain,
        Self::Generation,
        Self::Arc,
        Self::Hellaswag,
        Self::Piqa,
        Self::Winogrande,
        Self::Mmlu,
        Self::Boolq,
        Self::KobestBoolq,
        Self::KobestCopa,
        Self::KobestWic,
        Self::KobestHellaswag,
        Self::KobestSentineg,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Generation => "generation",
            Self::Arc => "arc",
            Self::Hellaswag => "hellaswag",
            Self::Piqa => "piqa",
            Self::Winogrande => "winogrande",
            Self::Mmlu => "mmlu",
            Self::Boolq => "boolq",
            Self::KobestBoolq => "kobest_boolq",
            Self::KobestCopa => "kobest_copa",
            Self::KobestWic => "kobest_wic",
            Self::KobestHellaswag => "kobest_hellaswag",
            Self::KobestSentineg => "kobest_sentineg",
        }
    }

    /// Whether the harness reports `acc_norm` for it beside `acc`. Where all answers are the same words or letters, or stand in
    /// the context, their lengths mean nothing.
    pub fn has_acc_norm(self) -> bool {
        matches!(self, Self::Plain | Self::Arc | Self::Hellaswag | Self::Piqa | Self::KobestHellaswag)
    }

    /// Whether the harness reports macro F1 for it beside `acc`.
    pub fn has_f1(self) -> bool {
        matches!(
            self,
            Self::KobestBoolq
                | Self::KobestCopa
                | Self::KobestWic
                | Self::KobestHellaswag
                | Self::KobestSentineg
        )
    }

    /// The layout whose fields an item has.
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        Self::ALL.into_iter().find(|format| {
            format.signature().iter().all(|name| fields.contains_key(*name)) && format.fits(fields)
        })
    }

    /// Fields that no other layout has together, but for those that [`Format::fits`] tells apart.
    fn signature(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["context", "choices", "answer"],
            Self::Generation => &["prompt", "answer"],
            Self::Arc => &["question", "choices", "answerKey"],
            Self::Hellaswag => &["ctx_a", "ctx_b", "endings"],
            Self::Piqa => &["goal", "sol1", "sol2"],
            Self::Winogrande => &["sentence", "option1", "option2"],
            Self::Mmlu => &["question", "choices", "answer"],
            Self::Boolq => &["passage", "question"],
            Self::KobestBoolq => &["paragraph", "question"],
            Self::KobestCopa => &["premise", "alternative_1", "alternative_2"],
            Self::KobestWic => &["word", "context_1", "context_2"],
            Self::KobestHellaswag => &["context", "ending_1", "ending_4"],
            Self::KobestSentineg => &["sentence", "label"],
        }
    }

    fn fits(self, fields: &Fields) -> bool {
        match self {
            Self::Mmlu => fields["choices"].is_array(),
            Self::Generation => !fields.get("choices").is_some_and(Value::is_array),
            _ => true,
        }
    }

    /// An item of this layout.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub(super) fn item(self, fields: &Fields) -> Result<Item, String> {
        match self {
            Self::Plain => adapters::plain(fields),
            Self::Generation => return adapters::generation(fields).map(Item::Generation),
            Self::Arc => adapters::arc(fields),
            Self::Hellaswag => hellaswag::hellaswag(fields),
            Self::Piqa => adapters::piqa(fields),
            Self::Winogrande => adapters::winogrande(fields),
            Self::Mmlu => adapters::mmlu(fields),
            Self::Boolq => adapters::boolq(fields),
            Self::KobestBoolq => kobest::boolq(fields),
            Self::KobestCopa => kobest::copa(fields),
            Self::KobestWic => kobest::wic(fields),
            Self::KobestHellaswag => kobest::hellaswag(fields),
            Self::KobestSentineg => kobest::sentineg(fields),
        }
        .map(Item::Choice)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            format!("no such layout of items; known are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
