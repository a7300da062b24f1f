//! Which tensors of a model share one vector of scales.

use slmc_model::{LinearInput, ModelConfig, Role, TensorId};
use slmc_quant::awq::{GroupKind, Producer, ScaleGroup};

/// The input that a group's consumers share.
pub const fn input(kind: GroupKind) -> LinearInput {
    match kind {
        GroupKind::AttentionInput => LinearInput::Attention,
        GroupKind::AttentionOutput => LinearInput::Output,
        GroupKind::FeedForwardInput => LinearInput::Mlp,
        GroupKind::FeedForwardDown => LinearInput::Down,
    }
}

/// The groups of block `layer`, in the order of computation. Later groups see what earlier ones did: value and up are consumers of
/// one group and producers of the next.
///
/// Norms of queries and keys stand behind the scaled products and see nothing of them, and neither do norms behind attention and
/// MLP. Without a norm in front, as in OLMo 2, the inputs of attention and MLP cannot be scaled.
pub fn scale_groups(config: &ModelConfig, layer: usize) -> [ScaleGroup; 4] {
    GroupKind::ALL.map(|kind| ScaleGroup {
        kind,
        producer: match kind {
            GroupKind::AttentionInput => norm(config, layer, Role::InputNorm),
            GroupKind::AttentionOutput => rows(config, layer, Role::Value),
            GroupKind::FeedForwardInput => norm(config, layer, Role::PostNorm),
            GroupKind::FeedForwardDown => rows(config, layer, Role::Up),
        },
        consumers: input(kind).roles(config).filter_map(|role| name(config, layer, role)).collect(),
    })
}

fn name(config: &ModelConfig, layer: usize, role: Role) -> Option<String> {
    config.has(role).then(|| config.arch.gguf_name(TensorId::block(layer, role))).flatten()
}

fn norm(config: &ModelConfig, layer: usize, role: Role) -> Option<Producer> {
    Some(Producer::Norm { weight: name(config, layer, role)? })
}

/// The rows of a layer in the matrix that holds it.
fn rows(config: &ModelConfig, layer: usize, part: Role) -> Option<Producer> {
    let holder = Role::LINEAR.into_iter().find(|&role| config.has(role) && role.parts().contains(&part))?;
    let (_, rows) = config.part_rows(holder).find(|(role, _)| *role == part)?;
    Some(Producer::Rows {
        weight: name(config, layer, holder)?,
        rows,
        of: config.shape(holder)[0],
        bias: part.bias().and_then(|bias| name(config, layer, bias)),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use slmc_model::{CheckpointSource, WeightSource};

    use super::*;

    fn groups(family: &str) -> [ScaleGroup; 4] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(family);
        scale_groups(CheckpointSource::open(&path).unwrap().config(), 1)
    }

    #[test]
    fn groups_name_a_blocks_tensors() {
        let [attention, output, mlp, down] = groups("qwen2");
        assert_eq!(attention.producer, Some(Producer::Norm { weight: "blk.1.attn_norm.weight".into() }));
        assert_eq!(
            attention.consumers,
            ["blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"]
        );
        let (weight, bias) = ("blk.1.attn_v.weight".to_owned(), Some("blk.1.attn_v.bias".to_owned()));
        assert_eq!(output.producer, Some(Producer::Rows { weight, rows: 0..32, of: 32, bias }));
        assert_eq!(mlp.producer, Some(Producer::Norm { weight: "blk.1.ffn_norm.weight".into() }));
        assert_eq!(down.consumers, ["blk.1.ffn_down.weight"]);
    }

    #[test]
    fn fused_matrices_are_divided_in_part() {
        let [attention, output, mlp, down] = groups("phi3");
        assert_eq!(attention.consumers, ["blk.1.attn_qkv.weight"]);
        assert_eq!(mlp.consumers, ["blk.1.ffn_up.weight"]);
        let weight = "blk.1.attn_qkv.weight".to_owned();
        assert_eq!(output.producer, Some(Producer::Rows { weight, rows: 96..128, of: 128, bias: None }));
        let weight = "blk.1.ffn_up.weight".to_owned();
        assert_eq!(down.producer, Some(Producer::Rows { weight, rows: 96..192, of: 192, bias: None }));
    }

    #[test]
    fn without_a_norm_in_front_nothing_is_divided() {
        let groups = groups("olmo2");
        assert_eq!(groups.map(|group| group.producer.is_some()), [false, true, false, true]);
    }
}
