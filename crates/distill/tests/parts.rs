//! Students of which a part is trained: adapters beside PEFT's (see `golden/make_lora.py`), norms beside full training, and the same
//! gradients with blocks run again.

mod common;

use std::sync::Arc;

use common::{base, compare, golden, models, root, sequences, step};
use slmc_checkpoint::Config;
use slmc_distill::{Batch, Lora, Parameter, Predictor, Trained};
use slmc_model::{BurnDevice, MemorySource, ModelConfig, Role, TensorId, WeightSource};

fn lora(targets: &str) -> Trained {
    Trained::Lora(Lora { rank: 4, alpha: 6.0, targets: Lora::targets_named(targets).unwrap() })
}

fn batch() -> Batch {
    Batch::new(&sequences(&golden("training"))[..2])
}

/// The i-th value of every adapter's matrix in the golden run.
fn value(i: usize) -> f32 {
    ((((i as u64 * 2_654_435_761) % (1 << 32)) as f64 / (1u64 << 32) as f64 - 0.5) * 0.2) as f32
}

fn fill(student: &mut MemorySource) {
    for (_, values) in Parameter::all_mut(student) {
        values.iter_mut().enumerate().for_each(|(i, to)| *to = value(i));
    }
}

#[test]
fn adapters_have_the_gradients_of_pefts() {
    let golden = golden("lora");
    let mut student = lora("all").begin(base(), 0).unwrap();
    fill(&mut student);
    compare(&student, &batch(), (golden["loss"].as_f64().unwrap(), &golden["gradients"]));
    // and its names and shapes
    let shapes: serde_json::Map<_, _> = Parameter::all(&student)
        .unwrap()
        .into_iter()
        .map(|part| (part.name, serde_json::json!(part.shape)))
        .collect();
    assert_eq!(serde_json::Value::Object(shapes), golden["shapes"]);
}

