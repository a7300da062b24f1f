//! Mixes against llama-quantize's own choices, recorded by `golden/llama_quantize_types.py`.

use std::collections::BTreeMap;

use serde::Deserialize;
use slmc_gguf::TensorType;
use slmc_quant::mix::{Fallback, ModelFacts, TensorFacts};
use slmc_quant::plan::Reason;
use slmc_quant::{Method, Mix, Plan, PlanRequest};

#[derive(Deserialize)]
struct Shape {
    #[serde(flatten)]
    model: ModelFacts,
    tensors: Vec<(String, Vec<usize>)>,
    types: BTreeMap<String, String>,
}

impl Shape {
    fn facts(&self) -> Vec<TensorFacts> {
        let fact = |(name, shape): &(String, Vec<usize>)| {
            let source = if shape.len() == 1 { TensorType::F32 } else { TensorType::F16 };
            TensorFacts { name: name.clone(), shape: shape.clone(), source }
        };
        self.tensors.iter().map(fact).collect()
    }
}

fn shapes() -> BTreeMap<String, Shape> {
    serde_json::from_str(include_str!("golden/llama_quantize_types.json")).expect("the golden file parses")
}

#[test]
fn every_choice_is_llama_quantizes() {
    let shapes = shapes();
    assert!(shapes.len() >= 13);
    for (title, shape) in &shapes {
        assert_eq!(shape.types.len(), Mix::ALL.len(), "{title}: a mix is missing");
        let tensors = shape.facts();
        for (mix, types) in &shape.types {
            let mix: Mix = mix.parse().unwrap();
            let choices = mix.choose(&tensors, &shape.model);
            let recorded: Vec<&str> = types.split(' ').collect();
            assert_eq!(recorded.len(), choices.len());
            for ((tensor, choice), recorded) in tensors.iter().zip(choices).zip(recorded) {
                // of the types for columns that no super-block divides, one of the same size is better than theirs
                let same_size = matches!(
                    choice.fallback,
                    Some(Fallback {
                        wanted: TensorType::Q2_K | TensorType::Q3_K,
                        got: TensorType::IQ4_NL,
                        ..
                    })
                );
                let expected = if same_size { "q4_0" } else { choice.ty.name() };
                assert_eq!(expected, recorded, "{title}, {mix}, {}", tensor.name);
            }
        }
    }
}

/// The order in which tensors are listed does not matter, since layers are counted by number.
#[test]
fn the_order_of_tensors_does_not_matter() {
    for shape in shapes().values() {
        let tensors = shape.facts();
        let reversed: Vec<_> = tensors.iter().rev().cloned().collect();
        for mix in Mix::ALL {
            let mut backwards = mix.choose(&reversed, &shape.model);
            backwards.reverse();
            assert_eq!(mix.choose(&tensors, &shape.model), backwards);
        }
    }
}

/// Hidden 896: no 256-wide block fits; the plan says so and what it costs.
#[test]
fn fallbacks_are_in_the_plan_with_their_cost() {
    let shapes = shapes();
    let qwen = &shapes["qwen2.5-0.5b, 3 layers, untied"];
    let plan = Plan::new(&qwen.model, &qwen.facts(), &PlanRequest::new(Mix::Q4_K_M, Method::Rtn)).unwrap();
    let query = plan.tensor("blk.0.attn_q.weight").unwrap();
    assert_eq!(query.ty, TensorType::Q5_0);
    assert_eq!(
        query.explanation(),
        "q4_k_m: base type; 896 columns are no multiple of q4_k's 256: q5_0 instead, +1.00 bits a weight"
    );
    let down = plan.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((down.ty, down.fallback), (TensorType::Q4_K, None), "4864 = 19 · 256");
    assert_eq!(plan.tensor("blk.0.attn_q.bias").unwrap().reason, Reason::OneDimensional);
    let by_hand: f64 = plan
        .tensors
        .iter()
        .filter_map(|t| {
            t.fallback.map(|f| (f.got.bits_per_weight() - f.wanted.bits_per_weight()) * t.weights() as f64)
        })
        .sum::<f64>()
        / plan.total_weights as f64;
    assert!(by_hand > 0.1);
    assert!((plan.fallback_bits_per_weight() - by_hand).abs() < 1e-12);

    let llama = &shapes["llama-3.2-1b, 4 layers, tied"];
    let plan = Plan::new(&llama.model, &llama.facts(), &PlanRequest::new(Mix::Q4_K_M, Method::Rtn)).unwrap();
    assert_eq!(plan.fallback_bits_per_weight(), 0.0);
}
