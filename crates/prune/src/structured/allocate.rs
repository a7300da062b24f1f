//! How much of which kind goes: the least damage that a budget allows, by curves through measured points.
//!
//! Small damages of different kinds are nearly independent and add up, as those of rounding do; how the divergence grows with the share
//! that is removed is measured at a few shares and follows a power law between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Whole blocks.
    Layers,
    /// Key and value heads with all query heads that share them.
    KeyValueHeads,
    /// Query heads: of those that share a key and value head, as many everywhere.
    QueryHeads,
    /// Channels of the MLP.
    Channels,
    /// Dimensions of the residual stream, the same in every block, the embedding and the head.
    HiddenSize,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Layers, Self::KeyValueHeads, Self::QueryHeads, Self::Channels, Self::HiddenSize];

    /// How it is called in the plural.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::KeyValueHeads => "kv-heads",
            Self::QueryHeads => "query-heads",
            Self::Channels => "channels",
            Self::HiddenSize => "hidden-size",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown kind; available are {}", known()))
    }
}

/// How many of each kind a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widths {
    /// Blocks.
    pub layers: usize,
    /// Key and value heads of a block.
    pub key_value_heads: usize,
    /// Query heads that share one of them.
    pub queries_per_group: usize,
    /// Channels of a block's MLP.
    pub channels: usize,
    /// Dimensions of the residual stream.
    pub hidden_size: usize,
}

impl Widths {
    /// How many of a kind; of query heads those of one key and value head.
    pub const fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Layers => self.layers,
            Kind::KeyValueHeads => self.key_value_heads,
            Kind::QueryHeads => self.queries_per_group,
            Kind::Channels => self.channels,
            Kind::HiddenSize => self.hidden_size,
        }
    }

    /// The same with another number of one kind.
    pub const fn with(mut self, kind: Kind, count: usize) -> Self {
        match kind {
            Kind::Layers => self.layers = count,
            Kind::KeyValueHeads => self.key_value_heads = count,
            Kind::QueryHeads => self.queries_per_group = count,
            Kind::Channels => self.channels = count,
            Kind::HiddenSize => self.hidden_size = count,
        }
        self
    }

    /// Query heads of a block.
    pub const fn query_heads(&self) -> usize {
        self.key_value_heads * self.queries_per_group
    }
}

/// What removing some of one kind does to the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The kind.
    pub kind: Kind,
    /// How many there are.
    pub full: usize,
    /// How many were kept, fewer and fewer, and the divergence from the original then, in nats per token.
    pub points: Vec<(usize, f64)>,
}

/// The exponent where one point is all that was measured: errors square.
const EXPONENT: f64 = 2.0;

/// What a measurement is at least taken for.
const LEAST: f64 = 1e-9;

impl Curve {
    /// The divergence with `kept` of them.
    pub fn damage(&self, kept: usize) -> f64 {
        let share = |kept: usize| 1.0 - kept as f64 / self.full as f64;
        let point = |at: usize| (share(self.points[at].0), self.points[at].1.max(LEAST));
        if kept >= self.full || self.points.is_empty() {
            return 0.0;
        }
        let at = self.points.iter().position(|(point, _)| *point <= kept).unwrap_or(self.points.len() - 1);
        let (to, from) = match at {
            0 if self.points.len() == 1 => (point(0), None),
            0 => (point(1), Some(point(0))),
            at => (point(at), Some(point(at - 1))),
        };
        let exponent = from.map_or(EXPONENT, |from| (to.1 / from.1).ln() / (to.0 / from.0).ln()).max(0.0);
        to.1 * (share(kept) / to.0).powf(exponent)
    }
}

/// The widths of least damage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allocation {
    /// How many of each kind stay.
    pub widths: Widths,
    /// The divergence that the curves predict, in nats per token.
    pub predicted: f64,
}

