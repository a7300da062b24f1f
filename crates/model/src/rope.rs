//! Rotary position embedding: the frequencies.
//!
//! A head of width d turns its components (i, i + d/2) by the angle position · θ_i,
//! θ_i = base^(−2i/d) / f_i, where the factors f depend on the scaling:
//!
//! * default: 1; linear: the factor;
//! * llama3, with wavelength w = 2π base^(2i/d), n the trained length, l and h the low and high frequency
//!   factors: 1 for w < n/h, the factor for w > n/l, between them 1 / ((1 − s)/factor + s), s = (n/w − l)/(h − l).
//!
//! Sources: Su et al. 2021, arXiv:2104.09864, section 3.2; transformers' `modeling_rope_utils.py`.

use std::f64::consts::PI;

use crate::config::{ModelConfig, RopeScaling};

/// The factors f: `head_dim / 2` numbers that frequencies are divided by. What GGUF's `rope_freqs.weight` holds
/// for llama3 scaling.
pub fn rope_factors(config: &ModelConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    match &config.rope_scaling {
        RopeScaling::Default => vec![1.0; half],
        RopeScaling::Linear { factor } => vec![*factor as f32; half],
        RopeScaling::Factors(factors) => factors.clone(),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: trained,
        } => (0..half)
            .map(|i| {
                let wavelength = 2.0 * PI / unscaled(config, i);
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

/// θ: the angle each pair turns by from one position to the next, in radians; `head_dim / 2` of them.
pub fn rope_frequencies(config: &ModelConfig) -> Vec<f64> {
    let factors = rope_factors(config);
    factors.iter().enumerate().map(|(i, &f)| unscaled(config, i) / f64::from(f)).collect()
}

fn unscaled(config: &ModelConfig, i: usize) -> f64 {
    config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64)
}

/// Cosines and sines of position · θ, each `[positions, head_dim / 2]`.
pub fn rope_table(config: &ModelConfig, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let frequencies = rope_frequencies(config);
    (0..positions)
        .flat_map(|position| frequencies.iter().map(move |theta| position as f64 * theta))
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip()
}
