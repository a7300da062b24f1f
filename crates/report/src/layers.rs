//! Where in a model a tensor stands, by its name.

/// The block's number and the layer's name in a tensor name of GGUF or of Hugging Face: `blk.3.attn_q.weight`,
/// `model.layers.3.self_attn.q_proj.weight`.
pub fn place(name: &str) -> Option<(&str, &str)> {
    let inner = name.strip_prefix("blk.").or_else(|| name.strip_prefix("model.layers."))?;
    let (block, layer) = inner.strip_suffix(".weight")?.split_once('.')?;
    Some((block, layer.rsplit('.').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_kinds_have_their_place() {
        assert_eq!(place("blk.12.ffn_down.weight"), Some(("12", "ffn_down")));
        assert_eq!(place("model.layers.3.self_attn.q_proj.weight"), Some(("3", "q_proj")));
        assert_eq!(place("token_embd.weight"), None);
    }
}
