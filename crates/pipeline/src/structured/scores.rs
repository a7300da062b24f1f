//! A profile in a file of scores, for the next run of the same model and text.

use slmc_model::ModelConfig;
use slmc_prune::structured::{InputMoments, StreamMoments};

use super::{LayerProfile, Profile, StreamDetail};
use crate::scores::ScoreFile;

/// One figure a block.
const INFLUENCE: &str = "profile.influence";

/// The stream's dimensions, those that the others tell best first.
const TOLD: &str = "profile.stream.told_by_others";

/// Numbers that are a ranking of all dimensions.
fn ranking(values: Vec<f64>) -> Option<Vec<usize>> {
    let ranked: Vec<usize> = values.iter().map(|value| *value as usize).collect();
    let mut sorted = ranked.clone();
    sorted.sort_unstable();
    (0..ranked.len()).eq(sorted).then_some(ranked)
}

impl Profile {
    /// The profile of a model in a file, if there is one that knows as much of the stream as is wanted.
    pub fn find(file: &ScoreFile, config: &ModelConfig, detail: StreamDetail) -> Option<Self> {
        let values = |name: String, count: usize| {
            let values = file.figures(&name).filter(|values| values.len() == count);
            values.map(<[f64]>::to_vec)
        };
        let moments = |of: String, count: usize| -> Option<InputMoments> {
            Some(InputMoments {
                means: values(format!("profile.{of}.means"), count)?,
                second_moments: values(format!("profile.{of}.second_moments"), count)?,
            })
        };
        let mut layers = Vec::new();
        for (layer, influence) in
            values(INFLUENCE.to_owned(), config.num_hidden_layers)?.into_iter().enumerate()
        {
            layers.push(LayerProfile {
                influence,
                heads: moments(format!("blk.{layer}.heads"), config.query_size())?,
                channels: moments(format!("blk.{layer}.channels"), config.intermediate_size)?,
            });
        }
        let readers = if detail == StreamDetail::Nothing { 0 } else { 2 * layers.len() + 1 };
        let width = config.hidden_size;
        let reader = |at: usize| -> Option<StreamMoments> {
            let of = |what: &str| values(format!("profile.stream.{at}.{what}"), width);
            Some(StreamMoments { normed: moments(format!("stream.{at}"), width)?, energy: of("energy")? })
        };
        let told_by_others = match detail {
            StreamDetail::Hessians => ranking(values(TOLD.to_owned(), width)?)?,
            _ => Vec::new(),
        };
        Some(Self { layers, stream: (0..readers).map(reader).collect::<Option<_>>()?, told_by_others })
    }

    /// Puts the profile into a file, in the place of one that knew less.
    pub fn put(&self, file: &mut ScoreFile) {
        file.remove("profile.");
        file.put_figures(INFLUENCE, self.layers.iter().map(|layer| layer.influence).collect());
        let mut put = |of: String, moments: &InputMoments| {
            file.put_figures(&format!("profile.{of}.means"), moments.means.clone());
            file.put_figures(&format!("profile.{of}.second_moments"), moments.second_moments.clone());
        };
        for (layer, profile) in self.layers.iter().enumerate() {
            put(format!("blk.{layer}.heads"), &profile.heads);
            put(format!("blk.{layer}.channels"), &profile.channels);
        }
        for (at, reader) in self.stream.iter().enumerate() {
            put(format!("stream.{at}"), &reader.normed);
        }
        for (at, reader) in self.stream.iter().enumerate() {
            file.put_figures(&format!("profile.stream.{at}.energy"), reader.energy.clone());
        }
        if !self.told_by_others.is_empty() {
            file.put_figures(TOLD, self.told_by_others.iter().map(|dimension| *dimension as f64).collect());
        }
    }
}
