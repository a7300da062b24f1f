//! What a model can have that llama.cpp cannot run, because its GGUF keys do not say it.

use super::{ModelConfig, RopeScaling, Rotation};

impl ModelConfig {
    /// The shortest window, in tokens, of a family that llama.cpp runs without windows, if the model's context is longer: up to that
    /// length it computes the same.
    pub fn window_lost_in_gguf(&self) -> Option<usize> {
        let shortest = self.sliding_window.iter().flatten().min().copied()?;
        let lost = self.arch.gguf.window_period.is_none() && shortest < self.max_position_embeddings;
        lost.then_some(shortest)
    }

    /// Why llama.cpp would run a GGUF file of this model as another model, or not at all; `None` where it runs it as it is, but
    /// for windows in families whose windows it leaves out.
    pub fn gguf_obstacle(&self) -> Option<String> {
        let rules = &self.arch.gguf;
        let scale = rules.attention_scale(
            self.hidden_size,
            self.num_attention_heads,
            self.head_dim,
            self.num_hidden_layers,
        );
        if !rules.states_attention_scale && (scale - self.attention_scale).abs() > 1e-6 * scale {
            return Some(format!(
                "it multiplies attention's scores by {scale:.6}, and this model by {:.6}",
                self.attention_scale
            ));
        }
        let caps = [self.attention_softcap, self.logits.softcap.map(f64::from)];
        for ((cap, class), what) in caps.iter().zip(rules.softcaps).zip(["attention's scores", "logits"]) {
            if let (None, Some(class)) = (cap, class) {
                return Some(format!("it caps {what} at {class}, and this model does not"));
            }
        }
        if let (Some(cap), None) = (self.attention_softcap, rules.softcaps[0]) {
            return Some(format!("this model caps attention's scores at {cap}, and it does not"));
        }
        if let Some(head) = rules.head.filter(|head| *head == self.tie_word_embeddings) {
            return Some(match head {
                true => "it wants a head of its own, and this model's is the embedding".to_owned(),
                false => {
                    "it takes the embedding for the head, and this model has a head of its own".to_owned()
                }
            });
        }
        if !rules.other_biases && (self.output_bias || self.mlp_bias) {
            return Some("it knows no bias behind attention or in the MLP of this family".to_owned());
        }
        if !self.arch.free_heads && self.num_attention_heads * self.head_dim != self.hidden_size {
            return Some(format!(
                "it wants the heads together as wide as the residual stream, {}, and they are {} x {}",
                self.hidden_size, self.num_attention_heads, self.head_dim
            ));
        }
        let unrotated =
            |number: usize| rules.unrotated_period.is_some_and(|period| number.is_multiple_of(period));
        let other = (1..).zip(&self.rotation).find(|&(number, rotation)| {
            let local = rules.local_rope_theta.is_some() && self.sliding_window[number - 1].is_some();
            *rotation
                != match (unrotated(number), local) {
                    (true, _) => Rotation::None,
                    (false, true) => Rotation::Local,
                    (false, false) => Rotation::Global,
                }
        });
        if let Some((number, _)) = other {
            let rule = match (rules.unrotated_period, rules.local_rope_theta) {
                (Some(period), _) => format!("every {period}th layer does not rotate its queries and keys"),
                (None, Some(_)) => "the layers with a window have frequencies of their own".to_owned(),
                (None, None) => "all layers rotate their queries and keys".to_owned(),
            };
            return Some(format!("its rule is that {rule}, which layer {} breaks", number - 1));
        }
        match &self.rope_scaling {
            RopeScaling::LongRope { .. } | RopeScaling::Default => None,
            _ if self.rotary_dim == self.head_dim => None,
            _ => Some("it stretches no frequencies where only a part of each head is rotated".to_owned()),
        }
    }
}
