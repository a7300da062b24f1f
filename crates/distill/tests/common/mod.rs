//! The models of the golden runs, and gradients beside PyTorch's.

#![allow(dead_code)] // not every test needs all of it

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use slmc_distill::{
    Batch, HeadLoss, Objective, Parameter, Predictor, Sequence, Student, Teaching, WeightGradients,
};
use slmc_model::{BurnDevice, CheckpointSource, MemorySource, TensorId, WeightSource};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn sequences(golden: &Value) -> Vec<Sequence> {
    let tokens: Vec<Vec<u32>> = serde_json::from_value(golden["sequences"].clone()).unwrap();
    tokens.into_iter().map(Sequence::from).collect()
}

/// The bundled model, and its first and last block as a student.
pub fn models() -> (CheckpointSource, MemorySource) {
    let teacher = CheckpointSource::open(&root().join("models/tiny")).unwrap();
    let mut config = teacher.config().clone();
    config.num_hidden_layers = 2;
    config.sliding_window.truncate(2);
    let from = |id: TensorId| TensorId { layer: id.layer.map(|layer| [0, 3][layer]), ..id };
    let student = MemorySource::new(config, |id| Ok(teacher.load(from(id))?.values)).unwrap();
    (teacher, student)
}

/// The same student, of which nothing is trained yet.
pub fn base() -> Arc<dyn WeightSource> {
    Arc::new(models().1)
}

/// The default objective's loss of a batch, and its gradients.
pub fn step(student: &MemorySource, batch: &Batch, checkpointing: bool) -> (f64, WeightGradients) {
    let device = BurnDevice::flex();
    let (teacher, _) = models();
    let predictor = Predictor::load(&teacher, batch.seq_len, &device).unwrap();
    let states = predictor.predict(batch).unwrap();
    let objective = Objective::default();
    let vocab = teacher.config().vocab_size;
    let loss = HeadLoss { objective: &objective, vocab, weight: 1.0 / batch.predictions() as f32 };
    let mut gradients = WeightGradients::default();
    let runner = Student::new(student, batch.seq_len, &device, checkpointing).unwrap();
    let teacher = Some(Teaching::Live(predictor.with_head(&states)));
    let sums = runner.accumulate(student, batch, teacher, &loss, &mut gradients).unwrap();
    (sums.loss(&objective), gradients)
}

/// Holds a parameter's gradient to what PyTorch found: its norm, and 16 of its values.
pub fn compare_gradient(name: &str, gradient: &[f32], expected: &Value) {
    let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    let expected_norm = expected["norm"].as_f64().unwrap();
    assert!((norm / expected_norm - 1.0).abs() < 1e-4, "{name}: {norm} {expected_norm}");
    // Relative to the tensor's largest sampled value or its root mean square.
    let values: Vec<f64> = serde_json::from_value(expected["values"].clone()).unwrap();
    let scale = values.iter().fold(norm / (gradient.len() as f64).sqrt(), |a, b| a.max(b.abs()));
    for (i, value) in values.iter().enumerate() {
        let found = f64::from(gradient[i * (gradient.len() - 1) / 15]);
        assert!((found - value).abs() < 1e-4 * scale, "{name}, value {i}: {found} {value}");
    }
}

/// Holds everything that is trained to the loss and the gradients that PyTorch found.
pub fn compare(student: &MemorySource, batch: &Batch, golden: (f64, &Value)) {
    let (loss, gradients) = step(student, batch, false);
    let (expected_loss, expected) = (golden.0, golden.1.as_object().unwrap());
    assert!((loss - expected_loss).abs() < 1e-4, "{loss} {expected_loss}");
    let all = Parameter::all(student).unwrap();
    assert_eq!(all.len(), expected.len());
    for part in all {
        compare_gradient(&part.name, gradients.get(part.parameter).unwrap(), &expected[&part.name]);
    }
}
