//! What llama.cpp knows of a family without being told by a file.

/// The rules of the family's file in llama.cpp's `src/models`.
#[derive(Clone, Copy, Debug)]
pub struct GgufRules {
    /// Where llama.cpp runs the windows: of so many layers the last sees everything, unless the file says otherwise. `None`
    /// where it runs files of this family without their windows.
    pub window_period: Option<usize>,
    /// Whether it takes a window of 4096 for granted where the file has none.
    pub always_windowed: bool,
    /// Of so many layers, the last does not rotate queries and keys.
    pub unrotated_period: Option<usize>,
    /// Base of the rotary frequencies in layers with a window, where they have their own and the file does not say which.
    pub local_rope_theta: Option<f64>,
    /// What it caps attention's scores and the logits at where the file does not say.
    pub softcaps: [Option<f64>; 2],
    /// Whether the factor of attention's scores stands in the file.
    pub states_attention_scale: bool,
    /// Of models with so many layers, scores are scaled by 1/√(hidden_size / heads) instead of 1/√head_dim.
    pub layers_of_27b: Option<usize>,
    /// Whether the head must be a tensor of its own (true) or the embedding (false); `None` where either will do.
    pub head: Option<bool>,
    /// Whether it reads biases behind attention and in the MLP.
    pub other_biases: bool,
}

impl GgufRules {
    /// Those of llama.
    pub(super) const LLAMA: Self = Self {
        window_period: None,
        always_windowed: false,
        unrotated_period: None,
        local_rope_theta: None,
        softcaps: [None; 2],
        states_attention_scale: false,
        layers_of_27b: None,
        head: None,
        other_biases: true,
    };

    /// The factor of attention's scores in a model of this size, where the file does not say it.
    pub fn attention_scale(&self, hidden_size: usize, heads: usize, head_dim: usize, layers: usize) -> f64 {
        let width = if self.layers_of_27b == Some(layers) { hidden_size / heads } else { head_dim };
        (width as f64).sqrt().recip()
    }
}
