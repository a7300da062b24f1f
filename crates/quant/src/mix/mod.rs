//! The GGUF mixes: named recipes that give every tensor of a model its type.
//!
//! Source: `llama_ftype` in llama.cpp's `include/llama.h` (names, ids), `llama_ftype_get_default_type` in
//! `src/llama-quant.cpp` (base types). Which tensors get another type than the base is in [`choose`](Mix::choose).

mod category;
mod choose;
mod fallback;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType;

pub use category::{Category, TensorFacts};
pub use choose::{Choice, ModelFacts, Rule};
pub use fallback::{Fallback, fit_columns, holding_zeros};

/// A named mix of tensor types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(non_camel_case_types, missing_docs)] // llama.cpp's own names
#[serde(rename_all = "lowercase")]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

impl Mix {
    /// Every mix, in the order of the enum.
    pub const ALL: [Self; 19] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2_K,
        Self::Q3_K_S,
        Self::Q3_K_M,
        Self::Q3_K_L,
        Self::Q4_K_S,
        Self::Q4_K_M,
        Self::Q5_K_S,
        Self::Q5_K_M,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
    ];

    /// Bit widths that [`Mix::from_bits`] knows, with the mix each stands for.
    pub const BITS: [(u32, Self); 7] = [
        (2, Self::Q2_K),
        (3, Self::Q3_K_M),
        (4, Self::Q4_K_M),
        (5, Self::Q5_K_M),
        (6, Self::Q6_K),
        (8, Self::Q8_0),
        (16, Self::F16),
    ];

    /// (name, `general.file_type`, base type).
    const fn facts(self) -> (&'static str, u32, TensorType) {
        match self {
            Self::F32 => ("f32", 0, TensorType::F32),
            Self::F16 => ("f16", 1, TensorType::F16),
            Self::Q4_0 => ("q4_0", 2, TensorType::Q4_0),
            Self::Q4_1 => ("q4_1", 3, TensorType::Q4_1),
            Self::Q8_0 => ("q8_0", 7, TensorType::Q8_0),
            Self::Q5_0 => ("q5_0", 8, TensorType::Q5_0),
            Self::Q5_1 => ("q5_1", 9, TensorType::Q5_1),
            Self::Q2_K => ("q2_k", 10, TensorType::Q2_K),
            Self::Q3_K_S => ("q3_k_s", 11, TensorType::Q3_K),
            Self::Q3_K_M => ("q3_k_m", 12, TensorType::Q3_K),
            Self::Q3_K_L => ("q3_k_l", 13, TensorType::Q3_K),
            Self::Q4_K_S => ("q4_k_s", 14, TensorType::Q4_K),
            Self::Q4_K_M => ("q4_k_m", 15, TensorType::Q4_K),
            Self::Q5_K_S => ("q5_k_s", 16, TensorType::Q5_K),
            Self::Q5_K_M => ("q5_k_m", 17, TensorType::Q5_K),
            Self::Q6_K => ("q6_k", 18, TensorType::Q6_K),
            Self::IQ4_NL => ("iq4_nl", 25, TensorType::IQ4_NL),
            Self::IQ4_XS => ("iq4_xs", 30, TensorType::IQ4_XS),
            Self::BF16 => ("bf16", 32, TensorType::BF16),
        }
    }

    /// llama.cpp's name in lower case, for example `q4_k_m`.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The value of the GGUF key `general.file_type` (`llama_ftype`).
    pub const fn file_type(self) -> u32 {
        self.facts().1
    }

    /// The mix with this `general.file_type`, if slmc knows it.
    pub fn from_file_type(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mix| mix.file_type() == id)
    }

    /// The mix that a file is named after in which most weights are of this type.
    ///
    /// Source: how `llama_model_loader` guesses the type of a file that does not say it (llama.cpp's
    /// `llama-model-loader.cpp`).
    pub const fn mostly(ty: TensorType) -> Self {
        match ty {
            TensorType::F32 => Self::F32,
            TensorType::F16 => Self::F16,
            TensorType::BF16 => Self::BF16,
            TensorType::Q8_0 => Self::Q8_0,
            TensorType::Q4_0 => Self::Q4_0,
            TensorType::Q4_1 => Self::Q4_1,
            TensorType::Q5_0 => Self::Q5_0,
            TensorType::Q5_1 => Self::Q5_1,
            TensorType::Q2_K => Self::Q2_K,
            TensorType::Q3_K => Self::Q3_K_M,
            TensorType::Q4_K => Self::Q4_K_M,
            TensorType::Q5_K => Self::Q5_K_M,
            TensorType::Q6_K => Self::Q6_K,
            TensorType::IQ4_NL => Self::IQ4_NL,
            TensorType::IQ4_XS => Self::IQ4_XS,
        }
    }

    /// The type that a tensor gets where no rule of the mix says otherwise.
    pub const fn base_type(self) -> TensorType {
        self.facts().2
    }

    /// The natural mix for a number of bits: the `m` variants for 3, 4 and 5 bits.
    ///
    /// # Errors
    /// Widths other than those of [`Mix::BITS`]; the error names them.
    pub fn from_bits(bits: u32) -> Result<Self, UnknownBits> {
        Self::BITS.into_iter().find(|(b, _)| *b == bits).map(|(_, mix)| mix).ok_or(UnknownBits { bits })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No mix stands for this number of bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mix has {bits} bits a weight; choose one of {known}", known = known_bits())]
pub struct UnknownBits {
    /// The number given.
    pub bits: u32,
}

fn known_bits() -> String {
    Mix::BITS.map(|(bits, mix)| format!("{bits} ({mix})")).join(", ")
}

/// No mix has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type `{name}`; known are {known}", known = Mix::ALL.map(Mix::name).join(", "))]
pub struct UnknownMix {
    /// The name given.
    pub name: String,
}

impl FromStr for Mix {
    type Err = UnknownMix;

    /// Case does not matter and `-` reads as `_`. `q3_k`, `q4_k` and `q5_k` mean their `m` variants, as for llama-quantize.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase().replace('-', "_");
        let wanted = match name.as_str() {
            "q3_k" => "q3_k_m",
            "q4_k" => "q4_k_m",
            "q5_k" => "q5_k_m",
            other => other,
        };
        Self::ALL
            .into_iter()
            .find(|mix| mix.name() == wanted)
            .ok_or_else(|| UnknownMix { name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_types_round_trip() {
        for mix in Mix::ALL {
            assert_eq!(mix.name().parse(), Ok(mix));
            assert_eq!(mix.name().to_uppercase().parse(), Ok(mix));
            assert_eq!(Mix::from_file_type(mix.file_type()), Some(mix));
            assert_eq!(serde_json::to_value(mix).unwrap(), mix.name());
        }
        assert_eq!("Q4-K-M".parse(), Ok(Mix::Q4_K_M));
        assert_eq!("q5_k".parse(), Ok(Mix::Q5_K_M));
        assert!("q7_k".parse::<Mix>().unwrap_err().to_string().contains("q4_k_m"));
        assert_eq!(Mix::from_file_type(4), None);
        assert!(TensorType::ALL.into_iter().all(|ty| Mix::mostly(ty).base_type() == ty));
    }

    #[test]
    fn bits_pick_the_natural_mix_or_name_the_options() {
        assert_eq!(Mix::from_bits(4), Ok(Mix::Q4_K_M));
        assert_eq!(Mix::from_bits(16), Ok(Mix::F16));
        let message = Mix::from_bits(7).unwrap_err().to_string();
        assert_eq!(
            message,
            "no mix has 7 bits a weight; choose one of 2 (q2_k), 3 (q3_k_m), 4 (q4_k_m), 5 (q5_k_m), 6 (q6_k), 8 (q8_0), 16 (f16)"
        );
    }
}
