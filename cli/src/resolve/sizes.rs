//! How large a student is that is made of a part of its teacher.

use slmc_pipeline::jobs::distill::{Cut, StudentFrom};
use slmc_pipeline::jobs::structured::Asked;

use crate::failure::Failure;

/// Of a student that is made of a part of the teacher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) layers: Option<u32>,
    pub(super) layer_choice: Option<String>,
    pub(super) hidden_size: Option<u32>,
    pub(super) channels: Option<u32>,
    pub(super) query_heads: Option<u32>,
    pub(super) kv_heads: Option<u32>,
}

impl Sizes {
    /// The student that they ask for.
    pub(super) fn student(&self) -> Result<Option<StudentFrom>, Failure> {
        let evenly = match self.layer_choice.as_deref() {
            None | Some("even") => true,
            Some("influence") => false,
            Some(other) => {
                return Err(Failure::usage(format!("--layer-choice {other:?}: expected even or influence")));
            }
        };
        if self.layers.is_none() && self.layer_choice.is_some() {
            return Err(Failure::usage("--layer-choice says which layers stay: say how many with --layers"));
        }
        let count = |count: Option<u32>| count.map(|count| count as usize);
        let asked = Asked {
            layers: count(self.layers),
            key_value_heads: count(self.kv_heads),
            query_heads: count(self.query_heads),
            channels: count(self.channels),
            hidden_size: count(self.hidden_size),
        };
        Ok(match self.layers {
            Some(layers) if evenly && asked == (Asked { layers: asked.layers, ..Asked::default() }) => {
                Some(StudentFrom::Layers(layers as usize))
            }
            _ => (asked != Asked::default()).then_some(StudentFrom::Cut(Cut { asked, evenly })),
        })
    }
}
