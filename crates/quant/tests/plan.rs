//! Plans: overrides, kept tensors, errors, and laws over random models.

use proptest::prelude::*;
use slmc_gguf::TensorType;
use slmc_quant::mix::{ModelFacts, TensorFacts};
use slmc_quant::plan::{PatternOption, Reason};
use slmc_quant::{Method, Mix, Plan, PlanError, PlanRequest};

fn model(layers: usize) -> ModelFacts {
    ModelFacts {
        architecture: "llama".into(),
        num_hidden_layers: layers,
        num_attention_heads: 8,
        num_key_value_heads: 2,
    }
}

fn tensors(layers: usize, vocab: usize, hidden: usize, ffn: usize, tied: bool) -> Vec<TensorFacts> {
    let fact =
        |name: String, shape: &[usize]| TensorFacts { name, shape: shape.to_vec(), source: TensorType::BF16 };
    let mut list = vec![
        fact("token_embd.weight".into(), &[vocab, hidden]),
        fact("output_norm.weight".into(), &[hidden]),
    ];
    if !tied {
        list.push(fact("output.weight".into(), &[vocab, hidden]));
    }
    for layer in 0..layers {
        for (name, shape) in [
            ("attn_norm.weight", vec![hidden]),
            ("attn_q.weight", vec![hidden, hidden]),
            ("attn_v.weight", vec![hidden / 4, hidden]),
            ("attn_v.bias", vec![hidden / 4]),
            ("attn_output.weight", vec![hidden, hidden]),
            ("ffn_gate.weight", vec![ffn, hidden]),
            ("ffn_up.weight", vec![ffn, hidden]),
            ("ffn_down.weight", vec![hidden, ffn]),
        ] {
            list.push(fact(format!("blk.{layer}.{name}"), &shape));
        }
    }
    list
}

fn request(overrides: &[&str], keep: &[&str]) -> PlanRequest {
    PlanRequest {
        overrides: overrides.iter().map(|o| o.parse().unwrap()).collect(),
        keep: keep.iter().map(|k| k.parse().unwrap()).collect(),
        ..PlanRequest::new(Mix::Q4_K_M, Method::Awq)
    }
}

fn plan(overrides: &[&str], keep: &[&str]) -> Result<Plan, PlanError> {
    Plan::new(&model(4), &tensors(4, 64, 256, 512, true), &request(overrides, keep))
}

#[test]
fn the_first_override_that_matches_decides() {
    let plan = plan(&[r"blk\.1\.attn_v=q8_0", "ATTN_V=Q5_K"], &[]).unwrap();
    let ty = |name| plan.tensor(name).unwrap().ty;
    assert_eq!(ty("blk.1.attn_v.weight"), TensorType::Q8_0);
    assert_eq!(ty("blk.2.attn_v.weight"), TensorType::Q5_K);
    assert_eq!(ty("blk.1.attn_v.bias"), TensorType::F32, "vectors are not touched");
    let reason = plan.tensor("blk.1.attn_v.weight").unwrap().reason.to_string();
    assert_eq!(reason, r"--tensor-type `blk\.1\.attn_v`, not q4_k");
}

#[test]
fn overrides_change_only_what_they_name() {
    let plain = plan(&[], &[]).unwrap();
    let changed = plan(&[r"blk\.0\.attn_v=q8_0"], &[]).unwrap();
    for (before, after) in plain.tensors.iter().zip(&changed.tensors) {
        assert_eq!(before == after, before.name != "blk.0.attn_v.weight", "{}", before.name);
    }
}

#[test]
fn kept_tensors_stay_as_the_source_has_them_whatever_overrides_say() {
    let plan = plan(&["attn_v=q8_0"], &[r"blk\.0\."]).unwrap();
    for t in &plan.tensors {
        let kept = t.name.starts_with("blk.0.") && t.shape.len() == 2;
        assert_eq!(matches!(t.reason, Reason::Kept { .. }), kept, "{}", t.name);
        assert_eq!(t.ty == TensorType::BF16, kept, "{}", t.name);
    }
}

#[test]
fn patterns_without_effect_are_errors() {
    match plan(&["attn_w=q8_0"], &[]).unwrap_err() {
        PlanError::NoMatch { option: PatternOption::TensorType, pattern } => assert_eq!(pattern, "attn_w"),
        other => panic!("{other}"),
    }
    match plan(&[], &[r"blk\.9\."]).unwrap_err() {
        PlanError::NoMatch { option: PatternOption::Keep, pattern } => assert_eq!(pattern, r"blk\.9\."),
        other => panic!("{other}"),
    }
    assert!(matches!(plan(&[r"attn_v\.bias=q8_0"], &[]), Err(PlanError::NoMatch { .. })), "only vectors");
    match plan(&["attn=q8_0", "attn_v=q6_k"], &[]).unwrap_err() {
        PlanError::Shadowed { pattern, by, .. } => assert_eq!((&*pattern, &*by), ("attn_v", "attn")),
        other => panic!("{other}"),
    }
    assert!(matches!(
        plan(&["attn_v=q6_k"], &["attn"]),
        Err(PlanError::Shadowed { option: PatternOption::Keep, .. })
    ));
}

