//! Any JSON as `config.json`: read or refused, and a configuration that is read is consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slmc_checkpoint::Config;

fuzz_target!(|text: &[u8]| {
    let Ok(json) = serde_json::from_slice(text) else { return };
    let Ok(config) = Config::from_json(&json) else { return };
    assert!(config.num_attention_heads.is_multiple_of(config.num_key_value_heads));
    assert!(config.head_dim > 0 && config.hidden_size > 0 && config.vocab_size > 0);
    assert!(config.rope_theta.is_finite() && config.rms_norm_eps > 0.0);
    for layer in 0..config.num_hidden_layers.min(8) {
        assert!(config.sliding_window_of(layer).is_none_or(|window| window > 0));
    }
});