/// The same student as a Phi-3 model, with matrices of several layers.
fn fused() -> Arc<dyn WeightSource> {
    let text = std::fs::read_to_string(root().join("models/tiny/config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["model_type"] = "phi3".into();
    json["architectures"] = serde_json::json!(["Phi3ForCausalLM"]);
    json["num_hidden_layers"] = 2.into();
    let config = ModelConfig::from_checkpoint(&Config::from_json(&json).unwrap()).unwrap();
    let (_, plain) = models();
    let load = |id: TensorId| match id.role {
        Role::QueryKeyValue | Role::GateUp => {
            let parts = id.role.parts().iter();
            let parts = parts.map(|&role| plain.load(TensorId { role, ..id }).map(|weight| weight.values));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
        }
        _ => Ok(plain.load(id)?.values),
    };
    Arc::new(MemorySource::new(config, load).unwrap())
}

/// PEFT has one adapter beside a matrix of several layers.
#[test]
fn adapters_beside_fused_matrices_have_the_gradients_of_pefts() {
    let golden = golden("lora_fused");
    let mut student = lora("all").begin(fused(), 0).unwrap();
    let (expected, _) = step(&models().1, &batch(), false);
    let (found, _) = step(&student, &batch(), false);
    assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    fill(&mut student);
    compare(&student, &batch(), (golden["loss"].as_f64().unwrap(), &golden["gradients"]));
    let parts = Parameter::all(&student).unwrap();
    let shapes: serde_json::Map<_, _> =
        parts.into_iter().map(|part| (part.name, serde_json::json!(part.shape))).collect();
    assert_eq!(serde_json::Value::Object(shapes), golden["shapes"]);
    let Trained::Lora(all) = lora("all") else { unreachable!() };
    let targets = all.targets_of(student.config()).unwrap();
    let mut names: Vec<&str> = targets.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(serde_json::json!(names), golden["config"]["target_modules"]);
}

#[test]
fn a_target_that_a_model_has_not_is_refused() {
    let refused = |targets: &str, student: Arc<dyn WeightSource>| {
        let (Trained::Lora(lora), config) = (lora(targets), student.config().clone()) else { unreachable!() };
        assert!(lora.targets_of(&config).is_err() && Trained::Lora(lora.clone()).begin(student, 0).is_err());
        lora.targets_of(&config).unwrap_err().to_string()
    };
    assert_eq!(refused("q,o", fused()), "phi3 models have no q_proj; name qkv_proj instead");
    assert_eq!(
        refused("gate_up", base()),
        "llama models have no gate_up_proj; name gate_proj, up_proj instead"
    );
}

#[test]
fn adapters_begin_as_nothing_and_differ_by_seed() {
    let (_, whole) = models();
    let student = lora("q,down").begin(base(), 3).unwrap();
    assert_eq!((student.tensors().count(), student.adapters().count()), (0, 4));
    for (id, adapter) in student.adapters() {
        assert_eq!(student.merged(id).unwrap(), whole.load(id).unwrap().values, "{id}");
        let bound = 1.0 / (adapter.a.len() as f32 / 4.0).sqrt();
        let largest = adapter.a.iter().fold(0.0f32, |largest, a| largest.max(a.abs()));
        assert!(largest <= bound && largest > 0.97 * bound, "{id}: {largest} {bound}");
    }
    let first = |seed| lora("q").begin(base(), seed).unwrap().adapters().next().unwrap().1.a.clone();
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
    let (expected, _) = step(&whole, &batch(), false);
    let (found, _) = step(&student, &batch(), false);
    assert!((found - expected).abs() < 1e-6 * expected, "{found} {expected}");
}

#[test]
fn merged_adapters_predict_alike() {
    merged_predicts_alike(base());
    merged_predicts_alike(fused());
}

fn merged_predicts_alike(base: Arc<dyn WeightSource>) {
    let student = lora("all").begin(Arc::clone(&base), 0).unwrap();
    let (mut student, device, batch) = (student, BurnDevice::flex(), batch());
    fill(&mut student);
    let merged = MemorySource::new(student.config().clone(), |id| student.merged(id)).unwrap();
    let states = |source: &dyn WeightSource| {
        let predictor = Predictor::open(source, batch.seq_len, &device).unwrap();
        predictor.with_head(&predictor.predict(&batch).unwrap()).hidden.to_vec()
    };
    let (beside, within, without) = (states(&student), states(&merged), states(base.as_ref()));
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart(&beside, &within) < 1e-4 && apart(&beside, &without) > 0.1);
    // the gradient of a merged weight leads to those of the adapter: dB = scale · dW Aᵀ
    let ((_, beside), (_, within)) = (step(&student, &batch, false), step(&merged, &batch, false));
    let id = TensorId::block(1, Role::Output);
    let (adapter, whole) = (student.adapter(id).unwrap(), within.get(id).unwrap());
    let [d_out, d_in] = [student.config().hidden_size, student.config().query_size()];
    for (row, found) in beside.get(Parameter::LoraB(id)).unwrap().chunks(4).enumerate().step_by(d_out / 7) {
        for (k, found) in found.iter().enumerate() {
            let products = whole[row * d_in..][..d_in].iter().zip(&adapter.a[k * d_in..][..d_in]);
            let expected = adapter.scale * products.map(|(w, a)| w * a).sum::<f32>();
            assert!((found - expected).abs() < 1e-5, "{row} {k}: {found} {expected}");
        }
    }
}

#[test]
fn norms_alone_have_the_gradients_that_they_have_among_all() {
    let (student, batch) = (Trained::Norms.begin(base(), 0).unwrap(), batch());
    let ((loss, all), (found, norms)) = (step(&models().1, &batch, false), step(&student, &batch, false));
    assert!((loss - found).abs() < 1e-6 * loss);
    let parts = Parameter::all(&student).unwrap();
    assert_eq!(parts.len(), 5, "two norms a block, and the last");
    for part in parts {
        let (expected, found) = (all.get(part.parameter).unwrap(), norms.get(part.parameter).unwrap());
        let size = expected.iter().fold(0.0f32, |most, g| most.max(g.abs()));
        assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-4 * size), "{}", part.name);
    }
    assert!(norms.get(TensorId::global(Role::TokenEmbedding)).is_none());
}

#[test]
fn blocks_run_again_give_the_same_bits() {
    let batch = batch();
    let mut adapted = lora("all").begin(base(), 0).unwrap();
    fill(&mut adapted);
    let norms = Trained::Norms.begin(base(), 0).unwrap();
    let mut adapted_fused = lora("all").begin(fused(), 0).unwrap();
    fill(&mut adapted_fused);
    for student in [models().1, adapted, adapted_fused, norms] {
        let ((loss, kept), (again, anew)) = (step(&student, &batch, false), step(&student, &batch, true));
        assert_eq!(loss, again);
        for part in Parameter::all(&student).unwrap() {
            assert!(kept.get(part.parameter).unwrap() == anew.get(part.parameter).unwrap(), "{}", part.name);
        }
    }
}