#[test]
fn malformed_patterns_are_errors() {
    use slmc_quant::plan::{Pattern, TypeOverride};
    assert!(matches!("attn_v".parse::<TypeOverride>(), Err(PlanError::OverrideSyntax { .. })));
    assert!(matches!("attn_v=".parse::<TypeOverride>(), Err(PlanError::OverrideSyntax { .. })));
    assert!(matches!("=q6_k".parse::<TypeOverride>(), Err(PlanError::OverrideSyntax { .. })));
    assert!(matches!("attn_v=q9".parse::<TypeOverride>(), Err(PlanError::UnknownType(_))));
    assert!(matches!("(=q6_k".parse::<TypeOverride>(), Err(PlanError::Pattern { .. })));
    assert!(matches!("[".parse::<Pattern>(), Err(PlanError::Pattern { .. })));
    assert_eq!("a=b=q6_k".parse::<TypeOverride>().unwrap().pattern.as_str(), "a=b");
}

#[test]
fn impossible_models_are_errors() {
    let make = |shape: &[usize]| TensorFacts {
        name: "a.weight".into(),
        shape: shape.to_vec(),
        source: TensorType::F16,
    };
    let plan = |list: &[TensorFacts]| Plan::new(&model(1), list, &PlanRequest::new(Mix::Q8_0, Method::Rtn));
    assert!(matches!(plan(&[make(&[4, 32]), make(&[4, 32])]), Err(PlanError::Duplicate { .. })));
    for shape in [&[][..], &[0], &[3, 0], &[0, 3], &[usize::MAX, 32], &[1 << 62, 32]] {
        assert!(matches!(plan(&[make(shape)]), Err(PlanError::Shape { .. })), "{shape:?}");
    }
}

#[test]
fn a_serialized_plan_reads_back_equal() {
    let plan = plan(&["attn_v=q8_0"], &["ffn_down"]).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""type":"q8_0""#));
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes add up, every type's blocks divide the rows, what needed another type says so, and vectors are F32.
    #[test]
    fn plans_are_consistent(
        layers in 1usize..40,
        vocab in 1usize..400,
        hidden in 4usize..1200,
        ffn in 1usize..2000,
        tied: bool,
        mix in prop::sample::select(Mix::ALL.to_vec()),
        wide: bool,
        keep: bool,
    ) {
        let (hidden, ffn) = if wide { (hidden.next_multiple_of(256), ffn.next_multiple_of(256)) } else { (hidden, ffn) };
        let list = tensors(layers, vocab, hidden, ffn, tied);
        let mut request = PlanRequest::new(mix, Method::Rtn);
        if keep && hidden > 7 {
            request.keep.push("attn_v".parse().unwrap());
        }
        let plan = Plan::new(&model(layers), &list, &request).unwrap();
        prop_assert_eq!(plan.tensors.len(), list.len());
        let mut bytes = 0;
        for (tensor, facts) in plan.tensors.iter().zip(&list) {
            prop_assert_eq!(&tensor.name, &facts.name);
            prop_assert_eq!(tensor.columns() % tensor.ty.block_len(), 0);
            let stored = tensor.weights() as f64 * tensor.ty.bits_per_weight() / 8.0;
            prop_assert_eq!(tensor.bytes as f64, stored);
            if facts.rank() < 2 {
                prop_assert_eq!(tensor.ty, TensorType::F32);
            }
            match tensor.fallback {
                Some(f) => {
                    prop_assert_eq!(f.got, tensor.ty);
                    prop_assert!(tensor.columns() % f.wanted.block_len() != 0);
                }
                None => {
                    let untouched = facts.rank() < 2 || matches!(tensor.reason, Reason::Kept { .. });
                    prop_assert!(untouched || mix.base_type().is_quantized() == tensor.ty.is_quantized());
                }
            }
            prop_assert!(!wide || tensor.fallback.is_none());
            bytes += tensor.bytes;
        }
        prop_assert_eq!(plan.total_bytes, bytes);
        let weights: usize = list.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        prop_assert_eq!(plan.total_weights, weights as u64);
        prop_assert!((plan.bits_per_weight - 8.0 * bytes as f64 / weights as f64).abs() < 1e-12);
    }
}