/// Chooses among `choices` (of each kind, how many may stay) the widths that do least damage and that `fits` accepts; among equals those
/// with most of what comes first in [`Kind::ALL`]. A kind without choices stays whole, and so does one without a curve.
pub fn allocate(
    full: Widths,
    curves: &[Curve],
    choices: impl Fn(Kind) -> Vec<usize>,
    fits: impl Fn(Widths) -> bool,
) -> Option<Allocation> {
    let options = |kind: Kind| {
        let curve = curves.iter().find(|curve| curve.kind == kind);
        let mut options: Vec<(usize, f64)> =
            curve.iter().flat_map(|curve| choices(kind).into_iter().map(|n| (n, curve.damage(n)))).collect();
        if options.is_empty() {
            options.push((full.of(kind), 0.0));
        }
        options.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        options
    };
    let options = Kind::ALL.map(options);
    let mut best: Option<Allocation> = None;
    for number in 0..options.iter().map(Vec::len).product() {
        let (mut widths, mut rest) = (full, number);
        let mut lost = [0.0; Kind::ALL.len()];
        // the last kind runs fastest
        for (at, kind) in Kind::ALL.into_iter().enumerate().rev() {
            let (count, damage) = options[at][rest % options[at].len()];
            rest /= options[at].len();
            widths = widths.with(kind, count);
            lost[at] = damage;
        }
        let [layers, heads, queries, channels, hidden_size] = lost;
        // blocks that went lose no width
        let share = widths.layers as f64 / full.layers as f64;
        let predicted = layers + share * (heads + queries + channels + hidden_size);
        if best.is_none_or(|best| predicted < best.predicted) && fits(widths) {
            best = Some(Allocation { widths, predicted });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Widths =
        Widths { layers: 8, key_value_heads: 4, queries_per_group: 2, channels: 1024, hidden_size: 256 };

    fn curve(kind: Kind, points: &[(usize, f64)]) -> Curve {
        Curve { kind, full: FULL.of(kind), points: points.to_vec() }
    }

    #[test]
    fn a_curve_goes_through_its_points_and_follows_their_power_law() {
        let curve = curve(Kind::Channels, &[(896, 0.01), (768, 0.04), (512, 0.32)]);
        for (kept, damage) in curve.points.clone() {
            assert!((curve.damage(kept) / damage - 1.0).abs() < 1e-9);
        }
        assert_eq!(curve.damage(1024), 0.0);
        // square below, cube above
        assert!((curve.damage(960) / 0.0025 - 1.0).abs() < 1e-9);
        assert!((curve.damage(640) / (0.04 * 1.5f64.powi(3)) - 1.0).abs() < 1e-9);
        assert!((curve.damage(256) / (0.32 * 1.5f64.powi(3)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_point_is_a_square() {
        let curve = curve(Kind::Layers, &[(7, 0.1)]);
        assert!((curve.damage(6) / 0.4 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_least_damage_within_the_budget_is_found() {
        let curves = [curve(Kind::Channels, &[(512, 0.4)]), curve(Kind::KeyValueHeads, &[(2, 0.3)])];
        let parameters =
            |w: Widths| w.layers * (w.channels * 3 + w.query_heads() * 128 + w.key_value_heads * 128);
        let choices = |kind| match kind {
            Kind::Channels => (1..=32).map(|n| n * 32).collect(),
            Kind::KeyValueHeads => (1..=4).collect(),
            _ => vec![1],
        };
        let budget = parameters(FULL) * 3 / 4;
        let fits = |w| parameters(w) <= budget;
        let found = allocate(FULL, &curves, choices, fits).unwrap();
        assert!(fits(found.widths) && found.widths.layers == 8 && found.widths.queries_per_group == 2);
        for k in 1..=4 {
            for c in (1..=32).map(|n| n * 32) {
                let damage = curves[0].damage(c) + curves[1].damage(k);
                assert!(
                    !fits(FULL.with(Kind::Channels, c).with(Kind::KeyValueHeads, k))
                        || damage >= found.predicted
                );
            }
        }
        assert!(allocate(FULL, &curves, choices, |_| false).is_none());
    }
}
