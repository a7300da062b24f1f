use serde_json::Value;

use super::*;
use crate::accumulate::Accumulator;

/// Logits and the figures that PyTorch finds for them; see `tests/golden/make_drift.py`.
fn golden() -> Value {
    serde_json::from_str(include_str!("../tests/golden/drift.json")).unwrap()
}

/// The file's logits are integers, multiples of 2^-8.
fn logits(golden: &Value, name: &str) -> Vec<f32> {
    let integers = golden[name].as_array().unwrap();
    integers.iter().map(|x| x.as_i64().unwrap() as f32 / 256.0).collect()
}

fn summary(golden: &Value, base: &str, model: &str) -> Summary {
    let targets = golden["targets"].as_array().unwrap();
    let targets = targets.iter().map(|x| x.as_u64().unwrap() as u32).collect();
    let mut accumulator = Accumulator::pair(targets);
    let width = golden["vocabulary"].as_u64().unwrap() as usize;
    accumulator.add(width, Some(&logits(golden, base)), &logits(golden, model)).unwrap();
    Summary::of(&accumulator.finish())
}

/// Every figure of `expected` stands in `found` under the same name, to 1e-9, and nothing else does.
fn assert_same(found: &Value, expected: &Value, path: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let names = |object: &serde_json::Map<String, Value>| {
                let mut names: Vec<String> = object.keys().cloned().collect();
                names.sort();
                names
            };
            assert_eq!(names(found), names(expected), "fields of {path}");
            for (name, expected) in expected {
                assert_same(&found[name], expected, &format!("{path}.{name}"));
            }
        }
        _ => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!(
                (found - expected).abs() <= 1e-9 * (1e-3 + expected.abs()),
                "{path}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn figures_are_those_of_pytorch() {
    let golden = golden();
    let found = serde_json::to_value(summary(&golden, "base", "model")).unwrap();
    assert_same(&found, &golden["summary"], "summary");
}

#[test]
fn a_model_does_not_drift_from_itself() {
    let golden = golden();
    let summary = summary(&golden, "base", "base");
    let drift = summary.drift.unwrap();
    assert_eq!(drift.base_perplexity, summary.perplexity);
    assert_eq!(drift.ln_perplexity_ratio, Estimate { mean: 0.0, stderr: 0.0 });
    assert_eq!(drift.perplexity_difference, Estimate { mean: 0.0, stderr: 0.0 });
    assert_eq!((drift.kl_divergence.mean, drift.kl_divergence.max), (0.0, 0.0));
    assert_eq!((drift.delta_p.rms, drift.delta_p.rms_stderr), (0.0, 0.0));
    assert_eq!((drift.top1_agreement, drift.top1_agreement_stderr), (1.0, 0.0));
    assert!((drift.nll_correlation.unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn without_a_base_model_only_its_own_figures_are_written() {
    let scores = Scores { nll: vec![0.0, 2.0], drift: None };
    let json = serde_json::to_value(Summary::of(&scores)).unwrap();
    let names: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(names, ["tokens", "perplexity", "perplexity_stderr", "nll"]);
    assert_eq!(json["perplexity"], 1_f64.exp());
    assert_eq!(json["perplexity_stderr"], 1_f64.exp());
}
