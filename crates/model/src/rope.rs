//! Rotary position embedding: the frequencies.
//!
//! The first d components of a head (all of them in most families) are turned in pairs (i, i + d/2) by the angle
//! position · θ_i, θ_i = base^(−2i/d) / f_i, where the factors f depend on the scaling:
//!
//! * default: 1; linear: the factor;
//! * llama3, with wavelength w = 2π base^(2i/d), n the trained length, l and h the low and high frequency
//!   factors: 1 for w < n/h, the factor for w > n/l, between them 1 / ((1 − s)/factor + s), s = (n/w − l)/(h − l);
//! * longrope: those listed for sequences up to the trained length, or those for longer ones. Cosines and sines are multiplied
//!   by the attention factor.
//!
//! Which of longrope's two lists is used is decided by the length that the context is made for, as llama.cpp does it.
//! transformers goes by the longest sequence it has seen so far, and so agrees wherever sequences are as long as their context.
//!
//! Sources: Su et al. 2021, arXiv:2104.09864, section 3.2; transformers' `modeling_rope_utils.py`; `get_rope_factors` in
//! llama.cpp's `llama-model.cpp`.

use std::f64::consts::PI;

use crate::config::{ModelConfig, RopeScaling, Rotation};

/// The factors f of [`Rotation::Global`] in contexts of `positions`: `rotary_dim / 2` numbers that frequencies are divided by.
/// What GGUF's `rope_freqs.weight` holds for llama3 scaling.
pub fn rope_factors(config: &ModelConfig, positions: usize) -> Vec<f32> {
    let half = config.rotary_dim / 2;
    match &config.rope_scaling {
        RopeScaling::Default => vec![1.0; half],
        RopeScaling::Linear { factor } => vec![*factor as f32; half],
        RopeScaling::Factors(factors) => factors.clone(),
        RopeScaling::LongRope { short, long, original_max_position_embeddings, .. } => {
            if positions > *original_max_position_embeddings { long.clone() } else { short.clone() }
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: trained,
        } => (0..half)
            .map(|i| {
                let wavelength = 2.0 * PI / unscaled(config.rope_theta, config, i);
                let waves = *trained as f64 / wavelength;
                if waves > *high {
                    1.0
                } else if waves < *low {
                    *factor as f32
                } else {
                    let smooth = (waves - low) / (high - low);
                    (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
                }
            })
            .collect(),
    }
}

/// θ: the angle each pair turns by from one position to the next, in radians; `rotary_dim / 2` of them. `None` where blocks do
/// not rotate.
pub fn rope_frequencies(config: &ModelConfig, rotation: Rotation, positions: usize) -> Option<Vec<f64>> {
    let half = config.rotary_dim / 2;
    Some(match rotation {
        Rotation::None => return None,
        Rotation::Local => (0..half).map(|i| unscaled(config.local_rope_theta, config, i)).collect(),
        Rotation::Global => {
            let factors = rope_factors(config, positions);
            let divided = |(i, f): (usize, &f32)| unscaled(config.rope_theta, config, i) / f64::from(*f);
            factors.iter().enumerate().map(divided).collect()
        }
    })
}

fn unscaled(theta: f64, config: &ModelConfig, i: usize) -> f64 {
    theta.powf(-2.0 * i as f64 / config.rotary_dim as f64)
}

/// Cosines and sines of position · θ, times the attention factor where there is one, each `[positions, rotary_dim / 2]`; `None`
/// where blocks do not rotate.
pub fn rope_table(
    config: &ModelConfig,
    rotation: Rotation,
    positions: usize,
) -> Option<(Vec<f32>, Vec<f32>)> {
    let frequencies = rope_frequencies(config, rotation, positions)?;
    let factor = match &config.rope_scaling {
        RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
        _ => 1.0,
    };
    let table = (0..positions)
        .flat_map(|position| frequencies.iter().map(move |theta| position as f64 * theta))
        .map(|angle| ((factor * angle.cos()) as f32, (factor * angle.sin()) as f32))
        .unzip();
    Some(table)
}
